"""The controls of a count of toxic neurons: length, random labels, split halves."""

import numpy as np
import pytest
import torch
from tiny import write_model

from minitox.detect.auroc import auroc
from minitox.detect.controls import (
    beyond_chance,
    beyond_length,
    length_auroc,
    length_strata,
    match_lengths,
    random_label_band,
    shuffled_aurocs,
    split_half,
)
from minitox.detect.responses import POOL, pooled_responses


def random_sentences(rng, lengths) -> list[list[int]]:
    """Random tokens after a BOS, so that no neuron can separate toxic from clean sentences."""
    return [[0, *rng.integers(3, 300, length).tolist()] for length in lengths]


def random_labels(rng, of_each_class: int):
    return rng.permutation(np.repeat([True, False], of_each_class))


def responses_of(model, sentences, pool: str):  # -> (K, N) float16, as they are stored
    """Every neuron's response to each sentence."""
    rows = [pooled_responses(model, [ids], {0}, POOL[pool]) for ids in sentences]
    return torch.cat(rows).to(torch.float16).T.contiguous().numpy()


def share_toxic(responses, toxic) -> float:
    """Share of neurons whose AUROC is above 0.5."""
    return (auroc(responses, toxic) > 0.5).mean()


def test_under_random_labels_mean_pooling_selects_half_of_the_neurons_within_the_band(folder):
    rng = np.random.default_rng(0)
    sentences = random_sentences(rng, rng.integers(3, 40, 120))
    responses = responses_of(write_model(folder), sentences, "mean")
    toxic = random_labels(rng, 60)
    low, high = random_label_band(shuffled_aurocs(responses, toxic, rng))
    assert low <= share_toxic(responses, toxic) <= high
    assert low < 0.5 < high
    assert high - low < 0.6


def test_longer_clean_text_pushes_max_pooling_down_and_the_length_auroc_shows_it(folder):
    """The tokens are random, so no neuron detects toxicity; only the lengths differ."""
    rng = np.random.default_rng(1)
    model = write_model(folder)
    toxic = np.repeat([True, False], 60)
    lengths = np.where(toxic, rng.integers(5, 20, 120), rng.integers(15, 50, 120))
    sentences = random_sentences(rng, lengths)
    assert length_auroc(lengths, toxic) < 0.2

    by_max = responses_of(model, sentences, "max")
    assert share_toxic(by_max, toxic) < 0.05
    assert share_toxic(by_max, ~toxic) > 0.95  # the same sentences with the labels swapped
    assert 0.3 < share_toxic(responses_of(model, sentences, "mean"), toxic) < 0.7


def test_matched_lengths_remove_the_effect_of_length(folder):
    rng = np.random.default_rng(2)
    toxic = np.repeat([True, False], 400)
    lengths = np.where(toxic, rng.integers(5, 20, 800), rng.integers(8, 24, 800))
    chosen = match_lengths(lengths, toxic, rng)
    assert toxic[chosen].sum() == (~toxic[chosen]).sum() > 100
    assert length_auroc(lengths[chosen], toxic[chosen]) == 0.5
    assert length_auroc(lengths, toxic) < 0.4

    sentences = random_sentences(rng, lengths[chosen])
    responses = responses_of(write_model(folder), sentences, "max")
    low, high = random_label_band(shuffled_aurocs(responses, toxic[chosen], rng))
    assert low <= share_toxic(responses, toxic[chosen]) <= high


def test_matched_lengths_keep_as_many_of_both_classes_of_every_length():
    lengths = np.array([3, 3, 3, 4, 4, 5, 6, 6])
    toxic = np.array([True, True, False, True, False, True, False, False])
    chosen = match_lengths(lengths, toxic, np.random.default_rng(0))
    assert sorted(lengths[chosen & toxic]) == sorted(lengths[chosen & ~toxic]) == [3, 4]


def test_random_labels_are_permutations_of_the_real_ones():
    """A neuron that responds to a single sentence has two possible AUROCs if one is toxic."""
    responses = np.array([[9.0, 0.0, 0.0, 0.0]], dtype=np.float16)
    toxic = np.array([True, False, False, False])
    aurocs = shuffled_aurocs(responses, toxic, np.random.default_rng(0), permutations=50)
    assert aurocs.shape == (1, 50)
    # the label is on the sentence with the response, or on one of the three that are tied
    assert set(aurocs[0]) == {1.0, 1 / 3}
    assert aurocs[0].mean() == pytest.approx(0.5, abs=0.1)


