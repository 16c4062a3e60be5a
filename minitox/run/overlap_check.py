"""Test prompts that models, neurons or scorers have seen: exact copies are refused, others printed.

The rows of DATA/detection and DATA/instructions, and the training texts of the scorer, are compared
with the prompts of DATA/prompts in the same language.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from minitox.data import id_of
from minitox.errors import InputError
from minitox.files import read_jsonl, text_field
from minitox.overlap import PromptIndex
from minitox.run import distributed
from minitox.scorers.scores import Scorer

FIELDS = {"detection": "text", "instructions": "prompt"}  # what is compared in each data folder
ADVICE = {
    "detection": "delete them, or make the file again with data/prepare.py ptp",
    "instructions": "delete them, or make the file again with data/curate.py export",
    "scorer": "train it again with data/prepare.py scorer, which leaves them out",
}


@dataclass
class Copies:
    """Where the copies of one language's test prompts are, each as "file:line"."""

    exact: list[str] = field(default_factory=list)
    near: list[str] = field(default_factory=list)
    translated: list[str] = field(default_factory=list)  # with the id of a prompt

    def __str__(self) -> str:
        """How many there are, such as "1 exact, 2 near", or "none"."""
        kinds = {"exact": self.exact, "near": self.near, "translated": self.translated}
        return ", ".join(f"{len(rows):,} {kind}" for kind, rows in kinds.items() if rows) or "none"


# by folder or name of a scorer, and by language; None: the training texts are not known
Overlap = dict[str, dict[str, Copies] | None]


class Prompts:
    """The test prompts of DATA/prompts, which are read once."""

    def __init__(self, data: Path, languages: Iterable[str]):
        folder = data / "prompts"
        # of those languages that have a file
        self.rows = {code: [] for code in languages if (folder / f"{code}.jsonl").exists()}
        self.ids = set()  # of all languages: translations share the id of their prompt
        for path in sorted(folder.glob("*.jsonl")):
            for where, row in read_jsonl(path):
                self.ids.add(id_of(row))
                if path.stem in self.rows:
                    self.rows[path.stem].append((where, text_field(where, row, "prompt")))
        self.ids.discard(None)
        self.indices = {}
        for language, rows in self.rows.items():
            self.indices[language] = PromptIndex([prompt for _, prompt in rows])


def check(
    data: Path,
    folders: Iterable[str],
    languages: Iterable[str],
    allow: bool,  # --allow-overlap
    scorers: Iterable[Scorer] = (),
) -> Overlap:
    """Compare all rows of the folders, and what the scorers have learned, with DATA/prompts.

    The first process compares. It prints the result in a line. InputError about exact copies,
    unless they are allowed.
    """
    return distributed.on_first(lambda: compare(data, folders, languages, allow, scorers))


def compare(data, folders, languages, allow, scorers) -> Overlap:
    prompts = Prompts(data, languages)
    overlap = {}
    for folder in folders:
        copies = copies_in(data / folder, FIELDS[folder], prompts)
        if copies:
            overlap[folder] = copies
        if not allow:
            refuse(copies, "repeats a test prompt", ADVICE[folder])
    for scorer in scorers:
        copies = learned_by(scorer, prompts)
        overlap[scorer.name] = copies
        if copies and not allow:
            refuse(copies, f"was in the training data of {scorer.name}", ADVICE["scorer"])
    if prompts.rows and overlap:
        print("copies of test prompts:", "; ".join(map(in_words, overlap, overlap.values())))
    return overlap


def copies_in(folder: Path, field: str, prompts: Prompts) -> dict[str, Copies]:
    """The copies in each language that has a file in the folder; `field` is compared."""
    copies = {}
    for language, index in prompts.indices.items():
        path = folder / f"{language}.jsonl"
        if not path.exists():
            continue
        copies[language] = Copies()
        for where, row in read_jsonl(path):
            kind = index.compare(text_field(where, row, field))
            if not kind and id_of(row) in prompts.ids:
                kind = "translated"
            if kind:
                getattr(copies[language], kind).append(where)
    return copies


def learned_by(scorer: Scorer, prompts: Prompts) -> dict[str, Copies] | None:
    """The prompts of each language that a scorer was trained on; None if that is not known.

    Near copies cannot be found, because the scorer only has hashes of its training texts.
    """
    has_learned = getattr(scorer, "has_learned", None)
    if has_learned is None:
        return None
    copies = {}
    for language, rows in prompts.rows.items():
        learned = [where for where, prompt in rows if has_learned(prompt, language)]
        copies[language] = Copies(exact=learned)
    return copies


def refuse(copies: dict[str, Copies], what: str, advice: str) -> None:
    """InputError about the first exact copy, if there is one, and `what` is wrong with it."""
    exact = {code: of_language.exact for code, of_language in copies.items()}
    rows = sum(exact.values(), [])
    if rows:
        counts = ", ".join(f"{code} {len(rows):,}" for code, rows in exact.items() if rows)
        raise InputError(
            f"{rows[0]} {what}, one of {len(rows):,} such rows ({counts}); "
            f"{advice}; --allow-overlap uses them"
        )


def in_words(name: str, copies: dict[str, Copies] | None) -> str:
    """A folder or scorer and its copies, such as "detection: de 1 exact, fr 2 near"."""
    if copies is None:
        return f"{name}: not known"
    listed = [
        f"{code} {of_language}"
        for code, of_language in copies.items()
        if str(of_language) != "none"
    ]
    return f"{name}: {', '.join(listed) or 'none'}"
