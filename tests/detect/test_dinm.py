"""The layer of DINM is where hidden states of polite and rude replies to one prompt differ most."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import write_model

from minitox.detect.dinm import last_states, layer_distances
from minitox.train.pairs import Pair


def random_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Prompts with two random replies each, of various lengths."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        prompt = [0, *rng.integers(80, 300, rng.integers(2, 6)).tolist()]
        replies = [rng.integers(80, 300, rng.integers(2, 9)).tolist() for _ in range(2)]
        polite, rude = (Pair([*prompt, *reply, 1], len(prompt), "") for reply in replies)
        pairs.append(replace(polite, rejected=rude))
    return pairs


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model", num_hidden_layers=3)


def test_the_states_are_those_that_the_layers_of_the_model_hand_on(model):
    model.double()  # in float32, a longer batch rounds otherwise on some processors
    sequences = [pair.ids for pair in random_pairs(5)]
    states = last_states(model, sequences)
    assert states.shape == (3, 5, 32)
    outputs = []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    for i, sequence in enumerate(sequences):
        outputs.clear()
        hidden = model.model(torch.tensor([sequence]))
        for number, output in enumerate(outputs):
            torch.testing.assert_close(states[number, i], output[0, -1].float())
        last = model.model.norm(states[-1, i].double())
        torch.testing.assert_close(last.float(), hidden[0, -1].float())


def test_the_distance_is_the_mean_over_pairs_however_they_are_batched(model):
    pairs = random_pairs(7)
    expected = np.zeros(3)
    for pair in pairs:
        polite, rude = last_states(model, [pair.ids]), last_states(model, [pair.rejected.ids])
        for number in range(3):
            expected[number] += np.linalg.norm((polite - rude)[number, 0].numpy()) / 7
    for batches in ([pairs], [pairs[:3], pairs[3:6], pairs[6:]]):
        np.testing.assert_allclose(layer_distances(model, batches).numpy(), expected, rtol=1e-4)


def test_equal_replies_have_no_distance(model):
    pairs = [replace(pair, rejected=replace(pair)) for pair in random_pairs(3)]
    assert (layer_distances(model, [pairs]) == 0).all()


def test_a_layer_that_tells_the_replies_apart_is_found(model):
    """The last token, which both replies share, sees the others through attention alone."""
    for layer in (0, 2):
        model.model.layers[layer].self_attn.o_proj.weight.zero_()
        model.model.layers[layer].mlp.down_proj.weight.zero_()
    distances = layer_distances(model, [random_pairs(6)])
    assert distances[0] == 0 and distances[1] > 0
    assert distances[2] == distances[1]  # it hands on what it gets


def test_states_that_are_not_finite_are_refused(model):
    model.model.layers[1].mlp.down_proj.weight[3] = float("inf")
    with pytest.raises(ValueError, match="hidden states of the replies are not finite"):
        layer_distances(model, [random_pairs(2)])
