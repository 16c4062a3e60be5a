"""evaluate.py as a user runs it: what it writes, what it refuses, and what its report shows."""

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tiny import TOY, error_of, training_of, write_jsonl, write_model, write_neurons

import evaluate
from minitox.evaluate.fluency import is_repetitive
from minitox.files import read_jsonl, write_json
from minitox.languages import HELD_OUT, TUNED
from minitox.lm import checkpoint
from minitox.run import neuron_files, training_record
from minitox.train.model_names import ModelName

SECRET = "a very secret soup"


class Length:
    """A scorer for tests: long replies are toxic. It covers some languages only."""

    name = "length-1"
    about = "the length of a reply"
    languages = {"en", "de"}

    def __init__(self):
        self.asked = []

    def score(self, texts, language):
        self.asked += texts
        for text in texts:
            yield length_score(text), "scored"


def length_score(text: str) -> float:
    return min(1.0, len(text) / 100)


@dataclass
class Home:
    """A folder with a model and data, in which evaluate.py can be run."""

    path: Path
    scorer: Length = field(default_factory=Length)
    others: list = field(default_factory=list)  # scorers beside it

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def out(self) -> Path:
        return self.path / "out"

    def arguments(self, *more) -> list[str]:
        folders = ["--model", self.model, "--data", self.data, "--out", self.out]
        limits = ["--max-new-tokens", "12", "--answer-tokens", "3", "--languages", "de,en,cs"]
        return [str(argument) for argument in (*folders, *limits, *more)]

    def run(self, *more) -> None:
        evaluate.main(self.arguments(*more))

    def error(self, capsys, *more) -> str:
        """The message of a run that fails."""
        return error_of(evaluate.main, self.arguments(*more), capsys)

    def add_model(self, name: str) -> Path:
        """Copy the base model to OUT/models."""
        return shutil.copytree(self.model, self.out / "models" / name)

    def add_record(self, name: str) -> None:
        """Write what train.py records of a model."""
        folder = self.out / "models" / name
        parts = ModelName.parse(name)
        settings = {"draw": parts.draw, "lr": float(parts.rate or 0.004)}
        record = training_of(parts.strategy, model=checkpoint.fingerprint(self.model), **settings)
        write_json(folder / "run.json", record | {"files": training_record.file_hashes(folder)})

    def add_neurons(self, language: str, model: Path) -> None:
        """Write a neuron file of a model, as detect.py does."""
        path = self.out / "neurons" / f"{language}.safetensors"
        about = {
            "model": checkpoint.fingerprint(model),
            "language": language,
            "toxic": 1,
            "clean": 1,
            "cut": 0,
            "band": [0.2, 0.8],
            "beyond_chance": 0.1,
            "length_auroc": 0.5,
            "by_length": 0.1,
            "beyond_length": 0.1,
            "split_half": [0.5, 0.3, 0.4],
            "ties": 0.0,
        }
        auroc = write_neurons(path, model)
        neuron_files.write_neurons(path, auroc, auroc, about)

    def replies(self, language: str) -> list[dict]:
        path = self.out / "replies" / "base" / f"{language}.jsonl"
        return [row for _, row in read_jsonl(path)]

    def report(self, kind: str = "md") -> str:
        return (self.out / f"report.{kind}").read_text(encoding="utf-8")

    def numbers(self) -> dict:
        return json.loads(self.report("json"))

    def table(self, title: str) -> list[list[str]]:
        return table(self.report(), title)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Home:
    """A random model, prompts in three languages, questions and sentences in one."""
    write_model(tmp_path / "model")
    data = tmp_path / "data"
    for language in ("de", "en", "cs"):
        prompts = [f"soup {number}" for number in range(6)]
        prompts[3] = f"{SECRET} 3"
        write_jsonl(
            data / "prompts" / f"{language}.jsonl", [{"prompt": prompt} for prompt in prompts]
        )
    questions = []
    for number, answer in enumerate("ABCD"):
        question = {"question": f"q{number}", "choices": list("wxyz"), "answer": answer}
        questions.append(question)
    write_jsonl(data / "mmlu" / "en.jsonl", questions)
    sentences = []
    for number in range(6):
        sentence = {"text": f"the soup is green {number}", "toxicity": number / 10}
        sentences.append(sentence)
    write_jsonl(data / "detection" / "en.jsonl", sentences)

    home = Home(tmp_path)
    monkeypatch.setattr(evaluate, "open_scorers", lambda *_, **__: [home.scorer, *home.others])
    return home


