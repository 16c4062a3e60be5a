"""Neuron files: read as they were written, refused if broken or made from another model."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as torch_save_file

from minitox import neurons
from minitox.errors import InputError
from minitox.files import FORMAT
from minitox.run.neuron_files import (
    MEASURED,
    SHUFFLED,
    check_alike,
    named_shuffled,
    read_importance,
    read_neurons,
    write_importance,
    write_neurons,
)

UP = "model.layers.0.mlp.up_proj"
ROWS = {
    "model.layers.0.mlp.gate_proj": 3,
    UP: 3,
    "model.layers.0.mlp.down_proj": 2,
}


AUROC = neurons.by_module(np.linspace(0, 1, 8), ROWS)
SHUFFLED_AUROC = neurons.by_module(np.linspace(0.6, 0.4, 8), ROWS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "de.safetensors"


def test_a_file_has_the_aurocs_and_the_controls_that_were_written(path, tmp_path):
    about = {"language": "de", "band": [0.4, 0.6]}
    write_neurons(path, AUROC, SHUFFLED_AUROC, about)
    for shuffled, written in ((False, AUROC), (True, SHUFFLED_AUROC)):
        read, read_about = read_neurons(path, ROWS, shuffled=shuffled)
        assert list(read) == list(ROWS)
        for name in ROWS:
            assert np.array_equal(read[name], written[name].astype(np.float32))
            assert read[name].dtype == np.float32
        assert read_about == about | {"format": FORMAT}
    assert [file.name for file in tmp_path.iterdir()] == ["de.safetensors"]


def test_a_file_without_the_aurocs_of_shuffled_labels_is_refused(path):
    tensors = {name: np.zeros(rows) for name, rows in ROWS.items()}
    save_file(tensors, path, metadata={"detect": json.dumps({"format": FORMAT})})
    message = (
        "de.safetensors has no AUROCs with shuffled labels, so an older version of minitox wrote "
        "it; delete it, and run detect.py"
    )
    with pytest.raises(InputError, match=message):
        read_neurons(path, ROWS)


@pytest.mark.parametrize(
    "change, message",
    [
        ({UP: None}, f"{UP} is missing, the model has 3 rows"),
        ({UP: np.zeros(4)}, r"up_proj has shape \[4\], the model has 3 rows"),
        (
            {"model.layers.1.mlp.up_proj": np.zeros(3)},
            "the model has no module model.layers.1.mlp.up_proj",
        ),
        (
            {UP: np.array([0.5, np.nan, 0.5])},
            "is broken: model.layers.0.mlp.up_proj contains NaN or infinity",
        ),
        (
            {UP: np.array([0.5, 1.5, -0.1])},
            r"up_proj contains AUROC values outside \[0, 1\]",
        ),
        ({SHUFFLED + UP: None}, f"{SHUFFLED}{UP} is missing, the model has 3 rows"),
        (
            {SHUFFLED + UP: np.array([0.5, 1.5, -0.1])},
            r"shuffled.model.layers.0.mlp.up_proj contains AUROC values outside \[0, 1\]",
        ),
    ],
)
def test_a_file_that_is_broken_or_of_another_model_is_refused(path, change, message):
    tensors = {name: np.zeros(rows) for name, rows in ROWS.items()}
    tensors |= {SHUFFLED + name: np.zeros(rows) for name, rows in ROWS.items()} | change
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(tensors, path, metadata={"detect": json.dumps({"format": FORMAT})})
    with pytest.raises(InputError, match=message):
        read_neurons(path, ROWS)


def test_a_file_of_a_model_with_other_weights_is_refused(path):
    write_neurons(path, AUROC, SHUFFLED_AUROC, {"model": "base", "language": "de"})
    assert read_neurons(path, ROWS, fingerprint="base")[1]["model"] == "base"
    with pytest.raises(InputError, match="de.safetensors was made from another model; run detect"):
        read_neurons(path, ROWS, fingerprint="other")


def test_a_file_of_another_language_is_refused(path):
    write_neurons(path, AUROC, SHUFFLED_AUROC, {"language": "en"})
    with pytest.raises(InputError, match="de.safetensors was made from sentences of 'en'"):
        read_neurons(path, ROWS)


def test_aurocs_that_were_measured_in_other_ways_are_not_compared(path):
    alike = {"pool": "max", "dtype": "float32", "data": "of en"}
    check_alike(path, alike | {"data": "of de"}, {"en": alike})
    with pytest.raises(InputError, match="de.safetensors was made with another pool than the file"):
        check_alike(path, alike | {"pool": "mean"}, {"fr": alike, "en": alike})


def test_a_file_of_numbers_that_numpy_does_not_have_is_refused(path):
    both = {name: torch.zeros(rows) for name, rows in (ROWS | named_shuffled(ROWS)).items()}
    both[UP] = both[UP].bfloat16()
    torch_save_file(both, path, metadata={"detect": json.dumps({"format": FORMAT})})
    with pytest.raises(InputError, match=f"de.safetensors is broken: {UP} is torch.bfloat16"):
        read_neurons(path, ROWS)


@pytest.mark.parametrize("place", [0, 1])
def test_values_that_are_no_aurocs_are_not_written(path, place):
    both = [{UP: np.array([0.5, 0.5, 0.5])}, {UP: np.array([0.5, 0.5, 0.5])}]
    both[place][UP][1] = np.nan
    with pytest.raises(InputError, match="outside"):
        write_neurons(path, *both, {"language": "de"})
    assert not path.exists()


def test_a_broken_file_is_named(path):
    with pytest.raises(InputError, match="run detect.py first"):
        read_neurons(path, ROWS)
    path.write_bytes(b"torn")
    with pytest.raises(InputError, match="de.safetensors: not a neuron file"):
        read_neurons(path, ROWS)
    save_file({"a": np.zeros(1)}, path)
    with pytest.raises(InputError, match="metadata lacks 'detect'"):
        read_neurons(path, ROWS)


# Another selector's files

IMPORTANCE = neurons.by_module(np.linspace(0, 40, 8).astype(np.float32), ROWS)
ABOUT = {"language": "de", "selector": "taylor", "model": "ours"}


def test_a_file_of_importance_has_values_above_1_and_no_shuffled_ones(path):
    write_importance(path, IMPORTANCE, ABOUT)
    read, about = read_importance(path, ROWS, "taylor", "ours")
    assert list(read) == list(ROWS)
    assert all(np.array_equal(read[name], IMPORTANCE[name]) for name in ROWS)
    assert about == ABOUT | {"format": FORMAT}


@pytest.mark.parametrize(
    "change, about, message",
    [
        ({UP: None}, {}, f"{UP} is missing, the model has 3 rows"),
        ({UP: np.zeros(4)}, {}, r"up_proj has shape \[4\], the model has 3 rows"),
        ({UP: np.array([0, -1, 0.5])}, {}, "up_proj contains negative values"),
        ({UP: np.array([0, np.nan, 0.5])}, {}, "up_proj contains NaN or infinity"),
        ({"other": np.zeros(2)}, {}, "the model has no module other"),
        ({}, {"language": "fr"}, "was made from sentences of 'fr'; give it back its name"),
        ({}, {"model": "theirs"}, "was made from another model"),
        ({}, {"selector": "auroc"}, "was made with --select auroc, not taylor; check --by and"),
    ],
)
def test_a_file_of_importance_that_does_not_fit_is_refused(path, change, about, message):
    values = {name: rows for name, rows in (IMPORTANCE | change).items() if rows is not None}
    write_importance(path, values, ABOUT | about)
    with pytest.raises(InputError, match=message):
        read_importance(path, ROWS, "taylor", "ours")


def test_the_files_of_two_selectors_are_not_taken_for_each_other(path):
    write_importance(path, IMPORTANCE, ABOUT)
    with pytest.raises(InputError, match="was made with --select taylor, not auroc; check --by"):
        read_neurons(path, ROWS)
    write_neurons(path, AUROC, SHUFFLED_AUROC, {"language": "de"})
    with pytest.raises(InputError, match="was made with --select auroc, not taylor"):
        read_importance(path, ROWS, "taylor")


def test_a_missing_file_says_which_command_makes_it(path):
    with pytest.raises(InputError, match="no such file; run detect.py --select taylor first"):
        read_importance(path, ROWS, "taylor")


def test_what_files_that_are_compared_have_in_common_are_all_settings_of_neurons():
    assert {"pool", "seed", "sentences", "max_tokens", "dtype", "device"} <= {*MEASURED}
    assert not {"model", "data", "language"} & {*MEASURED}
