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
    strata=0,  # (N,) integers; 0: all sentences are in the same stratum
):  # -> (S, P)
    """AUROC of each neuron under random permutations of the labels within each stratum."""
    # 1) the ranks of a neuron's responses do not depend on the labels
    ranks = midranks(responses)  # (S, N)

    # 2) the same labels on other sentences: sorted by stratum, in a random order in each
    strata = np.broadcast_to(strata, toxic.shape)
    order = np.argsort(strata, kind="stable")  # (N,)
    labels = np.empty((permutations, len(toxic)), dtype=bool)
    for row in labels:
        shuffled = np.argsort(strata + rng.random(len(toxic)))  # (N,)
        row[order] = toxic[shuffled]

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


def beyond_chance(aurocs, shuffled) -> float:  # (K,) or (S, P), (S, P)
    """Share of neurons above the 97.5 % quantile of AUROC under random labels.

    Random labels give 2.5 % on average. Labels that are permuted in each of `length_strata` give an
    upper bound on what length explains: where most sentences of a length are toxic, most keep their
    label.
    """
    threshold = np.quantile(shuffled, 0.975)
    return float((aurocs > threshold).mean())


def length_strata(lengths, toxic):  # (N,), (N,) bool -> (N,) integers
    """Groups of sentences of equal length, as narrow as they can be with both classes in each.

    If all sentences of a length are of one class, the next lengths join them until there are both.
    A sentence that is longer, or shorter, than all of the other class is in a group of one class.
    So are all sentences of one class if they lie between two neighbouring lengths of the other.
    """
    # 1) the range of lengths that both classes have
    shortest = max(lengths[toxic].min(), lengths[~toxic].min())
    longest = min(lengths[toxic].max(), lengths[~toxic].max())
    strata = np.zeros(len(toxic), dtype=np.int64)  # 0: shorter sentences

    # 2) a stratum ends where it has both classes, and the rest of the range has them, too
    stratum = 1
    start = shortest
    for length in np.unique(lengths[lengths >= shortest]):
        inside = (lengths >= start) & (lengths <= length)
        rest = (lengths > length) & (lengths <= longest)
        strata[inside] = stratum
        if length == longest or (has_both(toxic[inside]) and has_both(toxic[rest])):
            stratum += 1
            start = length + 1
    return strata


def has_both(toxic) -> bool:
    """Whether some sentences are toxic and some are clean."""
    return bool(toxic.any() and not toxic.all())


def beyond_length(
    aurocs,  # (S,)
    shuffled,  # (S, P), labels permuted in each of `length_strata`
) -> float | None:
    """Share of neurons above the 97.5 % quantile of their own AUROCs under such labels.

    A neuron's own, because neurons depend on length in different ways. If toxicity changed nothing
    but the length, 2.5 % would be above it. None if no label can move.
    """
    if (shuffled == aurocs[:, None]).all():
        return None
    thresholds = np.quantile(shuffled, 0.975, axis=1, method="higher")  # (S,)
    return float((aurocs > thresholds).mean())


def split_half(
    responses,  # (S, N)
    toxic,  # (N,) bool
    lengths,  # (N,)
    rng: np.random.Generator,
    permutations: int = 200,
) -> tuple[float | None, float | None, float | None]:
    """Jaccard index of the toxic neurons found in two halves of the sentences.

    That is the number of neurons toxic in both halves, divided by the number toxic in either. With
    the true labels, then the mean under random labels, and under those in `length_strata`.
    Three times None if there are too few sentences to split.
    """
    # 1) one half of the toxic and one half of the clean sentences, at random
    in_first = np.zeros(len(toxic), dtype=bool)
    for group in (np.flatnonzero(toxic), np.flatnonzero(~toxic)):
        shuffled = rng.permutation(group)
        half = len(group) // 2
        in_first[shuffled[:half]] = True
    if not has_both(toxic[in_first]):
        return None, None, None

    # 2) the AUROCs in each half: true labels, random ones, and ones permuted within each length
    halves = []
    for half in (in_first, ~in_first):
        of_half = (responses[:, half], toxic[half])
        strata = length_strata(lengths[half], toxic[half])
        true = auroc(*of_half)[:, None]  # (S, 1)
        free = shuffled_aurocs(*of_half, rng, permutations)  # (S, P)
        alike = shuffled_aurocs(*of_half, rng, permutations, strata)
        halves.append((true, free, alike))

    # 3) how many neurons are toxic in both
    true, free, alike = map(jaccard, *halves)
    return true, free, alike


def jaccard(first, second) -> float:  # AUROCs in two halves, (S, P) each
    """Neurons that are toxic in both halves, divided by those in either, mean over P."""
    in_both = ((first > 0.5) & (second > 0.5)).sum(axis=0)  # (P,)
    in_either = ((first > 0.5) | (second > 0.5)).sum(axis=0)
    return float((in_both / np.maximum(1, in_either)).mean())


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
