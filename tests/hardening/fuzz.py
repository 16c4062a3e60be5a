"""A fuzzer: spoil a file, run the script that reads it, and see that it works or says in one line why not.

    python tests/hardening/fuzz.py --mutants 2000 --seed 1
    python tests/hardening/fuzz.py --only config --seed 1 --first 17 --mutants 1       # one mutant again, with all that it said

Each mutant runs in a fork of this process, so that a crash, a hang or a blow-up is its own end and no other's.
"""

import argparse
import io
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch  # noqa: E402
from mutate import restore, spoil  # noqa: E402
from worlds import KINDS, Kind  # noqa: E402

from minitox.run import cli  # noqa: E402

SECONDS, WALL, MEMORY, DISK = (
    20,
    120,
    2 * 2**30,
    100 * 2**20,
)  # of a mutant: CPU time, time at all, what it may add, largest file
LONGEST = 1_010  # characters of a line that is clear


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    status: int  # below 0: by that signal
    said: str  # what stands on stderr
    seconds: float
    megabytes: int


def forked(work: Path, action) -> Outcome:
    """Run an action in a fork, in the folder `work` and within limits."""
    said, start = work.with_name("stderr"), time.monotonic()
    sys.stdout.flush()
    if not (child := os.fork()):
        status = 99
        try:
            status = confined(work, said, action)
        finally:
            os._exit(status)
    _, status, used = os.wait4(child, 0)
    return Outcome(
        os.waitstatus_to_exitcode(status),
        said.read_text("utf-8", "replace"),
        time.monotonic() - start,
        used.ru_maxrss // 1_000,
    )


def confined(work: Path, said: Path, action) -> int:
    """In the child: the exit status of the action."""
    os.chdir(work)
    streams = [
        os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        for path in (os.devnull, work.with_name("stdout"), said)
    ]
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdin, sys.stdout = (
        open(0, closefd=False),
        io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8"),
    )
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", write_through=True
    )
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for what, limit in (
        (resource.RLIMIT_AS, held + MEMORY),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, DISK),
    ):
        resource.setrlimit(what, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(WALL)
    try:
        cli.run(action)
        status = 0
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
        status = 1
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        traceback.print_exc()
        status = 1
    return status


def state(folder: Path, out: str) -> dict:
    """All that lies in a folder, but in `out` in it."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_size,
            path.lstat().st_mtime_ns,
            path.lstat().st_mode,
        )
        for path in folder.rglob("*")
        if not path.is_dir()
        and path.name not in ("stdout", "stderr", ".lock")
        and not path.is_relative_to(folder / "work" / out)
    }


def complaint(outcome: Outcome) -> str | None:
    """What is wrong with how a script ended; None if nothing is."""
    lines = outcome.said.splitlines()
    if outcome.status < 0:
        return {signal.SIGXCPU: "hangs", signal.SIGALRM: "hangs", signal.SIGKILL: "hangs"}.get(
            -outcome.status, f"signal {-outcome.status}"
        )
    if outcome.status not in (0, 2):
        places = [
            line.strip()
            for line in lines
            if line.startswith('  File "') and "site-packages" not in line
        ]
        return f"{(lines or ['nothing said'])[-1][:200]}   {places[-1].rsplit('/', 1)[-1] if places else ''}"
    if outcome.status == 0:
        return None if not lines else f"status 0, but says {lines[0][:100]!a}"
    text = outcome.said.removesuffix("\n")
    if "\nthread '" in "\n" + text:  # Rust told of its panic before Python could
        text = "error: " + text.rpartition("\nerror: ")[2]
    if not text.startswith("error: ") or not text.isprintable() or "Traceback" in text:
        return f"says no single printable line, but {text[-200:]!a}"
    return (
        None if len(text) <= LONGEST else f"says a line of {len(text):,} characters: {text[:100]!a}"
    )


def mutant(
    kind: Kind, name: str, folder: Path, seed: int, number: int
) -> tuple[str, Outcome, str | None]:
    """Make one mutant and run it: what was spoilt, how it ended, and what is wrong with that."""
    rng, work = Random(f"{seed} {name} {number}"), folder / "work"
    restore(folder / "base", work)
    files = sorted(
        {path for pattern in kind.files for path in work.glob(pattern) if path.is_file()}
    )
    path = rng.choice(files)
    what = f"{path.relative_to(work)}: {spoil(path, rng)}"
    before = state(work.parent, kind.out)
    outcome = forked(work, lambda: kind.main(kind.arguments.split()))
    changed = {path for path, at in before.items() ^ state(work.parent, kind.out).items()}
    wrong = complaint(outcome) or (f"writes to {min(changed)}" if changed else None)
    return what, outcome, wrong


def world(kind: Kind, root: Path) -> Path:
    """The folder of a kind in `root`, its base made unless another kind has the same."""
    folder = root / "-".join(part.__name__ for part in kind.world)
    if not folder.exists():
        (folder / "base").mkdir(parents=True)

        def make():
            for part in kind.world:
                part(folder / "base")

        made = forked(folder / "base", make)
        assert made.status == 0, made.said
    return folder


def fuzz(name: str, seed: int, numbers: range, root: Path) -> tuple[dict, list[Outcome]]:
    """Mutants of a kind; the complaints, each with the numbers of its mutants and what was spoilt in the first, and all outcomes."""
    folder, complaints, outcomes = world(KINDS[name], root), defaultdict(list), []
    for number in numbers:
        what, outcome, wrong = mutant(KINDS[name], name, folder, seed, number)
        outcomes.append(outcome)
        if wrong:
            complaints[wrong].append((number, what))
        if len(numbers) == 1:
            print(f"{what}\nstatus {outcome.status}\n{outcome.said}")
    return complaints, outcomes


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=40, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=KINDS,
        default=list(KINDS),
        metavar="KIND",
        help=", ".join(KINDS),
    )
    args, failed = parser.parse_args(argv), 0
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = (
        "false"  # its threads do not outlive a fork, and it says so
    )
    root = tempfile.TemporaryDirectory()
    for name in args.only:
        start = time.monotonic()
        complaints, outcomes = fuzz(
            name, args.seed, range(args.first, args.first + args.mutants), Path(root.name)
        )
        well, refused = (sum(outcome.status == status for outcome in outcomes) for status in (0, 2))
        print(
            f"kind {name:16} {len(outcomes):5} mutants, {well:5} accepted, {refused:5} refused, {sum(map(len, complaints.values())):4} wrong; "
            f"slowest {max(o.seconds for o in outcomes):.1f} s, most memory {max(o.megabytes for o in outcomes):,} MB, "
            f"{time.monotonic() - start:.0f} s in all",
            flush=True,
        )
        for wrong, found in sorted(complaints.items(), key=lambda item: -len(item[1])):
            print(
                f"    {len(found)} x {wrong}\n        --only {name} --seed {args.seed} --first {found[0][0]} --mutants 1: {found[0][1]}",
                flush=True,
            )
        failed += len(complaints)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
