"""Fails until exercise 5 is solved."""

import numpy as np
import pytest
from exercise_5_random_labels import band, beyond_chance, shuffled_aurocs

from minitox.detect.auroc import auroc


def world(alike: float, know: float = 0.0, neurons=300, toxic=40, clean=80, seed=0):
    """Responses (K, N) and labels (N,).

    All neurons follow a common quantity, such as the length, with strength `alike`; a share `know`
    of them also responds to toxicity.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(toxic + clean) < toxic)
    common = rng.standard_normal(toxic + clean)
    responses = alike * common + rng.standard_normal((neurons, toxic + clean))
    responses[: round(know * neurons)] += 1.5 * labels
    return responses.astype(np.float16), labels


def shuffle(responses, labels, permutations=200):
    return shuffled_aurocs(responses, labels, np.random.default_rng(1), permutations)


def test_every_neuron_has_an_auroc_for_every_permutation_and_a_seed_gives_the_same_ones_again():
    responses, labels = world(alike=1, neurons=7)
    assert np.shape(shuffle(responses, labels, permutations=11)) == (7, 11)
    assert np.array_equal(shuffle(responses, labels), shuffle(responses, labels))


def test_every_permutation_keeps_the_number_of_toxic_sentences():
    """A neuron responds to one sentence; its AUROC depends only on the label of this sentence."""
    labels = np.arange(20) < 3
    shuffled = shuffle(np.eye(20, dtype=np.float16)[:1], labels, permutations=300)
    values = {round(float(value), 6) for value in np.ravel(shuffled)}
    assert values == {round(0.5 + 1 / 6, 6), round(0.5 - 1 / 34, 6)}
    # labels are permuted, not drawn, so every sentence is toxic in 3 of 20 permutations
    assert (shuffled > 0.5).mean() == pytest.approx(3 / 20, abs=0.08)


def test_a_permutation_is_the_same_for_all_neurons():
    """Two neurons with the same responses have the same AUROC, whatever the labels."""
    responses, labels = world(alike=1, neurons=1)
    shuffled = shuffle(np.repeat(responses, 2, axis=0), labels)
    assert np.allclose(shuffled[0], shuffled[1]) and len(np.unique(shuffled[0])) > 100


def test_forty_percent_is_no_evidence_where_all_neurons_follow_the_same_quantity():
    low, high = band(shuffle(*world(alike=5)))
    assert low < 0.05 and high > 0.95


def test_where_neurons_are_independent_the_band_is_narrow():
    low, high = band(shuffle(*world(alike=0)))
    assert 0.4 < low < 0.5 < high < 0.6


def test_the_band_is_the_middle_95_percent_of_the_shares():
    # permutation i puts i of 1,000 neurons above 0.5
    shuffled = np.where(np.arange(1_000)[:, None] < np.arange(1_000), 0.6, 0.4)
    assert band(shuffled) == pytest.approx((0.025, 0.975), abs=0.002)
    assert band(np.full((10, 50), 0.5)) == (0, 0)  # 0.5 is not above 0.5


def test_the_band_does_not_depend_on_the_true_labels():
    """Every neuron responds to toxicity: its share is above the band, which stays at one half."""
    responses, labels = world(alike=0, know=1)
    low, high = band(shuffle(responses, labels))
    assert low < 0.5 < high < (auroc(responses, labels) > 0.5).mean()


def test_of_random_neurons_one_in_forty_is_beyond_chance():
    responses, labels = world(alike=0, neurons=800)
    share = beyond_chance(auroc(responses, labels), shuffle(responses, labels))
    assert share == pytest.approx(0.025, abs=0.015)


def test_neurons_that_respond_to_toxicity_are_beyond_chance_though_their_share_is_in_the_band():
    responses, labels = world(alike=1, know=0.3, seed=4)
    shuffled = shuffle(responses, labels)
    aurocs = auroc(responses, labels)
    low, high = band(shuffled)
    assert low < (aurocs > 0.5).mean() < high
    assert beyond_chance(aurocs, shuffled) == pytest.approx(0.3, abs=0.1)
