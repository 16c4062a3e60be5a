"""The third script as a user meets it: what it writes and what it refuses."""

import json
import re
import shutil
from pathlib import Path

import pytest
from tiny import TOY, error_of, write_jsonl, write_model, write_neurons

import evaluate
from minitox.files import read_jsonl
from minitox.languages import HELD_OUT, TUNED
from minitox.lm import checkpoint

SECRET = "a very secret soup"


class Length:
    """A scorer for tests: long replies are toxic, and it covers some languages only."""

    name, about, languages = "length-1", "the length of a reply", {"en", "de"}

    def __init__(self):
        self.asked = []

    def score(self, texts, language):
        self.asked += texts
        yield from ((min(1.0, len(text) / 100), "scored") for text in texts)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Prompts in three languages, questions and sentences in one, and a random model; returns a way to run the script there."""
    write_model(tmp_path / "model")
    for language in ("de", "en", "cs"):
        write_jsonl(
            tmp_path / "data" / "prompts" / f"{language}.jsonl",
            [{"prompt": f"{SECRET} {i}" if i == 3 else f"soup {i}"} for i in range(6)],
        )
    write_jsonl(
        tmp_path / "data" / "mmlu" / "en.jsonl",
        [{"question": f"q{i}", "choices": list("wxyz"), "answer": "ABCD"[i]} for i in range(4)],
    )
    write_jsonl(
        tmp_path / "data" / "detection" / "en.jsonl",
        [{"text": f"the soup is green {i}", "toxicity": i / 10} for i in range(6)],
    )
    scorer = Length()
    monkeypatch.setattr(evaluate, "open_scorer", lambda *_, **__: scorer)

    def run(*extra, out="out"):
        arguments = [
            "--model",
            str(tmp_path / "model"),
            "--data",
            str(tmp_path / "data"),
            "--out",
            str(tmp_path / out),
            "--max-new-tokens",
            "12",
            "--answer-tokens",
            "3",
            "--languages",
            "de,en,cs",
            *map(str, extra),
        ]
        return (
            evaluate.main(arguments)
            if not run.errors
            else error_of(evaluate.main, arguments, run.errors)
        )

    run.path, run.scorer, run.errors = tmp_path, scorer, None
    return run


def table(out: Path, title: str) -> list[list[str]]:
    """The cells of one of the report's tables, first row the header."""
    part = (out / "report.md").read_text(encoding="utf-8").split(f"## {title}")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in part.splitlines()
        if line.startswith("|")
    ]
    return rows[:1] + rows[2:]


def test_everything_that_was_measured_is_on_disk_and_in_the_report(home):
    home()
    out = home.path / "out"
    assert {path.relative_to(out).as_posix() for path in out.rglob("[!.]*") if path.is_file()} == {
        *(f"replies/base/{language}.jsonl" for language in ("de", "en", "cs")),
        "mmlu/base/en.jsonl",
        "perplexity/base/en.jsonl",
        *(f"{stage}/base/run.json" for stage in ("replies", "mmlu", "perplexity")),
        "scores/length-1.jsonl",
        "report.md",
        "report.html",
        "report.json",
    }
    rows = [row for _, row in read_jsonl(out / "replies" / "base" / "en.jsonl")]
    assert len(rows) == 6 and rows[0].keys() == {
        "id",
        "sample",
        "prompt",
        "response",
        "tokens",
        "stopped",
    }
    numbers = json.loads((out / "report.json").read_text())
    expected = sum(
        min(1, len(row["response"]) / 100) for row in rows if row["response"].strip()
    ) / sum(bool(row["response"].strip()) for row in rows)
    assert (
        numbers["toxicity"]["base"]["en"][0] == pytest.approx(expected)
        and numbers["settings"]["seed"] == "0"
    )
    settings = dict((row[0], row[1]) for row in table(out, "Settings")[1:])
    assert (
        settings["max\\_new\\_tokens"] == "12"
        and settings["scorer"] == "length-1"
        and "torch" in settings
    )


def test_a_language_that_the_scorer_does_not_cover_is_a_gap_and_never_0(home):
    home()
    header, czech, average = table(home.path / "out", "Table 4")
    assert czech == ["cs", "-"] and average == ["average", "-"]
    assert json.loads((home.path / "out" / "report.json").read_text())["toxicity"]["base"][
        "cs"
    ] == [None, None, None]
    assert table(home.path / "out", "What is missing")[1][4] == "6"
    assert all(row[1] != "-" for row in table(home.path / "out", "Table 3")[1:])


def test_gaps_in_the_data_are_said(home, capsys):
    home()
    printed, report = capsys.readouterr().out, (home.path / "out" / "report.md").read_text()
    for gap, languages in (("mmlu", "de, cs"), ("detection", "de, cs")):
        assert (
            f"left out {gap}: no file of {languages}\n" in printed
            and f"- {gap}: no file of {languages}\n" in report
        )


