"""train.py as a user meets it: models, proofs, printed tables, errors, and reruns."""

import json
import re
import shutil
import sys
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from home import Home
from safetensors.torch import load as load_bytes
from safetensors.torch import load_file, save_file
from tiny import add_rejected, error_of, write_jsonl, write_model, write_neurons, write_pairs
from tuning import assert_same_models

from minitox import delta, neurons
from minitox.errors import InputError
from minitox.files import read_json, write_json
from minitox.lm import checkpoint
from minitox.lm.config import read_config
from minitox.run import candidates, neuron_files, tuning
from minitox.train import strategies
from minitox.train.row_optim import RowAdamW
from minitox.train.tune import automatic_rate

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import train  # noqa: E402

DRAWS = ["random-1", "random-2", "random-3", "random-4", "random-5"]
DEFAULT = ["full", "per-language", "multilingual", *DRAWS]
# strategies that are controls, and the model that each of them makes with --draws 1
CONTROLS = {
    "shuffled": "shuffled",
    "lowest": "lowest",
    "swapped": "swapped",
    "random-per-language": "random-per-language-1",
    "random-aura": "random-aura-1",
    "random-damp": "random-damp-1",
    "random-det0": "random-det0-1",
}


@pytest.fixture
def setup(tmp_path) -> Home:
    """A small run of two languages, whose neurons are known."""
    home = Home(tmp_path)
    home.write_neurons()
    return home


@pytest.fixture
def error(setup, capsys):
    """Run the script as a user would; the one line that says what is wrong."""

    def run(*more: str) -> str:
        text = error_of(train.main, setup.arguments(*more), capsys)
        assert text.count("\n") == 1 and text.startswith("error: ")
        return text

    return run


def change_neurons(setup, change) -> None:
    """Apply `change` to the AUROCs in the German neuron file."""
    path = setup.neuron_file("de")
    rows = neurons.module_rows(read_config(setup.model))
    auroc, about = neuron_files.read_neurons(path, rows)
    shuffled, _ = neuron_files.read_neurons(path, rows, shuffled=True)
    change(auroc)
    neuron_files.write_neurons(path, auroc, shuffled, about)


# Models and proofs


def test_one_model_is_in_memory_at_a_time(setup, monkeypatch):
    loader = train.sharding.loader
    loaded = []

    def counting(*how, **more):
        def load():
            assert all(model() is None for model in loaded)
            model = loader(*how, **more)()
            loaded.append(weakref.ref(model))
            return model

        return load

    monkeypatch.setattr(train.sharding, "loader", counting)
    setup.train("--strategy", "full", "multilingual", "aura", "damp")
    assert len(loaded) == 5  # the first measures the losses before tuning


def test_the_default_makes_the_paper_s_three_models_and_five_random_ones(setup, capsys):
    setup.train()
    printed = capsys.readouterr().out
    assert sorted(path.name for path in setup.models.iterdir()) == sorted(DEFAULT)
    for name in DEFAULT:
        assert (setup.models / name / "tokenizer.json").exists()
        model = checkpoint.load(setup.models / name)
        weights = sum(weight.numel() for weight in model.parameters())
        record = setup.record(name)
        proof = record["proof"]
        assert proof["frozen_weights"] + proof["tuned_weights"] == weights
        assert proof["changed"] > 0.9
        assert f"{proof['tuned_weights']:,}" in printed
        for part in ("validation", "test"):
            assert record[part].keys() == {"de", "en"}
            assert all(losses["pairs"] == 1 for losses in record[part].values())
        assert record["settings"]["strategy"] == ("random" if name in DRAWS else name)
        assert record["settings"]["draw"] == (int(name[-1]) if name in DRAWS else None)
    assert setup.record("full")["proof"]["frozen_weights"] == 0
    stages = setup.record("per-language")["stages"]
    assert [stage["name"] for stage in stages] == ["de", "en"]


def test_the_rows_that_moved_are_those_that_a_mask_chose(setup):
    setup.train("--strategy", "per-language", "--threshold", "0.8")
    rows = neurons.module_rows(read_config(setup.model))
    masks = []
    for language in ("de", "en"):
        auroc, _ = neuron_files.read_neurons(setup.neuron_file(language), rows)
        masks.append(neurons.select(auroc, 0.8))
    union = neurons.union(masks)
    tuned = setup.weights("per-language")
    for name, base in load_file(setup.model / "model.safetensors").items():
        moved = (base != tuned[name]).reshape(len(base), -1).any(dim=1).numpy()
        no_row = np.zeros(len(base), dtype=bool)
        assert np.array_equal(moved, union.get(name.removesuffix(".weight"), no_row))


def moved_rows(setup, model: str) -> neurons.NeuronMask:
    """The neurons of a model whose weights are not the base model's."""
    tuned = setup.weights(model)
    moved = {}
    for name, base in load_file(setup.model / "model.safetensors").items():
        if ".mlp." in name:
            rows = (base != tuned[name]).any(dim=1).numpy()
            moved[name.removesuffix(".weight")] = rows
    return moved


def rows_chosen(mask: neurons.NeuronMask) -> dict[str, int]:
    return {name: int(rows.sum()) for name, rows in mask.items()}


