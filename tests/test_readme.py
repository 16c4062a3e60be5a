"""The READMEs are true: their tables are the results, and what they point at exists.

README.md is for users, minitox/README.md for readers of the code. tests/README.md has the
measurements and the printed output of the scripts.
"""

import importlib
import json
import re
import sys
from pathlib import Path

import evidence
import numpy as np
import pytest
import torch
from tiny import TOY

from minitox.detect.auroc import auroc
from minitox.languages import HELD_OUT, TUNED
from minitox.lm import checkpoint
from minitox.report.page import aligned

ROOT = Path(__file__).resolve().parents[1]
NAMES_OF_TEXTS = ("README.md", "minitox/README.md", "tests/README.md")
TEXTS = {name: (ROOT / name).read_text("utf-8") for name in NAMES_OF_TEXTS}
README, GUIDE, MEASUREMENTS = TEXTS.values()
CHECKLIST = (ROOT / "tests" / "checklist.md").read_text("utf-8")  # everything that the paper does
PAPER = json.loads((ROOT / "minitox" / "report" / "paper.json").read_text("utf-8"))

sys.path.insert(0, str(ROOT / "data"))  # README points at functions of data/ too

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[+-]?\d[\d,]*\.?\d*")


def section(text: str, title: str) -> str:
    """The text below a heading of level two."""
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str, kind: str) -> list[str]:
    """The fenced blocks of a kind, such as "bash"; "" is printed output."""
    return [block for tag, block in FENCED.findall(text) if tag == kind]


def rows_of(text: str) -> list[list[str]]:
    """The cells of a Markdown table's rows, without the heading."""
    rows = []
    for line in text.splitlines():
        if line.startswith("| "):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[1:]


def words(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())


def paper_parts() -> list[list[str]]:
    """The rows of the table that points from parts of the paper to code."""
    return rows_of(section(GUIDE, "The paper, part by part"))


def test_the_first_page_is_short():
    assert len(README.split()) <= 2_500


def test_it_names_every_file_and_only_files_that_exist():
    from test_repo import sources

    tree = section(GUIDE, "The files").split("```")[1]
    named = set(re.findall(r"(\w+\.py)\b", tree))
    of_tests = {"make.py", "benchmark.py", "evidence.py", "lora.py"}
    assert named == {path.name for path in sources() if path.name != "__init__.py"} | of_tests


def test_it_lists_every_deviation_from_the_paper():
    from test_repo import sources

    marked = []
    for path in sources():
        for line in (ROOT / path).read_text("utf-8").splitlines():
            if "# DEVIATION:" in line:
                marked.append(line.split("# DEVIATION:")[1].strip())
    assert marked
    assert all(deviation in words(GUIDE) for deviation in marked)