def table(report: str, title: str) -> list[list[str]]:
    """The cells of one of the report's tables; the first row is the header."""
    section = report.split(f"## {title}")[1].split("\n## ")[0]
    rows = []
    for line in section.splitlines():
        if line.startswith("|"):
            cells = line.strip("|").split("|")
            rows.append([cell.strip() for cell in cells])
    return rows[:1] + rows[2:]  # without the line below the header


# ---------- what it writes


def test_all_results_are_on_disk_and_in_the_report(home):
    home.run()
    files = [path.relative_to(home.out) for path in home.out.rglob("[!.]*") if path.is_file()]
    assert {path.as_posix() for path in files} == {
        "replies/base/de.jsonl",
        "replies/base/en.jsonl",
        "replies/base/cs.jsonl",
        "replies/base/run.json",
        "mmlu/base/en.jsonl",
        "mmlu/base/run.json",
        "perplexity/base/en.jsonl",
        "perplexity/base/run.json",
        "scores/length-1.jsonl",
        "report.md",
        "report.html",
        "report.json",
    }
    rows = home.replies("en")
    assert len(rows) == 6
    assert list(rows[0]) == ["id", "sample", "prompt", "response", "tokens", "stopped"]

    scores = [length_score(row["response"]) for row in rows if row["response"].strip()]
    mean, _, _ = home.numbers()["toxicity"]["base"]["en"]
    assert mean == pytest.approx(sum(scores) / len(scores))
    assert home.numbers()["settings"]["seed"] == "0"
    settings = dict(home.table("Settings")[1:])
    assert settings["max\\_new\\_tokens"] == "12"
    assert settings["scorer"] == "length-1"
    assert "torch" in settings


def test_text_is_shown_on_request_only(home):
    home.run()
    assert not any(SECRET in home.report(kind) for kind in ("md", "html", "json"))
    home.run("--show-text")
    assert all(SECRET in home.report(kind) for kind in ("md", "html"))


def test_several_samples_give_the_expected_maximum(home, monkeypatch):
    # random replies may look like a language that the scorer does not know
    monkeypatch.setattr(evaluate, "open_detector", lambda name: lambda text: None)
    home.run("--samples", 3, "--temperature", 1)
    rows = sorted(home.replies("en"), key=lambda row: row["id"])
    scores = []
    for row in rows:
        scores.append(length_score(row["response"]) if row["response"].strip() else 0)
    maxima = [max(scores[start : start + 3]) for start in range(0, 18, 3)]
    cell = home.table("Expected maximum toxicity")[2][1]
    assert float(cell.split()[0]) == pytest.approx(sum(maxima) / 6, abs=1e-3)
    assert "Toxicity probability" in home.report()


def test_a_translation_of_the_prompts_does_not_narrow_the_interval_of_the_mean(home, monkeypatch):
    """Replies to the same prompts are the same, so that the second language adds no evidence."""
    monkeypatch.setattr(evaluate, "open_detector", lambda name: lambda text: None)
    for language in ("de", "en"):
        path = home.data / "prompts" / f"{language}.jsonl"
        prompts = enumerate(read_jsonl(path))
        write_jsonl(path, [row | {"id": f"rtp-lx/{i}"} for i, (_, row) in prompts])
    home.run()
    numbers = home.numbers()
    assert numbers["languages of the mean"] == ["de", "en"]
    mean, low, high = numbers["mean toxicity"]["base"]
    assert numbers["toxicity"]["base"]["de"] == pytest.approx([mean, low, high])
    assert numbers["toxicity"]["base"]["en"] == pytest.approx([mean, low, high])
    assert low < mean < high
    assert "- intervals: too narrow" in home.report()


def test_all_replies_may_be_empty(home):
    path = home.model / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "eos_token_id": list(range(300))}))
    home.run()
    assert home.scorer.asked == []  # an empty reply is not scored
    assert [row[1] for row in home.table("Table 3")[1:]] == ["-", "-", "-"]
    assert home.table("Effective safety")[1] == [
        "base",
        *["0.0% (0.0%..17.6%)"] * 4,
        "100.0% (82.4%..100.0%)",
        "0.0% (0.0%..17.6%)",
    ]
    by_policy = {
        row[0]: row[1] for row in home.table("Sensitivity to the score of empty replies")[1:]
    }
    assert by_policy["left out, tuned"] == "-"
    assert by_policy["as 1, tuned"].startswith("1.000")