def test_draws_differ_in_their_neurons_alone(setup, monkeypatch):
    """The same number in every module, the same settings, the same pairs in the same order."""
    tuned_on = []

    def watch(optimizer, pairs, *more):
        tuned_on[-1].append([[pair.where for pair in pairs], *more[:1], *more[2:4]])
        return tune(optimizer, pairs, *more)

    def make_model(*values):
        tuned_on.append([])
        return make(*values)

    tune = tuning.tune
    make = train.training.make_model
    monkeypatch.setattr(tuning, "tune", watch)
    monkeypatch.setattr(train.training, "make_model", make_model)
    setup.train("--strategy", "random", "random-per-language", "--draws", "3", "--top-share", "0.2")
    for strategy in ("random", "random-per-language"):
        names = [f"{strategy}-{draw}" for draw in (1, 2, 3)]
        moved = [moved_rows(setup, name) for name in names]
        records = [setup.record(name) for name in names]
        for draw, record in zip((1, 2, 3), records, strict=True):
            assert record["settings"].pop("draw") == draw
        assert records[0]["settings"] == records[1]["settings"] == records[2]["settings"]
        counts = [[stage["chosen"]["neurons"] for stage in record["stages"]] for record in records]
        assert counts[0] == counts[1] == counts[2]
        assert rows_chosen(moved[0]) == rows_chosen(moved[1]) == rows_chosen(moved[2])
        hashes = {record["chosen"]["sha256"] for record in records}
        assert len(hashes) == 3
    assert tuned_on[0] == tuned_on[1] == tuned_on[2] != tuned_on[3]
    assert tuned_on[3] == tuned_on[4] == tuned_on[5]


def test_more_draws_keep_those_that_are_there(setup, capsys):
    setup.train("--strategy", "random", "random-aura", "--draws", "2")
    before = setup.files()
    capsys.readouterr()
    setup.train("--strategy", "random", "random-aura", "--draws", "4")
    after = setup.files()
    assert {name: after[name] for name in before} == before
    names = [f"{strategy}-{draw}" for strategy in ("random", "random-aura") for draw in range(1, 5)]
    assert sorted(path.name for path in setup.models.iterdir()) == sorted(names)
    printed = capsys.readouterr().out
    assert "\nrandom-3: " in printed and "\nrandom-2: " not in printed
    # and all at once are the same
    shutil.rmtree(setup.models)
    setup.train("--strategy", "random", "random-aura", "--draws", "4")
    assert setup.files() == after


def test_controls_change_as_many_neurons_and_others(setup):
    share = ["--top-share", "0.2"]
    imitated = ["multilingual", "per-language", "aura", "damp", "det0"]
    setup.train("--strategy", *imitated, *CONTROLS, "--draws", "1", *share)
    rows = neurons.module_rows(read_config(setup.model))
    of_files = []
    for shuffled in (False, True):
        aurocs = []
        for language in ("de", "en"):
            path = setup.neuron_file(language)
            aurocs.append(neuron_files.read_neurons(path, rows, shuffled=shuffled)[0])
        of_files.append(neurons.highest(aurocs))
    true, with_shuffled_labels = of_files

    # 1) the same numbers in every module
    moved = {name: moved_rows(setup, name) for name in [*imitated, *CONTROLS.values()]}
    for name in ("shuffled", "lowest"):
        assert rows_chosen(moved[name]) == rows_chosen(moved["multilingual"])
    for name in ("aura", "damp", "det0"):
        assert rows_chosen(moved[f"random-{name}-1"]) == rows_chosen(moved[name])

    # 2) the neurons are those of the file
    for name, chosen in moved["shuffled"].items():
        values = with_shuffled_labels[name]
        assert values[chosen].min(initial=1) >= values[~chosen].max()
    for name, chosen in moved["lowest"].items():
        assert true[name][chosen].max(initial=0) <= true[name][~chosen].min()

    # 3) swapped: the same sets, the other way round
    def hashes(model: str) -> list[str]:
        return [stage["chosen"]["sha256"] for stage in setup.record(model)["stages"]]

    assert hashes("swapped") == hashes("per-language")[::-1]
    assert len(set(hashes("random-per-language-1") + hashes("per-language"))) == 4
    for name in ("random-aura-1", "random-damp-1"):
        settings = setup.record(name)["settings"]
        original = setup.record(name.removeprefix("random-").removesuffix("-1"))["settings"]
        assert settings | {"strategy": original["strategy"], "draw": None} == original


def test_a_model_of_a_version_without_draws_is_refused(setup, error):
    setup.train("--strategy", "multilingual")
    record = setup.record("multilingual")
    del record["settings"]["draw"]
    write_json(setup.models / "multilingual" / "run.json", record)
    message = error("--strategy", "multilingual")
    assert "its draw was not recorded, this run's is None; choose another --out" in message


def test_the_proof_notices_a_single_frozen_weight_that_moved(setup, monkeypatch):
    """An optimizer that lets decay reach a frozen row."""
    right_step = RowAdamW.step

    def wrong_step(self, lr, scale=1.0):
        right_step(self, lr, scale)
        name = next(name for name, rows in self.rows.items() if rows is not None)
        frozen = min(set(range(len(self.weights[name]))) - set(self.rows[name].tolist()))
        self.weights[name].data[frozen, 0] *= 1 - 1e-6

    monkeypatch.setattr(RowAdamW, "step", wrong_step)
    with pytest.raises(RuntimeError, match="frozen rows of .* differ from those of the base"):
        setup.train("--strategy", "multilingual")
    assert not (setup.models / "multilingual").exists()


