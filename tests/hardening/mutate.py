"""Files gone wrong: every way that a seeded random generator knows to spoil the bytes, the JSON, the lines or the tensors of a file."""

import json
import os
import re
import shutil
from copy import deepcopy
from pathlib import Path
from random import Random

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


class Pairs(list):
    """An object as a list of (key, value), so that a key may be there twice."""


class Raw(str):
    """Text that goes into the JSON as it is."""


WILD = [
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    10**12,
    2**28,
    2**31 - 1,
    2**63,
    10**30,
    10**400,
    Raw("1" * 5_000),
    "",
    " ",
    "x",
    "\ud800",
    "\0",
    "a\nb",
    "\u202e",
    "../x",
    "../escape/model.safetensors",
    "/etc/passwd",
    ".",
    "x" * 1_000_000,
    "9" * 400,
    [],
    [None],
    [[]],
    ["x", 1],
    list(range(10_000)),
    Pairs(),
    Pairs([("x", None)]),
    Pairs([("", Pairs())]),
    Raw("[" * 5_000 + "]" * 5_000),
    Raw("-"),
    Raw("NaN"),
    Raw("'x'"),
    Raw(""),
]


def spoil(path: Path, rng: Random) -> str:
    """Spoil a file, in place; returns in a few words how."""
    if rng.random() < 0.05:
        return spoil_entry(path, rng)
    kind = {
        ".json": as_json,
        ".jsonl": as_lines,
        ".safetensors": as_tensors,
        ".csv": as_table,
        ".tsv": as_table,
    }.get(path.suffix, as_bytes)
    how, data = kind(path.read_bytes(), rng)
    path.write_bytes(data)
    return how


def spoil_entry(path: Path, rng: Random) -> str:
    """What stands in the folder is no file, or one of no use."""
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


def as_bytes(data: bytes, rng: Random) -> tuple[str, bytes]:
    how = rng.choice(
        ["flips", "cut", "twice", "inserted", "dropped", "moved", "filled", "all junk"]
    )
    at, most = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    if how == "flips":
        spoilt = bytearray(data)
        for _ in range(rng.choice([1, 1, 1, 8, 100])):
            if spoilt:
                spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
        return how, bytes(spoilt)
    junk = rng.choice(JUNK)
    return f"{how} at {at}, {junk[:8]}", {
        "cut": data[:at],
        "twice": data + data if rng.random() < 0.5 else data[:most] + data[at:],
        "inserted": data[:at] + junk + data[at:],
        "dropped": data[:at] + data[most:],
        "moved": data[most:] + data[:at] + data[at:most],
        "filled": data[:at] + (junk * (most - at))[: most - at] + data[most:],
        "all junk": junk * rng.choice([1, 100]),
    }[how]


def as_json(data: bytes, rng: Random) -> tuple[str, bytes]:
    if rng.random() < 0.25:
        return as_bytes(data, rng)
    if data.count(b"\n{"):  # RTP-LX calls lines of JSON so too
        return as_lines(data, rng)
    how, text = spoilt_json(data.decode("utf-8"), rng)
    return how, text.encode("utf-8", "surrogatepass")


def spoilt_json(text: str, rng: Random) -> tuple[str, str]:
    """JSON with one to three nodes spoilt."""
    tree, hows = (
        [json.loads(text, object_pairs_hook=Pairs)],
        [],
    )  # a list around it, so that the root has a place too
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        hows.append(spoil_node(tree, rng))
    return "; ".join(hows), ", ".join(dumped(value, rng.random() < 0.5) for value in tree)


def spoil_node(tree: list, rng: Random) -> str:
    places = [(holder, i) for holder in holders(tree) for i in range(len(holder))]
    if not places:
        return "nothing left"
    holder, i = rng.choice(
        places if rng.random() < 0.5 else places[:40]
    )  # near the root more often than their number says
    keyed = isinstance(holder, Pairs)
    how = rng.choice(
        ["replaced"] * 6
        + ["dropped", "twice", "renamed", "swapped", "wrapped", "scaled", "emptied"]
    )
    label, value = holder[i] if keyed else (i, holder[i])

    def put(new) -> None:
        holder[i] = (label, new) if keyed else new

    new = deepcopy(rng.choice(WILD))
    if how == "replaced":
        put(new)
    elif how == "dropped":
        del holder[i]
    elif how == "twice":
        holder.insert(
            rng.randrange(len(holder) + 1),
            (label, new) if keyed and rng.random() < 0.5 else deepcopy(holder[i]),
        )
    elif how == "renamed" and keyed:
        holder[i] = (
            rng.choice(
                ["", "\ud800", "x", "a\nb", "../x", "x" * 100_000, str(label).upper(), f"{label} "]
            ),
            value,
        )
    elif how == "swapped":  # as text, lest a list come to hold itself
        other, j = rng.choice(places)
        here, there = (
            Raw(dumped(each[k][1] if isinstance(each, Pairs) else each[k], True))
            for each, k in ((holder, i), (other, j))
        )
        other[j] = (other[j][0], here) if isinstance(other, Pairs) else here
        put(there)
    elif how == "wrapped":
        put([value] if rng.random() < 0.5 else Pairs([("x", value)]))
    elif how == "scaled":
        scale = rng.choice([-1, 2, 10**9, 10**20])
        put(
            value * scale
            if isinstance(value, (int, float))
            else Raw(value)
            if isinstance(value, Raw)
            else (value * 1_000)[: 10**6]
            if isinstance(value, str)
            else new
        )
    elif how == "emptied":
        put(
            Pairs()
            if isinstance(value, Pairs)
            else []
            if isinstance(value, list)
            else ""
            if isinstance(value, str)
            else None
        )
    return f"{str(label)[:40]!a} {how}" + (
        f" by {str(new)[:40]!a}" if how in ("replaced", "twice", "scaled") else ""
    )


