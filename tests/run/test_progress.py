"""Progress: a rewritten line on a terminal, lines that stay elsewhere, and durations in words."""

import sys

import pytest

from minitox.run import distributed, progress
from minitox.run.progress import Progress, duration, wait


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves; sleeping moves it, too."""

    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

        def sleep(self, seconds: float) -> None:
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def make_terminal(monkeypatch) -> None:
    """Make stderr look like a terminal. pytest replaces stderr after fixtures have run."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0 s"),
        (0.6, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_a_duration_in_words(seconds, text):
    assert duration(seconds) == text


def test_a_line_shows_the_share_that_is_done_and_the_time_left(clock, monkeypatch, capsys):
    make_terminal(monkeypatch)
    line = Progress(total=200)
    line.show("de", 0)
    clock.sleep(10)
    line.show("de", 20)
    clock.sleep(10)
    line.show("en", 100)
    assert capsys.readouterr().err.split("\r")[1:] == [
        "de   0% \033[K",
        "de  10% 1 min 30 s left\033[K",
        "en  50% 20 s left\033[K",
    ]


def test_what_an_earlier_run_did_took_no_time_of_this_one(clock, monkeypatch, capsys):
    make_terminal(monkeypatch)
    line = Progress(total=200)
    line.show("de", 100)
    clock.sleep(10)
    line.show("de", 110)
    assert "de  55% 1 min 30 s left" in capsys.readouterr().err


def test_without_a_terminal_there_is_no_such_line(clock, capsys):
    line = Progress(total=10)
    line.show("de", 5)
    line.clear()
    assert capsys.readouterr().err == ""


def test_the_first_process_alone_shows_progress(clock, monkeypatch, capsys):
    make_terminal(monkeypatch)
    monkeypatch.setattr(distributed, "FIRST", False)
    Progress(total=10).show("de", 5)
    assert capsys.readouterr().err == ""


def test_a_line_that_stays_removes_the_line_of_progress(clock, monkeypatch, capsys):
    make_terminal(monkeypatch)
    Progress(total=10).print("de: 5 tokens")
    printed = capsys.readouterr()
    assert printed.out == "de: 5 tokens\n"
    assert printed.err == "\r\033[K"


def test_a_task_ends_with_its_duration(clock, capsys):
    tasks = Progress(total=5_000)
    with tasks.task("de", 1_234, "tokens") as show:
        clock.sleep(65)
        show(500)
    assert capsys.readouterr().out == "de: 1,234 tokens in 1 min 05 s\n"


def test_a_task_continues_where_the_ones_before_it_ended(clock, monkeypatch, capsys):
    make_terminal(monkeypatch)
    tasks = Progress(total=400)
    with tasks.task("de", 100, "tokens") as show:
        show(50)
    with tasks.task("en", 300, "tokens") as show:
        show(200, ", loss 0.5")
    lines = capsys.readouterr().err
    assert "\rde  12% " in lines
    assert "\ren, loss 0.5  75% " in lines


def test_a_task_prints_a_line_now_and_then_if_asked_to(clock, capsys):
    with Progress(total=1_100).task("full", 1_100, "steps", lines_every=500) as show:
        for step in range(1, 1_101):
            show(step, f", loss {step / 1000:.1f}")
    assert capsys.readouterr().out.splitlines() == [
        "full: step 500 of 1,100, loss 0.5",
        "full: step 1,000 of 1,100, loss 1.0",
        "full: 1,100 steps in 0 s",
    ]


def test_a_task_that_fails_prints_no_duration(clock, capsys):
    tasks = Progress(total=10)
    with pytest.raises(KeyError), tasks.task("de", 10, "tokens"):
        raise KeyError
    assert capsys.readouterr().out == ""


def test_a_long_wait_is_announced(clock, capsys):
    wait(30)
    assert capsys.readouterr().err == ""
    wait(90)
    assert capsys.readouterr().err == "waiting 1 min 30 s for the server\n"
    assert clock.now == 1120
