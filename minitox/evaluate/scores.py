"""Scores of texts, each asked for once: an append-only file from which a killed run goes on."""

import json
import unicodedata
from hashlib import sha256
from numbers import Real
from pathlib import Path

from minitox.files import InputError, read_jsonl, text_field


class Scores:
    """What a scorer says of texts. It has a `name`, `languages` (None: all) and `score(texts, language)`, which yields, for each
    text in order, (0..1, "scored"), (0..1, "cut") if it read only the beginning, (None, "unsupported") or (None, "failed: why")."""

    def __init__(self, path: Path, scorer):
        self.path, self.scorer, self.known = Path(path), scorer, {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)  # a line without an end was torn by a kill
        for where, row in read_jsonl(self.path):
            name, language, text, status = (text_field(where, row, field) for field in ("scorer", "language", "text", "status"))
            if name != scorer.name:
                raise InputError(f"{where}: scored by {name}, not by {scorer.name}; choose another --out, or delete {path}")
            if "score" not in row:
                raise InputError(f"{where}: field 'score' is missing")
            if checked(row["score"], status) != (row["score"], status):
                raise InputError(f"{where}: field 'score' is {row['score']!r:.40}; it must be from 0 to 1, or null if nothing was scored")
            self.known[language, text] = row["score"], status
        self.known = {key: answer for key, answer in self.known.items() if not answer[1].startswith("failed")}  # asked again

    def of(self, texts: list[str], language: str, advance=lambda done: None) -> list[tuple[float | None, str]]:
        """(score, status) of each text, the status "empty" if it is blank; `advance` is told how many texts are done."""
        supported = self.scorer.languages is None or language in self.scorer.languages
        keys = [(language, sha256(text.encode("utf-8", "surrogatepass")).hexdigest()) for text in texts]
        self.known |= {key: (None, "empty" if is_blank(text) else "unsupported")  # known unasked, so not written down
                       for key, text in zip(keys, texts) if is_blank(text) or not supported}
        new = {key: text for key, text in zip(keys, texts) if key not in self.known}
        answers = self.scorer.score(list(new.values()), language) if new else ()
        with open(self.path, "a", encoding="utf-8") as file:
            for asked, (key, answer) in enumerate(zip(new, answers, strict=True), start=1):
                self.known[key] = score, status = checked(*answer)
                row = {"scorer": self.scorer.name, "language": language, "text": key[1], "score": score, "status": status}
                file.write(json.dumps(row) + "\n")
                file.flush()  # a line in one write: a kill tears none but the last
                advance(len(texts) - len(new) + asked)
        return [self.known[key] for key in keys]


def is_blank(text: str) -> bool:
    """Whether there is nothing to see: only spaces, control characters and characters of no width."""
    return all(unicodedata.category(character) in ("Zs", "Zl", "Zp", "Cc", "Cf") for character in text)


def checked(score, status: str) -> tuple[float | None, str]:
    """An answer, made a failure if it claims a score and holds no number from 0 to 1."""
    if status not in ("scored", "cut"):
        return None, status
    if isinstance(score, Real) and not isinstance(score, bool) and 0 <= score <= 1:  # NaN is not
        return float(score), status
    return None, f"failed: {score!r:.40} is no score"
