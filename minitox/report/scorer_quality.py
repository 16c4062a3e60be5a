"""How good a scorer is: whether it separates labelled cases, and agrees with another scorer."""

import numpy as np

from minitox.detect.auroc import auroc_from_rank_sum, midranks

STEPS = 10_000  # of the search for the ends of an interval


def auc(scores, hateful) -> float:  # (n,), (n,) bool
    """Probability that a hateful case has a higher score than a harmless one; ties count half.

    NaN without a case of each class.
    """
    many = int(hateful.sum())
    few = len(hateful) - many
    if not many or not few:
        return np.nan
    (ranks,) = midranks(scores[None])  # (n,)
    return float(auroc_from_rank_sum(ranks[hateful].sum(), many, few))


def auc_interval(value: float, hateful: int, harmless: int) -> tuple[float, float]:
    """95 % interval of an AUC: all true AUCs from which `value` is at most 1.96 deviations away.

    The deviation is that of a true AUC, so the interval has a width also where `value` is 1, as
    Wilson's of a share does.  [Hanley and McNeil 1982; Newcombe 2006]
    """
    # 1) the variance that each true AUC would have, (STEPS + 1,)
    true = np.linspace(0, 1, STEPS + 1)
    two_above = true / (2 - true)  # chance that two hateful cases are above one harmless one
    above_two = 2 * true**2 / (1 + true)  # that one hateful case is above two harmless ones
    variance = true * (1 - true)
    variance += (hateful - 1) * (two_above - true**2)
    variance += (harmless - 1) * (above_two - true**2)
    variance /= hateful * harmless

    # 2) those near enough; rounding may hide the value itself, at 0 and 1
    near = np.abs(value - true) <= 1.96 * np.sqrt(np.maximum(variance, 0))
    inside = [value, *true[near]]
    return float(min(inside)), float(max(inside))


def rank_correlation(a, b) -> float:  # (n,), (n,)
    """Spearman's correlation; NaN if all values of `a` or of `b` are equal."""
    a, b = midranks(np.stack([a, b]))
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else np.nan


def kappa(a, b) -> float:  # (n,) bool, (n,) bool
    """Cohen's kappa of two verdicts: agreement beyond chance; NaN if chance agreement is 1."""
    same = np.mean(a == b)
    by_chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return float((same - by_chance) / (1 - by_chance)) if by_chance < 1 else np.nan
