"""AUROC of a neuron: the probability that a toxic sentence gets a larger response than a clean one.

`auroc_by_definition` counts pairs, as one writes it down. `midranks` leads to the same number by
sorting, and `auroc` to the same bits several times faster; `aurocs` does so for several labellings
of the same sentences.
"""

import numpy as np

BLOCK = 4  # neurons sorted at once: ten thousand responses of each fit the processor's cache


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


def midranks(values):  # (N,) -> (N,) float64
    """Rank of each value, 1 for the smallest; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)  # the highest rank of each value
    ranks = last - (counts - 1) / 2
    return ranks[places]


def auroc_from_rank_sum(rank_sum, toxic: int, clean: int):
    """AUROC from the sum of the toxic sentences' midranks: the Mann-Whitney statistic.

    A toxic sentence's rank counts the clean ones below it and the toxic ones up to itself. The
    latter sum to 1 + 2 + ... + toxic; what is left counts the pairs that the toxic sentence wins.
    """
    wins = rank_sum - toxic * (toxic + 1) / 2
    return wins / (toxic * clean)


def auroc(values, toxic):  # (R, N) float16 or float32, (N,) bool -> (R,) float64
    """AUROC of every neuron's responses to N sentences.  [paper §3.1]"""
    return aurocs(values, toxic[None])[0]


def aurocs(values, labels):  # (R, N) float16 or float32, (L, N) bool -> (L, R) float64
    """AUROC under each of up to 14 labellings of the sentences, with two sorts in all.

    A response and the sentence's labels are packed into one integer. One plain sort then orders
    sentences of equal responses by their labels, another one orders them the other way round. So
    the two positions of a sentence sum to twice its midrank, and those of the toxic sentences to
    twice the sum of their midranks.
    """
    # the labels of a sentence are the bits of one integer
    bits = len(labels)
    all_toxic = 2**bits - 1
    packed = sum(label.astype(np.int32) << bit for bit, label in enumerate(labels))  # (N,)
    positions = np.arange(1.0, len(packed) + 1)
    rank_sums = np.empty((bits, len(values)))
    for start in range(0, len(values), BLOCK):
        # 1) the response in the upper bits, the labels in the lowest
        toxic_last = sortable(values[start : start + BLOCK])  # (BLOCK, N)
        toxic_last <<= bits
        toxic_last |= packed
        toxic_first = toxic_last ^ all_toxic
        toxic_last.sort(axis=1)
        toxic_first.sort(axis=1)

        for bit in range(bits):
            # 2) the positions of the toxic sentences: 1 marks them in one order, 0 in the other
            marks = (toxic_last >> bit & 1) - (toxic_first >> bit & 1)
            twice = marks.astype(np.float64) @ positions + positions.sum()
            rank_sums[bit, start : start + BLOCK] = twice / 2
    toxic = labels.sum(axis=1, keepdims=True)  # (L, 1)
    return auroc_from_rank_sum(rank_sums, toxic, len(packed) - toxic)


def sortable(values):  # (R, N) floats -> (R, N) integers, with bits to spare
    """Integers in the order of the floats, equal where the floats are equal."""
    if values.dtype == np.float16:
        narrow = np.int16
        wide = np.int32
        magnitude = narrow(0x7FFF)  # all bits but the sign
    else:
        narrow = np.int32
        wide = np.int64
        magnitude = narrow(0x7FFF_FFFF)
    # Read as integers, positive floats are in order already, negative ones in reverse order
    bits = np.ascontiguousarray(values).view(narrow)
    sign = bits >> 8 * bits.itemsize - 1  # -1 for negative floats, 0 for others
    bits = bits ^ (sign & magnitude)
    # -0 is now -1, and 0 is 0: moving the negative ones up by one makes them equal
    return (bits - sign).astype(wide)
