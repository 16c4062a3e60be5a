"""The default scorer on texts that it has not seen, against human scores; no text is printed."""

from pathlib import Path

import fit_scorer
import numpy as np
import pytest

SEEDS = range(3)  # each holds out another fifth


def mean_of(figures: list[dict]) -> dict:
    """The mean of each figure."""
    mean = {}
    for name in figures[0]:
        mean[name] = np.mean([row[name] for row in figures])
    return mean


def held_out(path: Path) -> dict:
    """The figures of a language on held-out texts, mean over SEEDS."""
    figures = [fit_scorer.learn(path, seed)[1]["held_out"] for seed in SEEDS]
    mean = mean_of(figures)
    aucs = [row["auc"] for row in figures]
    print(
        f"{path.stem}: AUC {mean['auc']:.3f} ({min(aucs):.3f}..{max(aucs):.3f}), "
        f"correlation {mean['correlation']:.3f}, calibration error {mean['calibration']:.3f}, "
        f"{mean['rows']:.0f} rows"
    )
    return mean


@pytest.mark.parametrize("language, bar", [("en", 0.93), ("id", 0.88)])
def test_two_large_sets(real, language, bar):
    path = real / "data" / "large" / "detection" / f"{language}.jsonl"
    if not path.exists():
        pytest.skip(f"no {path}")
    figures = held_out(path)
    assert figures["auc"] >= bar
    assert figures["correlation"] >= 0.7
    assert figures["calibration"] <= 0.08


def test_sixteen_small_sets(real):
    paths = sorted((real / "data" / "detection").glob("*.jsonl"))
    if not paths:
        pytest.skip(f"no sets in {real / 'data' / 'detection'}")
    mean = mean_of([held_out(path) for path in paths])
    print(f"mean of {len(paths)}:", ", ".join(f"{name} {mean[name]:.3f}" for name in mean))
    assert mean["auc"] >= 0.85
    assert mean["correlation"] >= 0.5
    assert mean["calibration"] <= 0.08
