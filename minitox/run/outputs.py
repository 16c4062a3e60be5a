"""Results on disk: locked, never mixed, whole or absent.

Every script can be killed at any moment; rerun the same command to resume. What a kill costs:

    step            work since the last file that the step keeps in its work folder
    journal.py      the batch that was being computed
    scores.py       the text that was being scored

The work folder of a step, RESULT.partial, and temporary files, .NAME.XXXXXXXX.partial, are left
behind by a kill; the rerun uses or removes them.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from minitox import locks
from minitox.errors import InputError
from minitox.files import (
    FORMAT,
    as_written,
    check_format,
    read_json,
    remove_leftovers,
    versions,
    write_json,
)
from minitox.run import distributed

# settings whose values are hashes, not shown in messages
HASHED = ("model", "base", "data", "train", "split", "neurons", "rejected")


def lock(folder: Path) -> None:
    """Lock the output folder until this process exits, and remove what killed runs left there.

    InputError if another process holds the lock.
    """
    if not distributed.FIRST:
        return
    locks.acquire(folder / ".lock")
    remove_leftovers(folder)


def open_results(out: Path, name: str, settings: dict, data: dict[str, str]) -> Path:
    """The folder OUT/NAME, with `out` locked.

    InputError if its results have other settings, or if the settings or `data`, a hash of each
    language's input, differ between processes.
    """
    lock(out)
    distributed.check_same({"settings": settings, "data": data})
    check_settings(out / name, settings)
    return out / name


# A result that is whole or absent


def is_done(result: Path, settings: dict, made_with: Callable[[Path], dict]) -> bool:
    """Whether an earlier run made the result; InputError if it did so with other settings.

    `made_with(result)` reads from the result the settings that it was made with.
    """
    done = distributed.broadcast(result.exists())
    if done and distributed.FIRST:
        refuse_mixture(result, made_with(result), settings)
        # a kill may have come after the result appeared and before its work folder was removed
        shutil.rmtree(work_folder(result), ignore_errors=True)
    return done


@dataclass(frozen=True)
class Step:
    """A result in the making."""

    result: Path  # a file or a folder, which will be there when it is whole
    work: Path  # a folder for what a killed run can resume from

    @property
    def unfinished(self) -> Path:
        """Where the result is written; it moves to `result` at the end of the step."""
        return self.work / self.result.name

    def write(self, function: Callable, *values) -> None:
        """Call function(unfinished, *values), once for all processes."""
        distributed.once(function, self.unfinished, *values)


@contextmanager
def step(result: Path, settings: dict) -> Iterator[Step]:
    """Make one result in the block; for all processes to call.

    InputError if a killed run with other settings left its work.
    """
    work = work_folder(result)
    check_settings(work, settings)
    current = Step(result, work)
    yield current

    # the block succeeded: the result appears at once, and the work folder goes
    if distributed.FIRST:
        os.replace(current.unfinished, result)
        shutil.rmtree(work)
    distributed.barrier()


def work_folder(result: Path) -> Path:
    # of a folder all of its name: a learning rate in it has a point, as in multilingual@0.004
    name = result.name.removesuffix(".safetensors").removesuffix(".jsonl")
    return result.with_name(f"{name}.partial")


# The settings check


def check_settings(folder: Path, settings: dict, data: dict[str, str] | None = None) -> None:
    """Settings check: record `settings` in `folder`/run.json, or refuse to mix them with others.

    `data` contains a hash of each language's input; languages may be added, but none may change.
    """
    if not distributed.FIRST:
        return
    folder = Path(folder)
    record = {"format": FORMAT, "settings": settings}
    data = data or {}
    known = {}
    made_by = versions()
    before = None

    # 1) an earlier run's results must have the same settings and data
    if holds_results(folder):
        before = read_record(folder)
        refuse_mixture(folder, before.get("settings"), settings)
        known = before.get("data", {})
        for language, hash in data.items():
            if known.get(language, hash) != hash:
                raise InputError(
                    f"{folder} was made from other {language} data; "
                    f"choose another --out, or delete {folder}"
                )
        made_by = before["versions"]

    # 2) the first run here, or another language with the same settings
    if known or data:
        record["data"] = known | data
    record["versions"] = made_by
    if record != before:
        write_json(folder / "run.json", record)


def read_record(folder: Path) -> dict:
    """The run.json of the results in a folder; prints which versions were different.

    InputError if it is missing or broken, or was written by a version of minitox with another
    format.
    """
    path = folder / "run.json"
    advice = f"choose another --out, or delete {folder}"
    if not path.exists():
        raise InputError(f"{path} is missing, so nothing is known of the results there; {advice}")
    record = read_json(path)
    check_format(path, record, advice)
    as_written(path, {"data": {}} | record, versions={str: str}, data={str: str})
    now = versions()
    others = [
        f"{name} {version}, not {now[name]}"
        for name, version in record["versions"].items()
        if name in now and version != now[name]
    ]
    if others:
        print_once(f"earlier results were made with {'; '.join(others)}")
    return record


@cache
def print_once(line: str) -> None:
    """Print a line, but not a second time."""
    print(line)


def holds_results(folder: Path) -> bool:
    """Whether there is any file with content, except the record of a run."""
    for path in Path(folder).rglob("*"):
        if "run.json" not in path.name and path.is_file() and path.stat().st_size:
            return True
    return False


def refuse_mixture(path: Path, before, settings: dict) -> None:
    """InputError names the first setting in which a result differs from this run, if any."""
    before = before if isinstance(before, dict) else {}
    if before == settings:
        return
    missing = object()  # unlike None, which is the value of some settings
    for key in [*settings, *before]:
        if before.get(key, missing) != settings.get(key, missing):
            break
    shown = repr(before[key]) if key in before else "not recorded"
    difference = f"{shown}, this run's is {settings.get(key)!r}"
    if key in HASHED:
        difference = "different"
    raise InputError(
        f"{path} contains results of another run: its {key} was {difference}; "
        f"choose another --out, or delete {path}"
    )
