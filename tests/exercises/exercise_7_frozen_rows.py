"""Exercise 7. Masking the gradient does not freeze.  [paper §3.3] (hard)

"Only the toxic neurons are tuned, all others are frozen" is one line of code:

    weight.grad *= mask[:, None]          # mask (R,): True for the rows, that is, the neurons, that may move

before the optimizer's step, and the line does not do it. Recall step t of AdamW, for a weight w with gradient g:

    w -= lr * decay * w                                    # decoupled weight decay
    m  = beta1 * m + (1 - beta1) * g                       # momentum
    v  = beta2 * v + (1 - beta2) * g²
    w -= lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

First, break it: show two ways in which a row moves at a step at which it is masked. Then, mend it. The paper tunes language
after language, each with neurons of its own, so there are several stages, each with a mask and gradients of its own. In a
stage the chosen rows must move as if AdamW had nothing else to train, beginning afresh, and all other rows must keep every
bit.

There is a third trap that moves nothing it should not: gradients are clipped, scaled down to a length of at most `clip`,
before each step. The length of what?

torch.optim.AdamW may be used, if you find out on what. The other settings are its defaults. A decay is the optimizer's
weight_decay.

    python -m pytest tests/exercises/test_exercise_7_frozen_rows.py

Afterwards read minitox/train/optim.py, which mends it twice, as one reads it and for models of which even the gradients do not
fit, and minitox/train/frozen.py, which trusts neither and hashes what should not have moved. Something to
think about: would SGD without momentum freeze? And what if the weights are bfloat16, where 1 + 0.001 is 1?
"""


def moved_by_decay() -> tuple[float, list[list[bool]]]:
    """A weight decay and, for each of some steps, a mask of 4 rows, under which a row moves that is never chosen."""
    raise NotImplementedError


def moved_by_momentum() -> tuple[float, list[list[bool]]]:
    """The same without any weight decay: a row moves at a step whose mask leaves it out."""
    raise NotImplementedError


def tune(
    weight, stages: list[tuple], lr: float, decay: float, clip: float
):  # (R, D) tensor -> (R, D), a new one
    """Train the chosen rows, stage by stage, with AdamW. A stage is (mask (R,) bool, [a gradient (R, D) for each step])."""
    raise NotImplementedError
