"""The models to compare: which folders are taken, in which order, and when weights are read."""

from functools import partial
from pathlib import Path

import pytest
import torch
from tiny import write_model

from minitox.errors import InputError
from minitox.run import candidates

CPU = torch.device("cpu")
BASE = Path("base-model")


@pytest.fixture
def out(tmp_path) -> Path:
    """Tuned models, finished and unfinished."""
    for name in ("aura", "random-1", "full", "shared.partial", "multilingual"):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "config.json").touch()
    (tmp_path / "models" / "empty").mkdir()
    return tmp_path


def test_all_finished_models_are_compared_in_the_order_of_the_paper(out):
    folders = candidates.find(None, BASE, out)
    assert list(folders) == ["base", "full", "multilingual", "random-1", "aura"]
    assert folders["base"] == BASE
    assert folders["full"] == out / "models" / "full"


def test_later_orders_of_the_languages_follow_the_first(out):
    of_draws = [f"random-per-language{order}-1" for order in ("", "-order-2", "-order-10")]
    add(out, *of_draws[::-1], "per-language-order-3", "per-language", "per-language-order-2")
    assert list(candidates.find(None, BASE, out)) == [
        *("base", "full", "per-language", "per-language-order-2", "per-language-order-3"),
        *("multilingual", "random-1", "aura", *of_draws),
    ]
    assert list(candidates.find(["random-per-language"], BASE, out)) == of_draws[:1]


def test_models_can_be_chosen_by_name_and_by_folder(out):
    folders = candidates.find(["random-1", "other=/some/where", "base"], BASE, out)
    assert list(folders) == ["random-1", "other", "base"]
    assert folders["other"] == Path("/some/where")


def add(out, *names):
    for name in names:
        folder = out / "models" / name
        folder.mkdir()
        (folder / "config.json").touch()


def test_draws_and_rates_are_in_their_order_and_all_draws_can_be_chosen_together(out):
    draws = ["random-2", "random-10", "random-1@0.004", "random-per-language-1"]
    add(out, *draws, "multilingual@0.004")
    assert list(candidates.find(None, BASE, out)) == [
        *("base", "full", "multilingual", "multilingual@0.004"),
        *("random-1", "random-1@0.004", "random-2", "random-10"),
        *("aura", "random-per-language-1"),
    ]
    add(out, "taylor-random-1", "taylor-random-2")
    assert list(candidates.find(["taylor-random"], BASE, out)) == [
        "taylor-random-1",
        "taylor-random-2",
    ]
    chosen = candidates.find(["random", "full"], BASE, out)
    assert list(chosen) == ["random-1", "random-2", "random-10", "full"]


def test_a_model_of_an_earlier_version_does_not_pass_for_several_draws(out):
    add(out, "random")
    with pytest.raises(InputError, match="models/random: random is the name of several draws"):
        candidates.find(None, BASE, out)
    assert list(candidates.find(["full"], BASE, out)) == ["full"]


@pytest.mark.parametrize(
    "item, message",
    [
        ("specific", "run train.py first, or give specific=DIR"),
        ("shared.partial", "run train.py first"),
        ("a/b=x", "'a/b' cannot name a folder"),
        ("=x", "'' cannot name a folder"),
        (".hidden=x", "cannot name a folder"),
        ("random-aura", "run train.py first, or give random-aura=DIR"),
        ("random=x", "x: random is the name of several draws together; name it random-1"),
    ],
)
def test_a_model_that_cannot_be_taken_is_named(out, item, message):
    with pytest.raises(InputError, match=message):
        candidates.find([item], BASE, out)


def test_no_tuned_model_takes_the_place_of_the_base(out):
    folder = out / "models" / "base"
    folder.mkdir()
    (folder / "config.json").touch()
    with pytest.raises(InputError, match="models/base has the name of the base model; rename"):
        candidates.find(None, BASE, out)
    assert candidates.find(["base"], folder, out) == {"base": folder}


def test_a_folder_that_cannot_be_used_is_named_and_the_others_are_opened(tmp_path):
    write_model(tmp_path / "model")
    folders = {"broken": tmp_path / "nowhere", "base": tmp_path / "model"}
    usable, failed = candidates.open_all(
        folders, partial(candidates.open_one, device=CPU, dtype=torch.float32)
    )
    assert [candidate.name for candidate in usable] == ["base"]
    assert failed.keys() == {"broken"}
    assert "config.json: no such file" in failed["broken"]


def test_weights_are_read_once_and_released_at_the_end_even_after_an_error(tmp_path):
    write_model(tmp_path)
    candidate = candidates.open_one("base", tmp_path, CPU, torch.float32)
    assert candidate.weights is None
    with pytest.raises(InputError):
        with candidate.loaded():
            model = candidate.model
            assert candidate.model is model
            raise InputError("the disk is full")
    assert candidate.weights is None