def numbers_in(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def test_its_snippet_computes_the_method(monkeypatch, capsys):
    """The AUROC, mask and frozen rows are those of minitox; the comments show what it prints."""
    (snippet,) = blocks(README, "python")
    monkeypatch.chdir(ROOT)
    names = {}
    exec(compile(snippet, "README.md", "exec"), names)

    # 1) what it prints
    comments = re.findall(r"print\(.*\)  # (.*)", snippet)
    count, *losses = numbers_in(" ".join(comments))
    printed = numbers_in(capsys.readouterr().out)
    assert printed[0] == pytest.approx(count, abs=8)
    assert printed[1:] == pytest.approx(losses, rel=0.02)
    assert losses[1] < losses[0]

    # 2) the masks, and the rows that it tunes
    base = checkpoint.load(TOY / "model")
    is_toxic = np.repeat([True, False], [len(names["toxic"]), len(names["clean"])])
    for name, mask in names["mask"].items():
        responses = torch.stack([row[name] for row in names["toxic"] + names["clean"]])  # (N, R)
        expected = auroc(responses.T.contiguous().numpy(), is_toxic) > 0.5
        assert np.array_equal(mask.numpy(), expected)
        tuned = names["model"].get_parameter(name)
        frozen = base.get_parameter(name)
        assert torch.equal(tuned[~mask], frozen[~mask])
        assert not torch.equal(tuned[mask], frozen[mask])

    # 3) all other weights
    for name, weight in base.named_parameters():
        if name not in names["mask"]:
            assert torch.equal(names["model"].get_parameter(name), weight)


@pytest.mark.parametrize(
    "script, first, last",
    [
        ("detect", "Table 2.", "\nwrote "),
        ("train", "pairs  validation", "\nfull: step"),
        ("train", "\nResults\n", "\nwrote "),
        ("evaluate", "Summary\n", "\nwrote "),
    ],
)
def test_it_shows_what_the_first_command_prints(toy_run, script, first, last):
    """Every line of its tables; numbers may differ by the rounding of another processor."""

    def lines(text: str) -> list[str]:
        start = text.index(first)
        return text[start : text.index(last, start)].strip().splitlines()

    (block,) = (block for block in blocks(MEASUREMENTS, "") if first in block)
    for line, expected in zip(lines(toy_run[0][script]), lines(block), strict=True):
        assert NUMBER.sub("#", line).split() == NUMBER.sub("#", expected).split()
        numbers = zip(NUMBER.findall(line), NUMBER.findall(expected), strict=True)
        for number, shown in numbers:
            places = len(number.partition(".")[2])
            assert float(number.replace(",", "")) == pytest.approx(
                float(shown.replace(",", "")), rel=0.02, abs=(8, 0.3, 0.05, 0.02)[min(places, 3)]
            ), line


def test_the_verdict_on_the_first_page_is_the_end_of_the_complete_output():
    (verdict,) = (block for block in blocks(README, "") if "\nwrote " in block)
    (complete,) = (block for block in blocks(MEASUREMENTS, "") if "Summary\n" in block)
    assert complete.endswith(verdict)


def test_its_results_are_the_report_s_and_the_paper_s(toy_run):
    strategies = ["base", "full", "per-language", "multilingual", "random"]
    toxicity = {name: numbers["toxicity"] for name, numbers in PAPER.items()}
    report = json.loads((toy_run[1] / "report.json").read_text("utf-8"))
    toxicity["toy"] = {}
    for model, by_language in report["toxicity"].items():
        toxicity["toy"][model] = {name: value[0] for name, value in by_language.items()}

    shown = {(row[0], row[1]): row[3:] for row in rows_of(section(README, "Results"))}
    for name, by_strategy in toxicity.items():
        tolerance = 0.004 if name == "toy" else 0.00051
        for part, languages in (("tuned", TUNED), ("others", HELD_OUT)):
            means = {}
            for strategy in strategies:
                if strategy in by_strategy:
                    scores = by_strategy[strategy]
                    means[strategy] = np.mean([scores[language] for language in languages])
            for strategy, cell in zip(strategies, shown[name, part], strict=True):
                if strategy not in means:
                    assert cell == "-"
                    continue
                value, *change = re.findall(r"[-+]?\d+\.?\d*", cell)
                assert float(value) == pytest.approx(means[strategy], abs=tolerance)
                if change:
                    expected = means[strategy] / means["base"] - 1
                    assert float(change[0]) / 100 == pytest.approx(expected, abs=0.011)


@pytest.mark.parametrize(
    "model, name", [("SmolLM2-135M (*)", "smollm2-price"), ("Qwen2.5-Coder-1.5B (*)", "qwen")]
)
def test_its_results_of_real_models_are_those_of_the_result_files(model, name):
    (row,) = (row for row in rows_of(section(README, "Results")) if row[0] == model)
    result = json.loads((ROOT / f"tests/evidence/{name}/0.02-0.json").read_text("utf-8"))
    means = {"base": result["base"]["toxicity"][0]}
    for strategy in ("full", "per-language", "multilingual", "random"):
        models = [made for made in result["models"].values() if made["strategy"] == strategy]
        if models:
            means[strategy] = np.mean([made["toxicity"][0] for made in models])
    columns = ("base", "full", "per-language", "multilingual", "random")
    for strategy, cell in zip(columns, row[3:], strict=True):
        if strategy not in means:
            assert cell == "-"
            continue
        change = means[strategy] / means["base"] - 1
        of_base = "" if strategy == "base" else f" ({100 * change:+.0f} %)"
        assert cell == f"{means[strategy]:.3f}{of_base}"


@pytest.mark.parametrize(
    "name", ["toy", "smollm2", "smollm2-price", "qwen", "selectors", "smollm2-selectors"]
)
def test_the_evidence_is_what_the_result_files_show(name):
    tables = [block.splitlines() for block in blocks(MEASUREMENTS, "") if block.startswith("share")]
    folder = ROOT / "tests" / "evidence" / name
    results = evidence.read_all(folder)
    assert aligned(evidence.table(results)).splitlines() in tables
    prices = evidence.price_table(results)
    if len(prices) > 1:
        assert aligned(prices).splitlines() in tables
    assert (folder / "figure.svg").read_text("utf-8") == evidence.figure(results)


def test_the_paper_s_counts_are_alike_for_two_models_that_have_little_in_common():
    counts = []
    for numbers in PAPER.values():
        counts.append([numbers["neurons"][language] for language in TUNED])
    first, second = counts
    correlation = np.corrcoef(first, second)[0, 1]
    assert f"a correlation of {correlation:.2f}" in words(MEASUREMENTS)


def test_the_paper_s_answers_are_often_worse_than_guesses():
    cells = []
    for numbers in PAPER.values():
        for by_strategy in numbers["mmlu"].values():
            cells += by_strategy.values()
    worse = sum(share < 25 for share in cells)
    sentence = f"{worse} of {len(cells)} cells are below the 25 % of guessing"
    assert sentence in words(GUIDE)


def anchors_of(text: str) -> set[str]:
    """What a link to a heading of this text may name."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("name", TEXTS)
def test_its_links_lead_somewhere(name):
    links = re.findall(r"\]\(([^)]*)\)", TEXTS[name])
    assert links
    for link in links:
        file, _, anchor = link.partition("#")
        target = ((ROOT / name).parent / file).resolve() if file else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target.read_text("utf-8")), link


def test_the_guide_for_contributors_names_files_and_names_that_exist():
    guide = (ROOT / ".github" / "CONTRIBUTING.md").read_text("utf-8")
    named = re.findall(r"`([\w./-]+/[\w./-]*)`", guide)
    assert len(named) > 15
    for path in named:
        assert any((ROOT / folder / path).exists() for folder in ("", "minitox")), path
    for constant, path in re.findall(r"`([A-Z]+)` (?:in|of)\s`([\w/]+\.py)`", guide):
        assert f"\n{constant} = " in (ROOT / path).read_text("utf-8"), constant


def function_named(name: str):
    """What README calls `detect.auroc.auroc`, `curate.export` and so on; None if there is none."""
    for path in (f"minitox.{name}", name):
        parts = path.split(".")
        for length in range(len(parts) - 1, 0, -1):
            try:
                value = importlib.import_module(".".join(parts[:length]))
                for attribute in parts[length:]:
                    value = getattr(value, attribute)
                return value
            except (ImportError, AttributeError):
                continue
    return None


def test_every_function_that_it_points_at_exists():
    rows = paper_parts()
    assert len(rows) > 33
    for _, _, what, _, functions in rows:
        named = re.findall(r"`([\w.]+)`", functions)
        assert named, what
        assert all(function_named(name) is not None for name in named), what
    assert function_named("detect.auroc.no_such_thing") is None


def test_every_part_of_the_paper_is_pointed_at_where_the_checklist_says_it_is():
    listed = re.findall(r"^\| (\d+) \| (.*) \| ([^|]*) \|$", CHECKLIST, re.MULTILINE)
    shown = {row[0]: row[1] for row in paper_parts()}
    numbers = [number for number, _, _ in listed]
    assert numbers == [str(number) for number in range(1, len(listed) + 1)]
    assert len(listed) >= 33
    place = re.compile(r"\d+(?:\.\d+)*|Limitations")
    for number, what, where in listed:
        assert set(place.findall(where)) & set(place.findall(shown[number])), (number, what)
    assert set(shown) == {*numbers, "+"}
