"""Fails until exercise 2 is solved."""

import numpy as np
import pytest
import torch
from exercise_2_planted_neuron import find, plant, responses

from minitox.lm import checkpoint
from minitox.neurons import by_module, module_rows

TRIGGER = 50
ROW = 17
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def quiet(folder):
    """A random model of two layers with weak attention: x is mostly the token's own embedding."""
    model = checkpoint.load(folder)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data *= 0.1
    return model


def sentences(count: int, seed: int, word: int | None = None) -> list[list[int]]:
    """A BOS and six words; with `word`, one of the six is this word."""
    rng = np.random.default_rng(seed)
    ids = [[0, *rng.integers(80, 300, 6).tolist()] for _ in range(count)]
    if word is not None:
        for sentence in ids:
            sentence[rng.integers(1, 7)] = word
    return ids


@torch.no_grad()
def outputs(model, sentence: list[int], layer: int, projection: str):  # -> (T, R)
    kept = {}

    def record(i, name, output):
        kept[i, name] = output[0]

    model.model(torch.tensor([sentence]), record=record)
    return kept[layer, projection].numpy()


def largest(model, sentence: list[int], layer: int, projection: str):  # -> (R,)
    """The largest output over the words of a sentence."""
    return outputs(model, sentence, layer, projection)[1:].max(axis=0)


def test_a_response_is_the_largest_output_over_the_words(folder):
    model = quiet(folder)
    rows = module_rows(model.config)
    three = sentences(3, seed=0)
    result = np.asarray(responses(model, three))
    assert result.shape == (3, sum(rows.values()))
    for sentence, row in zip(three, result, strict=True):
        modules = by_module(row, rows)
        assert len(modules) == 2 * len(PROJECTIONS)
        for i, (name, part) in enumerate(modules.items()):
            expected = largest(model, sentence, i // 3, PROJECTIONS[i % 3])
            assert part == pytest.approx(expected, rel=2e-3, abs=2e-3), name


def test_the_planted_neuron_responds_to_its_word_more_than_to_any_other(folder):
    model = quiet(folder)
    plant(model, ROW, TRIGGER)
    with_word = sentences(100, 1, TRIGGER)
    without = sentences(100, 2)
    lowest = min(largest(model, sentence, 0, "gate_proj")[ROW] for sentence in with_word)
    highest = max(largest(model, sentence, 0, "gate_proj")[ROW] for sentence in without)
    assert lowest > highest


def test_planting_changes_one_row_and_nothing_else(folder):
    model = quiet(folder)
    before = quiet(folder).state_dict()
    plant(model, ROW, TRIGGER)
    for name, weight in model.state_dict().items():
        same = list(range(len(weight)))
        if "layers.0.mlp.gate_proj" in name:
            same.remove(ROW)
        assert torch.equal(weight[same], before[name][same]), name


def test_the_planted_neuron_is_found(folder):
    model = quiet(folder)
    plant(model, ROW, TRIGGER)
    assert find(model, sentences(60, 3, TRIGGER), sentences(60, 4)) == (0, "gate_proj", ROW)


def test_a_neuron_is_found_wherever_it_is(folder):
    """The sentences with the largest responses of this neuron are labelled toxic."""
    model = quiet(folder)
    for neuron in (
        (0, "up_proj", 40),
        (0, "down_proj", 5),
        (1, "gate_proj", 47),
        (1, "down_proj", 31),
    ):
        layer, projection, row = neuron
        drawn = sentences(80, seed=5)
        by_response = [largest(model, sentence, layer, projection)[row] for sentence in drawn]
        order = [drawn[i] for i in np.argsort(by_response, kind="stable")]
        assert find(model, toxic=order[40:], clean=order[:40]) == neuron
