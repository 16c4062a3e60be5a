"""The files that the steps of curate.py hand to each other, and summaries of what is in them."""

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

from minitox import files
from minitox.errors import InputError


def present(folder: Path, languages: list[str], made_by: str) -> dict[str, Path]:
    """Return {language: file} of the languages that have a file in `folder`.

    InputError if there is none; it names the command that makes the files.
    """
    paths = {}
    for language in languages:
        path = folder / f"{language}.jsonl"
        if path.exists():
            paths[language] = path
    if not paths:
        raise InputError(f"{folder}: no file for {', '.join(languages)}; run {made_by} first")
    return paths


def read_replies(path: Path) -> list[dict]:
    """Return the pairs that `generate` wrote, each once, in the order of their ids.

    An id is the language and a hash of prompt and reply, so the order is random, and equal pairs
    have the same id. With the language in front it is text, which spreadsheets do not round.
    """
    pairs = {}
    for row in files.read_written(path, prompt=str, response=str | None, stopped=bool):
        # 1) the prompt without the instruction, and the reply, null if there was no room for one
        asked = row["prompt"]
        prompt = asked.partition("\n\n")[2]
        response = (row["response"] or "").strip()
        # 2) the id
        content = json.dumps([prompt, response])
        digest = sha256(content.encode()).hexdigest()
        name = f"{path.stem}-{digest[:16]}"
        pairs[name] = row | {
            "id": name,
            "language": path.stem,
            "asked": asked,
            "prompt": prompt,
            "response": response,
        }
    # 3) in random order, so that a reviewer who stops early has seen a random sample
    return [pairs[name] for name in sorted(pairs)]


def read_checked(*paths: Path) -> list[dict]:
    """Return the pairs in files that `check` wrote."""
    fields = ("id", "language", "prompt", "response", "proposal", "why")  # what later steps need
    pairs = []
    for path in paths:
        pairs += files.read_written(path, **dict.fromkeys(fields, str))
    return pairs


def write_jsonl(path: Path, rows: list[dict]) -> None:
    """Write a file of JSON lines, or leave it as it is if that fails."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    with files.replacing(path) as temporary:
        # a lone surrogate, which UTF-8 cannot hold, is written as an escape
        temporary.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")


def tally(rows: list[dict], field: str) -> str:
    """List how many rows have each value of a field, the most frequent first."""
    counts = Counter(str(row.get(field)) for row in rows)
    parts = [f"{number:,} {value}" for value, number in counts.most_common()]
    return ", ".join(parts)