@pytest.mark.parametrize("tokens", ["30", "10000"])
def test_the_reference_trains_the_same_models(setup, tmp_path, tokens):
    """The readable optimizer and loss; with many micro-batches in a step, and with one."""
    names = ["full", "per-language", "multilingual"]
    arguments = ["--batch-tokens", tokens, "--strategy", *names]
    setup.train(*arguments)
    shutil.move(setup.models, tmp_path / "fast")
    setup.train(*arguments, "--reference")
    assert_same_models(setup.models, tmp_path / "fast", names, setup.model)


# Objectives


def prefer(setup, *more: str) -> None:
    """Tune with DPO."""
    setup.train("--objective", "dpo", "--validation-share", "0.2", *more)


def test_dpo_makes_models_of_other_names_beside_the_others(setup, capsys):
    setup.train("--strategy", "multilingual")
    with_replies = setup.files()
    for language in ("de", "en"):
        add_rejected(setup.pair_file(language), but=2)
    capsys.readouterr()
    prefer(setup, "--strategy", "multilingual", "full", "random", "--draws", "2")
    printed = capsys.readouterr().out
    names = ["dpo-full", "dpo-multilingual", "dpo-random-1", "dpo-random-2", "multilingual"]
    assert sorted(path.name for path in setup.models.iterdir()) == names
    assert "de: dropped 2 pairs without a rejected reply" in printed
    assert "dpo-random: 2 draws" in printed

    # 1) a model that was made before is as it was, and is not made again
    setup.train("--strategy", "multilingual")
    after = setup.files()
    assert with_replies == {name: after[name] for name in with_replies}

    # 2) what the record of a new one has besides
    settings = setup.record("dpo-multilingual")["settings"]
    others = setup.record("multilingual")["settings"]
    added = {"objective": "dpo", "beta": 0.1, "label_smoothing": 0.0}
    assert {name: settings[name] for name in settings.keys() - others.keys()} == added
    record = setup.record("dpo-multilingual")
    assert record["test"]["de"]["before"] == pytest.approx(np.log(2), rel=1e-5)
    assert "preferences" not in setup.record("multilingual")
    of_test = record["preferences"]["test"]
    assert of_test["de"].keys() == {"margin", "accuracy", "reply_loss"}
    mean = (of_test["de"]["margin"] + of_test["en"]["margin"]) / 2
    (row,) = re.findall("^ *dpo-multilingual .*bit-identical.*", printed, re.MULTILINE)
    assert "reward margin" in printed and f" {mean:.3f} " in row


@pytest.mark.parametrize("option, value", [("beta", "0.2"), ("label-smoothing", "0.1")])
def test_a_model_of_another_preference_is_refused(setup, error, option, value):
    for language in ("de", "en"):
        add_rejected(setup.pair_file(language))
    prefer(setup, "--strategy", "multilingual")
    message = error(
        *("--objective", "dpo", "--validation-share", "0.2", "--strategy", "multilingual"),
        *(f"--{option}", value),
    )
    assert f"its {option.replace('-', '_')} was 0" in message
    assert f"this run's is {value}" in message


def test_of_several_rates_dpo_takes_the_one_of_lowest_loss_on_replies(setup, capsys):
    for language in ("de", "en"):
        add_rejected(setup.pair_file(language))
    prefer(setup, "--strategy", "multilingual", "--epochs", "5", "--lr", "0.00001", "0.001", "0.1")
    printed = capsys.readouterr().out
    names = [path.name for path in setup.models.iterdir()]
    losses = {}
    for name in names:
        measured = setup.record(name)["preferences"]["validation"]
        losses[name] = np.mean([numbers["reply_loss"] for numbers in measured.values()])
    assert len(names) == 3 and min(losses, key=losses.get) == "dpo-multilingual"
    assert f"{losses['dpo-multilingual']:.3f}*" in printed


def test_without_rejected_replies_dpo_says_how_to_get_them(setup, error):
    message = error("--objective", "dpo", "--strategy", "full")
    assert "nothing to do: " in message and "no pair has the field 'rejected'" in message
    assert message.count("data/prepare.py rtp-lx --pairs makes pairs with rejected replies") == 1
    assert not setup.models.exists() or not list(setup.models.iterdir())


def test_the_patch_leads_from_the_base_to_the_model(setup, tmp_path):
    setup.train("--strategy", "multilingual", "--threshold", "0.9", "--delta")
    patch = setup.models / "multilingual.delta.safetensors"
    assert patch.stat().st_size < (setup.model / "model.safetensors").stat().st_size / 2
    delta.toggle(setup.model, patch, tmp_path / "applied")
    applied = (tmp_path / "applied" / "model.safetensors").read_bytes()
    assert applied == (setup.models / "multilingual" / "model.safetensors").read_bytes()


# Languages


def test_the_order_of_languages_is_the_one_asked_for(setup, error):
    setup.train("--strategy", "per-language", "--order", "en,de")
    stages = setup.record("per-language")["stages"]
    assert [stage["name"] for stage in stages] == ["en", "de"]
    assert "--order leaves out de" in error("--order", "en")


