"""No traceback, no hang, bounded memory: every error that a user can cause is one line."""

import json

import pytest
from tiny import error_of
from worlds import BASE, curate, detect, evaluate, prepare, train

SCRIPTS = {"detect": detect.main, "train": train.main, "evaluate": evaluate.main}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with a tiny model and a few rows of data, which is the working directory."""
    for part in BASE:
        part(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(main, arguments: str, capsys) -> str:
    """Run a script's main; its message, which is one line."""
    line = error_of(main, arguments.split(), capsys)
    assert line.startswith("error: ") and line.count("\n") == 1
    return line


# ---------- C1

PREPARE = ("prepare ptp x", "prepare scorer x", "curate generate")


@pytest.mark.parametrize("command", [*SCRIPTS, *PREPARE])
@pytest.mark.parametrize("seed", ["-1", "9007199254740992", "1e3", "nan", "1" * 5_000])
def test_c1_a_seed_that_cannot_be_one_is_refused(command, seed, world, capsys):
    name, *arguments = command.split()
    main = {**SCRIPTS, "prepare": prepare.main, "curate": curate.main}[name]
    line = refusal(main, " ".join([*arguments, "--seed", seed]), capsys)
    assert "is not an integer from 0 to 9,007,199,254,740,991" in line
    assert len(line) < 1_100
    assert not (world / "out").exists()


# ---------- C2


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("device", ["meta", "privateuseone", "xla", "cpu:1", "cuda:-1"])
def test_c2_devices_that_minitox_does_not_support_are_refused(script, device, world, capsys):
    line = refusal(SCRIPTS[script], f"--model model --data data --device {device}", capsys)
    assert line.startswith(f"error: --device {device}: not one of cpu, cuda, cuda:N, mps and auto")


# ---------- C3


@pytest.mark.parametrize(
    "script, arguments",
    [
        ("train", "--lr 1e38"),
        ("train", "--epochs 100000000000000000000"),
        ("train", "--epochs 1e20"),
        ("train", "--weight-decay nan"),
        ("train", "--weight-decay inf"),
        ("train", "--threshold nan"),
        ("detect", "--sentences 1000000000000"),
        ("evaluate", "--temperature 1 --samples 1000000000"),
        ("evaluate", "--temperature 1 --top-p 0"),
        ("evaluate", "--temperature 1e-320"),
        ("evaluate", "--per-minute inf"),
    ],
)
def test_c3_a_number_out_of_all_proportion_is_refused(script, arguments, world, capsys):
    line = refusal(SCRIPTS[script], f"--model model --data data {arguments}", capsys)
    option, value = arguments.split()[-2:]
    assert line.startswith(f"error: {option}: '{value}' is not ")


def test_c3_replies_too_long_for_any_memory_are_refused_although_the_model_allows_them(
    world, capsys
):
    path = world / "model" / "config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(config | {"max_position_embeddings": 400_000_000}), "utf-8")
    line = refusal(evaluate.main, "--model model --data data --max-new-tokens 200000000", capsys)
    assert "--max-new-tokens: '200000000' is not an integer from 1 to 1,000,000" in line


# ---------- C4


# ---------- C5


# ---------- C6


# ---------- C7


# ---------- C8


# ---------- C9


# ---------- C10


# ---------- C11


# ---------- C12


# ---------- C13


# ---------- C14
