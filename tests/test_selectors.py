"""Neurons chosen by another selector than AUROC, from detect.py to train.py, as a user does it."""

import json
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from home import Home
from test_detect import write_detection
from tiny import error_of, write_jsonl, write_model, write_neurons, write_pairs

from minitox import neurons
from minitox.data import read_pairs, with_rejected
from minitox.detect import dinm, taylor
from minitox.errors import InputError
from minitox.lm import checkpoint
from minitox.lm.config import read_config
from minitox.lm.text import Tokenizer
from minitox.run import neuron_files
from minitox.train.loss import add_gradients, sft
from minitox.train.pairs import PairChoice, Pairs

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import detect  # noqa: E402
import train  # noqa: E402

TAYLOR = ("--select", "taylor")
BY_TAYLOR = ("--by", "taylor", "--top-share", "0.1")


def importance(home: Home, language: str) -> tuple[dict, dict]:
    """What the neuron file of taylor says."""
    rows = neurons.module_rows(read_config(home.model))
    return neuron_files.read_importance(home.neuron_file(language, "taylor"), rows, "taylor")


def pairs_of(home: Home, language: str, tokenizer, choice: PairChoice) -> Pairs:
    """The pairs of a language, split as detect.py does."""
    pairs, _ = read_pairs(home.data / "instructions", ["de", "en"], tokenizer, choice)
    return pairs[language]


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def error(home, capsys):
    """Run a script as a user would; the one line that says what is wrong."""

    def run(script, *more: str) -> str:
        text = error_of(script.main, home.arguments(*more), capsys)
        assert text.count("\n") == 1 and text.startswith("error: ")
        return text

    return run


# detect.py


def test_the_file_has_the_importance_on_the_pairs_that_train_py_trains_on(home):
    home.detect(*TAYLOR, "--batch-size", "4")
    model = checkpoint.load(home.model)
    weights = {}
    for name in neurons.module_rows(model.config):
        weights[name] = model.get_parameter(f"{name}.weight").requires_grad_(True)
    choice = PairChoice(pairs=1_000, max_tokens=64, validation_share=0.05, seed=0)
    tokenizer = Tokenizer(home.model, model.config)
    for language in ("de", "en"):
        pairs = pairs_of(home, language, tokenizer, choice)
        assert len(pairs.train) == 18  # one for validation, one for the test
        batches = [pairs.train[i : i + 4] for i in range(0, 18, 4)]
        objective = sft(reference=False)
        add = partial(add_gradients, model, objective=objective, micro_batch_tokens=1_024)
        expected = taylor.importance(weights, batches, add)
        values, about = importance(home, language)
        for name, of_module in values.items():
            assert np.array_equal(of_module, expected[name].numpy())
        assert (about["train_pairs"], about["batches"]) == (18, 5)
        assert about["model"] == checkpoint.fingerprint(home.model)


def test_pairs_that_are_kept_aside_have_no_influence(home, tmp_path):
    """A selector that saw validation or test pairs would have an unfair advantage."""
    home.detect(*TAYLOR)
    before, _ = importance(home, "de")
    config = read_config(home.model)
    choice = PairChoice(pairs=1_000, max_tokens=64, validation_share=0.05, seed=0)
    pairs = pairs_of(home, "de", Tokenizer(home.model, config), choice)
    lines = home.pair_file("de").read_text().splitlines()
    for pair in (*pairs.validation, *pairs.test):
        # another reply of the same length to the same prompt
        number = int(pair.where.rpartition(":")[2]) - 1
        lines[number] = lines[number].replace('"response": "', '"response": "you you ')
    home.pair_file("de").write_text("\n".join(lines) + "\n")
    home.out = tmp_path / "again"
    home.detect(*TAYLOR)
    after, _ = importance(home, "de")
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_the_readable_loss_gives_the_same_importance_up_to_rounding(home, tmp_path):
    home.detect(*TAYLOR)
    fast, _ = importance(home, "de")
    home.out = tmp_path / "reference"
    home.detect(*TAYLOR, "--reference")
    slow, _ = importance(home, "de")
    for name, values in fast.items():
        np.testing.assert_allclose(slow[name], values, rtol=1e-3, atol=1e-6)


