"""No wrong result without a word: for each defect, the wrong number that used to come out."""

import json

import pytest
from tiny import error_of, write_jsonl
from worlds import BASE, DETECT, EVALUATE, LANGUAGES, TRAIN, detect, evaluate, scorer, train

from minitox.files import read_jsonl


def repeat_rows(folder, times: int) -> None:
    """Write all rows of a data folder several times."""
    for language in LANGUAGES:
        path = folder / f"{language}.jsonl"
        path.write_bytes(path.read_bytes() * times)


def run_twice(main, arguments: str, folder, capsys) -> list[str]:
    """Run a script on the rows of a data folder, and on the same rows 20 times; what it prints."""
    printed = []
    for out in ("once", "often"):
        main([*arguments.split(), "--out", out])
        printed.append(capsys.readouterr().out)
        repeat_rows(folder, 20)
    return printed


def rows_of(path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]


# ---------- A1


# ---------- A2


# ---------- A5


# ---------- A6


# ---------- A7


@pytest.fixture
def small_home(tmp_path, monkeypatch):
    """A folder with a small model and small data, which is the current folder."""
    for part in (*BASE, scorer):
        part(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a7_repeated_sentences_do_not_make_more_neurons_toxic(small_home, capsys):
    once, often = run_twice(detect.main, DETECT, small_home / "data" / "detection", capsys)
    dropped = [f"{language}: dropped 152 sentences: duplicates" for language in LANGUAGES]
    assert often.splitlines()[:2] == dropped
    table = once.partition("Table 2")[2].partition("wrote")[0]
    assert "beyond chance" in table
    assert table in often


def test_a7_one_toxic_and_one_clean_sentence_100_times_are_two_sentences(small_home, capsys):
    for language in LANGUAGES:
        rows = [{"text": "you donkey", "toxicity": 0.9}, {"text": "warm soup", "toxicity": 0.1}]
        write_jsonl(small_home / "data" / "detection" / f"{language}.jsonl", rows * 100)
    detect.main([*DETECT.split(), "--sentences", "100"])
    table = capsys.readouterr().out.partition("Table 2")[2]
    (german,) = [line.split() for line in table.splitlines() if line.startswith("de")][:1]
    assert german[1:4] == ["1", "+", "1"]


def test_a7_repeated_pairs_are_not_trained_on_more_often(small_home, capsys):
    folder = small_home / "data" / "instructions"
    once, often = run_twice(train.main, f"{TRAIN} full", folder, capsys)
    assert "de: dropped 114 duplicates of pairs\nen: dropped 114" in often
    assert once.partition("Results")[2].partition("wrote")[0] in often
    weights = [
        small_home / out / "models" / "full" / "model.safetensors" for out in ("once", "often")
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a7_repeated_prompts_questions_and_sentences_do_not_narrow_intervals(small_home, capsys):
    for name in ("mmlu", "detection"):
        repeat_rows(small_home / "data" / name, 3)
    once, often = run_twice(evaluate.main, EVALUATE, small_home / "data" / "prompts", capsys)
    assert "left out prompts/de: 57 duplicates\n" in often
    assert "left out mmlu/en: 4 duplicates\n" in often
    assert "left out detection/en: 8 duplicates\n" in often
    assert "prompts/de" not in once
    results = [
        json.loads((small_home / out / "report.json").read_text()) for out in ("once", "often")
    ]
    for result in results:
        del result["settings"]
    assert results[0] == results[1]
    replies = rows_of(small_home / "often" / "replies" / "base" / "de.jsonl")
    assert sorted(row["id"] for row in replies) == [1, 2, 3]
    assert "57 duplicates" in (small_home / "often" / "report.md").read_text()


def test_a7_no_sentence_is_in_both_classes(small_home, capsys):
    thresholds = ["--toxic-above", "0.3", "--clean-below", "0.5"]
    error = error_of(detect.main, [*DETECT.split(), *thresholds], capsys)
    assert "--clean-below 0.5 must not be above --toxic-above 0.3" in error
    assert not (small_home / "out").exists()

    rows = rows_of(small_home / "data" / "detection" / "de.jsonl")
    swapped = [row | {"toxicity": 1 - row["toxicity"]} for row in rows[:2]]
    write_jsonl(small_home / "data" / "detection" / "de.jsonl", rows + swapped)
    detect.main(DETECT.split())
    printed = capsys.readouterr().out
    assert "de: dropped 4 sentences: rated both toxic and clean\n" in printed


# ---------- A8


# ---------- A9


# ---------- A10


# ---------- A11
