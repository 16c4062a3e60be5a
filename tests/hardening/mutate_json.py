"""JSON with one to three of its values changed for the worse, by a seeded random generator."""

import json
from copy import deepcopy
from random import Random


class Pairs(list):
    """An object as a list of (key, value), so that it can contain a key twice."""


class Raw(str):
    """Text that is put into the JSON as it is."""


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
ONCE = ["dropped", "twice", "renamed", "swapped", "wrapped", "scaled", "emptied"]
CHANGES = ["replaced"] * 6 + ONCE


def spoilt_json(text: str, rng: Random) -> tuple[str, str]:
    """What was changed, and the JSON with one to three changes."""
    # a list around the value, so that the value itself has a place too
    tree = [json.loads(text, object_pairs_hook=Pairs)]
    changes = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        changes.append(spoil_node(tree, rng))
    return "; ".join(changes), ", ".join(dumped(value, rng.random() < 0.5) for value in tree)


def spoil_node(tree: list, rng: Random) -> str:
    """Change one value in the tree, in place; return a description."""
    # 1) a place; one near the root is more likely than the others
    places = []
    for holder in holders(tree):
        places += [(holder, i) for i in range(len(holder))]
    if not places:
        return "nothing left"
    holder, i = rng.choice(places if rng.random() < 0.5 else places[:40])
    keyed = isinstance(holder, Pairs)
    label = holder[i][0] if keyed else i
    value = value_at(holder, i)
    # 2) the change
    how = rng.choice(CHANGES)
    new = deepcopy(rng.choice(WILD))
    if how == "replaced":
        put(holder, i, new)
    elif how == "dropped":
        del holder[i]
    elif how == "twice":
        place = rng.randrange(len(holder) + 1)
        as_new = keyed and rng.random() < 0.5  # the same key with another value
        holder.insert(place, (label, new) if as_new else deepcopy(holder[i]))
    elif how == "renamed" and keyed:
        holder[i] = (another_key(label, rng), value)
    elif how == "swapped":
        other, j = rng.choice(places)
        # as text, so that no list ends up inside itself
        here = Raw(dumped(value, True))
        there = Raw(dumped(value_at(other, j), True))
        put(other, j, here)
        put(holder, i, there)
    elif how == "wrapped":
        put(holder, i, [value] if rng.random() < 0.5 else Pairs([("x", value)]))
    elif how == "scaled":
        put(holder, i, scaled(value, rng.choice([-1, 2, 10**9, 10**20]), new))
    elif how == "emptied":
        put(holder, i, emptied(value))
    # 3) the description
    what = f"{str(label)[:40]!a} {how}"
    return f"{what} by {str(new)[:40]!a}" if how in ("replaced", "twice", "scaled") else what


def value_at(holder, i: int):
    return holder[i][1] if isinstance(holder, Pairs) else holder[i]


def put(holder, i: int, new) -> None:
    holder[i] = (holder[i][0], new) if isinstance(holder, Pairs) else new


def another_key(key, rng: Random) -> str:
    keys = ["", "\ud800", "x", "a\nb", "../x", "x" * 100_000, str(key).upper(), f"{key} "]
    return rng.choice(keys)


def scaled(value, scale: int, default):
    if isinstance(value, (int, float)):
        return value * scale
    if isinstance(value, Raw):
        return value
    if isinstance(value, str):
        return (value * 1_000)[: 10**6]
    return default


def emptied(value):
    """An empty value of the same kind."""
    if isinstance(value, Pairs):
        return Pairs()
    if isinstance(value, list):
        return []
    return "" if isinstance(value, str) else None


def holders(value):
    """Every list and object in a value, the outermost first."""
    if isinstance(value, list):
        yield value
        for i in range(len(value)):
            yield from holders(value_at(value, i))


def dumped(value, ascii: bool) -> str:
    """JSON, with Pairs as objects and Raw as it is."""
    if isinstance(value, Pairs):
        keys = [json.dumps(key, ensure_ascii=ascii) for key, _ in value]
        items = [dumped(item, ascii) for _, item in value]
        body = [f"{key}: {item}" for key, item in zip(keys, items, strict=True)]
        return "{" + ", ".join(body) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(dumped(item, ascii) for item in value) + "]"
    return str(value) if isinstance(value, Raw) else json.dumps(value, ensure_ascii=ascii)