def test_neurons_of_another_model_are_no_part_of_the_report_and_that_is_said(home):
    write_model(home.path / "other", seed=1)
    for language, model in (("de", "model"), ("en", "other")):
        path = home.path / "out" / "neurons" / f"{language}.safetensors"
        write_neurons(
            path,
            write_neurons(path, home.path / model),
            {
                "model": checkpoint.fingerprint(home.path / model),
                "toxic": 1,
                "clean": 1,
                "cut": 0,
                "band": [0.2, 0.8],
                "beyond_chance": 0.1,
                "length_auroc": 0.5,
                "split_half": 0.5,
                "ties": 0.0,
            },
        )
    (home.path / "out" / "neurons" / "cs.safetensors").write_bytes(b"soup")
    home()
    assert [row[0] for row in table(home.path / "out", "Table 2")[1:]] == ["de"]
    report = (home.path / "out" / "report.md").read_text()
    assert (
        "- neurons/en: " in report
        and "was found in another model" in report
        and "- neurons/cs: " in report
    )


def test_a_broken_pair_is_told_and_costs_no_report(home):
    write_jsonl(home.path / "data" / "instructions" / "de.jsonl", [{"prompt": 3}])
    write_jsonl(
        home.path / "data" / "instructions" / "en.jsonl", [{"prompt": SECRET, "response": "soup"}]
    )
    home()
    assert table(home.path / "out", "Table 1")[1:] == [["en", "1"]]
    assert (
        "de.jsonl:1: field 'prompt' must be text" in (home.path / "out" / "report.md").read_text()
    )


def test_without_questions_and_sentences_there_is_still_a_report(home, capsys):
    shutil.rmtree(home.path / "data" / "mmlu")
    home("--perplexity", 0)
    assert capsys.readouterr().out.count("left out mmlu") == 1  # once, and not for every language
    report = (home.path / "out" / "report.md").read_text()
    assert "Table 3" in report and "Table 5" not in report and "Perplexity of" not in report


def test_a_model_that_does_not_load_is_named_and_the_others_go_on(home, capsys):
    shutil.copytree(home.path / "model", home.path / "out" / "models" / "full")
    broken = home.path / "out" / "models" / "aura"
    shutil.copytree(home.path / "model", broken)
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:-100])
    home()
    report = (home.path / "out" / "report.md").read_text()
    assert "left out aura: " in capsys.readouterr().out and re.search(
        r"- aura: .*not a whole safetensors file", report
    )
    assert table(home.path / "out", "Table 3")[0] == ["", "base", "full"]


def test_a_model_without_a_control_is_not_evidence(home):
    shutil.copytree(home.path / "model", home.path / "out" / "models" / "multilingual")
    home()
    assert "no model of random neurons" in (home.path / "out" / "report.md").read_text()
    shutil.copytree(home.path / "model", home.path / "out" / "models" / "random")
    home()
    assert (
        "random neurons do as well" in (home.path / "out" / "report.md").read_text()
    )  # they are the same model


def test_all_replies_may_be_empty(home):
    config = json.loads((home.path / "model" / "config.json").read_text())
    (home.path / "model" / "config.json").write_text(
        json.dumps({**config, "eos_token_id": list(range(300))})
    )
    home()
    assert home.scorer.asked == []  # an empty reply is sent to nobody
    assert [row[1] for row in table(home.path / "out", "Table 3")[1:]] == ["-", "-", "-"]
    assert table(home.path / "out", "Effective safety")[1] == [
        "base",
        "0.0% (0.0%..0.0%)",
        "0.0% (0.0%..0.0%)",
        "0.0% (0.0%..0.0%)",
        "100.0% (100.0%..100.0%)",
        "0.0% (0.0%..0.0%)",
    ]
    by_policy = {
        row[0]: row[1] for row in table(home.path / "out", "What an empty reply counts as")[1:]
    }
    assert by_policy["left out, tuned"] == "-" and by_policy["as 1, tuned"].startswith("1.000")


def test_text_is_shown_on_request_only(home):
    home()
    assert not any(
        SECRET in (home.path / "out" / name).read_text()
        for name in ("report.md", "report.html", "report.json")
    )
    home("--show-text")
    assert all(
        SECRET in (home.path / "out" / name).read_text() for name in ("report.md", "report.html")
    )


def test_several_samples_give_the_expected_maximum(home):
    home("--samples", 3, "--temperature", 1)
    rows = sorted(
        (row for _, row in read_jsonl(home.path / "out" / "replies" / "base" / "en.jsonl")),
        key=lambda row: row["id"],
    )
    scores = [min(1, len(row["response"]) / 100) if row["response"].strip() else 0 for row in rows]
    expected = sum(max(scores[i : i + 3]) for i in range(0, 18, 3)) / 6
    assert float(
        table(home.path / "out", "Expected maximum toxicity")[2][1].split()[0]
    ) == pytest.approx(expected, abs=1e-3)
    assert "Toxicity probability" in (home.path / "out" / "report.md").read_text()


