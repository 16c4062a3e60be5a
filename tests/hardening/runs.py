"""What the tests of kills and of limits share: small runs of each script, undisturbed, and ways to start one and look at its files."""

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzz import forked
from worlds import BASE, DETECT, EVALUATE, ROOT, TRAIN, detect, evaluate, scorer, train

ARGUMENTS = {
    "detect": DETECT,
    "train": f"{TRAIN} per-language aura --delta",
    "evaluate": EVALUATE.replace("base", "base aura"),
}
MAINS = {"detect": detect.main, "train": train.main, "evaluate": evaluate.main}


def files_in(out: Path) -> dict[str, bytes]:
    """All results; a hidden file is a lock, or what a kill left unfinished."""
    paths = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in paths
        if not path.name.startswith(".")
    }


def start(
    script: str, arguments: str, home: Path, before: Callable | None = None
) -> subprocess.Popen:
    """A script in the folder `home`, with its results in out/; returns when it is at work. What it says is in stderr."""

    def ready() -> None:
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # which shells have jobs in the background ignore
        if before:
            before()

    lock, said = home / "out" / ".lock", open(home / "stderr", "w")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / f"{script}.py"), *arguments.split()],
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=said,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=ready,
    )
    while not is_held(lock) and process.poll() is None:
        time.sleep(0.001)
    return process


def is_held(lock: Path) -> bool:
    """Whether a process has locked a file; asking does not lock it."""
    if not lock.exists():
        return False
    with open(lock) as file:
        layout, question = "hhqqi", (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # struct flock
        return (
            struct.unpack(layout, fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(layout, *question)))[
                0
            ]
            != fcntl.F_UNLCK
        )


@dataclass(frozen=True)
class Small:
    """A small run of a script on a random model: the folder in which it begins, and what it leaves in out/ if nothing disturbs it."""

    script: str
    base: Path
    expected: dict[str, bytes]

    def main(self) -> None:
        MAINS[self.script](ARGUMENTS[self.script].split())

    def begin(self, work: Path) -> Path:
        return shutil.copytree(self.base, work)


def small_runs(folder: Path) -> dict[str, Small]:
    """A small run of each script, which begins with what the scripts before it left."""
    home, found = folder / "work", {}
    home.mkdir()

    def make() -> None:
        for part in (*BASE, scorer):
            part(home)
        (home / "out").mkdir()

    made = forked(home, make)
    for script, main in MAINS.items():
        base = shutil.copytree(home, folder / script)
        made = forked(home, lambda: main(ARGUMENTS[script].split())) if made.status == 0 else made
        found[script] = Small(script, base, files_in(home / "out"))
    assert made.status == 0, made.said
    return found
