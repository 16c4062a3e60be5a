"""Messages are true, and say a thing once."""

import pytest
from tiny import error_of
from worlds import curate, detect, evaluate, prepare, train

from minitox import delta

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


# ---------- D6
