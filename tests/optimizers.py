"""Random weights, masks and gradients, and short runs of an optimizer on them."""

import torch
from torch import nn

from minitox.train.optim import MaskedAdamW
from minitox.train.row_optim import RowAdamW

SHAPES = {"gate": (48, 33), "down": (32, 47), "norm": (19,)}


def row_adamw_with_row_grads(weights: dict, masks: dict, **options) -> RowAdamW:
    """RowAdamW that reads the gradients of chosen rows where RowLinear adds them up."""
    row_grads = {}
    for name, mask in masks.items():
        if not mask.all():
            row_grads[name] = torch.zeros_like(weights[name][mask], dtype=torch.float32)
    return RowAdamW(weights, masks, row_grads, **options)


# RowAdamW itself reads the rows of whole gradients
OPTIMIZERS = [MaskedAdamW, RowAdamW, row_adamw_with_row_grads]


def random_weights(dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in SHAPES.items():
        values = 0.05 * torch.randn(shape, generator=generator)
        weights[name] = nn.Parameter(values.to(dtype))
    return weights


def random_masks(share: float = 0.4, seed: int = 1) -> dict[str, torch.Tensor]:
    """About this share of the rows of each weight."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(shape[0], generator=generator) < share for name, shape in SHAPES.items()
    }


def random_gradients(
    steps: int, dtype: torch.dtype = torch.float32, size: float = 1.0
) -> list[dict[str, torch.Tensor]]:
    """For each step, the gradient of every weight."""
    generator = torch.Generator().manual_seed(2)
    of_steps = []
    for _ in range(steps):
        grads = {}
        for name, shape in SHAPES.items():
            grads[name] = (size * torch.randn(shape, generator=generator)).to(dtype)
        of_steps.append(grads)
    return of_steps


def give(optimizer: MaskedAdamW | RowAdamW, grads: dict[str, torch.Tensor]) -> None:
    """Put gradients where backward would put them."""
    for name, weight in optimizer.weights.items():
        if isinstance(optimizer, RowAdamW) and name in optimizer.row_grads:
            optimizer.row_grads[name].copy_(grads[name][optimizer.rows[name]])
        else:
            weight.grad = grads[name].clone()


def total_norm(optimizer: MaskedAdamW | RowAdamW) -> float:
    """The norm of all gradients together, of the chosen rows."""
    return torch.linalg.vector_norm(optimizer.gradient_norms()).item()


def train(
    make_optimizer,  # one of OPTIMIZERS
    masks: dict[str, torch.Tensor],
    gradients: list[dict[str, torch.Tensor]],  # of each step
    start: dict[str, torch.Tensor] | None = None,  # not changed; default: random_weights()
    max_norm: float = float("inf"),
) -> dict[str, torch.Tensor]:
    """The weights after training the chosen rows."""
    dtype = gradients[0]["gate"].dtype
    start = random_weights(dtype) if start is None else start
    weights = {name: nn.Parameter(weight.detach().clone()) for name, weight in start.items()}
    optimizer = make_optimizer(weights, masks, decay=0.1)
    for grads in gradients:
        give(optimizer, grads)
        optimizer.step(1e-3, min(1.0, max_norm / total_norm(optimizer)))
    return {name: weight.detach() for name, weight in weights.items()}


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Stricter than torch.equal, to which 0 and -0 are equal."""
    integers = torch.int32 if a.dtype == torch.float32 else torch.int16
    return torch.equal(a.view(integers), b.view(integers))
