"""Files in and out: JSON that says where it is broken, writes that are whole or absent, and the record of a run."""

import fcntl
import hashlib
import json
import os
import platform
from bisect import bisect_right
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from safetensors import SafetensorError

from minitox import distributed


class InputError(Exception):
    """Something the user gave is wrong; the message says what, where, and what to do. Scripts print it and exit with 2."""


class UnusableLanguage(InputError):
    """A language's data are well-formed but not enough; the other languages go on without it."""


def read_json(path: Path) -> dict:
    """The object in a JSON file."""
    try:
        value = json.loads(Path(path).read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def read_jsonl(path: Path):
    """Yield (where, row) for each line; `where` is "file:line" for messages about the row."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            try:
                row = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise InputError(f"{where}: not valid UTF-8 (byte {error.start})") from None
            except (ValueError, RecursionError) as error:
                raise InputError(f"{where}: not valid JSON ({error})") from None
            if not isinstance(row, dict):
                raise InputError(f"{where}: expected a JSON object, found {type(row).__name__}")
            yield where, row


def text_field(where: str, row: dict, field: str) -> str:
    """The field as text that says something; InputError otherwise."""
    if field not in row:
        raise InputError(f"{where}: field {field!r} is missing")
    value = row[field]
    if not isinstance(value, str):
        raise InputError(f"{where}: field {field!r} must be text, not {type(value).__name__}")
    if not value.strip():
        raise InputError(f"{where}: field {field!r} is empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"{where}: field {field!r} holds half a surrogate pair, which is not text") from None
    return value


def read_detection(path: Path) -> list[tuple[str, float]]:
    """Texts and scores of a detection/ file, {"text": str, "toxicity": 0..1} a line; InputError names the first malformed row."""
    rows = []
    for where, row in read_jsonl(path):
        text = text_field(where, row, "text")
        if "toxicity" not in row:
            raise InputError(f"{where}: field 'toxicity' is missing")
        score = row["toxicity"]
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:  # NaN is not in 0..1 either
            raise InputError(f"{where}: field 'toxicity' must be a number from 0 to 1, not {score!r:.40}")
        rows.append((text, float(score)))
    return rows


def drop_torn_line(path: Path) -> None:
    """Cut off a last line without an end, which a kill tore; make the file, and its folder, if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


@dataclass(frozen=True)
class Batches:
    """What a file of JSON lines is to hold: `rows_of(batch)` for each batch of the plan, a row an item."""

    path: Path
    plan: list[list]
    rows_of: Callable[[list], list[dict]]


def append_batches(files: list[Batches], together: bool = False):
    """Write what the files are to hold, batch after batch; yield how many lines there are in all, and the file last written to.

    A run that was killed finds the files, drops the lines of a batch that is not whole, and goes on with that batch. Batches are
    dealt to the processes, or done by all `together` where each has but a share of the model; the first one writes.
    """
    done = distributed.agree([whole_batches(file) for file in files] if distributed.FIRST else None)
    lines = sum(len(batch) for file, count in zip(files, done) for batch in file.plan[:count])
    jobs = [(file, batch) for file, count in zip(files, done) for batch in file.plan[count:]]
    width = 1 if together else distributed.WORLD
    for start in range(0, len(jobs), width):
        round = jobs[start:start + width]
        try:
            made = [file.rows_of(batch) for file, batch in round[distributed.RANK % width:][:1]]  # none, at the end
        except InputError as error:
            made = error
        for (file, batch), rows in zip(round, distributed.gather(made)):
            if isinstance(rows, InputError):  # what stops one process stops all of them here
                raise rows
            if distributed.FIRST:
                append(file.path, rows[0])
            lines += len(batch)
            yield lines, file


def whole_batches(file: Batches) -> int:
    """How many batches a file holds; what follows them is cut off."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    ends = [0, *accumulate(map(len, file.plan))]  # lines before each batch
    with open(file.path, "ab+") as opened:
        opened.seek(0)
        whole = [line for line in opened.read().splitlines(keepends=True) if line.endswith(b"\n")]
        done = bisect_right(ends, len(whole)) - 1
        opened.truncate(sum(map(len, whole[:ends[done]])))
    return done


def append(path: Path, rows: list[dict]) -> None:
    """Append rows as JSON lines that outlast a crash."""
    with naming(path), open(path, "ab") as file:
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def naming(path: Path):
    """Have an error of writing to `path` name the file, which the system does not do where a disk is full."""
    try:
        yield
    except (SafetensorError, OSError) as error:
        if getattr(error, "filename", None):
            raise
        raise OSError(f"{path}: {error}") from None


@contextmanager
def replacing(path: Path):
    """Yield a temporary path that takes the place of `path` when the block ends well, and vanishes when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with naming(path):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        temporary.chmod(0o666 & ~umask())  # safetensors hides its files from everybody else
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def umask() -> int:
    """The permissions that new files lack; the system tells only by setting them."""
    before = os.umask(0o077)
    os.umask(before)
    return before


def write_json(path: Path, value: dict) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hold(folder: Path) -> None:
    """Refuse to work where another process does; the lock ends with this process, however it ends."""
    if not distributed.FIRST:
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise InputError(f"{folder}: another run is at work there; wait for its end, or choose another --out") from None


def claim_run(folder: Path, settings: dict, data: dict | None = None) -> None:
    """Record `settings` in `folder`/run.json, or refuse if the results already there were made with others.

    `data` holds a hash of each language's input; languages may come later, but none may change.
    """
    if not distributed.FIRST:
        return
    path = Path(folder) / "run.json"
    before = read_json(path) if path.exists() else {}
    known, data = before.get("data") or {}, data or {}
    changed = [language for language in data if known.get(language, data[language]) != data[language]]
    if before.get("settings") == settings and not changed:
        if data.keys() <= known.keys():
            return
        data = {**known, **data}
    elif any("run.json" not in file.name and file.is_file() and file.stat().st_size for file in Path(folder).rglob("*")):
        if changed and before.get("settings") == settings:
            raise InputError(f"{folder} was made from other {changed[0]} data than there are now; "
                             f"choose another --out, or delete {folder}")
        before = before.get("settings") if isinstance(before.get("settings"), dict) else {}
        key = next((key for key in settings if before.get(key) != settings[key]), "run.json")
        raise InputError(f"{folder} holds results of another run: its {key} was {before.get(key)!r}, this one's is "
                         f"{settings.get(key)!r}; choose another --out, or delete {folder}")
    write_json(path, {"settings": settings, **({"data": data} if data else {}), "versions": versions()})


def versions() -> dict:
    """What a result may depend on besides its settings."""
    import numpy
    import torch
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__}
