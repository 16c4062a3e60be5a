"""Progress on a terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from minitox.errors import printable
from minitox.run import distributed

LONG_WAIT = 30  # seconds


class Progress:
    """A line with the time left, rewritten in place; nothing unless stderr is a terminal."""

    def __init__(self, total: int):
        self.total = total
        self.start = time.monotonic()
        self.first = None  # what an earlier run did, which took no time of this one
        self.earlier = 0  # of the tasks that are done

    @contextmanager
    def task(
        self, label: str, amount: int, unit: str, lines_every: int | None = None
    ) -> Iterator[Callable]:
        """A task of the total; yields a function to show how much of it is done.

        Prints a line now and then if asked to, and at the end how long the task took.
        """
        start = time.monotonic()

        def show(done: int, more: str = "") -> None:
            self.show(f"{label}{more}", self.earlier + done)
            if lines_every and done % lines_every == 0:
                self.print(f"{label}: {unit.removesuffix('s')} {done:,} of {amount:,}{more}")

        yield show
        self.earlier += amount
        self.print(f"{label}: {amount:,} {unit} in {duration(time.monotonic() - start)}")

    def show(self, label: str, done: int) -> None:
        """Rewrite the line."""
        if not sys.stderr.isatty() or not distributed.FIRST:
            return
        if self.first is None:
            self.first = done
        time_left = ""
        if done > self.first:
            seconds = (time.monotonic() - self.start) / (done - self.first)
            time_left = f"{duration(seconds * (self.total - done))} left"
        draw(f"\r{printable(label)} {done / self.total:4.0%} {time_left}\033[K")

    def print(self, line: str) -> None:
        """Print a line that stays."""
        self.clear()
        print(line, flush=True)

    def clear(self) -> None:
        """Remove the line of progress."""
        if sys.stderr.isatty():
            draw("\r\033[K")


def draw(text: str) -> None:
    """Write a text to the terminal with its control codes, which `script.run` would escape."""
    terminal = getattr(sys.stderr, "terminal", sys.stderr)
    print(text, end="", file=terminal, flush=True)


def duration(seconds: float) -> str:
    """Seconds in words, such as 2 min 05 s."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def wait(seconds: float) -> None:
    """Sleep; a long wait is announced."""
    if seconds > LONG_WAIT:
        print(f"waiting {duration(seconds)} for the server", file=sys.stderr, flush=True)
    time.sleep(seconds)
