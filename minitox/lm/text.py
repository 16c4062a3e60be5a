"""Text to token ids and back: exactly one BOS, and no token of the layout from a user's text."""

import json
import os
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer as HuggingFaceTokenizer

from minitox.errors import InputError
from minitox.files import parse, read_bytes, read_json
from minitox.lm import chat
from minitox.lm.config import Config

BEFORE_REPLY = "\n"  # of a base model, which has no chat format
PART = 2**16  # characters that are tokenized at once; longer texts are split
NOT_USED = ("padding", "truncation")  # parts of tokenizer.json


class Tokenizer:
    """The tokenizer of a model folder, with the model's chat format."""

    def __init__(self, folder: Path, config: Config, layout: chat.Layout | None = None):
        """Read tokenizer.json and the chat template of `folder`; InputError if they do not fit.

        `layout` replaces the one that the template is recognised to have.
        """
        self.path = Path(folder) / "tokenizer.json"
        self.layout = layout or chat.read_layout(folder)
        self.checked = self.layout is None  # whether the layout is known to be the template's
        self.bos_id = config.bos_token_id
        self.bos = [] if self.bos_id is None else [self.bos_id]

        # tokens that no user text may become
        tokens = set() if self.layout is None else self.layout.tokens
        ids = {*self.bos, *config.eos_token_ids}
        self.tokenizer = read_tokenizer(self.path, config.vocab_size, tokens, ids)
        self.layout_ids = set().union(*map(self.token_ids, tokens))

        # special tokens, which detection does not pool
        added = self.tokenizer.get_added_tokens_decoder()
        self.special_ids = {token for token, content in added.items() if content.special}
        self.special_ids |= ids

        # the tokens that end a reply, in the chat format or else in the model's config
        if self.layout is None:
            self.end_ids = list(config.eos_token_ids[:1])
        else:
            self.end_ids = sum(map(self.token_ids, self.layout.end_of_turn), [])
        self.stop_ids = {*config.eos_token_ids, *self.end_ids}

    def encode(self, text: str, most: int | None = None) -> list[int]:
        """Token ids of the text alone.

        With `most`, a long text is read only until there are more than `most` tokens. InputError
        if the tokenizer fails, or makes a token of the layout out of the text.
        """
        ids = []
        with tokenizer_errors(self.path, "fails on a text"):
            for part in [text] if most is None else parts(text, PART):
                ids += self.tokenizer.encode(part, add_special_tokens=False).ids
                if most is not None and len(ids) > most:
                    break
        if not self.layout_ids.isdisjoint(ids):
            token = next(token for token in ids if token in self.layout_ids)
            name = self.tokenizer.id_to_token(token)
            raise InputError(
                f"{self.path}: makes the special token {name!r} out of the text {text[:40]!r}"
            )
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, without special tokens."""
        with tokenizer_errors(self.path, "fails on a reply"):
            return self.tokenizer.decode(ids, skip_special_tokens=True)

    def sentence(self, text: str, most: int | None = None) -> list[int]:
        """Token ids of a sentence: one BOS, then the text; `most` as in `encode`.

        The BOS is added even if the model's own tokenizer adds none (Qwen, SmolLM2). The first
        token of a sequence, whatever it is, attracts attention and has very large activations, so
        it should not be a word of the sentence.
        """
        return self.bos + self.encode(text, most)

    def prompt(self, text: str, most: int | None = None) -> list[int]:
        """Token ids up to where the reply begins, in the model's chat format.

        A base model has no chat format and gets the text and a newline. `most` as in `encode`.
        """
        if self.layout is None:
            return self.sentence(text + BEFORE_REPLY, most)
        ids = []
        for i, piece in enumerate(self.layout.prompt(text)):
            ids += self.token_ids(piece) if i % 2 else self.encode(piece, most)
        return ids

    def reply(self, text: str, most: int | None = None) -> list[int]:
        """Token ids of a reply and of the tokens that end it; `most` as in `encode`."""
        if self.layout is not None:
            text = self.layout.reply(text)
        return self.continuation(text, most) + self.end_ids

    def first_tokens(self, replies: Sequence[str]) -> list[int]:
        """The first token of each reply.

        ValueError if a reply has no token, or if two begin with the same one.
        """
        tokens = []
        for reply in replies:
            ids = self.reply(reply)
            tokens += ids[: len(ids) - len(self.end_ids)][:1]
        if len({*tokens}) < len(replies):
            raise ValueError(f"{', '.join(replies)} do not begin with different tokens")
        return tokens

    def continuation(self, text: str, most: int | None = None) -> list[int]:
        """Token ids of a text that continues a prompt; `most` as in `encode`.

        SentencePiece's tokenizers begin every text with a space, but a reply begins no text: it
        follows the last words of the chat format.
        """
        before = BEFORE_REPLY if self.layout is None else self.layout.last_text
        start = self.encode(before)
        ids = self.encode(before + text, None if most is None else most + len(start))
        # a token that spans both is none that the prompt could end with
        if ids[: len(start)] != start:
            return self.encode(text, most)
        return ids[len(start) :]

    def token_ids(self, special: str) -> list[int]:
        """A special token's id, in a list; InputError if the tokenizer does not have the token."""
        token = self.tokenizer.token_to_id(special)
        if token is None:
            raise InputError(
                f"the chat template needs the token {special}, which tokenizer.json does not have"
            )
        return [token]

    def check_template(self) -> None:
        """Compare texts and token ids with those of the folder's chat template.

        TemplateError if they differ. Without jinja2 nothing is compared, and `checked` stays False.
        """
        if self.layout is None:
            return
        theirs = chat.template_texts(self.layout.template)
        if theirs is None:
            return
        chat.check_texts(self.layout, theirs)
        for name, (user, reply) in chat.CONVERSATIONS.items():
            ours = self.prompt(user)
            expected = self.encode_as_is(theirs[name].rstrip("\n") if reply else theirs[name])
            if reply is not None:
                # nothing to compare if a token spans the end of the prompt and the reply
                if expected[: len(ours)] != ours:
                    continue
                ours += self.reply(reply)
            if ours != expected:
                raise chat.difference(name, str(ours), str(expected), "token ids")
        self.checked = True

    def encode_as_is(self, text: str) -> list[int]:
        """Token ids of a text in which special tokens are spelled out."""
        with tokenizer_errors(self.path, "fails on a text"):
            self.tokenizer.encode_special_tokens = False
            try:
                return self.tokenizer.encode(text, add_special_tokens=False).ids
            finally:
                self.tokenizer.encode_special_tokens = True


