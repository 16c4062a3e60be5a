"""Fails until exercise 5 is solved."""

import numpy as np
import pytest
from exercise_5_random_labels import band, beyond_chance, shuffled_aurocs

from minitox.detect.auroc import auroc


def world(alike: float, know: float = 0.0, neurons=300, toxic=40, clean=80, seed=0):
    """Responses of neurons that all follow something, such as the length, to a degree, and of which a share `know` toxicity."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(toxic + clean) < toxic)
    something = rng.standard_normal(toxic + clean)
    responses = alike * something + rng.standard_normal((neurons, toxic + clean))
    responses[: round(know * neurons)] += 1.5 * labels
    return responses.astype(np.float16), labels


def deal(responses, labels, deals=200):
    return shuffled_aurocs(responses, labels, np.random.default_rng(1), deals)


def test_there_is_an_auroc_of_every_neuron_for_every_deal_and_the_same_seed_deals_the_same():
    responses, labels = world(alike=1, neurons=7)
    assert np.shape(deal(responses, labels, deals=11)) == (7, 11)
    assert np.array_equal(deal(responses, labels), deal(responses, labels))


def test_every_deal_has_as_many_toxic_sentences_as_there_are():
    """A neuron that responds to one sentence alone has one AUROC if that is dealt "toxic", and another if "clean"."""
    labels = np.arange(20) < 3
    found = deal(np.eye(20, dtype=np.float16)[:1], labels, deals=300)
    assert {round(float(value), 6) for value in np.ravel(found)} == {
        round(0.5 + 1 / 6, 6),
        round(0.5 - 1 / 34, 6),
    }
    assert (found > 0.5).mean() == pytest.approx(
        3 / 20, abs=0.08
    )  # drawn without putting back, none is toxic more often


def test_a_deal_is_one_for_all_neurons():
    """Two neurons that respond alike cannot differ, whatever the labels."""
    responses, labels = world(alike=1, neurons=1)
    found = deal(np.repeat(responses, 2, axis=0), labels)
    assert np.allclose(found[0], found[1]) and len(np.unique(found[0])) > 100


def test_forty_percent_is_no_evidence_where_all_neurons_follow_the_same_thing():
    low, high = band(deal(*world(alike=5)))
    assert low < 0.05 and high > 0.95


def test_where_neurons_are_independent_the_band_is_narrow():
    low, high = band(deal(*world(alike=0)))
    assert 0.4 < low < 0.5 < high < 0.6


def test_the_band_is_of_shares_and_its_middle_is_95_percent():
    shuffled = np.where(
        np.arange(1_000)[:, None] < np.arange(1_000), 0.6, 0.4
    )  # deal i puts i of 1,000 neurons above 0.5
    assert band(shuffled) == pytest.approx((0.025, 0.975), abs=0.002)
    assert band(np.full((10, 50), 0.5)) == (0, 0)  # at 0.5 is not above it


def test_the_band_does_not_ask_what_the_true_labels_are():
    """If every neuron knows toxicity, random labels still know nothing: the band stays about one half, the share above it."""
    responses, labels = world(alike=0, know=1)
    low, high = band(deal(responses, labels))
    assert low < 0.5 < high < (auroc(responses, labels) > 0.5).mean()


def test_noise_is_beyond_chance_in_one_neuron_of_forty():
    responses, labels = world(alike=0, neurons=800)
    assert beyond_chance(auroc(responses, labels), deal(responses, labels)) == pytest.approx(
        0.025, abs=0.015
    )


def test_neurons_that_know_are_beyond_chance_though_their_share_is_within_the_band():
    responses, labels = world(alike=1, know=0.3, seed=4)
    shuffled, aurocs = deal(responses, labels), auroc(responses, labels)
    low, high = band(shuffled)
    assert low < (aurocs > 0.5).mean() < high
    assert beyond_chance(aurocs, shuffled) == pytest.approx(0.3, abs=0.1)
