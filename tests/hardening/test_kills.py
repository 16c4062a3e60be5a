"""A script that is killed or interrupted resumes with the same command, with the same results.

The longer variant runs the whole toy, and kills before every change of the folder:

    KILLS=20 LONG=1 python -m pytest tests/hardening/test_kills.py -rP
"""

import os
import shutil
import signal
import time
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

import pytest
from fuzz import forked
from runs import Small, before_each_change, files_in, small_runs, start

KILLS = int(os.environ.get("KILLS", 3))
LONG = bool(os.environ.get("LONG"))
SHORT = {
    "detect": "--languages en,zh",
    "train": (
        "--languages en,zh --pairs 40 --epochs 2 --strategy per-language aura --dtype bfloat16"
    ),
    "evaluate": (
        "--languages en,ja --prompts 12 --models base aura --batch-tokens 250 --perplexity 9"
    ),
}


def arguments_of(script: str) -> str:
    arguments = "--out out"
    if not LONG:
        arguments += f" {SHORT[script]}"
    if script == "train":
        arguments += " --checkpoint-steps 5"
    return arguments


def finish(script: str, home: Path) -> float:
    """Run a script to its end; return how many seconds it worked after it got the lock."""
    fork = start(script, arguments_of(script), home)
    begin = time.monotonic()
    outcome = fork.wait()
    assert outcome.status == 0, outcome
    return time.monotonic() - begin


def stopped(
    script: str, home: Path, number: signal.Signals, moment: float, results: dict[str, bytes]
) -> bool:
    """Send a signal to a script, `moment` seconds after it got the lock.

    Return whether the signal stopped it, rather than arriving too late.
    """
    fork = start(script, arguments_of(script), home)
    if fork.wait(moment) is None:
        fork.send(number)
    outcome = fork.wait()
    if outcome.status == 0:
        assert files_in(home / "out") == results
        return False
    if number == signal.SIGKILL:
        assert (outcome.status, outcome.stderr) == (-signal.SIGKILL, "")
    else:
        message = "interrupted; rerun the same command to resume\n"
        assert (outcome.status, outcome.stderr) == (130, message)
    return True


# Kills and interrupts at random moments


@dataclass(frozen=True)
class Unbroken:
    """A run on the toy without interruption."""

    before: Path  # a copy of out/ at the start
    after: dict[str, bytes]  # the files in out/ at the end
    seconds: float


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> dict[str, Unbroken]:
    home = tmp_path_factory.mktemp("unbroken")
    (home / "out").mkdir()
    runs = {}
    for script in SHORT:
        shutil.copytree(home / "out", home / script)
        seconds = finish(script, home)
        runs[script] = Unbroken(home / script, files_in(home / "out"), seconds)
    return runs


def disturb(script: str, whole: Unbroken, folder: Path, number: signal.Signals, times: int) -> None:
    """Stop a script `times` times at random moments, and start it again after each.

    A run that ends before the next signal is followed by another run in a new folder.
    """
    rng = Random(f"{script} {number}")
    stops = 0
    homes = 0
    while stops < times:
        assert homes <= 5 * times  # signals do arrive in time, now and then
        home = folder / str(homes)
        shutil.copytree(whole.before, home / "out")
        while stops < times:
            moment = rng.uniform(0, whole.seconds / 3)
            if not stopped(script, home, number, moment, whole.after):
                break
            stops += 1
        finish(script, home)
        assert files_in(home / "out") == whole.after
        homes += 1
    print(
        f"{script}: {number.name} {stops} times in {homes} runs of {whole.seconds:.0f} s, "
        f"each ended with the same {len(whole.after)} files"
    )


@pytest.mark.parametrize("script", SHORT)
def test_killed_at_random_moments_a_script_ends_with_the_same_bytes(script, unbroken, tmp_path):
    disturb(script, unbroken[script], tmp_path, signal.SIGKILL, KILLS)


@pytest.mark.parametrize("script", SHORT)
def test_an_interrupt_is_reported_in_one_line_and_loses_nothing(script, unbroken, tmp_path):
    disturb(script, unbroken[script], tmp_path, signal.SIGINT, KILLS if LONG else 1)


# Kills between two changes of the folder, which random moments hardly ever hit


def run_and_die(run: Small, number: int) -> None:
    """Run a script, and kill this process before it changes the disk a `number`th time, from 0."""
    changes = iter(range(number))

    def die(path) -> None:
        if next(changes, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    before_each_change(die)
    run.main()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_runs(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("script", [*SHORT, "rates"])
def test_killed_before_any_change_of_the_folder_a_script_ends_with_the_same_bytes(
    script, small, tmp_path
):
    run = small[script]
    kills = 0
    for number in count(0, 1) if LONG else count(6, 14):
        work = run.begin(tmp_path / str(number) / "work")
        killed = forked(work, partial(run_and_die, run, number))
        if killed.status == 0:  # there are fewer changes
            break
        assert killed.status == -signal.SIGKILL, killed.stderr
        again = forked(work, run.main)
        assert (again.status, again.stderr) == (0, ""), number
        assert files_in(work / "out") == run.expected, number
        shutil.rmtree(work.parent)
        kills += 1
    print(
        f"{script}: killed before {kills} changes of up to {number}, "
        f"each time the same {len(run.expected)} files at the end"
    )
    assert kills > 1
