"""The fast twin of optim.py: no gradient, moment or master weight for a row that is not trained.

Of a weight matrix with n chosen rows of R, `RowLinear` computes n/R of the usual weight gradient,
and `RowAdamW` holds n/R of the usual optimizer state. The update is that of MaskedAdamW up to
rounding, in one pass over a weight, its gradient and its moments.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.adamw import adamw

from minitox.train.optim import empty_state, norms


class RowAdamW:
    """AdamW with state for the chosen rows only: 8 bytes per chosen weight in float32, else 12.

    The gradient of the chosen rows is read from `row_grads` (n, D) where there is one, else from
    the weight's `.grad` (R, D).
    """

    def __init__(
        self,
        weights,  # each (R, D), or (R,)
        masks,  # each (R,) bool: the rows that are trained
        row_grads=None,  # each (n, D) float32
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        decay: float = 0.01,
    ):
        self.weights = weights
        self.row_grads = row_grads or {}
        self.betas = betas
        self.eps = eps
        self.decay = decay
        self.steps = 0
        self.rows = {name: row_indices(mask) for name, mask in masks.items()}
        self.state = {name: empty_state(self.chosen(name)) for name in weights}

    def chosen(self, name: str):  # -> (n, D)
        """The chosen rows of a weight: a copy, or the weight itself if all rows are chosen."""
        weight = self.weights[name].detach()
        rows = self.rows[name]
        return weight if rows is None else weight.index_select(0, rows)

    def grad(self, name: str):  # -> (n, D)
        """The gradient of a weight's chosen rows."""
        if name in self.row_grads:
            return self.row_grads[name]
        grad = self.weights[name].grad
        rows = self.rows[name]
        return grad if rows is None else grad.index_select(0, rows)

    def gradient_norms(self):  # -> (weights,)
        """Norm of the gradient of each weight's chosen rows."""
        return norms([self.grad(name) for name in self.weights])

    @torch.no_grad()
    def step(self, lr: float, scale: float = 1.0):
        """One step of AdamW on the chosen rows, their gradients multiplied by `scale`."""
        self.steps += 1
        for name, weight in self.weights.items():
            rows = self.rows[name]
            state = self.state[name]
            grad = self.grad(name).float().mul_(scale)

            # Decay and Adam, on the chosen rows gathered in one matrix (n, D)
            master = state["master"] if "master" in state else self.chosen(name)
            adamw(
                [master],
                [grad],
                [state["exp_avg"]],
                [state["exp_avg_sq"]],
                [],
                [torch.full((), self.steps - 1.0, device=weight.device)],
                fused=True,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=lr,
                weight_decay=self.decay,
                eps=self.eps,
                maximize=False,
            )

            # Write the rows back
            if rows is not None:
                weight.index_copy_(0, rows, master.to(weight.dtype))
            elif master.dtype != weight.dtype:
                weight.copy_(master)

            # Zeroed, not freed: allocating gradients again at every step is slow
            self.row_grads.get(name, weight.grad).zero_()


def row_indices(mask):  # (R,) bool -> (n,)
    """Indices of the chosen rows; None if all are chosen."""
    return None if mask.all() else mask.nonzero().squeeze(1)


class RowGradient(torch.autograd.Function):
    """x @ weight.T, whose backward pass computes the weight gradient of some rows only."""

    @staticmethod
    def forward(ctx, x, weight, rows, row_grad):  # (B, T, D), (R, D), (n,) -> (B, T, R)
        ctx.save_for_backward(x)
        ctx.weight = weight  # not saved as a tensor: backward needs the weight itself, not a copy
        ctx.rows = rows
        ctx.row_grad = row_grad
        return F.linear(x, weight)

    @staticmethod
    def backward(ctx, grad):  # (B, T, R) -> (B, T, D), (R, D) or None
        (x,) = ctx.saved_tensors
        to_input = grad @ ctx.weight if ctx.needs_input_grad[0] else None
        to_weight = None
        if ctx.weight.requires_grad:
            # The chosen rows of the usual gradient, grad.T @ x
            chosen = grad.flatten(0, -2).t().index_select(0, ctx.rows) @ x.flatten(0, -2)  # (n, D)
            if ctx.row_grad is not None:
                ctx.row_grad += chosen
            else:
                to_weight = torch.zeros_like(ctx.weight).index_copy_(0, ctx.rows, chosen)
        return to_input, to_weight, None, None


class RowLinear(nn.Module):
    """Wraps a linear layer; its backward pass computes the weight gradient of some rows only.

    The gradient is added to `row_grad` (n, D); without one it goes to the weight's `.grad` (R, D),
    with zeros for the other rows.
    """

    def __init__(self, linear: nn.Linear, rows, row_grad):
        super().__init__()
        self.linear = linear
        self.rows = rows
        self.row_grad = row_grad

    def forward(self, x):  # (B, T, D) -> (B, T, R)
        return RowGradient.apply(x, self.linear.weight, self.rows, self.row_grad)


class RowGradients:
    """A context manager that swaps linear layers with frozen rows for RowLinear layers.

    `row_grads` collects the gradients (n, D) of the chosen rows by name. The gradients of the
    weights named in `whole` go to the weights' own `.grad`.
    """

    def __init__(self, model: nn.Module, masks, whole=()):
        self.model = model
        self.row_grads = {}
        self.layers = {}  # by name: the layer, and the one that takes its place
        for name, mask in masks.items():
            rows = row_indices(mask)
            if rows is None:
                continue
            module = name.removesuffix(".weight")
            layer = model.get_submodule(module)
            if name not in whole:
                shape = (len(rows), layer.in_features)
                self.row_grads[name] = torch.zeros(shape, device=mask.device)
            self.layers[module] = layer, RowLinear(layer, rows, self.row_grads.get(name))

    def __enter__(self):
        for name, (_, row_linear) in self.layers.items():
            self.replace(name, row_linear)
        return self.row_grads

    def __exit__(self, *error):
        for name, (layer, _) in self.layers.items():
            self.replace(name, layer)

    def replace(self, name: str, layer: nn.Module):
        """Put a layer in the place of the one of this dotted name."""
        parent, leaf = name.rsplit(".", 1)
        setattr(self.model.get_submodule(parent), leaf, layer)
