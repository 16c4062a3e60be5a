"""Spoil files: change their bytes, JSON, lines or tensors, by a seeded random generator.

Half of the files of a model are changed in what they mean instead; mutate_model.py has those
changes.
"""

import json
import os
import re
import shutil
from pathlib import Path
from random import Random

from mutate_json import spoilt_json
from mutate_model import MEANINGS

JUNK = [
    b"\0",
    b"\0" * 4_096,
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\n\n",
    b'"',
    b"{",
    b"[" * 100_000,
    b"\x1b[2J",
    "\u202e\u2028\x85".encode(),
    b"}",
    b",",
    b"\t",
    b"e9999",
    b"\\ud800",
    "\u0661".encode(),
]
JUNK_CELLS = [
    b"",
    b'"',
    b'""',
    b'"a\nb"',
    b"x" * 200_000,
    b"-1",
    b"nan",
    b"[]",
    b"['1', 1]",
    b"1.0",
    b"\\xff\\x",
    b"&#0;&#xD800;",
    b",",
    b"\t",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    *JUNK,
]
JUNK_LINES = [b"\n", b" \n", b"null\n", b"[]\n", b"{}\n", b"1\n", b'"x"\n']
# bytes that fill the tensors: NaN, 0, inf, NaN, the largest number; None: other changes
JUNK_NUMBERS = [b"\xff", b"\0", b"\x00\x00\x80\x7f", b"\x00\x00\xc0\x7f", b"\xff\xff\x7f\x7f", None]


def spoil(path: Path, rng: Random) -> str:
    """Spoil a file, in place; return a short description."""
    if rng.random() < 0.05:
        return spoil_entry(path, rng)
    data = path.read_bytes()
    if path.name in MEANINGS and rng.random() < 0.5:
        how, data = MEANINGS[path.name](data, rng)
    elif path.suffix == ".json":
        how, data = spoil_json(data, rng)
    elif path.suffix == ".jsonl":
        how, data = spoil_lines(data, rng)
    elif path.suffix == ".safetensors":
        how, data = spoil_tensors(data, rng)
    elif path.suffix in (".csv", ".tsv"):
        how, data = spoil_table(data, rng)
    else:
        how, data = spoil_bytes(data, rng)
    path.write_bytes(data)
    return how


def spoil_entry(path: Path, rng: Random) -> str:
    """Put something else in the file's place."""
    how = rng.choice(
        ["empty", "missing", "a folder", "a dangling link", "a link to itself", "unreadable"]
    )
    if how == "unreadable":
        path.chmod(0)
        return how
    path.unlink()
    if how == "empty":
        path.touch()
    elif how == "a folder":
        path.mkdir()
    elif how != "missing":
        path.symlink_to("nowhere" if how == "a dangling link" else path.name)
    return how


def spoil_bytes(data: bytes, rng: Random) -> tuple[str, bytes]:
    how = rng.choice(
        ["flips", "cut", "twice", "inserted", "dropped", "moved", "filled", "all junk"]
    )
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    if how == "flips":
        return how, with_flips(data, rng)
    junk = rng.choice(JUNK)
    whole_twice = rng.random() < 0.5
    repeats = rng.choice([1, 100])
    before = data[:start]
    part = data[start:end]
    after = data[end:]
    if how == "cut":
        spoilt = before
    elif how == "twice":
        spoilt = data + data if whole_twice else before + part + part + after
    elif how == "inserted":
        spoilt = before + junk + part + after
    elif how == "dropped":
        spoilt = before + after
    elif how == "moved":
        spoilt = after + before + part
    elif how == "filled":
        spoilt = before + (junk * len(part))[: len(part)] + after
    else:
        spoilt = junk * repeats
    return f"{how} at {start}, {junk[:8]}", spoilt


