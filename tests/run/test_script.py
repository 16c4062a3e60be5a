"""How a script ends: errors of the user and interrupts are one line, errors of minitox are not."""

import io
import sys

import pytest
import torch

from minitox.errors import InputError
from minitox.run import progress, script, settings


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
            "error: out of memory (CUDA out of memory.); "
            "try a smaller --batch-tokens, fewer or shorter texts, or a machine with more memory\n",
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


@pytest.mark.parametrize(
    "error, reason",
    [
        (MemoryError(), "no details"),
        (MemoryError("Unable to allocate 3 TiB for an array"), "Unable to allocate 3 TiB for an a"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 4 bytes. Error code 12 (Cannot allocate memory)"
            ),
            "can't allocate memory: you tried to allocate 4 bytes. Error code 12",
        ),
        (
            RuntimeError("[...] DefaultCPUAllocator: not enough memory: you tried to allocate 4"),
            "not enough memory: you tried to allocate 4",
        ),
        (
            RuntimeError("MPS backend out of memory (3 GB)\nuse"),
            "MPS backend out of memory (3 GB))",
        ),
        (RuntimeError("std::bad_alloc"), "std::bad_alloc"),
        (
            RuntimeError("unable to mmap 8 bytes from file <m>: Cannot allocate memory (12)"),
            "unable to mmap 8 bytes from file <m>: Cannot allocate memory (12)",
        ),
        (RuntimeError("can't start new thread"), "can't start new thread"),
    ],
)
def test_memory_that_is_exhausted_is_an_error_that_the_user_can_correct(error, reason, capsys):
    with pytest.raises(SystemExit) as stop:
        run_with(error)
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: out of memory ({reason}")
    assert line.endswith("or a machine with more memory\n")
    assert line.count("\n") == 1


@pytest.mark.parametrize("error", [ZeroDivisionError(), RuntimeError("shapes do not match")])
def test_a_mistake_of_minitox_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        run_with(error)


def test_an_error_of_several_lines_becomes_one(capsys):
    with pytest.raises(SystemExit):
        run_with(OSError("a\nb\x1b[2J"))
    assert capsys.readouterr().err == "error: a\\nb\\x1b[2J\n"


def test_help_exits_without_an_error(capsys):
    script.run(lambda: settings.parse(settings.DetectSettings, "Find neurons.", ["--help"]))
    assert "Find neurons." in capsys.readouterr().out


# ---------- standard output and errors


def test_control_characters_are_escaped_except_newlines_and_tabs(capsys):
    def main():
        print("a\x1b[2J\tb\u202ec\r\nd\u3000e\x00 größer 日本")
        print("\x1b", file=sys.stderr)

    script.run(main)
    printed = capsys.readouterr()
    assert printed.out == "a\\x1b[2J\tb\\u202ec\\r\nd\u3000e\\x00 größer 日本\n"
    assert printed.err == "\\x1b\n"


def stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding, newline="\n")


@pytest.mark.parametrize(
    "encoding, shown",
    [("ascii", r"\xf6 \u65e5 \ud800"), ("cp1252", r"ö \u65e5 \ud800"), ("utf-8", r"ö 日 \ud800")],
)
def test_what_the_encoding_lacks_is_escaped(encoding, shown, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream(encoding))
    script.run(lambda: print("ö 日 \ud800"))
    assert sys.stdout.buffer.getvalue() == f"{shown}\n".encode(encoding)


def test_the_streams_are_as_before_after_the_run():
    before = sys.stdout, sys.stderr
    streams = []
    script.run(lambda: streams.extend([sys.stdout, sys.stderr]))
    assert (sys.stdout, sys.stderr) == before
    assert streams[0].encoding == before[0].encoding
    assert not streams[0].isatty()


def test_progress_keeps_its_own_control_codes_and_escapes_the_label(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    script.run(lambda: progress.Progress(total=2).show("a\x1b[2J", 1))
    assert capsys.readouterr().err == "\ra\\x1b[2J  50% \033[K"


def test_a_run_without_errors_exits_as_python_does(capsys):
    done = []
    script.run(lambda: done.append(True))
    assert done == [True]
    assert capsys.readouterr().err == ""
