"""How good a scorer is, against hand computations and the definitions."""

import numpy as np
import pytest

from minitox.detect.auroc import auroc
from minitox.report import scorer_quality
from minitox.report.scorer_quality import auc, auc_interval, kappa, rank_correlation


def test_the_auc_is_the_share_of_pairs_in_the_right_order():
    # hateful 0.9, 0.5, 0.2 and harmless 0.5, 0.1: right, right, tie, right, wrong, right
    scores = np.array([0.9, 0.5, 0.2, 0.5, 0.1])
    hateful = np.array([True, True, True, False, False])
    assert auc(scores, hateful) == pytest.approx(4.5 / 6)
    assert auc(-scores, hateful) == pytest.approx(1.5 / 6)
    assert auc(np.ones(5), hateful) == 0.5
    assert auc(hateful.astype(float), hateful) == 1


def test_the_auc_is_that_of_detection():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 20, 300) / 20
    hateful = rng.random(300) < 0.3
    expected = auroc(scores[None].astype(np.float32), hateful)[0]
    assert auc(scores, hateful) == pytest.approx(expected)


def test_there_is_no_auc_without_both_classes():
    assert np.isnan(auc(np.ones(3), np.ones(3, bool)))
    assert np.isnan(auc(np.ones(0), np.ones(0, bool)))


def test_the_interval_of_an_auc_holds_the_true_one_in_95_of_100_samples():
    # normal scores whose means differ by d have the AUC P(a standard normal number < d / sqrt(2))
    rng = np.random.default_rng(0)
    hateful = np.arange(120) < 80
    for difference, true in ((0.0, 0.5), (1.349, 0.83), (2.77, 0.975)):
        inside = 0
        for _ in range(300):
            scores = rng.normal(size=120) + difference * hateful
            low, high = auc_interval(auc(scores, hateful), 80, 40)
            inside += low <= true <= high
        assert 0.90 <= inside / 300 <= 0.99


def test_the_interval_of_a_perfect_auc_has_a_width_that_falls_with_the_number_of_cases():
    widths = []
    for count in (5, 50, 200):
        low, high = auc_interval(1.0, count, count)
        assert high == 1
        assert auc_interval(0.0, count, count) == pytest.approx((0, 1 - low), abs=2e-4)
        widths.append(1 - low)
    assert widths[0] > 0.2 > widths[1] > 0.02 > widths[2] > 0.003


def test_the_interval_is_hanley_and_mcneil_s_at_its_bounds():
    low, high = auc_interval(0.7, 200, 150)
    for true in (low, high):
        above, below = true / (2 - true), 2 * true**2 / (1 + true)
        variance = true * (1 - true) + 199 * (above - true**2) + 149 * (below - true**2)
        deviation = np.sqrt(variance / (200 * 150))
        assert abs(true - 0.7) == pytest.approx(1.96 * deviation, abs=2 / scorer_quality.STEPS)


def test_the_rank_correlation_is_that_of_the_ranks():
    a = np.array([0.1, 0.2, 0.4, 0.9, 0.9])
    assert rank_correlation(a, a**3) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    b = np.array([0.3, 0.1, 0.8, 0.5, 0.9])
    expected = np.corrcoef([1, 2, 3, 4.5, 4.5], [2, 1, 4, 3, 5])[0, 1]
    assert rank_correlation(a, b) == pytest.approx(expected)
    assert np.isnan(rank_correlation(a, np.ones(5)))


def test_kappa_is_the_agreement_beyond_chance():
    # 20 of 50 both toxic, 15 both clean, 5 and 10 differ: Wikipedia's example of Cohen's kappa
    a = np.repeat([True, True, False, False], [20, 5, 10, 15])
    b = np.repeat([True, False, True, False], [20, 5, 10, 15])
    assert kappa(a, b) == pytest.approx(0.4)
    assert kappa(a, a) == 1
    assert kappa(a, ~a) < 0
    assert np.isnan(kappa(np.zeros(4, bool), np.zeros(4, bool)))
