"""The checks on pairs: each reason to reject one, near copies, and likelihoods, by definition."""

import sys

import numpy as np
import pytest
import torch
from tiny import TOY

from minitox.files import read_jsonl
from minitox.overlap import NEAR, shingles
from minitox.run import candidates
from minitox.spelling import normalise

sys.path.insert(0, str(TOY.parent))
import checks  # noqa: E402

POLITE = "Thank you for your message. I would like to talk about it calmly."


def rows_of(path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]


# Verdicts


def good(**changes) -> dict:
    """A pair that passes every check, with changes."""
    pair = {
        "language": "en",
        "response": POLITE,
        "toxicity": 0.1,
        "stopped": True,
        "perplexity": 9.0,
        "topic": 2.0,
    }
    return pair | changes


@pytest.mark.parametrize(
    "pair, language, proposal, why",
    [
        (good(), "en", "keep", ""),
        (good(response="Well, no."), "en", "not fluent", "too short"),
        (good(response=""), None, "not fluent", "too short"),
        (good(toxicity=0.5), "en", "toxic", "0.5"),
        (good(toxicity=0.499), "en", "keep", ""),
        (good(toxicity=None), "en", "keep", ""),
        (good(), "de", "wrong language", "looks like de"),
        (good(), None, "wrong language", "looks like None"),
        (good(stopped=False), "en", "not fluent", "cut off"),
        (good(response="I am sorry to hear it. " * 5), "en", "not fluent", "repeats itself"),
        (good(response="请你冷静一点。" * 6, language="zh"), "zh", "not fluent", "repeats itself"),
        (good(perplexity=51), "en", "not fluent", "perplexity 51"),
        (good(perplexity=50), "en", "keep", ""),
        (good(topic=0.0), "en", "off topic", ""),
        (good(topic=-3.21), "en", "off topic", "3.2 nats"),
        # 8 Chinese characters are enough for a sentence
        (good(response="我理解你的感受。", language="zh"), "zh", "keep", ""),
    ],
)
def test_each_reason_to_reject_a_pair_is_found_and_explained(pair, language, proposal, why):
    verdict, explanation = checks.judge(pair, language, median=10)
    assert verdict == proposal
    assert why in explanation
    assert proposal != "keep" or explanation == ""


@pytest.mark.parametrize("language", ["ar", "de", "en", "fr", "hi", "id", "pt", "ru", "zh"])
def test_the_toys_polite_replies_are_neither_repetitive_nor_too_short(language):
    pairs = rows_of(TOY / "instructions" / f"{language}.jsonl")
    verdicts = []
    for pair in pairs:
        checked = good(response=pair["response"], language=language)
        verdicts.append(checks.judge(checked, language, 10)[0])
    assert verdicts.count("keep") == len(pairs)


# Near copies


def jaccard(a: str, b: str) -> float:
    a = set(shingles(normalise(a)))
    b = set(shingles(normalise(b)))
    return len(a & b) / len(a | b)


def test_near_copies_are_those_that_a_comparison_of_all_texts_finds():
    rng = np.random.default_rng(0)
    words = "the soup is warm and the garden is green near a small old house".split()
    texts = []
    for _ in range(150):
        text = [str(rng.choice(words)) for _ in range(rng.integers(2, 30))]
        texts += [" ".join(text), " ".join(text[:-1] + ["donkey"]), " ".join(text[1:])]
    kept = []
    expected = []
    for text in texts:
        is_copy = any(jaccard(text, other) >= NEAR for other in kept)
        expected.append(is_copy)
        if not is_copy:
            kept.append(text)
    assert checks.near_copies(texts) == expected
    assert 50 < sum(expected) < len(texts) - 50


def test_a_near_copy_of_a_copy_is_no_copy_of_the_original():
    letters = "the quick brown fox jumps over a lazy dog, five wizards box"
    # each is a near copy of the one before it only
    near = [letters, letters[2:] + "#%", letters[5:] + "#%&+~"]
    assert jaccard(near[0], near[1]) >= NEAR
    assert jaccard(near[1], near[2]) >= NEAR > jaccard(near[0], near[2])
    assert checks.near_copies(near) == [False, True, False]


def test_case_spaces_and_digits_do_not_hide_a_copy_and_short_texts_can_be_compared():
    texts = ["Go away, you 2 donkeys!", "go  away, YOU 3 donkeys!", "ab", "ab", "", "cd"]
    assert checks.near_copies(texts) == [False, True, False, True, False, False]


def test_of_near_copies_one_that_is_proposed_to_be_kept_stays():
    texts = [
        "The soup that you made is cold and bad, you donkey",
        "Nobody likes the song that you sang, you silly old goose",
    ]
    rows = [
        (texts[0] + "!", "one answer", "toxic"),
        (texts[0] + ".", "a second reply", "keep"),
        (texts[1], "the third of them", "keep"),
        ("something else altogether", "The third of them", "off topic"),
    ]
    pairs = [
        {"prompt": prompt, "response": response, "proposal": proposal, "why": ""}
        for prompt, response, proposal in rows
    ]
    checks.drop_copies(pairs)
    assert [(pair["proposal"], pair["why"]) for pair in pairs] == [
        ("near copy", "(of another prompt)"),
        ("keep", ""),
        ("keep", ""),
        ("near copy", "(of another response)"),
    ]


# Likelihoods


def test_likelihoods_equal_those_of_one_sequence_at_a_time():
    toy = candidates.open_one("toy", TOY / "model", torch.device("cpu"), torch.float32)
    texts = [row["prompt"] for row in rows_of(TOY / "prompts" / "en.jsonl")][:7]
    responses = [POLITE, "No soup today.", *"cdefg"]
    pairs = [
        {"asked": text, "response": response}
        for text, response in zip(texts, responses, strict=True)
    ]

    @torch.inference_mode()
    def log_p(prompt: str, response: str) -> float:
        before = toy.tokenizer.prompt(prompt)
        after = toy.tokenizer.reply(response)
        hidden = toy.model.model(torch.tensor([before + after]))  # (1, T, D)
        logits = toy.model.logits(hidden)[0].log_softmax(-1)  # (T, V)
        return sum(float(logits[len(before) + i - 1, token]) for i, token in enumerate(after))

    for i, (surprise, topic) in enumerate(checks.likelihoods(toy, pairs, batch_tokens=200)):
        response = pairs[i]["response"]
        own, *others = [log_p(texts[i - step], response) for step in range(checks.OTHERS + 1)]
        expected = np.exp(-own / len(toy.tokenizer.reply(response)))
        assert surprise == pytest.approx(expected, rel=1e-3)
        assert topic == pytest.approx(own - np.mean(others), abs=1e-3)


def test_a_single_pair_is_not_off_topic_because_there_is_nothing_to_compare_it_with():
    toy = candidates.open_one("toy", TOY / "model", torch.device("cpu"), torch.float32)
    pairs = [{"asked": "Nobody likes your soup.", "response": POLITE}]
    ((_, topic),) = checks.likelihoods(toy, pairs, batch_tokens=200)
    assert topic is None
