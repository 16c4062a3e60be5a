"""The commands of the READMEs run as they stand, and their options exist."""

import io
import json
import re
import shutil
import sys

import benchmark
import evidence
import pytest
from safetensors.numpy import load_file
from test_readme import MEASUREMENTS, ROOT, TEXTS, blocks, paper_parts, rows_of, section
from tiny import TOY, write_jsonl

import detect
import evaluate
import train
from minitox import delta, neurons
from minitox.languages import TUNED

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
    "tests/evidence.py": evidence.main,
}
FEW = "--shares 0.1 --draws 1 --strategy multilingual random --pairs 8 --prompts 2"
TINY_SHAPE = "--shape smollm2-135m --layers 1 --calls 1 --device cpu --contender minitox"
# options added to commands that need a large machine or much time
SMALLER = {
    "train.py --top-share": "--pairs 8",
    "evaluate.py --no-mmlu": "--prompts 2 --languages en,zh",
    "tests/benchmark.py detect": f"{TINY_SHAPE} --sentences 4 --mean-tokens 8",
    "tests/benchmark.py train": f"{TINY_SHAPE} --pairs 1 --tokens 16",
    "tests/benchmark.py device": "--quick --device cpu",
    "tests/evidence.py tests/evidence/toy": f"--model smollm2 --data path/to/data {FEW}",
    "tests/evidence.py tests/evidence/selectors": f"--model smollm2 --data path/to/data {FEW}",
    "tests/evidence.py tests/evidence/smollm2": FEW,
    "tests/evidence.py tests/evidence/smollm2-selectors": (
        f"{FEW} --max-tokens 512 --lr auto --dpo-lr auto"
    ),
    "tests/evidence.py tests/evidence/smollm2-price": (
        f"{FEW} --max-tokens 512 --validation-share 0.05 --lr auto --lora-lr auto"
    ),
    "tests/evidence.py tests/evidence/qwen": (
        f"--model smollm2 {FEW} --max-tokens 512 --validation-share 0.05"
    ),
}


def test_every_option_that_it_points_at_exists(capsys):
    command = re.compile(r"`(?:python )?((?:-m minitox\.\w+|[\w/]+\.py))\s?([^`]*)`")
    for _, _, _, commands, _ in paper_parts():
        for script, rest in command.findall(commands):
            options = rest.split()
            subcommand = []
            if script == "data/prepare.py":
                subcommand = [options.pop(0)]
            with pytest.raises(SystemExit) as stop:
                MAINS[script]([*subcommand, "--help"])
            text = capsys.readouterr().out
            assert stop.value.code == 0
            for option in options:
                pattern = rf"(?<![\w-]){re.escape(option)}(?![\w-])"
                assert re.search(pattern, text), (script, option)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with small versions of everything that the commands of the READMEs read."""
    for name in ("path/to/Llama-3.1-8B", "path/to/Qwen2.5-3B-Instruct", "smollm2"):
        shutil.copytree(TOY / "model", tmp_path / name)
    for name in ("path/to/data", "rtp-lx", "tweets"):
        for file in TOY.glob("*/[ez][nh].jsonl"):
            kind = file.parent.name
            lines = file.read_text("utf-8").splitlines()
            few = lines[:20] + lines[-20:] if kind == "detection" else lines[:8]
            write_jsonl(tmp_path / name / kind / file.name, list(map(json.loads, few)))
    for scorer in ("scorer.safetensors", "path/to/data/scorer.safetensors"):
        shutil.copy(TOY / "scorer.safetensors", tmp_path / scorer)
    tweets = [",count,class,tweet"]
    for i, name in enumerate(("donkey", "goose", "turnip", "sheep")):
        tweets.append(f"{i},3,{i % 2},you {name} of a train")
    (tmp_path / "labeled_data.csv").write_text("\n".join(tweets) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands() -> list[str]:
    """Every line of the bash blocks, in the order of `TEXTS`."""
    lines = []
    for text in TEXTS.values():
        for block in blocks(text, "bash"):
            lines += block.replace("\\\n", " ").splitlines()
    return lines


def script_and_arguments(command: str) -> tuple[str, list[str]]:
    """The key in MAINS of a command, and the arguments of that function."""
    parts = command.split()
    more = SMALLER.get(" ".join(parts[1:3]), "").split()
    if parts[:2] == ["torchrun", "--nproc-per-node"]:
        parts = parts[3:]  # in one process; test_distributed.py runs torchrun
    else:
        parts = parts[1:]
    if parts[0] == "-m":
        return " ".join(parts[:2]), parts[2:] + more
    return parts[0], parts[1:] + more


def test_every_command_runs_as_it_stands(home, capsys, monkeypatch):
    """All run in one folder, in order; `.ci/run` runs the two of the block that is marked sh."""
    assert len(commands()) > 15
    for command in commands():
        if command.startswith("python -m pytest"):
            assert all((ROOT / path).exists() for path in command.split()[3:])
            continue
        script, arguments = script_and_arguments(command)
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n" + "k\n" * 4))  # keys of the reviewer
        try:
            MAINS[script](arguments)
        except BaseException as error:
            pytest.fail(f"{command}: {error!r}")
        print(command)
    assert (home / "path/to/tuned/model.safetensors").exists()
    assert (home / "mydata/instructions/en.jsonl").exists()
    assert len(list((home / "out10/models").glob("*/run.json"))) == 2
    device = json.loads((home / "out/device/device.json").read_text("utf-8"))
    assert device["left out"] == {"waits": "only CUDA counts them"}
    assert device["toy"]["neurons that change side"] == 0
    assert device["toy"]["equal replies"] == {"base": 1, "multilingual": 1}
    shapes = device["shapes"]["smollm2-135m"]
    assert {command: "minitox" in " ".join(runs) for command, runs in shapes.items()} == {
        "detect": True,
        "train": True,
        "generate": True,
    }

    # the table of lengths
    shown = {row[0]: row[1:] for row in rows_of(section(MEASUREMENTS, "Length"))}
    for option, out in (("`--match-length`", "matched"), ("`--pool mean`", "mean")):
        shares = []
        for language in TUNED:
            tensors = load_file(home / f"out/{out}/neurons/{language}.safetensors")
            names = [name for name in tensors if not name.startswith("shuffled.")]
            mask = neurons.select({name: tensors[name] for name in names})
            shares.append(100 * neurons.count(mask) / neurons.size(mask))
        cells = [float(cell.rstrip("%")) for cell in shown[option][:9]]
        assert cells == pytest.approx(shares, abs=0.3)
