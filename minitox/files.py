"""Files in and out: JSON that says where it is broken, writes that are whole or absent, and the record of a run."""

import fcntl
import hashlib
import json
import os
import platform
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from minitox.errors import InputError
from minitox.run import distributed


def read_json(path: Path) -> dict:
    """The object in a JSON file."""
    try:
        return parse(path, Path(path).read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None


def parse(where, data: bytes) -> dict:
    """The object that JSON holds; InputError says `where` it does not."""
    try:
        value = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not valid UTF-8 (byte {error.start})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def read_jsonl(path: Path):
    """Yield (where, row) for each line; `where` is "file:line" for messages about the row."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            yield f"{path}:{number}", parse(f"{path}:{number}", line)


def as_written(where, value: dict, **kinds) -> dict:
    """What minitox itself wrote, back from a file: InputError if a field is missing or not of its kind, for someone may have edited it."""
    for field, kind in kinds.items():
        if field not in value or not is_kind(value[field], kind):
            raise InputError(
                f"{where}: {field!r} is not as minitox wrote it; delete the file, so that it is made anew"
            )
    return value


def is_kind(value, kind) -> bool:
    """Whether a value is of a kind: a type, a list of kinds or, of one, of any length, {field: kind}, or {str: kind} for any fields."""
    if isinstance(kind, list):
        return (
            isinstance(value, list)
            and len(kind) in (1, len(value))
            and all(map(is_kind, value, kind * len(value)))
        )
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(
            field in value and is_kind(value[field], kind.get(field, kind.get(str)))
            for field in (value if str in kind else kind)
        )
    return (
        isinstance(value, kind)
        and isinstance(value, bool) == (kind is bool)
        and not (isinstance(value, int) and abs(value) >= 2**53)
    )


def read_written(path: Path, **kinds) -> list[dict]:
    """The rows of a file of JSON lines that minitox wrote."""
    return [as_written(where, row, **kinds) for where, row in read_jsonl(path)]


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
        raise InputError(
            f"{where}: field {field!r} holds half a surrogate pair, which is not text"
        ) from None
    return value


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
        temporary.write_text(
            json.dumps(value, indent=2, ensure_ascii=False) + "\n",
            encoding="utf-8",
            errors="backslashreplace",
        )


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
        raise InputError(
            f"{folder}: another run is at work there; wait for its end, or choose another --out"
        ) from None


def claim_run(folder: Path, settings: dict, data: dict | None = None) -> None:
    """Record `settings` in `folder`/run.json, or refuse if the results already there were made with others.

    `data` holds a hash of each language's input; languages may come later, but none may change.
    """
    if not distributed.FIRST:
        return
    path = Path(folder) / "run.json"
    before = as_written(
        path, {"data": {}, **(read_json(path) if path.exists() else {})}, data={str: str}
    )
    known, data = before["data"], data or {}
    changed = [
        language for language in data if known.get(language, data[language]) != data[language]
    ]
    if before.get("settings") == settings and not changed:
        if data.keys() <= known.keys():
            return
        data = {**known, **data}
    elif any(
        "run.json" not in file.name and file.is_file() and file.stat().st_size
        for file in Path(folder).rglob("*")
    ):
        if changed and before.get("settings") == settings:
            raise InputError(
                f"{folder} was made from other {changed[0]} data than there are now; "
                f"choose another --out, or delete {folder}"
            )
        before = before.get("settings") if isinstance(before.get("settings"), dict) else {}
        key = next((key for key in settings if before.get(key) != settings[key]), "run.json")
        raise InputError(
            f"{folder} holds results of another run: its {key} was {before.get(key)!r}, this one's is "
            f"{settings.get(key)!r}; choose another --out, or delete {folder}"
        )
    write_json(
        path, {"settings": settings, **({"data": data} if data else {}), "versions": versions()}
    )


def versions() -> dict:
    """What a result may depend on besides its settings."""
    import numpy
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