def test_the_band_is_wide_if_neurons_agree_and_narrow_if_they_do_not():
    rng = np.random.default_rng(3)
    toxic = random_labels(rng, 100)
    independent = rng.standard_normal((500, 200)).astype(np.float16)
    low, high = random_label_band(shuffled_aurocs(independent, toxic, rng))
    assert 0.4 < low < 0.5 < high < 0.6

    # as if every neuron measured length
    alike = (independent[:1] + 0.1 * independent).astype(np.float16)
    low, high = random_label_band(shuffled_aurocs(alike, toxic, rng))
    assert low < 0.1
    assert high > 0.9


def test_split_halves_agree_on_a_signal_and_not_on_noise():
    rng = np.random.default_rng(4)
    toxic = random_labels(rng, 150)
    lengths = np.full(300, 9)
    noise = rng.standard_normal((400, 300)).astype(np.float16)
    # two independent halves of the neurons share a third of those that are in either
    assert split_half(noise, toxic, lengths, rng) == pytest.approx((1 / 3,) * 3, abs=0.08)

    sign = np.where(np.arange(400)[:, None] < 200, 1.5, -1.5)
    signal = (noise + sign * toxic).astype(np.float16)
    true, free, alike = split_half(signal, toxic, lengths, rng)
    assert true > 0.95
    assert (free, alike) == pytest.approx((1 / 3, 1 / 3), abs=0.08)


def test_split_halves_agree_on_length_and_the_null_of_equal_lengths_shows_it():
    rng = np.random.default_rng(7)
    toxic, lengths, responses = world_of_length(rng, toxic_neurons=0)
    true, free, alike = split_half(responses, toxic, lengths, rng)
    assert true > 0.7 and alike == pytest.approx(true, abs=0.1)
    assert free == pytest.approx(1 / 3, abs=0.1)


def test_too_few_sentences_have_no_halves():
    responses = np.zeros((3, 2), np.float16)
    toxic = np.array([True, False])
    lengths = np.array([4, 5])
    assert split_half(responses, toxic, lengths, np.random.default_rng(0)) == (None, None, None)


def test_beyond_chance_is_a_few_percent_for_noise_and_much_for_a_signal():
    rng = np.random.default_rng(5)
    toxic = random_labels(rng, 100)
    noise = rng.standard_normal((1000, 200)).astype(np.float16)
    share = beyond_chance(auroc(noise, toxic), shuffled_aurocs(noise, toxic, rng))
    assert share == pytest.approx(0.025, abs=0.02)

    reacts = np.arange(1000)[:, None] < 300
    signal = (noise + reacts * toxic).astype(np.float16)
    share = beyond_chance(auroc(signal, toxic), shuffled_aurocs(signal, toxic, rng))
    assert share > 0.3


# ---- equal lengths ----