def test_several_orders_are_models_of_their_own_and_change_nothing_in_the_first(setup, error):
    strategies = ["--strategy", "per-language", "random-per-language", "--draws", "1"]
    setup.train(*strategies)
    before = setup.files()
    setup.train(*strategies, "--orders", "2")
    after = setup.files()
    assert {name: after[name] for name in before} == before
    for first, second in [
        ("per-language", "per-language-order-2"),
        ("random-per-language-1", "random-per-language-order-2-1"),
    ]:
        record = setup.record(second)
        assert [stage["name"] for stage in record["stages"]] == ["en", "de"]
        assert record["settings"].pop("order") == ["en", "de"]
        assert record["settings"] == setup.record(first)["settings"]
        assert record["chosen"] == setup.record(first)["chosen"]
        assert_not_equal(setup.weights(first), setup.weights(second))
    assert "per-language: de, en have fewer than 3 orders" in error(*strategies, "--orders", "3")
    assert "models have no order" in error(*strategies, "--independent", "--orders", "2")

    # the second order is the one that --order makes first
    setup.out = setup.out.with_name("other")
    shutil.copytree(setup.out.with_name("out") / "neurons", setup.out / "neurons")
    setup.train("--strategy", "per-language", "--order", "en,de")
    other = setup.weights("per-language")
    for name, weight in other.items():
        same = after["per-language-order-2/model.safetensors"]
        assert torch.equal(weight, load_bytes(same)[name])


def assert_not_equal(ours: dict, theirs: dict) -> None:
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_later_order_is_made_at_the_rate_that_the_first_has_chosen(setup, capsys):
    setup.train("--strategy", "per-language", "--orders", "2", "--lr", "0.001", "0.004")
    names = sorted(path.name for path in setup.models.iterdir())
    assert len(names) == 3 and names[0] == "per-language"
    assert names[1] == "per-language-order-2" and names[2].startswith("per-language@")
    chosen = setup.record("per-language")["settings"]["lr"]
    assert setup.record("per-language-order-2")["settings"]["lr"] == chosen
    before = setup.files()
    setup.train("--strategy", "per-language", "--orders", "2", "--lr", "0.001", "0.004")
    assert setup.files() == before


def test_one_model_for_each_language(setup):
    setup.train("--strategy", "per-language", "--independent")
    names = sorted(path.name for path in setup.models.iterdir())
    assert names == ["per-language-de", "per-language-en"]


@pytest.mark.parametrize(
    "missing, consequence",
    [
        (Home.neuron_file, "no neuron counts as toxic in it, and its pairs are not used"),
        (Home.pair_file, "its neurons are not tuned, unless another language has them too"),
    ],
)
def test_a_language_with_neurons_or_pairs_alone_is_named_and_skipped(
    setup, capsys, error, missing, consequence
):
    path = missing(setup, "de")
    path.unlink()
    setup.train("--strategy", "multilingual")
    printed = capsys.readouterr().out
    assert f"skipped de: {path} does not exist" in printed
    assert consequence in printed
    assert setup.record("multilingual")["settings"]["languages"] == ["en"]
    assert "nothing to do" in error("--languages", "de")


def test_full_needs_no_neurons_and_interventions_need_no_pairs(setup):
    shutil.rmtree(setup.data)
    setup.train("--strategy", "aura", "damp", "det0")
    record = setup.record("aura")
    assert record["validation"] == record["test"] == {}
    assert record["settings"]["languages"] == ["de", "en"]
    shutil.rmtree(setup.out / "neurons")
    write_pairs(setup.pair_file("de"), 20)
    setup.train("--strategy", "full")


def test_pairs_that_an_intervention_cannot_use_do_not_matter_to_it(setup, capsys):
    setup.train("--strategy", "aura")
    expected = setup.record("aura")["proof"]
    shutil.rmtree(setup.models)
    # no pairs in one language, and only too long ones in the other
    setup.pair_file("de").unlink()
    setup.train("--strategy", "aura", "--max-tokens", "4")
    assert setup.record("aura")["proof"] == expected
    setup.train("--strategy", "det0", "--language", "de")
    assert "skipped" not in capsys.readouterr().out


def test_the_combination_of_languages_is_recorded_where_there_is_one(setup):
    setup.train("--strategy", "aura")
    combined = "mean over the languages in which the AUROC is above 0.5"
    assert setup.record("aura")["settings"]["combined"] == combined
    setup.train("--strategy", "det0", "--language", "de")
    assert setup.record("det0")["settings"]["combined"] is None


def test_interventions_scale_by_the_auroc_of_one_language_or_of_all():
    aurocs = {"de": {"gate": np.array([0.9, 0.4])}, "en": {"gate": np.array([0.3, 0.8])}}
    shuffled = {"de": {"gate": np.array([0.4, 0.6])}, "en": {"gate": np.array([0.5, 0.5])}}
    of_one = train.combined_aurocs(aurocs, shuffled, "de")
    assert of_one["aura"] == of_one["damp"] == of_one["det0"] == aurocs["de"]
    of_all = train.combined_aurocs(aurocs, shuffled, None)
    assert of_all["aura"]["gate"].tolist() == pytest.approx([0.9, 0.8])
    assert of_all["damp"]["gate"].tolist() == pytest.approx([0.6, 0.6])
    # these two choose by all languages in any case
    for combined in (of_one, of_all):
        assert combined["lowest"]["gate"].tolist() == [0.9, 0.8]
        assert combined["shuffled"]["gate"].tolist() == [0.5, 0.6]
    assert train.combined_aurocs({}, {}, None) == {}
    with pytest.raises(InputError, match="--language fr is not one of de, en, the usable ones"):
        train.combined_aurocs(aurocs, shuffled, "fr")


