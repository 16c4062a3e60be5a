"""Controls for a count of toxic neurons: text length, random labels, split halves.  [paper §4.3]

Under max pooling a longer text has a larger response in nearly every neuron, whatever its content.
If the clean sentences are longer, most AUROCs are below 0.5 together, and the count says more about
the data than about the model.
"""

import numpy as np

from minitox.detect.auroc import auroc, auroc_from_rank_sum, midranks


def length_auroc(lengths, toxic) -> float:  # (N,), (N,) bool
    """AUROC of the number of tokens: 0.5 if toxic and clean sentences are equally long."""
    lengths = np.asarray(lengths, dtype=np.float32)
    as_one_neuron = lengths[None]  # (1, N)
    aurocs = auroc(as_one_neuron, toxic)  # (1,)
    return float(aurocs[0])


def shuffled_aurocs(
    responses,  # (S, N), of a sample of S neurons
    toxic,  # (N,) bool
    rng: np.random.Generator,
    permutations: int = 200,  # P
):  # -> (S, P)
    """AUROC of each neuron under random permutations of the labels."""
    # 1) the ranks of a neuron's responses do not depend on the labels
    ranks = np.stack([midranks(row) for row in responses])  # (S, N)

    # 2) the same labels on other sentences
    labels = np.stack([rng.permutation(toxic) for _ in range(permutations)])  # (P, N)

    # 3) the sum of the ranks of the sentences that are labelled toxic
    rank_sums = ranks @ labels.T.astype(np.float64)  # (S, P)
    toxic_count = int(toxic.sum())
    clean_count = len(toxic) - toxic_count
    return auroc_from_rank_sum(rank_sums, toxic_count, clean_count)


def random_label_band(shuffled) -> tuple[float, float]:  # (S, P)
    """The middle 95 % of the share of neurons above AUROC 0.5 under random labels."""
    shares = (shuffled > 0.5).mean(axis=0)  # (P,)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)


def beyond_chance(aurocs, shuffled) -> float:  # (K,), (S, P)
    """Share of neurons above the 97.5 % quantile of AUROC under random labels.

    Random labels give 2.5 % on average.
    """
    threshold = np.quantile(shuffled, 0.975)
    return float((aurocs > threshold).mean())


def split_half(
    responses,  # (S, N)
    toxic,  # (N,) bool
    rng: np.random.Generator,
) -> float | None:
    """Jaccard index of the toxic neurons found in two halves of the sentences.

    That is the number of neurons toxic in both halves, divided by the number toxic in either.
    None if there are too few sentences to split.
    """
    # 1) one half of the toxic and one half of the clean sentences, at random
    in_first = np.zeros(len(toxic), dtype=bool)
    for group in (np.flatnonzero(toxic), np.flatnonzero(~toxic)):
        shuffled = rng.permutation(group)
        half = len(group) // 2
        in_first[shuffled[:half]] = True
    in_second = ~in_first
    if toxic[in_first].all() or not toxic[in_first].any():
        return None

    # 2) the toxic neurons of each half
    first = auroc(responses[:, in_first], toxic[in_first]) > 0.5  # (S,)
    second = auroc(responses[:, in_second], toxic[in_second]) > 0.5  # (S,)

    # 3) how many are the same
    in_both = (first & second).sum()
    in_either = (first | second).sum()
    return float(in_both / max(1, in_either))


def match_lengths(
    lengths,  # (N,)
    toxic,  # (N,) bool
    rng: np.random.Generator,
):  # -> (N,) bool
    """A subset of sentences with as many toxic as clean ones of every length."""
    chosen = np.zeros(len(toxic), dtype=bool)
    for length in np.unique(lengths):
        # 1) the sentences of this length
        of_length = lengths == length
        toxic_ones = np.flatnonzero(of_length & toxic)
        clean_ones = np.flatnonzero(of_length & ~toxic)

        # 2) as many of each class as the rarer one has
        number = min(len(toxic_ones), len(clean_ones))
        for group in (toxic_ones, clean_ones):
            shuffled = rng.permutation(group)
            chosen[shuffled[:number]] = True
    return chosen
