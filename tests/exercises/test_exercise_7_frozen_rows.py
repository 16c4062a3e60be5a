"""Fails until exercise 7 is solved."""

import torch
from exercise_7_frozen_rows import moved_by_decay, moved_by_momentum, tune


def the_obvious_way(decay: float, masks: list[list[bool]]) -> list:
    """A weight (4, 3) before the first step and after each, its gradient masked and given to torch.optim.AdamW."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, generator=generator).requires_grad_()
    optimizer, found = (
        torch.optim.AdamW([weight], lr=0.01, weight_decay=decay),
        [weight.detach().clone()],
    )
    for mask in masks:
        weight.grad = torch.randn(4, 3, generator=generator) * torch.tensor(mask)[:, None]
        optimizer.step()
        found.append(weight.detach().clone())
    return found


def moved(before, after) -> list[bool]:
    return (before != after).any(dim=1).tolist()


def test_weight_decay_moves_a_row_that_was_never_chosen():
    decay, masks = moved_by_decay()
    found = the_obvious_way(decay, masks)
    assert any(
        moves and not any(mask[row] for mask in masks)
        for row, moves in enumerate(moved(found[0], found[-1]))
    )


def test_momentum_moves_a_row_that_is_no_longer_chosen():
    decay, masks = moved_by_momentum()
    found = the_obvious_way(decay, masks)
    assert decay == 0
    assert any(
        moves and not mask[row]
        for mask, *pair in zip(masks, found, found[1:])
        for row, moves in enumerate(moved(*pair))
    )


def settings(seed=0, stages=3, steps=6, rows=12, width=5):
    """A weight, and stages with masks that overlap in part."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, width, generator=generator)
    weight[0] = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1.0])
    masks = [torch.rand(rows, generator=generator) < 0.5 for _ in range(stages)]
    return weight, [
        (mask, [torch.randn(rows, width, generator=generator) for _ in range(steps)])
        for mask in masks
    ]


def alone(weight, stage, lr, decay, clip):
    """What AdamW makes of a stage's chosen rows when they are all there is."""
    mask, grads = stage
    rows = weight[mask].clone().requires_grad_()
    optimizer = torch.optim.AdamW([rows], lr=lr, weight_decay=decay)
    for grad in grads:
        rows.grad = grad[mask].clone()
        torch.nn.utils.clip_grad_norm_([rows], clip)
        optimizer.step()
    return rows.detach()


def bits(weight):
    return weight.view(torch.int32)  # to ==, 0 and -0 are the same


def test_rows_outside_the_mask_keep_every_bit_in_every_stage():
    weight, stages = settings()
    stages[0][0][0] = stages[1][0][0] = False
    for stage in stages:
        after = tune(weight, [stage], lr=0.01, decay=0.1, clip=1.0)
        assert torch.equal(bits(after[~stage[0]]), bits(weight[~stage[0]]))
        weight = after


def test_chosen_rows_move_as_if_there_were_no_others():
    weight, stages = settings()
    for decay, clip in ((0.0, 1e9), (0.1, 1e9), (0.1, 1.0)):
        after = tune(weight, stages[:1], lr=0.01, decay=decay, clip=clip)
        expected = alone(weight, stages[0], lr=0.01, decay=decay, clip=clip)
        assert torch.allclose(after[stages[0][0]], expected, rtol=1e-4, atol=1e-6)


def test_the_length_to_which_gradients_are_clipped_is_that_of_the_chosen_rows():
    """Frozen rows with huge gradients must not shrink the others' step, nor may the chosen rows be clipped one by one."""
    weight, stages = settings()
    mask, grads = stages[0]
    loud = [torch.where(mask[:, None], grad * (i + 1), 1e4) for i, grad in enumerate(grads)]
    after = tune(weight, [(mask, loud)], lr=0.01, decay=0.0, clip=3.0)
    assert torch.allclose(
        after[mask], alone(weight, (mask, loud), lr=0.01, decay=0.0, clip=3.0), rtol=1e-4, atol=1e-6
    )


def test_a_stage_begins_afresh_and_what_an_earlier_one_tuned_stays_where_it_got_to():
    weight, stages = settings()
    found, expected = tune(weight, stages, lr=0.01, decay=0.1, clip=1.0), weight.clone()
    for stage in stages:
        expected[stage[0]] = alone(expected, stage, lr=0.01, decay=0.1, clip=1.0)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_weight_that_was_handed_in_is_left_as_it_was():
    weight, stages = settings()
    before = weight.clone()
    tune(weight, stages, lr=0.01, decay=0.1, clip=1.0)
    assert torch.equal(weight, before)