def test_long_pairs_are_dropped_and_counted(setup, capsys):
    short = [{"prompt": "ox", "response": f"soup {i}"} for i in range(3)]
    long = {"prompt": "ox", "response": "green " * 90}
    write_jsonl(setup.pair_file("de"), [*short, long])
    # the default limit of 512 tokens is more than the model's 64 positions
    setup.train("--strategy", "multilingual")
    cells = capsys.readouterr().out.split("\nde ")[1].split("\n")[0].split()
    assert cells[0:4] == ["3", "0", "0", "1"]
    assert int(cells[4]) > 64


def test_a_language_without_a_neuron_is_shown_and_left_out(setup, capsys):
    def silence(auroc):
        for values in auroc.values():
            values[:] = 0

    change_neurons(setup, silence)
    setup.train("--strategy", "per-language")
    assert "per-language de 0 0% 0 " in " ".join(capsys.readouterr().out.split())
    stages = setup.record("per-language")["stages"]
    assert [len(stage["losses"]) for stage in stages] == [0, 3]


# Reruns and other settings


def test_the_same_command_again_computes_nothing_and_prints_the_same_table(
    setup, capsys, monkeypatch
):
    setup.train()
    before = setup.files()
    table = capsys.readouterr().out.split("Results")[1]
    for function in ("make_model", "losses_aside", "prove"):
        monkeypatch.setattr(train.training, function, None)
    setup.train()
    assert setup.files() == before
    assert capsys.readouterr().out.split("Results")[1] == table


def test_strategies_run_alone_are_the_ones_run_together(setup):
    setup.train()
    together = setup.files()
    for name in ("full", "per-language", "multilingual"):
        shutil.rmtree(setup.models / name)
        setup.train("--strategy", name)
    assert setup.files() == together


@pytest.mark.parametrize(
    "change, message",
    [
        (["--lr", "0.5"], "its rates was 'auto', this run's is [0.5]"),
        (["--seed", "1"], "seed was 0"),
        (["--threshold", "0.6"], "threshold was 0.5"),
        (["--dtype", "bfloat16"], "dtype was"),
        (["--reference"], "reference was False"),
    ],
)
def test_results_of_other_settings_are_not_mixed(setup, error, change, message):
    setup.train("--strategy", "multilingual")
    before = setup.files()
    assert message in error("--strategy", "multilingual", *change)
    assert setup.files() == before


def test_results_of_other_pairs_or_neurons_are_not_mixed(setup, error):
    setup.train("--strategy", "multilingual")
    write_pairs(setup.pair_file("de"), 21)
    assert "its data was" in error("--strategy", "multilingual")
    write_pairs(setup.pair_file("de"), 20)
    write_neurons(setup.neuron_file("de"), setup.model, seed=7)
    assert "its neurons was" in error("--strategy", "multilingual")


# Translations


def write_translations(setup, **languages) -> None:
    """A pair for each id of a language; None: a pair without an id."""
    for language, ids in languages.items():
        rows = []
        for number, name in enumerate(ids):
            row = {"prompt": f"{language} ox {number}", "response": "soup"}
            rows.append(row if name is None else row | {"id": f"rtp-lx/{name}"})
        write_jsonl(setup.pair_file(language), rows)


def ids_of(pairs) -> set:
    """The ids of some pairs, read from the rows that they came from."""
    ids = set()
    for pair in pairs:
        path, _, number = pair.where.rpartition(":")
        rows = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]
        ids.add(rows[int(number) - 1].get("id"))
    return ids - {None}


@pytest.mark.parametrize("german, english", [(range(40), range(40)), (range(30), range(10, 50))])
def test_no_model_is_tuned_on_translations_of_validation_or_test_pairs(
    setup, monkeypatch, german, english
):
    write_translations(setup, de=german, en=english)
    before_tuning = train.training.before_tuning
    read = {}

    def before(model, pairs, *more):
        read.update(pairs)
        return before_tuning(model, pairs, *more)

    monkeypatch.setattr(train.training, "before_tuning", before)
    setup.train("--strategy", "multilingual", "--validation-share", "0.1")
    ids = {"train": set(), "validation": set(), "test": set()}
    for of_language in read.values():
        for part, of_part in ids.items():
            of_part |= ids_of(getattr(of_language, part))
    assert not ids["train"] & ids["validation"]
    assert not ids["train"] & ids["test"]
    assert not ids["validation"] & ids["test"]
    count = len(german) // 10
    assert len(read["de"].validation) == len(read["de"].test) == count


def test_dropped_translations_are_counted(setup, capsys):
    write_translations(setup, de=range(30), en=range(10, 50))
    setup.train("--strategy", "multilingual", "--validation-share", "0.1")
    printed = capsys.readouterr().out
    counts = re.findall(
        "(de|en): dropped ([0-9]+) pairs with translations among the validation or test pairs",
        printed,
    )
    rows = {"de": 30, "en": 40}
    assert counts
    for language, dropped in counts:
        (trained_on,) = re.findall(f"^ *{language} +([0-9]+) ", printed, re.MULTILINE)
        assert int(trained_on) == 0.8 * rows[language] - int(dropped)


