"""Scores of texts, each asked for once: an append-only file from which a killed run goes on.

A scorer has a `name`, `languages` (a set of codes; None: all), a line `about` it for the report, and `score(texts, language)`. That
yields for each text (0..1, "scored"), (0..1, "cut") if only its beginning was read, (None, "unsupported") or (None, "failed: why").
"""

import json
import unicodedata
from hashlib import sha256
from numbers import Real
from pathlib import Path

from minitox.errors import InputError
from minitox.files import name_in_errors, read_jsonl, text_field
from minitox.run.journal import drop_torn_line


class Scores:
    """What a scorer says of texts, and the file that keeps it: a line for each text, known by its language and its hash."""

    def __init__(self, path: Path, scorer):
        self.path, self.scorer = Path(path), scorer
        drop_torn_line(self.path)
        self.known = read_scores(self.path, scorer.name)

    def of(
        self, texts: list[str], language: str, advance=lambda done: None
    ) -> list[tuple[float | None, str]]:
        """(score, status) of each text, the status "empty" if it is blank; `advance` is told how many texts are done."""
        supported = self.scorer.languages is None or language in self.scorer.languages
        keys = [
            (language, sha256(text.encode("utf-8", "surrogatepass")).hexdigest()) for text in texts
        ]
        for key, text in zip(keys, texts):
            if is_blank(text) or not supported:  # the scorer need not be asked
                self.known[key] = None, "empty" if is_blank(text) else "unsupported"
        new = {key: text for key, text in zip(keys, texts) if key not in self.known}
        done = len(texts) - len(new)
        advance(done)
        with (
            name_in_errors(self.path),
            open(self.path, "a", encoding="utf-8", buffering=1) as file,
        ):  # line by line: a kill tears none but the last
            for key, answer in zip(
                new, self.scorer.score(list(new.values()), language), strict=True
            ):
                self.known[key] = score, status = checked(*answer)
                row = {
                    "scorer": self.scorer.name,
                    "language": language,
                    "text": key[1],
                    "score": score,
                    "status": status,
                }
                file.write(json.dumps(row) + "\n")
                done += 1
                advance(done)
        return [self.known[key] for key in keys]


def read_scores(path: Path, name: str) -> dict[tuple[str, str], tuple[float | None, str]]:
    """{(language, hash): (score, status)} of a file, but failures, which are asked again; InputError names the first bad line."""
    known = {}
    for where, row in read_jsonl(path):
        scorer, language, text, status = (
            text_field(where, row, field) for field in ("scorer", "language", "text", "status")
        )
        if scorer != name:
            raise InputError(
                f"{where}: scored by {scorer}, not by {name}; choose another --out, or delete {path}"
            )
        if checked(row.get("score"), status) != (row.get("score"), status):
            raise InputError(
                f"{where}: 'score' must be from 0 to 1 if 'status' is scored or cut, else null; delete the line"
            )
        known[language, text] = row.get("score"), status
    return {key: answer for key, answer in known.items() if not answer[1].startswith("failed")}


def is_blank(text: str) -> bool:
    """Whether there is nothing to see: only spaces, control characters and characters of no width."""
    return all(
        unicodedata.category(character) in ("Zs", "Zl", "Zp", "Cc", "Cf") for character in text
    )


def checked(score, status: str) -> tuple[float | None, str]:
    """An answer, made a failure if it claims to be a score and is no number from 0 to 1."""
    if status not in ("scored", "cut"):
        return None, status
    valid = (
        isinstance(score, Real) and not isinstance(score, bool) and 0 <= score <= 1
    )  # NaN is not
    return (float(score), status) if valid else (None, "failed: the score is no number from 0 to 1")
