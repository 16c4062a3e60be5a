"""Sets of neurons: chosen strictly, counted exactly, compared with chance, imitated by size."""

import numpy as np
import pytest
from tiny import CONFIG

from minitox import neurons
from minitox.lm.config import read_config

ROWS = {
    "model.layers.0.mlp.gate_proj": 3,
    "model.layers.0.mlp.up_proj": 3,
    "model.layers.0.mlp.down_proj": 2,
}


def masks_of(*sets: set[int]) -> list[neurons.NeuronMask]:
    """Masks over the eight neurons of ROWS, given by number."""
    return [neurons.by_module(np.isin(np.arange(8), list(numbers)), ROWS) for numbers in sets]


def numbers_of(mask: neurons.NeuronMask) -> set[int]:
    """The numbers of the neurons in a set."""
    return set(np.flatnonzero(np.concatenate(list(mask.values()))).tolist())


def rows_chosen(mask: neurons.NeuronMask) -> dict[str, int]:
    return {name: int(rows.sum()) for name, rows in mask.items()}


def test_a_neuron_is_a_row_of_gate_up_or_down_proj(folder):
    rows = neurons.module_rows(read_config(folder))
    modules = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    names = [f"model.layers.{layer}.{module}" for layer in range(2) for module in modules]
    assert list(rows) == names  # in the order of computation
    width = CONFIG["intermediate_size"]
    assert list(rows.values()) == [width, width, CONFIG["hidden_size"]] * 2


def test_an_array_over_all_neurons_is_cut_into_one_array_a_module():
    parts = neurons.by_module(np.arange(8), ROWS)
    assert list(parts) == list(ROWS)
    assert [part.tolist() for part in parts.values()] == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_toxic_is_strictly_above_the_threshold():
    values = np.array([0.5, 0.51, 0.49, 1, 0, 0.5, 0.7, 0.6], dtype=np.float32)
    auroc = neurons.by_module(values, ROWS)
    assert numbers_of(neurons.select(auroc)) == {1, 3, 6, 7}
    assert numbers_of(neurons.select(auroc, 0.65)) == {3, 6}


@pytest.mark.parametrize(
    "share, expected",
    [(0, set()), (1 / 8, {3}), (3 / 8, {3, 0, 1}), (1, set(range(8)))],
)
def test_the_top_share_is_exact_even_among_ties(share, expected):
    auroc = neurons.by_module(np.array([0.7, 0.7, 0.7, 0.9, 0.1, 0.7, 0.7, 0.7]), ROWS)
    assert numbers_of(neurons.select_top(auroc, share)) == expected


def test_union_and_intersection():
    masks = masks_of({0, 1, 2}, {1, 2, 3}, {2, 7})
    assert numbers_of(neurons.union(masks)) == {0, 1, 2, 3, 7}
    assert numbers_of(neurons.intersection(masks)) == {2}
    times = np.concatenate(list(neurons.times_chosen(masks).values()))
    assert times.tolist() == [1, 2, 3, 1, 0, 0, 0, 1]


def test_a_set_has_a_size_and_the_model_has_another():
    (mask,) = masks_of({0, 1, 7})
    assert neurons.count(mask) == 3
    assert neurons.size(mask) == 8


def test_overlap_against_chance():
    a, b, empty = masks_of({0, 1, 2, 3}, {2, 3, 4, 5}, set())
    # two random halves of eight neurons share two by chance
    assert neurons.overlap(a, b) == (2, 1.0)
    assert neurons.overlap(a, a) == (4, 2.0)
    assert neurons.overlap(a, empty)[0] == 0
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
    assert rows_chosen(control) == rows_chosen(mask)
    # it shares as many neurons with the set as chance gives
    assert neurons.overlap(mask, control)[1] == pytest.approx(1, abs=0.3)
    assert numbers_of(control) == numbers_of(neurons.random_like(mask, seed=1))
    assert numbers_of(control) != numbers_of(neurons.random_like(mask, seed=2))


def test_the_lowest_and_the_highest_are_as_many_as_a_set_has_in_every_module():
    (mask,) = masks_of({1, 3, 4, 7})
    auroc = neurons.by_module(np.array([0.2, 0.9, 0.4, 0.3, 0.8, 0.1, 0.7, 0.6]), ROWS)
    assert numbers_of(neurons.lowest_like(mask, auroc)) == {0, 5, 3, 7}
    assert numbers_of(neurons.highest_like(mask, auroc)) == {1, 4, 3, 6}


def test_among_equal_neurons_the_first_ones_of_the_module_are_taken():
    (mask,) = masks_of({2, 4, 5})
    equal = neurons.by_module(np.full(8, 0.5), ROWS)
    assert numbers_of(neurons.lowest_like(mask, equal)) == {0, 3, 4}
    assert numbers_of(neurons.highest_like(mask, equal)) == {0, 3, 4}


def test_the_highest_auroc_is_that_of_any_language():
    german = neurons.by_module(np.linspace(0, 0.7, 8), ROWS)
    english = neurons.by_module(np.full(8, 0.35), ROWS)
    highest = np.concatenate([*neurons.highest([german, english]).values()])
    assert highest.tolist() == pytest.approx([0.35, 0.35, 0.35, 0.35, 0.4, 0.5, 0.6, 0.7])


# Across layers


def test_layers_of_a_projection_are_joined_and_taken_apart_again():
    rows = {f"model.layers.{layer}.mlp.{name}": count for layer in (0, 1) for name, count in SIZES}
    values = neurons.by_module(np.arange(16), rows)
    together = neurons.joined(values)
    assert {name: list(of_all) for name, of_all in together.items()} == {
        "gate_proj": [0, 1, 2, 8, 9, 10],
        "up_proj": [3, 4, 5, 11, 12, 13],
        "down_proj": [6, 7, 14, 15],
    }
    again = neurons.apart(together, rows)
    assert list(again) == list(rows)
    assert all(np.array_equal(again[name], values[name]) for name in rows)


SIZES = [("gate_proj", 3), ("up_proj", 3), ("down_proj", 2)]


def test_the_neurons_of_the_largest_value_are_chosen_together():
    values = {"a": np.array([0.0, 2.0]), "b": np.array([7.5, 7.5]), "c": np.array([7.0])}
    mask = neurons.select_largest(values)
    assert {name: list(rows) for name, rows in mask.items()} == {
        "a": [False, False],
        "b": [True, True],
        "c": [False],
    }