def test_a_model_of_a_version_that_ignored_ids_is_refused(setup, error):
    write_translations(setup, de=range(20), en=range(20))
    setup.train("--strategy", "multilingual")
    path = setup.models / "multilingual" / "run.json"
    record = read_json(path)
    assert list(record["settings"].pop("split")) == ["de", "en"]
    write_json(path, record)
    message = error("--strategy", "multilingual")
    assert "multilingual contains results of another run: its split was different" in message


def test_the_split_is_recorded_of_languages_with_ids_alone(setup):
    setup.train("--strategy", "multilingual")
    assert "split" not in setup.record("multilingual")["settings"]
    shutil.rmtree(setup.models)
    write_translations(setup, de=[1, 2, 3, *[None] * 20])
    setup.train("--strategy", "multilingual")
    assert list(setup.record("multilingual")["settings"]["split"]) == ["de"]
    setup.train("--strategy", "multilingual")  # is there


# Several learning rates

RATES = ["--strategy", "multilingual", "aura", "--lr", "0.02", "0.0005", "0.005"]
AT_RATES = {"multilingual@0.0005", "multilingual@0.005", "multilingual@0.02"}
TOO_HIGH = ["--strategy", "multilingual", "--warmup", "0", "--lr"]


@pytest.fixture
def made(monkeypatch) -> list[float]:
    """The learning rate of every model that is tuned."""
    make_model = train.training.make_model
    rates = []

    def make(model, plan, pairs, hyper, *more):
        if plan.scale is None:
            rates.append(hyper.lr)
        return make_model(model, plan, pairs, hyper, *more)

    monkeypatch.setattr(train.training, "make_model", make)
    return rates


def names_of(models: Path) -> set[str]:
    return {path.name for path in models.iterdir()}


def test_the_model_of_lowest_validation_loss_has_the_name_of_the_strategy(
    setup, tmp_path, capsys, made
):
    setup.train(*RATES)
    printed = capsys.readouterr().out
    assert made == [0.0005, 0.005, 0.02]
    (chosen,) = AT_RATES - names_of(setup.models)
    assert names_of(setup.models) == AT_RATES - {chosen} | {"multilingual", "aura"}

    # each is the model that a run at this rate alone makes
    losses = {}
    for name in AT_RATES:
        rate = name.partition("@")[2]
        folder = setup.models / ("multilingual" if name == chosen else name)
        record = read_json(folder / "run.json")
        assert record["settings"]["lr"] == float(rate)
        assert record["settings"]["rates"] == [0.0005, 0.005, 0.02]
        losses[name] = np.mean([of["after"] for of in record["validation"].values()])
        alone = tmp_path / rate
        shutil.copytree(setup.out / "neurons", alone / "neurons")
        setup.train("--strategy", "multilingual", "--lr", rate, "--out", str(alone))
        for file in ("model.safetensors", "config.json"):
            expected = (alone / "models" / "multilingual" / file).read_bytes()
            assert (folder / file).read_bytes() == expected
    assert min(losses, key=losses.get) == chosen

    # what is printed
    (line,) = re.findall(r"multilingual +[\d.]+\*? +[\d.]+\*? +[\d.]+\*?\n", printed)
    for cell, name in zip(line.split()[1:], sorted(AT_RATES), strict=True):
        assert cell == f"{losses[name]:.3f}" + "*" * (name == chosen)
    assert "rates" not in setup.record("aura")["settings"]
    test = setup.record("multilingual")["test"].values()
    assert f" -> {np.mean([of['after'] for of in test]):.3f}" in printed.split("Results")[1]


def test_after_several_rates_the_same_command_makes_nothing(setup, capsys, made):
    setup.train(*RATES)
    before = setup.files()
    tables = capsys.readouterr().out.split("Validation loss by")[1]
    made.clear()
    setup.train(*RATES)
    assert setup.files() == before and not made
    assert capsys.readouterr().out.split("Validation loss by")[1] == tables

    # nor if only the chosen model was kept
    for name in AT_RATES & names_of(setup.models):
        shutil.rmtree(setup.models / name)
    setup.train(*RATES)
    assert not made and names_of(setup.models) == {"multilingual", "aura"}
    (line,) = re.findall(r"multilingual( +[-*.\d]+){3}\n", capsys.readouterr().out)


@pytest.mark.parametrize("made_before", [0, 1, 2, 3])
def test_after_an_interrupt_the_other_rates_are_made(setup, monkeypatch, made, made_before):
    setup.train(*RATES)
    expected = setup.files()
    shutil.rmtree(setup.models)
    made.clear()
    replace = train.rates.os.replace
    done = iter(range(made_before))

    def interrupt(source, target):
        # a model that is finished, or renamed
        if Path(source).name.startswith("multilingual") and next(done, None) is None:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(train.rates.os, "replace", interrupt)
        setup.train(*RATES)
    assert "multilingual" not in names_of(setup.models)
    made.clear()
    setup.train(*RATES)
    assert made == [0.0005, 0.005, 0.02][made_before:]
    assert setup.files() == expected


