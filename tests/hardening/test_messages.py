"""Messages are true, and say a thing once."""

import shutil
import sys

import pytest
from tiny import error_of
from worlds import BASE, DETECT, EVALUATE, curate, detect, evaluate, prepare, scorer, train

from minitox import delta
from minitox.run import script

# ---------- D1


# ---------- D2


# ---------- D3


# ---------- D4

MAINS = {
    "detect": detect.main,
    "train": train.main,
    "evaluate": evaluate.main,
    "curate": curate.main,
    "prepare": prepare.main,
    "delta": delta.main,
}


@pytest.mark.parametrize(
    "command, message",
    [
        ("detect --modle x", "unrecognized option --modle; did you mean --model? --help lists all"),
        ("train --lang de", "unrecognized option --lang; did you mean --languages? --help lists"),
        ("evaluate --model-s x", "unrecognized option --model-s; did you mean --models? --help"),
        ("detect --pool min", "--pool: invalid choice: 'min' (choose from "),
        ("train --strategy half", "--strategy: invalid choice: 'half' (choose from "),
        ("detect --model", "--model: expected one argument"),
        ("detect de", "unexpected argument 'de'; --help lists all options"),
        ("curate --modle x check", "unrecognized option --modle; did you mean --model? --help"),
        ("curate chek", "step: invalid choice: 'chek' (choose from "),
        ("curate", "the following arguments are required: step"),
        ("prepare ptp x --sede 1", "unrecognized option --sede; did you mean --seed? --help lists"),
        ("prepare --seed 1 ptp x", "unrecognized option --seed; --help lists all options"),
        ("prepare ppt x", "CORPUS: invalid choice: 'ppt' (choose from "),
        ("prepare ptp", "the following arguments are required: SOURCE"),
        ("delta model patch", "the following arguments are required: OUT"),
        ("delta model patch out --ouf", "unrecognized option --ouf; "),
    ],
)
def test_d4_a_mistake_on_the_command_line_is_one_line(command, message, capsys):
    name, *arguments = command.split()
    line = error_of(MAINS[name], arguments, capsys)
    assert line.startswith(f"error: {message}")
    assert line.count("\n") == 1


# ---------- D5


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with a tiny model and a few rows of data, which is the working directory."""
    for part in (*BASE, scorer):
        part(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_d5_no_control_character_of_a_name_reaches_the_terminal(world, capsys):
    (world / "model").rename(world / "\x1b[2Jmodel\u202e\x9b")
    shown = r"\x1b[2Jmodel\u202e\x9b"
    arguments = ["--model", "\x1b[2Jmodel\u202e\x9b", "--out", "out\x1b]0;x\x07"]
    capsys.readouterr()
    script.run(lambda: detect.main([*DETECT.split(), *arguments]))
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{shown}: llama, 2 layers; cpu float32")
    assert r"wrote out\x1b]0;x\x07/neurons" in printed.out
    assert not set(printed.out + printed.err) & set("\x1b\x07\x9b\u202e\r")


def test_d5_no_control_character_reaches_the_terminal_in_a_name_of_a_model(
    world, capsys, monkeypatch
):
    shutil.copytree(world / "model", world / "a\x1b[2J")
    (world / "a\x1b[2J" / "config.json").unlink()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    models = ["--models", "base", "a\x1b[2J=a\x1b[2J"]
    try:
        script.run(lambda: evaluate.main([*EVALUATE.split(), *models]))
    except SystemExit:
        pass
    printed = capsys.readouterr()
    # progress has codes of its own
    visible = (printed.out + printed.err).replace("\r", "").replace("\x1b[K", "")
    assert r"a\x1b[2J" in visible
    assert "\x1b" not in visible


# ---------- D6