def test_auroc_is_untouched_by_another_selector(home, tmp_path, capsys):
    for language in ("de", "en"):
        write_detection(home.data, language)
    home.detect()
    alone = home.out
    assert not (alone / "neurons-taylor").exists()
    assert "Taylor" not in capsys.readouterr().out
    home.out = tmp_path / "both"
    home.detect("--select", "auroc", "taylor")
    for name in ("de.safetensors", "en.safetensors", "run.json"):
        of_both = home.out / "neurons" / name
        assert of_both.read_bytes() == (alone / "neurons" / name).read_bytes()


def table(printed: str) -> dict[str, list[str]]:
    """The rows of the table of importance."""
    lines = printed.split("Importance to the loss (Taylor)")[1].splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines if line[:2] in ("de", "en")}


def test_the_table_has_the_overlap_with_auroc_where_it_is_known(home, capsys):
    auroc = write_neurons(home.neuron_file("de"), home.model)
    home.detect(*TAYLOR)
    rows = table(capsys.readouterr().out)
    values, _ = importance(home, "de")
    both = [neurons.select_top(of_all, 0.02) for of_all in (values, auroc)]
    shared, _ = neurons.overlap(*both)
    assert rows["de"] == ["18", "3", f"{shared / neurons.count(both[0]):.1%}"]
    assert rows["en"] == ["18", "3", "-"]


def test_auroc_of_another_model_is_not_compared_and_the_table_is_printed(home, tmp_path, capsys):
    write_model(tmp_path / "other", seed=9)
    write_neurons(home.neuron_file("de"), tmp_path / "other")
    home.detect(*TAYLOR)
    printed = capsys.readouterr().out
    reason = f"{home.neuron_file('de')} was made from another model"
    assert f"de: not compared with AUROC: {reason}" in printed
    assert table(printed)["de"] == ["18", "3", "-"]
    assert "wrote" in printed


def test_a_rerun_computes_nothing_and_prints_the_same_table(home, capsys, monkeypatch):
    home.detect(*TAYLOR)
    before = table(capsys.readouterr().out)
    monkeypatch.setattr(detect.checkpoint, "load", None)  # the weights are not read
    home.detect(*TAYLOR)
    assert table(capsys.readouterr().out) == before


def bytes_of(home) -> list[bytes]:
    """The content of the neuron files of taylor."""
    return [home.neuron_file(language, "taylor").read_bytes() for language in ("de", "en")]


