"""Two runs of a command at once, in one folder: the results are of one of them, and whole.

The other run is refused, or begins when the first has ended. The longer variant:

    TRIALS=50 python -m pytest tests/hardening/test_two_writers.py -rP
"""

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import fuzz
import pytest
import runs
from commands import COMMANDS, Command
from fuzz import Fork, Outcome, forked
from runs import before_each_change

TRIALS = int(os.environ.get("TRIALS", 2))
SEED = int(os.environ.get("SEED", 0))


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("worlds")


# temporary files are compared, too, because no run may leave any
files_in = partial(runs.files_in, but=r".*lock")


@dataclass(frozen=True)
class End:
    """How two runs ended: which were accepted, and the files that are left."""

    accepted: tuple[bool, bool]
    files: dict[str, bytes]


def one_after_the_other(command: Command, base: Path, work: Path) -> list[End]:
    """How two runs may end: each alone, and one after the other, in both orders."""
    ends = []
    for order in ((0,), (1,), (0, 1), (1, 0)):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(base, work)
        accepted = [False, False]
        for run in order:
            outcome = forked(work, command.action((command.one, command.other)[run]))
            assert fuzz.complaint(outcome) is None, outcome
            accepted[run] = outcome.status == 0
        ends.append(End(tuple(accepted), files_in(work)))
    assert ends[0].accepted == (True, False) and ends[1].accepted == (False, True)
    assert ends[0].files != ends[1].files  # otherwise nobody could say whose results they are
    return ends


def timed(action: Callable, work: Path, path: Path) -> None:
    """Run a command, and write to `path` when it first changed a file in `work`, and its end."""
    moments = []

    def note(changed) -> None:
        if isinstance(changed, str | Path):  # not the number of an open file
            place = Path.cwd() / changed
            ours = place.is_relative_to(work) and not place.name.endswith("lock")
            # folders have no suffix; the first is made before the lock in it
            if ours and place.suffix and not moments:
                moments.append(time.monotonic())

    before_each_change(note)
    try:
        action()
    finally:
        moments.append(time.monotonic())
        path.write_text(json.dumps(moments))


def at_once(command: Command, work: Path, first: int, delay: float) -> tuple[list[Outcome], bool]:
    """Run both commands, the second `delay` seconds after the first.

    Return how they ended, and whether both wrote at the same time.
    """
    # 1) run them
    actions = [command.action(command.one), command.action(command.other)]
    paths = [work.with_name(f"moments-{number}") for number in range(2)]
    forks = {}
    for number in (first, 1 - first):
        action = partial(timed, actions[number], work, paths[number])
        forks[number] = Fork(work, action, f"-{number}")
        time.sleep(delay if number == first else 0)
    outcomes = [forks[0].wait(), forks[1].wait()]
    # 2) compare the times
    spans = [json.loads(path.read_text()) for path in paths]
    overlap = len(spans[0]) == len(spans[1]) == 2
    overlap = overlap and spans[0][0] < spans[1][1] and spans[1][0] < spans[0][1]
    return outcomes, overlap


def what_is_wrong(outcomes: list[Outcome], files: dict[str, bytes], ends: list[End]) -> str | None:
    """What is wrong with how two runs ended; None if nothing is."""
    # 1) each was accepted or refused in one line
    for outcome in outcomes:
        complaint = fuzz.complaint(outcome)
        if complaint:
            return complaint
    accepted = tuple(outcome.status == 0 for outcome in outcomes)
    if accepted == (False, False):
        return f"both are refused: {outcomes[0].stderr!a}, {outcomes[1].stderr!a}"
    # 2) the files are those of the accepted run, or of two runs one after the other
    possible = [end.files for end in ends if end.accepted == accepted]
    if not possible:
        return "both are accepted, where the second would be refused after the first"
    if files in possible:
        return None
    unlike = []
    for expected in possible:
        different = {name for name, _ in expected.items() ^ files.items()}
        unlike.append(", ".join(sorted(different)))
    return f"accepted: {accepted}; files of neither run: {min(unlike, key=len)}"


@pytest.mark.parametrize("name", COMMANDS)
def test_of_two_runs_at_once_one_is_refused_or_waits_and_every_file_is_whole(
    name, worlds, tmp_path
):
    command = COMMANDS[name]
    base = fuzz.make_world(command, worlds) / "base"
    work = tmp_path / "work"
    ends = one_after_the_other(command, base, work)
    begin = time.monotonic()
    rng = Random(f"{SEED} {name}")
    wrong = Counter()
    statuses = Counter()
    duration = 0.1
    for _ in range(TRIALS):
        shutil.rmtree(work)
        shutil.copytree(base, work)
        delay = rng.choice([0, rng.uniform(0, duration)])
        outcomes, overlap = at_once(command, work, rng.randrange(2), delay)
        duration = max(outcome.seconds for outcome in outcomes)
        statuses[tuple(outcome.status for outcome in outcomes)] += 1
        complaint = what_is_wrong(outcomes, files_in(work), ends)
        if overlap and command.locks:
            complaint = complaint or "both write at the same time"
        if complaint:
            wrong[complaint] += 1
    print(
        f"{name}: {TRIALS} trials, status {dict(statuses)}, {wrong.total()} wrong; "
        f"{time.monotonic() - begin:.0f} s"
    )
    assert not wrong, "\n".join(f"{count} x {what}" for what, count in wrong.most_common(5))


def write_in_two_steps(argv: list[str]) -> None:
    """A program without a lock: it writes two files, some time apart."""
    for name in ("a.txt", "b.txt"):
        Path("out").mkdir(exist_ok=True)
        (Path("out") / name).write_text(argv[0])
        time.sleep(0.1)


def test_results_of_two_runs_that_do_not_lock_are_noticed(tmp_path):
    command = Command("", write_in_two_steps, "", "1", "2", ())
    base = tmp_path / "base"
    base.mkdir()
    work = tmp_path / "work"
    ends = one_after_the_other(command, base, work)
    shutil.rmtree(work)
    work.mkdir()
    outcomes, overlap = at_once(command, work, 0, 0.05)
    assert overlap
    # the second ends after the first, so the files are the second's; a mixture is made by hand
    assert what_is_wrong(outcomes, files_in(work), ends) is None
    mixture = files_in(work) | {"out/a.txt": b"1"}
    assert "files of neither run: out/a.txt" in what_is_wrong(outcomes, mixture, ends)
    torn = files_in(work) | {"out/b.txt": b""}
    assert "files of neither run: out/b.txt" in what_is_wrong(outcomes, torn, ends)
    left = files_in(work) | {"out/.b.abcdefgh.partial": b""}
    assert ".b.abcdefgh.partial" in what_is_wrong(outcomes, left, ends)
