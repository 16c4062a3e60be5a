"""Small undisturbed runs of each script, shared by the tests of kills and of limits."""

import fcntl
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fuzz import forked
from worlds import BASE, DETECT, EVALUATE, ROOT, TRAIN, detect, evaluate, scorer, train

ARGUMENTS = {
    "detect": DETECT,
    "train": f"{TRAIN} per-language aura --delta",
    # the higher rate fails
    "rates": f"{TRAIN} random --draws 2 --warmup 0 --lr 0.001 1e6",
    "evaluate": EVALUATE.replace("base", "base aura"),
}
MAINS = {
    "detect": detect.main,
    "train": train.main,
    "rates": train.main,
    "evaluate": evaluate.main,
}


def files_in(folder: Path, but: str = r"\..*") -> dict[str, bytes]:
    """All files except those whose names match `but`.

    By default these are the hidden ones: locks, and what a killed run left.
    """
    contents = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not re.fullmatch(but, path.name):
            contents[str(path.relative_to(folder))] = path.read_bytes()
    return contents


def start(script: str, arguments: str, home: Path) -> subprocess.Popen:
    """Start a script in the folder `home`, with results in out/; return once it has the lock.

    Its messages are written to the file stderr.
    """

    def receive_interrupts() -> None:
        # shells make jobs in the background ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, str(ROOT / f"{script}.py"), *arguments.split()],
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=open(home / "stderr", "w"),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=receive_interrupts,
    )
    while not is_locked(home / "out" / ".lock") and process.poll() is None:
        time.sleep(0.001)
    return process


def is_locked(path: Path) -> bool:
    """Whether a process has locked a file; this does not lock it."""
    if not path.exists():
        return False
    layout = "hhqqi"  # struct flock
    question = struct.pack(layout, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with open(path) as file:
        answer = fcntl.fcntl(file, fcntl.F_GETLK, question)
    return struct.unpack(layout, answer)[0] != fcntl.F_UNLCK


CHANGES = {  # audit events of Python
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.truncate",
    "os.chmod",
}


def before_each_change(call: Callable) -> None:
    """Call a function with the path, before each change of the disk by this process."""

    def watch(event: str, values: tuple) -> None:
        flags = values[2] if event == "open" else None
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        if writes or event in CHANGES:
            call(values[0])

    sys.addaudithook(watch)


@dataclass(frozen=True)
class Small:
    """A small run of a script on a random model."""

    script: str
    base: Path  # the folder in which it starts
    expected: dict[str, bytes]  # the files in out/ at the end

    def main(self) -> None:
        MAINS[self.script](ARGUMENTS[self.script].split())

    def begin(self, work: Path) -> Path:
        return shutil.copytree(self.base, work)


def small_runs(folder: Path) -> dict[str, Small]:
    """A small run of each script; each starts with the results of the scripts before it."""
    home = folder / "work"
    home.mkdir()

    def make() -> None:
        for part in (*BASE, scorer):
            part(home)
        (home / "out").mkdir()

    outcome = forked(home, make)
    assert outcome.status == 0, outcome.stderr
    runs = {}
    for script, main in MAINS.items():
        base = shutil.copytree(home, folder / script)
        outcome = forked(home, partial(main, ARGUMENTS[script].split()))
        assert outcome.status == 0, outcome.stderr
        runs[script] = Small(script, base, files_in(home / "out"))
    return runs