def test_a_rate_that_fails_is_named_and_not_chosen(setup, capsys, made):
    setup.train(*TOO_HIGH, "0.004", "1e6")
    assert made == [0.004, 1e6]
    assert setup.record("multilingual")["settings"]["lr"] == 0.004
    assert names_of(setup.models) == {"multilingual", "multilingual@1e+06.failed.json"}
    printed = capsys.readouterr().out
    assert re.search(r"multilingual@1e\+06 failed: all: step [2-5] of 5: the loss is ", printed)
    assert re.search(r"multilingual +[\d.]+\* +failed\n", printed)
    assert "multilingual at 1e+06: all: step " in printed

    # a rerun does not try again
    tables = printed.split("Validation loss by")[1]
    setup.train(*TOO_HIGH, "0.004", "1e6")
    assert len(made) == 2
    assert capsys.readouterr().out.split("Validation loss by")[1] == tables


def test_a_kill_while_a_failure_is_recorded_loses_nothing(setup, made, monkeypatch):
    """The record comes first; what is left of the work is removed by the rerun."""

    def interrupt(model):
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(train.rates, "remove_work", interrupt)
        setup.train(*TOO_HIGH, "0.004", "1e6")
    assert "multilingual@1e+06.failed.json" in names_of(setup.models)
    assert "multilingual@1e+06.partial" in names_of(setup.models)
    setup.train(*TOO_HIGH, "0.004", "1e6")
    assert made == [0.004, 1e6]
    assert names_of(setup.models) == {"multilingual", "multilingual@1e+06.failed.json"}


def test_it_is_an_error_if_every_rate_fails(setup, error, made):
    text = error(*TOO_HIGH, "1e5", "1e6")
    assert "error: multilingual failed at every learning rate: 100000: all: step " in text
    assert "; 1e+06: all: step " in text
    assert "try a lower --lr" in text
    assert len(made) == 2
    assert error(*TOO_HIGH, "1e5", "1e6") == text
    assert len(made) == 2


@pytest.mark.parametrize(
    "change, message",
    [
        (["--lr", "0.004", "1e5"], "its rates was .0.004, 1000000.0., this run's is .0.004, 1000"),
        (["--seed", "1"], "its seed was 0, this run's is 1"),
    ],
)
def test_several_rates_of_another_run_are_not_taken_over(setup, error, change, message):
    setup.train(*TOO_HIGH, "0.004", "1e6")
    before = setup.files()
    arguments = [*TOO_HIGH, "0.004", "1e6", *change]
    assert re.search(f"multilingual contains results of another run: {message}", error(*arguments))
    # a single one is another choice, too
    assert "its rates was" in error(*TOO_HIGH, "0.004")
    assert setup.files() == before

    # the same holds before the choice, for a model and for a failure
    (setup.models / "multilingual").rename(setup.models / "multilingual@0.004")
    assert re.search(f"multilingual@0.004 contains .*{message}", error(*arguments))
    shutil.rmtree(setup.models / "multilingual@0.004")
    if "--seed" in change:
        assert re.search(rf"1e\+06.failed.json contains .*{message}", error(*arguments))


@pytest.mark.parametrize("field", ["format", "settings", "failed"])
def test_a_failure_that_someone_changed_is_refused(setup, error, field):
    setup.train(*TOO_HIGH, "0.004", "1e6")
    path = setup.models / "multilingual@1e+06.failed.json"
    write_json(path, read_json(path) | {field: [3]})
    assert "multilingual@1e+06.failed.json: " in error(*TOO_HIGH, "0.004", "1e6")


def test_a_model_at_one_of_several_rates_that_changed_is_named(setup, error):
    setup.train(*RATES)
    (changed, *_) = AT_RATES & names_of(setup.models)
    (setup.models / "multilingual").rename(setup.models / "elsewhere")
    (setup.models / changed / "chat_template.jinja").write_text("another format")
    assert "chat_template.jinja is not from train.py" in error(*RATES)


def test_the_rate_is_chosen_with_the_first_draw(setup, made):
    arguments = ["--strategy", "random", "--lr", "0.02", "0.0005"]
    setup.train(*arguments, "--draws", "2")
    chosen = setup.record("random-1")["settings"]["lr"]
    assert made == [0.0005, 0.02, chosen]
    assert setup.record("random-2")["settings"]["lr"] == chosen
    assert setup.record("random-2")["settings"]["rates"] == [0.0005, 0.02]
    (other,) = {0.0005, 0.02} - {chosen}
    assert names_of(setup.models) == {"random-1", "random-2", f"random-1@{other:g}"}

    # more draws later, and fewer again
    before = setup.files()
    made.clear()
    setup.train(*arguments, "--draws", "3")
    assert made == [chosen]
    shutil.rmtree(setup.models / "random-3")
    setup.train(*arguments, "--draws", "2")
    assert setup.files() == before


def test_a_draw_at_another_rate_than_the_first_is_refused(setup, error):
    arguments = ["--strategy", "random", "--draws", "2", "--lr", "0.02", "0.0005"]
    setup.train(*arguments)
    path = setup.models / "random-2" / "run.json"
    record = read_json(path)
    write_json(path, record | {"settings": record["settings"] | {"lr": 0.3}})
    assert "random-2 contains results of another run: its lr was 0.3" in error(*arguments)


def test_several_rates_need_validation_pairs_unless_nothing_is_tuned(setup, error):
    rates = ["--validation-share", "0", "--lr", "0.02", "0.0005"]
    text = error("--strategy", "aura", "multilingual", *rates)
    assert "--lr: no validation pairs can choose among several rates of multilingual" in text
    assert not setup.models.exists()
    setup.train("--strategy", "aura", *rates)
    setup.train("--strategy", "multilingual", *rates[:-1])


