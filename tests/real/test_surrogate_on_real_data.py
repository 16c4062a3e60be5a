"""The default scorer on texts that it has not seen, with scores that people gave; it prints figures, never text."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "data"))
import fit_scorer  # noqa: E402

SEEDS = range(3)  # each holds another fifth out


def held_out(path: Path) -> dict:
    """The figures of a language, mean over SEEDS."""
    found = [fit_scorer.learn(path, seed)[1]["held_out"] for seed in SEEDS]
    mean = {name: np.mean([figures[name] for figures in found]) for name in found[0]}
    aucs = [figures["auc"] for figures in found]
    print(
        f"{path.stem}: AUC {mean['auc']:.3f} ({min(aucs):.3f}..{max(aucs):.3f}), correlation {mean['correlation']:.3f}, "
        f"calibration error {mean['calibration']:.3f}, {mean['rows']:.0f} rows"
    )
    return mean


@pytest.mark.parametrize("language, bar", [("en", 0.93), ("id", 0.88)])
def test_two_large_sets(real, language, bar):
    path = real / "data" / "large" / "detection" / f"{language}.jsonl"
    if not path.exists():
        pytest.skip(f"no {path}")
    found = held_out(path)
    assert found["auc"] >= bar and found["correlation"] >= 0.7 and found["calibration"] <= 0.08


def test_sixteen_small_sets(real):
    paths = sorted((real / "data" / "detection").glob("*.jsonl"))
    if not paths:
        pytest.skip(f"no sets in {real / 'data' / 'detection'}")
    found = [held_out(path) for path in paths]
    mean = {name: np.mean([figures[name] for figures in found]) for name in found[0]}
    print(
        f"mean of {len(found)}:", ", ".join(f"{name} {value:.3f}" for name, value in mean.items())
    )
    assert mean["auc"] >= 0.85 and mean["correlation"] >= 0.5 and mean["calibration"] <= 0.08
