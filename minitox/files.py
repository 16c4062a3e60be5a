"""Files in and out: JSON with errors that name the line, whole-or-absent writes, tensor files."""

import hashlib
import json
import math
import os
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from minitox.errors import InputError

# The format of the files that minitox writes for itself; those of another format are refused.
# Raise it when their layout changes, or a constant or an algorithm that affects results.
FORMAT = 2
LARGEST_INTEGER = 2**53  # larger ones are not exact in every reader of JSON
MOST_BYTES = 2**27  # of a file that is read as a whole
MOST_LINE = 2**25  # bytes of a line of JSON
DEEPEST = 3  # levels of folders with results, as in OUT/models/full.partial/full
TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.partial")  # names that `temporary_path` chooses


# Reading: regular files only, of a limited size


def check_regular(path: Path) -> None:
    """InputError if a path is a folder, a pipe or a device; FileNotFoundError if it is missing."""
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # a null byte, or half a character
        raise InputError(f"{str(path)!r} cannot be the name of a file: {error}") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise InputError(f"{path} is {kind}, not a regular file")


def open_input(path: Path):
    """A regular file, open to read bytes; errors as of `check_regular`."""
    check_regular(path)
    return open(path, "rb")


def read_bytes(path: Path) -> bytes:
    """The content of a regular file; InputError if it is missing or too large."""
    try:
        file = open_input(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    with file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            raise InputError(f"{path} is too large: over {MOST_BYTES:,} bytes")
        return file.read()


# JSON


def read_json(path: Path) -> dict:
    """The object in a JSON file."""
    return parse(path, read_bytes(path))


def parse(where: Path | str, data: bytes) -> dict:
    """The object in a JSON text; an InputError begins with `where` the text is from."""
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=with_distinct_keys,
            parse_float=finite,
            parse_constant=finite,  # NaN and Infinity, which Python reads though JSON has neither
        )
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not valid UTF-8 (byte {error.start})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def with_distinct_keys(pairs: list) -> dict:
    """An object of JSON, from its keys and values; ValueError if a key occurs twice."""
    value = dict(pairs)
    if len(value) < len(pairs):
        seen = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice!r:.40} occurs twice")
    return value


