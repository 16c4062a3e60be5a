"""The report: other toxic neurons, copies of test prompts, and the replies that it shows."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from measured import drawn, results
from tiny import training_of, write_jsonl

from minitox.files import file_hash
from minitox.report.report import (
    failures,
    numbers,
    of_other_files,
    other_neurons,
    replies,
    seen_before,
)
from minitox.report.scorer_tables import Opinion
from minitox.run.overlap_check import Copies

FILE = {"de": {"sha256": "hash of a file"}}


@pytest.mark.parametrize(
    "changes, choice",
    [
        ({}, None),
        ({"top_share": 0.1}, "those of highest AUROC, 10.0% of all"),
        ({"threshold": 0.6}, "AUROC above 0.6"),
        ({"neurons": {"de": "another"}}, "other neuron files"),
        ({"neurons": {"en": "hash of a file"}}, "other neuron files"),
    ],
)
def test_models_with_other_toxic_neurons_than_those_of_table_2_are_named(changes, choice):
    measured = results(base={"de": 0.6}, multilingual={"de": 0.2}, full={"de": 0.1}, own={"de": 0})
    measured.infos = FILE
    measured.trainings["multilingual"] = training_of("multilingual", **changes)
    measured.trainings["full"] = training_of("full", **changes)  # it needs no neurons
    measured.trainings["own"] = None
    note = f"made with other toxic neurons than these: multilingual ({choice})"
    assert other_neurons(measured) == ([note] if choice else [])


def test_models_of_another_selector_are_named_below_table_2_as_such():
    measured = results(base={"de": 0.6}, multilingual={"de": 0.2})
    measured.infos = FILE
    of_taylor = training_of("multilingual", by="taylor", top_share=0.02)
    measured.trainings["taylor-multilingual"] = of_taylor
    measured.replies["taylor-multilingual"] = measured.replies["multilingual"]
    assert other_neurons(measured) == [
        "made with other toxic neurons than these: taylor-multilingual (2.0% of all in each "
        "language, by taylor)"
    ]


@pytest.mark.parametrize(
    "selected, reason",
    [
        ({"taylor": {"de": "hash of a file"}}, None),
        ({"taylor": {"de": "another"}}, "taylor-multilingual (neurons of de)"),
        ({"taylor": {}}, "taylor-multilingual (neurons of de)"),
        ({}, "taylor-multilingual (neurons of de)"),
    ],
)
def test_the_neurons_of_another_selector_are_compared_with_its_own_files(
    tmp_path, selected, reason
):
    write_jsonl(tmp_path / "instructions" / "de.jsonl", [{"prompt": "ox", "response": "soup"}])
    measured = results(base={"de": 0.2})
    measured.replies["taylor-multilingual"] = measured.replies["base"]
    data = {"de": file_hash(tmp_path / "instructions" / "de.jsonl")}
    changes = {"by": "taylor", "top_share": 0.02, "data": data}
    measured.trainings["taylor-multilingual"] = training_of("multilingual", **changes)
    measured.selected = selected
    assert of_other_files(measured, tmp_path) == ([reason] if reason else [])


CODES = ["de", "en", "fr"]


def test_copies_of_test_prompts_are_a_row_a_language_and_a_column_a_source():
    section = seen_before(
        {
            "detection": {"de": Copies(["a:1", "a:2"], ["a:3"]), "en": Copies()},
            "surrogate-1": {"en": Copies(["p:1"])},
            "perspective": None,
        },
        CODES,
    )
    assert section.columns == ["", "detection", "surrogate-1", "perspective"]
    assert section.rows == [
        ["de", "2 exact, 1 near", "-", "not known"],
        ["en", "none", "1 exact", "not known"],
        ["fr", "-", "-", "not known"],
    ]
    assert "The training texts of perspective are not known." in section.notes


def test_without_copies_it_is_a_sentence_that_names_what_was_compared():
    none = {"detection": {"de": Copies()}, "perspective": None, "surrogate-1": {"de": Copies()}}
    section = seen_before(none, CODES)
    assert section.text == "None in: detection, surrogate-1."
    assert not section.columns
    assert "The training texts of perspective are not known." in section.notes
    assert "Nothing was compared." in seen_before({"perspective": None}, CODES).text


# the hash of the pairs below without the rejected reply
SFT = hashlib.sha256(b'{"prompt": "ox", "response": "soup"}\n').hexdigest()


@pytest.mark.parametrize(
    "changes, neurons, reason",
    [
        ({}, None, None),
        ({"data": {"fr": "of a language without prompts"}}, None, None),
        ({"data": {"de": "another"}}, None, "full, multilingual (pairs of de)"),
        ({"objective": "dpo"}, None, None),
        ({"objective": "dpo", "data": {"de": SFT}}, None, "full, multilingual (pairs of de)"),
        ({"data": {"de": SFT}}, None, None),
        (
            {"data": {"de": "another", "en": "of no file"}},
            None,
            "full, multilingual (pairs of de, en)",
        ),
        ({"neurons": {"de": "another"}}, None, "multilingual (neurons of de)"),
        ({}, {"data": "another"}, "the neurons of de"),
        ({}, {}, "the neurons of de"),
    ],
)
def test_models_and_neurons_of_other_files_than_those_compared_are_named(
    tmp_path, changes, neurons, reason
):
    write_jsonl(tmp_path / "detection" / "de.jsonl", [{"text": "soup", "toxicity": 0}])
    path = tmp_path / "instructions" / "de.jsonl"
    write_jsonl(path, [{"prompt": "ox", "response": "soup"}])
    assert file_hash(path) == SFT
    write_jsonl(path, [{"prompt": "ox", "response": "soup", "rejected": "no soup"}])
    scores = {"de": 0.2, "en": 0.3}
    measured = results(base=scores, full=scores, multilingual=scores, aura=scores)
    if neurons is None:
        neurons = {"data": file_hash(tmp_path / "detection" / "de.jsonl")}
    measured.infos = {"de": FILE["de"] | neurons}
    pairs = {"data": {"de": file_hash(path) if "objective" in changes else SFT}}
    for model in ("full", "multilingual"):
        measured.trainings[model] = training_of(model, **pairs | changes)
    others = of_other_files(measured, tmp_path)
    assert others == ([reason] if reason else [])
    notes = " ".join(seen_before({}, CODES, others).notes)
    named = notes.partition("other files than these, which were not compared: ")[2]
    assert named == (f"{reason}." if reason else "")


def test_a_model_without_run_json_is_named_because_its_pairs_are_not_known(tmp_path):
    measured = results(base={"de": 0.2}, own={"de": 0.1})
    measured.trainings["own"] = None
    assert of_other_files(measured, tmp_path) == ["own (no run.json)"]


def test_the_shown_replies_are_the_most_toxic_and_others_with_those_that_have_no_score():
    measured = results(base={"de": 0.5, "en": None})
    replies_of = measured.replies["base"]
    replies_of["de"].scores[:, 0] = np.linspace(0.1, 1, 10)
    replies_of["en"].status[:, 0] = "empty"
    measured.rows["base"]["en"] = [{"stopped": True, "response": "", "prompt": "y"}] * 10
    (section,) = replies(measured)
    shown = [(row[0], row[1]) for row in section.rows]
    assert shown[:5] == [("de", score) for score in ("1.00", "0.90", "0.80", "0.70", "0.60")]
    assert len(shown) == 10
    assert shown[5:] == [("de", "0.10"), ("de", "0.40"), *[("en", "empty")] * 3]
    assert section.rows[-1][3] == ""


def test_what_is_unknown_is_three_times_none_for_other_programs():
    scorer = SimpleNamespace(name="s")
    aucs = {"de": (0.5, 0.4, 0.6), "ja": (np.nan, np.nan, np.nan)}
    measures = numbers([Opinion(scorer, results(base={"de": 0.5, "ja": None}), aucs, {})], 0.02)
    unknown = [None, None, None]
    assert measures["scorers"] == {"s": {"de": [0.5, 0.4, 0.6], "ja": unknown}}
    assert measures["toxicity"] == {"base": {"de": [0.5, 0.5, 0.5], "ja": unknown}}


def test_draws_prediction_intervals_and_verdicts_are_there_for_other_programs():
    draws = drawn("random", 0.28, 0.29, 0.30, 0.31, 0.32)
    few = drawn("random-aura", 0.4, 0.5)
    of_rates = {"multilingual@0.1": {"de": 0.9}}
    models = {"aura": {"de": 0.5}, "multilingual": {"de": 0.2}, "per-language": {"de": 0.1}}
    measured = results(base={"de": 0.6}, **models, **of_rates, **draws, **few)
    measures = numbers([Opinion(SimpleNamespace(name="s"), measured, {}, {})], 0.03)
    measures = json.loads(json.dumps(measures))
    assert measures["draws"] == {"random": list(draws), "random-aura": list(few)}
    assert measures["toxicity"]["random-2"]["de"] == pytest.approx([0.29] * 3)
    assert measures["toxicity"]["random"]["de"] == pytest.approx([0.3] * 3)
    assert measures["toxicity"]["multilingual@0.1"]["de"] == pytest.approx([0.9] * 3)
    assert measures["mean toxicity"]["random"] == pytest.approx([0.3] * 3)
    assert measures["clean in language"]["random-2"]["de"][0] == 1
    assert measures["languages of the mean"] == ["de"]

    verdict = measures["verdicts"].pop("multilingual")
    assert verdict["verdict"] == "better" and verdict["margin"] == 0.03
    assert verdict["draws"] == {name: pytest.approx(of["de"]) for name, of in draws.items()}
    assert verdict["difference"] == pytest.approx([-0.1] * 3)
    assert verdict["one more draw"] == pytest.approx([0.3, 0.3 - 0.04808, 0.3 + 0.04808], abs=1e-4)
    assert measures["verdicts"]["aura"]["verdict"] is None
    assert measures["verdicts"]["aura"]["reason"] == "fewer than 5 draws"
    assert measures["verdicts"]["aura"]["one more draw"][0] == pytest.approx(0.45)
    assert measures["verdicts"]["per-language"] == {
        "verdict": None,
        "reason": "no draws of random-per-language",
    }


def test_replies_of_several_draws_are_counted_and_shown_together():
    measured = results(base={"de": 0.5}, **drawn("random", 0.1, 0.9))
    measured.rows["random-2"]["de"][0] = {"stopped": False, "response": "x", "prompt": "y"}
    assert [row[:2] for row in failures(measured, {}).rows] == [["base", "10"], ["random", "20"]]
    assert failures(measured, {}).rows[1][-1] == "1"
    _, section = replies(measured)
    assert section.title == "Replies of random"
    assert sorted(row[1] for row in section.rows) == ["0.10"] * 4 + ["0.90"] * 6


def test_of_few_replies_all_are_shown():
    measured = results(base={"de": 0.5})
    (section,) = replies(measured)
    assert len(section.rows) == 10
