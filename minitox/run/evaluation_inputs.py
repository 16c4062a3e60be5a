"""What evaluate.py starts from: prompts, questions, sentences and cases of each language."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from minitox.data import (
    pairs_hash,
    read_cases,
    read_clean_sentences,
    read_human_replies,
    read_ids,
    read_languages,
    read_prompts,
    read_questions,
    read_xstest,
)
from minitox.errors import InputError
from minitox.evaluate.fluency import FEWEST_REPLIES
from minitox.files import hashes_of_languages
from minitox.languages import NAMES
from minitox.run.candidates import Candidate
from minitox.run.training_record import hashes_of_pairs

MOST_HUMAN = 100  # replies of a language that people wrote
MOST_CASES = 200  # of each class and language, to measure a scorer with


@dataclass(frozen=True)
class Inputs:
    """Prompts, questions, sentences and cases by language; a real data folder has gaps."""

    prompts: dict  # language: {line number: text}
    ids: dict  # language: {line number: id} of the prompts that have one; translations share it
    questions: dict  # language: [question]
    clean: dict  # language: [sentence]
    cases: dict  # language: [(text, whether it is hateful)], to measure scorers with
    human: dict  # language: [reply that a person wrote or accepted]; none if there are too few
    xstest: dict  # language: {line number: (prompt, whether it is safe to answer)}
    tuned: dict  # language: [reply to tune on], all of them, to find copies of; {} without xstest
    hashes: dict  # folder: {language: hash of its file}; of tuned, one for each objective
    gaps: dict[str, str]  # what is missing, and why
    compared: list[str] = field(default_factory=list)  # models with a divergence from the base

    def about(self) -> str:
        """How many prompts there are, as evaluate.py prints it."""
        return f"{len(self.prompts)} languages, {sum(map(len, self.prompts.values())):,} prompts"

    def has_translations(self) -> bool:
        """Whether prompts of several languages share an id."""
        ids = [name for by_number in self.ids.values() for name in by_number.values()]
        return len(set(ids)) < len(ids)

    def needs_base(self) -> list[str]:
        """What the base model is needed for, besides its own row of the report."""
        uses = {"fluency": self.human, "KL divergence": self.clean}
        return [name for name, contents in uses.items() if contents]

    def count(self, candidate: Candidate, samples: int) -> int:
        """How many rows a model is to write, with `samples` replies to each prompt."""
        rows = {
            "replies": samples * sum(map(len, self.prompts.values())),
            "mmlu": sum(map(len, self.questions.values())),
            "perplexity": sum(map(len, self.clean.values())),
            "xstest": samples * sum(map(len, self.xstest.values())),
        }
        return sum(rows[name] for name in candidate.asked_for)

    def count_xstest_replies(self, models: list[Candidate], samples: int) -> int:
        """How many replies `models` write to the prompts of xstest/."""
        asked = sum("xstest" in candidate.asked_for for candidate in models)
        return asked * samples * sum(map(len, self.xstest.values()))

    def count_fluency(self, samples: int, models: list[Candidate]) -> int:
        """How many rows the base model is to write on the replies of `models` and of people."""
        prompts = sum(map(len, self.prompts.values()))
        replies = prompts * samples * len(models) + self.count_xstest_replies(models, samples)
        return replies + sum(map(len, self.human.values()))


def read_inputs(
    data: Path,
    languages: list[str],
    *,
    most_prompts: int | None,  # of each language; None: all
    with_questions: bool,
    most_sentences: int,  # of each language; 0: no perplexity
    with_cases: bool,
    with_xstest: bool,
    seed: int,
) -> Inputs:
    """Read `data`/prompts and, where wanted and present, the other folders.

    InputError if no language has prompts.
    """
    # 1) which folders are read, and how
    readers = {"prompts": partial(read_prompts, most=most_prompts)}
    if with_questions:
        readers["mmlu"] = lambda path, rng: read_questions(path)  # all of them
    if most_sentences:
        readers["detection"] = partial(read_clean_sentences, most=most_sentences)
    if with_cases:
        readers["hatecheck"] = partial(read_cases, most=MOST_CASES)

    # 2) the files that exist, and what is missing
    contents, hashes, gaps = read_folders(data, languages, readers, seed)
    if not with_cases:
        gaps["hatecheck"] = "left out with --no-hatecheck"
    if not contents["prompts"]:
        raise InputError(
            f"{data / 'prompts'}: no language of {', '.join(languages)} can be used; "
            'it must hold <language>.jsonl of {"prompt": ...} lines'
        )

    # 3) the replies that models are tuned on, for the limit on fluency
    human = {}
    folder = data / "instructions"
    if folder.is_dir():
        human, unusable = read_human(folder, list(contents["prompts"]), seed)
        gaps |= {f"instructions/{language}": reason for language, reason in unusable.items()}
        paths = {language: folder / f"{language}.jsonl" for language in human}
        hashes["instructions"] = {code: pairs_hash(path) for code, path in paths.items()}
    else:
        gaps["instructions"] = f"{folder} is not a folder"
    count = sum(map(len, human.values()))
    if count < FEWEST_REPLIES:
        human = {}
        gaps["fluency"] = f"{count} replies in DATA/instructions are too few to compare with"

    # 4) prompts that are to be answered, or refused
    xstest = {}
    tuned = {}
    if with_xstest and (data / "xstest").is_dir():
        xstest, unusable = read_all_xstest(data / "xstest", contents["prompts"], seed)
        gaps |= {f"xstest/{language}": reason for language, reason in unusable.items()}
        hashes["xstest"] = hashes_of_languages(data / "xstest", xstest)
        if xstest:
            read = partial(read_human_replies, most=None)
            tuned, _ = read_languages(folder, NAMES, seed, read)
            hashes["tuned"] = hashes_of_pairs(folder, tuned)

    return Inputs(
        prompts=contents["prompts"],
        ids=ids_of(data / "prompts", contents["prompts"]),
        questions=contents.get("mmlu", {}),
        clean=contents.get("detection", {}),
        cases=contents.get("hatecheck", {}),
        human=human,
        xstest=xstest,
        tuned=tuned,
        hashes=hashes,
        gaps=gaps,
    )


def read_folders(
    data: Path,
    languages: list[str],
    readers: dict,  # {name of a folder: function that reads one of its files}
    seed: int,
) -> tuple[dict, dict, dict]:
    """What each folder has by language, the hashes of the files, and what is missing, and why."""
    contents = {}
    hashes = {}
    gaps = {}
    for name, read in readers.items():
        folder = data / name
        contents[name] = {}
        if not folder.is_dir():
            gaps[name] = f"{folder} is not a folder"
            continue
        by_language, skipped = read_languages(folder, languages, seed, read)
        for language, (rows, duplicates) in by_language.items():
            contents[name][language] = rows
            if duplicates:
                gaps[f"{name}/{language}"] = f"{duplicates:,} duplicates"
        hashes[name] = hashes_of_languages(folder, by_language)
        unusable = without_absent(folder, skipped)
        absent = [language for language in skipped if language not in unusable]
        if absent:
            gaps[name] = f"no file of {', '.join(absent)}"
        gaps |= {f"{name}/{language}": reason for language, reason in unusable.items()}
    return contents, hashes, gaps


def ids_of(folder: Path, prompts: dict) -> dict:
    """{language: {line number: id}} of those of the `prompts` that have an id."""
    ids = {}
    for language, asked in prompts.items():
        every = read_ids(folder / f"{language}.jsonl")
        ids[language] = {number: every[number] for number in asked if number in every}
    return ids


def read_human(folder: Path, languages: list[str], seed: int) -> tuple[dict, dict]:
    """Replies that people wrote in `languages`, and why files of others cannot be used.

    If one of the `languages` has too few, those of all languages are read, so that its limit on
    fluency does not depend on which others are evaluated.
    """
    read = partial(read_human_replies, most=MOST_HUMAN)
    human, skipped = read_languages(folder, languages, seed, read)
    if any(len(human.get(language, [])) < FEWEST_REPLIES for language in languages):
        human, skipped = read_languages(folder, NAMES, seed, read)

    # tuning on pairs of every language is not expected
    return human, without_absent(folder, skipped)


def read_all_xstest(folder: Path, languages, seed: int) -> tuple[dict, dict]:
    """The prompts of xstest/ in those of `languages` that have any, and what is wrong with others.

    A language without a file is not mentioned: what is published is English.
    """
    read, skipped = read_languages(folder, languages, seed, lambda path, rng: read_xstest(path))
    reasons = without_absent(folder, skipped)
    prompts = {}
    for language, (rows, duplicates) in read.items():
        prompts[language] = rows
        if duplicates:
            reasons[language] = f"{duplicates:,} duplicates"
    return prompts, reasons


def without_absent(folder: Path, skipped: dict) -> dict:
    """Why languages are skipped, without those that have no file."""
    return {
        language: reason
        for language, reason in skipped.items()
        if (folder / f"{language}.jsonl").exists()
    }
