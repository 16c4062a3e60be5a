"""Nobody but the server reads the key: no log, file, proxy, or reader of an error message."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import fake_perspective as fake
import pytest
import requests
from fake_perspective import (
    CHUNKED,
    CUT,
    DROP,
    KEY,
    STALL,
    Endless,
    FakePerspective,
    ask,
    scored,
    with_value,
)

from minitox.errors import InputError
from minitox.scorers.perspective import GOOGLE_URL, Perspective, check_address

ROOT = Path(__file__).resolve().parents[2]
ECHO = f"{KEY} {quote(KEY)} {quote(KEY, safe='')} you donkey"  # what a server may quote


# ---- the header ----


def test_google_gets_the_key_in_its_own_header_and_other_servers_as_a_bearer_token(
    monkeypatch, server, google
):
    ask(google, "a")
    ask(Perspective(server.url), "b")
    monkeypatch.delenv("PERSPECTIVE_API_KEY")
    ask(Perspective(server.url), "c")
    assert [request.headers["X-Goog-Api-Key"] for request in server.seen] == [KEY, None, None]
    bearers = [request.headers["Authorization"] for request in server.seen]
    assert bearers == [None, f"Bearer {KEY}", None]
    for request in server.seen:
        assert KEY not in request.path
        assert quote(KEY, safe="") not in request.path


def test_a_netrc_file_does_not_take_the_keys_place(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("default login me password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("PERSPECTIVE_API_KEY", KEY)
    for url in ("https://example.org/", "http://localhost/"):
        request = Perspective(url).session.prepare_request(requests.Request("POST", url))
        assert request.headers["Authorization"] == f"Bearer {KEY}"


def test_a_proxy_never_sees_an_unencrypted_request(monkeypatch, server, scorer):
    with FakePerspective() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.origin)
        monkeypatch.setenv("PERSPECTIVE_API_KEY", KEY)
        assert ask(scorer, "a") == scored("a")
        assert ask(Perspective(server.url), "b") == scored("b")
        assert proxy.seen == []

    # an encrypted request may go through the proxy
    url = "https://example.org/"
    settings = Perspective(url).session.merge_environment_settings(url, {}, False, None, None)
    assert settings["proxies"]["https"] == proxy.origin


# ---- the address and the key ----


@pytest.mark.parametrize("key", ["", "  \n"])
def test_without_a_key_google_is_not_asked_and_the_message_names_what_to_do(monkeypatch, key):
    monkeypatch.setenv("PERSPECTIVE_API_KEY", key)
    message = "PERSPECTIVE_API_KEY is not set: export it.*31 December 2026.*surrogate:FILE"
    with pytest.raises(InputError, match=message):
        Perspective()


@pytest.mark.parametrize(
    "key", ["secret key", "secret\r\nX: y", "secret\u2026", "secret\ud800", "secret;"]
)
def test_a_key_that_no_header_could_carry_is_refused_and_not_shown(key):
    with pytest.raises(InputError, match="PERSPECTIVE_API_KEY contains") as caught:
        check_address(GOOGLE_URL, key)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org/path",
        "ftp://example.org/",
        "https://example.org",
        "https:///path",
        "https://[::1/",
        "https://example.org/?key=secret",
        "https://me:secret@example.org/",
        "https://example.org/#secret",
        "https://example.org/secret path",
    ],
)
def test_an_address_that_is_malformed_or_contains_a_key_is_refused_and_not_shown(url):
    with pytest.raises(InputError, match="--perspective-url must be") as caught:
        Perspective(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        GOOGLE_URL.replace("https", "http"),
        "http://example.org/",
        "http://localhost.example.org/",
        "http://127.0.0.1.example.org/",
    ],
)
def test_a_key_is_not_sent_over_plain_http_except_to_this_machine(monkeypatch, url):
    monkeypatch.setenv("PERSPECTIVE_API_KEY", KEY)
    with pytest.raises(InputError, match="not sent over plain http"):
        Perspective(url)
    for safe_url in (
        "http://localhost:8080/",
        "http://127.0.0.1/",
        "http://[::1]:80/",
        "https://example.org/",
    ):
        Perspective(safe_url)


def test_without_a_key_any_server_may_be_asked_over_plain_http():
    assert "Authorization" not in Perspective("http://example.org/").session.headers


# ---- exceptions, logs and files ----


@pytest.mark.parametrize("trouble", [DROP, CUT, fake.BAD_KEY, fake.QUOTA, fake.NOT_FOUND], ids=str)
def test_the_error_that_is_raised_contains_no_other_error(server, google, trouble):
    server.scripted["a"] = trouble
    with pytest.raises(InputError) as caught:
        ask(google, "a")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


# prints and logs as much as possible: arguments are the server's address, a folder, and texts
TALKATIVE_RUN = """
import logging, sys, traceback
from pathlib import Path
from minitox.scorers import bounded_http, perspective
from minitox.scorers.scores import Scores
sys.path.insert(0, "tests/scorers")
from fake_perspective import ToFake

