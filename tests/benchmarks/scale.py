"""Times of whole scripts, for benchmark.py: with several processes, and on a large input."""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.compare import last_line
from minitox.errors import InputError
from minitox.run.settings import TOY

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
TWEET_COLUMNS = ",count,hate_speech,offensive_language,neither,class,tweet\n"


def scale(args) -> tuple[str, list[list[str]]]:
    """The title and rows of the seconds that whole commands take.

    They run with several numbers of processes, or in another checkout and in this one.
    """
    # 1) what is compared: a folder and a number of processes
    variants = {}
    if args.baseline:
        scripts = ["detect.py", "train.py", "evaluate.py"]
        variants["baseline"] = (args.baseline.resolve(), 1)
        variants["this tree"] = (ROOT, 1)
    else:
        scripts = ["detect.py", "train.py"]
        for count in args.processes:
            variants[f"{count} process{'es' if count > 1 else ''}"] = (ROOT, count)
    # 2) the measurement
    times = defaultdict(list)
    amounts = {}
    for _ in range(args.repeats):
        for name, (root, processes) in variants.items():
            with tempfile.TemporaryDirectory() as out:
                for script in scripts:
                    begin = time.perf_counter()
                    amounts[script] = run_script(args, root, processes, script, out)
                    times[script, name].append(time.perf_counter() - begin)
    # 3) the table
    first, *others = variants
    header = ["", *(f"{name}, s" for name in variants)]
    header += [f"{name}: speed / {first}" for name in others]
    rows = [[*header, "did"]]
    for script in scripts:
        seconds = [statistics.median(times[script, name]) for name in variants]
        row = [script, *(f"{value:.1f}" for value in seconds)]
        row += [f"{seconds[0] / value:.2f}" for value in seconds[1:]]
        rows.append([*row, amounts[script]])
    title = (
        f"scale, {args.model.resolve().name}, {len(args.languages)} languages; "
        f"whole commands, including start-up; medians of {args.repeats}"
    )
    return title, rows


