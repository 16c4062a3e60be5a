"""Controls for a count of toxic neurons: text length, random labels, split halves.  [paper §4.3]

Under max pooling a longer text has a larger response in nearly every neuron, whatever its content.
If the clean sentences are longer, most AUROCs are below 0.5 together, and the count says more about
the data than about the model.
"""

import numpy as np

from minitox.detect.auroc import auroc, auroc_from_rank_sum, midranks


def length_auroc(lengths, toxic) -> float:  # (N,), (N,) bool
    """AUROC of the number of tokens: 0.5 if toxic and clean sentences are equally long."""
    as_one_neuron = np.asarray(lengths, dtype=np.float32)[None]  # (1, N)
    return float(auroc(as_one_neuron, toxic)[0])


def shuffled_aurocs(responses, toxic, rng, permutations: int = 200):  # (S, N), (N,) -> (S, P)
    """AUROC of a sample of S neurons under P random permutations of the labels."""
    ranks = np.stack([midranks(row) for row in responses])  # (S, N)
    labels = np.stack([rng.permutation(toxic) for _ in range(permutations)])  # (P, N)
    rank_sums = ranks @ labels.T.astype(np.float64)  # (S, P), over the sentences labelled toxic
    count = int(toxic.sum())
    return auroc_from_rank_sum(rank_sums, count, len(toxic) - count)


def random_label_band(shuffled) -> tuple[float, float]:  # (S, P)
    """The middle 95 % of the share of neurons above AUROC 0.5 under random labels."""
    shares = (shuffled > 0.5).mean(axis=0)  # (P,)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)


def beyond_chance(aurocs, shuffled) -> float:  # (K,), (S, P)
    """Share of neurons above the 97.5 % quantile of AUROC under random labels.

    Random labels give 2.5 % on average.
    """
    return float((aurocs > np.quantile(shuffled, 0.975)).mean())


def split_half(responses, toxic, rng) -> float:  # (S, N), (N,) bool
    """Jaccard index of the toxic neurons found in two halves of the sentences.

    That is the number of neurons toxic in both halves, divided by the number toxic in either.
    NaN if there are too few sentences to split.
    """
    # One half of the toxic and one half of the clean sentences, at random
    half = np.zeros(len(toxic), dtype=bool)
    for group in (np.flatnonzero(toxic), np.flatnonzero(~toxic)):
        half[rng.permutation(group)[: len(group) // 2]] = True
    if toxic[half].all() or not toxic[half].any():
        return float("nan")

    first = auroc(responses[:, half], toxic[half]) > 0.5  # (S,)
    second = auroc(responses[:, ~half], toxic[~half]) > 0.5
    return float((first & second).sum() / max(1, (first | second).sum()))


def match_lengths(lengths, toxic, rng):  # (N,), (N,) bool -> (N,) bool
    """A subset of sentences with as many toxic as clean ones of every length."""
    chosen = np.zeros(len(toxic), dtype=bool)
    for length in np.unique(lengths):
        toxic_ones = np.flatnonzero((lengths == length) & toxic)
        clean_ones = np.flatnonzero((lengths == length) & ~toxic)
        fewest = min(len(toxic_ones), len(clean_ones))
        chosen[rng.permutation(toxic_ones)[:fewest]] = True
        chosen[rng.permutation(clean_ones)[:fewest]] = True
    return chosen
