"""Strategies: which neurons, on whose pairs, and how much that is."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import state_bytes, write_neurons

from minitox import neurons
from minitox.errors import InputError
from minitox.lm import checkpoint
from minitox.lm.config import read_config
from minitox.train import finetune, strategies
from minitox.train.pairs import Pair, Pairs

LANGUAGES = ["de", "en", "fr"]


def arguments(*names, **changes):
    return SimpleNamespace(
        **{
            "strategy": names,
            "threshold": 0.5,
            "top_share": None,
            "language": None,
            "damp": 0.5,
            "independent": False,
            "seed": 0,
            "epochs": 1,
            "batch_size": 4,
            "optimizer": "rows",
            "weight_decay": 0.0,
        }
        | changes
    )


@pytest.fixture
def aurocs(folder, tmp_path):
    return {
        language: write_neurons(tmp_path / f"{language}.safetensors", folder, seed)
        for seed, language in enumerate(LANGUAGES)
    }


def plans(aurocs, args):
    masks = {language: strategies.select(args, auroc) for language, auroc in aurocs.items()}
    return strategies.plans(args, aurocs, masks, list(aurocs)), masks


def chosen(mask) -> np.ndarray:
    return np.concatenate(list(mask.values()))


def test_the_paper_s_three_strategies(aurocs):
    (full, one_by_one, together), masks = plans(
        aurocs, arguments("full", "per-language", "multilingual")
    )
    assert [(stage.name, stage.mask, stage.languages) for stage in full.stages] == [
        ("all", None, LANGUAGES)
    ]
    assert [(stage.name, stage.languages) for stage in one_by_one.stages] == [
        (language, [language]) for language in LANGUAGES
    ]
    assert all(
        (chosen(stage.mask) == chosen(masks[stage.name])).all() for stage in one_by_one.stages
    )
    (stage,) = together.stages
    assert (
        stage.languages == LANGUAGES
        and (chosen(stage.mask) == np.any([chosen(mask) for mask in masks.values()], axis=0)).all()
    )


def test_the_controls(aurocs):
    (random, together, shared, specific), masks = plans(
        aurocs, arguments("random", "multilingual", "shared", "specific")
    )
    for name, rows in random.stages[0].mask.items():
        assert rows.sum() == together.stages[0].mask[name].sum()  # as many in every module,
    assert (chosen(random.stages[0].mask) != chosen(together.stages[0].mask)).any()  # and others
    languages = np.sum([chosen(mask) for mask in masks.values()], axis=0)
    assert (chosen(shared.stages[0].mask) == (languages == 3)).all() and shared.stages[
        0
    ].languages == LANGUAGES
    for stage in specific.stages:
        assert (
            chosen(stage.mask) == (chosen(masks[stage.name]) & (languages == 1))
        ).all() and stage.languages == [stage.name]


def test_one_model_for_each_language(aurocs):
    found, _ = plans(aurocs, arguments("per-language", independent=True))
    assert [plan.name for plan in found] == [
        "per-language-de",
        "per-language-en",
        "per-language-fr",
    ]
    assert [[stage.name for stage in plan.stages] for plan in found] == [["de"], ["en"], ["fr"]]


def test_interventions_scale_by_one_language_or_by_the_mean(aurocs):
    (mean,), _ = plans(aurocs, arguments("aura"))
    (german,), masks = plans(aurocs, arguments("aura", language="de"))
    assert (chosen(german.masks[0]) == chosen(masks["de"])).all()
    expected = np.mean([chosen(auroc) for auroc in aurocs.values()], axis=0) > 0.5
    assert (chosen(mean.masks[0]) == expected).all()


def test_a_top_share_instead_of_a_threshold(aurocs):
    (plan,), _ = plans(aurocs, arguments("per-language", top_share=0.25))
    assert [neurons.count(stage.mask) for stage in plan.stages] == [64, 64, 64]  # of 256


@pytest.mark.parametrize(
    "name", ["per-language", "multilingual", "random", "shared", "specific", "aura", "det0"]
)
def test_an_empty_selection_is_an_error(aurocs, name):
    with pytest.raises(InputError, match=f"--strategy {name}: no neuron is chosen"):
        plans(aurocs, arguments(name, threshold=1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("optimizer", ["rows", "masked"])
@pytest.mark.parametrize("name", ["full", "multilingual"])
def test_the_memory_that_is_announced_is_the_memory_that_is_taken(
    folder, aurocs, dtype, optimizer, name
):
    args = arguments(name, optimizer=optimizer, top_share=0.2)
    (plan,), _ = plans(aurocs, args)
    stage, model = plan.stages[0], checkpoint.load(folder, dtype=dtype)
    pairs = {language: Pairs([Pair([0, 5, 1], 1, "")] * 9, [], 0, 0, "") for language in LANGUAGES}
    about = strategies.describe(stage, model.config, dtype, pairs, args)
    rows = strategies.weight_rows(model, stage.mask)
    assert about["optimizer_bytes"] == state_bytes(
        finetune.make_optimizer(model, stage, rows, args)
    )
    assert about["pairs"] == 27 and about["steps"] == 7
    weights = sum(
        int(mask.sum()) * dict(model.named_parameters())[name][0].numel()
        for name, mask in rows.items()
    )
    assert strategies.count_weights(read_config(folder), stage.mask) == weights
    if optimizer == "rows":
        assert about["optimizer_bytes"] == weights * (8 if dtype == torch.float32 else 12)