def holders(value):
    """Every list and object in a value, the outermost first."""
    if isinstance(value, list):
        yield value
        for item in value:
            yield from holders(item[1] if isinstance(value, Pairs) else item)


def dumped(value, ascii: bool) -> str:
    if isinstance(value, Pairs):
        return (
            "{"
            + ", ".join(
                f"{json.dumps(key, ensure_ascii=ascii)}: {dumped(item, ascii)}"
                for key, item in value
            )
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(dumped(item, ascii) for item in value) + "]"
    return str(value) if isinstance(value, Raw) else json.dumps(value, ensure_ascii=ascii)


def as_lines(data: bytes, rng: Random) -> tuple[str, bytes]:
    lines = data.splitlines(keepends=True)
    how = rng.choice(
        ["bytes"] * 2
        + ["json"] * 7
        + ["twice", "dropped", "swapped", "joined", "blank", "an array"]
    )
    if how == "bytes" or not lines:
        return as_bytes(data, rng)
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
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
        lines.insert(i, rng.choice([b"\n", b" \n", b"null\n", b"[]\n", b"{}\n", b"1\n", b'"x"\n']))
    else:
        lines = [b"[" + b",".join(lines) + b"]"]
    return f"line {i + 1}: {how}", b"".join(lines)


def as_tensors(data: bytes, rng: Random) -> tuple[str, bytes]:
    """A safetensors file: 8 bytes with the length of a JSON header, the header, the tensors."""
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length].decode("utf-8"), data[8 + length :]
    how = rng.choice(["bytes"] * 2 + ["length"] + ["header"] * 3 + ["metadata"] * 4 + ["body"] * 2)
    if how == "length":
        wrong = rng.choice([0, 1, 7, length - 1, length + 1, 2**31, 2**32, 2**60, 2**64 - 1])
        return f"length {wrong}", wrong.to_bytes(8, "little") + data[8:]
    if how == "body":
        numbers = rng.choice(
            [b"\xff", b"\0", b"\x00\x00\x80\x7f", b"\x00\x00\xc0\x7f", b"\xff\xff\x7f\x7f", None]
        )  # NaN, 0, inf, NaN, largest
        how, body = (
            as_bytes(body, rng)
            if numbers is None
            else (f"all {numbers}", (numbers * len(body))[: len(body)])
        )
    elif how == "header":
        how, header = spoilt_json(header, rng)
    elif how == "metadata" and (told := json.loads(header).get("__metadata__")):
        key, tree = rng.choice(sorted(told)), json.loads(header)
        try:
            how, told[key] = spoilt_json(told[key], rng)
        except ValueError:
            how, told[key] = "text", rng.choice(["", "x", "\0"])
        tree["__metadata__"], how = told, f"metadata {key}: {how}"
        header = json.dumps(tree)
    else:
        return as_bytes(data, rng)
    header = header.encode("utf-8", "surrogatepass")
    header += b" " * (-len(header) % 8)
    return how, len(header).to_bytes(8, "little") + header + body


def as_table(data: bytes, rng: Random) -> tuple[str, bytes]:
    if rng.random() < 0.3:
        return as_bytes(data, rng)
    cells = re.split(rb"([,;\t\n])", data)  # the odd ones separate
    i = rng.randrange(len(cells))
    cells[i] = rng.choice(
        [
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
    )
    return f"cell {i}: {cells[i][:20]}", b"".join(cells)


def restore(base: Path, work: Path) -> None:
    """`work` as a fresh copy of `base`."""
    for folder, _, _ in os.walk(work):
        os.chmod(folder, 0o700)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work)
