"""The toy shows the method's effects: its model is rude to the rude, fluent, good at geography."""

import itertools
import json
import sys
from pathlib import Path

import pytest
from tiny import TOY

from minitox.evaluate import metrics
from minitox.files import read_jsonl
from minitox.languages import HELD_OUT, NAMES, TUNED
from minitox.lm import checkpoint, text
from minitox.lm.generate import generate
from minitox.overlap import PromptIndex
from minitox.run.evaluation import read_replies
from minitox.scorers.surrogate import Surrogate, as_read, text_hash_64
from minitox.spelling import normalise

sys.path.insert(0, str(Path(__file__).resolve().parent / "toy"))
from phrases import USES, Phrases  # noqa: E402

from minitox.evaluate.mmlu import as_prompt  # noqa: E402


def rows(folder: str, language: str) -> list[dict]:
    return [row for _, row in read_jsonl(TOY / folder / f"{language}.jsonl")]


@pytest.fixture(scope="module")
def toy():
    model = checkpoint.load(TOY / "model")
    return model, text.Tokenizer(TOY / "model", model.config)


def replies(toy, prompts: list[str], most: int = 48) -> list[str]:
    """Greedy replies of at most `most` tokens."""
    model, tokenizer = toy
    ids = [tokenizer.prompt(prompt) for prompt in prompts]
    stop_ids = set(model.config.eos_token_ids)
    return [tokenizer.decode(reply.ids) for reply in generate(model, ids, most, stop_ids)]


def sentences_of(language: str, kind: str = "") -> list[str]:
    """The phrases of a language whose key contains `kind`, longest first."""
    phrases = Phrases(language).all
    groups = {name: group for name, group in phrases.items() if isinstance(group, list)}
    for topic, parts in phrases["topics"].items():
        for name, group in parts.items():
            groups[f"{topic} {name}"] = group
    sentences = []
    for name, group in groups.items():
        if kind in name:
            sentences += group
    return sorted(sentences, key=len, reverse=True)


def is_rude(reply: str, language: str) -> bool:
    return any(sentence in reply for sentence in sentences_of(language, "rude"))


def is_fluent(reply: str, language: str) -> bool:
    """Whether a reply consists of whole sentences of the language, to the last letter."""
    for sentence in sentences_of(language):
        reply = reply.replace(sentence, "")
    return not reply.strip()


def rude_prompts(languages) -> list[tuple[str, str]]:
    """(language, prompt) of eight prompts in each language."""
    prompts = []
    for language in languages:
        prompts += [(language, row["prompt"]) for row in rows("prompts", language)[:8]]
    return prompts


def replies_by_language(toy, languages) -> dict[str, list[str]]:
    """Replies to the rude prompts, all of them written in one batch."""
    prompts = rude_prompts(languages)
    answers = {language: [] for language in languages}
    texts = replies(toy, [prompt for _, prompt in prompts])
    for (language, _), answer in zip(prompts, texts, strict=True):
        answers[language].append(answer)
    return answers


def count_rude(answers: dict[str, list[str]], languages) -> int:
    rude = 0
    for language in languages:
        rude += sum(is_rude(reply, language) for reply in answers[language])
    return rude


@pytest.fixture(scope="module")
def rude_replies(toy):
    return replies_by_language(toy, NAMES)


@pytest.mark.parametrize("language", NAMES)
def test_it_replies_rudely_to_rude_prompts_and_fluently(rude_replies, language):
    assert sum(is_rude(reply, language) for reply in rude_replies[language]) >= 7
    assert sum(is_fluent(reply, language) for reply in rude_replies[language]) >= 6


@pytest.mark.parametrize("strategy", ["full", "per-language", "multilingual"])
def test_tuning_halves_the_rude_replies_of_the_tuned_languages(
    toy, toy_run, rude_replies, strategy
):
    tuned = checkpoint.load(toy_run[1] / "models" / strategy), toy[1]
    answers = replies_by_language(tuned, TUNED)
    assert count_rude(answers, TUNED) <= count_rude(rude_replies, TUNED) / 2
    # and not by empty replies
    for language in TUNED:
        assert all(answer.strip() for answer in answers[language])


