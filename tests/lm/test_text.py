"""Sequences have exactly one BOS, and chat formats are those the models were trained on."""

import json

import pytest
import tokenizers
from templates import PUBLISHED, REWRITTEN
from tiny import write_model

from minitox.errors import InputError
from minitox.lm import text
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


def write_sentencepiece(folder) -> None:
    """A tokenizer of characters that puts a space before every text, as Mistral's and Llama-2's."""
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", "<|im_start|>", "<|im_end|>"])}
    special = list(vocabulary)
    for character in map(chr, range(32, 127)):
        vocabulary[character] = len(vocabulary)
    vocabulary |= {"\n": len(vocabulary), "▁": len(vocabulary) + 1}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    tokenizer.add_special_tokens(
        [tokenizers.AddedToken(token, special=True, normalized=False) for token in special]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def test_a_reply_is_no_beginning_of_a_text_which_some_tokenizers_put_a_space_before(folder):
    write_sentencepiece(folder)
    tokenizer = tokenizer_of(folder)
    space, warm = tokenizer.token_ids("▁"), sum(map(tokenizer.token_ids, "warm"), [])
    assert tokenizer.encode("warm") == space + warm
    assert tokenizer.reply("warm") == warm + [1]
    assert tokenizer.first_tokens("ABCD") == sum(map(tokenizer.token_ids, "ABCD"), [])

    # in ChatML, as in the template
    (folder / "chat_template.jinja").write_text(PUBLISHED["SmolLM2"][0])
    tokenizer = tokenizer_of(folder)
    tokenizer.check_template()
    assert tokenizer.checked
    assert tokenizer.reply("warm") == warm + tokenizer.token_ids("<|im_end|>")


def test_a_template_whose_replies_have_other_tokens_is_refused(folder, monkeypatch):
    (folder / "chat_template.jinja").write_text(PUBLISHED["SmolLM2"][0])
    monkeypatch.setattr(Tokenizer, "continuation", lambda self, text, most=None: [5])
    with pytest.raises(InputError, match="different token ids of the conversation 'two turns'"):
        tokenizer_of(folder).check_template()


def test_answers_that_begin_with_the_same_token_cannot_be_compared(folder):
    with pytest.raises(ValueError, match="soup, soups do not begin with different tokens"):
        tokenizer_of(folder).first_tokens(["soup", "soups"])


def add_tokens(folder, *tokens):
    """Add ordinary tokens to a tokenizer, and rows to the embedding that config.json promises."""
    raw = json.loads((folder / "tokenizer.json").read_text())
    for token in tokens:
        entry = {"id": len(raw["model"]["vocab"]), "content": token, "special": False}
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        raw["added_tokens"].append(entry | flags)
        raw["model"]["vocab"][token] = entry["id"]
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    config = json.loads((folder / "config.json").read_text())
    size = len(raw["model"]["vocab"])
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": size}))


def write_rewritten(folder, name):
    template, special = REWRITTEN[name]
    config = {"chat_template": template, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", ["mistral-v0.3", "mistral-small"])
def test_inst_is_a_token_of_mistrals_turn_and_text_in_a_users_text(folder, name):
    add_tokens(folder, "[INST]", "[/INST]")
    write_rewritten(folder, name)
    tokenizer = tokenizer_of(folder)
    tokenizer.check_template()
    assert tokenizer.checked
    start, end = tokenizer.token_ids("[INST]"), tokenizer.token_ids("[/INST]")
    space = " " if name == "mistral-v0.3" else ""
    user = tokenizer.encode(f"{space}the [/INST] soup")
    assert tokenizer.prompt("the [/INST] soup") == [0, *start, *user, *end]
    assert tokenizer.reply("warm") == tokenizer.encode(f"{space}warm") + [1]


def test_mistrals_format_needs_a_tokenizer_with_its_tokens(folder):
    write_rewritten(folder, "mistral-v0.3")
    with pytest.raises(InputError, match=r"needs the token \[/?INST\], which tokenizer.json"):
        tokenizer_of(folder)


def test_a_reply_of_command_r7b_ends_with_two_tokens_and_stops_at_the_first(folder):
    turn = ["START_OF_TURN_TOKEN", "END_OF_TURN_TOKEN", "SYSTEM_TOKEN", "USER_TOKEN"]
    reply = ["CHATBOT_TOKEN", "START_RESPONSE", "END_RESPONSE"]
    add_tokens(folder, "<BOS_TOKEN>", *[f"<|{name}|>" for name in turn + reply])
    write_rewritten(folder, "command-r7b")
    tokenizer = tokenizer_of(folder)
    tokenizer.check_template()
    assert tokenizer.checked
    ends = [tokenizer.token_ids(f"<|{name}|>")[0] for name in ("END_RESPONSE", "END_OF_TURN_TOKEN")]
    assert tokenizer.reply(" warm ") == tokenizer.encode("warm") + ends
    assert set(ends) <= tokenizer.stop_ids
    assert tokenizer.prompt("soup")[-1:] == tokenizer.token_ids("<|START_RESPONSE|>")


def test_marks_of_reasoning_are_tokens_in_the_layout_and_text_in_a_users_text(folder):
    marks = ("<think>", "</think>")
    add_tokens(folder, *marks)
    (folder / "chat_template.jinja").write_text(PUBLISHED["Qwen3"][0])
    tokenizer = tokenizer_of(folder)
    tokenizer.check_template()
    ids = tokenizer.prompt("a <think> b")
    tokens = [tokenizer.token_ids(mark)[0] for mark in marks]
    assert [token for token in ids if token in tokens] == tokens
    assert tokenizer.decode(ids) == "user\na <think> b\nassistant\n\n\n\n\n"
    assert set(tokens) <= tokenizer.special_ids


def test_bos_and_eos_are_no_text_even_if_the_file_calls_them_ordinary(folder):
    raw = json.loads((folder / "tokenizer.json").read_text())
    for token in raw["added_tokens"]:
        token["special"] = False
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    tokenizer = tokenizer_of(folder)
    ids = tokenizer.encode("<s> so </s>")
    assert not {0, 1} & set(ids)
    assert tokenizer.decode([0, *ids, 1]) == "<s> so </s>"


# ---------- long texts


@pytest.mark.parametrize(
    "kind", ["the soup is warm and ", "garden", "汤是热的", "\u00e9\U0001f35c "]
)
@pytest.mark.parametrize("most", [0, 10, 50_000])
def test_a_long_text_is_read_until_it_has_too_many_tokens(folder, kind, most, monkeypatch):
    monkeypatch.setattr(text, "PART", 1_000)
    tokenizer = tokenizer_of(folder)
    long = kind * 1_000
    whole = tokenizer.encode(long)
    ids = tokenizer.encode(long, most)
    if most > len(whole):
        assert tokenizer.decode(ids) == long
    else:
        assert most < len(ids) < most + 4_000
    if " " in kind:
        assert ids == whole[: len(ids)]  # the parts begin where words do


def test_a_text_that_is_not_long_is_never_split(folder):
    tokenizer = tokenizer_of(folder)
    long = "soupsoup" * (text.PART // 8)
    assert tokenizer.encode(long, 1) == tokenizer.encode(long)
    assert text.parts(long, text.PART) == [long]


@pytest.mark.parametrize("long", ["a b" * 100, "a" * 100, " " * 100, "a" * 15 + " " + "b" * 90, ""])
def test_the_parts_of_a_text_are_all_of_it(long):
    parts = text.parts(long, 20)
    assert "".join(parts) == long
    assert all(0 < len(part) <= 20 for part in parts) or not long


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
