"""What a run starts from: the prompts, questions and clean sentences of each language, and what is missing of them."""

from dataclasses import dataclass, field

from minitox.data import language_rng, read_clean_sentences, read_prompts, read_questions
from minitox.errors import InputError, UnusableLanguage
from minitox.files import file_hash


@dataclass
class Inputs:
    """What there is, by language; a real data folder has gaps."""

    prompts: dict[str, dict[int, str]] = field(default_factory=dict)
    questions: dict[str, list[dict]] = field(default_factory=dict)
    clean: dict[str, list[str]] = field(default_factory=dict)
    hashes: dict[str, dict[str, str]] = field(
        default_factory=dict
    )  # of the files, by folder and language
    gaps: dict[str, str] = field(default_factory=dict)  # what is missing, and why


def read(args) -> Inputs:
    """Read DATA/prompts, and DATA/mmlu and DATA/detection as far as they are wanted and there; InputError if no prompt is."""
    found = Inputs()
    readers = {"prompts": (found.prompts, lambda path, rng: read_prompts(path, args.prompts, rng))}
    if args.mmlu:
        readers["mmlu"] = found.questions, lambda path, rng: read_questions(path)
    if args.perplexity:
        readers["detection"] = (
            found.clean,
            lambda path, rng: read_clean_sentences(path, args.perplexity, rng),
        )
    for folder, (rows, read_file) in readers.items():
        if not (args.data / folder).is_dir():
            found.gaps[folder] = f"{args.data / folder} is no folder"
            continue
        found.hashes[folder] = {}
        paths = {language: args.data / folder / f"{language}.jsonl" for language in args.languages}
        if absent := [language for language, path in paths.items() if not path.exists()]:
            found.gaps[folder] = f"no file of {', '.join(absent)}"
        for language, path in paths.items():
            try:
                if language not in absent:
                    rows[language] = read_file(path, language_rng(args.seed, language))
                    found.hashes[folder][language] = file_hash(path)
            except UnusableLanguage as reason:
                found.gaps[f"{folder}/{language}"] = str(reason)
    if not found.prompts:
        raise InputError(
            f"{args.data / 'prompts'}: no language of {', '.join(args.languages)} can be used; "
            'it must hold <language>.jsonl of {"prompt": ...} lines'
        )
    return found
