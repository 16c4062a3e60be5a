"""An answer of a server ends within a time and a size, whatever the server sends."""

import json
import threading
import time
import tracemalloc

import pytest
from fake_perspective import ENDLESS, KEY, Endless, ask, bomb, scored, success

from minitox.errors import InputError
from minitox.scorers import bounded_http, perspective
from minitox.scorers.scores import Scores

SECONDS = 0.2
MEGABYTE = 2**20


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(bounded_http, "SECONDS", SECONDS)
    monkeypatch.setattr(perspective, "TRIES", 2)


@pytest.fixture
def measured():
    """A function that returns the seconds and the most bytes since the test began."""
    tracemalloc.start()
    begin = time.monotonic()
    yield lambda: (time.monotonic() - begin, tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()


def wait_for_end_of_threads(count: int) -> None:
    """Wait until no more threads are left than `count`; those of the server end with the client."""
    end = time.monotonic() + 2
    while threading.active_count() > count:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("name", ENDLESS)
def test_an_answer_without_an_end_is_no_answer(tmp_path, server, google, clock, measured, name):
    # 1) each request ends in time, and the run with one line
    threads = threading.active_count()
    server.script.extend([ENDLESS[name]] * 2)
    with pytest.raises(InputError, match="no answer to request 2 of 2 .*rerun") as caught:
        Scores(tmp_path / "scores", google).of(["you donkey"], "en")
    seconds, memory = measured()
    assert seconds < 2 * SECONDS + 1
    assert memory < 10 * MEGABYTE
    assert clock.waits == [1]

    # 2) the line contains neither the key nor the text, and no other error
    assert KEY not in str(caught.value) and "donkey" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__context__ is None

    # 3) nothing goes on reading, and the next run resumes
    wait_for_end_of_threads(threads)
    answers = Scores(tmp_path / "scores", google).of(["you donkey"], "en")
    assert answers == scored("you donkey")


@pytest.mark.parametrize("code", [200, 302, 400, 403, 503])
@pytest.mark.parametrize("times", [1, 2])
def test_a_compressed_answer_is_not_unpacked(server, google, code, times):
    server.script.extend([bomb(code, times, Location="/")] * 2)
    tracemalloc.start()
    with pytest.raises(InputError, match=f"no answer to request 2 of 2 .HTTP {code}, "):
        ask(google, "a")
    assert tracemalloc.get_traced_memory()[1] < 5 * MEGABYTE
    tracemalloc.stop()
    assert ask(google, "a") == scored("a")
    assert server.seen[0].headers["Accept-Encoding"] == "identity"


def padded(text: str, size: int) -> bytes:
    """The right answer, with blanks in front of it."""
    body = json.dumps(success(text, "en")[1]).encode()
    return b" " * (size - len(body)) + body


def test_an_answer_of_a_megabyte_with_its_headers_is_read_and_a_larger_one_is_not(server, google):
    server.script.append((200, padded("a", bounded_http.MOST_BYTES - 1_000), {}))
    assert ask(google, "a") == scored("a")
    server.script.extend([(200, padded("b", bounded_http.MOST_BYTES), {})] * 2)
    with pytest.raises(InputError, match="no answer to request 2 of 2"):
        ask(google, "b")


def test_a_slow_answer_that_ends_in_time_is_read(monkeypatch, server, google):
    monkeypatch.setattr(bounded_http, "SECONDS", 20)
    body = json.dumps(success("a", "en")[1]).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(body) + 5)
    server.script.append(Endless(head + body, b" ", pause=0.05))
    assert ask(google, "a") == scored("a")
    assert len(server.seen) == 1


def test_each_answer_of_a_connection_has_the_whole_time(server, google):
    begin = time.monotonic()
    while time.monotonic() < begin + 2 * SECONDS:
        assert ask(google, "a") == scored("a")
    assert server.connections == 1


def test_cookies_are_not_kept(server, google):
    server.script.append((429, b"", {"Set-Cookie": "a=b"}))
    assert ask(google, "a") == scored("a")
    assert "Cookie" not in server.seen[1].headers


@pytest.mark.parametrize("value", ["9" * 60_000, "-" + "9" * 60_000, "Sun, " + "9" * 60_000])
def test_a_huge_retry_after_stops_the_run_or_counts_for_nothing(server, google, clock, value):
    server.script.append((429, b"", {"Retry-After": value}))
    if value.isdecimal():
        with pytest.raises(InputError, match=r"retry after inf s.*rerun"):
            ask(google, "a")
    else:
        assert ask(google, "a") == scored("a")
        assert clock.waits == [1]


def test_a_proxy_that_drips_is_no_answer(monkeypatch, server):
    # the connection to the proxy is made before the request to the server
    monkeypatch.setenv("PERSPECTIVE_API_KEY", KEY)
    monkeypatch.setenv("https_proxy", server.origin)
    begin = time.monotonic()
    with pytest.raises(InputError, match="no answer to request 2 of 2 .ReadTimeout."):
        ask(perspective.Perspective("https://example.org/", sleep=lambda seconds: None), "a")
    assert time.monotonic() - begin < 2 * SECONDS + 1
    assert server.tunnels == 2 and server.seen == []