def test_a_model_without_a_control_is_not_evidence(home):
    home.add_model("multilingual")
    home.run()
    assert "These models have no random neurons to compare with" in home.report()
    # nothing is known of a control without run.json
    draws = [f"random-{draw}" for draw in range(1, 6)]
    for name in draws:
        home.add_model(name)
    home.run()
    assert "These models have no random neurons to compare with" in home.report()
    assert f"draws: {', '.join(draws)} (settings not known: no run.json)." in home.report()
    # controls that are the same model, made with the same settings, do as well
    for name in ("multilingual", *draws[:4]):
        home.add_record(name)
    home.run()
    assert "because random was drawn 4 times: fewer than 5 draws" in home.report()
    assert "Not averaged with the other draws: random-5 (settings not" in home.report()
    home.add_record("random-5")
    home.run("--margin", 0.01)
    assert "The neurons of multilingual do no worse than random ones (margin 0.01)" in home.report()
    assert "not significantly different: multilingual" in home.report()
    verdict = home.numbers()["verdicts"]["multilingual"]
    assert (verdict["verdict"], verdict["margin"]) == ("no worse", 0.01)
    assert list(verdict["draws"]) == draws == home.numbers()["draws"]["random"]


def test_the_first_page_of_a_report_on_single_prompts_says_why_it_has_no_intervals(home):
    home.add_model("full")
    home.add_record("full")
    home.run("--prompts", 1)
    first_page = home.report().split("\n## ")[1]
    assert "There is a single prompt in de, en, cs, which does not show how much" in first_page
    reason = "no interval, because of a single prompt with a score in de, en"
    assert f"Not compared with base: full ({reason})." in home.report()
    assert "nan.." not in home.report()
    assert home.numbers()["mean toxicity"]["full"][1:] == [None, None]


def test_no_table_has_a_column_for_a_draw_or_a_rate_that_was_not_chosen(home, capsys):
    """Only the section on rates and the fingerprints among the settings name them."""
    rates = ["multilingual@0.001", "random-1@0.016"]
    for name in ("multilingual", "random-1", "random-2", "random-3", *rates):
        home.add_model(name)
        home.add_record(name)
    home.run("--samples", 2, "--temperature", 1, "--show-text")
    assert "(7 models)" in capsys.readouterr().out
    sections = home.report().split("\n## ")[1:]
    for section in sections:
        title = section.splitlines()[0]
        if title == "Trade-off over learning rates":
            assert section.count("0.004 (chosen)") == 2
        elif title != "Settings":
            assert "@" not in section and "random-1" not in section.replace("\\", "")
    header = ["", "base", "multilingual", "random"]
    titles = ("Table 3", "Sensitivity", "Table 5. MMLU", "Expected max", "Perplexity")
    for title in titles:
        assert home.table(title)[0][1:] == header[1:]
    labels = {row[0].partition(",")[0] for row in home.table("Figure 4")[1:]}
    assert labels == set(header[1:])
    assert [row[:2] for row in home.table("Tuned models")[1:]] == [
        ["multilingual", "40"],
        ["random", "40"],
    ]
    assert home.numbers()["rates"].keys() == {"multilingual", "random-1"}


def test_a_draw_that_cannot_be_used_is_named_and_the_others_are_averaged(home, capsys):
    for draw in (1, 2, 3):
        home.add_model(f"random-{draw}")
        home.add_record(f"random-{draw}")
    (home.out / "models" / "random-2" / "model.safetensors").unlink()
    home.run()
    assert "left out random-2: " in capsys.readouterr().out
    assert home.table("Table 3")[0] == ["", "base", "random"]
    assert home.numbers()["draws"] == {"random": ["random-1", "random-3"]}
    # it is an error if it was asked for
    assert "the report is without random-2: " in home.error(capsys, "--models", "random")


# ---------- gaps


def test_a_language_that_the_scorer_does_not_cover_is_a_gap_and_never_0(home):
    home.run()
    _, czech, average = home.table("Table 4")
    assert czech == ["cs", "-"]
    assert average == ["average", "-"]
    assert home.numbers()["toxicity"]["base"]["cs"] == [None, None, None]
    header, counts = home.table("Missing data")[:2]
    assert counts[header.index("language not scored")] == counts[4] == "6"
    assert all(row[1] != "-" for row in home.table("Table 3")[1:])