def test_a_rerun_after_a_kill_makes_the_rest_with_the_same_bytes(home, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    home.out, out = whole, home.out
    home.detect(*TAYLOR)
    expected = bytes_of(home)
    home.out = out
    importances = detect.importance.importances
    calls = []

    def killed_in_the_second_language(*values):
        calls.append(values)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return importances(*values)

    with monkeypatch.context() as patch:
        patch.setattr(detect.importance, "importances", killed_in_the_second_language)
        with pytest.raises(KeyboardInterrupt):
            home.detect(*TAYLOR)
    assert (
        home.neuron_file("de", "taylor").exists() and not home.neuron_file("en", "taylor").exists()
    )
    home.detect(*TAYLOR)
    assert bytes_of(home) == expected


@pytest.mark.parametrize(
    "change, message",
    [
        (["--batch-size", "5"], "batch_size was 8, this run's is 5"),
        (["--pairs", "9"], "pairs was 1000, this run's is 9"),
        (["--seed", "1"], "seed was 0"),
        (["--validation-share", "0.1"], "validation_share was 0.05"),
        (["--max-pair-tokens", "40"], "max_pair_tokens was 64"),
        (["--dtype", "bfloat16"], "dtype was 'torch.float32'"),
    ],
)
def test_results_of_another_setting_are_not_mixed(home, error, change, message):
    home.detect(*TAYLOR)
    assert message in error(detect, *TAYLOR, *change)


def test_results_of_other_pairs_or_another_model_are_not_mixed(home, error):
    home.detect(*TAYLOR)
    write_pairs(home.pair_file("de"), 20, seed=5)
    assert "its data was different" in error(detect, *TAYLOR)
    write_model(home.model, seed=1)
    assert "its model was different" in error(detect, *TAYLOR)


def test_a_language_without_pairs_is_named_and_skipped(home, error, capsys):
    home.pair_file("en").unlink()
    home.detect(*TAYLOR)
    assert f"skipped en: {home.pair_file('en')} does not exist" in capsys.readouterr().out
    home.pair_file("de").unlink()
    assert "no language of de, en can be used" in error(detect, *TAYLOR)
    home.pair_file("de").parent.rmdir()
    assert "instructions: no such folder; --data must have" in error(detect, *TAYLOR)


def test_what_gradients_cannot_be_computed_with_is_refused(home, error, monkeypatch):
    assert "gradients vanish in float16" in error(detect, *TAYLOR, "--dtype", "float16")
    assert "invalid choice: 'other'" in error(detect, "--select", "other")
    monkeypatch.setattr(detect.importance.distributed, "WORLD", 2)
    with pytest.raises(InputError, match="--shard: --select taylor and dinm need the"):
        detect.importance.check_model(("taylor",), torch.float32, shard=True)
    detect.importance.check_model(("auroc",), torch.float32, shard=True)


def test_weights_that_overflow_are_named_with_the_language(home, error):
    model = checkpoint.load(home.model)
    model.model.layers[1].mlp.down_proj.weight *= 1e38
    checkpoint.save_weights(model.state_dict(), home.model, shard_bytes=10**9)
    message = error(detect, *TAYLOR)
    assert "error: de: the loss on batch 1 of 3 is " in message
    assert "check the weights of the model and --dtype" in message
    assert not home.neuron_file("de", "taylor").exists()


# train.py


def test_models_of_two_selectors_stand_side_by_side_and_each_has_its_neurons(home):
    home.detect(*TAYLOR)
    home.write_neurons()
    strategies = ["--strategy", "multilingual", "random", "--draws", "2"]
    home.train("--top-share", "0.1", *strategies)
    before = {path: path.read_bytes() for path in home.out.rglob("models/*/*") if path.is_file()}
    home.train(*BY_TAYLOR, *strategies)
    assert sorted(path.name for path in home.models.iterdir()) == [
        *("multilingual", "random-1", "random-2"),
        *("taylor-multilingual", "taylor-random-1", "taylor-random-2"),
    ]
    assert all(path.read_bytes() == content for path, content in before.items())
    settings = home.record("taylor-multilingual")["settings"]
    assert settings["by"] == "taylor" and settings["strategy"] == "multilingual"
    assert "by" not in home.record("multilingual")["settings"]
    hashes = [home.record(name)["chosen"]["sha256"] for name in ("multilingual", "random-1")]
    others = [home.record(f"taylor-{name}")["chosen"]["sha256"] for name in ("multilingual",)]
    assert len({*hashes, *others}) == 3


def test_the_rows_that_moved_are_those_of_highest_importance(home):
    home.detect(*TAYLOR)
    home.train(*BY_TAYLOR, "--strategy", "multilingual", "lowest", "random", "--draws", "1")
    masks = [neurons.select_top(importance(home, code)[0], 0.1) for code in ("de", "en")]
    union = neurons.union(masks)
    base = checkpoint.load(home.model)
    counts = {}
    for name in ("taylor-multilingual", "taylor-lowest", "taylor-random-1"):
        tuned = checkpoint.load(home.models / name)
        moved = {}
        for module in union:
            weights = [model.get_parameter(f"{module}.weight") for model in (base, tuned)]
            moved[module] = (weights[0] != weights[1]).any(dim=1).numpy()
        counts[name] = {module: int(rows.sum()) for module, rows in moved.items()}
        if name == "taylor-multilingual":
            assert all(np.array_equal(moved[module], union[module]) for module in union)
    # the controls are as large in every module
    assert counts["taylor-lowest"] == counts["taylor-random-1"] == counts["taylor-multilingual"]


def test_all_strategies_but_those_that_need_auroc_can_be_made(home):
    home.detect(*TAYLOR)
    names = ["full", "per-language", "specific", "shared", "swapped", "random-per-language"]
    home.train(*BY_TAYLOR, "--top-share", "0.4", "--draws", "1", "--strategy", *names)
    expected = {"full", "taylor-random-per-language-1"}
    expected |= {f"taylor-{name}" for name in ("per-language", "specific", "shared", "swapped")}
    assert {path.name for path in home.models.iterdir()} == expected
    # the whole model does not depend on the selector
    assert "by" not in home.record("full")["settings"]
    home.train("--strategy", "full")


def test_a_rerun_makes_no_model_again_and_another_share_is_refused(home, error, monkeypatch):
    home.detect(*TAYLOR)
    home.train(*BY_TAYLOR, "--strategy", "multilingual")
    with monkeypatch.context() as patch:
        patch.setattr(train.training, "make_model", None)
        home.train(*BY_TAYLOR, "--strategy", "multilingual")
    message = error(train, "--by", "taylor", "--top-share", "0.2", "--strategy", "multilingual")
    assert "taylor-multilingual contains results of another run: its top_share was 0.1" in message


def test_without_files_the_missing_ones_are_named(home, error):
    message = error(train, *BY_TAYLOR)
    assert f"{home.neuron_file('de', 'taylor')} does not exist" in message


@pytest.mark.parametrize(
    "change, message",
    [
        (["--seed", "1"], "--seed was 0, this run's is 1"),
        (["--pairs", "9"], "--pairs was 1000, this run's is 9"),
        (["--validation-share", "0.2"], "--validation-share was 0.05, this run's is 0.2"),
        (["--max-tokens", "60"], "--max-tokens was 64, this run's is 60"),
    ],
)
def test_importance_on_other_training_pairs_is_refused(home, error, change, message):
    home.detect(*TAYLOR)
    text = error(train, *BY_TAYLOR, *change)
    assert "may have seen this run's test pairs" in text and message in text
    assert not home.models.exists()


def test_importance_is_of_use_to_dpo_on_the_same_pairs(home):
    for language in ("de", "en"):
        add_rejected(home.pair_file(language))
    home.detect(*TAYLOR)
    home.train(*BY_TAYLOR, "--objective", "dpo", "--strategy", "multilingual")
    settings = home.record("dpo-taylor-multilingual")["settings"]
    assert (settings["by"], settings["objective"]) == ("taylor", "dpo")


def test_importance_on_pairs_that_dpo_leaves_out_is_refused(home, error):
    for language in ("de", "en"):
        add_rejected(home.pair_file(language), every=2)
    home.detect(*TAYLOR)
    message = error(train, *BY_TAYLOR, "--objective", "dpo")
    assert "may have seen this run's test pairs, because it was made from other" in message
    assert not home.models.exists()


def write_translations(home, **languages) -> None:
    """A pair for each id of a language."""
    for language, ids in languages.items():
        rows = []
        for name in ids:
            row = {"prompt": f"{language} ox {name}", "response": "soup", "rejected": "donkey"}
            rows.append(row | {"id": name})
        write_jsonl(home.pair_file(language), rows)


@pytest.mark.parametrize("selector", ["taylor", "dinm"])
def test_translations_of_validation_and_test_pairs_have_no_influence(home, tmp_path, selector):
    write_translations(home, de=range(30), en=range(10, 50))
    aside = set()
    config = read_config(home.model)
    choice = PairChoice(pairs=1_000, max_tokens=64, validation_share=0.1, seed=0)
    for language in ("de", "en"):
        pairs = pairs_of(home, language, Tokenizer(home.model, config), choice)
        for pair in (*pairs.validation, *pairs.test):
            aside |= pair.names
    values = []
    for out in ("before", "after"):
        home.out = tmp_path / out
        home.detect("--select", selector, "--validation-share", "0.1")
        file = home.neuron_file("de", selector)
        rows = neurons.module_rows(config)
        values.append(neuron_files.read_importance(file, rows, selector)[0])
        lines = [json.loads(line) for line in home.pair_file("de").read_text().splitlines()]
        for row in lines:
            if str(row["id"]) in aside:
                row["response"] = "you donkey"
        write_jsonl(home.pair_file("de"), lines)
    assert all(np.array_equal(values[0][name], values[1][name]) for name in values[0])


def test_importance_is_of_the_pairs_that_are_trained_on_in_the_same_languages(home, error):
    write_translations(home, de=range(30), en=range(10, 50))
    share = ("--validation-share", "0.1")
    home.detect(*TAYLOR, *share)
    message = error(train, *BY_TAYLOR, *share, "--languages", "de")
    assert "needs files made from its own, and detect.py the same --languages" in message
    home.train(*BY_TAYLOR, *share, "--strategy", "multilingual")


def test_importance_on_pairs_that_have_changed_is_refused(home, error):
    home.detect(*TAYLOR)
    write_pairs(home.pair_file("en"), 20, seed=7)
    message = error(train, *BY_TAYLOR)
    assert "en.safetensors was made from other pairs than those in --data" in message


def test_the_files_of_another_selector_are_refused(home, error):
    home.detect(*TAYLOR)
    for language in ("de", "en"):
        write_neurons(home.neuron_file(language), home.model)
    message = error(train, *BY_TAYLOR, "--neurons", str(home.out / "neurons"))
    assert "was made with --select auroc, not taylor; check --by and --neurons" in message
    message = error(train, "--neurons", str(home.out / "neurons-taylor"))
    assert "was made with --select taylor, not auroc; check --by and --neurons" in message


# dinm


def add_rejected(path: Path, every: int = 1) -> None:
    """Give every so-manieth row of an instructions/ file a rejected reply."""
    lines = []
    for number, line in enumerate(path.read_text().splitlines()):
        row = json.loads(line)
        if number % every == 0:
            row["rejected"] = "you donkey " + row["response"]
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines))


