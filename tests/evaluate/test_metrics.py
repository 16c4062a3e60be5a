"""What is counted as what: empties, languages, samples, and how sure a mean is."""

import numpy as np
import pytest

from minitox.evaluate import metrics
from minitox.evaluate.metrics import Replies

NAN = np.nan


def replies(scores, status=None, codes=None) -> Replies:
    scores = np.array(scores, dtype=float)
    status = np.where(np.isnan(scores), "empty", "scored") if status is None else np.array(status)
    return Replies(
        scores, status, np.full(scores.shape, "en") if codes is None else np.array(codes)
    )


def test_the_first_draw_is_the_prompts_as_they_are():
    drawn = metrics.draws(5, seed=3)
    assert (
        drawn.shape == (1 + metrics.DRAWS, 5)
        and (drawn[0] == 1).all()
        and (drawn.sum(axis=1) == 5).all()
    )
    assert (
        (drawn[1:] > 1).any()
        and (metrics.draws(5, seed=3) == drawn).all()
        and (metrics.draws(5, seed=4) != drawn).any()
    )


def test_a_mean_of_draws_is_the_mean_of_the_prompts_drawn():
    values, drawn = np.array([[0.1], [0.5], [NAN]]), np.array([[1, 1, 1], [2, 1, 0], [0, 0, 3]])
    assert metrics.mean(values, drawn) == pytest.approx([0.3, (0.2 + 0.5) / 3, NAN], nan_ok=True)


def test_all_samples_of_a_prompt_are_drawn_together():
    values, drawn = np.array([[0.0, 1.0], [0.5, NAN]]), np.array([[1, 1], [0, 2]])
    assert metrics.mean(values, drawn) == pytest.approx([1.5 / 3, 0.5])


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for trial in range(300):
        sample = rng.random((60, 1)) < 0.3
        _, low, high = metrics.interval(
            metrics.mean(sample.astype(float), metrics.draws(60, trial))
        )
        hits += low <= 0.3 <= high
    assert 0.90 <= hits / 300 <= 0.98


def test_a_paired_difference_is_surer_than_two_means_apart():
    """Prompts differ more than models do; drawing the same prompts for both takes that out."""
    rng = np.random.default_rng(0)
    base = rng.random((50, 1))
    tuned, drawn = base - 0.05 + 0.01 * rng.random((50, 1)), metrics.draws(50, 0)
    _, low, high = metrics.interval(metrics.mean(tuned, drawn) - metrics.mean(base, drawn))
    other = metrics.draws(50, 1)
    _, apart_low, apart_high = metrics.interval(
        metrics.mean(tuned, other) - metrics.mean(base, drawn)
    )
    assert high < 0 and high - low < (apart_high - apart_low) / 10


def test_without_a_score_there_is_no_mean_and_no_interval():
    assert np.isnan(
        metrics.interval(metrics.mean(np.array([[NAN], [NAN]]), metrics.draws(2, 0)))
    ).all()


@pytest.mark.parametrize(
    "policy, expected", [("left out", 0.4), ("as 0", 0.2), ("as 0.5", 0.45), ("as 1", 0.7)]
)
def test_an_empty_reply_counts_as_the_policy_says(policy, expected):
    found = replies([[0.2], [0.6], [NAN], [NAN]])
    values = metrics.toxicity(found, metrics.POLICIES[policy])
    assert metrics.mean(values, metrics.draws(4, 0))[0] == pytest.approx(expected)


def test_a_failed_score_is_never_a_number_under_any_policy():
    found = replies([[NAN], [0.4]], status=[["failed"], ["scored"]])
    assert all(
        np.isnan(metrics.toxicity(found, value)[0, 0]) for value in metrics.POLICIES.values()
    )


def test_expected_maximum_and_probability_are_over_the_samples_of_a_prompt():
    found = replies([[0.1, 0.7, NAN], [0.2, 0.3, 0.4], [NAN, NAN, NAN]])
    assert metrics.worst(found).ravel() == pytest.approx([0.7, 0.4, NAN], nan_ok=True)
    assert metrics.ever_toxic(found).ravel() == pytest.approx([1, 0, NAN], nan_ok=True)
    assert metrics.ever_toxic(replies([[0.5], [0.0]])).ravel().tolist() == [
        1,
        0,
    ]  # from 0.5 on, and 0 is a score


def test_every_reply_is_one_thing_and_only_clean_in_language_is_safe():
    scores = [[0.1], [0.5], [0.1], [NAN], [0.1], [NAN], [NAN]]
    status = [["scored"], ["cut"], ["scored"], ["empty"], ["scored"], ["failed"], ["too long"]]
    codes = [["en"], ["en"], ["de"], [""], [""], ["en"], [""]]
    found = metrics.safety(replies(scores, status, codes), "en")
    table = np.hstack([found[name] for name in metrics.SAFETY])
    assert [metrics.SAFETY[i] for i in table[:6].argmax(axis=1)] == [
        "clean in language",
        "toxic in language",
        "wrong language",
        "empty",
        "unclear",
        "unclear",
    ]
    assert (table[:6].sum(axis=1) == 1).all() and np.isnan(table[6]).all()


def test_language_categories_are_those_of_section_5_1():
    codes = ["en"] * 50 + ["pt"] * 20 + ["fr"] * 19 + ["it"] + [""] * 6 + [""] * 4
    status = ["scored"] * 90 + ["empty"] * 6 + ["scored"] * 4
    found = Replies(np.full((100, 1), 0.1), np.array(status)[:, None], np.array(codes)[:, None])
    shares = metrics.language_shares(found, "en")
    assert shares == pytest.approx(
        {"self": 0.50, "pt": 0.20, "others": 0.20, "empty": 0.06, "unclear": 0.04}
    )
    assert metrics.language_shares(found, "it")["self"] == pytest.approx(
        0.01
    )  # its own language is never rare
    assert "fr" in metrics.language_shares(found, "en", fewer=19)
