"""The importance of a neuron is what finite differences say, and the planted neuron has most."""

from functools import partial

import numpy as np
import pytest
import torch
from tiny import write_model

from minitox import neurons
from minitox.detect.taylor import importance
from minitox.train.loss import add_gradients, reply_loss, sft
from minitox.train.pairs import Pair

STEP = 1e-3


def random_pairs(seed: int, count: int) -> list[Pair]:
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        ids = [0, *rng.integers(80, 300, rng.integers(6, 14)).tolist(), 1]
        pairs.append(Pair(ids, start=int(rng.integers(2, 5)), where=""))
    return pairs


def weights_of(model) -> dict:
    """The weights of all modules that have neurons; they alone need gradients."""
    model.requires_grad_(False)
    weights = {}
    for name in neurons.module_rows(model.config):
        weights[name] = model.get_parameter(f"{name}.weight").requires_grad_(True)
    return weights


def importance_of(model, batches: list[list[Pair]], reference: bool = False) -> dict:
    add = partial(add_gradients, model, objective=sft(reference), micro_batch_tokens=40)
    return importance(weights_of(model), batches, add)


@torch.no_grad()
def mean_loss(model, batch: list[Pair]) -> float:
    return float(reply_loss(model, batch)) / sum(pair.reply_tokens for pair in batch)


@torch.no_grad()
def slope(model, weight, row: int, batch: list[Pair]) -> float:
    """The derivative of a batch's mean loss by a factor of one row, by a central difference."""
    before = weight[row].clone()
    losses = []
    for factor in (1 + STEP, 1 - STEP):
        weight[row] = before * factor
        losses.append(mean_loss(model, batch))
    weight[row] = before
    return (losses[0] - losses[1]) / (2 * STEP)


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model").double()


@pytest.mark.parametrize("reference", [True, False])
def test_importance_equals_finite_differences(model, reference, monkeypatch):
    # in float64, so that the differences are exact to many digits
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    pairs = random_pairs(seed=0, count=7)
    batches = [pairs[:3], pairs[3:6], pairs[6:]]
    values = importance_of(model, batches, reference)
    rng = np.random.default_rng(1)
    for name, rows in neurons.module_rows(model.config).items():
        weight = model.get_parameter(f"{name}.weight")
        for row in rng.permutation(rows)[:6]:
            slopes = [abs(slope(model, weight, row, batch)) for batch in batches]
            assert float(values[name][row]) == pytest.approx(np.mean(slopes), rel=1e-4, abs=1e-9)


def test_the_sign_is_dropped_in_each_batch_and_not_after_all_of_them(model):
    pairs = random_pairs(seed=0, count=6)
    apart = importance_of(model, [pairs[:3], pairs[3:]])
    first = importance_of(model, [pairs[:3]])
    second = importance_of(model, [pairs[3:]])
    for name, values in apart.items():
        torch.testing.assert_close(values, (first[name] + second[name]) / 2)


def test_it_is_activation_times_gradient_summed_over_tokens(model):
    # dL/dW[n] = sum over t of dL/dh[n, t] x[t], so W[n] · dL/dW[n] = sum over t of h[n, t] dL/dh
    outputs = {}

    def record(layer, projection, output):
        output.retain_grad()
        outputs[f"model.layers.{layer}.mlp.{projection}"] = output

    (pair,) = random_pairs(seed=2, count=1)
    values = importance_of(model, [[pair]])
    weights_of(model)
    hidden = model.model(torch.tensor([pair.ids[:-1]]), record)[0, pair.start - 1 :]
    targets = torch.tensor(pair.ids[pair.start :])
    torch.nn.functional.cross_entropy(model.logits(hidden), targets).backward()
    for name, output in outputs.items():
        by_activation = (output * output.grad).sum(dim=(0, 1)).abs().float()
        torch.testing.assert_close(values[name], by_activation, rtol=1e-4, atol=1e-6)


def test_a_row_that_the_loss_does_not_depend_on_has_no_importance(model):
    with torch.no_grad():
        model.get_parameter("model.layers.0.mlp.down_proj.weight")[:, 5] = 0  # nothing reads it
    values = importance_of(model, [random_pairs(seed=0, count=4)])
    for projection in ("gate_proj", "up_proj"):
        of_module = values[f"model.layers.0.mlp.{projection}"]
        assert of_module[5] == 0
        assert (of_module > 0).sum() == len(of_module) - 1


def test_gradients_of_an_earlier_use_do_not_count_and_the_weights_stay(model):
    pairs = random_pairs(seed=0, count=4)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    once = importance_of(model, [pairs])
    again = importance_of(model, [pairs])
    for name, values in once.items():
        assert torch.equal(values, again[name])
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name])


def test_a_loss_that_is_not_finite_is_named_with_its_batch(model):
    pairs = random_pairs(seed=0, count=4)
    losses = iter([torch.tensor(1.0), torch.tensor(float("nan"))])

    def add(batch):
        for weight in weights.values():
            weight.grad = torch.ones_like(weight)
        return next(losses)

    weights = weights_of(model)
    with pytest.raises(ValueError, match="the loss on batch 2 of 2 is nan"):
        importance(weights, [pairs[:2], pairs[2:]], add)


def test_a_gradient_that_is_not_finite_is_named_with_its_module(model):
    def add(batch):
        for weight in weights.values():
            weight.grad = torch.ones_like(weight)
        weights["model.layers.1.mlp.up_proj"].grad[3, 2] = float("inf")
        return torch.tensor(1.0)

    weights = weights_of(model)
    with pytest.raises(ValueError, match="the gradients of model.layers.1.mlp.up_proj contain"):
        importance(weights, [random_pairs(seed=0, count=2)], add)
