"""How a script starts and ends: an error in the input is one line, an interrupt another."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from minitox.errors import InputError, printable
from minitox.run import distributed

# What a RuntimeError says: of the CPU's allocator on Linux, of a file that cannot be mapped, on
# Windows, in C++, of Python's threads
OUT_OF_MEMORY = re.compile(
    "[Cc]an(no|')t allocate memory|not enough memory|out of memory|bad_alloc|can't start new thread"
)
ADVICE = "try a smaller --batch-tokens, fewer or shorter texts, or a machine with more memory"


def run(main) -> None:
    """Run a script's main; exit status 2 after an error that the user can correct, 130 after ^C."""
    open_closed_streams()
    with escaped_streams():
        status, message = outcome(main)
        try:
            sys.stdout.flush()
        except OSError as error:
            # all work is done; it is no error if a reader, such as head, closed the pipe
            if not (message or isinstance(error.__cause__, BrokenPipeError)):
                status, message = 2, f"error: {error}"
        if message:
            start = "\n" if sys.stderr.isatty() else ""  # ends a line of progress
            print(f"{start}{printable(message)}", file=sys.stderr)
    distributed.leave(status)


def outcome(main) -> tuple[int, str]:
    """The exit status of a script's main, and a message about what ended it early, if anything."""
    try:
        with distributed.processes():
            main()
    except (InputError, OSError) as error:
        return 2, f"error: {error}"
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0].rpartition("CPUAllocator: ")[2]
        return 2, f"error: out of memory ({reason or 'no details'}); {ADVICE}"
    except KeyboardInterrupt:
        return 130, "interrupted; rerun the same command to resume"
    except SystemExit as stop:  # after --help
        return stop.code or 0, ""
    return 0, ""


def is_out_of_memory(error: Exception) -> bool:
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or bool(OUT_OF_MEMORY.search(str(error)))


# Standard input, output and errors


def open_closed_streams() -> None:
    """Open the null device for each standard stream that is closed.

    Otherwise the next file that is opened, perhaps a result, gets the stream's descriptor.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))


@contextmanager
def escaped_streams() -> Iterator[None]:
    """In the block, standard output and errors show control characters as escapes."""
    before = sys.stdout, sys.stderr
    streams = Escaped(before[0]), Escaped(before[1], may_fail=True)
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        if (sys.stdout, sys.stderr) == streams:
            sys.stdout, sys.stderr = before


class Escaped:
    """A stream of text with escapes for control characters and for what its encoding lacks."""

    def __init__(self, terminal, may_fail: bool = False):
        self.terminal = terminal
        self.may_fail = may_fail  # whether errors of writing to it are ignored

    def __getattr__(self, name: str):
        return getattr(self.terminal, name)

    def write(self, text: str) -> int:
        encoding = self.terminal.encoding or "utf-8"
        visible = printable(text, keep="\n\t").encode(encoding, "backslashreplace")
        with self.failing():
            self.terminal.write(visible.decode(encoding))
        return len(text)

    def flush(self) -> None:
        with self.failing():
            self.terminal.flush()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Turn the error of a full disk or a closed pipe into one that names the stream."""
        try:
            yield
        except OSError as error:
            # Python writes what is left in the buffer when it exits, and this must not fail again
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.terminal.fileno())
            os.close(null)
            if not self.may_fail:
                raise OSError(f"standard output: {error.strerror}") from error