def test_a_model_of_one_language_has_the_rate_that_suits_it(setup):
    """Its loss in other languages, on whose pairs it is not tuned, does not matter."""
    setup.train("--strategy", "per-language", "--independent", "--lr", "0.05", "1e-5")
    for language in ("de", "en"):
        losses = {}
        for name in names_of(setup.models):
            if name.startswith(f"per-language-{language}"):
                record = setup.record(name)
                losses[name] = record["validation"][language]["after"]
        assert len(losses) == 2
        assert min(losses, key=losses.get) == f"per-language-{language}"


def test_a_patch_is_of_the_chosen_model(setup):
    setup.train(*RATES, "--delta")
    patches = {path.name for path in setup.models.glob("*.safetensors")}
    assert patches == {"multilingual.delta.safetensors", "aura.delta.safetensors"}


def test_models_at_several_rates_can_be_evaluated(setup):
    setup.train(*RATES)
    folders = candidates.find(None, setup.model, setup.out)
    assert folders.keys() == {"base", *names_of(setup.models)}
    usable, failed = candidates.open_all(
        folders, partial(candidates.open_one, device=torch.device("cpu"), dtype=torch.float32)
    )
    assert len(usable) == 5 and not failed


def test_the_automatic_rate_is_larger_the_fewer_weights_are_tuned(setup):
    setup.train("--strategy", "full", "multilingual", "--threshold", "0.9")
    assert setup.record("full")["settings"]["lr"] == 0.128 / 32
    record = setup.record("multilingual")
    share = record["chosen"]["weights"] / record["chosen"]["of_weights"]
    assert record["settings"]["lr"] == automatic_rate(32, share, 0.3) > 0.128 / 32
    assert record["settings"]["rates"] == "auto"


def scale_mlp_weights(model: Path, rms: float) -> None:
    """Give the MLP's weights of a model folder another root mean square."""
    weights = load_file(model / "model.safetensors")
    names = [name for name in weights if ".mlp." in name]
    before = torch.cat([weights[name].flatten() for name in names]).square().mean().sqrt()
    for name in names:
        weights[name] *= rms / before
    save_file(weights, model / "model.safetensors")


def test_the_automatic_rate_is_lower_where_the_weights_of_the_mlp_are_small(setup):
    scale_mlp_weights(setup.model, 0.0118)
    setup.train("--strategy", "full")
    assert setup.record("full")["settings"]["lr"] == pytest.approx(0.1 * 0.128 / 32)


def test_there_is_no_automatic_rate_for_weights_that_are_all_zero(setup, error):
    scale_mlp_weights(setup.model, 0.0)
    assert "every weight of its MLP is 0; give --lr" in error("--strategy", "full")


# Errors


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda auroc: auroc.pop("model.layers.1.mlp.up_proj"),
            "module model.layers.1.mlp.up_proj is missing",
        ),
        (
            lambda auroc: auroc.update({"model.layers.1.mlp.up_proj": np.zeros(47)}),
            "model.layers.1.mlp.up_proj has shape [47]",
        ),
    ],
)
def test_neurons_that_do_not_fit_the_model_are_refused(setup, error, change, message):
    change_neurons(setup, change)
    assert message in error()


def test_neurons_of_another_model_are_refused(setup, error):
    write_model(setup.model, seed=5)
    assert "de.safetensors was made from another model; run detect.py on this one" in error()
    assert not setup.models.exists()


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"prompt": "ox", "response": ""}', "de.jsonl:21: field 'response' is empty"),
        ('{"prompt": "ox"}', "de.jsonl:21: field 'response' is missing"),
        ('{"prompt"', "de.jsonl:21: not valid JSON"),
    ],
)
def test_a_broken_pair_names_file_line_and_field_and_nothing_is_written(
    setup, error, line, message
):
    with open(setup.pair_file("de"), "a") as file:
        file.write(line + "\n")
    assert message in error()
    assert not setup.models.exists()


@pytest.mark.parametrize(
    "name", [name for name in strategies.TUNED + strategies.SCALED if name != "full"]
)
def test_an_empty_selection_is_an_error_before_anything_is_trained(setup, error, name):
    message = f"--strategy {name}: no neuron is chosen; check --threshold"
    assert message in error("--threshold", "1", "--strategy", name)
    assert not setup.models.exists()


def test_a_loss_that_explodes_names_the_step_and_its_pairs(setup, error):
    text = error("--strategy", "multilingual", "--lr", "1e6", "--warmup", "0")
    assert re.search("all: step [2-5] of 5: the loss is ", text)
    assert ".jsonl:" in text
    assert "try a lower --lr" in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--strategy", "ful"], "invalid choice: 'ful'"),
        (["--threshold", "0.6", "--top-share", "0.1"], "not allowed with argument"),
        (["--validation-share", "1.5"], "'1.5' is not a number from 0 to 1"),
        (["--lr", "0"], "'0' is not a number from 1e-12 to"),
        (["--dtype", "float16"], "gradients vanish in float16"),
        (["--language", "fr"], "--language fr is not one of de, en"),
        (["--draws", "0"], "'0' is not an integer from 1 to 100"),
        (
            ["--strategy", "swapped", "--languages", "de"],
            "--strategy swapped: there is no second language to take the neurons of",
        ),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_right(setup, capsys, arguments, message):
    assert message in error_of(train.main, setup.arguments(*arguments), capsys)
