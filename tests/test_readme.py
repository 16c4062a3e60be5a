"""README tells the truth: its commands run, its tables are what they print, and every part of the paper is pointed at."""

import importlib
import io
import json
import re
import shutil
import sys
from pathlib import Path

import benchmark
import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny import TOY, write_jsonl

import detect
import evaluate
import train
from minitox import delta, neurons
from minitox.languages import HELD_OUT, TUNED

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
CHECKLIST = (
    ROOT.parent / "shared" / "findings.md"
)  # of all that the paper does; the project's own developers have it
PAPER = json.loads((ROOT / "minitox" / "report" / "paper.json").read_text())
sys.path.insert(0, str(ROOT / "data"))

import curate  # noqa: E402
import prepare  # noqa: E402

MAINS = {
    "detect.py": detect.main,
    "train.py": train.main,
    "evaluate.py": evaluate.main,
    "data/prepare.py": prepare.main,
    "data/curate.py": curate.main,
    "-m minitox.delta": delta.main,
    "tests/benchmark.py": benchmark.main,
}
SMALLER = {  # what is added to commands that take a large machine, or long
    "train.py --top-share": "--pairs 8",
    "evaluate.py --no-mmlu": "--prompts 2 --languages en,zh",
    "tests/benchmark.py detect": "--shape smollm2-135m --layers 1 --sentences 4 --mean-tokens 8 --calls 1 --device cpu --contender minitox",
    "tests/benchmark.py train": "--shape smollm2-135m --layers 1 --pairs 1 --tokens 16 --calls 1 --device cpu --contender minitox",
}


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(kind: str) -> list[str]:
    """The fenced blocks of a kind."""
    return [
        text
        for found, text in re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
        if found == kind
    ]


def rows_of(text: str) -> list[list[str]]:
    """The cells of a Markdown table's rows, below its head."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ")
    ][1:]


def test_it_names_every_file_and_only_files_that_exist():
    from test_repo import sources

    named = set(re.findall(r"(\w+\.py)\b", section("The files").split("```")[1]))
    assert named == {path.name for path in sources() if path.name != "__init__.py"} | {
        "make.py",
        "benchmark.py",
        "contenders.py",
        "costs.py",
        "fuzz.py",
    }


def test_it_lists_every_deviation_from_the_paper():
    from test_repo import sources

    marked = [
        line.split("# DEVIATION:")[1].strip()
        for path in sources()
        for line in (ROOT / path).read_text().splitlines()
        if "# DEVIATION:" in line
    ]
    told = " ".join(README.split())
    assert marked and all(deviation in told for deviation in marked)


@pytest.mark.parametrize(
    "script, first, last",
    [
        ("detect", "Table 2.", "\nwrote "),
        ("train", "       pairs  unseen", "\nfull: step"),
        ("train", "What became of it", "\nwrote "),
        ("evaluate", "What was found", "\nwrote "),
    ],
)
def test_it_shows_what_the_first_command_prints(toy_run, script, first, last):
    """Every line of its tables, each number within what another processor's rounding may move."""
    ours, readme = toy_run[0][script], "".join(blocks(""))
    ours, shown = (
        text[text.index(first) : text.index(last, text.index(first))].strip().splitlines()
        for text in (ours, readme)
    )
    number = re.compile(r"[+-]?\d[\d,]*\.?\d*")
    assert len(ours) == len(shown)
    for a, b in zip(ours, shown):
        assert number.sub("#", a).split() == number.sub("#", b).split()
        for x, y in zip(number.findall(a), number.findall(b)):
            places = len(x.partition(".")[2])
            assert float(x.replace(",", "")) == pytest.approx(
                float(y.replace(",", "")), rel=0.02, abs=(8, 0.3, 0.05, 0.02)[places]
            ), a


def test_its_results_are_the_report_s_and_the_paper_s(toy_run):
    shown = {(model, part): cells for model, part, _, *cells in rows_of(section("Results"))}
    strategies = ["base", "full", "per-language", "multilingual", "random"]
    found = {name: numbers["toxicity"] for name, numbers in PAPER.items()}
    report = json.loads((toy_run[1] / "report.json").read_text())
    found["toy"] = {
        model: {language: value[0] for language, value in by.items()}
        for model, by in report["toxicity"].items()
    }
    for name, by_strategy in found.items():
        for part, languages in (("tuned", TUNED), ("others", HELD_OUT)):
            means = {
                strategy: np.mean([by_strategy[strategy][language] for language in languages])
                for strategy in strategies
                if strategy in by_strategy
            }
            for strategy, cell in zip(strategies, shown[name, part], strict=True):
                if strategy not in means:
                    assert cell == "-"
                    continue
                value, *change = re.findall(r"[-+]?\d+\.?\d*", cell)
                assert float(value) == pytest.approx(
                    means[strategy], abs=0.004 if name == "toy" else 0.00051
                )
                if change:
                    assert float(change[0]) / 100 == pytest.approx(
                        means[strategy] / means["base"] - 1, abs=0.011
                    )


def test_the_paper_s_counts_are_alike_for_two_models_that_have_little_in_common():
    first, second = (
        np.array([numbers["neurons"][language] for language in TUNED]) for numbers in PAPER.values()
    )
    assert f"a correlation of {np.corrcoef(first, second)[0, 1]:.2f}" in " ".join(README.split())


def test_the_paper_s_answers_are_often_worse_than_guesses():
    cells = [
        share
        for numbers in PAPER.values()
        for by in numbers["mmlu"].values()
        for share in by.values()
    ]
    assert (
        f"{sum(share < 25 for share in cells)} of {len(cells)} cells are below the 25 % of guessing"
        in " ".join(README.split())
    )