def with_flips(data: bytes, rng: Random) -> bytes:
    """The bytes with a few bits flipped."""
    spoilt = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 8, 100])):
        if spoilt:
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def spoil_json(data: bytes, rng: Random) -> tuple[str, bytes]:
    if rng.random() < 0.25:
        return spoil_bytes(data, rng)
    if data.count(b"\n{"):  # RTP-LX names files of JSON lines .json too
        return spoil_lines(data, rng)
    how, text = spoilt_json(data.decode("utf-8"), rng)
    return how, text.encode("utf-8", "surrogatepass")


def spoil_lines(data: bytes, rng: Random) -> tuple[str, bytes]:
    lines = data.splitlines(keepends=True)
    others = ["twice", "dropped", "swapped", "joined", "blank", "an array"]
    how = rng.choice(["bytes"] * 2 + ["json"] * 7 + others)
    if how == "bytes" or not lines:
        return spoil_bytes(data, rng)
    i = rng.randrange(len(lines))
    j = rng.randrange(len(lines))
    if how == "json":
        how, text = spoilt_json(lines[i].decode("utf-8"), rng)
        lines[i] = text.encode("utf-8", "surrogatepass") + b"\n"
    elif how == "twice":
        lines.insert(j, lines[i])
    elif how == "dropped":
        del lines[i]
    elif how == "swapped":
        lines[i], lines[j] = lines[j], lines[i]
    elif how == "joined":
        lines[i] = lines[i].rstrip(b"\n")
    elif how == "blank":
        lines.insert(i, rng.choice(JUNK_LINES))
    else:
        lines = [b"[" + b",".join(lines) + b"]"]
    return f"line {i + 1}: {how}", b"".join(lines)


def spoil_tensors(data: bytes, rng: Random) -> tuple[str, bytes]:
    """A safetensors file: 8 bytes with the length of a JSON header, the header, the tensors."""
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].decode("utf-8")
    body = data[8 + length :]
    how = rng.choice(["bytes"] * 2 + ["length"] + ["header"] * 3 + ["metadata"] * 4 + ["body"] * 2)
    if how == "length":
        wrong = rng.choice([0, 1, 7, length - 1, length + 1, 2**31, 2**32, 2**60, 2**64 - 1])
        return f"length {wrong}", wrong.to_bytes(8, "little") + data[8:]
    if how == "body":
        numbers = rng.choice(JUNK_NUMBERS)
        if numbers is None:
            how, body = spoil_bytes(body, rng)
        else:
            how = f"all {numbers}"
            body = (numbers * len(body))[: len(body)]
    elif how == "header":
        how, header = spoilt_json(header, rng)
    elif how == "metadata" and json.loads(header).get("__metadata__"):
        how, header = spoil_metadata(header, rng)
    else:
        return spoil_bytes(data, rng)
    encoded = header.encode("utf-8", "surrogatepass")
    encoded += b" " * (-len(encoded) % 8)
    return how, len(encoded).to_bytes(8, "little") + encoded + body


def spoil_metadata(header: str, rng: Random) -> tuple[str, str]:
    """Spoil one entry of the metadata in a header; minitox's entries are JSON themselves."""
    tree = json.loads(header)
    metadata = tree["__metadata__"]
    key = rng.choice(sorted(metadata))
    try:
        how, metadata[key] = spoilt_json(metadata[key], rng)
    except ValueError:
        how = "text"
        metadata[key] = rng.choice(["", "x", "\0"])
    return f"metadata {key}: {how}", json.dumps(tree)


def spoil_table(data: bytes, rng: Random) -> tuple[str, bytes]:
    if rng.random() < 0.3:
        return spoil_bytes(data, rng)
    cells = re.split(rb"([,;\t\n])", data)  # every second one is a separator
    i = rng.randrange(len(cells))
    cells[i] = rng.choice(JUNK_CELLS)
    return f"cell {i}: {cells[i][:20]}", b"".join(cells)


def restore(base: Path, work: Path) -> None:
    """Make `work` a fresh copy of `base`."""
    for folder, _, _ in os.walk(work):
        os.chmod(folder, 0o700)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work)
