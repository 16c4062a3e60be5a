"""Replies, answers and likelihoods on disk: each once, whatever the batch or the interruption."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TOY, write_jsonl, write_model

from minitox.data import read_prompts
from minitox.errors import InputError
from minitox.files import file_hash, read_jsonl
from minitox.lm import checkpoint
from minitox.lm.checkpoint import save_weights
from minitox.run import candidates, evaluation, evaluation_inputs, fluency
from minitox.run.candidates import Candidate
from minitox.run.evaluation import Asking
from minitox.run.evaluation_inputs import Inputs
from minitox.run.journal import Batches, append_batches
from minitox.run.settings import EvaluateSettings
from minitox.run.training_record import hashes_of_pairs

CPU = torch.device("cpu")


def open_model(folder) -> Candidate:
    return candidates.open_one("base", folder, CPU, torch.float32)


@pytest.fixture(scope="module")
def toy() -> Candidate:
    return open_model(TOY / "model")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "en.jsonl"


@pytest.fixture
def tiny(tmp_path) -> Candidate:
    """A random model of 64 positions."""
    write_model(tmp_path / "model")
    return open_model(tmp_path / "model")


def lines_after_each_batch(plan: Batches) -> list[int]:
    """Carry out a plan; how many lines there are after each batch."""
    return [lines for lines, _ in append_batches([plan])]


# ---------- inputs


@pytest.fixture
def data(tmp_path):
    """A data folder with some English and German files."""
    folder = tmp_path / "data"
    question = {"question": "soup?", "choices": list("wxyz"), "answer": "B"}
    for language in ("en", "de"):
        prompts = [{"prompt": f"{language} {number}"} for number in range(9)]
        write_jsonl(folder / "prompts" / f"{language}.jsonl", prompts)
    write_jsonl(folder / "mmlu" / "en.jsonl", [question])
    write_jsonl(folder / "detection" / "en.jsonl", [{"text": "soup", "toxicity": 0.0}])
    write_jsonl(folder / "detection" / "de.jsonl", [{"text": "ox", "toxicity": 0.9}])
    cases = [{"text": "ox", "hateful": True}, {"text": "soup", "hateful": False}]
    write_jsonl(folder / "hatecheck" / "en.jsonl", cases)
    return folder


def read_inputs(data, languages=("en", "de", "cs"), **changes) -> Inputs:
    settings = {"most_prompts": 4, "with_questions": True, "most_sentences": 5}
    settings |= {"with_cases": True, "with_xstest": True, "seed": 0}
    return evaluation_inputs.read_inputs(data, list(languages), **(settings | changes))


def test_inputs_are_what_the_data_folder_has_and_the_rest_is_listed(data):
    inputs = read_inputs(data)
    assert {language: len(prompts) for language, prompts in inputs.prompts.items()} == {
        "en": 4,
        "de": 4,
    }
    assert inputs.questions.keys() == {"en"}
    assert inputs.clean == {"en": ["soup"]}
    assert inputs.cases == {"en": [("ox", True), ("soup", False)]}
    assert inputs.gaps == {
        "prompts": "no file of cs",
        "mmlu": "no file of de, cs",
        "detection": "no file of cs",
        "detection/de": f"{data / 'detection' / 'de.jsonl'}: no clean sentence",
        "instructions": f"{data / 'instructions'} is not a folder",
        "fluency": "0 replies in DATA/instructions are too few to compare with",
        "hatecheck": "no file of de, cs",
    }


def test_the_hash_of_every_file_in_use_is_kept(data):
    hashes = read_inputs(data).hashes
    assert {folder: set(files) for folder, files in hashes.items()} == {
        "prompts": {"en", "de"},
        "mmlu": {"en"},
        "detection": {"en"},
        "hatecheck": {"en"},
    }
    assert hashes["prompts"]["de"] == file_hash(data / "prompts" / "de.jsonl")


def test_the_prompts_of_a_language_depend_on_the_seed_and_not_on_other_languages(data):
    prompts = read_inputs(data).prompts
    assert prompts["en"] == read_inputs(data, ["en"]).prompts["en"]
    assert prompts["en"] != read_inputs(data, seed=1).prompts["en"]
    assert list(prompts["en"]) != list(prompts["de"])


def test_ids_are_those_of_the_prompts_that_are_asked_and_may_be_numbers(data):
    rows = [{"prompt": f"en {number}", "id": 10 + number} for number in range(9)]
    rows[3]["id"] = None
    del rows[4]["id"]
    write_jsonl(data / "prompts" / "en.jsonl", [*rows, {"prompt": "en 0", "id": "again"}])
    every = {number: str(9 + number) for number in (1, 2, 3, 6, 7, 8, 9)}
    assert read_inputs(data, most_prompts=None).ids == {"en": every, "de": {}}
    inputs = read_inputs(data)
    known = every.keys() & inputs.prompts["en"].keys()
    assert inputs.ids == {"en": {number: every[number] for number in known}, "de": {}}


def test_prompts_are_translations_if_a_language_has_an_id_of_another(data):
    for language, names in {"en": ["a", "b"], "de": ["b"], "cs": ["c"]}.items():
        rows = [{"prompt": f"soup {i}", "id": name} for i, name in enumerate(names)]
        write_jsonl(data / "prompts" / f"{language}.jsonl", rows)
    assert read_inputs(data).has_translations()
    assert not read_inputs(data, ["en", "cs"]).has_translations()


def test_questions_sentences_and_cases_that_are_not_wanted_are_not_read(data):
    (data / "mmlu" / "en.jsonl").write_text("soup")
    (data / "detection" / "en.jsonl").write_text("soup")
    (data / "hatecheck" / "en.jsonl").write_text("soup")
    inputs = read_inputs(data, with_questions=False, most_sentences=0, with_cases=False)
    assert inputs.hashes.keys() == {"prompts"}
    assert inputs.gaps.keys() == {"prompts", "instructions", "fluency", "hatecheck"}
    assert inputs.gaps["hatecheck"] == "left out with --no-hatecheck"


def add_xstest(data, language: str = "en") -> None:
    """Three prompts, one of them twice, and pairs in two languages."""
    rows = [{"prompt": "May I try it?", "label": "safe"}, {"prompt": "ox", "label": "unsafe"}]
    write_jsonl(data / "xstest" / f"{language}.jsonl", [*rows, rows[0], rows[1] | {"prompt": "x"}])
    for other in ("de", "fr"):
        pairs = [{"prompt": "ox", "response": f"{other} {number}"} for number in range(120)]
        write_jsonl(data / "instructions" / f"{other}.jsonl", pairs)


def test_prompts_of_xstest_are_read_with_all_replies_to_tune_on(data):
    add_xstest(data)
    inputs = read_inputs(data)
    assert inputs.xstest == {"en": {1: ("May I try it?", True), 2: ("ox", False), 4: ("x", False)}}
    assert {code: len(replies) for code, replies in inputs.tuned.items()} == {"de": 120, "fr": 120}
    assert inputs.gaps["xstest/en"] == "1 duplicates"
    assert inputs.hashes["xstest"] == {"en": file_hash(data / "xstest" / "en.jsonl")}
    assert inputs.hashes["tuned"] == hashes_of_pairs(data / "instructions", ["de", "fr"])
    # nothing else depends on them
    without = read_inputs(data, with_xstest=False)
    assert without.xstest == without.tuned == {}
    assert without.hashes == {
        name: files for name, files in inputs.hashes.items() if name not in ("xstest", "tuned")
    }
    assert (without.human, without.prompts) == (inputs.human, inputs.prompts)


def test_a_file_of_xstest_that_cannot_be_used_is_a_gap_and_one_that_is_absent_is_not(data):
    write_jsonl(data / "xstest" / "de.jsonl", [{"prompt": "May I?", "label": "safe"}])
    inputs = read_inputs(data)
    assert inputs.xstest == inputs.tuned == {}
    gaps = {name: reason for name, reason in inputs.gaps.items() if name.startswith("xstest")}
    assert gaps == {"xstest/de": f"{data / 'xstest' / 'de.jsonl'}: no unsafe prompt"}


def test_without_any_prompt_there_is_nothing_to_evaluate(data):
    with pytest.raises(InputError, match="no language of cs can be used"):
        read_inputs(data, ["cs"])


# ---------- everything that a model is asked


def test_models_are_asked_as_evaluate_py_asks_them_by_default(toy):
    settings = EvaluateSettings().resolved("cpu", toy.config)
    assert settings.part(Asking) == Asking()


def test_every_language_has_a_file_of_replies_of_answers_and_of_likelihoods(toy, data, tmp_path):
    add_xstest(data)
    inputs = read_inputs(data)
    files = evaluation.plan_all(toy, inputs, tmp_path, Asking(samples=2))
    assert [file.path.relative_to(tmp_path).as_posix() for file in files] == [
        "replies/base/en.jsonl",
        "replies/base/de.jsonl",
        "mmlu/base/en.jsonl",
        "perplexity/base/en.jsonl",
        "xstest/base/en.jsonl",
    ]
    rows = [sum(map(len, file.batches)) for file in files]
    assert rows == [8, 8, 1, 1, 6]
    assert inputs.count(toy, samples=2) == sum(rows)


def test_of_several_draws_only_the_first_is_asked_more_than_for_replies(toy, data, tmp_path):
    add_xstest(data)
    inputs = read_inputs(data)
    folders = {}
    for name in ("random-1", "random-2", "random-2@0.001", "random-per-language-3"):
        candidate = replace(toy, name=name)
        files = evaluation.plan_all(candidate, inputs, tmp_path, Asking())
        rows = sum(len(batch) for file in files for batch in file.batches)
        assert inputs.count(candidate, samples=1) == rows
        folders[name] = {file.path.relative_to(tmp_path).parts[0] for file in files}
    assert folders.pop("random-1") == {"replies", "mmlu", "perplexity", "xstest"}
    assert list(folders.values()) == [{"replies"}] * 3


# ---------- replies


def plan_replies(candidate, prompts, path, **changes) -> Batches:
    settings = {"max_new_tokens": 20, "batch_tokens": 300} | changes
    return evaluation.plan_replies(candidate, prompts, path, Asking(**settings))


def write_replies(candidate, prompts, path, **changes) -> list[int]:
    return lines_after_each_batch(plan_replies(candidate, prompts, path, **changes))


def toy_prompts(language: str, most: int = 10) -> dict[int, str]:
    path = TOY / "prompts" / f"{language}.jsonl"
    return read_prompts(path, most, np.random.default_rng(0))[0]


def test_replies_are_the_same_in_any_batch(toy, tmp_path):
    prompts = toy_prompts("de")
    written = []
    for batch_tokens in (1, 300, 10**6):
        path = tmp_path / f"{batch_tokens}.jsonl"
        assert write_replies(toy, prompts, path, batch_tokens=batch_tokens)[-1] == 10
        written.append(evaluation.read_replies(path))
    one_by_one, some, together = written
    assert one_by_one == some == together
    assert [row["id"] for row in some] == list(prompts)
    assert all(row["prompt"] == prompts[row["id"]] and row["response"] for row in some)


def test_an_interrupted_run_resumes_and_ends_with_the_same_bytes(toy, path):
    prompts = toy_prompts("en")
    counts = write_replies(toy, prompts, path)
    whole = path.read_bytes()
    ends = [0, *(i + 1 for i, byte in enumerate(whole) if byte == ord("\n"))]
    sizes = (0, 1, ends[1], ends[1] + 5, ends[counts[1]], ends[counts[1]] - 1, len(whole) - 1)
    for size in sizes:
        path.write_bytes(whole[:size])
        lines_left = sum(end - 1 <= size for end in ends[1:])  # the last may lack its end
        again = write_replies(toy, prompts, path)
        assert path.read_bytes() == whole
        assert again == [count for count in counts if count > lines_left]
    assert write_replies(toy, prompts, path) == []


def test_the_weights_are_not_read_if_no_reply_is_missing(toy, path, monkeypatch):
    prompts = toy_prompts("en", 3)
    write_replies(toy, prompts, path)
    monkeypatch.setattr(checkpoint, "load", lambda *_: pytest.fail("the weights were read"))
    candidate = open_model(TOY / "model")
    with candidate.loaded():
        write_replies(candidate, prompts, path)
    assert candidate.weights is None


def test_samples_differ_and_do_not_depend_on_the_batch_or_other_prompts(toy, tmp_path):
    prompts = toy_prompts("en")
    settings = {"samples": 3, "temperature": 1.5}
    path = tmp_path / "all" / "en.jsonl"
    write_replies(toy, prompts, path, **settings)
    every = evaluation.read_replies(path)
    first, second = list(prompts)[:2]
    assert [(row["id"], row["sample"]) for row in every[:4]] == [
        (first, 0),
        (first, 1),
        (first, 2),
        (second, 0),
    ]
    assert len({row["response"] for row in every[:3]}) > 1

    few = dict(list(prompts.items())[2:4])
    path = tmp_path / "few" / "en.jsonl"
    write_replies(toy, few, path, batch_tokens=1, **settings)
    assert evaluation.read_replies(path) == [row for row in every if row["id"] in few]


def test_a_prompt_longer_than_the_context_gets_no_reply_and_the_others_do(tiny, path):
    # the third is as long as it may be: BOS, text, newline, and 20 tokens of reply
    prompts = {1: "q" * 200, 2: "the soup", 3: "w" * 42}
    write_replies(tiny, prompts, path)
    rows = evaluation.read_replies(path)
    assert [row["response"] is None for row in rows] == [True, False, False]
    assert rows[0]["tokens"] == 0
    assert rows[0]["stopped"] is False


def test_a_value_error_of_the_method_becomes_an_error_of_the_user(tiny, path, monkeypatch):
    def generate(*_):
        raise ValueError("a text of 99 tokens does not fit")

    monkeypatch.setattr(evaluation, "generate", generate)
    with pytest.raises(InputError, match="a text of 99 tokens does not fit"):
        write_replies(tiny, {1: "the soup"}, path)


def test_a_limit_that_leaves_no_room_for_a_prompt_is_refused(tiny, path):
    message = "--max-new-tokens 64 leaves no room for a prompt in 64 positions"
    with pytest.raises(InputError, match=message):
        plan_replies(tiny, {1: "the soup"}, path, max_new_tokens=64)


# ---------- answers


def test_answers_are_written_once_and_a_question_that_is_too_long_has_none(tiny, path):
    questions = [
        {"question": "soup?", "choices": list("wxyz"), "answer": "B"},
        {"question": "q" * 80, "choices": list("wxyz"), "answer": "C"},
    ]
    asking = Asking(answer_tokens=4, batch_tokens=100)
    plan = evaluation.plan_answers(tiny, questions, path, asking)
    assert lines_after_each_batch(plan)[-1] == 2
    rows = {row["id"]: row for _, row in read_jsonl(path)}
    assert rows[1]["likeliest"] in tuple("ABCD")
    assert rows[1]["answer"] == "B"
    assert rows[2] == {"id": 2, "answer": "C", "likeliest": None, "reply": None}

    assert isinstance(rows[1]["reply"], str)

    before = path.read_bytes()
    assert lines_after_each_batch(plan) == []
    assert path.read_bytes() == before
    assert evaluation.read_answers(path, questions) == [rows[1], rows[2]]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"reply": 3}, "'reply' is not as minitox wrote it"),
        ({"answer": "D"}, "an answer is missing, or is to another question"),
        ({"id": 2}, "row 1 is missing or there twice"),
    ],
)
def test_answers_that_someone_edited_are_refused(path, change, message):
    row = {"id": 1, "answer": "B", "likeliest": "A", "reply": "It is B"}
    questions = [{"question": "soup?", "choices": list("wxyz"), "answer": "B"}]
    write_jsonl(path, [row | change])
    with pytest.raises(InputError, match=message):
        evaluation.read_answers(path, questions)
    write_jsonl(path, [row])
    assert evaluation.read_answers(path, questions) == [row]
    with pytest.raises(InputError, match="an answer is missing"):
        evaluation.read_answers(path, questions * 2)


# ---------- likelihoods


def plan_likelihoods(candidate, sentences, path, max_tokens) -> Batches:
    asking = Asking(max_tokens=max_tokens, batch_tokens=40)
    return evaluation.plan_likelihoods(candidate, sentences, path, asking)


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary(tmp_path, path):
    folder = tmp_path / "model"
    model = write_model(folder)
    model.model.norm.weight.zero_()  # all logits are equal
    save_weights(model.state_dict(), folder, shard_bytes=10**9)

    sentences = ["the soup is warm", "green", "q" * 100]
    plan = plan_likelihoods(open_model(folder), sentences, path, max_tokens=30)
    assert lines_after_each_batch(plan)[-1] == 3
    rows = {row["id"]: row for _, row in read_jsonl(path)}
    assert rows[3]["tokens"] == 30
    assert rows[3]["nats"] == pytest.approx(30 * math.log(300), rel=1e-5)
    assert evaluation.read_perplexity(path) == pytest.approx(300, rel=1e-4)


def test_a_sentence_longer_than_the_context_is_cut(tiny, path):
    lines_after_each_batch(plan_likelihoods(tiny, ["q" * 200], path, max_tokens=128))
    assert json.loads(path.read_text())["tokens"] == 63


def test_perplexity_is_read_from_all_rows_of_a_file(path):
    rows = [{"id": 2, "tokens": 2, "nats": 60.0}, {"id": 1, "tokens": 2, "nats": 2.0}]
    write_jsonl(path, rows)
    assert evaluation.read_perplexity(path) == pytest.approx(math.exp(15.5))


# ---------- fluency of replies


def plan_fluency(candidate, replies, path) -> Batches:
    return fluency.plan_fluency(candidate, replies, path, Asking(max_tokens=30, batch_tokens=40))


REPLIES = {(1, 0): "the soup is warm", (1, 1): "", (4, 0): "q" * 100, (9, 0): "q"}


def test_replies_are_as_fluent_as_the_base_model_finds_them(tmp_path, path):
    folder = tmp_path / "model"
    model = write_model(folder)
    model.model.norm.weight.zero_()  # all logits are equal
    save_weights(model.state_dict(), folder, shard_bytes=10**9)
    lines_after_each_batch(plan_fluency(open_model(folder), REPLIES, path))
    nats = fluency.read_fluency(path, REPLIES)
    expected = [math.log(300), math.nan, math.log(300), math.log(300)]
    assert nats == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_without_a_bos_a_reply_of_one_token_has_no_fluency(tmp_path, path):
    folder = tmp_path / "model"
    write_model(folder, bos_token_id=None)
    lines_after_each_batch(plan_fluency(open_model(folder), REPLIES, path))
    nats = fluency.read_fluency(path, REPLIES)
    assert [math.isnan(value) for value in nats] == [False, True, False, True]


def test_fluency_is_measured_once_and_the_same_in_any_batch(tiny, tmp_path):
    replies = {(i, 0): "the soup is warm " * (i % 3) + "green" * i for i in range(1, 9)}
    read = []
    for batch_tokens in (1, 60, 10**4):
        path = tmp_path / f"{batch_tokens}.jsonl"
        plan = fluency.plan_fluency(tiny, replies, path, Asking(batch_tokens=batch_tokens))
        assert lines_after_each_batch(plan)[-1] == 8
        assert lines_after_each_batch(plan) == []
        read.append(fluency.read_fluency(path, replies))
    assert read[0] == pytest.approx(read[1], rel=1e-5) and read[0] == pytest.approx(read[2])


@pytest.mark.parametrize(
    "changed",
    [
        REPLIES | {(9, 0): "another"},
        REPLIES | {(9, 1): "one more"},
        {key: REPLIES[key] for key in list(REPLIES)[1:]},
    ],
)
def test_the_fluency_of_other_replies_is_not_taken_over(tiny, path, changed):
    lines_after_each_batch(plan_fluency(tiny, REPLIES, path))
    fluency.read_fluency(path, REPLIES)
    with pytest.raises(InputError, match="is there twice, or has changed; delete the file"):
        fluency.read_fluency(path, changed)
