"""What a count of toxic neurons is worth: does text length explain it, would random labels give it, does it repeat?

Under max pooling a longer text has a larger response in nearly every neuron, whatever it says. Where clean sentences are the
longer ones, most AUROCs fall below 0.5 together, and the count says more about the data than about the model.
"""

import numpy as np

from minitox.detect.auroc import auroc, auroc_from_rank_sum, midranks


def length_auroc(lengths, toxic) -> float:  # (N,), (N,) bool
    """AUROC of the number of tokens alone: 0.5 if toxic and clean sentences are equally long."""
    return float(auroc(np.asarray(lengths, dtype=np.float32)[None], toxic)[0])


def shuffled_aurocs(
    responses, toxic, rng, permutations: int = 200
):  # (S, N) of a sample of neurons, (N,) bool -> (S, P)
    """AUROC of each neuron when the labels are dealt to the sentences at random, P times."""
    ranks = np.stack([midranks(row) for row in responses])  # (S, N)
    labels = np.stack([rng.permutation(toxic) for _ in range(permutations)])  # (P, N)
    count = int(toxic.sum())
    return auroc_from_rank_sum(ranks @ labels.T.astype(np.float64), count, len(toxic) - count)


def random_label_band(shuffled) -> tuple[float, float]:  # (S, P)
    """The middle 95 % of the share of neurons that random labels put above AUROC 0.5."""
    low, high = np.quantile((shuffled > 0.5).mean(axis=0), [0.025, 0.975])
    return float(low), float(high)


def beyond_chance(auroc_of_all, shuffled) -> float:  # (K,), (S, P)
    """Share of neurons whose AUROC only 2.5 % of the random ones reach: 2.5 % is what random labels give on average."""
    return float((auroc_of_all > np.quantile(shuffled, 0.975)).mean())


def split_half(responses, toxic, rng) -> float:  # (S, N) of a sample of neurons, (N,) bool
    """Jaccard index of the toxic neurons found in two halves of the sentences: shared by both, of those in either."""
    half = np.zeros(len(toxic), dtype=bool)
    for group in (np.flatnonzero(toxic), np.flatnonzero(~toxic)):
        half[rng.permutation(group)[: len(group) // 2]] = True
    if toxic[half].all() or not toxic[half].any():
        return float("nan")  # too few sentences to split
    a, b = (auroc(responses[:, part], toxic[part]) > 0.5 for part in (half, ~half))
    return float((a & b).sum() / max(1, (a | b).sum()))


def match_lengths(lengths, toxic, rng):  # (N,), (N,) bool -> (N,) bool
    """A choice of sentences with as many toxic as clean ones of every length, so that length can explain nothing."""
    chosen = np.zeros(len(toxic), dtype=bool)
    for length in np.unique(lengths):
        groups = [np.flatnonzero((lengths == length) & (toxic == label)) for label in (True, False)]
        fewest = min(map(len, groups))
        for group in groups:
            chosen[rng.permutation(group)[:fewest]] = True
    return chosen
