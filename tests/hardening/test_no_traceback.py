"""No traceback, no hang, bounded memory: every error that a user can cause is one line."""

import json

import pytest
import worlds
from fuzz import Outcome, forked
from tiny import error_of
from worlds import DETECT, EVALUATE, TRAIN, checkpoint, detect, evaluate, train

from minitox.lm.generate import generate


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """A folder with a small model, data and a scorer, in which the scripts run."""
    for part in (*worlds.BASE, worlds.scorer):
        part(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit_json(path, **changes) -> None:
    """Change fields of the object of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


# ---------- C1


# ---------- C2


# ---------- C3


# ---------- C4


# ---------- C5


def test_c5_a_prompt_without_tokens_is_refused(folder):
    with pytest.raises(ValueError, match="a prompt has no tokens, not even a BOS"):
        generate(checkpoint.load(folder), [[3], []], 2, {1})


def test_c5_a_prompt_of_which_the_tokenizer_makes_nothing_is_named(scripts, capsys):
    model = scripts / "model"
    edit_json(model / "config.json", bos_token_id=None)
    (model / "tokenizer_config.json").unlink()  # a base model
    nothing = {"type": "Replace", "pattern": {"Regex": "(you donkey 1|ox 2 .*)\n"}, "content": ""}
    edit_json(model / "tokenizer.json", normalizer=nothing)
    error = error_of(evaluate.main, EVALUATE.split(), capsys)
    assert "de.jsonl:2: the tokenizer makes no token of the prompt" in error
    error = error_of(train.main, f"{TRAIN} full".split(), capsys)
    assert "data/instructions/de.jsonl:3: the tokenizer makes no token of the prompt" in error


# ---------- C6

PANICS = {
    "type": "Split",
    "pattern": {"Regex": "(n*)*$|(a+)+b"},
    "behavior": "Isolated",
    "invert": False,
}


@pytest.mark.parametrize(
    "main, arguments",
    [
        (detect.main, DETECT),
        (train.main, f"{TRAIN} full"),
        (evaluate.main, EVALUATE),
        (evaluate.main, f"{EVALUATE} --scorer encoder:encoder"),
    ],
)
def test_c6_a_tokenizer_that_panics_is_one_line(scripts, capfd, main, arguments):
    with_encoder = "encoder:" in arguments
    if with_encoder:
        worlds.encoder(scripts)
    folder = scripts / ("encoder" if with_encoder else "model")
    edit_json(folder / "tokenizer.json", pre_tokenizer=PANICS)
    long = "a" * 5_000
    rows = [{"text": long, "toxicity": score, "prompt": long, "response": "so"} for score in (0, 1)]
    for name in ("detection", "instructions", "prompts"):
        worlds.write_jsonl(scripts / "data" / name / "en.jsonl", rows)
    if with_encoder:
        replies = {"id": 1, "sample": 0, "prompt": "x", "response": long, "tokens": 1}
        arguments = f"{arguments} --prompts 1 --no-mmlu --perplexity 0 --languages en"
        worlds.run(evaluate.main, arguments)
        path = scripts / "out" / "replies" / "base" / "en.jsonl"
        worlds.write_jsonl(path, [replies | {"stopped": True}])
    error = error_of(main, arguments.split(), capfd)
    assert error.count("\n") == 1, error
    assert f"{folder.name}/tokenizer.json: fails on a text (Onig: Regex search error" in error


# ---------- C7


# ---------- C8


# ---------- C9


# ---------- C10


# ---------- C11


# ---------- C12


# ---------- C13

LONG = 20_000_000  # bytes of a line
TEXTS = {"with spaces": "the soup is warm, ", "without spaces": "thesoup", "Chinese": "汤是热的"}


def cost(tmp_path, main, arguments: str) -> Outcome:
    outcome = forked(tmp_path / "work", lambda: main(arguments.split()))
    assert outcome.status == 0, outcome.stderr
    return outcome


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize(
    "main, arguments, folder, field, row",
    [
        (detect.main, f"{DETECT} --sentences 1000", "detection", "text", {"toxicity": 1.0}),
        (train.main, f"{TRAIN} full", "instructions", "response", {"prompt": "ox"}),
        (evaluate.main, EVALUATE, "prompts", "prompt", {}),
    ],
)
def test_c13_a_line_of_20_mb_costs_little(tmp_path, main, arguments, folder, field, row, kind):
    work = tmp_path / "work"
    work.mkdir()
    for part in (*worlds.BASE, worlds.scorer):
        part(work)
    before = cost(tmp_path, main, f"{arguments} --out first")
    text = TEXTS[kind] * (LONG // len(TEXTS[kind].encode()))
    with open(work / "data" / folder / "en.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(row | {field: text}, ensure_ascii=False) + "\n")
    after = cost(tmp_path, main, f"{arguments} --out second")
    assert after.megabytes - before.megabytes < 300
    assert after.seconds - before.seconds < 10  # it was 35


# ---------- C14