def finite(text: str) -> float:
    """A number of JSON; ValueError if it is not finite."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.20} is not a finite number")
    return value


def read_jsonl(path: Path, skip_torn: bool = False) -> Iterator[tuple[str, dict]]:
    """Yield (where, row) for each line; `where` is "file:line", for messages about the row.

    With `skip_torn`, a last line that a kill cut short is left out. InputError if the file has
    line ends of old Macs.
    """
    with open_input(path) as file:
        number = 0
        while line := file.readline(MOST_LINE + 1):
            number += 1
            where = f"{path}:{number}"
            if len(line) > MOST_LINE:
                raise InputError(f"{where}: the line is too long: over {MOST_LINE:,} bytes")
            if skip_torn and is_torn(path, line):
                return
            yield where, parse(where, line)


def text_field(where: str, row: dict, field: str) -> str:
    """A field that must be text and not blank; InputError otherwise."""
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
            f"{where}: field {field!r} contains half a surrogate pair, which is not text"
        ) from None
    return value


# JSON that minitox wrote


def read_written(path: Path, **kinds) -> list[dict]:
    """The rows of a file of JSON lines that minitox wrote, their fields checked by `is_kind`."""
    return [as_written(where, row, **kinds) for where, row in read_jsonl(path)]


def as_written(where: Path | str, value: dict, **kinds) -> dict:
    """An object that minitox wrote; InputError if someone changed a field to another kind."""
    for field, kind in kinds.items():
        if field not in value or not is_kind(value[field], kind):
            raise InputError(
                f"{where}: {field!r} is not as minitox wrote it; delete the file to make it again"
            )
    return value


def check_format(where: Path | str, value: dict, advice: str) -> None:
    """InputError with `advice` if a version of minitox with another FORMAT wrote an object."""
    if value.get("format") != FORMAT:
        raise InputError(
            f"{where}: written by another version of minitox "
            f"(format {value.get('format')!r:.20}, here {FORMAT}); {advice}"
        )


def is_kind(value, kind) -> bool:
    """Whether a value of a JSON file is of a kind.

    A kind is a type or a union of types, a list of kinds (one kind: a list of any length), a dict
    {field: kind}, or {str: kind}, an object with any fields.
    """
    if isinstance(kind, list):
        return isinstance(value, list) and is_list_of(value, kind)
    if isinstance(kind, dict):
        return isinstance(value, dict) and is_object_of(value, kind)
    if isinstance(value, bool):  # which Python counts among the integers
        return kind is bool
    if isinstance(value, int) and abs(value) >= LARGEST_INTEGER:
        return False
    return isinstance(value, kind)


def is_list_of(values: list, kinds: list) -> bool:
    if len(kinds) == 1:
        return all(is_kind(value, kinds[0]) for value in values)
    return len(values) == len(kinds) and all(map(is_kind, values, kinds))


def is_object_of(value: dict, kinds: dict) -> bool:
    fields = value if str in kinds else kinds
    for field in fields:
        if field not in value or not is_kind(value[field], kinds.get(field, kinds.get(str))):
            return False
    return True


# Writing: a file is whole or absent


@contextmanager
def name_in_errors(path: Path):
    """Add the file name to write errors; the system leaves it out when a disk is full."""
    try:
        yield
    except (SafetensorError, OSError) as error:
        if getattr(error, "filename", None):
            raise
        raise OSError(f"{path}: {error}") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file, which replaces `path` if the block succeeds and is removed if not.

    Its name is new, so two processes never write to the same one. The permissions are those that
    `open` would give: those of the file at `path`, if there is one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    with open(temporary, "xb") as file:
        mode = os.fstat(file.fileno()).st_mode
    try:
        with name_in_errors(path):
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        if path.is_file() and not path.is_symlink():
            mode = path.stat().st_mode
        temporary.chmod(mode & 0o777)  # safetensors makes its files private
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """A new name beside a path, as TEMPORARY describes it."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def create_text(path: Path):
    """A new text file, open to write, with the same bytes on every system.

    UTF-8 cannot hold half a surrogate pair, which is written as an escape.
    """
    return open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n")


def write_text(path: Path, text: str):
    """Write a text file."""
    with replacing(path) as temporary, create_text(temporary) as file:
        file.write(text)


def write_json(path: Path, value: dict):
    """Write an object as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: list[dict]):
    """Write objects as lines of JSON."""
    write_text(path, "".join(map(as_line, rows)))


def as_line(row: dict) -> str:
    """An object as a line of JSON."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files and folders of killed runs; only for the process with the lock.

    A folder with a lock of its own is left alone, because another run may be writing there.
    """
    for root, folders, names in os.walk(folder):
        depth = len(Path(root).relative_to(folder).parts)
        if depth and ".lock" in names:
            folders.clear()
            continue
        if depth == DEEPEST:  # the folder may be a home directory with anything below it
            folders.clear()
        for name in filter(TEMPORARY.fullmatch, [*folders, *names]):
            path = Path(root, name)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
                folders.remove(name)
            else:
                path.unlink(missing_ok=True)


# Files that grow line by line: a kill costs a torn line


def open_to_append(path: Path):
    """A regular file, open to read and to append bytes; a missing one is created.

    InputError if it is a link, which may lead out of the folder, or not a regular file.
    """
    if path.is_symlink():
        raise InputError(f"{path} is a link; minitox writes only to files in the folder itself")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        check_regular(path)
    return open(path, "ab+", opener=without_following)


def without_following(path, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def drop_torn_line(path: Path) -> None:
    """Cut off a last line that is not whole, which a kill left; create a missing file and folder.

    A whole last line gets the end that it lacks. InputError if the file has line ends of old Macs.
    """
    with open_to_append(path) as file:
        file.seek(0)
        content = file.read()
        start = content.rfind(b"\n") + 1
        last = content[start:]
        if is_torn(path, last):
            file.truncate(start)
        else:
            file.write(b"\n")


def is_torn(path: Path, line: bytes) -> bool:
    """Whether a line has no end and is no whole JSON object, as a kill leaves it.

    InputError if it consists of several lines with the line ends of old Macs.
    """
    if line.endswith(b"\n"):
        return False
    try:
        return not isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        if b"\r" in line:
            raise InputError(
                f"{path}: its lines end with CR alone; save it with LF line ends"
            ) from None
        return True


def append(path: Path, rows: list[dict]) -> None:
    """Append rows as JSON lines, and wait until they are on the disk."""
    lines = "".join(map(as_line, rows))
    with name_in_errors(path), open_to_append(path) as file:
        file.write(lines.encode("utf-8", "backslashreplace"))
        file.flush()
        os.fsync(file.fileno())


# Tensor files


@contextmanager
def open_safetensors(path: Path, kind: str = "whole safetensors file"):
    """The reader of safetensors; InputError if the file cannot be read or is not of this `kind`."""
    try:
        check_readable(path)
        with safe_open(str(path), framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (SafetensorError, OSError, UnicodeError) as error:
        raise InputError(f"{path}: not a {kind} ({error})") from None


def check_readable(path: Path) -> None:
    """InputError if there is no permission to read a file; safetensors calls it missing."""
    try:
        open_input(path).close()
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


# Small ones, with an object of metadata: neurons, patches, scorers, checkpoints


def write_tensors(path: Path, tensors: dict, key: str, about: dict):
    """Write tensors, or numpy arrays, and `about` as JSON under `key` of the file's metadata."""
    about = {"format": FORMAT} | about
    tensors = {name: torch.as_tensor(values) for name, values in tensors.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={key: json.dumps(about)})


