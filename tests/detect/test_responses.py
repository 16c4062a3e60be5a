"""Responses: one number a neuron and sentence, the same whatever else is in the batch."""

import numpy as np
import pytest
import torch
from tiny import write_model

from minitox.detect.responses import POOL, common_columns, pooled_responses
from minitox.neurons import by_module, module_rows

SENTENCES = [[0, 5, 6, 7], [0, 9], [0, 40, 41, 42, 43, 44, 45, 46], [0, 5, 8], [0, 100, 101, 102]]
NEURONS = 2 * (48 + 48 + 32)  # of the tiny model


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path)


def outputs_of(model, ids: list[int]):  # -> (T, K)
    """Every neuron's output for each token of one sentence."""
    outputs = []

    def record(layer: int, projection: str, output) -> None:
        outputs.append(output[0])

    model.model(torch.tensor([ids]), record=record)
    return torch.cat(outputs, dim=1)


def pooled_one_by_one(model, sentences, special_ids: set[int], pool: str):  # -> (B, K) float64
    """The definition: one sentence at a time, with every output kept, pooled in float64."""
    rows = []
    for ids in sentences:
        text = [position for position, token in enumerate(ids) if token not in special_ids]
        outputs = outputs_of(model, ids)[text].double()
        rows.append(outputs.amax(dim=0) if pool == "max" else outputs.mean(dim=0))
    return torch.stack(rows)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_batched_responses_equal_those_of_one_sentence_at_a_time(model, pool):
    responses = pooled_responses(model, SENTENCES, {0, 1}, POOL[pool])
    assert responses.dtype == torch.float32
    assert responses.shape == (len(SENTENCES), NEURONS)
    expected = pooled_one_by_one(model, SENTENCES, {0, 1}, pool)
    assert np.allclose(responses, expected, rtol=1e-5, atol=1e-5)


def test_responses_have_the_dtype_of_the_model(model):
    responses = pooled_responses(model.bfloat16(), SENTENCES, {0, 1}, POOL["max"])
    assert responses.dtype == torch.bfloat16
    assert responses.shape == (len(SENTENCES), NEURONS)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_special_tokens_are_not_pooled(model, pool):
    # the other tokens do not read the last one
    with_eos = [[*ids, 1] for ids in SENTENCES]

    def responses(sentences, special_ids):
        return pooled_responses(model, sentences, special_ids, POOL[pool])

    assert np.allclose(responses(with_eos, {0, 1}), responses(SENTENCES, {0, 1}), atol=1e-3)
    assert not np.allclose(responses(with_eos, {0}), responses(SENTENCES, {0}), atol=1e-1)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_special_tokens_inside_some_sentences_are_not_pooled_either(model, pool):
    sentences = [[0, 5, 1, 7, 8], [0, 9, 10, 1], [0, 4, 5, 6, 7, 8]]
    responses = pooled_responses(model, sentences, {0, 1}, POOL[pool])
    expected = pooled_one_by_one(model, sentences, {0, 1}, pool)
    assert np.allclose(responses, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "keep, columns",
    [
        (["0111", "0111"], (1, 4)),  # no padding
        (["0111", "0110"], (1, 3)),  # padding
        (["0111", "0101"], (1, 2)),  # a special token inside a sentence
        (["0011", "0111"], (1, 1)),  # no column is in all sentences
        (["1110", "1100"], (0, 2)),  # no BOS
    ],
)
def test_columns_that_need_no_mask_are_those_that_every_sentence_has(keep, columns):
    rows = [[character == "1" for character in row] for row in keep]
    assert common_columns(torch.tensor(rows)) == columns


def test_the_responses_of_a_neuron_are_its_row_times_the_input(model):
    """A neuron is a row: only this row's response changes if the weights of the row do."""
    before = pooled_responses(model, SENTENCES, {0}, POOL["max"])
    # the last layer's down_proj, whose output is not the input of a neuron
    model.model.layers[1].mlp.down_proj.weight[3] *= -2
    after = pooled_responses(model, SENTENCES, {0}, POOL["max"])
    changed = by_module((before != after).any(dim=0).numpy(), module_rows(model.config))
    assert changed.pop("model.layers.1.mlp.down_proj").nonzero()[0].tolist() == [3]
    assert not any(rows.any() for rows in changed.values())


def test_a_response_that_is_not_finite_names_its_module(model):
    model.model.layers[1].mlp.up_proj.weight[7, 3] = torch.nan
    message = "model.layers.1.mlp.up_proj: the responses are not finite"
    with pytest.raises(ValueError, match=message):
        pooled_responses(model, SENTENCES, {0}, POOL["max"])
