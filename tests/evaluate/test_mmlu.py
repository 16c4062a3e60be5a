"""Questions in, letters out: what counts as an answer, and what the model is asked."""

from types import SimpleNamespace

import pytest
import torch
from tiny import write_model

from minitox.evaluate import mmlu
from minitox.files import read_jsonl
from minitox.run import candidates
from minitox.run.journal import append_batches

CHOICES = ["Nile", "Alps", "Gobi", "Oslo"]
ROW = {"question": "Which of these is a river?", "choices": CHOICES, "answer": "A"}


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
def test_no_answer_is_made_up(reply):
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
def test_an_option_is_repeated_if_it_reads_alike_and_is_no_part_of_a_number(reply, choices, answer):
    assert mmlu.extract(reply, choices) == answer


def test_a_question_is_asked_with_an_option_a_line():
    assert mmlu.as_prompt(ROW) == "Which of these is a river?\nA. Nile\nB. Alps\nC. Gobi\nD. Oslo"


def candidate(folder, **changes):
    write_model(folder, **changes)
    return candidates.open_one("base", folder, torch.device("cpu"), torch.float32)


def test_the_likeliest_letter_is_the_one_with_the_highest_logit_alone_or_in_a_batch(tmp_path):
    found = candidate(tmp_path / "model")
    prompts = [
        found.tokenizer.prompt(text) for text in ("the soup", "a garden is green, you see", "warm")
    ]
    letters = [found.tokenizer.encode(letter)[0] for letter in "ABCD"]
    alone = [
        int(found.model(torch.tensor([prompt]))[0, -1, letters].argmax()) for prompt in prompts
    ]
    assert mmlu.best_of(found.model, prompts, letters) == alone


def test_answers_go_to_disk_once_and_a_question_too_long_has_none(tmp_path):
    found = candidate(tmp_path / "model")
    questions = [
        {"question": "soup?", "choices": list("wxyz"), "answer": "B"},
        {"question": "q" * 80, "choices": list("wxyz"), "answer": "C"},
    ]
    args = SimpleNamespace(answer_tokens=4, batch_tokens=100)
    file = mmlu.plan(found, questions, args, tmp_path / "en.jsonl")
    assert [done for done, _ in append_batches([file])][-1] == 2
    rows = {row["id"]: row for _, row in read_jsonl(tmp_path / "en.jsonl")}
    assert rows[1]["likeliest"] in tuple("ABCD") and rows[1]["answer"] == "B"
    assert rows[2] == {"id": 2, "answer": "C", "likeliest": None, "generated": None}
    before = (tmp_path / "en.jsonl").read_bytes()
    assert list(append_batches([file])) == [] and (tmp_path / "en.jsonl").read_bytes() == before
