"""How a script ends: errors of the user and interrupts are one line, errors of minitox are not."""

import sys

import pytest
import torch

from minitox.errors import InputError
from minitox.run import script


def run_with(error: BaseException) -> None:
    def main():
        raise error

    script.run(main)


@pytest.mark.parametrize(
    "error, status, message",
    [
        (InputError("de.jsonl:3: not valid JSON"), 2, "error: de.jsonl:3: not valid JSON\n"),
        (OSError("out/de: No space left"), 2, "error: out/de: No space left\n"),
        (
            torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 3 GiB"),
            2,
            "error: CUDA out of memory.; try a smaller --batch-tokens\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted; rerun the same command to resume\n"),
    ],
)
@pytest.mark.parametrize("terminal", [False, True])
def test_an_error_that_the_user_can_correct_is_one_line(
    error, status, message, terminal, capsys, monkeypatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with pytest.raises(SystemExit) as stop:
        run_with(error)
    assert stop.value.code == status
    # on a terminal, the line of progress ends first
    assert capsys.readouterr().err == ("\n" if terminal else "") + message


def test_a_mistake_of_minitox_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_with(ZeroDivisionError())


def test_a_run_without_errors_exits_as_python_does(capsys):
    done = []
    script.run(lambda: done.append(True))
    assert done == [True]
    assert capsys.readouterr().err == ""