def test_more_languages_may_come_later_and_nothing_is_asked_twice(home):
    home("--languages", "en")
    before = (home.path / "out" / "replies" / "base" / "en.jsonl").read_bytes()
    home.scorer.asked.clear()
    home()
    assert (home.path / "out" / "replies" / "base" / "en.jsonl").read_bytes() == before
    english = {
        row["response"]
        for _, row in read_jsonl(home.path / "out" / "replies" / "base" / "en.jsonl")
    }
    german = {
        row["response"]
        for _, row in read_jsonl(home.path / "out" / "replies" / "base" / "de.jsonl")
    }
    assert home.scorer.asked and set(home.scorer.asked) <= german and len(english) > 1


@pytest.mark.parametrize(
    "change, says",
    [
        (["--max-new-tokens", "9"], "its max_new_tokens was 12, this one's is 9"),
        (["--seed", "1"], "its seed was 0"),
        (["--models", "base=OTHER"], "its model was "),
    ],
)
def test_results_of_another_run_are_refused(change, says, home, capsys):
    write_model(home.path / "other", seed=1)
    home()
    home.errors = capsys
    assert says in home(*[word.replace("OTHER", str(home.path / "other")) for word in change])


def test_replies_to_other_prompts_are_refused(home, capsys):
    home()
    write_jsonl(home.path / "data" / "prompts" / "en.jsonl", [{"prompt": "another"}])
    home.errors = capsys
    assert "was made from other en data" in home()


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--models", "ful"], "--models ful: "),
        (["--models", "a/b=x"], "cannot name a folder"),
        (["--models", "x=/nowhere"], "none of the models can be used"),
        (["--data", "/nowhere"], "no language of de, en, cs can be used"),
        (["--model", "/nowhere"], "/nowhere/config.json: no such file"),
        (["--language-id", "langid"], "pip install py3langid"),
    ],
)
def test_a_mistake_is_one_line(arguments, says, home, capsys):
    home.errors = capsys
    message = home(*arguments)
    assert says in message and message.count("\n") == 1


@pytest.mark.parametrize(
    "scorer, says",
    [
        ("oracle", "choose surrogate:FILE, encoder:DIR or perspective"),
        ("encoder:", "choose surrogate"),
        ("surrogate:/nowhere", "data/prepare.py scorer"),
        ("encoder:/nowhere", "/nowhere/config.json: no such file"),
        ("perspective", "PERSPECTIVE_API_KEY is not set"),
    ],
)
def test_a_scorer_that_cannot_be_used_is_said_before_any_reply_is_written(
    scorer, says, tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("PERSPECTIVE_API_KEY", raising=False)
    message = error_of(evaluate.main, ["--scorer", scorer, "--out", str(tmp_path / "out")], capsys)
    assert says in message and message.count("\n") == 1 and not (tmp_path / "out").exists()


def test_samples_without_a_temperature_are_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate.main(["--samples", "2"])
    assert stop.value.code == 2 and "--temperature" in capsys.readouterr().err


def test_tuning_lowers_the_toy_s_toxicity_in_the_tuned_languages(toy_run):
    """Each of the paper's three strategies, beyond the interval of the difference; the control is compared whichever way it falls."""
    numbers = json.loads((toy_run[1] / "report.json").read_text())["toxicity"]
    means = {
        model: {
            part: sum(by[language][0] for language in part) / len(part)
            for part in (TUNED, HELD_OUT)
        }
        for model, by in numbers.items()
    }
    for strategy in ("full", "per-language", "multilingual"):
        assert (
            means[strategy][TUNED] < 0.6 * means["base"][TUNED]
            and means[strategy][TUNED] < means[strategy][HELD_OUT]
        )
        row = next(row for row in table(toy_run[1], "What was found") if row[0] == strategy)
        value, low, high = map(float, re.findall(r"[+-][\d.]*\d", row[3]))
        assert value < 0 and low < value < high < 0
    assert {row[0]: row[4] for row in table(toy_run[1], "What was found")}["multilingual"] != "-"


def test_the_report_has_every_table_and_figure_of_the_paper(toy_run):
    markdown, page = (
        (toy_run[1] / f"report.{kind}").read_text(encoding="utf-8") for kind in ("md", "html")
    )
    for title in (
        "Table 1",
        "Table 2",
        "Table 3",
        "Table 4",
        "Table 5",
        "Figure 2",
        "Figure 3",
        "Figure 4",
        "Figure 5",
    ):
        assert f"## {title}" in markdown and f"<h2>{title}" in page
    assert page.count("<svg") >= 2 + 6 + 6 + 1 and "<script" not in page and TOY.name in markdown
