"""Copies of test prompts, and models of which no record says that they were compared."""

import hashlib

import pytest
from measured import results
from tiny import training_of, write_jsonl

from minitox.files import file_hash
from minitox.report.contamination import of_other_files, section
from minitox.run.overlap_check import Copies

FILE = {"de": {"sha256": "hash of a file"}}


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
    table = section(
        {
            "detection": {"de": Copies(["a:1", "a:2"], ["a:3"]), "en": Copies()},
            "surrogate-1": {"en": Copies(["p:1"])},
            "perspective": None,
        },
        CODES,
    )
    assert table.columns == ["", "detection", "surrogate-1", "perspective"]
    assert table.rows == [
        ["de", "2 exact, 1 near", "-", "not known"],
        ["en", "none", "1 exact", "not known"],
        ["fr", "-", "-", "not known"],
    ]
    assert "The training texts of perspective are not known." in table.notes


def test_without_copies_it_is_a_sentence_that_names_what_was_compared():
    none = {"detection": {"de": Copies()}, "perspective": None, "surrogate-1": {"de": Copies()}}
    table = section(none, CODES)
    assert table.text == "None in: detection, surrogate-1."
    assert not table.columns
    assert "The training texts of perspective are not known." in table.notes
    assert "Nothing was compared." in section({"perspective": None}, CODES).text


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
    notes = " ".join(section({}, CODES, others).notes)
    named = notes.partition("other files than these, which were not compared: ")[2]
    assert named == (f"{reason}." if reason else "")


def test_a_model_without_run_json_is_named_because_its_pairs_are_not_known(tmp_path):
    measured = results(base={"de": 0.2}, own={"de": 0.1})
    measured.trainings["own"] = None
    assert of_other_files(measured, tmp_path) == ["own (no run.json)"]
