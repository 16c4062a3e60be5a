"""The method in miniature: one neuron makes the model rude, and tuning that neuron, or another, shows what tuning does.

In the last layer of a random model, neuron 17 of gate_proj answers one word, TRIGGER, and what it writes makes RUDE the likeliest
next word. The model is tuned to say POLITE instead, with a single row of weights free to move.
"""

import numpy as np
import pytest
import torch
from test_finetune import tune
from tiny import write_model

from minitox import neurons
from minitox.train.pairs import Pair, Pairs
from minitox.train.strategies import Stage

TRIGGER, RUDE, POLITE, END, PLANTED = 50, 60, 70, 1, 17
GATE = "model.layers.1.mlp.gate_proj"


@pytest.fixture
def planted(tmp_path):
    model = write_model(tmp_path / "planted", tie_word_embeddings=False)
    mlp, embedding = model.model.layers[1].mlp, model.model.embed_tokens.weight
    embedding[TRIGGER] *= 10  # else the untrained attention drowns what the word is
    mlp.gate_proj.weight[PLANTED] = mlp.up_proj.weight[PLANTED] = (
        embedding[TRIGGER] / embedding[TRIGGER].norm()
    )
    mlp.down_proj.weight[:, PLANTED] = 3 * model.lm_head.weight[RUDE]
    return model


def prompts(seed: int, count: int, last: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [[0, *rng.integers(80, 300, 5).tolist(), last] for _ in range(count)]


@torch.no_grad()
def rudeness(model, last=TRIGGER) -> float:
    """The share of prompts, none of them trained on, after which the model would say RUDE."""
    return (
        (model(torch.tensor(prompts(seed=1, count=40, last=last)))[:, -1].argmax(-1) == RUDE)
        .float()
        .mean()
        .item()
    )


def tune_one(model, neuron: int, path) -> None:
    """Tune one row of gate_proj on polite replies."""
    mask = {
        name: np.zeros(rows, dtype=bool) for name, rows in neurons.module_rows(model.config).items()
    }
    mask[GATE][neuron] = True
    pairs = [
        Pair([*prompt, POLITE, END], len(prompt), "")
        for prompt in prompts(seed=0, count=40, last=TRIGGER)
    ]
    tune(
        model,
        [Stage("all", mask, ["en"])],
        {"en": Pairs(pairs, [], 0, 0, "")},
        path,
        lr=0.02,
        epochs=5,
    )


def test_the_planted_neuron_makes_the_model_rude_after_its_word_and_only_there(planted):
    assert rudeness(planted) > 0.9 and rudeness(planted, last=55) < 0.1


def test_tuning_the_neuron_that_causes_rudeness_changes_what_the_model_says(planted, tmp_path):
    tune_one(planted, PLANTED, tmp_path / "checkpoint")
    assert rudeness(planted) < 0.5


@pytest.mark.parametrize("neuron", [3, 20, 41])
def test_tuning_a_random_neuron_of_the_same_kind_does_not(planted, tmp_path, neuron):
    before = planted.get_submodule(GATE).weight[neuron].clone()
    tune_one(planted, neuron, tmp_path / "checkpoint")
    assert not torch.equal(planted.get_submodule(GATE).weight[neuron], before)  # it was tuned,
    assert rudeness(planted) > 0.9  # to no avail
