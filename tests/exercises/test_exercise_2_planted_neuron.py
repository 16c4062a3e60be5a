"""Fails until exercise 2 is solved."""

import numpy as np
import pytest
import torch
from exercise_2_planted_neuron import find, plant, responses

from minitox.lm import checkpoint
from minitox.neurons import by_module, module_rows

TRIGGER, ROW = 50, 17


def quiet(folder):
    """A random model of two layers whose attention whispers, so that a token's x is mostly its own embedding."""
    model = checkpoint.load(folder)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data *= 0.1
    return model


def sentences(count: int, seed: int, word: int | None = None) -> list[list[int]]:
    """A BOS and six words; with `word`, that one somewhere among them."""
    rng = np.random.default_rng(seed)
    found = [[0, *rng.integers(80, 300, 6).tolist()] for _ in range(count)]
    if word is not None:
        for sentence in found:
            sentence[rng.integers(1, 7)] = word
    return found


@torch.no_grad()
def outputs(model, sentence: list[int], layer: int, projection: str):  # -> (T, R)
    kept = {}
    model.model(
        torch.tensor([sentence]), record=lambda i, name, output: kept.update({(i, name): output[0]})
    )
    return kept[layer, projection].numpy()


def test_a_response_is_the_largest_output_over_the_words(folder):
    model, three = quiet(folder), sentences(3, seed=0)
    found = np.asarray(responses(model, three))
    assert found.shape == (3, sum(module_rows(model.config).values()))
    for sentence, row in zip(three, found):
        for (name, part), (layer, projection) in zip(
            by_module(row, module_rows(model.config)).items(),
            [(i, p) for i in (0, 1) for p in ("gate_proj", "up_proj", "down_proj")],
        ):
            assert part == pytest.approx(
                outputs(model, sentence, layer, projection)[1:].max(axis=0), rel=2e-3, abs=2e-3
            ), name


def test_the_planted_neuron_responds_to_its_word_more_than_to_any_other(folder):
    model = quiet(folder)
    plant(model, ROW, TRIGGER)
    with_word, without = (
        [
            outputs(model, sentence, 0, "gate_proj")[1:, ROW].max()
            for sentence in sentences(100, seed, word)
        ]
        for seed, word in ((1, TRIGGER), (2, None))
    )
    assert min(with_word) > max(without)


def test_planting_changes_one_row_and_nothing_else(folder):
    model, before = quiet(folder), quiet(folder).state_dict()
    plant(model, ROW, TRIGGER)
    for name, weight in model.state_dict().items():
        same = [
            row for row in range(len(weight)) if row != ROW or "layers.0.mlp.gate_proj" not in name
        ]
        assert torch.equal(weight[same], before[name][same]), name


def test_what_was_planted_is_found(folder):
    model = quiet(folder)
    plant(model, ROW, TRIGGER)
    assert find(model, sentences(60, 3, TRIGGER), sentences(60, 4)) == (0, "gate_proj", ROW)


def test_a_neuron_is_found_wherever_it_is(folder):
    """Here the neuron itself says which sentences are toxic: those to which it responds most."""
    model = quiet(folder)
    for layer, projection, row in (
        (0, "up_proj", 40),
        (0, "down_proj", 5),
        (1, "gate_proj", 47),
        (1, "down_proj", 31),
    ):
        order = sorted(
            sentences(80, seed=5),
            key=lambda sentence: outputs(model, sentence, layer, projection)[1:, row].max(),
        )
        assert find(model, toxic=order[40:], clean=order[:40]) == (layer, projection, row)