def test_gaps_in_the_data_are_printed_and_listed_in_the_report(home, capsys):
    home.run()
    printed = capsys.readouterr().out
    for folder in ("mmlu", "detection"):
        assert f"left out {folder}: no file of de, cs\n" in printed
        assert f"- {folder}: no file of de, cs\n" in home.report()


def test_neurons_of_another_model_are_left_out_of_the_report_and_listed(home):
    write_model(home.path / "other", seed=1)
    home.add_neurons("de", home.model)
    home.add_neurons("en", home.path / "other")
    (home.out / "neurons" / "cs.safetensors").write_bytes(b"soup")
    home.run()
    assert [row[0] for row in home.table("Table 2")[1:]] == ["de"]
    report = home.report()
    assert "- neurons/en: " in report
    assert "was made from another model" in report
    assert "- neurons/cs: " in report


def test_a_broken_pair_of_another_language_is_listed_and_the_report_is_written(home, capsys):
    """There are no French prompts to compare it with; otherwise it is an error."""
    instructions = home.data / "instructions"
    write_jsonl(instructions / "fr.jsonl", [{"prompt": 3, "response": "soup"}])
    write_jsonl(instructions / "en.jsonl", [{"prompt": SECRET, "response": "soup"}])
    home.run()
    assert home.table("Table 1")[1:] == [["en", "1"]]
    assert "fr.jsonl:1: field 'prompt' must be text" in home.report()
    # replies of the languages that are evaluated are compared with the models'
    write_jsonl(instructions / "de.jsonl", [{"prompt": "soup"}])
    assert "de.jsonl:1: field 'response' is missing" in home.error(capsys)


def test_without_questions_and_sentences_there_is_still_a_report(home, capsys):
    shutil.rmtree(home.data / "mmlu")
    home.run("--perplexity", 0)
    assert capsys.readouterr().out.count("left out mmlu") == 1  # once, not for every language
    report = home.report()
    assert "Table 3" in report
    assert "Table 5" not in report
    assert "Perplexity of" not in report


def test_questions_that_are_not_wanted_are_not_asked(home, capsys):
    home.run("--no-mmlu")
    assert not (home.out / "mmlu").exists()
    assert "left out mmlu" not in capsys.readouterr().out
    assert "Table 5" not in home.report()


def test_a_model_that_does_not_load_is_named_and_the_others_are_evaluated(home, capsys):
    home.add_model("full")
    weights = home.add_model("aura") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    home.run()
    assert "left out aura: " in capsys.readouterr().out
    assert re.search(r"- aura: .*not a whole safetensors file", home.report())
    assert home.table("Table 3")[0] == ["", "base", "full"]


def test_a_model_that_fails_while_it_is_asked_is_named_and_the_others_are_evaluated(home, capsys):
    """Its weights are read at the first prompt."""
    folder = home.add_model("full")
    write_model(folder, max_position_embeddings=8)
    home.run()
    message = "full: --max-new-tokens 12 leaves no room for a prompt in 8 positions"
    assert f"\n{message}\n" in capsys.readouterr().out
    assert f"- {message}" in home.report()
    assert home.table("Table 3")[0] == ["", "base"]


# ---------- broken replies


class Harmless(Length):
    """A scorer that finds no text toxic."""

    def score(self, texts, language):
        yield from ((0.0, "scored") for _ in texts)


@pytest.fixture
def english(home, monkeypatch) -> Home:
    """All replies are English and not toxic, and people wrote sixty replies."""
    home.scorer = Harmless()
    monkeypatch.setattr(evaluate, "open_detector", lambda name: lambda text: "en")
    pairs = [{"prompt": f"x {n}", "response": f"the soup is warm {n}"} for n in range(60)]
    write_jsonl(home.data / "instructions" / "en.jsonl", pairs)
    return home


def shares_of(home: Home) -> tuple[float, float]:
    """The shares of clean and of broken replies."""
    numbers = home.numbers()
    return tuple(numbers[name]["base"]["en"][0] for name in ("clean in language", "broken"))


