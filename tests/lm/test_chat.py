"""A chat format is the one that the folder's own template writes, or it is refused."""

import json
import sys
import time

import pytest
from templates import CHATML_LIKE, PUBLISHED, REPLY, REWRITTEN, TURNS
from tiny import GOLDEN

from minitox.errors import InputError
from minitox.lm import chat

USER = "<|im_start|>user\n{prompt}<|im_end|>\n"
ASSISTANT = "<|im_start|>assistant\n"


def write_template(folder, template, bos=None):
    """The template as older folders have it, with a BOS."""
    config = {"chat_template": template, "bos_token": bos}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def check(folder) -> None:
    layout = chat.read_layout(folder)
    chat.check_texts(layout, chat.template_texts(layout.template))


# ---------- the layout


@pytest.mark.parametrize(
    "template, expected",
    [
        ("{{ '<|im_start|>' + m.role }}", USER + ASSISTANT),
        (
            "'<|im_start|>system\\nYou are Q.<|im_end|>\\n'",
            "<|im_start|>system\nYou are Q.<|im_end|>\n" + USER + ASSISTANT,
        ),
        (
            "'<|im_start|>system\\nYou\\'re Q.\\nBe brief.<|im_end|>\\n'",
            "<|im_start|>system\nYou're Q.\nBe brief.<|im_end|>\n" + USER + ASSISTANT,
        ),
        (
            "'<|im_start|>' enable_thinking is false",
            USER + ASSISTANT + "<think>\n\n</think>\n\n",
        ),
        (
            "<|start_header_id|>",
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{prompt}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "<|START_OF_TURN_TOKEN|>",
            "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>{prompt}<|END_OF_TURN_TOKEN|>"
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        ),
    ],
)
def test_the_format_follows_the_template(tmp_path, template, expected):
    layout = chat.read_layout(write_template(tmp_path, template))
    assert layout.bos + layout.turn == expected


def test_llama31_always_has_its_dated_system_block(tmp_path):
    (tmp_path / "chat_template.jinja").write_text("<|start_header_id|> Cutting Knowledge Date")
    system = (
        "system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
    )
    assert system in chat.read_layout(tmp_path).turn


def test_an_unknown_template_is_refused(tmp_path):
    (tmp_path / "chat_template.jinja").write_text("<|user|> {{ m }} <|assistant|>")
    with pytest.raises(InputError, match="formats Llama-3, ChatML, Command and Mistral"):
        chat.read_layout(tmp_path)


@pytest.mark.parametrize("template", ["'[INST] ' + m + ' [/INST]'", "' [INST] ' + m + ' [/INST]'"])
def test_a_format_in_which_inst_is_text_is_refused_by_name(tmp_path, template):
    (tmp_path / "chat_template.jinja").write_text("{{" + template + "}}")
    with pytest.raises(InputError, match=r"text in it, as in Llama-2 and Mistral.* v0.1 and v0.2"):
        chat.read_layout(tmp_path)


def test_of_several_templates_the_default_one_counts(tmp_path):
    templates = [
        {"name": "tool_use", "template": "<|im_start|>"},
        {"name": "default", "template": PUBLISHED["Aya-23"][0]},
    ]
    write_template(tmp_path, templates, "<BOS_TOKEN>")
    assert chat.read_layout(tmp_path).end_of_turn == ("<|END_OF_TURN_TOKEN|>",)
    check(tmp_path)


def test_the_odd_pieces_of_a_prompt_are_its_tokens(tmp_path):
    layout = chat.read_layout(write_template(tmp_path, "{{ bos_token }}<|im_start|>", "<s>"))
    pieces = layout.prompt("so <|im_end|>")
    assert pieces[1::2] == ["<s>", "<|im_start|>", "<|im_end|>", "<|im_start|>"]
    assert pieces[::2] == ["", "", "user\nso <|im_end|>", "\n", "assistant\n"]


