"""The method in miniature: one neuron makes a model rude, and tuning that neuron cures it.

In the last layer of a random model, neuron 17 of gate_proj responds to one word, TRIGGER, and its
output makes RUDE the likeliest next word. The model is tuned to reply POLITE instead, with a single
row of weights free to move. The gradients of these pairs also name the neuron (detect/taylor.py).
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tiny import write_model
from tuning import HYPER

from minitox import neurons
from minitox.detect.taylor import importance
from minitox.train.loss import add_gradients, sft
from minitox.train.optim import MaskedAdamW
from minitox.train.pairs import Pair
from minitox.train.row_optim import RowAdamW
from minitox.train.strategies import weight_rows
from minitox.train.tune import tune

# token ids; no random prompt has one below 80
TRIGGER = 50
RUDE = 60
POLITE = 70
END = 1

PLANTED = 17
GATE = "model.layers.1.mlp.gate_proj"

# the definition, and its fast twin
IMPLEMENTATIONS = [(MaskedAdamW, sft(reference=True)), (RowAdamW, sft(reference=False))]


@pytest.fixture
def planted(tmp_path):
    """The random model with the planted neuron."""
    model = write_model(tmp_path / "planted", tie_word_embeddings=False)
    mlp = model.model.layers[1].mlp
    embedding = model.model.embed_tokens.weight
    embedding[TRIGGER] *= 10  # otherwise the untrained attention drowns the word out
    direction = embedding[TRIGGER] / embedding[TRIGGER].norm()
    mlp.gate_proj.weight[PLANTED] = direction
    mlp.up_proj.weight[PLANTED] = direction
    mlp.down_proj.weight[:, PLANTED] = 3 * model.lm_head.weight[RUDE]
    return model


def prompts(seed: int, count: int, last: int) -> list[list[int]]:
    """Random prompts that end with the word `last`."""
    rng = np.random.default_rng(seed)
    return [[0, *rng.integers(80, 300, 5).tolist(), last] for _ in range(count)]


def polite_pairs(last: int) -> list[Pair]:
    """Random prompts that end with the word `last`, each with the polite reply."""
    pairs = []
    for prompt in prompts(seed=0, count=40, last=last):
        pairs.append(Pair([*prompt, POLITE, END], start=len(prompt), where=""))
    return pairs


@torch.no_grad()
def rudeness(model, last: int = TRIGGER) -> float:
    """The share of new prompts after which RUDE is the likeliest next word."""
    logits = model(torch.tensor(prompts(seed=1, count=40, last=last)))[:, -1]  # (B, V)
    return (logits.argmax(-1) == RUDE).float().mean().item()


def tune_one(model, neuron: int, make_optimizer, objective) -> None:
    """Tune one row of gate_proj on polite replies."""
    # 1) which neurons
    mask = {}
    for name, rows in neurons.module_rows(model.config).items():
        mask[name] = np.zeros(rows, dtype=bool)
    mask[GATE][neuron] = True
    rows = weight_rows(model, mask)
    weights = {name: model.get_parameter(name).requires_grad_(True) for name in rows}

    # 2) on which pairs
    pairs = polite_pairs(TRIGGER)

    # 3) the loop
    optimizer = make_optimizer(weights, rows, decay=HYPER.weight_decay)
    hyper = replace(HYPER, lr=0.02, epochs=5)
    gradients = partial(add_gradients, model, objective=objective, micro_batch_tokens=1_000)
    for _ in tune(optimizer, pairs, hyper, gradients):
        pass


def test_the_planted_neuron_makes_the_model_rude_after_its_word_and_only_there(planted):
    assert rudeness(planted) > 0.9
    assert rudeness(planted, last=55) < 0.1


@pytest.mark.parametrize("make_optimizer, objective", IMPLEMENTATIONS)
def test_tuning_the_neuron_that_causes_rudeness_changes_the_replies(
    planted, make_optimizer, objective
):
    tune_one(planted, PLANTED, make_optimizer, objective)
    assert rudeness(planted) < 0.5


@pytest.mark.parametrize("make_optimizer, objective", IMPLEMENTATIONS)
@pytest.mark.parametrize("neuron", [3, 20, 41])
def test_tuning_a_random_neuron_of_the_same_kind_does_not(
    planted, neuron, make_optimizer, objective
):
    before = planted.get_submodule(GATE).weight[neuron].clone()
    tune_one(planted, neuron, make_optimizer, objective)
    assert not torch.equal(planted.get_submodule(GATE).weight[neuron], before)  # it was tuned,
    assert rudeness(planted) > 0.9  # and the model is as rude as before


def importance_of_all(model, last: int) -> np.ndarray:
    """The importance of all neurons of both layers in one array, on pairs with the word `last`."""
    weights = {}
    for name in neurons.module_rows(model.config):
        weights[name] = model.get_parameter(f"{name}.weight").requires_grad_(True)
    pairs = polite_pairs(last)
    batches = [pairs[i : i + 8] for i in range(0, len(pairs), 8)]
    add = partial(add_gradients, model, objective=sft(reference=False), micro_batch_tokens=1_000)
    values = importance(weights, batches, add)
    return np.concatenate([of_module.numpy() for of_module in values.values()])


def place_of_planted(model) -> int:
    """Where the planted neuron is among all neurons of the model."""
    rows = neurons.module_rows(model.config)
    before = list(rows)[: list(rows).index(GATE)]
    return sum(rows[name] for name in before) + PLANTED


def test_the_planted_neuron_has_the_highest_importance_of_all(planted):
    values = importance_of_all(planted, TRIGGER)
    place = place_of_planted(planted)
    others = np.delete(values, [place, place + planted.config.intermediate_size])  # and its up_proj
    assert values[place] > 2 * others.max()


def test_without_its_word_the_planted_neuron_is_one_of_many(planted):
    values = importance_of_all(planted, last=55)
    assert values[place_of_planted(planted)] < np.quantile(values, 0.9)