def world_of_length(rng, toxic_neurons: int, sentences=400):
    """400 neurons that respond to length, to more or to less of it; some to toxicity, too."""
    toxic = random_labels(rng, sentences // 2)
    lengths = rng.integers(5, 20, sentences) + 6 * toxic
    slopes = rng.standard_normal((400, 1))
    responses = slopes * (lengths - lengths.mean()) / 5 + rng.standard_normal((400, sentences))
    responses[:toxic_neurons] += toxic
    return toxic, lengths, responses.astype(np.float16)


def test_strata_are_equal_lengths_joined_until_both_classes_are_in_each():
    lengths = np.array([2, 3, 3, 4, 5, 5, 6, 7, 8, 9, 9])
    toxic = np.array([True, True, False, True, True, True, False, False, True, True, True])
    # 4 has no clean sentence, nor has 5; no clean sentence is as short as 2, or longer than 7
    assert length_strata(lengths, toxic).tolist() == [0, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("lengths", [np.full(40, 9), np.arange(40), np.arange(40) // 3])
def test_both_classes_are_in_every_stratum_of_their_common_lengths(lengths):
    rng = np.random.default_rng(8)
    for toxic in (random_labels(rng, 20), np.arange(40) % 7 == 6, np.arange(40) % 2 == 0):
        strata = length_strata(lengths, toxic)
        assert (np.diff(strata[np.argsort(lengths)]) >= 0).all()  # in order of length
        common = (lengths >= max(lengths[toxic].min(), lengths[~toxic].min())) & (
            lengths <= min(lengths[toxic].max(), lengths[~toxic].max())
        )
        assert common.sum() > 25
        for stratum in np.unique(strata[common]):
            inside = strata == stratum
            assert common[inside].all()
            assert 0 < toxic[inside].sum() < inside.sum()


def test_no_label_moves_if_all_toxic_sentences_are_longer():
    rng = np.random.default_rng(14)
    toxic = random_labels(rng, 50)
    lengths = np.where(toxic, rng.integers(20, 30, 100), rng.integers(5, 15, 100))
    responses = rng.standard_normal((30, 100)).astype(np.float16)
    alike = shuffled_aurocs(responses, toxic, rng, strata=length_strata(lengths, toxic))
    aurocs = auroc(responses, toxic)
    assert np.array_equal(alike, np.repeat(aurocs[:, None], 200, axis=1))
    assert beyond_length(aurocs, alike) is None


def test_labels_are_permuted_among_the_sentences_of_a_stratum_only():
    """Each neuron responds to one sentence, so its AUROC says whether the label is on it."""
    toxic = np.array([True, False, False, True, True, True, False])
    strata = np.array([0, 0, 0, 5, 5, 5, 5])[::-1].copy()
    responses = np.eye(7, dtype=np.float16)
    aurocs = shuffled_aurocs(responses, toxic, np.random.default_rng(9), 300, strata)
    labels = aurocs > 0.5  # (N, P)
    for stratum in (0, 5):
        inside = strata == stratum
        assert (labels[inside].sum(axis=0) == toxic[inside].sum()).all()
        assert labels[inside].mean(axis=1) == pytest.approx(toxic[inside].mean(), abs=0.1)


def test_permutations_of_equal_lengths_keep_the_auroc_of_the_length():
    rng = np.random.default_rng(10)
    toxic, lengths, _ = world_of_length(rng, 0)
    strata = length_strata(lengths, toxic)
    of_length = shuffled_aurocs(lengths[None], toxic, rng, strata=strata)
    assert length_auroc(lengths, toxic) > 0.8
    assert of_length == pytest.approx(length_auroc(lengths, toxic), abs=0.04)


def test_length_alone_is_beyond_chance_and_not_beyond_length():
    rng = np.random.default_rng(11)
    toxic, lengths, responses = world_of_length(rng, toxic_neurons=0)
    aurocs = auroc(responses, toxic)
    free = shuffled_aurocs(responses, toxic, rng)
    alike = shuffled_aurocs(responses, toxic, rng, strata=length_strata(lengths, toxic))
    assert beyond_chance(aurocs, free) > 0.3
    assert beyond_chance(alike, free) == pytest.approx(beyond_chance(aurocs, free), abs=0.05)
    assert beyond_length(aurocs, alike) == pytest.approx(0.025, abs=0.025)


def test_neurons_that_respond_to_toxicity_are_beyond_length_even_if_they_respond_to_length_too():
    rng = np.random.default_rng(12)
    toxic, lengths, responses = world_of_length(rng, toxic_neurons=100)
    alike = shuffled_aurocs(responses, toxic, rng, strata=length_strata(lengths, toxic))
    share = beyond_length(auroc(responses, toxic), alike)
    assert share == pytest.approx(0.25, abs=0.04)


def test_a_neuron_that_no_permutation_moves_is_not_beyond_length():
    """Its own AUROC equals all of them, to the bit."""
    toxic = np.arange(60) % 3 == 0
    responses = np.repeat(np.arange(20), 3)[None].astype(np.float16)
    responses = np.concatenate([responses, np.arange(60)[None].astype(np.float16)])
    strata = np.repeat(np.arange(20), 3)
    alike = shuffled_aurocs(responses, toxic, np.random.default_rng(13), strata=strata)
    assert len(np.unique(alike[0])) == 1 < len(np.unique(alike[1]))
    assert beyond_length(auroc(responses, toxic)[:1], alike[:1]) is None
    assert beyond_length(auroc(responses, toxic), alike) == 0