def set_nats(path: Path, nats: float) -> None:
    """Change how likely the base model finds the texts of a file."""
    rows = [row | {"nats": nats} for _, row in read_jsonl(path)]
    write_jsonl(path, rows)


def test_a_reply_that_is_less_fluent_than_people_s_is_broken_and_not_clean(english):
    english.run()
    clean, broken = shares_of(english)
    assert clean + broken == 1
    people = english.out / "human" / "base" / "en.jsonl"
    assert len(list(read_jsonl(people))) == 60
    set_nats(people, 0.0)
    english.run()
    assert shares_of(english) == (0, 1)
    # without a limit, only repetition counts
    set_nats(people, 1e6)
    english.run()
    repetitive = [is_repetitive(row["response"]) for row in english.replies("en")]
    assert shares_of(english) == pytest.approx((1 - sum(repetitive) / 6, sum(repetitive) / 6))
    report = english.report()
    assert "de over 1e300, cs over 1e300 (by the replies of all languages)" in report


def test_with_few_replies_of_people_only_repetition_counts(english):
    path = english.data / "instructions" / "en.jsonl"
    write_jsonl(path, [row for _, row in read_jsonl(path)][:49])
    english.run()
    assert not (english.out / "human").exists() and not (english.out / "fluency").exists()
    assert "fluency was not measured, see the summary" in english.report()
    reason = "49 replies in DATA/instructions are too few to compare with"
    assert f"Fluency was not measured ({reason})" in english.report()
    assert f"- fluency: {reason}" in english.report()


def test_fluency_under_another_base_model_or_of_other_replies_is_not_taken_over(english, capsys):
    english.run()
    replies = english.out / "replies" / "base" / "en.jsonl"
    rows = [row for _, row in read_jsonl(replies)]
    write_jsonl(replies, [rows[0] | {"response": "soup"}, *rows[1:]])
    message = "fluency/base/en.jsonl: a reply is missing, is there twice, or has changed"
    assert message in english.error(capsys)

    write_jsonl(replies, rows)
    write_model(english.path / "other", seed=1)
    more = ["--models", f"base={english.model}", "--model", str(english.path / "other")]
    assert "human/base contains results of another run: its model was" in english.error(
        capsys, *more
    )
    shutil.rmtree(english.out / "human")
    assert "fluency/base contains results of another run: its base was different" in english.error(
        capsys, *more
    )


def test_a_base_model_that_is_not_compared_judges_the_fluency_all_the_same(english):
    english.add_model("full")
    english.run("--models", "full")
    assert {path.name for path in (english.out / "fluency").iterdir()} == {"full"}
    assert english.table("Effective safety")[1][0] == "full"
    # nothing is measured twice
    before = (english.out / "fluency" / "full" / "en.jsonl").read_bytes()
    english.run("--models", "full", "base")
    assert (english.out / "fluency" / "full" / "en.jsonl").read_bytes() == before


def test_without_a_base_model_that_can_be_read_the_report_says_why_and_it_is_an_error(
    english, capsys
):
    english.add_model("full")
    weights = english.model / "model.safetensors"
    shutil.move(weights, english.path / "moved.safetensors")
    message = english.error(capsys, "--models", "full")
    assert message.startswith("error: the report is without fluency: ")
    assert str(english.model) in message
    assert english.table("Effective safety")[1][0] == "full"
    assert "Fluency was not measured (" in english.report()
    assert not (english.out / "fluency").exists()


def test_the_limit_on_fluency_does_not_depend_on_the_languages_of_a_run(english):
    """Czech has no human-written replies, and is compared with those of all languages."""
    english.run("--languages", "cs")
    assert (english.out / "human" / "base" / "en.jsonl").exists()
    assert "cs" in english.report().split("broken: ")[1].splitlines()[0]


# ---------- how it resumes


def test_more_languages_may_come_later_and_nothing_is_asked_twice(home):
    home.run("--languages", "en")
    path = home.out / "replies" / "base" / "en.jsonl"
    before = path.read_bytes()
    home.scorer.asked.clear()
    home.run()
    assert path.read_bytes() == before
    english = {row["response"] for row in home.replies("en")}
    german = {row["response"] for row in home.replies("de")}
    assert len(english) > 1
    assert home.scorer.asked
    assert set(home.scorer.asked) <= german


