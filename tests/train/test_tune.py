"""The tuning loop: batches, learning rate, and a step that clips, masks and moves."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from tuning import HYPER, some_pairs

from minitox.train.optim import MaskedAdamW
from minitox.train.row_optim import RowAdamW
from minitox.train.tune import automatic_rate, batch_of, learning_rate, tune

PAIRS = some_pairs(10)
INPUTS = {pair.where: torch.tensor(pair.ids[1:4]) / 100.0 for pair in PAIRS}
EVERY_ROW = torch.ones(2, dtype=torch.bool)


def squared_outputs(weight: torch.Tensor, batch: list) -> torch.Tensor:  # (2, 3) -> ()
    """A loss that depends on the pairs of the batch."""
    inputs = torch.stack([INPUTS[pair.where] for pair in batch])  # (B, 3)
    return (inputs @ weight.T - 1).square().mean()


def run(make_optimizer, hyper=HYPER, mask=EVERY_ROW, start=0, stop=None, optimizer=None, **options):
    """The losses of the steps from `start` to `stop`, and the optimizer."""
    if optimizer is None:
        weight = nn.Parameter(torch.tensor([[0.5, -0.5, 0.1], [0.2, 0.4, -0.3]]))
        optimizer = make_optimizer({"w": weight}, {"w": mask}, decay=hyper.weight_decay)
    weight = optimizer.weights["w"]

    def add_gradients(batch):
        loss = squared_outputs(weight, batch)
        loss.backward()
        return loss.detach()

    losses = []
    for loss in tune(optimizer, PAIRS, hyper, add_gradients, start=start, **options):
        losses.append(loss)
        if start + len(losses) == stop:
            break
    return losses, optimizer


@pytest.mark.parametrize("make_optimizer", [MaskedAdamW, RowAdamW])
@pytest.mark.parametrize("max_grad_norm", [0.05, 100.0])
def test_the_loop_is_torch_s_adamw_with_clipping_and_a_schedule(make_optimizer, max_grad_norm):
    hyper = replace(HYPER, max_grad_norm=max_grad_norm)
    losses, optimizer = run(make_optimizer, hyper)

    weight = nn.Parameter(torch.tensor([[0.5, -0.5, 0.1], [0.2, 0.4, -0.3]]))
    of_torch = torch.optim.AdamW([weight], weight_decay=hyper.weight_decay)
    for step in range(6):
        batch = [PAIRS[i] for i in batch_of(step, 10, hyper, stage=0)]
        of_torch.zero_grad()
        loss = squared_outputs(weight, batch)
        assert losses[step] == pytest.approx(loss.item(), rel=1e-5)
        loss.backward()
        nn.utils.clip_grad_norm_([weight], max_grad_norm)
        of_torch.param_groups[0]["lr"] = learning_rate(step, 6, hyper)
        of_torch.step()
    assert len(losses) == 6
    assert torch.allclose(optimizer.weights["w"], weight, atol=1e-6)


@pytest.mark.parametrize("make_optimizer", [MaskedAdamW, RowAdamW])
def test_a_loop_that_starts_where_another_stopped_ends_with_the_same_bits(make_optimizer):
    losses, optimizer = run(make_optimizer)
    first, interrupted = run(make_optimizer, stop=4)
    rest, resumed = run(make_optimizer, start=4, optimizer=interrupted)
    assert first + rest == losses
    assert torch.equal(resumed.weights["w"], optimizer.weights["w"])


def test_the_norm_of_all_gradients_can_be_computed_elsewhere():
    """Of a sharded weight, the optimizer sees a part, and only all processes know the norm."""

    def twice_the_norm(norms: torch.Tensor) -> torch.Tensor:  # (weights,) -> ()
        return 2 * torch.linalg.vector_norm(norms)

    _, clipped = run(MaskedAdamW, replace(HYPER, max_grad_norm=0.05))
    _, same = run(MaskedAdamW, replace(HYPER, max_grad_norm=0.1), total_norm=twice_the_norm)
    assert torch.equal(clipped.weights["w"], same.weights["w"])


@pytest.mark.parametrize("make_optimizer", [MaskedAdamW, RowAdamW])
def test_a_loss_that_is_not_finite_names_step_and_pairs_and_the_step_is_not_made(make_optimizer):
    hyper = replace(HYPER, batch_size=5)
    _, optimizer = run(make_optimizer, hyper, stop=1)
    before = optimizer.weights["w"].detach().clone()

    def add_gradients(batch):
        optimizer.weights["w"].grad = torch.zeros(2, 3)
        return torch.tensor(float("nan"))

    loop = tune(optimizer, PAIRS, hyper, add_gradients, start=1)
    batch = [PAIRS[i].where for i in batch_of(1, 10, hyper, stage=0)]
    with pytest.raises(FloatingPointError) as error:
        next(loop)
    assert str(error.value) == (
        f"step 2 of 4: the loss is nan and the gradient norm 0, on the batch of "
        f"{', '.join(batch[:4])}, ..."
    )
    assert torch.equal(optimizer.weights["w"], before)


@pytest.mark.parametrize("make_optimizer", [MaskedAdamW, RowAdamW])
def test_a_gradient_of_zero_makes_a_step_of_decay_alone(make_optimizer):
    weight = nn.Parameter(torch.ones(2, 3))
    optimizer = make_optimizer({"w": weight}, {"w": EVERY_ROW}, decay=0.5)

    def add_gradients(batch):
        weight.grad = torch.zeros(2, 3)
        return torch.tensor(0.0)

    hyper = replace(HYPER, lr=0.1, schedule="constant", warmup=0)
    next(tune(optimizer, PAIRS, hyper, add_gradients))
    assert torch.allclose(weight, torch.full((2, 3), 1 - 0.1 * 0.5))


def test_every_epoch_has_every_pair_once_in_an_order_of_its_own():
    epochs = []
    for epoch in range(2):
        order = []
        for step in range(3 * epoch, 3 * epoch + 3):
            order += batch_of(step, 10, HYPER, stage=0).tolist()
        epochs.append(order)
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]


def test_the_order_of_the_pairs_depends_on_seed_and_stage():
    first = batch_of(0, 1_000, HYPER, stage=0).tolist()
    assert first == batch_of(0, 1_000, HYPER, stage=0).tolist()
    assert first != batch_of(0, 1_000, HYPER, stage=1).tolist()
    assert first != batch_of(0, 1_000, replace(HYPER, seed=1), stage=0).tolist()


def test_a_stage_has_a_step_for_every_batch_and_the_last_batch_may_be_smaller():
    assert HYPER.steps_in_epoch(10) == 3
    assert HYPER.steps(10) == 6
    assert HYPER.steps(0) == 0
    assert [len(batch_of(step, 10, HYPER, stage=0)) for step in range(6)] == [4, 4, 2] * 2


def test_the_learning_rate_warms_up_then_falls():
    hyper = replace(HYPER, lr=1.0)
    rates = [learning_rate(step, 100, hyper) for step in range(100)]
    assert rates[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    after_warmup = rates[10:]
    assert after_warmup == sorted(set(after_warmup), reverse=True)
    assert 0 < rates[-1] < 0.001
    assert rates[55] == pytest.approx(0.5)


def test_a_constant_learning_rate_stays():
    hyper = replace(HYPER, lr=1.0, schedule="constant", warmup=0)
    assert [learning_rate(step, 10, hyper) for step in range(10)] == [1.0] * 10


def test_a_warm_up_of_the_whole_stage_has_a_learning_rate():
    assert math.isfinite(learning_rate(0, 1, replace(HYPER, lr=1.0, warmup=1.0)))


def test_the_automatic_learning_rate_depends_on_the_width_and_the_share_that_is_tuned():
    assert automatic_rate(128, 1.0, 0.12) == 0.001
    assert automatic_rate(4096, 1.0, 0.12) == 0.128 / 4096
    assert automatic_rate(128, 1.0, 0.12, "dpo") == pytest.approx(0.0003)
    rates = [automatic_rate(128, share, 0.12) for share in (1.0, 0.44, 0.1, 0.05)]
    assert rates == sorted(set(rates))
    # few weights make no step that is too large
    few = [automatic_rate(128, share, 0.12) for share in (0.001, 1e-6, 0.028)]
    assert len(set(few)) == 1


def test_the_automatic_learning_rate_is_in_proportion_to_weights_that_are_small():
    assert automatic_rate(128, 1.0, 0.0118) == pytest.approx(0.0001)
    assert automatic_rate(128, 1.0, 0.118) == automatic_rate(128, 1.0, 1.18)


@pytest.mark.parametrize("name", ["lr", "weight_decay", "max_grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38, -1e-3])
def test_a_number_that_is_negative_or_would_overflow_is_refused_before_the_first_step(name, value):
    with pytest.raises(ValueError, match=f"{name} is .*; it must be a number from 0 to 1e.30"):
        run(RowAdamW, replace(HYPER, **{name: value}))
