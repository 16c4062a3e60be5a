"""AUROC is the probability that a toxic sentence gets the larger response, ties counting half."""

import numpy as np
import pytest

from minitox.detect.auroc import auroc, auroc_from_rank_sum, midranks


def by_pairs(values, toxic) -> float:
    """The definition, over every pair of a toxic and a clean sentence."""
    a, b = values[toxic].astype(np.float64)[:, None], values[~toxic].astype(np.float64)[None, :]
    return ((a > b) + 0.5 * (a == b)).mean()


def random_labels(rng, sentences: int, share: float):
    toxic = rng.random(sentences) < share
    toxic[:2] = True, False  # one of each at least
    return toxic


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("levels", [1, 2, 5, 100, 0])
def test_equals_the_definition_with_ties(dtype, levels):
    rng = np.random.default_rng(levels)
    values = rng.standard_normal((20, 150)).astype(dtype)
    if levels:  # heavy ties: only so many different responses
        values = np.round(values * levels / 8).astype(dtype)
    toxic = random_labels(rng, 150, 0.3)
    expected = [by_pairs(row, toxic) for row in values]
    assert np.abs(auroc(values, toxic) - expected).max() <= 1e-12
    by_midranks = [
        auroc_from_rank_sum(midranks(row)[toxic].sum(), toxic.sum(), (~toxic).sum())
        for row in values
    ]
    assert np.abs(np.array(by_midranks) - expected).max() <= 1e-12


def test_every_float16_is_in_its_place():
    """All 63,488 finite values, ascending: the larger half beats the smaller half in every pair."""
    every = np.arange(2**16, dtype=np.uint32).astype(np.uint16).view(np.float16)
    every = np.unique(every[np.isfinite(every)])
    toxic = np.arange(len(every)) >= len(every) // 2
    shuffle = np.random.default_rng(0).permutation(len(every))
    assert auroc(every[None, shuffle], toxic[shuffle])[0] == 1.0


def test_minus_zero_equals_zero():
    values = np.array([[0.0, -0.0, -0.0, 0.0]], dtype=np.float16)
    assert auroc(values, np.array([True, True, False, False]))[0] == 0.5


def test_known_values():
    toxic = np.array([True, True, False, False])
    for values, expected in [
        ([3, 4, 1, 2], 1.0),
        ([1, 2, 3, 4], 0.0),
        ([1, 1, 1, 1], 0.5),
        ([2, 4, 1, 3], 0.75),
        ([2, 2, 2, 1], 0.75),
    ]:
        assert auroc(np.array([values], dtype=np.float32), toxic)[0] == expected


def test_the_order_of_the_sentences_does_not_matter():
    """Ranks by argsort, without mid-ranks, fail here: they depend on where tied sentences happen to stand."""
    rng = np.random.default_rng(1)
    values, toxic = rng.integers(0, 3, (5, 200)).astype(np.float16), random_labels(rng, 200, 0.5)
    shuffle = rng.permutation(200)
    assert np.array_equal(auroc(values, toxic), auroc(values[:, shuffle], toxic[shuffle]))

    def naive(row, labels):
        return auroc_from_rank_sum(
            (row.argsort(kind="stable").argsort() + 1)[labels].sum(), labels.sum(), (~labels).sum()
        )

    assert naive(values[0], toxic) != naive(values[0, shuffle], toxic[shuffle])


def test_swapping_the_labels_mirrors_it():
    rng = np.random.default_rng(2)
    values, toxic = rng.standard_normal((5, 99)).astype(np.float16), random_labels(rng, 99, 0.4)
    assert np.allclose(auroc(values, toxic) + auroc(values, ~toxic), 1)
