"""The time of one neuron's AUROC, with minitox and with scikit-learn."""

import statistics
import time
from importlib.util import find_spec

import numpy as np

from minitox.detect.auroc import auroc

SENTENCES = 10_000
SHAPES = {
    "all positive, as max pooling gives": 1.5,
    "around zero, as mean pooling gives": 0.0,
}


def compare_auroc(rounds: int) -> tuple[str, list[list[str]]]:
    """The title and the rows of the table, measured in this process."""
    header = ["", "microseconds a neuron"]
    peer = find_spec("sklearn") is not None
    if peer:
        header += ["scikit-learn's", "times"]
    else:
        print("\nscikit-learn is not installed: showing minitox alone")
    rows = [header]
    rng = np.random.default_rng(0)
    toxic = rng.permutation(np.repeat([True, False], SENTENCES // 2))
    for name, mean in SHAPES.items():
        responses = (mean + 0.3 * rng.standard_normal((64, SENTENCES))).astype(np.float16)
        times = auroc_times(responses, toxic, peer, rounds)
        row = [name, *(f"{value:,.0f}" for value in times)]
        if peer:
            row.append(f"{times[1] / times[0]:.0f}")
        rows.append(row)
    return f"AUROC, N = {SENTENCES:,}, one thread; medians of {rounds}", rows


def auroc_times(responses, toxic, peer: bool, rounds: int) -> list[float]:
    """Microseconds a neuron, of minitox and, with `peer`, of scikit-learn."""
    runs = {64: lambda: auroc(responses, toxic)}  # keyed by the number of neurons ranked
    if peer:
        from sklearn.metrics import roc_auc_score

        runs[16] = lambda: [roc_auc_score(toxic, row) for row in responses[:16]]
        assert np.abs(runs[64]()[:16] - runs[16]()).max() < 1e-12
    seconds = alternate(runs, rounds)
    return [1e6 * seconds[neurons] / neurons for neurons in runs]


def alternate(runs: dict, repeats: int) -> dict:
    """Median seconds of each function, called in turn."""
    times = {name: [] for name in runs}
    for _ in range(repeats):
        for name, function in runs.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}
