"""Chat formats, written out by hand, and the check against the model folder's own template.

minitox writes one turn: the user's text, and the reply of the model. Texts and token ids are made
from the same pieces, so the text that is compared with the template is the text that models read.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from minitox.errors import InputError
from minitox.files import read_bytes, read_json

# One turn in each chat format, up to where the reply begins; {system} comes from the template
LLAMA3 = (
    "{system}<|start_header_id|>user<|end_header_id|>\n\n{prompt}<|eot_id|>"
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
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{prompt}<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
)
EMPTY_SYSTEM = "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|><|END_OF_TURN_TOKEN|>"  # Command-R7B
START_RESPONSE = "<|START_RESPONSE|>"  # Command-R7B and Tiny Aya: reply without an action first

MISTRAL = "[INST]{space}{prompt}[/INST]"  # with a space or without one

# tokens of all layouts, except the BOS and Mistral's EOS
TOKEN = re.compile(r"(<\|[^|<>]+\|>|</?think>|\[/?INST\])")
# the default system text of a template, which may have an apostrophe in a word
SYSTEM_TEXT = re.compile(
    r"<\|im_start\|>system(?:\n|\\n)((?:[^'\"{}<]|(?<=\w)\\?'(?=\w))+)<\|im_end\|>"
)
WRITES_BOS = re.compile(r"\{\{-?\s*bos_token\b")
# how Mistral's templates write a reply: after a space, stripped
SPACE_BEFORE_REPLY = re.compile(r"(['\"]) \1 *\+ *message")
STRIPPED_REPLY = re.compile(r"message(\.content|\[['\"]content['\"]\]) *\| *trim")

MOST_CHARACTERS = 2**18  # of a template; published ones have up to 20,000
MOST_SECONDS = 15  # to render it

# Conversations on which minitox's text is compared with the template's: user, and reply if any
CONVERSATIONS = {
    "plain": ("The soup is warm.", None),
    "spaces at both ends": (" \n The soup is warm. \n ", None),
    "quotes": ("She's \"here\" & <b>'there'</b> \\n {{ 1 }} {% x %} {prompt}", None),
    "an empty turn": ("", None),
    "two turns": ("Is it warm?", 'It\'s "warm" & good.'),
    "two turns with spaces at both ends": (" \n Is it warm? \n ", "\n It is warm. \n "),
}


@dataclass(frozen=True)
class Template:
    """The chat template of a model folder."""

    text: str  # in Jinja's language
    special: tuple[tuple[str, str], ...]  # tokens that it may use, such as ("bos_token", "<s>")


class TemplateError(InputError):
    """The folder's template cannot be rendered, or does not make what minitox makes."""

    report = ""  # both texts, if there are two


def difference(conversation: str, ours: str, theirs: str, what: str = "text") -> TemplateError:
    """The error of a conversation that minitox and the template write differently."""
    error = TemplateError(
        f"minitox and the chat template make different {what} of the conversation {conversation!r}"
    )
    error.report = f"--- minitox\n{ours}\n--- the chat template\n{theirs}\n"
    return error


@dataclass(frozen=True)
class Layout:
    """One turn in a chat format."""

    template: Template  # that it was recognised from
    turn: str  # from after the BOS up to where the reply begins; {prompt} is the user's text
    end_of_turn: tuple[str, ...]  # the tokens that end a reply
    bos: str = ""  # the token that begins the turn, if the format has one
    strip: bool = False  # whether the template strips the text of the user
    strip_reply: bool = False  # and that of the assistant
    before_reply: str = ""  # text that begins every reply

    @property
    def tokens(self) -> set[str]:
        """The tokens of the layout."""
        return {*TOKEN.findall(self.turn), *self.end_of_turn, self.bos} - {""}

    @property
    def last_text(self) -> str:
        """The plain text after the last token, which a reply continues."""
        return TOKEN.split(self.turn)[-1]

    def prompt(self, text: str) -> list[str]:
        """The turn of a user, up to where the reply begins; the odd pieces are tokens."""
        if self.strip:
            text = text.strip()
        before, after = self.turn.split("{prompt}")
        # the text stays together with the plain text around it, because a token may span both;
        # tokens spelled out in the text are plain text
        pieces = TOKEN.split(before)
        first, *rest = TOKEN.split(after)
        pieces[-1] += text + first
        beginning = ["", self.bos] if self.bos else []
        return [*beginning, *pieces, *rest]

    def reply(self, text: str) -> str:
        """The text of a reply, as the template writes it."""
        if self.strip_reply:
            text = text.strip()
        if self.turn.endswith(NO_THINKING):  # Qwen3 drops line breaks after its reasoning
            text = text.lstrip("\n")
        return self.before_reply + text


# Recognise the format


def read_layout(folder: Path) -> Layout | None:
    """The layout of a turn in the folder's chat format; None for a base model without a template.

    InputError if the format is unknown.
    """
    template = read_template(folder)
    if template is None:
        return None

    if "<|start_header_id|>" in template.text:
        # Llama-3.1 and later always have a system turn with these dates
        system = LLAMA31_SYSTEM if "Cutting Knowledge Date" in template.text else ""
        turn = LLAMA3.replace("{system}", system)
        bos = "<|begin_of_text|>"
        return Layout(template, turn, ("<|eot_id|>",), bos, strip=True, strip_reply=True)

    if "<|im_start|>" in template.text:
        system = chatml_system(template.text)
        turn = CHATML.replace("{system}", system)
        if "enable_thinking" in template.text:
            turn += NO_THINKING
        bos = ""
        if WRITES_BOS.search(template.text):
            bos = dict(template.special).get("bos_token", "")
        return Layout(template, turn, ("<|im_end|>",), bos)

    if "<|START_OF_TURN_TOKEN|>" in template.text:
        turn = COMMAND
        end = ("<|END_OF_TURN_TOKEN|>",)
        if START_RESPONSE in template.text:
            turn += START_RESPONSE
            end = ("<|END_RESPONSE|>", *end)
        if EMPTY_SYSTEM in template.text:
            turn = EMPTY_SYSTEM + turn
        return Layout(template, turn, end, "<BOS_TOKEN>", strip=True, strip_reply=True)

    if "[/INST]" in template.text:
        return mistral_layout(folder, template)

    raise InputError(
        f"{folder}: the chat template is not supported; "
        "minitox implements the formats Llama-3, ChatML, Command and Mistral"
    )


