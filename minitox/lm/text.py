"""Text to token ids and back: exactly one BOS, and chat formats written out by hand."""

import json
import re
from pathlib import Path

from tokenizers import Tokenizer as HuggingFaceTokenizer

from minitox.errors import InputError
from minitox.files import read_json
from minitox.lm.config import Config

# One turn in each chat format, up to where the reply begins. The BOS is part of the layout if the
# format has one. {system} is filled from the folder's template.
LLAMA3 = (
    "<|begin_of_text|>{system}"
    "<|start_header_id|>user<|end_header_id|>\n\n{prompt}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
LLAMA31_SYSTEM = (
    "<|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
)

CHATML = "{system}<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
CHATML_SYSTEM = "<|im_start|>system\n{}<|im_end|>\n"
NO_THINKING = "<think>\n\n</think>\n\n"  # Qwen3: reply without reasoning first

COMMAND = (
    "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>{prompt}<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
)

SPECIAL = re.compile(r"(<\|[^|<>]+\|>|<BOS_TOKEN>)")  # special tokens of all layouts
SYSTEM_TEXT = re.compile(r"<\|im_start\|>system(?:\n|\\n)([^'\"{}<]+)<\|im_end\|>")  # of a template


class Tokenizer:
    """The tokenizer of a model folder, with the model's chat format."""

    def __init__(self, folder: Path, config: Config):
        """Read tokenizer.json and the chat template of `folder`; InputError if they do not fit."""
        self.tokenizer = read_tokenizer(Path(folder) / "tokenizer.json", config.vocab_size)

        # special tokens, which detection does not pool
        added = self.tokenizer.get_added_tokens_decoder()
        self.bos_id = config.bos_token_id
        self.bos = [] if self.bos_id is None else [self.bos_id]
        self.special_ids = {token for token, content in added.items() if content.special}
        self.special_ids.update(self.bos, config.eos_token_ids)

        # the token that ends a reply, in the chat format or else in the model's config
        self.layout, self.end_of_turn = chat_layout(Path(folder))
        if self.end_of_turn:
            self.end_ids = self.token_ids(self.end_of_turn)
        else:
            self.end_ids = list(config.eos_token_ids[:1])
        self.stop_ids = {*config.eos_token_ids, *self.end_ids}

    def encode(self, text: str) -> list[int]:
        """Token ids of the text alone."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def sentence(self, text: str) -> list[int]:
        """Token ids of a sentence: one BOS, then the text.

        The BOS is added even if the model's own tokenizer adds none (Qwen, SmolLM2). The first
        token of a sequence, whatever it is, attracts attention and has very large activations, so
        it should not be a word of the sentence.
        """
        return self.bos + self.encode(text)

    def prompt(self, text: str) -> list[int]:
        """Token ids up to where the reply begins, in the model's chat format.

        A base model has no chat format and gets the text and a newline.
        """
        if self.layout is None:
            return self.sentence(text + "\n")
        if self.layout.startswith("<|begin_of_text|>"):
            text = text.strip()  # as Llama-3's template does
        before, after = self.layout.split("{prompt}")
        # encode the text together with the plain text before it, because a token may span both;
        # special tokens spelled out in the text are plain text
        pieces = SPECIAL.split(before)
        pieces[-1] += text
        return self.encode_pieces(pieces) + self.encode_pieces(SPECIAL.split(after))

    def reply(self, text: str) -> list[int]:
        """Token ids of a reply and of the token that ends it."""
        return self.encode(text) + self.end_ids

    def encode_pieces(self, pieces):
        """Token ids of a layout that was split at its special tokens, which are the odd pieces."""
        ids = []
        for i, piece in enumerate(pieces):
            ids += self.token_ids(piece) if i % 2 else self.encode(piece)
        return ids

    def token_ids(self, special: str) -> list[int]:
        """A special token's id, in a list; InputError if the tokenizer does not have the token."""
        token = self.tokenizer.token_to_id(special)
        if token is None:
            raise InputError(
                f"the chat template needs the token {special}, which tokenizer.json does not have"
            )
        return [token]


def read_tokenizer(path, vocab_size):
    """The tokenizer of a tokenizer.json; InputError if it is missing, broken or too large."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        tokenizer = HuggingFaceTokenizer.from_file(str(path))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the package raises nothing narrower, and Rust code may panic
        raise InputError(f"{path}: not a tokenizer ({error})") from None
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


def chat_layout(folder):
    """The layout of a turn in the folder's chat format, and the token that ends a reply.

    (None, None) for a base model, which has no template. InputError if the format is unknown.
    """
    template = chat_template(folder)
    if template is None:
        return None, None

    if "<|start_header_id|>" in template:
        # Llama-3.1 and later always have a system turn with these dates
        system = LLAMA31_SYSTEM if "Cutting Knowledge Date" in template else ""
        return LLAMA3.replace("{system}", system), "<|eot_id|>"

    if "<|im_start|>" in template:
        # the template's default system text, if it has one
        default = SYSTEM_TEXT.search(template)
        system = CHATML_SYSTEM.format(default[1]) if default else ""
        layout = CHATML.replace("{system}", system)
        if "enable_thinking" in template:
            layout += NO_THINKING
        return layout, "<|im_end|>"

    if "<|START_OF_TURN_TOKEN|>" in template:
        return COMMAND, "<|END_OF_TURN_TOKEN|>"

    raise InputError(
        f"{folder}: the chat template is not supported; "
        "minitox implements the formats Llama-3, ChatML and Command"
    )


def chat_template(folder):
    """The Jinja text of chat_template.jinja or, in older folders, of tokenizer_config.json."""
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8", errors="replace")
    path = folder / "tokenizer_config.json"
    if not path.exists():
        return None
    template = read_json(path).get("chat_template")
    if template is None or isinstance(template, str):
        return template
    return json.dumps(template)  # a list of named templates