def parts(text: str, size: int) -> list[str]:
    """A text in parts of at most `size` characters, cut before a space where there is one."""
    cut = []
    start = 0
    while len(text) - start > size:
        space = text.rfind(" ", start + size // 2, start + size)
        end = start + size if space < 0 else space
        cut.append(text[start:end])
        start = end
    return [*cut, text[start:]]


# tokenizer.json


def read_tokenizer(path: Path, vocab_size: int, tokens=(), ids=()):
    """The tokenizer of a tokenizer.json; InputError if it is missing, broken or too large.

    Special tokens in a text are plain text. So are `tokens` and `ids`, whatever the file says.
    """
    # 1) make the tokens special, which keeps them out of texts
    content = read_bytes(path)
    data = parse(path, content)
    tokens = list(tokens)  # lists, since a field of a malformed file may not be hashable
    ids = list(ids)
    changed = False
    for token in added_tokens(data):
        is_control = token.get("content") in tokens or token.get("id") in ids
        if is_control and token.get("special") is not True:
            token["special"] = changed = True
    if changed:
        content = json.dumps(data).encode()

    # 2) the tokenizer, and whether the embedding has a row for each token
    with tokenizer_errors(path, "not a tokenizer"):
        tokenizer = HuggingFaceTokenizer.from_str(content.decode())
        largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= vocab_size:
        raise InputError(
            f"{path}: contains token id {largest}, but the model's embedding has {vocab_size} rows"
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # "<|im_end|>" in a user's text does not end the turn
    tokenizer.encode_special_tokens = True
    return tokenizer


def added_tokens(data: dict) -> list[dict]:
    """The entries of `added_tokens`; the package refuses malformed ones."""
    added = data.get("added_tokens")
    return [token for token in added if isinstance(token, dict)] if isinstance(added, list) else []


@contextmanager
def tokenizer_errors(path: Path, what: str):
    """Turn an error of the package tokenizers into an InputError.

    The package raises plain Exceptions. A panic of its Rust code, which raises a BaseException,
    also writes to the process's stderr; that is hidden.
    """
    try:
        with hidden_stderr():
            yield
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: {what} ({reason})") from None


@contextmanager
def hidden_stderr():
    """Discard what is written to the process's stderr, even by code that is not Python."""
    try:
        before = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def text_identity(folder: Path) -> str:
    """Everything in a folder that token ids and texts depend on, as JSON."""
    data = read_json(Path(folder) / "tokenizer.json")
    used = {key: value for key, value in data.items() if key not in NOT_USED}
    return json.dumps([used, chat.template_identity(folder)], sort_keys=True)
