"""The tuning loop: for each batch loss, backward, step.  [paper §3.3]"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from minitox.train.optim import MaskedAdamW
from minitox.train.pairs import Pair
from minitox.train.row_optim import RowAdamW


@dataclass(frozen=True)
class Hyperparameters:
    """How a stage is tuned."""

    epochs: int  # passes over the pairs
    batch_size: int  # pairs in a step
    lr: float  # peak learning rate, after warm-up
    warmup: float  # share of the steps in which the learning rate rises
    schedule: str  # of the learning rate after warm-up: "cosine" or "constant"
    weight_decay: float
    max_grad_norm: float  # over the chosen rows
    seed: int  # of the order of the pairs

    def steps_in_epoch(self, count: int) -> int:
        return math.ceil(count / self.batch_size)

    def steps(self, count: int) -> int:
        """Steps of a stage with this many pairs."""
        return self.epochs * self.steps_in_epoch(count)


def tune(
    optimizer: MaskedAdamW | RowAdamW,
    pairs: list[Pair],
    hyper: Hyperparameters,
    add_gradients,  # a batch -> its mean loss ()
    stage: int = 0,  # gives each stage an order of pairs of its own
    start: int = 0,  # steps that an earlier run has made
    total_norm=torch.linalg.vector_norm,
) -> Iterator[float]:
    """Tune the optimizer's weights, in place; yields the loss of each step from `start` on.

    ValueError for a hyperparameter that is out of range. FloatingPointError if a loss or a gradient
    is not finite; the step is then not made.
    """
    check(hyper)
    steps = hyper.steps(len(pairs))
    for step in range(start, steps):
        batch = [pairs[i] for i in batch_of(step, len(pairs), hyper, stage)]

        # 1) loss and gradients, summed over the micro-batches
        loss = add_gradients(batch)

        # 2) the norm of all gradients together; reading both numbers at once waits once for a GPU
        norm = total_norm(optimizer.gradient_norms())
        loss, norm = torch.stack([loss, norm]).tolist()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise FloatingPointError(not_finite(step, steps, loss, norm, batch))

        # 3) the masked update, with gradients scaled down to the maximum norm
        scale = min(1.0, hyper.max_grad_norm / norm) if norm else 1.0
        optimizer.step(learning_rate(step, steps, hyper), scale)
        yield loss


# The automatic learning rate. On the toy, its loss on test pairs is within 5 % of the best of four
# rates, 1/4, 1, 4 and 16 times it, for sets from all weights to 0.7 % of them
RATE_TIMES_WIDTH = 0.128  # where every weight is tuned
SMALLEST_SHARE = 0.028  # a smaller one counts as this, for steps may become too large
# root mean square of the toy's MLP weights. A step changes a weight by about the rate, so where
# weights are smaller the rate is lower in proportion; Qwen2.5-Coder-1.5B's have 0.0195
TOY_RMS = 0.118
# times that rate: on the toy, DPO's models have the lowest loss on replies at 0.3 to 0.45 of it
OF_OBJECTIVE = {"sft": 1.0, "dpo": 0.3}


def automatic_rate(
    hidden_size: int,
    share: float,  # of the weights, that is tuned
    rms: float,  # root mean square of the MLP's weights
    objective: str = "sft",
) -> float:
    """The learning rate of a model, from its width, its weights and how many of them are tuned."""
    of_all = RATE_TIMES_WIDTH / hidden_size
    rate = of_all / max(share, SMALLEST_SHARE)  # fewer weights need larger steps
    return OF_OBJECTIVE[objective] * rate * min(1.0, rms / TOY_RMS)


LARGEST = 1e30  # learning rate; AdamW's first step is ten times as large, and float32 ends at 3e38


def check(hyper: Hyperparameters):
    """ValueError if a number is negative, not finite, or so large that a step would overflow."""
    for name in ("lr", "weight_decay", "max_grad_norm"):
        value = getattr(hyper, name)
        if not 0 <= value <= LARGEST:  # false for NaN too
            raise ValueError(f"{name} is {value:g}; it must be a number from 0 to {LARGEST:g}")


def batch_of(step: int, count: int, hyper: Hyperparameters, stage: int):
    """Indices of a step's pairs, of `count` in all; each epoch is a new random order."""
    epoch, place = divmod(step, hyper.steps_in_epoch(count))
    order = np.random.default_rng([hyper.seed, stage, epoch]).permutation(count)
    first = place * hyper.batch_size
    return order[first : first + hyper.batch_size]


def learning_rate(step: int, steps: int, hyper: Hyperparameters) -> float:
    """The learning rate of a step, counted from 0."""
    # 1) linear warm-up
    warmup_steps = round(hyper.warmup * steps)
    if step < warmup_steps:
        return hyper.lr * (step + 1) / (warmup_steps + 1)
    # 2) constant, or half a cosine down to zero
    if hyper.schedule == "constant":
        return hyper.lr
    angle = math.pi * (step - warmup_steps) / (steps - warmup_steps)
    return hyper.lr * (1 + math.cos(angle)) / 2


def not_finite(step: int, steps: int, loss: float, norm: float, batch: list[Pair]) -> str:
    """The message about a loss or a gradient that is not finite."""
    lines = ", ".join(pair.where for pair in batch[:4])
    more = ", ..." if len(batch) > 4 else ""
    return (
        f"step {step + 1} of {steps}: the loss is {loss:g} and the gradient norm {norm:g}, "
        f"on the batch of {lines}{more}"
    )
