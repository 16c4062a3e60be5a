"""No traceback, no hang, bounded memory: every error that a user can cause is one line."""

import pytest
import worlds
from tiny import error_of

import train

# ---------- C1


# ---------- C2


# ---------- C3


@pytest.mark.parametrize("rate, message", [("1e38", "lr"), ("1e30", "all: step 2 of 4: the loss")])
def test_c3_a_learning_rate_that_overflows_is_one_line(
    tmp_path, monkeypatch, capsys, rate, message
):
    for part in (*worlds.BASE, worlds.neurons):
        part(tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments = f"{worlds.TRAIN} multilingual --warmup 0 --lr {rate}".split()
    error = error_of(train.main, arguments, capsys)
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out" / "models" / "multilingual").exists()


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
