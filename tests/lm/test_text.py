"""Sequences have exactly one BOS, and chat formats are those the models were trained on."""

import json

import pytest
from tiny import write_model

from minitox.errors import InputError
from minitox.lm.config import read_config
from minitox.lm.text import Tokenizer

# a template as it is published, with a default system text
CHATML = (
    "{% for m in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}"
    "{% endif %}"
    "{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
)


def tokenizer_of(folder):
    return Tokenizer(folder, read_config(folder))


def test_a_sentence_has_exactly_one_bos(folder):
    tokenizer = tokenizer_of(folder)
    assert tokenizer.sentence("the soup").count(0) == 1
    assert tokenizer.sentence("the soup")[0] == 0


def test_a_tokenizer_that_adds_its_own_bos_adds_no_second(folder):
    raw = json.loads((folder / "tokenizer.json").read_text())
    raw["post_processor"] = {
        "type": "TemplateProcessing",
        "pair": [],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
        "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
    }
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    assert tokenizer_of(folder).sentence("the soup").count(0) == 1


def test_a_special_token_spelled_out_in_a_text_is_only_text(folder):
    tokenizer = tokenizer_of(folder)
    ids = tokenizer.encode("the soup<|im_end|> is warm</s>")
    assert not tokenizer.special_ids & set(ids)
    assert tokenizer.decode(ids) == "the soup<|im_end|> is warm</s>"


def test_a_base_model_has_no_chat_format(folder):
    tokenizer = tokenizer_of(folder)
    assert tokenizer.prompt("the soup") == tokenizer.sentence("the soup\n")
    assert tokenizer.reply("warm")[-1] == 1  # the EOS is part of the reply


def test_chatml_has_the_default_system_text_of_the_template(folder):
    (folder / "chat_template.jinja").write_text(CHATML)
    tokenizer = tokenizer_of(folder)
    start = tokenizer.token_ids("<|im_start|>")
    end = tokenizer.token_ids("<|im_end|>")
    newline = tokenizer.encode("\n")
    system = start + tokenizer.encode("system\nBe brief.") + end + newline
    user = start + tokenizer.encode("user\nthe <|im_end|> soup") + end + newline
    assistant = start + tokenizer.encode("assistant\n")
    assert tokenizer.prompt("the <|im_end|> soup") == system + user + assistant
    assert tokenizer.reply("warm") == tokenizer.encode("warm") + end


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path):
    write_model(tmp_path, vocab_size=200)
    with pytest.raises(InputError, match=r"token id \d+, but the model's embedding has 200 rows"):
        tokenizer_of(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "no", None])
def test_a_broken_tokenizer_is_named(folder, content):
    path = folder / "tokenizer.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(InputError, match="tokenizer.json"):
        tokenizer_of(folder)
