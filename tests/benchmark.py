"""How fast minitox is, compared with its peers in the same run.

    python tests/benchmark.py detect | train | generate
        [--model DIR --data DATA | --shape NAME --random [--layers N]]
    python tests/benchmark.py scale                 # whole scripts with 1 and 2 processes
    python tests/benchmark.py scale --baseline DIR  # whole scripts of another checkout and these
    python tests/benchmark.py prepare               # data/prepare.py on 500 MB
    python tests/benchmark.py line [--model DIR]    # what a line of 20 MB adds to a script
    python tests/benchmark.py cost [--rate TFLOPS]  # computed cost of the paper's experiment

Absolute times depend on the machine and its load, ratios much less. Contenders run in turn, each
in a process of its own, so that its peak memory is measured alone: torch.cuda.max_memory_allocated
on CUDA, otherwise the largest resident set. Tables show medians. Peers (transformers,
scikit-learn) are left out if they are not installed. "of peak" is the rate of the operations that
the task needs, as a share of the rate of one large square matrix product in the same run, on the
same device, in the same dtype. Padding, logits that are not needed, and what
--activation-checkpointing computes again do not count as needed operations.
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import benchmark_scale  # noqa: E402
import costs  # noqa: E402
from benchmark_options import TIMED, parse_arguments  # noqa: E402
from contenders import (  # noqa: E402
    FULL,
    GENERATE,
    HOOKS,
    OURS,
    PRODUCT,
    contend,
    device_of,
    raw_config,
    share_label,
)

from minitox.detect.auroc import auroc  # noqa: E402
from minitox.errors import InputError  # noqa: E402
from minitox.report.page import aligned  # noqa: E402
from minitox.run import script  # noqa: E402


def compare(args, labels: list[str], to_first: bool) -> None:
    """Run the contenders in turn and print a table of their medians.

    With `to_first`, ratios are each contender's speed to the first one's; otherwise, minitox's
    speed to each contender's.
    """
    device_of(args, costs.as_config(raw_config(args)))  # report a wrong option only once
    if not find_spec("transformers"):
        print("transformers is not installed: showing minitox alone")
        labels = [label for label in labels if "transformers" not in label]
    runs = run_rounds(args, [PRODUCT, *labels])
    products = runs.pop(PRODUCT, [])
    if not runs:
        raise InputError("no contender could run")
    # the fastest matrix product is what the device can do
    rates = [run["operations"] / run["seconds"] for run in products]
    peak = max(rates, default=float("nan"))
    model = args.shape or args.model.resolve().name
    random = ", random" if args.random else ""
    what = next(iter(runs.values()))[0]["what"]
    title = (
        f"{args.command}, {model}{random}: {what}; "
        f"a matrix product {peak / 1e12:,.2f} TFLOP/s; medians of {args.repeats}"
    )
    show(args, title, comparison(runs, peak, to_first))


def run_rounds(args, labels: list[str]) -> dict[str, list[dict]]:
    """The figures of every contender in every round; one that fails is left out."""
    runs = {label: [] for label in labels}
    for _ in range(args.repeats):
        for label in list(runs):
            figures = run_in_subprocess([*args.argv, "--contender", label], label)
            runs[label].append(figures)
            if figures is None:
                del runs[label]
    return runs


def run_in_subprocess(arguments: list[str], label: str) -> dict | None:
    """The figures of a contender; if it fails, print why and return None."""
    command = [sys.executable, __file__, *arguments]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode == 0:
        return json.loads(process.stdout.splitlines()[-1])
    print(f"left out {label}: {benchmark_scale.last_line(process)}", flush=True)
    return None


def comparison(runs: dict[str, list[dict]], peak: float, to_first: bool) -> list[list[str]]:
    """The table of medians; the first row names the columns."""
    speeds = {label: median(figures, "tokens") for label, figures in runs.items()}
    first = next(iter(runs))
    first_memory = median(runs[first], "memory", per_second=False)
    ratio_name = "this / first" if to_first else f"{OURS} / this"
    rows = [
        ["", "tokens/s", ratio_name, "TFLOP/s", "of peak", "peak memory", "of the first's"],
    ]
    for label, speed in speeds.items():
        ratio = speed / speeds[first] if to_first else speeds.get(OURS, float("nan")) / speed
        rate = median(runs[label], "operations")
        memory = median(runs[label], "memory", per_second=False)
        row = [
            label,
            f"{speed:,.0f}",
            f"{ratio:.2f}",
            f"{rate / 1e12:,.3g}",
            f"{rate / peak:.0%}",
            f"{memory / 1e9:,.2f} GB",
            f"{memory / first_memory:.0%}",
        ]
        rows.append(row)
    return rows


def median(figures: list[dict], key: str, per_second: bool = True) -> float:
    return statistics.median(run[key] / (run["seconds"] if per_second else 1) for run in figures)


def show(args, title: str, rows: list[list[str]], with_hardware: bool = True) -> None:
    """Print a table under its title and the hardware it was measured on."""
    if with_hardware:
        title += f"\n{hardware()}"
    if args.markdown:
        rows = [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]
        lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    else:
        lines = aligned(rows)
    print(f"\n{title}\n\n{lines}", flush=True)


def hardware() -> str:
    """The processor, the GPUs, and the versions of the packages that were compared."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*: (.+)", info)
    parts = [
        model[1] if model else platform.processor() or platform.machine(),
        f"{os.cpu_count()} cores",
    ]
    parts += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    for package, module in (
        ("torch", "torch"),
        ("transformers", "transformers"),
        ("scikit-learn", "sklearn"),
    ):
        if find_spec(module):
            parts.append(f"{package} {version(package)}")
    return ", ".join(parts)


def compare_auroc(args, sentences: int = 10_000) -> None:
    """Time the AUROC of a neuron with minitox and with scikit-learn, in this process."""
    rounds = args.repeats + 4
    header = ["", "microseconds a neuron"]
    peer = find_spec("sklearn") is not None
    if peer:
        header += ["scikit-learn's", "times"]
    else:
        print("\nscikit-learn is not installed: showing minitox alone")
    rows = [header]
    rng = np.random.default_rng(0)
    toxic = rng.permutation(np.repeat([True, False], sentences // 2))
    for name, mean in (
        ("all positive, as max pooling gives", 1.5),
        ("around zero, as mean pooling gives", 0.0),
    ):
        responses = (mean + 0.3 * rng.standard_normal((64, sentences))).astype(np.float16)
        times = auroc_times(responses, toxic, peer, rounds)
        row = [name, *(f"{value:,.0f}" for value in times)]
        if peer:
            row.append(f"{times[1] / times[0]:.0f}")
        rows.append(row)
    show(args, f"AUROC, N = {sentences:,}, one thread; medians of {rounds}", rows)


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


def main(argv=None) -> None:
    args = parse_arguments(sys.argv[1:] if argv is None else argv)
    if args.command in TIMED and args.contender:
        contend(args)
    elif args.command == "detect":
        compare(args, [OURS, *HOOKS], to_first=False)
        compare_auroc(args)
    elif args.command == "train":
        every_weight = f"{OURS}, every weight"
        compare(args, [FULL, every_weight, *map(share_label, args.shares)], to_first=True)
    elif args.command == "generate":
        compare(args, [OURS, GENERATE], to_first=False)
    elif args.command == "scale":
        show(args, *benchmark_scale.scale(args))
    elif args.command == "line":
        show(args, *benchmark_scale.line(args))
    elif args.command == "prepare":
        benchmark_scale.prepare()
    else:
        show(args, *costs.table(args), with_hardware=False)


if __name__ == "__main__":
    script.run(main)
