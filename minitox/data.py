"""Readers of the data folders: detection/, instructions/, prompts/ and mmlu/, a file a language.

A malformed row raises an InputError that names file, line and field. A file that is well-formed
but has too little in it raises UnusableLanguage, and the run continues without the language.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minitox.detect.controls import match_lengths
from minitox.errors import InputError, UnusableLanguage
from minitox.evaluate.mmlu import LETTERS
from minitox.files import file_hash, is_kind, read_jsonl, text_field
from minitox.lm.text import PART
from minitox.train.pairs import Pair, Pairs


def language_rng(seed: int, language: str):
    """Random numbers for one language, which do not depend on the languages beside it."""
    return np.random.default_rng([seed, *language.encode()])


def sample(items: list, most: int | None, rng) -> list:
    """At most `most` items (None: all), drawn at random and returned in their original order."""
    return [items[i] for i in sorted(rng.permutation(len(items))[:most])]


def read_languages(folder: Path, languages, seed: int, read) -> tuple[dict, dict]:
    """`read(path, rng=...)` of each language that has a usable file, and why others are skipped."""
    contents = {}
    skipped = {}
    for language in languages:
        path = folder / f"{language}.jsonl"
        try:
            contents[language] = read(path, rng=language_rng(seed, language))
        except FileNotFoundError:
            skipped[language] = f"{path} does not exist"
        except UnusableLanguage as reason:
            skipped[language] = str(reason)
    return contents, skipped


# ---------- detection/: {"text": str, "toxicity": 0..1}  [paper §3.1]


@dataclass
class Sentences:
    """N sentences of one language, as token ids."""

    ids: list[list[int]]  # each begins with the BOS, if the model has one
    toxic: np.ndarray  # (N,) bool
    lengths: np.ndarray  # (N,) tokens of text, without the BOS
    cut: int  # number of sentences that were too long
    data_hash: str  # of the file that the sentences came from


def read_detection(path: Path) -> list:
    """Text and toxicity of every row of a detection/ file."""
    rows = []
    for where, row in read_jsonl(path):
        text = text_field(where, row, "text")
        if "toxicity" not in row:
            raise InputError(f"{where}: field 'toxicity' is missing")
        toxicity = row["toxicity"]
        # NaN is not between 0 and 1 either
        if not is_kind(toxicity, int | float) or not 0 <= toxicity <= 1:
            raise InputError(
                f"{where}: field 'toxicity' must be a number from 0 to 1, not {toxicity!r:.40}"
            )
        rows.append((text, float(toxicity)))
    return rows


def read_labelled(path: Path, toxic_above: float, clean_below: float) -> tuple[list, list]:
    """Toxic and clean texts of a detection/ file, without the rows between.  [paper §3.1]"""
    rows = read_detection(path)
    toxic = [text for text, toxicity in rows if toxicity > toxic_above]
    clean = [text for text, toxicity in rows if toxicity < clean_below]
    if not toxic:
        raise UnusableLanguage(f"{path}: no toxic sentence (toxicity > {toxic_above:g})")
    if not clean:
        raise UnusableLanguage(f"{path}: no clean sentence (toxicity < {clean_below:g})")
    return toxic, clean


def read_sentences(
    path: Path,
    tokenizer,
    *,
    most: int,
    max_tokens: int,
    toxic_above: float,
    clean_below: float,
    match_length: bool,
    rng,
) -> Sentences:
    """At most `most` toxic and `most` clean sentences of a detection/ file, as token ids.

    A text of more than `max_tokens` tokens is cut. With `match_length` there are as many toxic as
    clean sentences of every length.
    """
    # 1) draw sentences of each class
    classes = read_labelled(path, toxic_above, clean_below)
    toxic_texts, clean_texts = [sample(texts, most, rng) for texts in classes]

    # 2) tokenize, toxic sentences first
    texts = toxic_texts + clean_texts
    whole = [tokenizer.sentence(text, max_tokens) for text in texts]  # or longer than that
    toxic = np.arange(len(whole)) < len(toxic_texts)  # (N,)
    start = 0 if tokenizer.bos_id is None else 1  # index of the text's first token
    longest = start + max_tokens
    ids = [sentence[:longest] for sentence in whole]
    lengths = np.array([len(sentence) - start for sentence in ids])  # (N,)
    empty = sum(set(sentence[start:]) <= tokenizer.special_ids for sentence in ids)
    if empty:
        raise InputError(
            f"{path}: the tokenizer makes no token, or special ones alone, "
            f"of {empty} of the sentences"
        )

    # 3) optionally leave out sentences, so that both classes have the same lengths
    keep = np.arange(len(ids))
    if match_length:
        keep = np.flatnonzero(match_lengths(lengths, toxic, rng))
    if not keep.size:
        raise UnusableLanguage(
            f"{path}: no toxic and clean sentences have the same length; leave out --match-length"
        )
    cut = sum(len(whole[i]) > longest for i in keep)
    ids = [ids[i] for i in keep]
    return Sentences(ids, toxic[keep], lengths[keep], cut, file_hash(path))


def read_clean_sentences(path: Path, most: int, rng) -> list[str]:
    """At most `most` clean sentences of a detection/ file, for perplexity."""
    clean = [text for text, toxicity in read_detection(path) if toxicity < 0.2]  # [paper §3.1]
    if not clean:
        raise UnusableLanguage(f"{path}: no clean sentence")
    return sample(clean, most, rng)


# ---------- instructions/: {"prompt": str, "response": str}  [paper §3.2]


def read_all_pairs(path: Path, tokenizer, most: int | None = None) -> list[Pair]:
    """Every pair of an instructions/ file, as token ids; of more than `most`, perhaps not all."""
    if not tokenizer.end_ids:
        raise InputError(
            f"{path}: cannot train on replies, because config.json has no eos_token_id to end them"
        )
    pairs = []
    for where, row in read_jsonl(path):
        texts = [text_field(where, row, field) for field in ("prompt", "response")]
        prompt = tokenizer.prompt(texts[0], most)
        reply = tokenizer.reply(texts[1], most)
        if not prompt:
            raise InputError(f"{where}: the tokenizer makes no token of the prompt")
        is_whole = most is None or max(map(len, texts)) <= PART
        pairs.append(Pair(prompt + reply, len(prompt), where, is_whole))
    return pairs


def read_pairs(
    path: Path,
    tokenizer,
    *,
    most: int,
    max_tokens: int,
    validation_share: float,
    rng,
) -> Pairs:
    """At most `most` pairs of an instructions/ file to train on, and a share for validation."""
    # 1) drop long pairs: a cut pair would lose the token that ends its reply, and the model would
    #    learn not to stop
    every = read_all_pairs(path, tokenizer, max_tokens)
    dropped = [pair for pair in every if len(pair.ids) > max_tokens]
    fitting = [pair for pair in every if len(pair.ids) <= max_tokens]
    if not fitting:
        raise UnusableLanguage(f"{path}: no pair of at most {max_tokens} tokens")

    # 2) choose validation prompts; a prompt may occur in several pairs, which go together
    order = [fitting[i] for i in rng.permutation(len(fitting))]
    count = round(validation_share * min(len(order), most))
    validation_prompts = {pair.prompt_ids for pair in order[:count]}
    validation = [pair for pair in order if pair.prompt_ids in validation_prompts]

    # 3) train on the others
    train = [pair for pair in order if pair.prompt_ids not in validation_prompts][:most]
    if not train:
        raise UnusableLanguage(
            f"{path}: all pairs are used for validation; choose a lower --validation-share"
        )
    dropped_tokens = sum(len(pair.ids) for pair in dropped)
    are_whole = all(pair.is_whole for pair in dropped)
    return Pairs(train, validation, len(dropped), dropped_tokens, file_hash(path), are_whole)


# ---------- prompts/: {"prompt": str}  [paper §4.2]


def read_prompts(path: Path, most: int | None, rng) -> dict[int, str]:
    """At most `most` prompts of a prompts/ file (None: all), by line number."""
    prompts = [text_field(where, row, "prompt") for where, row in read_jsonl(path)]
    if not prompts:
        raise UnusableLanguage(f"{path}: no prompt")
    return dict(sample(list(enumerate(prompts, 1)), most, rng))


# ---------- mmlu/: {"question": str, "choices": [4 str], "answer": "A".."D"}  [paper §5.2]


def read_questions(path: Path) -> list[dict]:
    """Every question of an mmlu/ file, with the fields question, choices and answer."""
    questions = []
    for where, row in read_jsonl(path):
        choices = row.get("choices")
        if not isinstance(choices, list) or len(choices) != len(LETTERS):
            raise InputError(f"{where}: field 'choices' must be a list of {len(LETTERS)} texts")
        choices = [text_field(where, {"choices": choice}, "choices") for choice in choices]
        answer = row.get("answer")
        if answer not in tuple(LETTERS):
            raise InputError(
                f"{where}: field 'answer' must be one of {', '.join(LETTERS)}, not {answer!r:.40}"
            )
        question = text_field(where, row, "question")
        questions.append({"question": question, "choices": choices, "answer": answer})
    if not questions:
        raise UnusableLanguage(f"{path}: no question")
    return questions
