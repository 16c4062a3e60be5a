"""Exercise 10. Why do fewer neurons want larger steps?  [paper §3.3] (hard)

To compare the tuning of all weights with that of a few neurons, one might keep the learning rate
and change the mask. That comparison is unfair to the few. Adam's first step, from moments of 0, is

    m = (1 - beta1) * g,   v = (1 - beta2) * g²
    w -= lr * m / (1 - beta1) / (sqrt(v / (1 - beta2)) + eps)

Simplify it: how far does each weight move, and does it matter how large its gradient g is?

Now look at what a step does to the loss. To first order, a change d of a weight changes the loss by
g * d. Sum this over the weights that move. With a mask that chooses few rows, few terms are left.
So at which learning rate does the masked step reduce the loss by as much as the step of all weights
does at `full_rate`?

Gradients are lists of matrices (R, D), one for each module; masks are lists of (R,) bool, True for
rows (neurons) that are tuned. Weight decay is 0.

Run the tests with

    python -m pytest tests/exercises/test_exercise_10_learning_rate.py

Afterwards read `automatic_rate` in minitox/train/tune.py, whose constants were fitted to the loss
after hundreds of steps, not derived: how close is its power to yours? Then read "Learning rates" in
tests/README.md. Questions to think about: what limits the rate from above? Would the answer be the
same for SGD, whose step is lr * g? And why may a comparison of two masks at one rate say nothing
about their neurons?
"""


def first_step(weights, grads, masks, lr: float, eps: float = 1e-8) -> list:
    """The weights after Adam's first step, of the chosen rows alone; the given ones stay."""
    raise NotImplementedError


def predicted_decrease(grads, masks, lr: float) -> float:
    """By how much this step reduces the loss, to first order. Take eps as 0."""
    raise NotImplementedError


def matching_rate(grads, masks, full_rate: float) -> float:
    """The rate at which the masked step reduces the loss as much as the full one at `full_rate`."""
    raise NotImplementedError