def mistral_layout(folder: Path, template: Template) -> Layout:
    """A turn in one of Mistral's formats with tokens [INST] and [/INST], which differ in spaces.

    InputError for the older formats, in which [INST] is text.
    """
    if " [/INST]" in template.text:
        raise InputError(
            f"{folder}: the chat template is not supported: [INST] and [/INST] are text in it, as "
            "in Llama-2 and Mistral-7B-Instruct v0.1 and v0.2; minitox implements the formats in "
            "which they are tokens, as in v0.3"
        )
    special = dict(template.special)
    space = " " if "[INST] " in template.text else ""
    return Layout(
        template,
        turn=MISTRAL.replace("{space}", space),
        end_of_turn=(special.get("eos_token", "</s>"),),
        bos=special.get("bos_token", "<s>"),
        strip_reply=bool(STRIPPED_REPLY.search(template.text)),
        before_reply=" " if SPACE_BEFORE_REPLY.search(template.text) else "",
    )


def chatml_system(template: str) -> str:
    """The system turn with the template's default text, if it has one."""
    default = SYSTEM_TEXT.search(template)
    if default is None:
        return ""
    return CHATML_SYSTEM.format(default[1].replace("\\'", "'").replace("\\n", "\n"))


def read_template(folder: Path) -> Template | None:
    """The template in chat_template.jinja or, in older folders, in tokenizer_config.json."""
    path = Path(folder) / "tokenizer_config.json"
    config = read_json(path) if path.exists() else {}
    own_file = Path(folder) / "chat_template.jinja"
    if own_file.exists():
        text = read_bytes(own_file).decode("utf-8", "replace").replace("\r\n", "\n")
    else:
        text = config.get("chat_template")
    if text is None:
        return None
    if isinstance(text, list):  # several with names
        named = [value for value in text if isinstance(value, dict)]
        text = next((one.get("template") for one in named if one.get("name") == "default"), "")
    if not isinstance(text, str):
        text = json.dumps(text)
    return Template(text, tuple(sorted(special_texts(config).items())))


def special_texts(config: dict) -> dict[str, str]:
    """The special tokens that a template may use, by name; `config`: tokenizer_config.json."""
    texts = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        token = config.get(name)
        if isinstance(token, dict):
            token = token.get("content")
        if isinstance(token, str):
            texts[name] = token
    return texts


# Compare it with the template


@cache
def template_texts(template: Template) -> dict[str, str] | None:
    """The template's text of each of CONVERSATIONS; None if there is no jinja2 to render it with.

    TemplateError if the template cannot be rendered.
    """
    if find_spec("jinja2") is None:
        return None
    if len(template.text) > MOST_CHARACTERS:
        raise TemplateError(f"the chat template has more than {MOST_CHARACTERS:,} characters")
    variables = []
    for user, reply in CONVERSATIONS.values():
        messages = [{"role": "user", "content": user}]
        if reply is not None:
            messages.append({"role": "assistant", "content": reply})
        options = {
            "messages": messages,
            "add_generation_prompt": reply is None,
            "enable_thinking": False,
            "tools": None,
            "documents": None,
        }
        variables.append(options | dict(template.special))
    texts = render(template.text, variables)
    return None if texts is None else dict(zip(CONVERSATIONS, texts, strict=True))


def render(template: str, variables: list[dict]) -> list[str] | None:
    """The text of each set of variables, from render.py in a process of its own.

    None if jinja2 is too old. TemplateError if the template cannot be rendered.
    """
    program = Path(__file__).with_name("render.py")
    request = json.dumps({"template": template, "variables": variables})
    try:
        process = subprocess.run(
            [sys.executable, "-P", str(program)],
            input=request.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=MOST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise TemplateError(
            f"the chat template takes longer than {MOST_SECONDS} seconds to render"
        ) from None
    if process.returncode:
        raise TemplateError("the chat template cannot be rendered: its process was stopped")
    answer = json.loads(process.stdout)
    if "error" in answer:
        raise TemplateError(f"the chat template cannot be rendered: {answer['error']}")
    return answer.get("texts")


def check_texts(layout: Layout, theirs: dict[str, str]) -> None:
    """TemplateError names the first conversation that the layout writes differently."""
    for name, (user, reply) in CONVERSATIONS.items():
        ours = "".join(layout.prompt(user))
        rendered = theirs[name]
        if reply is not None:
            ours += layout.reply(reply) + "".join(layout.end_of_turn)
            rendered = rendered.rstrip("\n")  # ChatML ends a line, which is not part of a reply
        if ours != rendered:
            raise difference(name, ours, rendered)


# Compare models


def template_identity(folder: Path) -> list:
    """What the folder's chat format depends on: the template, and the token texts that it uses."""
    template = read_template(folder)
    if template is None:
        return []
    used = {name: token for name, token in template.special if name in template.text}
    return [template.text, used]