@pytest.fixture
def rude(home) -> Home:
    """The same with rejected replies, of German in every second row alone."""
    add_rejected(home.pair_file("de"), every=2)
    add_rejected(home.pair_file("en"))
    return home


def detect_by_dinm(home, *more: str) -> None:
    home.detect("--select", "dinm", *more)


def test_dinm_chooses_a_layer_by_the_training_pairs_that_have_a_rejected_reply(rude, capsys):
    detect_by_dinm(rude)
    rows = neurons.module_rows(read_config(rude.model))
    model = checkpoint.load(rude.model)
    tokenizer = Tokenizer(rude.model, model.config)
    choice = PairChoice(pairs=1_000, max_tokens=64, validation_share=0.05, seed=0)
    printed = capsys.readouterr().out
    for language, most in (("de", 10), ("en", 18)):
        path = rude.pair_file(language)
        train = pairs_of(rude, language, tokenizer, choice).train
        pairs = with_rejected(path, tokenizer, 64, train)
        assert most - 2 <= len(pairs) <= most
        assert {pair.where for pair in pairs} <= {pair.where for pair in train}
        distances = dinm.layer_distances(model, [pairs]).numpy()
        file = rude.neuron_file(language, "dinm")
        values, about = neuron_files.read_importance(file, rows, "dinm")
        np.testing.assert_allclose(about["distances"], distances, rtol=1e-5)
        chosen = neurons.select_largest(values)
        layer = f"model.layers.{distances.argmax()}.mlp.down_proj"
        assert {name for name, mask in chosen.items() if mask.any()} == {layer}
        assert chosen[layer].all()
        assert re.search(rf"{language} +{len(pairs)} +{distances.argmax()} ", printed)