def test_its_links_lead_somewhere():
    heads = re.findall(
        r"^#+ (.*)$",
        re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL),
        re.MULTILINE,
    )
    anchors = {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}
    links = re.findall(r"\]\(([^)]*)\)", README)
    assert links and all(
        link[1:] in anchors if link[0] == "#" else (ROOT / link).exists() for link in links
    ), links


def function_named(name: str):
    """What README calls `detect.auroc.auroc`, `curate.export` and so on."""
    for home in (f"minitox.{name}", name):
        for parts in range(home.count("."), 0, -1):
            module, *rest = ".".join(home.split(".")[:parts]), *home.split(".")[parts:]
            try:
                found = importlib.import_module(module)
                for part in rest:
                    found = getattr(found, part)
                return found
            except (ImportError, AttributeError):
                continue
    return None


def test_every_function_that_it_points_at_exists():
    rows = rows_of(section("The paper, part by part"))
    assert len(rows) > 33
    for _, _, what, _, functions in rows:
        named = re.findall(r"`([\w.]+)`", functions)
        assert named and all(function_named(name) is not None for name in named), what
    assert function_named("detect.auroc.no_such_thing") is None


def test_every_option_that_it_points_at_exists(capsys):
    for _, _, _, commands, _ in rows_of(section("The paper, part by part")):
        for script, rest in re.findall(
            r"`(?:python )?((?:-m minitox\.\w+|[\w/]+\.py))\s?([^`]*)`", commands
        ):
            words, step = rest.split(), script == "data/prepare.py"
            with pytest.raises(SystemExit) as stop:
                MAINS[script]([*words[:step], "--help"])
            text = capsys.readouterr().out
            assert stop.value.code == 0
            assert all(
                re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) for word in words[step:]
            ), (script, words)


@pytest.mark.skipif(not CHECKLIST.exists(), reason="the checklist is not here")
def test_every_part_of_the_paper_is_pointed_at_where_the_checklist_says_it_is():
    listed = re.findall(
        r"^\| (\d+) \| (.*) \| ([^|]*) \|$",
        CHECKLIST.read_text().split("### 1a.")[1].split("### 1b.")[0],
        re.MULTILINE,
    )
    shown = {row[0]: row[1] for row in rows_of(section("The paper, part by part"))}
    assert [number for number, _, _ in listed] == [
        str(number) for number in range(1, len(listed) + 1)
    ] and len(listed) >= 33
    for number, what, where in listed:
        places = set(re.findall(r"\d+(?:\.\d+)*|Limitations", where.replace("Fig. ", "Figure ")))
        assert places & set(re.findall(r"\d+(?:\.\d+)*|Limitations", shown[number])), (number, what)
    assert set(shown) == {number for number, _, _ in listed} | {"+"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with all that README's commands are given, in small."""
    for name in ("path/to/Llama-3.1-8B", "path/to/Qwen2.5-3B-Instruct", "smollm2"):
        shutil.copytree(TOY / "model", tmp_path / name)
    for name in ("path/to/data", "rtp-lx", "tweets"):
        for file in TOY.glob("*/[ez][nh].jsonl"):
            lines = file.read_text("utf-8").splitlines()
            few = lines[:8] if file.parent.name != "detection" else lines[:20] + lines[-20:]
            write_jsonl(tmp_path / name / file.parent.name / file.name, list(map(json.loads, few)))
    for scorer in ("scorer.safetensors", "path/to/data/scorer.safetensors"):
        shutil.copy(TOY / "scorer.safetensors", tmp_path / scorer)
    (tmp_path / "labeled_data.csv").write_text(
        ",count,class,tweet\n"
        + "".join(
            f"{i},3,{i % 2},you {name} of a train\n"
            for i, name in enumerate(("donkey", "goose", "turnip", "sheep"))
        )
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_runs_as_it_stands(home, capsys, monkeypatch):
    """In README's order, in one folder; `.ci/run` runs the two of the first block, and test_distributed.py runs torchrun."""
    commands = [
        line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()
    ]
    assert len(commands) > 15
    for command in commands:
        words = command.split()
        if words[:3] == ["python", "-m", "pytest"]:
            assert all((ROOT / path).exists() for path in words[3:])
            continue
        words = words[3:] if words[:2] == ["torchrun", "--nproc-per-node"] else words[1:]
        script, arguments = (
            (" ".join(words[:2]), words[2:]) if words[0] == "-m" else (words[0], words[1:])
        )
        arguments += SMALLER.get(" ".join(words[:2]), "").split()
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n" + "k\n" * 4))  # for the reviewer
        try:
            MAINS[script](arguments)
        except BaseException as error:
            pytest.fail(f"{command}: {error!r}")
        print(command)
    assert (home / "path/to/tuned/model.safetensors").exists() and (
        home / "mydata/instructions/en.jsonl"
    ).exists()
    assert len(list((home / "out10/models").glob("*/run.json"))) == 2
    lengths = {
        row[0]: row[1:] for row in rows_of(README.split("### Length\n")[1].split("\n### ")[0])
    }
    for option, out in (("`--match-length`", "matched"), ("`--pool mean`", "mean")):
        masks = [
            neurons.select(load_file(home / "out" / out / "neurons" / f"{language}.safetensors"))
            for language in TUNED
        ]
        shares = [100 * neurons.count(mask) / neurons.size(mask) for mask in masks]
        assert [float(cell.rstrip("%")) for cell in lengths[option][:9]] == pytest.approx(
            shares, abs=0.3
        )