@pytest.mark.parametrize(
    "change, message",
    [
        (["--max-new-tokens", "9"], "its max_new_tokens was 12, this run's is 9"),
        (["--seed", "1"], "its seed was 0"),
        (["--models", "base=OTHER"], "its model was "),
    ],
)
def test_results_of_another_run_are_refused(change, message, home, capsys):
    other = home.path / "other"
    write_model(other, seed=1)
    home.run()
    arguments = [argument.replace("OTHER", str(other)) for argument in change]
    assert message in home.error(capsys, *arguments)


def test_replies_to_other_prompts_are_refused(home, capsys):
    home.run()
    write_jsonl(home.data / "prompts" / "en.jsonl", [{"prompt": "another"}])
    assert "was made from other en data" in home.error(capsys)


# ---------- exaggerated safety


def add_xstest(home) -> None:
    """Prompts that are safe and unsafe to answer, and replies to tune on."""
    rows = [{"prompt": f"may I try soup {i}?", "label": "safe"} for i in range(4)]
    rows += [{"prompt": f"donkey {i}", "label": "unsafe"} for i in range(3)]
    write_jsonl(home.data / "xstest" / "en.jsonl", rows)


def bytes_of(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_prompts_of_xstest_are_asked_beside_results_that_were_made_before(home):
    home.run()
    before = {name: bytes_of(home.out / name) for name in ("replies", "mmlu", "perplexity")}
    numbers = home.numbers()
    assert "## Exaggerated safety" not in home.report()
    add_xstest(home)
    home.scorer.asked.clear()
    home.run()
    assert before == {name: bytes_of(home.out / name) for name in before}
    written = [row for _, row in read_jsonl(home.out / "xstest" / "base" / "en.jsonl")]
    assert sorted(row["id"] for row in written) == list(range(1, 8))
    assert {*home.scorer.asked} <= {row["response"] for row in written}
    rows = home.table("Exaggerated safety")
    assert [row[0] for row in rows] == ["", "base"]
    # everything else is as it was
    more = home.numbers()
    shares = more.pop("exaggerated safety")
    assert shares.keys() == {"safe refused", "safe copied", "unsafe refused", "unsafe clean"}
    assert {**more, "settings": {}} == {**numbers, "settings": {}}

    # a second run asks and scores nothing
    files = bytes_of(home.out)
    home.scorer.asked.clear()
    home.run()
    assert home.scorer.asked == []
    assert bytes_of(home.out) == files


def test_the_fluency_of_replies_to_xstest_is_measured_as_well(english):
    add_xstest(english)
    english.run()
    path = english.out / "xstest_fluency" / "base" / "en.jsonl"
    assert len(path.read_text().splitlines()) == 7
    cells = english.table("Exaggerated safety")[1]
    copies = cells[2]
    assert copies.endswith("of 4") or copies == "-"


def test_prompts_of_xstest_that_are_not_wanted_are_not_read(home):
    (home.data / "xstest").mkdir()
    (home.data / "xstest" / "en.jsonl").write_text("soup")
    home.run("--no-xstest")
    assert not (home.out / "xstest").exists()
    assert "## Exaggerated safety" not in home.report()


@pytest.mark.parametrize("more", [[], ["--no-mmlu"]])
def test_a_malformed_prompt_of_xstest_is_one_line_before_any_reply_is_written(home, capsys, more):
    write_jsonl(home.data / "xstest" / "en.jsonl", [{"prompt": "soup", "label": True}])
    line = home.error(capsys, *more)
    assert "xstest/en.jsonl:1: field 'label' must be safe or unsafe, not True" in line
    assert not (home.out / "replies").exists()


def test_replies_to_other_prompts_of_xstest_are_refused(home, capsys):
    add_xstest(home)
    home.run()
    before = bytes_of(home.out)
    rows = [{"prompt": "soup", "label": "safe"}, {"prompt": "donkey", "label": "unsafe"}]
    write_jsonl(home.data / "xstest" / "en.jsonl", rows)
    assert "xstest/base was made from other en data" in home.error(capsys)
    assert bytes_of(home.out) == before


def test_a_reply_to_xstest_that_is_missing_is_named(home, capsys):
    add_xstest(home)
    home.run()
    path = home.out / "xstest" / "base" / "en.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:-1], lines[0]]), encoding="utf-8")
    assert "xstest/base/en.jsonl: a reply is missing, is there twice" in home.error(capsys)


# ---------- how good the scorers are


def add_cases(home, hateful: str, harmless: str) -> None:
    """Cases in German, English and a language that the scorer does not know."""
    for language in ("de", "en", "cs"):
        cases = [{"text": f"{hateful} {number}", "hateful": True} for number in range(9)]
        cases += [{"text": f"{harmless} {number}", "hateful": False} for number in range(9)]
        write_jsonl(home.data / "hatecheck" / f"{language}.jsonl", cases)


def test_the_scorer_is_measured_on_labelled_cases_once(home, capsys):
    add_cases(home, "a long donkey of a case", "short")
    home.run()
    output = capsys.readouterr().out
    finding = "length-1 separates hateful from harmless cases with an AUC of 1.00 at worst (de)"
    assert finding in output and finding in home.report()
    rows = {row[0]: row[1:] for row in home.table("Scorers")}
    assert rows["AUC, de"][0].startswith("1.00 (0.")
    assert rows["AUC, cs"] == ["-"]
    reason = "length-1, cs: no score of 18 cases: the scorer does not know the language."
    assert f"- {reason}" in home.report()
    value, low, high = home.numbers()["scorers"]["length-1"]["de"]
    assert value == high == 1 and 0.6 < low < 1

    # a second run scores nothing
    assert len([text for text in home.scorer.asked if text.startswith("short")]) == 2 * 9
    home.scorer.asked.clear()
    home.run()
    assert home.scorer.asked == []
    assert finding in capsys.readouterr().out


def test_a_scorer_that_separates_the_cases_poorly_is_warned_of_first(home, capsys):
    add_cases(home, "donkey", "a long but harmless case")
    home.run()
    warning = (
        "length-1 separates hateful from harmless cases poorly (AUC below 0.7) in: de (0.00), "
        "en (0.00). Do not rely on its scores in these languages; 0.5 is chance."
    )
    assert warning in capsys.readouterr().out
    beginning = home.report().split("## Question and answer")[1].strip()
    # before it: the question, and a warning of replies in a language that the scorer does not know
    assert beginning.split("\n\n")[2] == f"{warning} Measured in 2 of 3 languages."


def test_cases_that_are_absent_or_not_wanted_are_not_measured(home, capsys):
    home.run()
    folder = home.data / "hatecheck"
    text = "How well length-1 separates hateful from harmless cases was not measured:"
    output = capsys.readouterr().out
    assert f"left out hatecheck: {folder} is not a folder\n" in output
    assert f"{text} {folder} is not a folder." in output
    add_cases(home, "a long donkey of a case", "short")
    home.run("--no-hatecheck")
    assert f"{text} left out with --no-hatecheck." in capsys.readouterr().out
    assert not any(text.startswith("short") for text in home.scorer.asked)


def test_a_malformed_case_is_one_line_before_any_reply_is_written(home, capsys):
    write_jsonl(home.data / "hatecheck" / "de.jsonl", [{"text": "Esel", "hateful": "yes"}])
    line = home.error(capsys)
    assert "hatecheck/de.jsonl:1: field 'hateful' must be true or false" in line
    assert not (home.out / "replies").exists()


class Opposite(Length):
    """Short replies are toxic. It knows German only."""

    name = "opposite-1"
    languages = {"de"}

    def score(self, texts, language):
        for score, status in super().score(texts, language):
            yield 1 - score, status


def test_the_first_scorer_judges_and_others_stand_beside_it(home, capsys):
    home.run()
    before = home.table("Table 3")
    toxicity = home.numbers()["toxicity"]
    home.others.append(Opposite())
    add_cases(home, "a long donkey of a case", "short")
    home.run()
    assert "opposite-1: the length of a reply\n" in capsys.readouterr().out
    assert home.table("Table 3") == before
    assert home.numbers()["toxicity"] == toxicity
    assert home.numbers()["settings"]["scorer"] == "length-1, opposite-1"

    header, *rows = home.table("Scorers")
    assert header == ["", "length-1", "opposite-1"]
    rows = {row[0]: row[1:] for row in rows}
    assert [cell[:4] for cell in rows["AUC, de"]] == ["1.00", "0.00"]
    assert [cell[:4] for cell in rows["AUC, en"]] == ["1.00", "-"]
    assert rows["rank correlation with length-1"] == ["", "-1.00"]
    german = float(rows["toxicity, base"][0][:5])  # the other scorer knows no other language
    assert german == pytest.approx(toxicity["base"]["de"][0], abs=0.001)
    files = {path.name for path in (home.out / "scores").iterdir()}
    assert {"length-1.jsonl", "opposite-1.jsonl"} <= files


# ---------- what it refuses


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--models", "ful"], "--models ful: "),
        (["--models", "a/b=x"], "cannot name a folder"),
        (["--models", "x=/nowhere"], "none of the models can be used"),
        (["--data", "/nowhere"], "no language of de, en, cs can be used"),
        (["--model", "/nowhere"], "/nowhere/config.json: no such file"),
        (["--language-id", "langid"], "pip install py3langid"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, home, capsys):
    line = home.error(capsys, *arguments)
    assert message in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    "scorer, message",
    [
        ("oracle", "choose surrogate:FILE, encoder:DIR, guard:DIR or perspective"),
        ("guard:", "choose surrogate"),
        ("guard:/nowhere", "/nowhere/config.json: no such file"),
        ("encoder:", "choose surrogate"),
        ("surrogate:/nowhere", "data/prepare.py scorer"),
        ("encoder:/nowhere", "/nowhere/config.json: no such file"),
        ("perspective", "PERSPECTIVE_API_KEY is not set"),
    ],
)
def test_a_scorer_that_cannot_be_used_is_refused_before_any_reply_is_written(
    scorer, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("PERSPECTIVE_API_KEY", raising=False)
    out = tmp_path / "out"
    line = error_of(evaluate.main, ["--scorer", scorer, "--out", str(out)], capsys)
    assert message in line
    assert line.count("\n") == 1
    assert not out.exists()


def test_a_scorer_that_is_named_twice_is_refused(tmp_path, capsys):
    copy = shutil.copy(TOY / "scorer.safetensors", tmp_path)
    scorers = [f"surrogate:{TOY / 'scorer.safetensors'}", f"surrogate:{copy}"]
    line = error_of(evaluate.main, ["--scorer", *scorers, "--out", str(tmp_path / "out")], capsys)
    assert f"error: --scorer {scorers[1]}: surrogate-" in line
    assert "is named twice; name it once" in line


def test_samples_without_a_temperature_are_refused(capsys):
    assert "--temperature" in error_of(evaluate.main, ["--samples", "2"], capsys)


# ---------- the toy


def test_tuning_lowers_the_toy_s_toxicity_in_the_tuned_languages(toy_run):
    """For each of the paper's three strategies, beyond the interval of the difference.

    They are compared with random neurons, whichever are better.
    """
    _, out = toy_run
    report = json.loads((out / "report.json").read_text())
    toxicity = report["toxicity"]

    def mean(model: str, languages) -> float:
        values = [toxicity[model][language][0] for language in languages]
        return sum(values) / len(values)

    summary = table((out / "report.md").read_text(encoding="utf-8"), "Summary")
    rows = {row[0]: dict(zip(summary[0], row, strict=True)) for row in summary}
    for strategy in ("full", "per-language", "multilingual"):
        assert mean(strategy, TUNED) < 0.6 * mean("base", TUNED)
        assert mean(strategy, TUNED) < mean(strategy, HELD_OUT)
        difference = rows[strategy]["difference from base"]
        value, low, high = map(float, re.findall(r"[+-][\d.]*\d", difference))
        assert value < 0
        assert low < value < high < 0
    verdict = report["verdicts"]["multilingual"]
    assert verdict["verdict"] in ("better", "worse", "no worse", "undecided")
    low, high = verdict["one more draw"][1:]
    assert len(verdict["draws"]) == 5 and all(
        low < value < high for value in verdict["draws"].values()
    )


def test_the_report_has_every_table_and_figure_of_the_paper(toy_run):
    _, out = toy_run
    markdown = (out / "report.md").read_text(encoding="utf-8")
    page = (out / "report.html").read_text(encoding="utf-8")
    tables = [f"Table {number}" for number in (1, 2, 3, 4, 5)]
    figures = [f"Figure {number}" for number in (2, 3, 4, 5)]
    for title in tables + figures:
        assert f"## {title}" in markdown
        assert f"<h2>{title}" in page
    assert page.count("<svg") >= 2 + 6 + 6 + 1
    assert "<script" not in page
    assert TOY.name in markdown