def read_tensors(path: Path, key: str, kind: str) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors of a file and the object under `key` of its metadata.

    InputError if the file is not of this `kind` (a word for messages), was written by another
    version of minitox, or contains a number that is not finite.
    """
    with open_safetensors(path, kind) as file:
        metadata = file.metadata() or {}
        # copies, because Windows cannot replace a file that tensors are mapped to
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    if key not in metadata:
        raise InputError(f"{path}: not a {kind} (its metadata lacks {key!r})")
    about = parse(path, metadata[key].encode())
    check_format(path, about, f"make the {kind} again")
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise InputError(f"{path} is broken: {name} contains NaN or infinity")
    return tensors, about


def is_finite(tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether all values are finite, in `dtype` if it is given; makes no copy."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    extremes = torch.stack(torch.aminmax(tensor))  # NaN if any value is
    return bool(extremes.to(dtype or tensor.dtype).isfinite().all())


def as_arrays(path: Path, tensors):
    """The tensors of a file as numpy arrays, sharing memory.

    InputError if numpy has no such dtype.
    """
    arrays = {}
    for name, tensor in tensors.items():
        try:
            arrays[name] = tensor.numpy()
        except TypeError:
            raise InputError(f"{path} is broken: {name} is {tensor.dtype}") from None
    return arrays


@contextmanager
def fitting(path: Path):
    """Turn a mismatch of names or shapes into an InputError about the file."""
    try:
        yield
    except (LookupError, RuntimeError):
        raise InputError(f"{path} is broken: it does not fit the model it was made for") from None


# Identity


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open_input(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_without(path: Path, field: str) -> str:
    """SHA-256 of a file of JSON lines as it would be without a field.

    A file without the field has the same hash as from `file_hash`.
    """
    digest = hashlib.sha256()
    key = json.dumps(field).encode()
    with open_input(path) as file:
        for number, line in enumerate(file, start=1):
            row = parse(f"{path}:{number}", line) if key in line else {}
            if field in row:
                del row[field]
                line = as_line(row).encode("utf-8", errors="surrogatepass")
            digest.update(line)
    return digest.hexdigest()


def hashes_of_languages(
    folder: Path, languages: Iterable[str], hash_of=file_hash
) -> dict[str, str | None]:
    """The hash of each language's file of JSON lines; None if there is none."""
    paths = {language: folder / f"{language}.jsonl" for language in languages}
    return {code: hash_of(path) if path.exists() else None for code, path in paths.items()}


def versions() -> dict[str, str]:
    """The versions that a result may depend on besides its settings."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
