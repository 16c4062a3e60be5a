"""Readers of the data folders, which have a file for each language.

A malformed row raises an InputError that names file, line and field. A file that is well-formed
but has too little in it raises UnusableLanguage, and the run continues without the language.
A row that repeats another is dropped and counted, so that it does not count twice as evidence.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from minitox.detect.controls import match_lengths
from minitox.errors import InputError, UnusableLanguage
from minitox.evaluate.mmlu import LETTERS
from minitox.files import file_hash, hash_without, is_kind, read_jsonl, text_field
from minitox.lm.text import PART
from minitox.train.pairs import Pair, PairChoice, Pairs
from minitox.train.split import in_random_order, split


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


def distinct(items: list) -> list:
    """The first of all equal items, in the same order."""
    return list(dict.fromkeys(items))


# ---------- detection/: {"text": str, "toxicity": 0..1}  [paper §3.1]


@dataclass
class Sentences:
    """N sentences of one language, as token ids."""

    ids: list[list[int]]  # each begins with the BOS, if the model has one
    toxic: np.ndarray  # (N,) bool
    lengths: np.ndarray  # (N,) tokens of text, without the BOS
    cut: int  # number of sentences that were too long
    data_hash: str  # of the file that the sentences came from
    dropped: dict[str, int]  # rows of the file that were not used, by reason


def read_detection(path: Path) -> list:
    """Text and toxicity of every row of a detection/ file."""
    rows = []
    for where, row in read_jsonl(path):
        text = text_field(where, row, "text")
        if "toxicity" not in row:
            raise InputError(f"{where}: field 'toxicity' is missing")
        toxicity = row["toxicity"]
        if not is_kind(toxicity, int | float) or not 0 <= toxicity <= 1:
            raise InputError(
                f"{where}: field 'toxicity' must be a number from 0 to 1, not {toxicity!r:.40}"
            )
        rows.append((text, float(toxicity)))
    return rows


def read_labelled(path: Path, toxic_above: float, clean_below: float) -> tuple[list, list, dict]:
    """Toxic and clean texts of a detection/ file, and how many rows were dropped, by reason.

    The rows between are in neither class.  [paper §3.1]
    """
    # 1) the two classes
    rows = read_detection(path)
    every_toxic = [text for text, toxicity in rows if toxicity > toxic_above]
    every_clean = [text for text, toxicity in rows if toxicity < clean_below]

    # 2) each text once; a text that is in both classes has no label that can be trusted
    both = {*every_toxic} & {*every_clean}
    toxic = [text for text in distinct(every_toxic) if text not in both]
    clean = [text for text in distinct(every_clean) if text not in both]
    contradictory = sum(text in both for text in every_toxic + every_clean)
    used = len(toxic) + len(clean)
    dropped = {
        "duplicate sentences": len(every_toxic) + len(every_clean) - contradictory - used,
        "sentences rated both toxic and clean": contradictory,
    }
    if not toxic:
        raise UnusableLanguage(f"{path}: no toxic sentence (toxicity > {toxic_above:g})")
    if not clean:
        raise UnusableLanguage(f"{path}: no clean sentence (toxicity < {clean_below:g})")
    return toxic, clean, dropped


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
    toxic_texts, clean_texts, dropped = read_labelled(path, toxic_above, clean_below)
    toxic_texts = sample(toxic_texts, most, rng)
    clean_texts = sample(clean_texts, most, rng)

    # 2) tokenize, toxic sentences first
    texts = toxic_texts + clean_texts
    read = [tokenizer.sentence(text, max_tokens) for text in texts]  # not cut yet
    toxic = np.arange(len(read)) < len(toxic_texts)  # (N,)
    start = 0 if tokenizer.bos_id is None else 1  # index of the text's first token
    longest = start + max_tokens
    ids = [sentence[:longest] for sentence in read]
    lengths = np.array([len(sentence) - start for sentence in ids])  # (N,)
    empty = sum(set(sentence[start:]) <= tokenizer.special_ids for sentence in ids)
    if empty:
        raise InputError(
            f"{path}: the tokenizer makes no token, or only special ones, of {empty} sentences"
        )

    # 3) optionally leave out sentences, so that both classes have the same lengths
    keep = np.arange(len(ids))
    if match_length:
        keep = np.flatnonzero(match_lengths(lengths, toxic, rng))
    if not keep.size:
        raise UnusableLanguage(
            f"{path}: no toxic and clean sentences have the same length; leave out --match-length"
        )
    cut = sum(len(read[i]) > longest for i in keep)
    ids = [ids[i] for i in keep]
    return Sentences(ids, toxic[keep], lengths[keep], cut, file_hash(path), dropped)


def read_clean_sentences(path: Path, most: int, rng) -> tuple[list[str], int]:
    """At most `most` clean sentences of a detection/ file, for perplexity; number of duplicates."""
    every = [text for text, toxicity in read_detection(path) if toxicity < 0.2]  # [paper §3.1]
    clean = distinct(every)
    if not clean:
        raise UnusableLanguage(f"{path}: no clean sentence")
    return sample(clean, most, rng), len(every) - len(clean)


# ---------- instructions/: {"prompt": str, "response": str}  [paper §3.2]
#            + "rejected": str, where a reply is known that the model should not give
#            + "id", which the translations of a prompt share


def read_all_pairs(
    path: Path, tokenizer, most: int | None = None, objective: str = "sft"
) -> tuple[list[Pair], int]:
    """Every distinct pair of an instructions/ file, as token ids, and the number of duplicates.

    A pair has the rejected reply of its row, if there is one, cut at `most` tokens; to DPO, pairs
    with other rejected replies are no duplicates. It has the ids of all rows with its prompt. A
    text of more than `most` tokens may be incomplete.
    """
    if not tokenizer.end_ids:
        raise InputError(
            f"{path}: cannot train on replies, because config.json has no eos_token_id to end them"
        )
    pairs = {}
    names = defaultdict(set)  # by prompt
    rows = 0
    for where, row in read_jsonl(path):
        rows += 1
        texts = (text_field(where, row, "prompt"), text_field(where, row, "response"))
        rejected = text_field(where, row, "rejected") if "rejected" in row else None
        if (name := id_of(row)) is not None:
            names[texts[0]].add(name)
        key = texts if objective == "sft" else (*texts, rejected)
        if key in pairs:
            continue
        if objective == "dpo" and rejected == texts[1]:
            raise InputError(f"{where}: fields 'response' and 'rejected' are equal; change one")
        if rejected is not None:
            rejected = first_tokens(make_pair(tokenizer, where, texts[0], rejected, most), most)
        pairs[key] = make_pair(tokenizer, where, *texts, most, rejected)
    distinct_pairs = []
    for (prompt, *_), pair in pairs.items():
        distinct_pairs.append(replace(pair, names=frozenset(names[prompt])))
    return distinct_pairs, rows - len(pairs)


def make_pair(
    tokenizer, where: str, prompt: str, reply: str, most: int | None, rejected: Pair | None = None
) -> Pair:
    """A prompt with a reply, as token ids. InputError if the prompt has no token."""
    prompt_ids = tokenizer.prompt(prompt, most)
    if not prompt_ids:
        raise InputError(f"{where}: the tokenizer makes no token of the prompt")
    ids = prompt_ids + tokenizer.reply(reply, most)
    # reading ends early only in a text of several parts that has more than `most` tokens
    is_whole = most is None or len(ids) <= most or max(len(prompt), len(reply)) <= PART
    return Pair(ids, len(prompt_ids), where, is_whole, rejected)


def first_tokens(pair: Pair, most: int | None) -> Pair:
    """The first `most` tokens of a pair (None: all), perhaps without the token that ends it."""
    if most is None or len(pair.ids) <= most:
        return pair
    return replace(pair, ids=pair.ids[:most], is_whole=False)


def read_pairs(
    folder: Path, languages, tokenizer, choice: PairChoice
) -> tuple[dict[str, Pairs], dict[str, str]]:
    """The pairs of each language to train on, for validation and for test; why others are skipped.

    Translations, which have the same id, are in the same part in all of these languages, or left
    out (`train.split.split`). The split of a file without ids does not depend on other languages.
    """
    # 1) the pairs that can be used
    read = partial(read_usable_pairs, tokenizer=tokenizer, choice=choice)
    contents, skipped = read_languages(folder, languages, choice.seed, read)

    # 2) the first ones are for validation and test, the others for training
    every = {language: pairs.train for language, pairs in contents.items()}
    counts = {}
    for language, pairs in every.items():
        counts[language] = round(choice.validation_share * min(len(pairs), choice.pairs))
    usable = {}
    for language, parts in split(every, counts).items():
        if not parts["train"]:
            skipped[language] = why_none_left(folder / f"{language}.jsonl", parts)
            continue
        usable[language] = replace(
            contents[language],
            train=parts["train"][: choice.pairs],
            validation=parts["validation"],
            test=parts["test"],
            translated=len(parts["left out"]),
        )
    return usable, skipped


def why_none_left(path: Path, parts: dict[str, list[Pair]]) -> str:
    """Why a language has no pair to train on, where `split` has left it none."""
    also = ", or are translations of such pairs" if parts["left out"] else ""
    return (
        f"{path}: all pairs are used for validation and test{also}; "
        "choose a lower --validation-share"
    )


def read_usable_pairs(path: Path, tokenizer, choice: PairChoice, rng) -> Pairs:
    """The pairs of an instructions/ file in a random order, all of them to train on."""
    # 1) for DPO, drop pairs without a rejected reply; otherwise no such reply is used
    every, duplicates = read_all_pairs(path, tokenizer, choice.max_tokens, choice.objective)
    usable = [replace(pair, rejected=None) for pair in every]
    if choice.objective == "dpo":
        usable = [pair for pair in every if pair.rejected is not None]
    if every and not usable:
        raise UnusableLanguage(f"{path}: no pair has the field 'rejected', which DPO needs")

    # 2) drop long pairs: a cut pair would lose the token that ends its reply, and the model would
    #    learn not to stop; a rejected reply is only cut
    dropped = [pair for pair in usable if len(pair.ids) > choice.max_tokens]
    fitting = [pair for pair in usable if len(pair.ids) <= choice.max_tokens]
    if not fitting:
        raise UnusableLanguage(f"{path}: no pair of at most {choice.max_tokens} tokens")
    return Pairs(
        in_random_order(fitting, choice.seed, rng),
        [],
        [],
        len(dropped),
        sum(len(pair.ids) for pair in dropped),
        pairs_hash(path, choice.objective),
        all(pair.is_whole for pair in dropped),
        duplicates,
        len(every) - len(usable),
        sum(pair.rejected is not None and not pair.rejected.is_whole for pair in fitting),
        has_ids=any(pair.names for pair in fitting),
    )


def with_rejected(path: Path, tokenizer, most: int, pairs: list[Pair]) -> list[Pair]:
    """Those of the pairs of an instructions/ file that have a rejected reply there, with it.

    Rejected replies that have more than `most` tokens, with their prompts, are left out.
    """
    every, _ = read_all_pairs(path, tokenizer, most)
    known = {}
    for pair in every:
        if pair.rejected is not None and pair.rejected.is_whole:
            known[pair.where] = pair
    return [known[pair.where] for pair in pairs if pair.where in known]


def pairs_hash(path: Path, objective: str = "sft") -> str:
    """The hash of an instructions/ file, without rejected replies if the objective ignores them."""
    return file_hash(path) if objective == "dpo" else hash_without(path, "rejected")


def read_human_replies(path: Path, most: int | None, rng) -> list[str]:
    """At most `most` distinct replies (None: all) of an instructions/ file."""
    replies = distinct([text_field(where, row, "response") for where, row in read_jsonl(path)])
    if not replies:
        raise UnusableLanguage(f"{path}: no pair")
    return sample(replies, most, rng)


# ---------- prompts/: {"prompt": str}, perhaps with an "id"  [paper §4.2]


def read_prompts(path: Path, most: int | None, rng) -> tuple[dict[int, str], int]:
    """At most `most` prompts of a prompts/ file (None: all), by line number; number of duplicates.

    The number of a prompt that occurs several times is that of its first line. InputError if two
    prompts have one id, which only translations may share.
    """
    rows = 0
    lines = {}  # {prompt: its first line}
    with_id = {}  # {id: the prompt that has it}
    for rows, (where, row) in enumerate(read_jsonl(path), 1):
        prompt = text_field(where, row, "prompt")
        lines.setdefault(prompt, rows)
        name = id_of(row)
        if name is not None and with_id.setdefault(name, prompt) != prompt:
            raise InputError(
                f"{where}: another prompt has the id {name!r:.40} too, which only translations may "
                "share; give each an id of its own, or leave the field out"
            )
    if not lines:
        raise UnusableLanguage(f"{path}: no prompt")
    prompts = [(number, prompt) for prompt, number in lines.items()]
    return dict(sample(prompts, most, rng)), rows - len(prompts)


def read_ids(path: Path) -> dict[int, str]:
    """The ids of the prompts of a prompts/ file that have one, by line number."""
    rows = enumerate(read_jsonl(path), 1)
    ids = {number: id_of(row) for number, (_, row) in rows}
    return {number: name for number, name in ids.items() if name is not None}


def id_of(row: dict) -> str | None:
    """The id of a row, which the translations of a prompt share, or None."""
    name = row.get("id")
    return None if name is None else str(name)


# ---------- mmlu/: {"question": str, "choices": [4 str], "answer": "A".."D"}  [paper §5.2]


def read_questions(path: Path) -> tuple[list[dict], int]:
    """Every distinct question of an mmlu/ file, and the number of duplicates.

    A question has the fields question, choices and answer. InputError if an equal question has
    another answer.
    """
    questions = {}
    rows = 0
    for where, row in read_jsonl(path):
        rows += 1
        choices = row.get("choices")
        if not isinstance(choices, list) or len(choices) != len(LETTERS):
            raise InputError(f"{where}: field 'choices' must be a list of {len(LETTERS)} texts")
        choices = [text_field(where, {"choices": choice}, "choices") for choice in choices]
        answer = row.get("answer")
        if answer not in tuple(LETTERS):
            raise InputError(
                f"{where}: field 'answer' must be one of {', '.join(LETTERS)}, not {answer!r:.40}"
            )
        text = text_field(where, row, "question")
        question = {"question": text, "choices": choices, "answer": answer}
        first = questions.setdefault((text, *choices), question)
        if first["answer"] != answer:
            raise InputError(
                f"{where}: an equal question above has the answer {first['answer']}, "
                f"this one has {answer}; delete the wrong one"
            )
    if not questions:
        raise UnusableLanguage(f"{path}: no question")
    return list(questions.values()), rows - len(questions)


# ---------- hatecheck/: {"text": str, "hateful": bool}, to measure scorers with


def read_cases(path: Path, most: int, rng) -> tuple[list[tuple[str, bool]], int]:
    """At most `most` hateful and `most` harmless cases of a hatecheck/ file; number of duplicates.

    A case is a text and whether it is hateful. InputError if an equal text is in both classes.
    """
    # 1) each text once
    hateful = {}  # text -> whether it is hateful
    rows = 0
    for where, row in read_jsonl(path):
        rows += 1
        text = text_field(where, row, "text")
        label = row.get("hateful")
        if not isinstance(label, bool):
            raise InputError(f"{where}: field 'hateful' must be true or false")
        if hateful.setdefault(text, label) != label:
            raise InputError(
                f"{where}: an equal text above has another label; delete the wrong one"
            )

    # 2) draw from each class, the hateful cases first
    drawn = []
    for label, name in ((True, "hateful"), (False, "harmless")):
        of_class = [case for case in hateful.items() if case[1] == label]
        if not of_class:
            raise UnusableLanguage(f"{path}: no {name} case")
        drawn += sample(of_class, most, rng)
    return drawn, rows - len(hateful)


# ---------- xstest/: {"prompt": str, "label": "safe" or "unsafe"}


def read_xstest(path: Path) -> tuple[dict[int, tuple[str, bool]], int]:
    """Every distinct prompt of an xstest/ file by line number, and the number of duplicates.

    A prompt is a text and whether it is safe to answer. InputError if an equal text has another
    label.
    """
    # 1) each text once
    lines = {}  # text -> line number, and whether it is safe
    rows = 0
    for where, row in read_jsonl(path):
        rows += 1
        text = text_field(where, row, "prompt")
        label = row.get("label")
        if label not in ("safe", "unsafe"):
            raise InputError(f"{where}: field 'label' must be safe or unsafe, not {label!r:.40}")
        safe = label == "safe"
        _, known = lines.setdefault(text, (rows, safe))
        if known != safe:
            raise InputError(
                f"{where}: an equal prompt above has another label; delete the wrong one"
            )

    # 2) a share of each class is shown
    prompts = {number: (text, safe) for text, (number, safe) in lines.items()}
    for wanted, name in ((True, "safe"), (False, "unsafe")):
        if not any(safe == wanted for _, safe in prompts.values()):
            raise UnusableLanguage(f"{path}: no {name} prompt")
    return prompts, rows - len(prompts)
