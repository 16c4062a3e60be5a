"""What it takes to train some rows of a matrix and to leave the others as they are."""

import math

import pytest
import torch
from optimizers import (
    OPTIMIZERS,
    SHAPES,
    give,
    random_gradients,
    random_masks,
    random_weights,
    same_bits,
    total_norm,
    train,
)
from torch import nn

from minitox.train.optim import MaskedAdamW

DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("make_optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("max_norm", [0.1, float("inf")])
def test_rows_outside_the_mask_keep_every_bit(make_optimizer, dtype, max_norm):
    masks = random_masks()
    before = random_weights(dtype)
    # numbers that rounding or a sign could change, in a frozen row
    before["gate"].data[0, :4] = torch.tensor([0.0, -0.0, 1e-30, -1e-30])
    masks["gate"][0] = False

    gradients = random_gradients(20, dtype, size=100)
    after = train(make_optimizer, masks, gradients, before, max_norm)
    for name, chosen in masks.items():
        assert same_bits(after[name][~chosen], before[name].detach()[~chosen])
        assert (after[name][chosen] != before[name][chosen]).float().mean() > 0.95


@pytest.mark.parametrize("make_optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_change_of_mask_between_languages_leaves_no_momentum_behind(make_optimizer, dtype):
    gradients = random_gradients(10, dtype)
    second = random_masks(seed=2)
    between = train(make_optimizer, random_masks(seed=1), gradients)
    after = train(make_optimizer, second, gradients, start=between)
    for name in SHAPES:
        assert same_bits(after[name][~second[name]], between[name][~second[name]])


@pytest.mark.parametrize("decay, mask_changes", [(0.1, False), (0.0, True)])
def test_masking_the_gradient_and_calling_adamw_does_not_freeze(decay, mask_changes):
    """The obvious way is wrong.

    Decay moves every weight, and momentum moves the rows of an earlier mask.
    """
    weights = random_weights()
    first = random_masks(seed=1)
    second = random_masks(seed=2)
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-3, weight_decay=decay)
    for step, grads in enumerate(random_gradients(10)):
        if step == 5:
            halfway = {name: weight.detach().clone() for name, weight in weights.items()}
        chosen = second if mask_changes and step >= 5 else first
        for name, weight in weights.items():
            mask = chosen[name].view(-1, *[1] * (weight.dim() - 1))  # (R, 1)
            weight.grad = grads[name] * mask
        optimizer.step()
    frozen = ~second["gate"] & first["gate"] if mask_changes else ~first["gate"]
    assert not torch.equal(weights["gate"][frozen], halfway["gate"][frozen])


@pytest.mark.parametrize("make_optimizer", OPTIMIZERS)
@pytest.mark.parametrize("share", [0.4, 1.1])
def test_chosen_rows_move_as_torch_would_move_them_alone(make_optimizer, share):
    masks = random_masks(share)
    gradients = random_gradients(20)
    after = train(make_optimizer, masks, gradients)

    # torch's AdamW on weights that have no other rows
    alone = {}
    for name, weight in random_weights().items():
        alone[name] = nn.Parameter(weight.detach()[masks[name]].clone())
    fused = make_optimizer is not MaskedAdamW
    optimizer = torch.optim.AdamW(alone.values(), lr=1e-3, weight_decay=0.1, fused=fused)
    for grads in gradients:
        for name, weight in alone.items():
            weight.grad = grads[name][masks[name]]
        optimizer.step()
    for name in SHAPES:
        assert same_bits(after[name][masks[name]], alone[name].detach())


@pytest.mark.parametrize("make_optimizer", OPTIMIZERS)
def test_the_gradient_norm_is_that_of_the_chosen_rows(make_optimizer):
    """Clipping comes after masking.

    Large gradients of frozen rows would otherwise shrink the step of the chosen rows.
    """
    masks = random_masks()
    quiet = random_gradients(1)[0]
    loud = random_gradients(1)[0]
    for name in SHAPES:
        loud[name][~masks[name]] *= 1e6
    norms = []
    for grads in (quiet, loud):
        optimizer = make_optimizer(random_weights(), masks)
        give(optimizer, grads)
        norms.append(total_norm(optimizer))
    chosen = torch.cat([quiet[name][masks[name]].flatten() for name in SHAPES])
    assert norms[0] == norms[1] == pytest.approx(chosen.norm().item())


@pytest.mark.parametrize("make_optimizer", OPTIMIZERS)
def test_a_gradient_that_is_not_finite_shows_in_the_norm(make_optimizer):
    masks = random_masks()
    grads = random_gradients(1)[0]
    grads["down"][masks["down"].nonzero()[0], 3] = float("inf")
    optimizer = make_optimizer(random_weights(), masks)
    give(optimizer, grads)
    finite = optimizer.gradient_norms().isfinite()
    assert finite.tolist() == [True, False, True]


def test_in_the_reference_an_infinite_gradient_of_a_frozen_row_shows_in_the_norm_too():
    masks = random_masks()
    grads = random_gradients(1)[0]
    grads["down"][(~masks["down"]).nonzero()[0], 3] = float("inf")
    optimizer = MaskedAdamW(random_weights(), masks)
    give(optimizer, grads)
    assert math.isnan(total_norm(optimizer))


@pytest.mark.parametrize("make_optimizer", OPTIMIZERS)
def test_master_weights_keep_what_bfloat16_would_round_away(make_optimizer):
    """1,000 steps of 1e-5 add up to 0.01, but bfloat16 rounds each of them to nothing."""

    def trained(dtype: torch.dtype) -> torch.Tensor:  # -> (4, 8)
        weight = nn.Parameter(torch.full((4, 8), 0.5, dtype=dtype))
        mask = torch.tensor([True, False, True, False])
        optimizer = make_optimizer({"w": weight}, {"w": mask}, decay=0)
        for _ in range(1_000):
            give(optimizer, {"w": torch.ones(4, 8, dtype=dtype)})
            optimizer.step(1e-5)
        return weight.detach().float()

    in_float32 = trained(torch.float32)[0, 0].item()
    assert trained(torch.bfloat16)[0, 0] == pytest.approx(in_float32, abs=0.002)
    assert trained(torch.bfloat16)[1, 0] == 0.5

    # torch's AdamW has no master weights
    naive = torch.full((4, 8), 0.5, dtype=torch.bfloat16).requires_grad_()
    optimizer = torch.optim.AdamW([naive], lr=1e-5, weight_decay=0)
    for _ in range(1_000):
        naive.grad = torch.ones_like(naive)
        optimizer.step()
    assert (naive == 0.5).all()
