"""No traceback, no hang, bounded memory: every error that a user can cause is one line."""

import sys
import time
import tracemalloc

import pytest
from worlds import ROOT

from minitox.errors import InputError
from minitox.scorers import bounded_http, perspective

sys.path.insert(0, str(ROOT / "tests" / "scorers"))
import fake_perspective as fake  # noqa: E402

# ---------- C1


# ---------- C2


# ---------- C3


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


@pytest.mark.parametrize(
    "answer",
    [
        fake.ENDLESS["a body that drips"],
        fake.ENDLESS["headers that drip"],
        fake.ENDLESS["a body"],
        fake.ENDLESS["headers"],
        fake.ENDLESS["chunks"],
        fake.bomb(200),
        (429, b"", {"Retry-After": "9" * 60_000}),
    ],
    ids=lambda answer: str(answer)[:60],
)
def test_c14_a_perspective_server_that_drips_floods_or_bombs_is_a_server_that_does_not_answer(
    monkeypatch, answer
):
    monkeypatch.setenv("PERSPECTIVE_API_KEY", fake.KEY)
    monkeypatch.setattr(bounded_http, "SECONDS", 0.1)
    with fake.FakePerspective(fake.KEY) as server:
        server.scripted["you donkey"] = answer
        client = perspective.Perspective(server.url, sleep=lambda seconds: None)
        tracemalloc.start()
        begin = time.monotonic()
        with pytest.raises(InputError, match="no answer to request .*rerun") as caught:
            fake.ask(client, "you donkey")
        assert time.monotonic() - begin < perspective.TRIES * 0.1 + 1
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
        tracemalloc.stop()
        assert fake.ask(client, "a") == fake.scored("a")
    assert fake.KEY not in str(caught.value) and "donkey" not in str(caught.value)