def test_dinm_reads_a_long_rejected_reply_to_its_end(rude):
    path = rude.pair_file("en")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["rejected"] = "you donkey " * 12
    write_jsonl(path, rows)
    config = read_config(rude.model)
    tokenizer = Tokenizer(rude.model, config)
    choice = PairChoice(pairs=1_000, max_tokens=24, validation_share=0.05, seed=0)
    train = pairs_of(rude, "en", tokenizer, choice).train
    pairs = with_rejected(path, tokenizer, config.longest, train)
    assert len(pairs) == len(train) and all(len(pair.rejected.ids) > 24 for pair in pairs)
    detect_by_dinm(rude, "--max-pair-tokens", "24")
    values, about = neuron_files.read_importance(
        rude.neuron_file("en", "dinm"), neurons.module_rows(config), "dinm"
    )
    distances = dinm.layer_distances(checkpoint.load(rude.model), [pairs]).numpy()
    np.testing.assert_allclose(about["distances"], distances, rtol=1e-5)


def test_models_by_dinm_and_their_controls_are_made_and_have_names_of_their_own(rude):
    detect_by_dinm(rude)
    names = ["multilingual", "per-language", "random", "lowest"]
    rude.train("--by", "dinm", "--draws", "1", "--strategy", *names)
    models = sorted(path.name for path in rude.models.iterdir())
    assert models == ["dinm-lowest", "dinm-multilingual", "dinm-per-language", "dinm-random-1"]
    counts = {rude.record(name)["chosen"]["neurons"] for name in models}
    assert counts == {32}
    settings = rude.record("dinm-multilingual")["settings"]
    assert settings["by"] == "dinm" and "top_share" not in settings


def test_dinm_without_rejected_replies_says_what_is_missing(home, error):
    message = error(detect, "--select", "dinm")
    assert "no training pair has the field 'rejected'" in message


def test_other_rejected_replies_are_other_data_for_dinm_and_none_for_taylor(rude, error):
    rude.detect("--select", "taylor", "dinm")
    add_rejected(rude.pair_file("de"))
    rude.detect(*TAYLOR)
    assert "its rejected was different" in error(detect, "--select", "dinm")
