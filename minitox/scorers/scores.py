"""What a scorer is, and the file that keeps its scores, so that no text is scored twice."""

import json
import unicodedata
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from minitox.errors import InputError
from minitox.files import (
    drop_torn_line,
    is_kind,
    name_in_errors,
    open_to_append,
    read_jsonl,
    text_field,
)

# The score of a text and its status:
#   (0..1, "scored")
#   (0..1, "cut")            only the beginning of the text was read
#   (None, "empty")          there is nothing to score
#   (None, "unsupported")    the scorer does not know the language
#   (None, "failed: why")    the next run tries again
Answer = tuple[float | None, str]
STATUSES = ("scored", "cut", "empty", "unsupported", "failed")


class Scorer(Protocol):
    """The interface of Surrogate, Encoder, Guard and Perspective.

    A scorer may have two more members, as Surrogate does: `held_out`, by language its quality on
    texts that it has not learned from, for the report; and `has_learned(text, language)`, whether
    a text was among those that it learned from, to recognise test prompts.
    """

    name: str  # changes whenever the scores may change
    languages: set[str] | None  # None: all
    about: str  # one line for the report

    def score(self, texts: list[str], language: str) -> Iterator[Answer]:
        """Yield the answer for each text, in order."""


class Scores:
    """The scores of one scorer, kept in a file with one line a text."""

    def __init__(self, path: Path, scorer: Scorer):
        self.path = Path(path)
        self.scorer = scorer
        drop_torn_line(self.path)
        self.known = read_scores(self.path, scorer.name)

    def of(self, texts: list[str], language: str, advance=lambda done: None) -> list[Answer]:
        """The answer for each text; `advance` is called with the number of texts done so far."""
        keys = [(language, text_hash(text)) for text in texts]

        # 1) texts that need a scorer, each of them once
        new = {}
        supported = self.scorer.languages is None or language in self.scorer.languages
        for key, text in zip(keys, texts, strict=True):
            if is_blank(text):
                self.known[key] = (None, "empty")
            elif not supported:
                self.known[key] = (None, "unsupported")
            elif key not in self.known:
                new[key] = text
        done = len(texts) - len(new)
        advance(done)

        # 2) score them; each line is flushed, so a kill can tear the last line only
        with name_in_errors(self.path), open_to_append(self.path) as file:
            answers = self.scorer.score(list(new.values()), language)
            for key, answer in zip(new, answers, strict=True):
                score, status = checked(*answer)
                self.known[key] = (score, status)
                row = {
                    "scorer": self.scorer.name,
                    "language": language,
                    "text": key[1],
                    "score": score,
                    "status": status,
                }
                file.write(json.dumps(row).encode() + b"\n")
                file.flush()
                done += 1
                advance(done)
        return [self.known[key] for key in keys]


def read_scores(path, name):
    """The answers of the scorer `name` by language and hash; InputError names the first bad line.

    Failures are left out, so that their texts are scored again.
    """
    known = {}
    for where, row in read_jsonl(path):
        fields = ("scorer", "language", "text", "status")
        scorer, language, text, status = (text_field(where, row, field) for field in fields)
        answer = (row.get("score"), status)
        if scorer != name:
            raise InputError(
                f"{where}: scored by {scorer}, not by {name}; "
                f"choose another --out, or delete {path}"
            )
        if checked(*answer) != answer:
            raise InputError(
                f"{where}: 'score' must be a number from 0 to 1 if 'status' is scored or cut, "
                "and null if it is empty, unsupported or failed; delete the line"
            )
        known[language, text] = answer
    return {key: answer for key, answer in known.items() if not answer[1].startswith("failed")}


def text_hash(text):
    """SHA-256 of a text, which may contain half a surrogate pair."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_blank(text: str) -> bool:
    """Whether a text has no visible character: only spaces, control and zero-width characters."""
    invisible = ("Zs", "Zl", "Zp", "Cc", "Cf")
    return all(unicodedata.category(character) in invisible for character in text)


def checked(score, status: str) -> Answer:
    """The answer, or a failure if its status is none, or claims a score that is not from 0 to 1."""
    if status.partition(":")[0] not in STATUSES:
        return None, "failed: the scorer gave no status"
    if status not in ("scored", "cut"):
        return None, status
    if not is_kind(score, int | float) or not 0 <= score <= 1:  # NaN fails the comparison
        return None, "failed: the score is not a number from 0 to 1"
    return float(score), status
