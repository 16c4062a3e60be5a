"""The report: models of other toxic neurons, and the replies that it shows."""

import numpy as np
import pytest
from measured import drawn, results
from tiny import training_of

from minitox.report.report import failures, other_neurons, replies

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
