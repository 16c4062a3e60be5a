"""A fuzzer: spoil an input file, run the script that reads it, and check how the script ends.

The script must work or print one line that explains why not.

    python tests/hardening/fuzz.py --mutants 2000 --seed 1

    # one mutant again, with everything that it prints
    python tests/hardening/fuzz.py --only config --seed 1 --first 17 --mutants 1

Each mutant runs in a fork of this process, so a crash, a hang or excessive memory ends only that
fork.
"""

import argparse
import io
import math
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch  # noqa: E402
from finite import not_finite  # noqa: E402
from kinds import KINDS, Kind  # noqa: E402
from mutate import restore, spoil  # noqa: E402

from minitox.lm import chat  # noqa: E402
from minitox.run import script  # noqa: E402

# limits of a mutant
SECONDS = 20  # of CPU time
WALL = 120  # seconds in all
MEMORY = 2 * 2**30  # bytes of address space that it may allocate
MEGABYTES = 1_000  # of memory in use at a time
DISK = 100 * 2**20  # bytes of the largest file
LONGEST = 1_010  # characters of an error message


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    status: int  # negative: killed by that signal
    stderr: str
    seconds: float
    megabytes: int


class Fork:
    """A fork of this process that runs a function, in the folder `work` and within the limits.

    Its outputs are the files stdout and stderr beside `work`, or open files of these descriptors.
    """

    def __init__(
        self,
        work: Path,
        action: Callable,
        name: str = "",  # ends the names of the files
        run: Callable = script.run,  # runs the action, as Python runs a script
        seconds: int | None = None,  # limit instead of SECONDS and WALL
        **outputs: int,
    ):
        self.files = {kind: work.with_name(f"{kind}{name}") for kind in ("stdout", "stderr")}
        self.files |= outputs
        self.start = time.monotonic()
        self.outcome = None
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            status = 99
            try:
                status = run_confined(work, *self.files.values(), partial(run, action), seconds)
            finally:
                os._exit(status)

    def poll(self, options: int = os.WNOHANG) -> Outcome | None:
        """How it ended; None if it has not."""
        if self.outcome is None:
            pid, status, used = os.wait4(self.pid, options)
            if pid:
                self.outcome = Outcome(
                    os.waitstatus_to_exitcode(status),
                    self.printed("stderr"),
                    time.monotonic() - self.start,
                    used.ru_maxrss // 1_000,
                )
        return self.outcome

    def wait(self, seconds: float = math.inf) -> Outcome | None:
        """Wait for the end, but not longer than this; return how it ended, or None."""
        if seconds == math.inf:
            return self.poll(0)
        end = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.001)
        return self.outcome

    def printed(self, kind: str = "stdout") -> str:
        """What it has written to an output; "" if that went elsewhere."""
        file = self.files[kind]
        return "" if isinstance(file, int) else file.read_text("utf-8", "replace")

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def forked(work: Path, action: Callable) -> Outcome:
    """Run a function in a fork, and wait for its end."""
    return Fork(work, action).wait()


def run_confined(
    work: Path,
    stdout: Path | int,
    stderr: Path | int,
    action: Callable,
    seconds: int | None,
) -> int:
    """In the child process: run the action; return its exit status."""
    os.chdir(work)
    redirect(stdout, stderr)
    set_limits(seconds)
    # shells make jobs in the background ignore interrupts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        action()
        status = 0
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
        status = 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        traceback.print_exc()
        status = 1
    return status


def redirect(stdout: Path | int, stderr: Path | int) -> None:
    """Read standard input from nowhere, and write both outputs to files."""
    for number, file in enumerate((os.devnull, stdout, stderr)):
        if not isinstance(file, int):
            file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    sys.stdin = open(0, closefd=False)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8")
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", write_through=True
    )


def set_limits(seconds: int | None) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + MEMORY
    for what, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds or SECONDS),
        (resource.RLIMIT_FSIZE, DISK),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (limit, limit))
    signal.alarm(seconds or WALL)


def states(folder: Path) -> dict[Path, tuple]:
    """Size, time and mode of every file in a folder, except locks and what `forked` writes."""
    state = {}
    for path in folder.rglob("*"):
        ours = path.name.startswith(("stdout", "stderr")) or path.name == ".lock"
        if not ours and not path.is_dir():
            stat = path.lstat()
            state[path] = (stat.st_size, stat.st_mtime_ns, stat.st_mode)
    return state


def changes(before: dict[Path, tuple], after: dict[Path, tuple]) -> list[Path]:
    """The files that are new, changed or gone."""
    return sorted({path for path, _ in before.items() ^ after.items()})


def wrong_files(changed: list[Path], folder: Path, out: Path, accepted: bool) -> str | None:
    """What is wrong with the files that a run has changed; None if nothing is.

    They are in `out`, and after an accepted run all their numbers are finite.
    """
    for path in changed:
        if not path.is_relative_to(out):
            return f"writes to {path.relative_to(folder)}"
    for path in changed:
        if accepted and path.is_file():
            number = not_finite(path)
            if number:
                return f"accepts and writes {number} to {path.name}"
    return None


