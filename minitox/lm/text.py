"""Text to token ids and back: one BOS, chat formats written out by hand, and batches that waste little on padding."""

import json
import re
from pathlib import Path

from tokenizers import Tokenizer as HuggingFaceTokenizer

from minitox.errors import InputError
from minitox.files import read_json
from minitox.lm.config import Config

# One turn of each family: what comes before the reply, and the token that ends it. The BOS is part of the layout where
# the family writes one. {system} is filled from the folder's own template.
LLAMA3 = (
    "<|begin_of_text|>{system}<|start_header_id|>user<|end_header_id|>\n\n{prompt}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "<|eot_id|>",
)
LLAMA31_SYSTEM = (
    "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\n<|eot_id|>"
)
CHATML = "{system}<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"
CHATML_SYSTEM = "<|im_start|>system\n{}<|im_end|>\n"
NO_THINKING = "<think>\n\n</think>\n\n"  # Qwen3: reply at once
COMMAND = (
    "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>{prompt}<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
)
SPECIAL = re.compile(r"(<\|[^|<>]+\|>|<BOS_TOKEN>)")


class Tokenizer:
    """The tokenizer of a model folder."""

    def __init__(self, folder: Path, config: Config):
        """Read `folder`/tokenizer.json; InputError if it is broken or larger than the model's embedding."""
        path = Path(folder) / "tokenizer.json"
        if not path.exists():
            raise InputError(f"{path}: no such file")
        try:
            self.tokenizer = HuggingFaceTokenizer.from_file(str(path))
        except (
            BaseException
        ) as error:  # tokenizers raises nothing narrower, and its Rust code may panic
            if isinstance(error, KeyboardInterrupt):
                raise
            raise InputError(f"{path}: not a tokenizer ({error})") from None
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.tokenizer.encode_special_tokens = (
            True  # "<|im_end|>" inside a user's text is text, not the end of a turn
        )
        largest = max(self.tokenizer.get_vocab().values(), default=-1)
        if largest >= config.vocab_size:
            raise InputError(
                f"{path}: holds token id {largest}, but the model's embedding has {config.vocab_size} rows"
            )
        added = self.tokenizer.get_added_tokens_decoder()
        self.special_ids = {token for token, content in added.items() if content.special}
        self.bos_id = config.bos_token_id
        self.special_ids |= {
            token for token in (self.bos_id, *config.eos_token_ids) if token is not None
        }
        self.layout, self.end_of_turn = chat_layout(Path(folder))
        self.end_ids = (
            self.token_ids(self.end_of_turn) if self.end_of_turn else list(config.eos_token_ids[:1])
        )
        self.stop_ids = {*config.eos_token_ids, *self.end_ids}

    def encode(self, text: str) -> list[int]:
        """Token ids of the text alone."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def sentence(self, text: str) -> list[int]:
        """Token ids of a sentence: one BOS, then the text.

        The BOS is config.json's, also where the tokenizer adds none (Qwen, SmolLM2): the first token draws attention and
        huge activations whatever it is, and that had better not be a word of the sentence.
        """
        return ([] if self.bos_id is None else [self.bos_id]) + self.encode(text)

    def prompt(self, text: str) -> list[int]:
        """Token ids up to where the reply begins, in the model's chat format; a base model gets the text and a newline."""
        if self.layout is None:
            return self.sentence(text + "\n")
        before, after = self.layout.split("{prompt}")
        text = (
            text.strip() if self.layout.startswith("<|begin_of_text|>") else text
        )  # Llama-3's template strips
        pieces = SPECIAL.split(before)
        pieces[-1] += text  # the tokenizer may join what stands before the text with the text
        return self.fill(pieces) + self.fill(SPECIAL.split(after))

    def reply(self, text: str) -> list[int]:
        """Token ids of a reply and of the token that ends it."""
        return self.encode(text) + self.end_ids

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def fill(self, pieces: list[str]) -> list[int]:
        """Token ids of a layout that was split at its special tokens (the odd pieces)."""
        return [
            token
            for i, piece in enumerate(pieces)
            for token in (self.token_ids(piece) if i % 2 else self.encode(piece))
        ]

    def token_ids(self, special: str) -> list[int]:
        token = self.tokenizer.token_to_id(special)
        if token is None:
            raise InputError(
                f"the chat template needs the token {special}, which tokenizer.json does not have"
            )
        return [token]


def chat_layout(folder: Path) -> tuple[str | None, str | None]:
    """The chat format that a folder's template asks for; (None, None) for a base model, which ships no template."""
    template = chat_template(folder)
    if template is None:
        return None, None
    if "<|start_header_id|>" in template:
        layout, end = LLAMA3
        return layout.replace(
            "{system}", LLAMA31_SYSTEM if "Cutting Knowledge Date" in template else ""
        ), end
    if "<|im_start|>" in template:
        layout, end = CHATML
        default = re.search(r"<\|im_start\|>system(?:\n|\\n)([^'\"{}<]+)<\|im_end\|>", template)
        layout = layout.replace("{system}", CHATML_SYSTEM.format(default[1]) if default else "")
        return layout + (NO_THINKING if "enable_thinking" in template else ""), end
    if "<|START_OF_TURN_TOKEN|>" in template:
        return COMMAND
    raise InputError(
        f"{folder}: its chat template is none of Llama-3, ChatML and Command, the formats that minitox writes"
    )


def chat_template(folder: Path) -> str | None:
    """The Jinja text, from chat_template.jinja or, in older folders, from tokenizer_config.json."""
    if (folder / "chat_template.jinja").exists():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8", errors="replace")
    if not (folder / "tokenizer_config.json").exists():
        return None
    template = read_json(folder / "tokenizer_config.json").get("chat_template")
    return (
        template if template is None or isinstance(template, str) else json.dumps(template)
    )  # a list of named ones
