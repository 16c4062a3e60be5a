"""How fast minitox is, as ratios to its peers measured in the same run.

    python tests/benchmark.py detect | train | generate   [--model DIR --data DIR | --shape NAME --random [--layers N]]
    python tests/benchmark.py scale                       # the scripts themselves in 1 and 2 processes, start-up included
    python tests/benchmark.py scale --baseline DIR        # the scripts of another checkout beside these
    python tests/benchmark.py prepare                     # data/prepare.py on 500 MB
    python tests/benchmark.py cost [--rate TFLOPS]        # the paper's experiment, computed (costs.py)

Absolute times depend on the machine and on what else it does; the ratios much less. Contenders alternate, each in a process of its own,
so that its peak memory is its own: torch.cuda.max_memory_allocated on CUDA, else the largest resident set. Medians are shown. Peers
(transformers, scikit-learn) are left out where they are not installed. "of peak" is the rate of the operations that the task needs, as a
share of the rate at which one large square matrix product runs in the same run, on the same device, in the same dtype. Padding, logits that
nobody asked for and what --recompute computes again are not needed.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import costs  # noqa: E402
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
from minitox.run import cli  # noqa: E402
from minitox.train import strategies  # noqa: E402


def compare(args, labels: list[str], to_first: bool) -> None:
    """Run the contenders in turn and show them: each one's speed `to_first`, or minitox's to each."""
    device_of(args, costs.as_config(raw_config(args)))  # a mistake in the arguments is told once
    if not find_spec("transformers"):
        print("transformers is not installed: our own figures only")
        labels = [label for label in labels if "transformers" not in label]
    runs = {label: [] for label in [PRODUCT, *labels]}
    for _ in range(args.repeats):
        for label in list(runs):
            found = in_a_process_of_its_own([*args.argv, "--contender", label], label)
            runs[label].append(found)
            if found is None:
                del runs[label]
    if not runs.keys() & set(labels):
        raise InputError("no contender could run")
    peak = max(
        (run["operations"] / run["seconds"] for run in runs.pop(PRODUCT, [])), default=float("nan")
    )
    what = next(iter(runs.values()))[0]["what"]
    title = (
        f"{args.command}, {args.shape or args.model.resolve().name}{', random' * args.random}: {what}; "
        f"a matrix product {peak / 1e12:,.2f} TFLOP/s; medians of {args.repeats}"
    )
    show(args, f"{title}\n{hardware()}", comparison(runs, peak, to_first))


def comparison(runs: dict[str, list[dict]], peak: float, to_first: bool) -> list[list[str]]:
    """The table of medians; the first row names the columns."""

    def median(label: str, *keys: str) -> float:
        return statistics.median(
            run[keys[0]] / run[keys[1]] if len(keys) > 1 else run[keys[0]] for run in runs[label]
        )

    rates, first = {label: median(label, "tokens", "seconds") for label in runs}, next(iter(runs))
    rows = [
        [
            "",
            "tokens/s",
            "this / first" if to_first else f"{OURS} / this",
            "TFLOP/s",
            "of peak",
            "peak memory",
            "of the first's",
        ]
    ]
    for label, rate in rates.items():
        ratio = rate / rates[first] if to_first else rates.get(OURS, float("nan")) / rate
        done, memory = median(label, "operations", "seconds"), median(label, "memory")
        rows.append(
            [
                label,
                f"{rate:,.0f}",
                f"{ratio:.2f}",
                f"{done / 1e12:,.3g}",
                f"{done / peak:.0%}",
                f"{memory / 1e9:,.2f} GB",
                f"{memory / median(first, 'memory'):.0%}",
            ]
        )
    return rows


def in_a_process_of_its_own(arguments: list[str], label: str) -> dict | None:
    """What a contender found; None, and a line that says why, if it failed."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    print(f"left out {label}: {last_line(done)}", flush=True)
    return None


def last_line(done: subprocess.CompletedProcess) -> str:
    return (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]


def show(args, title: str, rows: list[list[str]]) -> None:
    """A table under what it is of."""
    if args.markdown:
        rows = [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows) if args.markdown else aligned(rows)
    print(f"\n{title}\n\n{lines}", flush=True)


