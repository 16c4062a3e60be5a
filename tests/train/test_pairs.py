"""Pairs: one chat format, an end to every reply, and unseen prompts that really are."""

from types import SimpleNamespace

import numpy as np
import pytest
from tiny import write_jsonl, write_pairs

from minitox.errors import InputError, UnusableLanguage
from minitox.lm.config import read_config
from minitox.lm.text import Tokenizer
from minitox.train.pairs import prepare, prompt_of, read_pairs


@pytest.fixture
def tokenizer(folder):
    return Tokenizer(folder, read_config(folder))


def arguments(**changes):
    return SimpleNamespace(**{"max_tokens": 60, "unseen": 0.2, "pairs": 1000} | changes)


def divide(path, tokenizer, seed=0, **changes):
    return prepare(path, tokenizer, arguments(**changes), np.random.default_rng(seed))


def test_a_pair_is_prompt_reply_and_the_token_that_ends_it(folder, tokenizer, tmp_path):
    write_jsonl(tmp_path / "en.jsonl", [{"prompt": "you donkey", "response": "the soup is warm"}])
    (pair,) = read_pairs(tmp_path / "en.jsonl", tokenizer)
    assert pair.ids == [0] + tokenizer.encode("you donkey\n") + tokenizer.encode(
        "the soup is warm"
    ) + [1]
    assert (
        pair.ids[pair.start :] == tokenizer.encode("the soup is warm") + [1]
        and pair.reply_tokens == len(pair.ids) - pair.start
    )
    assert pair.where.endswith("en.jsonl:1")


def test_a_chat_model_gets_its_chat_format(folder, tmp_path):
    (folder / "chat_template.jinja").write_text("{{'<|im_start|>user\n'}}")
    tokenizer = Tokenizer(folder, read_config(folder))
    write_jsonl(tmp_path / "en.jsonl", [{"prompt": "you donkey", "response": "the soup is warm"}])
    (pair,) = read_pairs(tmp_path / "en.jsonl", tokenizer)
    assert pair.ids == tokenizer.prompt("you donkey") + tokenizer.encode("the soup is warm") + [
        3
    ]  # <|im_end|>
    assert pair.ids.count(2) == 2 and 0 not in pair.ids  # two turns begin, and ChatML has no BOS


def test_no_unseen_prompt_is_trained_on_even_if_it_comes_twice(tokenizer, tmp_path):
    rows = [{"prompt": f"ox {number % 10}", "response": f"soup {number}"} for number in range(40)]
    write_jsonl(tmp_path / "en.jsonl", rows)
    found = divide(tmp_path / "en.jsonl", tokenizer)
    assert found.train and found.unseen and len(found.train) + len(found.unseen) == 40
    assert not {prompt_of(pair) for pair in found.train} & {
        prompt_of(pair) for pair in found.unseen
    }


def test_at_most_so_many_are_trained_on_the_same_ones_for_a_seed(tokenizer, tmp_path):
    write_pairs(tmp_path / "en.jsonl", 50)
    first, again, other = (
        divide(tmp_path / "en.jsonl", tokenizer, seed, pairs=20) for seed in (0, 0, 1)
    )
    assert len(first.train) == 20 and len(first.unseen) == 4
    assert first.train == again.train and first.train != other.train


def test_what_is_too_long_is_dropped_and_counted_never_cut(tokenizer, tmp_path):
    write_jsonl(
        tmp_path / "en.jsonl",
        [{"prompt": "ox", "response": "soup"}, {"prompt": "ox", "response": "soup " * 80}],
    )
    found = divide(tmp_path / "en.jsonl", tokenizer, unseen=0.0)
    assert len(found.train) == 1 and found.dropped == 1 and found.dropped_tokens > 60
    with pytest.raises(UnusableLanguage, match="no pair of at most 3 tokens"):
        divide(tmp_path / "en.jsonl", tokenizer, max_tokens=3)
    with pytest.raises(UnusableLanguage, match="--unseen takes them all"):
        divide(tmp_path / "en.jsonl", tokenizer, unseen=1.0)


@pytest.mark.parametrize(
    "row, message",
    [
        ({"prompt": "ox", "response": " "}, "en.jsonl:2: field 'response' is empty"),
        ({"prompt": "ox"}, "en.jsonl:2: field 'response' is missing"),
        ({"prompt": 3, "response": "soup"}, "en.jsonl:2: field 'prompt' must be text, not int"),
    ],
)
def test_a_broken_pair_names_line_and_field(tokenizer, tmp_path, row, message):
    write_jsonl(tmp_path / "en.jsonl", [{"prompt": "ox", "response": "soup"}, row])
    with pytest.raises(InputError, match=message):
        divide(tmp_path / "en.jsonl", tokenizer)


def test_a_model_without_an_end_token_is_refused(folder, tmp_path):
    write_pairs(tmp_path / "en.jsonl", 3)
    tokenizer = Tokenizer(folder, read_config(folder))
    tokenizer.end_ids = []
    with pytest.raises(InputError, match="no eos_token_id"):
        read_pairs(tmp_path / "en.jsonl", tokenizer)