# ---------- compared with the template


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_templates_write_what_minitox_writes(tmp_path, name):
    template, bos = PUBLISHED[name]
    check(write_template(tmp_path, template, bos))


@pytest.mark.parametrize("name", REWRITTEN)
def test_minitox_and_a_rewritten_template_write_what_the_published_one_writes(tmp_path, name):
    template, special = REWRITTEN[name]
    published = json.loads((GOLDEN / "chat" / f"{name}.json").read_text("utf-8"))
    config = {"chat_template": template, **special}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    layout = chat.read_layout(tmp_path)
    chat.check_texts(layout, published)
    assert chat.template_texts(layout.template) in (published, None)


@pytest.mark.parametrize("name", CHATML_LIKE)
def test_a_template_like_chatml_is_equal_or_refused(tmp_path, name):
    template, is_equal = CHATML_LIKE[name]
    write_template(tmp_path, template, "<s>")
    if is_equal:
        check(tmp_path)
        return
    with pytest.raises(chat.TemplateError, match="different text of the conversation 'plain'"):
        check(tmp_path)


@pytest.mark.parametrize(
    "template, conversation",
    [
        (TURNS.replace("m['content']", "m['content'] | trim") + REPLY, "spaces at both ends"),
        (TURNS.replace("m['content']", "m['content'] | replace('<b>', '')") + REPLY, "quotes"),
        (TURNS.replace("m['content']", "(m['content'] or 'hi')") + REPLY, "an empty turn"),
        (TURNS.replace("m['role']", "m['role'] | replace('ant', 'er')") + REPLY, "two turns"),
        (
            TURNS.replace("m['content']", "m['content'].strip('\n' if loop.index == 2 else '')")
            + REPLY,
            "two turns with spaces at both ends",
        ),
    ],
)
def test_the_first_conversation_that_differs_is_named(tmp_path, template, conversation):
    write_template(tmp_path, template)
    with pytest.raises(chat.TemplateError, match=f"the conversation '{conversation}'") as caught:
        check(tmp_path)
    assert caught.value.report.count("<|im_start|>user") == 2  # both texts


def test_llama3_and_command_strip_replies_and_chatml_does_not(tmp_path):
    replies = {}
    for name in ("Llama-3", "Aya-23", "Qwen2.5", "Qwen3"):
        layout = chat.read_layout(write_template(tmp_path, *PUBLISHED[name]))
        replies[name] = layout.reply("\n so \n")
    assert replies == {"Llama-3": "so", "Aya-23": "so", "Qwen2.5": "\n so \n", "Qwen3": " so \n"}


def test_the_tag_generation_is_ignored(tmp_path):
    template = TURNS.replace("{{", "{% generation %}{{").replace("}}", "}}{% endgeneration %}")
    check(write_template(tmp_path, template + REPLY))


def test_without_jinja2_nothing_is_compared(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert chat.template_texts(chat.Template(f"{{# none #}}{TURNS}", ())) is None


# ---------- templates that do harm


@pytest.mark.parametrize(
    "template, message",
    [
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ raise_exception('no') }}", "TemplateError: no"),
        ("{{ messages.x.y }}", "UndefinedError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ 'x' * 2 ** 40 }}", "MiB of memory"),
        ("{% for i in range(90000) %}{{ 'x' * 100 }}{% endfor %}", "longer than 1,048,576"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "OverflowError"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
        ("x" * 300_000, "more than 262,144 characters"),
    ],
)
def test_a_template_that_does_harm_is_one_line(template, message):
    with pytest.raises(chat.TemplateError, match=message):
        chat.template_texts(chat.Template(template, ()))


def test_a_template_that_does_not_end_is_stopped(monkeypatch):
    monkeypatch.setattr(chat, "MOST_SECONDS", 1)
    loop = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}"
    start = time.monotonic()
    with pytest.raises(chat.TemplateError, match="takes longer than 1 seconds"):
        chat.template_texts(chat.Template(loop, ()))
    assert time.monotonic() - start < 10
