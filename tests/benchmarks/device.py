"""Everything worth measuring on an accelerator, in one command: `benchmark.py device`.

    python tests/benchmark.py device [--device cuda] [--out out/device] [--minutes 9] [--quick]

In this order, so that little is lost if time runs out:

    toy       the three scripts on the device and on the CPU: the neurons that change side, the
              frozen weights, the replies
    waits     how often a training step, a batch of detection and a generated token wait for the GPU
    shapes    detect, train and generate with random weights of an 8B model and of SmolLM2, minitox
              before its peers

Every figure is printed as it is measured, and kept at once in OUT/device.json and OUT/device.md.
Nothing is downloaded. With --quick, a trial on small shapes that takes a minute on a CPU.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from benchmarks.compare import (
    LeftOut,
    available,
    comparison,
    hardware,
    last_line,
    markdown,
    peak_of,
    run_in_subprocess,
)
from benchmarks.contenders import (
    EVERY_WEIGHT,
    FULL,
    GENERATE,
    HOOKS,
    OURS,
    PRODUCT,
    WAITS,
    lora_label,
    share_label,
)
from minitox.files import read_json, read_jsonl, write_json, write_text
from minitox.run.device import find_device

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 120  # for one contender
FEWEST_SECONDS = 15  # below which no contender is started

PLAIN, _, SORTED = HOOKS
CONTENDERS = {  # in order of importance
    "detect": [OURS, SORTED, PLAIN],
    "train": [*map(share_label, (0.1, 0.02, 0.8)), FULL, lora_label(0.1), EVERY_WEIGHT],
    "generate": [OURS, GENERATE],
}


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    scripts: dict[str, str]  # the options of each script on the toy
    shapes: dict[str, dict[str, str]]  # of each shape, the options of each command


WHOLE = Extent(
    {
        "detect": "",
        "train": "--strategy multilingual",
        "evaluate": "--prompts 10 --models base multilingual --no-mmlu --perplexity 0 --no-xstest",
    },
    {
        "llama-3.1-8b": {
            "detect": "--sentences 1024 --repeats 1",
            "train": "--pairs 8 --tokens 256 --repeats 1",
            "generate": "--prompts 128 --new-tokens 64 --repeats 1",
        },
        "smollm2-135m": {
            "detect": "--sentences 4000 --repeats 1",
            "train": "--pairs 32 --tokens 256 --repeats 1",
            "generate": "--prompts 128 --new-tokens 64 --repeats 1",
        },
    },
)
QUICK = Extent(
    {
        "detect": "--languages en",
        "train": "--languages en --pairs 12 --epochs 1 --strategy multilingual",
        "evaluate": "--languages en --prompts 4 --no-mmlu --perplexity 0 --no-hatecheck"
        " --no-xstest",
    },
    {
        "smollm2-135m": {
            "detect": "--layers 1 --sentences 8 --calls 1",
            "train": "--layers 1 --pairs 1 --tokens 16 --calls 1",
            "generate": "--layers 1 --prompts 2 --new-tokens 2 --calls 1",
        },
    },
)


class Record:
    """What was measured so far, on disk after every figure."""

    def __init__(self, out: Path, device: str):
        self.out = out
        self.values = {
            "hardware": hardware(),
            "device": device,
            "toy": {},
            "waits": {},
            "products": [],  # figures of matrix products
            "shapes": {},  # {shape: {command: {contender: figures}}}
            "left out": {},  # {what: why}
        }

    def keep(self) -> None:
        write_json(self.out / "device.json", self.values)
        write_text(self.out / "device.md", as_markdown(self.values))

    def leave_out(self, what: str, reason: LeftOut) -> None:
        print(f"left out {what}: {reason}", flush=True)
        self.values["left out"][what] = str(reason)
        self.keep()


def measure(args) -> None:
    """Measure all of it, the most important figures first, and print them."""
    # 1) what there is to do
    extent = QUICK if args.quick else WHOLE
    device = str(find_device(args.device))
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    clock = Clock(time.monotonic() + 60 * args.minutes)
    record = Record(out, device)
    print(f"{device}; {record.values['hardware']}", flush=True)

    # 2) one figure after another
    try:
        record.values["toy"] = toy_beside_cpu(extent.scripts, device, out, clock)
    except LeftOut as reason:
        record.leave_out("the toy", reason)
    record.keep()
    print(about_toy(record.values["toy"]), flush=True)
    count_waits(record, device, clock)
    time_shapes(record, extent, device, clock)

    # 3) all of them
    print(f"\n{as_markdown(record.values)}\nwrote {args.out / 'device.json'} and device.md")


@dataclass(frozen=True)
class Clock:
    end: float  # of time.monotonic()

    def seconds(self) -> float:
        """How long the next contender may take; LeftOut if there is too little time."""
        left = self.end - time.monotonic()
        if left < FEWEST_SECONDS:
            raise LeftOut("no time was left")
        return min(left, MOST_SECONDS)


# ---------- the toy, on the device and on the CPU


def toy_beside_cpu(scripts: dict[str, str], device: str, out: Path, clock: Clock) -> dict:
    """What differs between the three scripts on the device and on the CPU, and their seconds.

    Both tune the neurons that the CPU found, so that their frozen weights can be compared.
    """
    folders = {"cpu": out / "toy-cpu", device: out / f"toy-{device.replace(':', '-')}"}
    if device == "cpu":
        folders = {"cpu": out / "toy-cpu", "cpu, again": out / "toy-again"}
    seconds = {}
    for name, folder in folders.items():
        seconds[name] = {}
        for script, options in scripts.items():
            command = [ROOT / f"{script}.py", "--out", folder, *options.split()]
            command += ["--device", name.partition(",")[0]]
            if script == "train":
                command += ["--neurons", folders["cpu"] / "neurons"]
            begin = time.monotonic()
            run_script(command, clock)
            seconds[name][script] = round(time.monotonic() - begin, 1)
    ours, theirs = folders.values()
    return {
        "seconds": seconds,
        **neurons_that_differ(ours / "neurons", theirs / "neurons"),
        **weights_that_differ(ours / "models", theirs / "models"),
        **replies_that_differ(ours / "replies", theirs / "replies"),
    }


def run_script(command: list, clock: Clock) -> None:
    """Run a script as a user does; LeftOut if it fails or takes too long."""
    seconds = clock.seconds()
    command = [sys.executable, *map(str, command)]
    try:
        process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise LeftOut(f"{command[1]} took more than {seconds:.0f} s") from None
    if process.returncode:
        raise LeftOut(f"{command[1]}: {last_line(process)}")


def neurons_that_differ(ours: Path, theirs: Path) -> dict:
    """How many neurons are toxic by one folder's AUROC and not by the other's; largest gap."""
    changed = 0
    count = 0
    largest = 0.0
    for path in sorted(ours.glob("*.safetensors")):
        others = load_file(theirs / path.name)
        for name, auroc in load_file(path).items():
            if not name.startswith("shuffled."):
                changed += int(((auroc > 0.5) != (others[name] > 0.5)).sum())
                count += len(auroc)
                largest = max(largest, float(np.abs(auroc - others[name]).max()))
    return {
        "neurons": count,  # of all languages together
        "neurons that change side": changed / count,
        "largest difference of an AUROC": largest,
    }


def weights_that_differ(ours: Path, theirs: Path) -> dict:
    """Whether frozen weights have the same bits, and how far tuned weights are apart."""
    same = {}
    apart = {}
    for folder in sorted(ours.iterdir()):
        proof = read_json(folder / "run.json")["proof"]
        other = read_json(theirs / folder.name / "run.json")["proof"]
        same[folder.name] = proof["frozen_sha256"] == other["frozen_sha256"]
        weights = load_file(folder / "model.safetensors")
        others = load_file(theirs / folder.name / "model.safetensors")
        distance = sum(float(np.square(weights[name] - others[name]).sum()) for name in weights)
        length = sum(float(np.square(weight).sum()) for weight in weights.values())
        apart[folder.name] = (distance / length) ** 0.5
    return {"frozen weights have the same bits": same, "distance of all weights": apart}


def replies_that_differ(ours: Path, theirs: Path) -> dict:
    """The share of replies of each model that are the same, character by character."""
    same = {}
    for folder in sorted(ours.iterdir()):
        pairs = []
        for path in sorted(folder.glob("*.jsonl")):
            rows = zip(read_jsonl(path), read_jsonl(theirs / folder.name / path.name), strict=True)
            pairs += [row["response"] == other["response"] for (_, row), (_, other) in rows]
        if pairs:
            same[folder.name] = sum(pairs) / len(pairs)
    return {"equal replies": same}


# ---------- random weights of named shapes


def count_waits(record: Record, device: str, clock: Clock) -> None:
    """How often each stage waits for the GPU."""
    arguments = ["train", "--shape", "smollm2-135m", "--random", "--layers", "2"]
    try:
        if not device.startswith("cuda"):
            raise LeftOut("only CUDA counts them")
        arguments += ["--device", device]
        record.values["waits"] = run_in_subprocess(arguments, WAITS, clock.seconds())
        print(in_lines("Waits for the GPU", record.values["waits"]), flush=True)
    except LeftOut as reason:
        record.leave_out("waits", reason)
    record.keep()


def time_shapes(record: Record, extent: Extent, device: str, clock: Clock) -> None:
    """Time minitox and its peers on every shape, as far as time allows."""
    known = set(available([label for labels in CONTENDERS.values() for label in labels]))
    product = ["detect", "--shape", next(iter(extent.shapes)), "--random", "--device", device]
    try:
        record.values["products"].append(run_in_subprocess(product, PRODUCT, clock.seconds()))
    except LeftOut as reason:
        record.leave_out(PRODUCT, reason)
    peak = peak_of(record.values["products"])
    for shape, commands in extent.shapes.items():
        figures = record.values["shapes"][shape] = {command: {} for command in commands}
        for command, options in commands.items():
            arguments = [command, "--shape", shape, "--random", "--device", device]
            arguments += options.split()
            for label in CONTENDERS[command]:
                if label not in known:
                    continue
                what = f"{shape}, {command}, {label}"
                try:
                    run = run_in_subprocess(arguments, label, clock.seconds())
                except LeftOut as reason:
                    record.leave_out(what, reason)
                    continue
                figures[command][label] = run
                record.keep()
                rate = run["operations"] / run["seconds"]
                print(
                    f"{what}: {run['tokens'] / run['seconds']:,.0f} tokens/s, "
                    f"{rate / peak:.0%} of peak, {run['memory'] / 1e9:,.2f} GB",
                    flush=True,
                )


# ---------- the tables


def as_markdown(values: dict) -> str:
    """All figures so far, for people."""
    peak = peak_of(values["products"])
    parts = [f"{values['device']}; {values['hardware']}", about_toy(values["toy"])]
    parts.append(in_lines("Waits for the GPU", values["waits"]))
    if values["products"]:
        parts.append(f"A matrix product: {peak / 1e12:,.2f} TFLOP/s.")
    for shape, commands in values["shapes"].items():
        for command, runs in commands.items():
            if runs:
                # peers that are compared with every one of ours come first
                to_first = command == "train"
                order = sorted(runs, key=lambda label: to_first and label != FULL)
                table = {label: [runs[label]] for label in order}
                what = next(iter(runs.values()))["what"]
                parts.append(f"{command}, {shape}, random weights: {what}")
                parts.append(markdown(comparison(table, peak, to_first)))
    parts.append(in_lines("Left out", values["left out"]))
    return "\n\n".join(part for part in parts if part) + "\n"


def about_toy(toy: dict) -> str:
    """The seconds of the scripts as a table, and what differs as a list; nothing if it failed."""
    if not toy:
        return ""
    seconds = toy["seconds"]
    rows = [["The toy, seconds", *seconds]]
    for script in next(iter(seconds.values())):
        rows.append([script, *(f"{of_device[script]:.1f}" for of_device in seconds.values())])
    differences = {name: value for name, value in toy.items() if name != "seconds"}
    return f"{markdown(rows)}\n\n{in_lines('Its results', differences)}"


def in_lines(title: str, figures: dict) -> str:
    """Figures as a list, a line for each; nothing if there are none."""
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {as_text(of)}" for key, of in value.items())
        lines.append(f"- {name}: {as_text(value)}")
    return "\n".join([f"{title}:", "", *lines]) if lines else ""


def as_text(value) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {as_text(of)}" for name, of in value.items()) + ")"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
