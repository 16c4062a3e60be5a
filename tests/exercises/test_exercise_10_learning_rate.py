"""Fails until exercise 10 is solved."""

import pytest
import torch
from exercise_10_learning_rate import first_step, matching_rate, predicted_decrease

SHAPES = [(40, 6), (30, 10), (10, 30)]  # modules of different width


def random_modules(seed: int = 0) -> list:
    """A matrix for each module. Modules and weights differ much in size, as gradients do."""
    generator = torch.Generator().manual_seed(seed)
    modules = []
    for scale, shape in zip([1.0, 0.01, 3.0], SHAPES, strict=True):
        modules.append(scale * torch.randn(shape, generator=generator) ** 3)
    return modules


def random_masks(share: float) -> list:
    generator = torch.Generator().manual_seed(7)
    masks = []
    for rows, _ in SHAPES:
        masks.append(torch.randperm(rows, generator=generator) < round(share * rows))
    return masks


EVERY_ROW = random_masks(1)


def adam_on_rows(weight, grad, mask):
    """The weight after Adam's first step on the chosen rows alone."""
    rows = weight[mask].clone().requires_grad_()
    rows.grad = grad[mask].clone()
    torch.optim.Adam([rows], lr=0.01, eps=1e-8).step()
    after = weight.clone()
    after[mask] = rows.detach()
    return after


def test_the_first_step_is_that_of_adam_on_the_chosen_rows():
    for share in (1, 0.5, 0.1):
        weights, grads, masks = random_modules(1), random_modules(2), random_masks(share)
        steps = first_step(weights, grads, masks, lr=0.01)
        for weight, grad, mask, after in zip(weights, grads, masks, steps, strict=True):
            assert torch.allclose(after, adam_on_rows(weight, grad, mask), atol=1e-6)
            assert torch.equal(after[~mask], weight[~mask])


def test_the_given_weights_are_not_changed():
    weights = random_modules(1)
    first_step(weights, random_modules(2), EVERY_ROW, lr=0.01)
    for weight, before in zip(weights, random_modules(1), strict=True):
        assert torch.equal(weight, before)


def test_a_weight_without_a_gradient_stays():
    weights, grads = random_modules(1), random_modules(2)
    grads[0][3] = 0
    after = first_step(weights, grads, EVERY_ROW, lr=0.01)
    assert torch.equal(after[0][3], weights[0][3])


def test_the_predicted_decrease_is_exact_for_a_linear_loss():
    for share in (1, 0.5, 0.1):
        weights, grads, masks = random_modules(1), random_modules(2), random_masks(share)
        steps = first_step(weights, grads, masks, lr=0.01)
        decrease = 0.0
        for weight, grad, after in zip(weights, grads, steps, strict=True):
            decrease += (grad * (weight - after)).sum().item()
        predicted = float(predicted_decrease(grads, masks, lr=0.01))
        assert predicted == pytest.approx(decrease, rel=1e-3) and predicted > 0


def test_the_decrease_is_proportional_to_the_rate():
    grads, masks = random_modules(), random_masks(0.5)
    once = float(predicted_decrease(grads, masks, lr=0.01))
    assert float(predicted_decrease(grads, masks, lr=0.03)) == pytest.approx(3 * once, rel=1e-5)


def test_all_rows_need_no_other_rate():
    assert float(matching_rate(random_modules(), EVERY_ROW, 0.002)) == pytest.approx(0.002)


def test_at_the_matching_rate_both_steps_reduce_the_loss_as_much():
    grads = random_modules()
    full = float(predicted_decrease(grads, EVERY_ROW, lr=0.002))
    for share in (0.5, 0.2, 0.1):
        masks = random_masks(share)
        rate = matching_rate(grads, masks, 0.002)
        assert float(predicted_decrease(grads, masks, lr=rate)) == pytest.approx(full, rel=1e-4)


def test_where_all_gradients_are_alike_the_rate_is_divided_by_the_share():
    grads = [torch.ones(shape) for shape in SHAPES]
    for share in (0.5, 0.1):
        rate = float(matching_rate(grads, random_masks(share), 0.002))
        assert rate == pytest.approx(0.002 / share, rel=1e-5)


def test_rows_with_large_gradients_need_less():
    grads = [torch.ones(shape) for shape in SHAPES]
    masks = random_masks(0.1)
    for grad, mask in zip(grads, masks, strict=True):
        grad[mask] = 5.0
    assert float(matching_rate(grads, masks, 0.002)) < 0.5 * 0.002 / 0.1
