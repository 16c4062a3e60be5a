"""Multilingual MMLU: what the model is asked, and what counts as its answer."""

from collections import Counter

import pytest
import torch
from phrasings import PHRASINGS, WITHOUT_ANSWER
from tiny import write_model

from minitox.evaluate import mmlu
from minitox.languages import NAMES
from minitox.lm.config import read_config
from minitox.lm.generate import generate
from minitox.lm.text import Tokenizer

CHOICES = ["Nile", "Alps", "Gobi", "Oslo"]


@pytest.mark.parametrize(
    "reply, answer",
    [
        ("A", "A"),
        ("B.", "B"),
        (" (C) Gobi", "C"),
        ("**D**", "D"),
        ("A: Nile", "A"),
        ("[B]", "B"),
        ("\nC\n", "C"),
        ("D) Oslo, I think", "D"),
        ("The answer is B.", "B"),
        ("Answer: C", "C"),
        ("It is D because of the fjord", "D"),
        ("答案是B。", "B"),
        ("答えはＣです", "C"),
        ("Ответ: D", "D"),
        ("the river nile", "A"),
        ("I would say Gobi", "C"),
        ("B or B", "B"),
        ("The answer is (A)", "A"),
        ("The answer is A", "A"),
    ],
)
def test_an_answer_is_found(reply, answer):
    assert mmlu.extract(reply, CHOICES) == answer


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "   ",
        "A river is a body of water",
        "I do not know",
        "B or C",
        "Nile or Alps",
        "E",
        "Abcd",
        "BCD",
        "b",
        "Vitamin C-3PO and D'Artagnan",
    ],
)
def test_a_reply_without_a_clear_answer_has_none(reply):
    assert mmlu.extract(reply, CHOICES) is None


@pytest.mark.parametrize(
    "reply, choices, answer",
    [
        ("It is 10\u00a0%", ["5\u00a0%", "10\u00a0%", "20\u00a0%", "1\u00a0%"], "B"),
        ("3 km\u00b2", ["3 km\u00b2", "4 km\u00b2", "5 km\u00b2", "6 km\u00b2"], "A"),
        ("14 million", ["4 million", "14 million", "40 million", "1 million"], "B"),
        ("14 million", ["4 million", "5 million", "40 million", "1 million"], None),
    ],
)
def test_an_option_is_repeated_if_it_looks_alike_and_is_not_part_of_a_number(
    reply, choices, answer
):
    assert mmlu.extract(reply, choices) == answer


def test_every_letter_is_found_in_ten_phrasings_of_each_of_sixteen_languages():
    assert PHRASINGS.keys() == NAMES.keys()
    known = Counter()
    for phrasings in PHRASINGS.values():
        assert len(set(phrasings)) == 10
        for phrasing in phrasings:
            for letter in "ABCD":
                known[letter] += mmlu.extract(phrasing.format(letter), CHOICES) == letter
    assert known == dict.fromkeys("ABCD", 16 * 10)


@pytest.mark.parametrize("phrasing", PHRASINGS["ru"])
def test_cyrillic_letters_count_as_the_latin_ones(phrasing):
    for cyrillic, letter in zip("АВСД", "ABCD", strict=True):
        assert mmlu.extract(phrasing.format(cyrillic), CHOICES) == letter


@pytest.mark.parametrize("sentence", WITHOUT_ANSWER)
def test_a_letter_that_may_be_a_word_is_no_answer_and_neither_is_any_other_letter(sentence):
    for letter in "ABCDАВСД":
        assert mmlu.extract(sentence.format(letter), CHOICES) is None


@pytest.mark.parametrize(
    "reply, answer",
    [
        ("{}. Nile\n{}. Alps\n{}. Gobi\n{}. Oslo", None),
        ("{}. Nile {}. Alps", None),
        ("{}. Nile\n{}. Al", None),
        ("({}) Nile ({}) Alps", None),
        ("{}\n{}\n{}\n{}", None),
        ("{}, {} and {}", None),
        ("{} or {}", None),
        ("{} и {}", None),
        ("{}/{}", None),
        ("{}. Because {} is far away", 0),
        ("**{}) Gobi**, although {} is a river", 0),
    ],
)
def test_of_several_letters_only_one_that_the_reply_begins_with_counts(reply, answer):
    for letters in ("ABCD", "DCBA", "CADB", "BDAC"):
        expected = None if answer is None else letters[answer]
        assert mmlu.extract(reply.format(*letters), CHOICES) == expected


@pytest.mark.parametrize(
    "reply, answer",
    [
        ("I think it is Niger", "A"),
        ("It is Nigeria", "B"),
        ("the Nigerian coast", None),
        ("Nigerです", "A"),
        ("«Niger».", "A"),
        ("Oman and Nigeria", None),
    ],
)
def test_an_option_that_is_part_of_another_word_is_not_repeated(reply, answer):
    assert mmlu.extract(reply, ["Niger", "Nigeria", "Oman", "Peru"]) == answer


def test_an_option_without_spaces_around_it_is_found_in_scripts_that_have_none():
    assert mmlu.extract("肯尼亚在非洲。", ["亚洲", "非洲", "澳洲", "美洲"]) == "B"
    assert mmlu.extract("카이로입니다", ["도쿄", "파리", "카이로", "로마"]) == "C"


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Vitamin C", "A"),
        ("vitamin c.", "A"),
        ("John C. Calhoun", "D"),
        ("B", "B"),  # the letter of the second option, not the third, which is B
    ],
)
def test_a_reply_that_is_an_option_is_that_option_whatever_letters_it_has(reply, answer):
    assert mmlu.extract(reply, ["Vitamin C", "Vitamin D", "B", "John C. Calhoun"]) == answer


def test_the_rule_of_an_answer_is_one_sentence_for_the_report():
    rule = mmlu.extract.__doc__.splitlines()[0]
    assert rule.startswith("Take the leading letter") and rule.endswith(".")


def test_the_prompt_is_the_question_and_an_option_a_line():
    question = {"question": "Which of these is a river?", "choices": CHOICES, "answer": "A"}
    expected = "Which of these is a river?\nA. Nile\nB. Alps\nC. Gobi\nD. Oslo"
    assert mmlu.as_prompt(question) == expected


def test_the_likeliest_letter_has_the_highest_logit_alone_and_in_a_batch(tmp_path):
    model = write_model(tmp_path)
    tokenizer = Tokenizer(tmp_path, read_config(tmp_path))
    texts = ("the soup", "a garden is green, you see", "warm")
    prompts = [tokenizer.prompt(text) for text in texts]
    letter_ids = [tokenizer.encode(letter)[0] for letter in "ABCD"]
    expected = []
    for prompt in prompts:
        logits = model(torch.tensor([prompt]))[0, -1, letter_ids]  # (4,)
        expected.append("ABCD"[int(logits.argmax())])
    replies = generate(model, prompts, 2, set(), compared=letter_ids)
    assert [mmlu.likeliest_letter(reply.first) for reply in replies] == expected


def test_logits_that_are_not_finite_are_no_letter(tmp_path):
    model = write_model(tmp_path)
    model.model.norm.weight.fill_(3e38)
    with pytest.raises(ValueError, match="the logits of token 1 of a reply are not finite"):
        generate(model, [[5, 6, 7], [8]], 1, set(), compared=[9, 10, 11, 12])
