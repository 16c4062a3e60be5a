"""Fails until exercise 7 is solved."""

import torch
from exercise_7_frozen_rows import moved_by_decay, moved_by_momentum, tune


def masked_gradients(decay: float, masks: list[list[bool]]) -> list:
    """A weight (4, 3) before the first step and after each, with masked gradients in AdamW."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, generator=generator).requires_grad_()
    optimizer = torch.optim.AdamW([weight], lr=0.01, weight_decay=decay)
    weights = [weight.detach().clone()]
    for mask in masks:
        weight.grad = torch.randn(4, 3, generator=generator) * torch.tensor(mask)[:, None]
        optimizer.step()
        weights.append(weight.detach().clone())
    return weights


def moved(before, after) -> list[bool]:
    """Which rows differ."""
    return (before != after).any(dim=1).tolist()


def test_weight_decay_moves_a_row_that_was_never_chosen():
    decay, masks = moved_by_decay()
    weights = masked_gradients(decay, masks)
    ever_chosen = torch.tensor(masks).any(dim=0).tolist()
    rows = zip(moved(weights[0], weights[-1]), ever_chosen, strict=True)
    assert any(moves and not chosen for moves, chosen in rows)


def test_momentum_moves_a_row_that_is_no_longer_chosen():
    decay, masks = moved_by_momentum()
    weights = masked_gradients(decay, masks)
    assert decay == 0
    frozen_moves = []
    for mask, before, after in zip(masks, weights, weights[1:], strict=False):
        for chosen, moves in zip(mask, moved(before, after), strict=True):
            frozen_moves.append(moves and not chosen)
    assert any(frozen_moves)


def random_stages(seed=0, stages=3, steps=6, rows=12, width=5):
    """A weight, and stages whose masks overlap in part."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, width, generator=generator)
    weight[0] = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1.0])
    masks = [torch.rand(rows, generator=generator) < 0.5 for _ in range(stages)]
    result = []
    for mask in masks:
        grads = [torch.randn(rows, width, generator=generator) for _ in range(steps)]
        result.append((mask, grads))
    return weight, result


def chosen_alone(weight, stage, lr, decay, clip):
    """The chosen rows after a stage in which AdamW trains these rows alone."""
    mask, grads = stage
    rows = weight[mask].clone().requires_grad_()
    optimizer = torch.optim.AdamW([rows], lr=lr, weight_decay=decay)
    for grad in grads:
        rows.grad = grad[mask].clone()
        torch.nn.utils.clip_grad_norm_([rows], clip)
        optimizer.step()
    return rows.detach()


def bits(weight):
    return weight.view(torch.int32)  # in a comparison of floats, 0 and -0 are equal


def test_rows_outside_the_mask_keep_every_bit_in_every_stage():
    weight, stages = random_stages()
    for mask, _ in stages[:2]:
        mask[0] = False
    for stage in stages:
        after = tune(weight, [stage], lr=0.01, decay=0.1, clip=1.0)
        assert torch.equal(bits(after[~stage[0]]), bits(weight[~stage[0]]))
        weight = after


def test_chosen_rows_move_as_if_there_were_no_others():
    weight, stages = random_stages()
    for decay, clip in ((0.0, 1e9), (0.1, 1e9), (0.1, 1.0)):
        after = tune(weight, stages[:1], lr=0.01, decay=decay, clip=clip)
        expected = chosen_alone(weight, stages[0], lr=0.01, decay=decay, clip=clip)
        assert torch.allclose(after[stages[0][0]], expected, rtol=1e-4, atol=1e-6)


def test_the_clipped_norm_is_that_of_the_chosen_rows_together():
    """Frozen rows with huge gradients must not shrink the step of the others.

    Nor may the chosen rows be clipped one by one.
    """
    weight, stages = random_stages()
    mask, grads = stages[0]
    loud = [torch.where(mask[:, None], grad * (i + 1), 1e4) for i, grad in enumerate(grads)]
    after = tune(weight, [(mask, loud)], lr=0.01, decay=0.0, clip=3.0)
    expected = chosen_alone(weight, (mask, loud), lr=0.01, decay=0.0, clip=3.0)
    assert torch.allclose(after[mask], expected, rtol=1e-4, atol=1e-6)


def test_a_stage_starts_with_a_fresh_optimizer_state_and_keeps_the_rows_tuned_before():
    weight, stages = random_stages()
    tuned = tune(weight, stages, lr=0.01, decay=0.1, clip=1.0)
    expected = weight.clone()
    for stage in stages:
        expected[stage[0]] = chosen_alone(expected, stage, lr=0.01, decay=0.1, clip=1.0)
    assert torch.allclose(tuned, expected, rtol=1e-4, atol=1e-6)


def test_the_weight_that_is_passed_in_is_not_changed():
    weight, stages = random_stages()
    before = weight.clone()
    tune(weight, stages, lr=0.01, decay=0.1, clip=1.0)
    assert torch.equal(weight, before)
