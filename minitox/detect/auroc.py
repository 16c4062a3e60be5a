"""AUROC from ranks: the probability that a toxic sentence gets a larger response than a clean one, ties counting half."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from minitox.detect.responses import read_responses
from minitox.run import distributed

BLOCK = 8  # neurons sorted at once: ten thousand responses of each fit the processor's cache


def midranks(values):  # (N,) -> (N,) float64
    """Rank of each value, 1 for the smallest; equal values share the mean of their ranks."""
    ordered = np.sort(values)
    below, upto = (
        np.searchsorted(ordered, values, "left"),
        np.searchsorted(ordered, values, "right"),
    )
    return (below + upto + 1) / 2


def auroc_from_rank_sum(rank_sum, toxic: int, clean: int):
    """The Mann-Whitney statistic: ranks of the toxic sentences, less the least they could sum to, as a share of all pairs."""
    return (rank_sum - toxic * (toxic + 1) / 2) / (toxic * clean)


def auroc(values, toxic, threads: int = 1):  # (R, N) float16 or float32, (N,) bool -> (R,) float64
    """AUROC of every neuron's responses to N sentences, exactly as `midranks` defines it but several times faster.  [paper §3.1]

    A response and the sentence's label are packed into one integer, so that one plain sort ranks the toxic sentences last
    among equals, and a second one first; the mid-rank is the mean of the two.
    """
    sentences, count = len(toxic), int(toxic.sum())
    label, places = toxic.astype(np.int8), np.arange(1, sentences + 1)
    rank_sums = np.empty(len(values))

    def rank(start: int) -> None:
        keys = sortable(values[start : start + BLOCK]) * 2
        toxic_last, toxic_first = keys | label, keys | (1 - label)
        toxic_last.sort(axis=1)
        toxic_first.sort(axis=1)
        ones = (
            (toxic_last & 1) + 1 - (toxic_first & 1)
        )  # how often, 0 to 2, a toxic sentence took this place
        rank_sums[start : start + BLOCK] = np.einsum("rn,n->r", ones, places) / 2

    starts = range(0, len(values), BLOCK)
    with ThreadPoolExecutor(threads) as pool:  # sorting leaves Python's lock to the others
        list(pool.map(rank, starts) if threads > 1 else map(rank, starts))
    return auroc_from_rank_sum(rank_sums, count, sentences - count)


def sortable(values):  # (R, N) floats -> (R, N) integers, one bit to spare
    """Integers in the order of the floats: a float's bits are already ordered, but for the sign, and -0 equals 0."""
    narrow, wide, top = (
        (np.int16, np.int32, 0x7FFF)
        if values.dtype == np.float16
        else (np.int32, np.int64, 0x7FFF_FFFF)
    )
    bits = np.ascontiguousarray(values).view(narrow)
    bits = bits ^ ((bits < 0) * narrow(top))  # negative floats count downwards
    return bits.astype(wide) + (bits < 0)


def recorded_aurocs(
    folder: Path, plan: list[list[int]], neurons: int, toxic, sample
):  # (N,) bool, (S,) -> (K,), (S, N)
    """AUROC of all K neurons whose responses were recorded, and the responses of a sample, in rising order; each process ranks a range."""
    first, last = (
        neurons * process // distributed.WORLD
        for process in (distributed.RANK, distributed.RANK + 1)
    )
    aurocs, sampled = [], []
    for responses in read_responses(folder, plan, range(first, last)):
        aurocs.append(auroc(responses, toxic, torch.get_num_threads()))
        sampled.append(
            responses[sample[(first <= sample) & (sample < first + len(responses))] - first]
        )
        first += len(responses)
    parts = distributed.gather((aurocs, sampled))
    return tuple(
        np.concatenate([found for part in parts for found in part[which]]) for which in (0, 1)
    )
