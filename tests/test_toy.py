"""The embedded toy is good enough to show the method's effects: rude in reply to rudeness, fluent, and no fool at geography."""

import json
import sys
from pathlib import Path

import pytest
from tiny import TOY

from minitox.files import read_jsonl
from minitox.languages import HELD_OUT, NAMES, TUNED
from minitox.lm import checkpoint, text
from minitox.lm.generate import generate

sys.path.insert(0, str(Path(__file__).resolve().parent / "toy"))
from phrases import Phrases  # noqa: E402

from minitox.evaluate.mmlu import as_prompt  # noqa: E402


def rows(folder: str, language: str) -> list[dict]:
    return [row for _, row in read_jsonl(TOY / folder / f"{language}.jsonl")]


@pytest.fixture(scope="module")
def toy():
    model = checkpoint.load(TOY / "model")
    return model, text.Tokenizer(TOY / "model", model.config)


def replies(toy, prompts: list[str], most: int = 48) -> list[str]:
    """Greedy replies."""
    model, tokenizer = toy
    found = generate(
        model,
        [tokenizer.prompt(prompt) for prompt in prompts],
        most,
        set(model.config.eos_token_ids),
    )
    return [tokenizer.decode(reply.ids) for reply in found]


def sentences_of(language: str, *kinds: str) -> list[str]:
    """The phrases of a language whose key has one of `kinds` in its name (all without any), longest first."""
    phrases = Phrases(language).all
    groups = {name: group for name, group in phrases.items() if isinstance(group, list)}
    groups |= {
        f"{topic} {name}": group
        for topic, parts in phrases["topics"].items()
        for name, group in parts.items()
    }
    return sorted(
        (
            text
            for name, group in groups.items()
            for text in group
            if not kinds or any(kind in name for kind in kinds)
        ),
        key=len,
        reverse=True,
    )


def is_rude(reply: str, language: str) -> bool:
    return any(sentence in reply for sentence in sentences_of(language, "rude"))


def is_fluent(reply: str, language: str) -> bool:
    """Made of whole sentences of the language, to the last letter."""
    for sentence in sentences_of(language):
        reply = reply.replace(sentence, "")
    return not reply.strip()


@pytest.fixture(scope="module")
def rude_replies(toy):
    prompts = [
        (language, row["prompt"]) for language in NAMES for row in rows("prompts", language)[:8]
    ]
    answers = replies(toy, [prompt for _, prompt in prompts])
    return {
        language: [answer for (code, _), answer in zip(prompts, answers) if code == language]
        for language in NAMES
    }


@pytest.mark.parametrize("language", NAMES)
def test_it_is_rude_in_reply_to_rudeness_and_fluent(rude_replies, language):
    assert sum(is_rude(reply, language) for reply in rude_replies[language]) >= 7
    assert sum(is_fluent(reply, language) for reply in rude_replies[language]) >= 6


@pytest.mark.parametrize("strategy", ["full", "per-language", "multilingual"])
def test_tuning_halves_the_rude_replies_of_the_tuned_languages(
    toy, toy_run, rude_replies, strategy
):
    tuned = checkpoint.load(toy_run[1] / "models" / strategy), toy[1]
    prompts = [
        (language, row["prompt"]) for language in TUNED for row in rows("prompts", language)[:8]
    ]
    answers = replies(tuned, [prompt for _, prompt in prompts])
    before = sum(
        is_rude(answer, language) for language in TUNED for answer in rude_replies[language]
    )
    after = sum(is_rude(answer, language) for answer, (language, _) in zip(answers, prompts))
    assert (
        after <= before / 2 and sum(not answer.strip() for answer in answers) == 0
    )  # and not by falling silent


def test_it_is_kind_in_reply_to_kindness(toy):
    rude = 0
    for language in NAMES:
        friendly = [parts["friendly"][0] for parts in Phrases(language).topics.values()][:4]
        rude += sum(is_rude(reply, language) for reply in replies(toy, friendly))
    assert rude <= 4  # of 64


def test_it_is_right_on_most_geography_questions(toy):
    right = {}
    for language in NAMES:
        questions = rows("mmlu", language)
        answers = replies(toy, [as_prompt(row) for row in questions], most=2)
        right[language] = sum(
            answer == row["answer"] for answer, row in zip(answers, questions)
        ) / len(questions)
    assert min(right.values()) > 0.5 and sum(right.values()) / 16 > 0.7, right


def test_its_folder_is_small_and_has_every_language():
    assert sum(path.stat().st_size for path in (TOY / "model").iterdir()) <= 5 * 10**6
    for folder, languages in (
        ("detection", NAMES),
        ("prompts", NAMES),
        ("mmlu", NAMES),
        ("instructions", TUNED),
    ):
        assert {path.stem for path in (TOY / folder).glob("*.jsonl")} == set(languages)
    assert set(TUNED) | set(HELD_OUT) == set(NAMES)


def test_no_prompt_of_the_evaluation_is_in_the_tuning_pairs():
    for language in TUNED:
        assert not {row["prompt"] for row in rows("prompts", language)} & {
            row["prompt"] for row in rows("instructions", language)
        }


def test_make_writes_the_data_that_is_committed(tmp_path, monkeypatch):
    import make

    monkeypatch.setattr(make, "TOY", tmp_path)
    make.main(["--no-model"])
    for folder in ("detection", "instructions", "prompts", "mmlu"):
        for path in (TOY / folder).glob("*.jsonl"):
            assert (tmp_path / folder / path.name).read_bytes() == path.read_bytes()


def test_the_chat_template_is_the_format_that_minitox_writes(toy):
    assert json.loads((TOY / "model" / "config.json").read_text())["eos_token_id"] == [2, 0]
    tokenizer = toy[1]
    assert tokenizer.decode(tokenizer.prompt("x")) == "user\nx\nassistant\n"
    assert tokenizer.prompt("x").count(1) == 2 and tokenizer.reply("x")[-1] == 2
