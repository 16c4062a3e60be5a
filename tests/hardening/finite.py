"""Numbers in results: all of them are finite."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

# as Python formats them, in a table or a sentence; not in a word, a name or a CSS property
IN_TEXT = re.compile(r"(?<![\w.#/-])[-+]?(?:nan|inf)(?![\w.:(-])")


def not_finite(path: Path) -> str | None:
    """The first number in a file of results that is not finite; None if there is none."""
    try:
        return first(path)
    except (ValueError, SafetensorError) as error:
        return f"what is not {path.suffix[1:]}, {error},"


def first(path: Path) -> str | None:
    if path.suffix == ".json":
        return next(in_json(path.read_text("utf-8")), None)
    if path.suffix == ".jsonl":
        for line in path.read_text("utf-8").split("\n"):
            for number in in_json(line or "null"):
                return number
    if path.suffix == ".safetensors":
        return next(in_tensors(path), None)
    if path.suffix in (".html", ".md"):
        hit = IN_TEXT.search(path.read_text("utf-8"))
        return hit and hit[0]
    return None


def in_json(text: str) -> Iterator[str]:
    """The numbers in a JSON text that are not finite; an overflow such as 1e999 is one."""
    numbers = []
    json.loads(text, parse_float=numbers.append, parse_constant=numbers.append)
    for number in numbers:
        if not math.isfinite(float(number)):
            yield number


def in_tensors(path: Path) -> Iterator[str]:
    """The same for a file of tensors and its metadata."""
    with safe_open(path, framework="pt") as file:
        for name in file.keys():
            tensor = file.get_tensor(name)
            if tensor.is_floating_point():
                for number in tensor[~torch.isfinite(tensor)][:1].tolist():
                    yield f"{number} of {name}"
        for value in (file.metadata() or {}).values():
            if value.startswith(("{", "[")):
                yield from in_json(value)
