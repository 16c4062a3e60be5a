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
from worlds import BASE, DETECT, EVALUATE, TRAIN, detect, evaluate, scorer, train

ROOT = Path(__file__).resolve().parents[2]
KILLS, LONG = int(os.environ.get("KILLS", 3)), bool(os.environ.get("LONG"))
SHORT = {
    "detect": "--languages en,zh",
    "train": "--languages en,zh --pairs 40 --epochs 2 --strategy per-language aura",
    "evaluate": "--languages en,ja --prompts 12 --models base aura --batch-tokens 250 --perplexity 9",
}
MORE = {"detect": "", "train": "--checkpoint-steps 5", "evaluate": ""}


def files_in(out: Path) -> dict[str, bytes]:
    """All results; a hidden file is a lock, or what a kill left unfinished."""
    paths = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths if not path.name.startswith(".")}


def start(script: str, home: Path) -> subprocess.Popen:
    """A script on the toy, in `home`, whose out/ holds what the scripts before it left; returns when it is at work."""
    lock, said = home / "out" / ".lock", open(home / "stderr", "w")
    lock.unlink(missing_ok=True)
    command = [sys.executable, str(ROOT / f"{script}.py"), "--out", "out", *MORE[script].split(), *([] if LONG else SHORT[script].split())]
    process = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=said, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not lock.exists() and process.poll() is None:
        time.sleep(0.001)
    return process


def finish(script: str, home: Path) -> float:
    """Run a script to its end; the seconds that it was at work."""
    process, begun = start(script, home), time.monotonic()
    assert process.wait() == 0, (home / "stderr").read_text()
    return time.monotonic() - begun


def stopped(script: str, home: Path, number: signal.Signals, after: float) -> bool:
    """Send a signal to a script, seconds after it went to work; whether it still was, and ended as it should."""
    process = start(script, home)
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    status, said = process.wait(), (home / "stderr").read_text()
    if status == 0:  # it was quicker
        return False
    ends = {signal.SIGKILL: (-signal.SIGKILL, ""), signal.SIGINT: (130, "interrupted; the same command goes on from here\n")}
    assert (status, said) == ends[number]
    return True


@dataclass(frozen=True)
class Unbroken:
    """A run that nobody disturbed."""

    before: Path  # out/ when it began
    after: dict[str, bytes]  # what was in out/ at the end
    seconds: float  # that it was at work


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> dict[str, Unbroken]:
    home, found = tmp_path_factory.mktemp("unbroken"), {}
    (home / "out").mkdir()
    for script in MORE:
        shutil.copytree(home / "out", home / script)
        seconds = finish(script, home)
        found[script] = Unbroken(home / script, files_in(home / "out"), seconds)
    return found


def disturb(script: str, whole: Unbroken, folder: Path, number: signal.Signals, times: int) -> None:
    """Stop a script so many times at random moments, and start it again, in as many folders as that takes."""
    rng, stops, homes = Random(f"{script} {number}"), 0, 0
    while stops < times:
        home = folder / str(homes)
        shutil.copytree(whole.before, home / "out")
        while stops < times and stopped(script, home, number, rng.uniform(0, whole.seconds / 3)):
            stops += 1
        finish(script, home)
        assert files_in(home / "out") == whole.after
        homes += 1
    print(f"{script}: {number.name} {stops} times in {homes} runs of {whole.seconds:.0f} s, each ended with the same {len(whole.after)} files")


@pytest.mark.parametrize("script", MORE)
def test_killed_at_random_moments_it_ends_with_the_same_bytes(script, unbroken, tmp_path):
    disturb(script, unbroken[script], tmp_path, signal.SIGKILL, KILLS)


@pytest.mark.parametrize("script", MORE)
def test_an_interrupt_is_told_in_one_line_and_costs_nothing(script, unbroken, tmp_path):
    disturb(script, unbroken[script], tmp_path, signal.SIGINT, KILLS if LONG else 1)


CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod"}  # as Python audits them, and files opened to write


def killed_before_change(main, arguments: str, number: int):
    """An action for `forked`: run a script, and die before it changes anything on the disk for the `number`th time."""
    changes = iter(range(number))

    def watch(event: str, values: tuple) -> None:
        writes = event == "open" and isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in CHANGES) and next(changes, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def action() -> None:
        sys.addaudithook(watch)
        main(arguments.split())
    return action


@pytest.mark.parametrize("script, arguments", [
    (detect, DETECT), (train, f"{TRAIN} per-language aura --delta"), (evaluate, EVALUATE.replace("base", "base aura"))],
    ids=["detect", "train", "evaluate"])
def test_killed_before_any_change_of_the_folder_it_ends_with_the_same_bytes(script, arguments, tmp_path):
    """Random moments hardly ever hit the instant between two renames; here each is hit, in the short run every 17th."""
    base, whole = tmp_path / "base", tmp_path / "whole" / "work"
    base.mkdir()

    def make() -> None:
        for part in (*BASE, scorer):
            part(base)
        for earlier, given in ((detect, DETECT), (train, f"{TRAIN} aura"))[:[detect, train, evaluate].index(script)]:
            earlier.main(given.split())
    assert forked(base, make).status == 0
    shutil.copytree(base, whole)
    assert forked(whole, lambda: script.main(arguments.split())).status == 0
    expected, kills = files_in(whole / "out"), 0
    for number in count(0, 1) if LONG else count(3, 17):
        work = tmp_path / str(number) / "work"
        shutil.copytree(base, work)
        killed = forked(work, killed_before_change(script.main, arguments, number))
        if killed.status == 0:
            break
        assert killed.status == -signal.SIGKILL, killed.said
        again = forked(work, lambda: script.main(arguments.split()))
        assert (again.status, again.said) == (0, ""), number
        assert files_in(work / "out") == expected, number
        shutil.rmtree(work.parent)
        kills += 1
    print(f"{script.__name__}: killed before {kills} changes of up to {number}, each time the same {len(expected)} files")
    assert kills > 1
