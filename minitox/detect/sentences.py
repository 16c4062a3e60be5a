"""The labelled sentences of a language: which are toxic, which are clean, and their token ids."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minitox.detect.controls import match_lengths
from minitox.errors import InputError, UnusableLanguage
from minitox.files import file_hash, read_detection
from minitox.lm.text import Tokenizer


@dataclass
class Sentences:
    """N sentences of one language, ready for the model."""

    ids: list[list[int]]  # each with its BOS
    toxic: np.ndarray  # (N,) bool
    lengths: np.ndarray  # (N,) tokens of text, the BOS not counted
    cut: int  # how many were longer than --max-tokens
    data_hash: str


def read_labelled(
    path: Path, toxic_above: float, clean_below: float
) -> tuple[list[str], list[str]]:
    """Toxic and clean texts of a detection/ file; those between are left out.  [paper §3.1]

    InputError names file, line and field of the first row that is malformed.
    """
    rows = read_detection(path)
    toxic, clean = (
        [text for text, score in rows if score > toxic_above],
        [text for text, score in rows if score < clean_below],
    )
    for texts, name, rule in (
        (toxic, "toxic", f"toxicity > {toxic_above:g}"),
        (clean, "clean", f"toxicity < {clean_below:g}"),
    ):
        if not texts:
            raise UnusableLanguage(f"{path}: no {name} sentence ({rule})")
    return toxic, clean


def prepare(path: Path, tokenizer: Tokenizer, args, rng) -> Sentences:
    """Read, sample, tokenize and cut a language's sentences as the command line asks."""
    groups = []
    for texts in read_labelled(path, args.toxic_above, args.clean_below):
        chosen = np.sort(rng.permutation(len(texts))[: args.sentences])
        groups.append([texts[i] for i in chosen])
    ids = [tokenizer.sentence(text) for group in groups for text in group]
    toxic = np.repeat([True, False], [len(group) for group in groups])
    start = 0 if tokenizer.bos_id is None else 1
    longest = start + args.max_tokens
    lengths = np.array([min(len(sentence), longest) - start for sentence in ids])
    if empty := sum(not set(sentence[start:longest]) - tokenizer.special_ids for sentence in ids):
        raise InputError(
            f"{path}: the tokenizer makes no token, or special ones alone, of {empty} of the sentences"
        )
    keep = (
        np.flatnonzero(match_lengths(lengths, toxic, rng))
        if args.match_length
        else np.arange(len(ids))
    )
    if not len(keep):
        raise UnusableLanguage(
            f"{path}: no toxic and clean sentences of equal length to match; leave out --match-length"
        )
    cut = sum(len(ids[i]) > longest for i in keep)
    return Sentences(
        [ids[i][:longest] for i in keep], toxic[keep], lengths[keep], cut, file_hash(path)
    )
