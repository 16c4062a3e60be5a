"""Prompts and polite replies of a language, tokenized: what is trained on, and what is kept aside to measure the loss on."""

from dataclasses import dataclass
from pathlib import Path

from minitox.errors import InputError, UnusableLanguage
from minitox.files import file_hash, read_jsonl, text_field
from minitox.lm.text import Tokenizer


@dataclass(frozen=True)
class Pair:
    """One prompt with its reply, in the model's chat format."""

    ids: list[int]  # the prompt, the reply, and the token that ends it
    start: int  # index of the reply's first token
    where: str  # file:line

    @property
    def reply_tokens(self) -> int:
        return len(self.ids) - self.start


@dataclass
class Pairs:
    """The pairs of one language."""

    train: list[Pair]
    unseen: list[Pair]  # no prompt of these is among the trained ones
    dropped: int  # pairs longer than --max-tokens
    dropped_tokens: int
    data_hash: str


def read_pairs(path: Path, tokenizer: Tokenizer) -> list[Pair]:
    """Every pair of an instructions/ file: {"prompt": str, "response": str} a line.  [paper §3.2]

    InputError names file, line and field of the first row that is malformed.
    """
    if not tokenizer.end_ids:
        raise InputError(
            f"{path}: config.json names no eos_token_id, so that replies trained on would have no end"
        )
    pairs = []
    for where, row in read_jsonl(path):
        prompt = tokenizer.prompt(text_field(where, row, "prompt"))
        reply = tokenizer.reply(text_field(where, row, "response"))
        pairs.append(Pair(prompt + reply, len(prompt), where))
    return pairs


def prepare(path: Path, tokenizer: Tokenizer, args, rng) -> Pairs:
    """Read, tokenize and divide a language's pairs as the command line asks."""
    pairs = read_pairs(path, tokenizer)
    # cutting a pair would cut off the token that ends the reply, and teach the model not to stop
    dropped = [pair for pair in pairs if len(pair.ids) > args.max_tokens]
    pairs = [pair for pair in pairs if len(pair.ids) <= args.max_tokens]
    if not pairs:
        raise UnusableLanguage(f"{path}: no pair of at most {args.max_tokens} tokens")
    order = [pairs[i] for i in rng.permutation(len(pairs))]
    aside = {prompt_of(pair) for pair in order[: round(args.unseen * min(len(order), args.pairs))]}
    unseen = [pair for pair in order if prompt_of(pair) in aside]
    train = [pair for pair in order if prompt_of(pair) not in aside][: args.pairs]
    if not train:
        raise UnusableLanguage(f"{path}: no pair is left to train on; --unseen takes them all")
    return Pairs(
        train, unseen, len(dropped), sum(len(pair.ids) for pair in dropped), file_hash(path)
    )


def prompt_of(pair: Pair) -> tuple[int, ...]:
    return tuple(pair.ids[: pair.start])
