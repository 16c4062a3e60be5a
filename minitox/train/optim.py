"""The optimizer step that multiplies gradients by neuron masks, and its twin that never forms what the mask would delete.

Both take weights and, for each, a mask of its rows (R,): a row is a neuron. Both compute the same update, to the bit in
float32, and both leave every other row as it is, to the bit. That takes more than masking the gradient: in AdamW weight decay
pulls at rows without a gradient, momentum goes on pushing rows that had one, and frozen gradients would set the scale to
which chosen ones are clipped. So decay, both moments and the norm are the chosen rows' alone.

Weights that are not float32 are trained through a float32 copy, the master: at 8 bits of precision an update of a thousandth
of a weight rounds to nothing. Of a weight that is spread over several processes, each updates the rows that it holds.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from minitox.run import distributed


class MaskedAdamW:
    """The method as one reads it. Its memory is that of whole matrices; `RowAdamW` is the one for large models.  [paper §3.3]"""

    def __init__(
        self,
        weights: dict[str, nn.Parameter],
        masks: dict[str, torch.Tensor],
        betas=(0.9, 0.999),
        eps=1e-8,
        decay=0.01,
    ):
        self.weights, self.betas, self.eps, self.decay, self.steps = weights, betas, eps, decay, 0
        self.held = {
            name: torch.ones_like(mask) for name, mask in masks.items()
        }  # the rows (R,) that it has a state of
        self.masks = {
            name: distributed.part(mask, weights[name]).view(-1, *[1] * (weights[name].dim() - 1))
            for name, mask in masks.items()
        }  # (R, 1)
        self.state = {
            name: empty_state(distributed.local(weight.detach()))
            for name, weight in weights.items()
        }
        for weight in weights.values():
            weight.requires_grad_(True)

    def norm(self):  # -> ()
        """Length of the gradient over all chosen rows; NaN if any gradient is not finite, for 0 times infinity is not 0."""
        return norm(
            self.weights,
            [
                distributed.local(weight.grad) * self.masks[name]
                for name, weight in self.weights.items()
            ],
        )

    @torch.no_grad()
    def step(self, lr: float, scale: float = 1.0) -> None:
        """One step of AdamW on the rows that the masks choose, their gradients times `scale`; gradients are gone afterwards."""
        self.steps += 1
        for name, weight in self.weights.items():
            mask, state, rows = self.masks[name], self.state[name], distributed.local(weight)
            grad = (
                distributed.local(weight.grad).float() * mask * scale
            )  # the method in one line; moments see masked gradients alone
            target = state.get("master", rows)
            target.mul_(
                torch.where(mask, 1 - lr * self.decay, 1.0)
            )  # without this mask, decay would move every row
            adam(target, grad, state, self.steps, lr, self.betas, self.eps)
            if target is not rows:
                rows.copy_(target)
            weight.grad = None


class RowAdamW:
    """The same update with gradients, moments and masters for the chosen rows alone: 8 bytes of state a chosen weight in
    float32, 12 in bfloat16, and nothing for any other.  [paper §3.3]

    Where a mask leaves rows out, the weight's gradient is expected in `weight.row_grad` (n, D), where `RowLinear` puts it; of a
    weight that is spread over several processes, in `weight.grad`, where the sum over the processes ends up.
    """

    def __init__(
        self,
        weights: dict[str, nn.Parameter],
        masks: dict[str, torch.Tensor],
        betas=(0.9, 0.999),
        eps=1e-8,
        decay=0.01,
    ):
        self.weights, self.betas, self.eps, self.decay, self.steps = weights, betas, eps, decay, 0
        self.held = masks  # the rows (R,) that it has a state of
        here = {name: distributed.part(mask, weights[name]) for name, mask in masks.items()}
        self.rows = {
            name: None if mask.all() else mask.nonzero().squeeze(1) for name, mask in here.items()
        }  # None: all
        self.state = {name: empty_state(self.chosen(name)) for name in weights}
        for name, weight in weights.items():
            weight.requires_grad_(True)
            apart = self.rows[name] is not None and not distributed.is_spread(weight)
            weight.row_grad = torch.zeros_like(self.state[name]["average"]) if apart else None

    def chosen(self, name: str):  # -> (n, D)
        """The chosen rows of a weight: a copy, or the weight itself if it is chosen whole."""
        weight, rows = distributed.local(self.weights[name].detach()), self.rows[name]
        return weight if rows is None else weight.index_select(0, rows)

    def grad(self, name: str):  # -> (n, D)
        weight, rows = self.weights[name], self.rows[name]
        if weight.row_grad is not None:
            return weight.row_grad
        return (
            distributed.local(weight.grad)
            if rows is None
            else distributed.local(weight.grad).index_select(0, rows)
        )

    def norm(self):  # -> ()
        """Length of the gradient over all chosen rows."""
        return norm(self.weights, [self.grad(name) for name in self.weights])

    @torch.no_grad()
    def step(self, lr: float, scale: float = 1.0) -> None:
        """One step of AdamW on the chosen rows, their gradients times `scale`; gradients are zero afterwards, or None where spread."""
        self.steps += 1
        for name, weight in self.weights.items():
            grad, here, rows, state = (
                self.grad(name),
                distributed.local(weight),
                self.rows[name],
                self.state[name],
            )
            target = state["master"] if "master" in state else self.chosen(name)
            target.mul_(1 - lr * self.decay)
            adam(target, grad.float().mul_(scale), state, self.steps, lr, self.betas, self.eps)
            if rows is not None:
                here.index_copy_(0, rows, target.to(here.dtype))
            elif target.dtype != here.dtype:
                here.copy_(target)
            if distributed.is_spread(weight):
                weight.grad = None
            else:
                grad.zero_()  # not freed: allocating it again at every step is slow


class RowLinear(nn.Linear):
    """A linear layer whose backward pass forms the weight gradient of the chosen rows (n,) alone, summed up in `weight.row_grad`."""

    rows = None  # all

    def forward(self, x):  # (B, T, D) -> (B, T, R)
        return (
            F.linear(x, self.weight)
            if self.rows is None
            else RowGradient.apply(x, self.weight, self.rows)
        )


class RowGradient(torch.autograd.Function):
    """x @ weight.T; backward costs n/R of the usual weight gradient."""

    @staticmethod
    def forward(ctx, x, weight, rows):
        ctx.save_for_backward(x)
        ctx.weight, ctx.rows = (
            weight,
            rows,
        )  # not saved as tensors: the gradient goes to this very weight
        return F.linear(x, weight)

    @staticmethod
    def backward(ctx, grad):
        (x,), weight = ctx.saved_tensors, ctx.weight
        to_input, to_weight = grad @ weight if ctx.needs_input_grad[0] else None, None
        if weight.requires_grad:
            chosen = grad.flatten(0, -2).t().index_select(0, ctx.rows) @ x.flatten(0, -2)
            if hasattr(weight, "row_grad"):
                weight.row_grad += chosen
            else:  # gathered for this layer alone, from processes among which whole gradients are summed
                to_weight = torch.zeros_like(weight).index_copy_(0, ctx.rows, chosen)
        return to_input, to_weight, None


def empty_state(weight) -> dict[str, torch.Tensor]:
    """Both moments, zero, and a master where the weight is not float32."""
    state = {
        "average": torch.zeros_like(weight, dtype=torch.float32),
        "square": torch.zeros_like(weight, dtype=torch.float32),
    }
    return state if weight.dtype == torch.float32 else state | {"master": weight.float()}


def adam(
    weight, grad, state: dict, step: int, lr: float, betas: tuple[float, float], eps: float
) -> None:
    """Adam in place, with the operations of torch.optim.AdamW in their order, because rounding depends on it."""
    average, square, (beta1, beta2) = state["average"], state["square"], betas
    average.lerp_(grad, 1 - beta1)  # m = beta1 m + (1 - beta1) g
    square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)  # v = beta2 v + (1 - beta2) g^2
    root = (square.sqrt() / math.sqrt(1 - beta2**step)).add_(
        eps
    )  # both begin at 0, which the powers make up for
    weight.addcdiv_(average, root, value=-lr / (1 - beta1**step))  # w -= lr m / sqrt(v)


def norm(weights: dict[str, nn.Parameter], grads: list[torch.Tensor]):  # -> ()
    """Length of all gradients together, of which each process has its part where weights are spread; in float64, so that it does
    not depend on how many there are."""
    dtype = torch.float32 if grads[0].device.type == "mps" else torch.float64
    lengths = torch.stack([torch.linalg.vector_norm(grad, dtype=dtype) for grad in grads])
    if spread := [i for i, weight in enumerate(weights.values()) if distributed.is_spread(weight)]:
        lengths[spread] = distributed.all_reduce(lengths[spread].square()).sqrt()
    return torch.linalg.vector_norm(lengths)