def run_script(args, root: Path, processes: int, script: str, out: str) -> str:
    """Run a script as a user does; return the number of tokens or steps that it prints."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", processes]
    command += [root / script, "--model", args.model.resolve(), "--data", args.data.resolve()]
    command += ["--out", out, "--languages", ",".join(args.languages)]
    command += ["--device", args.device, "--dtype", args.dtype]
    if script == "train.py":
        command += ["--strategy", *args.strategy]
    process = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=root)
    if process.returncode:
        raise InputError(f"{root / script} with {processes} processes: {last_line(process)}")
    counts = re.findall(r"^\S+: ([\d,]+ (?:tokens|steps)) in ", process.stdout, re.MULTILINE)
    total = sum(int(count.split()[0].replace(",", "")) for count in counts)
    return f"{total:,} {counts[0].split()[1]}" if counts else "-"


def prepare(size: float = 500e6) -> None:
    """Print the speed and the peak memory of data/prepare.py on made-up corpora of 500 MB.

    The rows should stream through it, in less memory than the file's size.
    """
    rng = np.random.default_rng(0)
    words = "the soup is warm and my garden is green you silly donkey".split()
    texts = [" ".join(rng.choice(words, rng.integers(5, 40))) for _ in range(2_000)]

    def tweet(i: int) -> str:  # a fifth of them hateful, all different
        return f'{i},3,0,0,3,{i % 5},"{texts[i % 2_000]} &amp; {i}"\n'

    def passage(i: int) -> str:
        row = {
            "text": f"{texts[i % 2_000]} {i}",
            "toxicity": i % 1_000 / 1_000,
            "meta_data": {"lang": ("ar", "de", "en", "ru")[i % 4]},
        }
        return json.dumps(row) + "\n"

    prepare_corpus("davidson", "labeled_data.csv", TWEET_COLUMNS, tweet, size)
    prepare_corpus("ptp", "full.jsonl", "", passage, size)


def prepare_corpus(command: str, name: str, header: str, line, size: float) -> None:
    """Write a file of `size` bytes, convert it with data/prepare.py, and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        rows = 0
        with open(path, "w") as file:
            file.write(header)
            while file.tell() < size:
                file.writelines(map(line, range(rows, rows + 10_000)))
                rows += 10_000
        begin = time.perf_counter()
        # A process's peak memory is at least that of its parent, so a small process starts it.
        run = [sys.executable, "-c", LAUNCHER, sys.executable, ROOT / "data" / "prepare.py"]
        run += [command, path, "--out", folder]
        process = subprocess.run(run, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - begin
        print(
            f"prepare.py {command}, {size / 1e6:,.0f} MB of {path.suffix[1:]}, {rows:,} rows: "
            f"peak memory {int(process.stdout) / 1e3:,.0f} MB, {rows / seconds:,.0f} rows/s"
        )


# the length of a line: what each folder's lines are read by, and the fields that may be long
READERS = {
    "detection": ("detect.py", [], ["text"]),
    "instructions": ("train.py", ["--strategy", "full"], ["prompt", "response"]),
    "prompts": ("evaluate.py", ["--no-mmlu", "--perplexity", "0"], ["prompt"]),
    "mmlu": ("evaluate.py", ["--perplexity", "0"], ["question"]),
    "perplexity": ("evaluate.py", ["--no-mmlu"], ["text"]),
}
TEXTS = {
    "with spaces": "the soup is warm and the garden is green, ",
    "without spaces": "thesoupiswarmandthegardenisgreen",
    "Chinese": "汤是热的花园是绿的你好",
}
ORDINARY = 1_000  # lines


def line(args, size: float = 20e6) -> tuple[str, list[list[str]]]:
    """The title and rows of what a long line in each data folder adds to a command.

    It should add less than 300 MB, and less time than 1,000 ordinary lines.
    """
    rows = [["", f"{ORDINARY:,} lines", *(f"a line {kind}" for kind in TEXTS)]]
    for folder, (script, options, fields) in READERS.items():
        # 1) the lines that are added
        ordinary = toy_rows("detection" if folder == "perplexity" else folder)
        added = [[number_row(ordinary[i % len(ordinary)], fields, i) for i in range(ORDINARY)]]
        for text in TEXTS.values():
            field = max(fields)
            long = text * int(size / len(text.encode()))
            added.append([ordinary[1] | {field: long}])
        # 2) the measurement, without any of them first
        command = [ROOT / script, "--model", args.model.resolve(), "--languages", "en", *options]
        first_seconds, first_memory = run_with_rows(command, folder, [])
        cells = []
        for more in added:
            seconds, memory = run_with_rows(command, folder, more)
            cells.append(
                f"{seconds - first_seconds:+.1f} s, {(memory - first_memory) / 1e3:+,.0f} MB"
            )
        rows.append([f"{script}, {folder}", *cells])
    title = f"line, {args.model.resolve().name}: what lines of {size / 1e6:.0f} MB add to a command"
    return title, rows


def toy_rows(folder: str, count: int = 20) -> list[dict]:
    """The first English rows of a folder of the toy."""
    lines = (TOY / folder / "en.jsonl").read_text("utf-8").splitlines()
    return [json.loads(text) for text in lines[:count]]


def number_row(row: dict, fields: list[str], number: int) -> dict:
    """A row with texts of its own."""
    return row | {field: f"{row[field]} {number}" for field in fields}


def run_with_rows(command: list, folder: str, more: list[dict]) -> tuple[float, int]:
    """Seconds and kilobytes of a command on a few rows of the toy, with more rows in a folder."""
    with tempfile.TemporaryDirectory() as home:
        for name in ("detection", "instructions", "prompts", "mmlu"):
            rows = toy_rows(name)
            if name == ("detection" if folder == "perplexity" else folder):
                rows += more
            path = Path(home) / name / "en.jsonl"
            path.parent.mkdir()
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            path.write_text(text, "utf-8")
        begin = time.perf_counter()
        run = [sys.executable, "-c", LAUNCHER, sys.executable, *command]
        run += ["--data", home, "--out", Path(home) / "out"]
        run += ["--scorer", f"surrogate:{TOY / 'scorer.safetensors'}"] * (
            "evaluate" in str(command[0])
        )
        process = subprocess.run(list(map(str, run)), capture_output=True, text=True)
        if process.returncode:
            raise InputError(f"{command[0]}: {last_line(process)}")
        return time.perf_counter() - begin, int(process.stdout)
