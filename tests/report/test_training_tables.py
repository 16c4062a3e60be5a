"""The tables of train.py: the pairs, what will be tuned, and the results."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import training_of

from minitox import neurons
from minitox.errors import InputError
from minitox.files import write_json
from minitox.lm.config import read_config
from minitox.report.matching import one_training
from minitox.report.training_tables import (
    memory,
    pairs_table,
    plan_table,
    rate_table,
    read_result,
    result_table,
    tuned_table,
)
from minitox.train.pairs import Pairs
from minitox.train.plans import Plan
from minitox.train.strategies import Stage, count_weights


def test_pairs_are_counted_with_their_tokens():
    long = SimpleNamespace(ids=[1, 2, 3, 4, 5], reply_tokens=2)
    short = SimpleNamespace(ids=[1, 2, 3], reply_tokens=1)
    german = Pairs([long, short], [short], [], dropped=4, dropped_tokens=2_000, data_hash="")
    french = replace(german, dropped_whole=False)
    section = pairs_table({"de": german, "fr": french})
    assert section.columns[1:4] == ["pairs", "validation", "test"]
    assert section.rows == [
        ["de", "2", "1", "0", "4", "2,000", "8", "3"],
        ["fr", "2", "1", "0", "4", "over 2,000", "8", "3"],
    ]


def test_what_will_be_tuned_is_shown_stage_by_stage(folder):
    config = read_config(folder)
    rows = neurons.module_rows(config)
    toxic = {name: np.arange(count) % 2 == 0 for name, count in rows.items()}
    first_half = {name: np.arange(count) < count // 2 for name, count in rows.items()}
    total = count_weights(config, None)
    half = count_weights(config, toxic)
    halved = {name: np.where(chosen, 0.5, 1) for name, chosen in toxic.items()}
    plans = [
        Plan("full", [Stage("all", None, [])]),
        Plan("random", [Stage("all", first_half, [])], draw=1),
        Plan("random", [Stage("all", toxic, [])], draw=2),
        Plan("aura", scale=halved),
    ]
    stage = {"name": "all", "optimizer_bytes": 8_659_968, "pairs": 1_000, "steps": 125}
    rates = {"full": [0.001], "random-1": [0.001, 0.0123456789], "aura": []}
    stages = {"full": [stage], "random-1": [stage], "random-2": [stage], "aura": []}
    section = plan_table(plans, stages, rates, toxic, config)
    count = neurons.count(toxic)
    assert section.text == (
        f"The model has {total:,} weights and {2 * count:,} neurons. "
        f"{count:,} neurons are toxic in at least one language."
    )
    cost = ["8.7 MB", "1,000", "125"]
    share = f"{half / total:.1%}"
    assert section.rows == [
        ["full", "all", "all", "-", f"{total:,}", "100.0%", *cost, "0.001"],
        ["random", "all", f"{count:,}", "50%", f"{half:,}", share, *cost, "0.001, 0.0123457"],
        ["aura", "", f"{count:,}", "100%", f"{half:,}", share, "scaled, not tuned", *[""] * 3],
    ]
    assert section.notes == ["random: 2 draws; toxic is of the first"]


def test_neurons_that_another_selector_chose_are_not_called_toxic(folder):
    config = read_config(folder)
    rows = neurons.module_rows(config)
    chosen = {name: np.arange(count) % 2 == 0 for name, count in rows.items()}
    plans = [Plan("random", [Stage("all", chosen, [])], draw=draw, by="taylor") for draw in (1, 2)]
    stage = {"name": "all", "optimizer_bytes": 1_000, "pairs": 10, "steps": 2}
    names = [plan.name for plan in plans]
    stages = dict.fromkeys(names, [stage])
    section = plan_table(plans, stages, dict.fromkeys(names, [0.001]), chosen, config)
    assert section.text.endswith("neurons are chosen by taylor in at least one language.")
    assert section.columns[2:4] == ["neurons", "chosen by taylor"]
    assert [row[0] for row in section.rows] == ["taylor-random"]
    assert section.notes == ["taylor-random: 2 draws; chosen by taylor is of the first"]


def test_a_result_is_what_is_frozen_what_changed_and_the_mean_test_loss():
    proof = {"frozen_weights": 610_624, "tuned_weights": 471_872, "changed": 0.9996}
    losses = {
        "de": {"pairs": 4, "before": 2.0, "after": 0.5},
        "en": {"pairs": 4, "before": 3.0, "after": 1.0},
        "fr": {"pairs": 0, "before": None, "after": None},
    }
    everything = {"frozen_weights": 0, "tuned_weights": 1_082_496, "changed": 1.0}
    section = result_table(
        {
            "multilingual": {"proof": proof, "test": losses, "settings": {"lr": 0.004}},
            "aura": {"proof": everything, "test": {"fr": losses["fr"]}, "settings": {}},
        }
    )
    assert section.title == "Results" and section.columns[-1] == "test loss"
    assert section.rows == [
        [
            "multilingual",
            "610,624",
            "bit-identical",
            "471,872",
            "100.0%",
            "0.004",
            "2.500 -> 0.750",
        ],
        ["aura", "0", "", "1,082,496", "100.0%", "-", "-"],
    ]


def test_a_test_loss_that_rose_is_a_note_with_lower_rates_to_try():
    proof = {"frozen_weights": 610_624, "tuned_weights": 471_872, "changed": 0.9996}
    rose = {"de": {"pairs": 4, "before": 2.0, "after": 1.9}, "en": {"before": 3.0, "after": 3.2}}
    fell = {"de": {"pairs": 4, "before": 2.0, "after": 1.0}}
    without = {"de": {"pairs": 0, "before": None, "after": None}}
    results = {
        "full": {"proof": proof, "test": rose, "settings": {"lr": 0.0064}},
        "multilingual": {"proof": proof, "test": fell, "settings": {"lr": 0.01}},
        "random-1": {"proof": proof, "test": without, "settings": {"lr": 0.01}},
        "aura": {"proof": proof, "test": rose, "settings": {}},  # nothing was tuned
    }
    note = (
        "The test loss of full is higher than before tuning: the learning rate is too high for "
        "this model. Try lower ones in another --out, as with --lr 1.0e-04 4.0e-04 1.6e-03"
    )
    assert result_table(results).notes[-1] == note
    del results["full"]
    assert not any("too high" in note for note in result_table(results).notes)


def test_with_dpo_a_result_has_margins_accuracy_and_the_loss_on_replies_beside_its_own_loss():
    proof = {"frozen_weights": 0, "tuned_weights": 10, "changed": 1.0}
    loss = {"de": {"pairs": 4, "before": 0.7, "after": 0.1}}
    record = {"proof": proof, "test": loss, "settings": {"lr": 0.004}}
    measured = {
        "de": {"margin": 2.0, "accuracy": 1.0, "reply_loss": 1.5},
        "en": {"margin": 4.0, "accuracy": 0.5, "reply_loss": 2.5},
        "fr": dict.fromkeys(("margin", "accuracy", "reply_loss")),
    }
    preferences = {"test": measured, "validation": {}}
    section = result_table({"full": record, "dpo-full": record | {"preferences": preferences}})
    assert section.columns[-3:] == ["reward margin", "accuracy", "loss on replies"]
    assert [row[-4:] for row in section.rows] == [
        ["0.700 -> 0.100", "-", "-", "-"],
        ["0.700 -> 0.100", "3.000", "75.0%", "2.000"],
    ]
    assert any("with DPO: per pair, of its own loss" in note for note in section.notes)


def test_the_losses_at_several_rates_are_shown_with_the_choice_and_the_failures():
    tried = {
        "full": {0.001: 0.25, 0.004: 0.26, 0.016: "all: step 3: the loss is nan"},
        "random-1": {0.001: 0.5, 0.004: 0.4, 0.016: None},
    }
    results = {"full": {"settings": {"lr": 0.001}}, "random-1": {"settings": {"lr": 0.004}}}
    (section,) = rate_table(tried, results)
    assert section.columns == ["", "0.001", "0.004", "0.016"]
    assert section.rows == [
        ["full", "0.250*", "0.260", "failed"],
        ["random-1", "0.500", "0.400*", "-"],
    ]
    assert section.notes[1:] == ["full at 0.016: all: step 3: the loss is nan"]
    assert list(rate_table({}, {})) == []


@pytest.mark.parametrize(
    "field, value",
    [
        ("settings", None),
        ("settings", {"lr": "0.004"}),
        ("proof", {}),
        ("validation", {"de": {"pairs": 1, "before": 2.0}}),
        ("test", {"de": {"pairs": 1, "before": 2.0, "after": "low"}}),
    ],
)
def test_a_result_that_someone_changed_is_refused(tmp_path, field, value):
    path = tmp_path / "run.json"
    losses = {"de": {"pairs": 1, "before": 2.0, "after": None}}
    record = {
        "settings": {"lr": 0.004},
        "proof": {"frozen_weights": 1, "tuned_weights": 1, "changed": 1.0},
        "validation": losses,
        "test": losses,
    }
    write_json(path, record)
    assert read_result(path) == record
    write_json(path, record | {field: value})
    with pytest.raises(InputError, match="is not as minitox wrote it"):
        read_result(path)


def test_the_models_of_a_report_are_shown_with_the_settings_that_differ():
    trainings = {
        "full": training_of("full", {"toxic": None, "neurons": 100}),
        "random": training_of("random", {"toxic": 19}, epochs=2),
        "mine": None,
        "other": training_of("aura", top_share=0.1),
    }
    (section,) = tuned_table(trainings)
    different = ["strategy", "epochs", "top_share"]
    assert section.columns == ["", "neurons", "of all", "toxic", "weights", "of model", *different]
    assert section.rows == [
        ["full", "100", "100.0%", "-", "4,000", "20.0%", "full", "1", "-"],
        ["random", "40", "40.0%", "47.5%", "4,000", "20.0%", "random", "2", "None"],
        ["mine", "not known", *["-"] * 7],
        ["other", "40", "40.0%", "75.0%", "4,000", "20.0%", "aura", "-", "0.1"],
    ]
    same = section.notes[1]
    assert same.startswith("the same for all that depend on it: device cpu; dtype torch.float32; ")
    assert "languages de,en; " in same and "damp 0.5" in same
    assert "epochs" not in same and "hash" not in same and "None" in same

    # with DPO, all have an objective
    trainings["dpo-full"] = training_of("full", {"toxic": None, "neurons": 100}, objective="dpo")
    (section,) = tuned_table(trainings)
    column = section.columns.index("objective")
    assert [row[column] for row in section.rows] == ["sft", "sft", "-", "-", "dpo"]
    assert "beta 0.1; label_smoothing 0.0" in section.notes[1]
    del trainings["dpo-full"]

    # the strategies are the names
    del trainings["other"]
    assert "strategy" not in next(tuned_table(trainings)).columns
    assert list(tuned_table({})) == []
    (unknown,) = tuned_table({"mine": None})
    assert unknown.rows == [["mine", "not known", "-", "-", "-", "-"]] and len(unknown.notes) == 1


def test_a_model_of_several_draws_has_their_mean_counts_and_says_so():
    of_draws = [training_of("random", {"toxic": toxic}, lr=0.002) for toxic in (19, 21)]
    trainings = {
        "random": one_training(of_draws),
        "multilingual": training_of("multilingual", lr=0.002),
    }
    (section,) = tuned_table(trainings)
    assert [row[0] for row in section.rows] == ["random", "multilingual"]
    assert section.rows[0][1:4] == ["40", "40.0%", "50.0%"]
    assert section.notes[-1] == "random: 2 draws; the counts are their means"
    assert "lr 0.002" in section.notes[1]


def test_models_of_other_splits_have_other_hashes_in_their_rows():
    trainings = {name: training_of("multilingual") for name in ("one", "another")}
    for name, training in trainings.items():
        training["settings"]["split"] = {"de": name}
    (section,) = tuned_table(trainings)
    assert section.columns[-1] == "split"
    assert len({row[-1] for row in section.rows}) == 2
    assert any(note.startswith("split: the first digits of a hash") for note in section.notes)
    trainings["another"]["settings"]["split"] = {"de": "one"}
    (section,) = tuned_table(trainings)
    assert "split" not in [*section.columns, *" ".join(section.notes).split()]


def test_models_of_other_files_have_other_hashes_in_their_rows():
    trainings = {
        "multilingual": training_of("multilingual"),
        "mine": training_of("multilingual", data={"de": "another"}),
        "full": training_of("full"),
        "aura": training_of("aura", neurons={"de": "another"}),
    }
    (section,) = tuned_table(trainings)
    assert section.columns[6:] == ["strategy", "neuron files", "pair files"]
    rows = {row[0]: row[7:] for row in section.rows}
    files, pairs = rows["multilingual"]
    assert len(files) == len(pairs) == 8
    assert rows["full"] == ["-", pairs]
    assert rows["mine"][0] == files and rows["mine"][1] != pairs
    assert rows["aura"][0] != files and rows["aura"][1] == "-"
    assert any(note.startswith("base, pair files, neuron files: ") for note in section.notes)

    trainings = {"full": training_of("full"), "random": training_of("random", model="another")}
    (section,) = tuned_table(trainings)
    assert section.columns[6:] == ["base"]
    assert section.rows[0][6] != section.rows[1][6]


def test_models_that_chose_the_same_neurons_are_named():
    trainings = {
        "full": training_of("full", {"sha256": None}),
        "whole": training_of("full", {"sha256": None}),
        "multilingual": training_of("multilingual", {"sha256": "a"}),
        "random": training_of("random", {"sha256": "b"}),
        "mine": None,
        "half": training_of("multilingual", {"sha256": "a"}),
    }
    (section,) = tuned_table(trainings)
    assert section.notes[-1] == "exactly the same neurons: multilingual, half"
    del trainings["half"]
    (section,) = tuned_table(trainings)
    assert not any("exactly" in note for note in section.notes)


@pytest.mark.parametrize(
    "count, text",
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (8_659_968, "8.7 MB"),
        (64_000_000_000_000, "64,000.0 GB"),
    ],
)
def test_memory_is_shown_in_the_largest_unit_that_it_fills(count, text):
    assert memory(count) == text
