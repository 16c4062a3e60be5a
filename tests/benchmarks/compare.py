"""Contenders run in turn, each in a process of its own; medians go into one table."""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks import costs
from benchmarks.contenders import LORA, OURS, PRODUCT, device_of, raw_config
from minitox.errors import InputError
from minitox.report.page import aligned

SCRIPT = Path(__file__).resolve().parents[1] / "benchmark.py"


class LeftOut(Exception):
    """Why a contender has no figures."""


def compare(args, labels: list[str], to_first: bool) -> None:
    """Run the contenders in turn and print a table of their medians.

    With `to_first`, ratios are each contender's speed to the first one's; otherwise, minitox's
    speed to each contender's.
    """
    device_of(args, costs.as_config(raw_config(args)))  # report a wrong option only once
    runs = run_rounds(args, [PRODUCT, *available(labels)])
    products = runs.pop(PRODUCT, [])
    if not runs:
        raise InputError("no contender could run")
    peak = peak_of(products)
    model = args.shape or args.model.resolve().name
    random = ", random" if args.random else ""
    what = next(iter(runs.values()))[0]["what"]
    title = (
        f"{args.command}, {model}{random}: {what}; "
        f"a matrix product {peak / 1e12:,.2f} TFLOP/s; medians of {args.repeats}"
    )
    show(args, title, comparison(runs, peak, to_first))


def available(labels: list[str]) -> list[str]:
    """The contenders whose packages are installed; prints which packages are not."""
    missing = []
    if not find_spec("transformers"):
        missing.append("transformers")
        labels = [label for label in labels if "transformers" not in label]
    if not find_spec("peft"):
        missing.append("peft")
        labels = [label for label in labels if LORA not in label]
    if missing:
        print(f"not installed, and left out: {', '.join(missing)}")
    return labels


def run_rounds(args, labels: list[str]) -> dict[str, list[dict]]:
    """The figures of every contender in every round; one that fails is left out."""
    runs = {label: [] for label in labels}
    for _ in range(args.repeats):
        for label in list(runs):
            try:
                runs[label].append(run_in_subprocess(args.argv, label))
            except LeftOut as reason:
                print(f"left out {label}: {reason}", flush=True)
                del runs[label]
    return runs


def run_in_subprocess(arguments: list[str], label: str, seconds: float | None = None) -> dict:
    """The figures of a contender; LeftOut if it fails, or takes longer than `seconds`."""
    command = [sys.executable, str(SCRIPT), *arguments, "--contender", label]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise LeftOut(f"it took more than {seconds:.0f} s") from None
    if process.returncode:
        raise LeftOut(last_line(process))
    return json.loads(process.stdout.splitlines()[-1])


def last_line(process: subprocess.CompletedProcess) -> str:
    """The last line of stderr, which names the error."""
    lines = process.stderr.strip().splitlines()
    return lines[-1] if lines else f"it exited with status {process.returncode}"


def peak_of(products: list[dict]) -> float:
    """Operations a second of the fastest matrix product: what the device can do."""
    rates = [run["operations"] / run["seconds"] for run in products]
    return max(rates, default=float("nan"))


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
    print(f"\n{title}\n\n{markdown(rows) if args.markdown else aligned(rows)}", flush=True)


def markdown(rows: list[list[str]]) -> str:
    """A table, of which the first row names the columns."""
    rows = [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


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
        ("peft", "peft"),
        ("scikit-learn", "sklearn"),
    ):
        if find_spec(module):
            parts.append(f"{package} {version(package)}")
    return ", ".join(parts)