def complaint(outcome: Outcome) -> str | None:
    """What is wrong with how a script ended; None if nothing is."""
    lines = outcome.stderr.splitlines()
    # 1) a signal
    if outcome.status < 0:
        number = -outcome.status
        hangs = number in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL)
        return "hangs" if hangs else f"signal {number}"
    # 2) an exception
    if outcome.status not in (0, 2):
        places = [
            line.strip()
            for line in lines
            if line.startswith('  File "') and "site-packages" not in line
        ]
        last = lines[-1][:200] if lines else "nothing on stderr"
        return f"{last}   {places[-1].rsplit('/', 1)[-1] if places else ''}"
    if outcome.megabytes > MEGABYTES:
        return "needs more than 1 GB"
    # 3) success
    if outcome.status == 0:
        return f"status 0, but prints {lines[0][:100]!a} to stderr" if lines else None
    # 4) an error message
    text = outcome.stderr.removesuffix("\n")
    if "\nthread '" in "\n" + text:  # the tokenizers package reports a Rust panic before it raises
        text = "error: " + text.rpartition("\nerror: ")[2]
    if not text.startswith("error: ") or not text.isprintable() or "Traceback" in text:
        return f"prints no single printable line, but {text[-200:]!a}"
    if len(text) > LONGEST:
        return f"prints a line of {len(text):,} characters: {text[:100]!a}"
    return None


def run_mutant(
    kind: Kind, name: str, folder: Path, seed: int, number: int
) -> tuple[str, Outcome, str | None]:
    """Make and run one mutant; return what was spoilt, how it ended, and what is wrong."""
    # 1) spoil a file
    rng = Random(f"{seed} {name} {number}")
    work = folder / "work"
    restore(folder / "base", work)
    files = set()
    for pattern in kind.files:
        files |= {path for path in work.glob(pattern) if path.is_file()}
    path = rng.choice(sorted(files))
    what = f"{path.relative_to(work)}: {spoil(path, rng)}"
    # 2) run the script
    before = states(folder)
    outcome = forked(work, lambda: kind.main(kind.arguments.split()))
    # 3) check how it ended and what it changed
    changed = changes(before, states(folder))
    out = work / kind.out
    wrong = complaint(outcome) or wrong_files(changed, folder, out, outcome.status == 0)
    return what, outcome, wrong


def make_world(kind: Kind, root: Path) -> Path:
    """The folder of a kind in `root`; its base is made once for all kinds that share it."""
    folder = root / "-".join(part.__name__ for part in kind.world)
    base = folder / "base"
    if not folder.exists():
        base.mkdir(parents=True)

        def make():
            for part in kind.world:
                part(base)

        outcome = forked(base, make)
        assert outcome.status == 0, outcome.stderr
    # every fork inherits the texts of the template, which take a process to render
    template = chat.read_template(base / "model")
    if template is not None:
        chat.template_texts(template)
    return folder


def fuzz(name: str, seed: int, numbers: range, root: Path) -> tuple[dict, list[Outcome]]:
    """Run mutants of a kind; return the complaints and all outcomes.

    Complaints are {what is wrong: [(number of the mutant, what was spoilt)]}.
    """
    folder = make_world(KINDS[name], root)
    complaints = defaultdict(list)
    outcomes = []
    for number in numbers:
        what, outcome, wrong = run_mutant(KINDS[name], name, folder, seed, number)
        outcomes.append(outcome)
        if wrong:
            complaints[wrong].append((number, what))
        if len(numbers) == 1:
            print(f"{what}\nstatus {outcome.status}\n{outcome.stderr}")
    return complaints, outcomes


def parse_arguments(argv) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Spoil input files and check how scripts end.")
    parser.add_argument("--mutants", type=int, default=40, help="mutants of each kind")
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
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_arguments(argv)
    show = partial(print, flush=True)
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # otherwise it warns that threads do not fork
    numbers = range(args.first, args.first + args.mutants)
    failed = 0
    with tempfile.TemporaryDirectory() as root:
        for name in args.only:
            start = time.monotonic()
            complaints, outcomes = fuzz(name, args.seed, numbers, Path(root))
            accepted = sum(outcome.status == 0 for outcome in outcomes)
            refused = sum(outcome.status == 2 for outcome in outcomes)
            wrong = sum(map(len, complaints.values()))
            show(
                f"kind {name:18} {len(outcomes):5} mutants, {accepted:5} accepted, "
                f"{refused:5} refused, {wrong:4} wrong; "
                f"slowest {max(outcome.seconds for outcome in outcomes):.1f} s, "
                f"most memory {max(outcome.megabytes for outcome in outcomes):,} MB, "
                f"{time.monotonic() - start:.0f} s in all"
            )
            for what, mutants in sorted(complaints.items(), key=lambda item: -len(item[1])):
                number, spoilt = mutants[0]
                again = f"--only {name} --seed {args.seed} --first {number} --mutants 1"
                show(f"    {len(mutants)} x {what}\n        {again}: {spoilt}")
            failed += len(complaints)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
