"""AUROC of a neuron: the probability that a toxic sentence gets a larger response than a clean one.

`auroc_by_definition` counts pairs, as one writes it down. `auroc` computes the same values, to the
bit, from ranks: the sum of the toxic sentences' ranks counts the pairs. Ranks do not depend on the
labels, so `aurocs` sorts once for several labellings of the sentences.
"""

import numpy as np

AT_ONCE = 20_000  # responses ranked at once: they and their ranks fit the processor's cache


def auroc_by_definition(values, toxic):  # (R, N) floats, (N,) bool -> (R,) float64
    """P(toxic > clean) + P(toxic = clean) / 2, over all pairs of sentences.  [paper §3.1]"""
    aurocs = np.empty(len(values))
    for neuron, responses in enumerate(values):  # (N,)
        toxic_responses = responses[toxic, None]  # (toxic, 1)
        clean_responses = responses[None, ~toxic]  # (1, clean)
        wins = np.count_nonzero(toxic_responses > clean_responses)
        ties = np.count_nonzero(toxic_responses == clean_responses)
        aurocs[neuron] = (wins + ties / 2) / (toxic_responses.size * clean_responses.size)
    return aurocs


def auroc_from_rank_sum(rank_sum, toxic: int, clean: int):
    """AUROC from the sum of the toxic sentences' midranks: the Mann-Whitney statistic.

    A toxic sentence's rank counts the clean ones below it and the toxic ones up to itself. The
    latter sum to 1 + 2 + ... + toxic; what is left counts the pairs that the toxic sentence wins.
    """
    wins = rank_sum - toxic * (toxic + 1) / 2
    return wins / (toxic * clean)


def auroc(values, toxic):  # (R, N) floats, (N,) bool -> (R,) float64
    """AUROC of every neuron's responses to N sentences.  [paper §3.1]"""
    return aurocs(values, toxic[None])[0]


def aurocs(values, labels):  # (R, N) floats, (labellings, N) bool -> (labellings, R)
    """AUROC of every neuron under each of several labellings of the sentences."""
    neurons, sentences = values.shape
    block = max(1, AT_ONCE // sentences)
    is_toxic = labels.astype(np.float64)
    rank_sums = np.empty((len(labels), neurons))
    for start in range(0, neurons, block):
        ranks = midranks(values[start : start + block])  # (block, N)
        rank_sums[:, start : start + block] = is_toxic @ ranks.T
    toxic = labels.sum(axis=1, keepdims=True)  # (labellings, 1)
    return auroc_from_rank_sum(rank_sums, toxic, sentences - toxic)


def midranks(values):  # (R, N) floats -> (R, N) float64
    """Rank of each response among its neuron's, 1 for the smallest; equal ones share their mean."""
    neurons, sentences = values.shape
    starts = sentences * np.arange(neurons)[:, None]  # of each neuron in the flat arrays

    # 1) the responses of each neuron in rising order
    keys = as_integers(values) if values.dtype == np.float16 else values
    order = keys.argsort(axis=1, kind="stable")  # for 16-bit integers, a radix sort
    order += starts
    order = order.ravel()
    ordered = keys.ravel().take(order)

    # 2) runs of equal responses, which end with their neuron
    begins = np.ones(neurons * sentences, dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
    begins[starts] = True
    first = np.flatnonzero(begins)
    length = np.diff(first, append=neurons * sentences)

    # 3) the mean rank of a run, for each of its responses
    ranks = np.empty(neurons * sentences)
    ranks[order] = np.repeat(first + (length + 1) / 2, length)
    return ranks.reshape(neurons, sentences) - starts  # ranks within each neuron


def as_integers(values):  # (R, N) float16 -> (R, N) int16
    """Integers in the order of the floats, equal where the floats are equal."""
    # Read as integers, positive floats are in order already, negative ones in reverse order
    bits = np.ascontiguousarray(values).view(np.int16)
    sign = bits >> 15  # -1 for negative floats, 0 for others
    bits = bits ^ (sign & 0x7FFF)
    # -0 is now -1, and 0 is 0: moving the negative ones up by one makes them equal
    return bits - sign
