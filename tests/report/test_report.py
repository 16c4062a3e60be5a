"""The report names the models whose toxic neurons are not those of its Table 2."""

import pytest
from measured import results
from tiny import training_of

from minitox.report.report import other_neurons

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