def hardware() -> str:
    """What it was measured on."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*: (.+)", info)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    versions = [
        f"{name} {version(name)}"
        for name in ("torch", "transformers", "scikit-learn")
        if find_spec(name.replace("scikit-", "sk"))
    ]
    return ", ".join(
        [
            model[1] if model else platform.processor() or platform.machine(),
            f"{os.cpu_count()} cores",
            *gpus,
            *versions,
        ]
    )


def detect(args) -> None:
    compare(args, [OURS, *HOOKS], to_first=False)
    compare_auroc(args)


def compare_auroc(args, sentences: int = 10_000) -> None:
    peer = find_spec("sklearn") is not None
    if not peer:
        print("\nscikit-learn is not installed: our own figures only")
    rng, rows = (
        np.random.default_rng(0),
        [["", "microseconds a neuron", *["scikit-learn's", "times"] * peer]],
    )
    toxic = rng.permutation(np.repeat([True, False], sentences // 2))
    for name, mean in (
        ("all positive, as max pooling gives", 1.5),
        ("around zero, as mean pooling gives", 0.0),
    ):
        responses = (mean + 0.3 * rng.standard_normal((64, sentences))).astype(np.float16)
        runs = {64: lambda: auroc(responses, toxic)}  # by how many neurons they rank
        if peer:
            from sklearn.metrics import roc_auc_score

            runs[16] = lambda: [roc_auc_score(toxic, row) for row in responses[:16]]
            assert np.abs(runs[64]()[:16] - runs[16]()).max() < 1e-12
        each = [
            1e6 * seconds / neurons
            for neurons, seconds in alternate(runs, args.repeats + 4).items()
        ]
        rows.append(
            [name, *(f"{value:,.0f}" for value in each), *[f"{each[-1] / each[0]:.0f}"] * peer]
        )
    show(
        args,
        f"AUROC, N = {sentences:,}, one thread; medians of {args.repeats + 4}\n{hardware()}",
        rows,
    )


def alternate(runs: dict, repeats: int) -> dict:
    """Median seconds of each function, called in turn."""
    times = {name: [] for name in runs}
    for _ in range(repeats):
        for name, function in runs.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def train(args) -> None:
    compare(args, [FULL, f"{OURS}, every weight", *map(share_label, args.shares)], to_first=True)


def generate(args) -> None:
    compare(args, [OURS, GENERATE], to_first=False)


def scale(args) -> None:
    """Seconds of whole commands: with several numbers of processes, or in another checkout and this one."""
    settings = {f"{n} process{'es' * (n > 1)}": (ROOT, n) for n in args.processes}
    if args.baseline:
        settings = {"baseline": (args.baseline.resolve(), 1), "this tree": (ROOT, 1)}
    scripts = ["detect.py", "train.py"] + ["evaluate.py"] * bool(args.baseline)
    times, amounts = {script: {name: [] for name in settings} for script in scripts}, {}
    for _ in range(args.repeats):
        for name, (root, processes) in settings.items():
            with tempfile.TemporaryDirectory() as out:
                for script in scripts:
                    begin = time.perf_counter()
                    amounts[script] = run_script(args, root, processes, script, out)
                    times[script][name].append(time.perf_counter() - begin)
    first, *others = settings
    rows = [
        [
            "",
            *(f"{name}, s" for name in settings),
            *(f"{name}: speed / {first}" for name in others),
            "did",
        ]
    ]
    for script in scripts:
        seconds = [statistics.median(values) for values in times[script].values()]
        speeds = [seconds[0] / value for value in seconds[1:]]
        rows.append(
            [
                script,
                *(f"{value:.1f}" for value in seconds),
                *(f"{speed:.2f}" for speed in speeds),
                amounts[script],
            ]
        )
    what = f"{args.model.resolve().name}, {len(args.languages)} languages; whole commands, their start included; medians of {args.repeats}"
    show(args, f"scale, {what}\n{hardware()}", rows)


def run_script(args, root: Path, processes: int, script: str, out: str) -> str:
    """Run a script as a user does; how many tokens or steps it says it did."""
    torchrun = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        if processes > 1
        else []
    )
    more = ["--strategy", *args.strategy] if script == "train.py" else []
    command = [
        sys.executable,
        *torchrun,
        root / script,
        "--model",
        args.model.resolve(),
        "--data",
        args.data.resolve(),
        "--out",
        out,
        "--languages",
        ",".join(args.languages),
        "--device",
        args.device,
        "--dtype",
        args.dtype,
        *more,
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=root)
    if done.returncode:
        raise InputError(f"{root / script} with {processes} processes: {last_line(done)}")
    counts = re.findall(r"^\S+: ([\d,]+ (?:tokens|steps)) in ", done.stdout, re.MULTILINE)
    total = sum(int(count.split()[0].replace(",", "")) for count in counts)
    return f"{total:,} {counts[0].split()[1]}" if counts else "-"


def prepare(args, size: float = 500e6) -> None:
    """Speed and peak memory of data/prepare.py on made-up corpora of 500 MB, which should go through in less."""
    rng, words = (
        np.random.default_rng(0),
        "the soup is warm and my garden is green you silly donkey".split(),
    )
    texts = [" ".join(rng.choice(words, rng.integers(5, 40))) for _ in range(2_000)]
    # a process's peak is at least that of the one which started it, so this is done by a small one
    launcher = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )

    def tweet(i: int) -> str:  # a fifth of them hateful, and no two the same
        return f'{i},3,0,0,3,{i % 5},"{texts[i % 2_000]} &amp; {i}"\n'

    def passage(i: int) -> str:
        meta = {"lang": ("ar", "de", "en", "ru")[i % 4]}
        return (
            json.dumps(
                {
                    "text": f"{texts[i % 2_000]} {i}",
                    "toxicity": i % 1_000 / 1_000,
                    "meta_data": meta,
                }
            )
            + "\n"
        )

    columns = ",count,hate_speech,offensive_language,neither,class,tweet\n"
    for command, name, header, line in (
        ("davidson", "labeled_data.csv", columns, tweet),
        ("ptp", "full.jsonl", "", passage),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path, rows = Path(folder) / name, 0
            with open(path, "w") as file:
                file.write(header)
                while file.tell() < size:
                    file.writelines(map(line, range(rows, rows + 10_000)))
                    rows += 10_000
            begin = time.perf_counter()
            run = [
                sys.executable,
                "-c",
                launcher,
                sys.executable,
                ROOT / "data" / "prepare.py",
                command,
                path,
                "--out",
                folder,
            ]
            peak = int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
            print(
                f"prepare.py {command}, {size / 1e6:,.0f} MB of {path.suffix[1:]}, {rows:,} rows: peak memory {peak / 1e3:,.0f} MB, "
                f"{rows / (time.perf_counter() - begin):,.0f} rows/s"
            )


def cost(args) -> None:
    show(args, *costs.table(args))


def parse_arguments(argv) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {name: commands.add_parser(name, formatter_class=cli.Help) for name in COMMANDS}
    for command in parsers.values():
        command.add_argument("--markdown", action="store_true", help="tables for a README")
    for name in (*TIMED, "scale"):
        add = parsers[name].add_argument
        add(
            "--model", type=Path, default=cli.TOY / "model", help="Hugging Face folder of the model"
        )
        add(
            "--data",
            type=Path,
            default=cli.TOY,
            help="folder with detection/, instructions/ and prompts/",
        )
        add("--device", default="auto", help="as in the scripts")
        add(
            "--dtype",
            default="auto",
            choices=["auto", "float32", "bfloat16", "float16"],
            help="as in the scripts",
        )
        add(
            "--repeats",
            type=cli.positive(int),
            default=3,
            metavar="N",
            help="rounds, in each of which all contenders run",
        )
    for name in TIMED:
        add = parsers[name].add_argument
        add("--shape", choices=costs.SHAPES, help="instead of the model's; needs --random")
        add(
            "--random",
            action="store_true",
            help="random weights, made on the device, and random token ids",
        )
        add(
            "--layers",
            type=cli.positive(int),
            metavar="N",
            help="instead of the shape's; needs --random",
        )
        add(
            "--calls",
            type=cli.positive(int),
            default=3,
            metavar="N",
            help="timed in each process, after one to warm up",
        )
        add(
            "--batch-tokens",
            type=cli.auto_or(cli.positive(int)),
            default="auto",
            metavar="N",
            help="as in the scripts",
        )
        add("--contender", help=argparse.SUPPRESS)
    for name, mean in (("detect", 36), ("generate", 68)):
        parsers[name].add_argument(
            "--mean-tokens",
            type=cli.positive(float),
            default=mean,
            metavar="F",
            help="of a random text",
        )
    add = parsers["detect"].add_argument
    add("--sentences", type=cli.positive(int), default=256, metavar="N")
    add("--language", default="en", help="of the sentences")
    add = parsers["train"].add_argument
    add(
        "--shares",
        nargs="*",
        type=cli.share,
        default=[0.8, 0.1],
        metavar="F",
        help="of the MLP's rows, in whole percents",
    )
    add("--pairs", type=cli.positive(int), default=4, metavar="N")
    add("--tokens", type=cli.positive(int), default=128, metavar="N", help="of a pair")
    add(
        "--recompute",
        action="store_true",
        help="keep no activations inside layers; the peer neither",
    )
    add = parsers["generate"].add_argument
    add("--prompts", type=cli.positive(int), default=32, metavar="N", help="at once")
    add("--new-tokens", type=cli.positive(int), default=64, metavar="N")
    add(
        "--languages",
        type=cli.language_list,
        default="en,de,zh,ar,hi,ru,ja,ko",
        help="of the prompts",
    )
    add = parsers["scale"].add_argument
    add("--processes", nargs="+", type=cli.positive(int), default=[1, 2], metavar="N")
    add(
        "--baseline",
        type=Path,
        metavar="DIR",
        help="another checkout: its three scripts and these, in turn, in one process",
    )
    add("--languages", type=cli.language_list, default="en,zh", help="as in the scripts")
    add(
        "--strategy",
        nargs="+",
        choices=strategies.TUNED,
        default=["multilingual"],
        metavar="S",
        help="that train.py follows",
    )
    costs.add_arguments(parsers["cost"])
    args = parser.parse_args(argv)
    args.argv = list(argv)
    if args.command in TIMED and (args.shape or args.layers) and not args.random:
        parser.error("--shape and --layers need --random: there are no weights of that shape")
    return args


COMMANDS = {run.__name__: run for run in (detect, train, generate, scale, prepare, cost)}
TIMED = ("detect", "train", "generate")  # of contenders


def main(argv=None) -> None:
    args = parse_arguments(sys.argv[1:] if argv is None else argv)
    if args.command in TIMED and args.contender:
        return contend(args)
    COMMANDS[args.command](args)


if __name__ == "__main__":
    cli.run(main)
