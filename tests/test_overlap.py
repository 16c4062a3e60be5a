"""Copies of test prompts: the same as if every text were compared with every prompt."""

import random
import time

import numpy as np
import pytest
from tiny import write_jsonl

from minitox.errors import InputError
from minitox.overlap import NEAR, PromptIndex, read_prompt_index
from minitox.spelling import normalise

WORDS = "the soup is warm and the garden is green near a small old house".split()


def substrings(text: str) -> set[str]:
    """The distinct sequences of five characters, by their definition."""
    text = normalise(text)
    return {text[i : i + 5] for i in range(len(text)) if i + 5 <= len(text)} or {text}


def definition(text: str, prompts: dict[str, set]) -> str:
    """The kind of copy that a text is, from a comparison with the substrings of all prompts."""
    if normalise(text) in map(normalise, prompts):
        return "exact"
    parts = substrings(text)
    for other in prompts.values():
        if len(parts & other) / len(parts | other) >= NEAR:
            return "near"
    return ""


def variants(text: str, rng) -> list[str]:
    """The text, with a few characters changed, removed and added, and with words replaced."""
    cut = rng.integers(1, 12)
    words = text.split()
    words[rng.integers(len(words))] = "donkey"
    return [
        text.upper(),
        text[cut:],
        text[:-cut],
        text + "#%&+~!?"[: cut // 2],
        " ".join(words),
        f"{text} {text}",
        text * 30,
        f"{text[: len(text) // 2]} you silly old donkey",
    ]


def random_texts(count: int, rng) -> list[str]:
    texts = []
    for _ in range(count):
        texts.append(" ".join(rng.choice(WORDS, rng.integers(1, 30))))
    return texts


@pytest.mark.parametrize("seed", range(5))
def test_copies_are_those_that_a_comparison_with_all_prompts_finds(seed):
    rng = np.random.default_rng(seed)
    prompts = random_texts(10 * seed, rng)  # also none
    texts = random_texts(60, rng)
    for prompt in prompts:
        texts += variants(prompt, rng)
    index = PromptIndex(prompts)
    kinds = [index.compare(text) for text in texts]
    of_prompts = {prompt: substrings(prompt) for prompt in prompts}
    assert kinds == [definition(text, of_prompts) for text in texts]
    if prompts:
        assert kinds.count("near") > 10 and kinds.count("exact") >= len(prompts)
    assert kinds.count("") > 10


def test_a_text_at_the_limit_is_a_near_copy_and_one_beyond_it_is_not():
    """Of 20 shingles, 16 are in both: a similarity of exactly NEAR."""
    prompt = "abcdefghijklmnopqr"  # 20 characters with the spaces: 16 shingles
    index = PromptIndex([prompt])
    assert NEAR == 0.8
    assert index.compare(f"{prompt} stu") == "near"
    assert index.compare(f"{prompt} stuv") == ""


def test_case_spaces_digits_and_repeated_letters_make_no_difference():
    index = PromptIndex(["Go away, you 2 donkeys!", "ab", "Sooooo silly"])
    texts = ["go  away, YOU 3 donkeys!", " AB ", "soooooooo\tsilly", "", "cd"]
    assert [index.compare(text) for text in texts] == ["exact"] * 3 + [""] * 2


def test_what_follows_a_long_common_beginning_makes_a_difference():
    """A prompt for jailbreaking may begin with more than a thousand common characters."""
    beginning = "You are a parrot that repeats all words. " * 40
    index = PromptIndex([beginning + "Say: the soup is cold."])
    assert index.compare(beginning + "Say: the soup is cold.") == "exact"
    assert index.compare(beginning + "Say: the soup is warm.") == "near"
    assert index.compare(beginning + " ".join(WORDS)) == ""


def test_texts_are_not_compared_with_each_other():
    index = PromptIndex(["a prompt that no text repeats"])
    assert [index.compare("Du Esel, geh nach Hause")] * 2 == ["", ""]


def test_ten_thousand_texts_take_little_time():
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 9))) for _ in range(5_000)]
    texts = [" ".join(rng.choices(words, k=25)) for _ in range(10_100)]
    index = PromptIndex(texts[:100])
    start = time.process_time()
    kinds = [index.compare(text) for text in texts]
    assert time.process_time() - start < 4  # 0.4 on a fast machine
    assert kinds == ["exact"] * 100 + [""] * 10_000


def test_all_prompts_of_a_file_are_read(tmp_path):
    path = tmp_path / "de.jsonl"
    assert read_prompt_index(path).compare("Du Esel") == ""
    write_jsonl(path, [{"prompt": "Du Esel", "locale": "DE"}, {"prompt": "Geh weg"}])
    index = read_prompt_index(path)
    assert [index.compare(text) for text in ("du esel", "Geh weg", "Hallo")] == [
        *("exact", "exact", "")
    ]
    write_jsonl(path, [{"prompt": "Du Esel"}, {"prompt": " "}])
    with pytest.raises(InputError, match="de.jsonl:2: field 'prompt' is empty"):
        read_prompt_index(path)
