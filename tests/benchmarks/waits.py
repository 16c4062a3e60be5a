"""How often a function waits for a GPU.

A step needs to wait once, at its end, to read its results. PyTorch warns of every call that waits,
at the line that makes it.
"""

import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

RUNS = 4  # that are counted, after one that is not


def waits_of(run: Callable) -> dict:
    """The waits in one run, and the lines that wait, with how often in all runs."""
    run()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(RUNS):
            run()
    torch.cuda.set_sync_debug_mode("default")
    lines = Counter()
    for warning in caught:
        if "synchroniz" in str(warning.message):
            lines[f"{Path(warning.filename).name}:{warning.lineno}"] += 1
    return {"waits": lines.total() / RUNS, "lines": dict(lines)}
