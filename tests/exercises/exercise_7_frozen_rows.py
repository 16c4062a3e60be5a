"""Exercise 7. Masking the gradient does not freeze.  [paper §3.3] (hard)

"Only the toxic neurons are tuned, all others are frozen" seems to be one line of code before the
optimizer's step,

    weight.grad *= mask[:, None]  # mask (R,): True for rows (neurons) that may move

but this line alone does not freeze the other rows. Recall step t of AdamW, for a weight w with
gradient g:

    w -= lr * decay * w                                    # decoupled weight decay
    m  = beta1 * m + (1 - beta1) * g                       # momentum
    v  = beta2 * v + (1 - beta2) * g²
    w -= lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

First break it: show two ways in which a row moves in a step in which it is masked. Then fix it.
The paper tunes one language after the other, each with neurons of its own, so there are several
stages, each with its own mask and gradients. In a stage, the chosen rows must move as if they were
all that AdamW trains, starting with a fresh optimizer state, and all other rows must keep every
bit.

There is a third trap, which moves no frozen row: before each step, gradients are clipped, that is,
scaled down to a norm of at most `clip`. The norm of which gradients?

You may use torch.optim.AdamW, if you find out what to pass to it. Keep its default settings,
except for weight_decay, which is `decay`.

Run the tests with

    python -m pytest tests/exercises/test_exercise_7_frozen_rows.py

Afterwards read minitox/train/optim.py, which solves this to be read, and row_optim.py, for
models whose gradients alone do not fit in memory. Then read minitox/train/frozen.py, which trusts
neither and compares the weights that should not have moved. Questions to think about: would SGD
without momentum freeze the rows? What if the weights are bfloat16, where 1 + 0.001 is 1?
"""


def moved_by_decay() -> tuple[float, list[list[bool]]]:
    """A weight decay, and a mask of 4 rows for each step, that move a row which is never chosen."""
    raise NotImplementedError


def moved_by_momentum() -> tuple[float, list[list[bool]]]:
    """The same with a weight decay of 0: a row moves in a step in which it is masked."""
    raise NotImplementedError


def tune(weight, stages: list[tuple], lr: float, decay: float, clip: float):  # -> (R, D)
    """Train the chosen rows of a copy of `weight` (R, D) with AdamW, stage by stage.

    A stage is (mask, gradients): a mask (R,) bool, and a gradient (R, D) for each step.
    """
    raise NotImplementedError
