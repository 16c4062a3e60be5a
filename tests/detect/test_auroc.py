"""AUROC is the probability that a toxic sentence has a larger response than a clean one."""

import numpy as np
import pytest

from minitox.detect.auroc import (
    AT_ONCE,
    auroc,
    auroc_by_definition,
    auroc_from_rank_sum,
    aurocs,
    midranks,
)

BLOCK = AT_ONCE // 60  # neurons ranked at once, of 60 sentences


def by_pairs(values, toxic) -> float:
    """The definition, over every pair of a toxic and a clean sentence; ties count half."""
    toxic_values = values[toxic].astype(np.float64)[:, None]
    clean_values = values[~toxic].astype(np.float64)[None, :]
    wins = toxic_values > clean_values
    ties = toxic_values == clean_values
    return (wins + 0.5 * ties).mean()


def random_labels(rng, sentences: int, share: float):
    """Random labels, with at least one toxic and one clean sentence."""
    toxic = rng.random(sentences) < share
    toxic[:2] = True, False
    return toxic


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("levels", [1, 2, 5, 100, 0])
def test_sorting_agrees_with_the_definition_to_the_bit(dtype, levels):
    rng = np.random.default_rng(levels)
    values = rng.standard_normal((20, 150)).astype(dtype)
    if levels:  # many ties: few different responses
        values = np.round(values * levels / 8).astype(dtype)
    toxic = random_labels(rng, 150, 0.3)

    defined = auroc_by_definition(values, toxic)
    assert np.array_equal(auroc(values, toxic), defined)

    # and with the definition as this test writes it, whose mean may round
    expected = [by_pairs(row, toxic) for row in values]
    assert np.abs(defined - expected).max() <= 1e-12


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("levels", [1, 5, 0])
@pytest.mark.parametrize("number", [1, 2, 20])
def test_under_several_labellings_it_is_the_one_under_each_of_them(dtype, levels, number):
    rng = np.random.default_rng(number)
    values = (1e4 * rng.standard_normal((20, 150))).astype(dtype)
    if levels:  # many ties, within a class and between both
        values = np.round(values / 1e4 * levels).astype(dtype)
    labels = np.stack([random_labels(rng, 150, share) for share in rng.random(number)])
    ranked = aurocs(values, labels)
    assert ranked.shape == (number, 20)
    for toxic, of_labels in zip(labels, ranked, strict=True):
        assert np.array_equal(of_labels, auroc_by_definition(values, toxic))


def test_the_number_of_neurons_need_not_fill_the_last_block():
    rng = np.random.default_rng(3)
    toxic = random_labels(rng, 60, 0.5)
    for neurons in (1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 1):
        values = rng.standard_normal((neurons, 60)).astype(np.float16)
        assert np.array_equal(auroc(values, toxic), auroc_by_definition(values, toxic))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_midranks_of_equal_values_are_the_mean_of_their_ranks(dtype):
    values = np.array([[3, 1, 3, 2, 3], [3, 3, 3, 3, 3], [1, 2, -3, 4, 5]], dtype=dtype)
    expected = [[4, 1, 4, 2, 4], [3, 3, 3, 3, 3], [2, 3, 1, 4, 5]]
    assert midranks(values).tolist() == expected


def test_a_run_of_equal_values_ends_with_its_neuron():
    values = np.array([[1, 2], [2, 3], [3, 3]], dtype=np.float16)
    assert midranks(values).tolist() == [[1, 2], [1, 2], [1.5, 1.5]]


def test_every_float16_is_in_its_place():
    """Of all 63,487 finite values, the larger half beats the smaller half in every pair."""
    every = np.arange(2**16, dtype=np.uint32).astype(np.uint16).view(np.float16)
    every = np.unique(every[np.isfinite(every)])
    toxic = np.arange(len(every)) >= len(every) // 2
    shuffle = np.random.default_rng(0).permutation(len(every))
    assert auroc(every[None, shuffle], toxic[shuffle])[0] == 1.0


def test_minus_zero_equals_zero():
    values = np.array([[0.0, -0.0, -0.0, 0.0]], dtype=np.float16)
    toxic = np.array([True, True, False, False])
    assert auroc(values, toxic)[0] == 0.5
    assert auroc_by_definition(values, toxic)[0] == 0.5


@pytest.mark.parametrize("implementation", [auroc, auroc_by_definition])
@pytest.mark.parametrize(
    "values, expected",
    [
        ([3, 4, 1, 2], 1.0),
        ([1, 2, 3, 4], 0.0),
        ([1, 1, 1, 1], 0.5),
        ([2, 4, 1, 3], 0.75),
        ([2, 2, 2, 1], 0.75),
    ],
)
def test_known_values(implementation, values, expected):
    toxic = np.array([True, True, False, False])
    assert implementation(np.array([values], dtype=np.float32), toxic)[0] == expected


def test_the_order_of_the_sentences_does_not_matter():
    """Ranks by argsort, without midranks, depend on the order of tied sentences."""
    rng = np.random.default_rng(1)
    values = rng.integers(0, 3, (5, 200)).astype(np.float16)
    toxic = random_labels(rng, 200, 0.5)
    shuffle = rng.permutation(200)
    assert np.array_equal(auroc(values, toxic), auroc(values[:, shuffle], toxic[shuffle]))

    def naive(row, labels):
        ranks = row.argsort(kind="stable").argsort() + 1
        return auroc_from_rank_sum(ranks[labels].sum(), labels.sum(), (~labels).sum())

    assert naive(values[0], toxic) != naive(values[0, shuffle], toxic[shuffle])


def test_swapping_the_labels_mirrors_it():
    rng = np.random.default_rng(2)
    values = rng.standard_normal((5, 99)).astype(np.float16)
    toxic = random_labels(rng, 99, 0.4)
    assert np.allclose(auroc(values, toxic) + auroc(values, ~toxic), 1)
