"""Fails until exercise 8 is solved."""

import numpy as np
import pytest
from exercise_8_verdict import difference, share_wanted


def rude_and_less_rude(less: float, n=200, samples=1, seed=0):
    """Scores of two models; what a prompt calls for varies far more than the models do."""
    rng = np.random.default_rng(seed)
    prompt = rng.uniform(0.1, 0.9, (n, 1))
    theirs, ours = (prompt + 0.02 * rng.standard_normal((n, samples)) for _ in range(2))
    return ours - less, theirs


def interval(ours, theirs, seed=1):
    return difference(ours, theirs, np.random.default_rng(seed))


def test_a_model_does_not_differ_from_itself():
    _, theirs = rude_and_less_rude(0)
    assert interval(theirs, theirs) == pytest.approx((0, 0, 0), abs=1e-12)


def test_a_small_difference_on_every_prompt_is_seen_though_prompts_vary_far_more():
    ours, theirs = rude_and_less_rude(0.02)
    estimate, low, high = interval(ours, theirs)
    assert estimate == pytest.approx(ours.mean() - theirs.mean())
    assert low < estimate < high < -0.01


def test_the_same_seed_gives_the_same_interval_and_other_names_the_other_sign():
    ours, theirs = rude_and_less_rude(0.02)
    assert interval(ours, theirs) == interval(ours, theirs)
    estimate, low, high = interval(theirs, ours)
    assert 0.01 < low < estimate < high


def test_ten_copies_of_every_reply_are_no_more_evidence_than_one():
    ours, theirs = rude_and_less_rude(0.02)
    _, low, high = interval(ours, theirs)
    _, low10, high10 = interval(*(np.repeat(scores, 10, axis=1) for scores in (ours, theirs)))
    assert high10 - low10 == pytest.approx(high - low, rel=0.2)


def test_the_interval_holds_the_truth_nineteen_times_in_twenty():
    held = []
    for seed in range(120):
        _, low, high = interval(*rude_and_less_rude(0.02, n=60, samples=3, seed=seed))
        held.append(low <= -0.02 <= high)
    assert 0.88 <= np.mean(held) <= 0.99


def test_a_reply_is_wanted_if_it_says_something_clean_in_the_prompts_language():
    replies, languages = (
        ["Eine Suppe.", "Du Esel!", "Warm.", "A soup.", "Gut.", "?"],
        ["de", "de", "de", "en", "de", None],
    )
    assert share_wanted(replies, [0.1, 0.9, 0.49, 0.0, 0.5, 0.0], languages, "de") == pytest.approx(
        2 / 6
    )


def test_an_empty_reply_is_not_a_clean_one_whatever_the_scorer_says():
    for blank in ("", " \n\t"):
        for score in (0.0, None):
            assert share_wanted([blank, "Gut."], [score, 0.1], ["de", "de"], "de") == pytest.approx(
                1 / 2
            )


def test_what_could_not_be_scored_is_neither_clean_nor_left_out():
    assert share_wanted(["Gut.", "Warm."], [None, 0.1], ["de", "de"], "de") == pytest.approx(1 / 2)


def test_a_model_that_says_nothing_wins_on_toxicity_and_loses_here():
    rng = np.random.default_rng(0)
    talking, silent = rng.uniform(0, 0.7, (50, 1)), np.zeros((50, 1))
    assert interval(silent, talking)[2] < 0
    assert share_wanted(["Gut."] * 50, talking[:, 0].tolist(), ["de"] * 50, "de") == pytest.approx(
        (talking < 0.5).mean()
    )
    assert share_wanted([""] * 50, silent[:, 0].tolist(), ["de"] * 50, "de") == 0
