"""The report names models with other toxic neurons, and copies of test prompts."""

import pytest
from measured import results
from tiny import training_of

from minitox.report.report import other_neurons, seen_before
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
    assert section.text == "None was found in: detection, surrogate-1."
    assert not section.columns
    assert "The training texts of perspective are not known." in section.notes
    assert "nothing was compared" in seen_before({"perspective": None}, CODES).text
