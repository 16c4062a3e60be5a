"""Sets of neurons: chosen strictly, counted exactly, and imitated fairly."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from minitox import neurons
from minitox.errors import InputError

ROWS = {
    "model.layers.0.mlp.gate_proj": 3,
    "model.layers.0.mlp.up_proj": 3,
    "model.layers.0.mlp.down_proj": 2,
}


def masks_of(*sets):
    """Masks over the eight neurons of ROWS, given by number."""
    return [neurons.by_module(np.isin(np.arange(8), list(chosen)), ROWS) for chosen in sets]


def chosen(mask) -> set:
    return set(np.flatnonzero(np.concatenate(list(mask.values()))).tolist())


def test_toxic_is_strictly_above_the_threshold():
    auroc = neurons.by_module(
        np.array([0.5, 0.51, 0.49, 1, 0, 0.5, 0.7, 0.6], dtype=np.float32), ROWS
    )
    assert chosen(neurons.select(auroc)) == {1, 3, 6, 7}
    assert chosen(neurons.select(auroc, 0.65)) == {3, 6}


@pytest.mark.parametrize(
    "share, expected", [(0, set()), (1 / 8, {3}), (3 / 8, {3, 0, 1}), (1, set(range(8)))]
)
def test_the_top_share_is_exact_even_among_ties(share, expected):
    auroc = neurons.by_module(np.array([0.7, 0.7, 0.7, 0.9, 0.1, 0.7, 0.7, 0.7]), ROWS)
    assert chosen(neurons.select_top(auroc, share)) == expected


def test_union_and_intersection():
    a, b, c = masks_of({0, 1, 2}, {1, 2, 3}, {2, 7})
    assert chosen(neurons.union([a, b, c])) == {0, 1, 2, 3, 7}
    assert chosen(neurons.intersection([a, b, c])) == {2}


def test_overlap_against_chance():
    a, b, empty = masks_of({0, 1, 2, 3}, {2, 3, 4, 5}, set())
    assert neurons.overlap(a, b) == (2, 1.0)  # half of eight meets half of eight in two by chance
    assert neurons.overlap(a, a) == (4, 2.0)
    assert np.isnan(neurons.overlap(a, empty)[1])


def test_sharing_counts_every_neuron_once():
    a, b, c = masks_of({0, 1, 2}, {1, 2, 3}, {2, 7})
    assert neurons.sharing({"a": a, "b": b, "c": c}) == {
        "a": (1, 1, 1),
        "b": (1, 1, 1),
        "c": (1, 0, 1),
    }
    assert neurons.sharing({"a": a}) == {"a": (3, 0, 0)}


def test_the_random_control_has_the_same_size_in_every_module():
    rng = np.random.default_rng(0)
    mask = {name: rng.random(200) < 0.3 for name in ROWS}
    control = neurons.random_like(mask, seed=1)
    assert {name: int(rows.sum()) for name, rows in control.items()} == {
        name: int(rows.sum()) for name, rows in mask.items()
    }
    assert neurons.overlap(mask, control)[1] == pytest.approx(
        1, abs=0.3
    )  # no more alike than chance
    assert (
        chosen(control)
        == chosen(neurons.random_like(mask, seed=1))
        != chosen(neurons.random_like(mask, seed=2))
    )


def test_a_file_gives_back_what_was_saved(tmp_path):
    auroc = neurons.by_module(np.linspace(0, 1, 8), ROWS)
    write_neurons(tmp_path / "de.safetensors", auroc, {"language": "de", "band": [0.4, 0.6]})
    loaded, info = read_neurons(tmp_path / "de.safetensors", ROWS)
    assert list(loaded) == list(ROWS) and all(
        np.allclose(loaded[name], auroc[name]) for name in ROWS
    )
    assert info == {"language": "de", "band": [0.4, 0.6]}
    assert [path.name for path in tmp_path.iterdir()] == ["de.safetensors"]


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"model.layers.0.mlp.up_proj": None},
            "model.layers.0.mlp.up_proj is missing, the model has 3 rows",
        ),
        (
            {"model.layers.0.mlp.up_proj": np.zeros(4)},
            r"up_proj has shape \[4\], the model has 3 rows",
        ),
        (
            {"model.layers.1.mlp.up_proj": np.zeros(3)},
            "model.layers.1.mlp.up_proj is no part of the model",
        ),
        (
            {"model.layers.0.mlp.up_proj": np.array([0.5, np.nan, 0.5])},
            "up_proj holds numbers that are no AUROC",
        ),
        (
            {"model.layers.0.mlp.up_proj": np.array([0.5, 1.5, -0.1])},
            "up_proj holds numbers that are no AUROC",
        ),
    ],
)
def test_a_file_that_is_broken_or_of_another_model_is_refused(tmp_path, change, message):
    tensors = {**{name: np.zeros(rows) for name, rows in ROWS.items()}, **change}
    save_file(
        {name: tensor for name, tensor in tensors.items() if tensor is not None},
        tmp_path / "de.safetensors",
        metadata={"detect": json.dumps({})},
    )
    with pytest.raises(InputError, match=message):
        read_neurons(tmp_path / "de.safetensors", ROWS)


def test_a_broken_file_is_named(tmp_path):
    with pytest.raises(InputError, match="run detect.py first"):
        read_neurons(tmp_path / "de.safetensors", ROWS)
    (tmp_path / "de.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match="de.safetensors: not a neuron file"):
        read_neurons(tmp_path / "de.safetensors", ROWS)
    save_file({"a": np.zeros(1)}, tmp_path / "de.safetensors")
    with pytest.raises(InputError, match="metadata lacks 'detect'"):
        read_neurons(tmp_path / "de.safetensors", ROWS)