logging.basicConfig(level=logging.DEBUG)
perspective.TIMEOUT = 0.5
bounded_http.SECONDS = 0.5
perspective.TRIES = 2
for url in (perspective.GOOGLE_URL, sys.argv[1]):
    scorer = perspective.Perspective(url, 1e6, sleep=lambda seconds: None)
    scorer.session.mount("https://", ToFake(sys.argv[1].split("/v1")[0]))
    print(scorer, vars(scorer), scorer.session)
    for text in sys.argv[3:]:
        try:
            print(Scores(Path(sys.argv[2], scorer.name), scorer).of([text], "en"))
        except Exception:
            traceback.print_exc()
"""
# answers of every shape, which quote the key wherever an answer can
SHAPES = [
    fake.BAD_KEY,
    fake.DISABLED,
    fake.QUOTA,
    fake.LANGUAGE,
    fake.EMPTY,
    fake.TOO_LONG,
    fake.OPENSPECTIVE,
    fake.NOT_FOUND,
    DROP,
    CUT,
    STALL,
    *(
        fake.error(code, KEY, ECHO, fake.google_info(KEY, quota_limit=ECHO))
        for code in (400, 401, 403, 404, 410, 429, 500)
    ),
    fake.own_error(KEY, ECHO),
    (400, {"error": ECHO, "detail": KEY}, {}),
    (400, f"<html>{ECHO}</html>".encode(), {}),
    (200, ECHO.encode(), {}),
    (200, with_value(json.dumps(KEY)), {}),
    (302, b"", {"Location": f"/?key={quote(KEY, safe='')}"}),
    (418, b"", {"reason": ECHO}),
    (503, b"", {"Retry-After": KEY, "Set-Cookie": f"key={KEY}"}),
    f"HTTP/1.1 {ECHO}\r\n\r\n".encode(),
    ECHO.encode() + b"\r\n",
    f"HTTP/1.1 200 OK\r\n{ECHO}\r\n\r\n".encode(),
    Endless(b"HTTP/1.1 200 OK\r\n", f"X: {ECHO}\r\n".encode()),
    Endless(CHUNKED + f"1;{ECHO}".encode(), b" ", 0.02),
    Endless(f"HTTP/1.1 200 {ECHO}".encode(), b" ", 0.02),
]


def test_the_key_is_in_no_output_whatever_the_server_answers(tmp_path):
    texts = [f"shape {i}" for i in range(len(SHAPES))]
    with FakePerspective(KEY) as server:
        server.scripted = dict(zip(texts, SHAPES, strict=True))
        arguments = [server.url, str(tmp_path), *texts, "a good one"]
        run = subprocess.run(
            [sys.executable, "-c", TALKATIVE_RUN, *arguments],
            cwd=ROOT,
            capture_output=True,
            env={**os.environ, "PERSPECTIVE_API_KEY": KEY},
            timeout=120,
        )

    # 1) each shape was met, and the good text scored by both servers: the key was sent, and right
    assert run.returncode == 0
    assert run.stdout.count(b"'scored'") == 2
    assert run.stdout.count(b"'failed: ") > 8
    assert run.stderr.count(b"InputError: ") > 20

    # 2) neither the key nor a text is in the outputs, the files or the requests
    outputs = [run.stdout, run.stderr]
    outputs += [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert len(outputs) == 4
    outputs += [request.path.encode() + request.body for request in server.seen]
    for output in outputs:
        for form in (KEY, quote(KEY), quote(KEY, safe="")):
            assert form.encode() not in output
        assert b"donkey" not in output
