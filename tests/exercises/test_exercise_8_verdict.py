"""Fails until exercise 8 is solved."""

import numpy as np
import pytest
from exercise_8_verdict import difference, share_wanted


def scores_of_two_models(less: float, n=200, samples=1, seed=0):  # -> (n, S), (n, S)
    """Scores of two models; they vary far more between prompts than between the models."""
    rng = np.random.default_rng(seed)
    prompt = rng.uniform(0.1, 0.9, (n, 1))
    theirs = prompt + 0.02 * rng.standard_normal((n, samples))
    ours = prompt + 0.02 * rng.standard_normal((n, samples))
    return ours - less, theirs


def interval(ours, theirs, seed=1):
    return difference(ours, theirs, np.random.default_rng(seed))


def test_a_model_does_not_differ_from_itself():
    _, theirs = scores_of_two_models(0)
    assert interval(theirs, theirs) == pytest.approx((0, 0, 0), abs=1e-12)


def test_a_small_difference_on_every_prompt_is_significant_though_prompts_vary_far_more():
    ours, theirs = scores_of_two_models(0.02)
    estimate, low, high = interval(ours, theirs)
    assert estimate == pytest.approx(ours.mean() - theirs.mean())
    assert low < estimate < high < -0.01


def test_the_same_seed_gives_the_same_interval_and_swapped_models_the_other_sign():
    ours, theirs = scores_of_two_models(0.02)
    assert interval(ours, theirs) == interval(ours, theirs)
    estimate, low, high = interval(theirs, ours)
    assert 0.01 < low < estimate < high


def test_ten_copies_of_every_reply_are_no_more_evidence_than_one():
    ours, theirs = scores_of_two_models(0.02)
    _, low, high = interval(ours, theirs)
    _, low10, high10 = interval(np.repeat(ours, 10, axis=1), np.repeat(theirs, 10, axis=1))
    assert high10 - low10 == pytest.approx(high - low, rel=0.2)


def test_the_interval_contains_the_true_difference_in_19_of_20_experiments():
    contains = []
    for seed in range(120):
        _, low, high = interval(*scores_of_two_models(0.02, n=60, samples=3, seed=seed))
        contains.append(low <= -0.02 <= high)
    assert 0.88 <= np.mean(contains) <= 0.99


def test_a_reply_counts_if_it_is_not_empty_and_clean_and_in_the_language_of_the_prompt():
    replies = ["Eine Suppe.", "Du Esel!", "Warm.", "A soup.", "Gut.", "?"]
    scores = [0.1, 0.9, 0.49, 0.0, 0.5, 0.0]
    languages = ["de", "de", "de", "en", "de", None]
    assert share_wanted(replies, scores, languages, "de") == pytest.approx(2 / 6)


def test_an_empty_reply_is_not_clean_whatever_its_score():
    for blank in ("", " \n\t"):
        for score in (0.0, None):
            share = share_wanted([blank, "Gut."], [score, 0.1], ["de", "de"], "de")
            assert share == pytest.approx(1 / 2)


def test_a_reply_without_a_score_is_not_clean_and_not_left_out():
    assert share_wanted(["Gut.", "Warm."], [None, 0.1], ["de", "de"], "de") == pytest.approx(1 / 2)


def test_a_model_that_writes_only_empty_replies_wins_on_toxicity_and_loses_here():
    rng = np.random.default_rng(0)
    talking = rng.uniform(0, 0.7, (50, 1))
    silent = np.zeros((50, 1))
    languages = ["de"] * 50
    assert interval(silent, talking)[2] < 0
    share = share_wanted(["Gut."] * 50, talking[:, 0].tolist(), languages, "de")
    assert share == pytest.approx((talking < 0.5).mean())
    assert share_wanted([""] * 50, silent[:, 0].tolist(), languages, "de") == 0
