"""What detect.py reads: toxic and clean sentences, or training pairs, of each language."""

from functools import partial
from pathlib import Path

from minitox.data import (
    Sentences,
    pairs_hash,
    read_languages,
    read_pairs,
    read_sentences,
    with_rejected,
)
from minitox.errors import InputError
from minitox.lm.text import Tokenizer
from minitox.run.training_inputs import train_hash
from minitox.train.pairs import Pair, PairChoice


def read_all_sentences(
    folder: Path, languages: tuple[str, ...], seed: int, **choice
) -> dict[str, Sentences]:
    """The sentences of each language that can be used; prints what is left out.

    `choice` is what `read_sentences` takes.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --data must have detection/<language>.jsonl")
    sentences, skipped = read_languages(folder, languages, seed, partial(read_sentences, **choice))
    for language, reason in skipped.items():
        print(f"skipped {language}: {reason}")
    for language, labelled in sentences.items():
        for reason, count in labelled.dropped.items():
            if count:
                print(f"{language}: dropped {count:,} {reason}")
    if not sentences:
        raise InputError(f"{folder}: no language of {', '.join(languages)} can be used")
    return sentences


def read_examples(
    folder: Path,
    languages: tuple[str, ...],
    tokenizer: Tokenizer,
    choice: PairChoice,
    selector: str,
    longest: int,  # tokens that the model can read
) -> tuple[dict[str, list[Pair]], dict[str, dict[str, str]]]:
    """The training pairs of each language, and the hashes of what they were made from.

    For dinm those with a rejected reply. Prints which languages are skipped.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --data must have instructions/<lang>.jsonl")

    pairs, skipped = read_pairs(folder, languages, tokenizer, choice)
    examples = {}
    hashes = {}
    for language, of_language in pairs.items():
        used = of_language.train
        made_from = {"data": of_language.data_hash, "train": train_hash(of_language)}
        if selector == "dinm":
            # it reads the last token of a reply, so that a long one is not cut
            path = folder / f"{language}.jsonl"
            used = with_rejected(path, tokenizer, longest, used)
            if not used:
                skipped[language] = (
                    f"{path}: no training pair has the field 'rejected' in at most "
                    f"{longest:,} tokens"
                )
                continue
            made_from["rejected"] = pairs_hash(path, "dpo")
        examples[language] = used
        hashes[language] = made_from
    skipped = {language: skipped[language] for language in languages if language in skipped}
    for language, reason in skipped.items():
        print(f"skipped {language}: {reason}")
    if not examples:
        raise InputError(
            f"{folder}: no language of {', '.join(languages)} can be used: "
            f"{next(iter(skipped.values()))}"
        )
    return examples, hashes
