"""Killed or interrupted at any moment, a script goes on with the same command and ends with the same bytes.

KILLS=20 LONG=1 python -m pytest tests/hardening/test_kills.py -rP      # the whole toy, and every change of the folder
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

import pytest
from fuzz import forked
from runs import files_in, small_runs, start

KILLS, LONG = int(os.environ.get("KILLS", 3)), bool(os.environ.get("LONG"))
SHORT = {
    "detect": "--languages en,zh",
    "train": "--languages en,zh --pairs 40 --epochs 2 --strategy per-language aura --dtype bfloat16",
    "evaluate": "--languages en,ja --prompts 12 --models base aura --batch-tokens 250 --perplexity 9",
}
TOY = {
    script: f"--out out {'' if LONG else less}{' --checkpoint-steps 5' * (script == 'train')}"
    for script, less in SHORT.items()
}


def finish(script: str, home: Path) -> float:
    """Run a script to its end; the seconds that it was at work."""
    process, begun = start(script, TOY[script], home), time.monotonic()
    assert process.wait() == 0, (home / "stderr").read_text()
    return time.monotonic() - begun


def stopped(
    script: str, home: Path, number: signal.Signals, moment: float, results: dict[str, bytes]
) -> bool:
    """Send a signal to a script, seconds after it went to work; whether it still was, and ended as it should."""
    process = start(script, TOY[script], home)
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    status, said = process.wait(), (home / "stderr").read_text()
    if status == 0 or (status, said) == (
        -signal.SIGINT,
        "",
    ):  # it had done its work, or Python was taking leave
        assert files_in(home / "out") == results
        return False
    ends = {
        signal.SIGKILL: (-signal.SIGKILL, ""),
        signal.SIGINT: (130, "interrupted; the same command goes on from here\n"),
    }
    assert (status, said) == ends[number]
    return True


@dataclass(frozen=True)
class Unbroken:
    """A run on the toy that nobody disturbed."""

    before: Path  # out/ when it began
    after: dict[str, bytes]  # what was in out/ at the end
    seconds: float  # that it was at work


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> dict[str, Unbroken]:
    home, found = tmp_path_factory.mktemp("unbroken"), {}
    (home / "out").mkdir()
    for script in TOY:
        shutil.copytree(home / "out", home / script)
        seconds = finish(script, home)
        found[script] = Unbroken(home / script, files_in(home / "out"), seconds)
    return found


def disturb(script: str, whole: Unbroken, folder: Path, number: signal.Signals, times: int) -> None:
    """Stop a script so many times at random moments, and start it again, in as many folders as that takes."""
    rng, stops, homes = Random(f"{script} {number}"), 0, 0
    while stops < times:
        assert homes <= 5 * times  # it does stop, now and then
        home = folder / str(homes)
        shutil.copytree(whole.before, home / "out")
        while stops < times and stopped(
            script, home, number, rng.uniform(0, whole.seconds / 3), whole.after
        ):
            stops += 1
        finish(script, home)
        assert files_in(home / "out") == whole.after
        homes += 1
    print(
        f"{script}: {number.name} {stops} times in {homes} runs of {whole.seconds:.0f} s, "
        f"each ended with the same {len(whole.after)} files"
    )


@pytest.mark.parametrize("script", TOY)
def test_killed_at_random_moments_it_ends_with_the_same_bytes(script, unbroken, tmp_path):
    disturb(script, unbroken[script], tmp_path, signal.SIGKILL, KILLS)


@pytest.mark.parametrize("script", TOY)
def test_an_interrupt_is_told_in_one_line_and_costs_nothing(script, unbroken, tmp_path):
    disturb(script, unbroken[script], tmp_path, signal.SIGINT, KILLS if LONG else 1)


# Kills between two changes of the folder, which random moments hardly ever hit

CHANGES = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.truncate",
    "os.chmod",
}  # as Python audits them


def die_before_change(number: int) -> None:
    """Have this process killed before it changes anything on the disk for the `number`th time, counted from 0."""
    changes = iter(range(number))

    def watch(event: str, values: tuple) -> None:
        writes = (
            event == "open" and isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if (writes or event in CHANGES) and next(changes, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_runs(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("script", TOY)
def test_killed_before_any_change_of_the_folder_it_ends_with_the_same_bytes(
    script, small, tmp_path
):
    run, kills = small[script], 0
    for number in count(0, 1) if LONG else count(6, 14):
        work = run.begin(tmp_path / str(number) / "work")
        killed = forked(work, lambda: (die_before_change(number), run.main()))
        if killed.status == 0:  # it makes fewer changes
            break
        assert killed.status == -signal.SIGKILL, killed.said
        again = forked(work, run.main)
        assert (again.status, again.said) == (0, ""), number
        assert files_in(work / "out") == run.expected, number
        shutil.rmtree(work.parent)
        kills += 1
    print(
        f"{script}: killed before {kills} changes of up to {number}, each time the same {len(run.expected)} files at the end"
    )
    assert kills > 1