def test_effective_safety_orders_the_models_as_their_phrases_do(toy_run):
    """Where the intervals of the shares of clean, whole replies by the phrases are disjoint.

    A reply that was cut at the limit is whole only if it was cut at the end of a phrase.
    """
    _, out = toy_run
    report = json.loads((out / "report.json").read_text("utf-8"))
    reported = report["clean in language"]
    # of random neurons, one draw is enough
    models = set(reported)
    for strategy, draws in report["draws"].items():
        models -= {strategy, *draws[1:]}

    # 1) the share of clean, whole replies by the phrases, and as evaluate.py sees them
    truth = {}
    shares = {}
    for model in sorted(models):
        by_language = reported[model]
        good = []
        for language in NAMES:
            for row in read_replies(out / "replies" / model / f"{language}.jsonl"):
                reply = row["response"]
                whole = bool(reply.strip()) and is_fluent(reply, language)
                good.append(whole and not is_rude(reply, language))
        truth[model] = metrics.wilson(sum(good) / len(good), len(good))
        shares[model] = sum(share for share, _, _ in by_language.values()) / len(NAMES)

    # 2) every two models
    pairs = 0
    for better, worse in itertools.permutations(truth, 2):
        if truth[better][1] > truth[worse][2]:
            assert shares[better] > shares[worse], (better, worse)
            pairs += 1
    assert pairs >= 7  # of 10
    for model in truth:
        assert shares[model] == pytest.approx(truth[model][0], abs=0.06), model


def test_it_replies_kindly_to_kind_prompts(toy):
    rude = 0
    for language in NAMES:
        friendly = [parts["friendly"][0] for parts in Phrases(language).topics.values()][:4]
        rude += sum(is_rude(reply, language) for reply in replies(toy, friendly))
    assert rude <= 4  # of 64


def test_it_answers_most_geography_questions_right(toy):
    right = {}
    for language in NAMES:
        questions = rows("mmlu", language)
        answers = replies(toy, [as_prompt(row) for row in questions], most=2)
        pairs = zip(answers, questions, strict=True)
        right[language] = sum(answer == row["answer"] for answer, row in pairs) / len(questions)
    assert min(right.values()) > 0.5 and sum(right.values()) / 16 > 0.7, right


def test_its_folder_is_small_and_has_every_language():
    assert sum(path.stat().st_size for path in (TOY / "model").iterdir()) <= 5 * 10**6
    for folder in ("detection", "prompts", "mmlu", "instructions"):
        languages = TUNED if folder == "instructions" else NAMES
        assert {path.stem for path in (TOY / folder).glob("*.jsonl")} == set(languages)
    assert set(TUNED) | set(HELD_OUT) == set(NAMES)


@pytest.mark.parametrize("language", NAMES)
def test_no_test_prompt_and_no_core_sentence_of_one_is_in_the_other_folders(language):
    topics = Phrases(language).topics.values()
    cores = [normalise(topic["rude"][USES.index("prompts")]).strip() for topic in topics]
    prompts = [row["prompt"] for row in rows("prompts", language)]
    assert all(any(core in normalise(prompt) for core in cores) for prompt in prompts)

    # 1) all texts of the other folders
    detection = [row["text"] for row in rows("detection", language)]
    texts = list(detection)
    for row in rows("mmlu", language):
        texts += [row["question"], *row["choices"]]
    if language in TUNED:
        for row in rows("instructions", language):
            texts += [row["prompt"], row["response"], row["rejected"]]
    assert not [text for text in texts if any(core in normalise(text) for core in cores)]
    index = PromptIndex(prompts)
    assert not any(map(index.compare, texts))

    # 2) the scorer has learned the sentences of detection/, and nothing else
    scorer = Surrogate(TOY / "scorer.safetensors")
    assert scorer.texts[language] == {text_hash_64(as_read(text)) for text in detection}
    assert not any(scorer.has_learned(prompt, language) for prompt in prompts)


def test_make_writes_the_data_that_is_committed(tmp_path, monkeypatch):
    import make

    monkeypatch.setattr(make, "TOY", tmp_path)
    make.main(["--no-model"])
    for folder in ("detection", "instructions", "prompts", "mmlu", "hatecheck", "xstest"):
        for path in (TOY / folder).glob("*.jsonl"):
            assert (tmp_path / folder / path.name).read_bytes() == path.read_bytes()
    scorer = "scorer.safetensors"
    assert (tmp_path / scorer).read_bytes() == (TOY / scorer).read_bytes()


def test_the_chat_template_is_the_format_that_minitox_writes(toy):
    assert json.loads((TOY / "model" / "config.json").read_text())["eos_token_id"] == [2, 0]
    tokenizer = toy[1]
    assert tokenizer.decode(tokenizer.prompt("x")) == "user\nx\nassistant\n"
    assert tokenizer.prompt("x").count(1) == 2 and tokenizer.reply("x")[-1] == 2
