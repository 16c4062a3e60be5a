"""A count of toxic neurons is only worth what these say it is."""

import numpy as np
import pytest
from tiny import write_model

from minitox.detect.auroc import auroc
from minitox.detect.controls import (
    beyond_chance,
    length_auroc,
    match_lengths,
    random_label_band,
    shuffled_aurocs,
    split_half,
)
from minitox.detect.responses import POOL, pooled_responses


def random_sentences(rng, lengths):
    """Random words after a BOS: nothing in them tells toxic from clean."""
    return [[0, *rng.integers(3, 300, length)] for length in lengths]


def responses_of(model, sentences, pool):
    return np.concatenate(
        [pooled_responses(model, [ids], {0}, POOL[pool]) for ids in sentences], axis=1
    )


def test_under_random_labels_mean_pooling_selects_half_of_the_neurons_within_the_band(tmp_path):
    rng, model = np.random.default_rng(0), write_model(tmp_path)
    responses = responses_of(model, random_sentences(rng, rng.integers(3, 40, 120)), "mean")
    toxic = rng.permutation(np.repeat([True, False], 60))
    low, high = random_label_band(shuffled_aurocs(responses, toxic, rng))
    assert low <= (auroc(responses, toxic) > 0.5).mean() <= high
    assert low < 0.5 < high and high - low < 0.6


def test_longer_clean_text_pushes_max_pooling_down_and_the_length_auroc_shows_it(tmp_path):
    """Random words, so no neuron knows toxicity; only the lengths differ."""
    rng, model = np.random.default_rng(1), write_model(tmp_path)
    toxic = np.repeat([True, False], 60)
    lengths = np.where(toxic, rng.integers(5, 20, 120), rng.integers(15, 50, 120))
    sentences = random_sentences(rng, lengths)
    assert length_auroc(lengths, toxic) < 0.2
    by_max = (auroc(responses_of(model, sentences, "max"), toxic) > 0.5).mean()
    by_mean = (auroc(responses_of(model, sentences, "mean"), toxic) > 0.5).mean()
    assert by_max < 0.05
    assert 0.3 < by_mean < 0.7
    longer_toxic = (auroc(responses_of(model, sentences, "max"), ~toxic) > 0.5).mean()
    assert longer_toxic > 0.95  # the same sentences with the labels swapped


def test_matching_lengths_takes_length_out(tmp_path):
    rng, model = np.random.default_rng(2), write_model(tmp_path)
    toxic = np.repeat([True, False], 400)
    lengths = np.where(toxic, rng.integers(5, 20, 800), rng.integers(8, 24, 800))
    chosen = match_lengths(lengths, toxic, rng)
    assert toxic[chosen].sum() == (~toxic[chosen]).sum() > 100
    assert length_auroc(lengths[chosen], toxic[chosen]) == 0.5
    assert length_auroc(lengths, toxic) < 0.4
    responses = responses_of(model, random_sentences(rng, lengths[chosen]), "max")
    low, high = random_label_band(shuffled_aurocs(responses, toxic[chosen], rng))
    assert low <= (auroc(responses, toxic[chosen]) > 0.5).mean() <= high


def test_the_band_is_wide_where_neurons_agree_and_narrow_where_they_do_not():
    rng = np.random.default_rng(3)
    toxic = rng.permutation(np.repeat([True, False], 100))
    independent = rng.standard_normal((500, 200)).astype(np.float16)
    low, high = random_label_band(shuffled_aurocs(independent, toxic, rng))
    assert 0.4 < low < 0.5 < high < 0.6
    alike = (independent[:1] + 0.1 * independent).astype(
        np.float16
    )  # as if every neuron measured length
    low, high = random_label_band(shuffled_aurocs(alike, toxic, rng))
    assert low < 0.1 and high > 0.9


def test_split_half_tells_a_signal_from_noise():
    rng = np.random.default_rng(4)
    toxic = rng.permutation(np.repeat([True, False], 150))
    noise = rng.standard_normal((400, 300)).astype(np.float16)
    assert split_half(noise, toxic, rng) == pytest.approx(
        1 / 3, abs=0.08
    )  # two independent halves of the neurons
    knows = np.where(np.arange(400)[:, None] < 200, 1.5, -1.5) * toxic
    assert split_half((noise + knows).astype(np.float16), toxic, rng) > 0.95


def test_too_few_sentences_have_no_halves():
    assert np.isnan(
        split_half(np.zeros((3, 2), np.float16), np.array([True, False]), np.random.default_rng(0))
    )


def test_beyond_chance_is_nothing_for_noise_and_much_for_a_signal():
    rng = np.random.default_rng(5)
    toxic = rng.permutation(np.repeat([True, False], 100))
    noise = rng.standard_normal((1000, 200)).astype(np.float16)
    assert beyond_chance(auroc(noise, toxic), shuffled_aurocs(noise, toxic, rng)) == pytest.approx(
        0.025, abs=0.02
    )
    signal = (noise + (np.arange(1000)[:, None] < 300) * toxic).astype(np.float16)
    assert beyond_chance(auroc(signal, toxic), shuffled_aurocs(signal, toxic, rng)) > 0.3
