"""Small undisturbed runs of each script, shared by the tests of kills and of limits."""

import atexit
import fcntl
import os
import re
import runpy
import shutil
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fuzz import Fork, forked
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
LONGEST = 3_600  # seconds of a run on the whole toy, at most


def files_in(folder: Path, but: str = r"\..*") -> dict[str, bytes]:
    """All files except those whose names match `but`.

    By default these are the hidden ones: locks, and what a killed run left.
    """
    contents = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not re.fullmatch(but, path.name):
            contents[str(path.relative_to(folder))] = path.read_bytes()
    return contents


def start(script: str, arguments: str, home: Path) -> Fork:
    """Start a script in the folder `home`, with results in out/; return once it has the lock."""
    # with a name, because another run may have its outputs beside `home`
    fork = Fork(home, partial(MAINS[script], arguments.split()), "-started", seconds=LONGEST)
    while not is_locked(home / "out" / ".lock") and fork.poll() is None:
        time.sleep(0.001)
    return fork


def import_anew(
    script: str,
    arguments: list[str],
    environment: dict[str, str],  # more variables
    missing: tuple[str, ...],  # modules that cannot be imported
) -> None:
    """In a fork: run a script as Python does, with all of minitox imported anew.

    Only the other packages, whose import takes most of the time, are those of the parent process.
    """
    for name, module in list(sys.modules.items()):
        path = Path(getattr(module, "__file__", None) or "/")
        if path.is_relative_to(ROOT) and "site-packages" not in path.parts:
            del sys.modules[name]
    sys.modules.update(dict.fromkeys(missing))
    os.environ |= environment
    path = ROOT / f"{script}.py"
    sys.path.insert(0, str(path.parent))
    sys.argv = [str(path), *arguments]
    atexit._clear()  # what the parent process has registered
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        atexit._run_exitfuncs()


def start_anew(
    script: str,
    arguments: list[str],
    home: Path,
    name: str = "",
    environment: dict[str, str] | None = None,
    missing: tuple[str, ...] = (),
    **outputs: int,
) -> Fork:
    """Run `import_anew` in a fork; `name` and `outputs` as of `Fork`."""
    action = partial(import_anew, script, arguments, environment or {}, missing)
    return Fork(home, action, name, run=lambda action: action(), **outputs)


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
