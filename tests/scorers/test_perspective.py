"""The Perspective client against a server that speaks the documented contract, and breaks it in every way that was thought of."""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote

import fake_perspective as fake
import pytest
import requests
from fake_perspective import CUT, DROP, STALL, FakePerspective, score_of

from minitox.errors import InputError
from minitox.languages import NAMES
from minitox.scorers import perspective
from minitox.scorers.perspective import GOOGLE, GOOGLE_URL, Perspective, check_address, retry_after
from minitox.scorers.scores import Scores

ROOT = Path(__file__).resolve().parents[2]
KEY = "AIza+no/Key-of_anyone~4711="  # with characters that a URL would encode
ECHO = f"{KEY} {quote(KEY)} {quote(KEY, safe='')} you donkey"  # what a server may quote


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.now, self.waits = 0.0, []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        if seconds:
            self.waits.append(seconds)
        self.now += seconds


class ToFake(requests.adapters.HTTPAdapter):
    """Sends to the fake server what goes to Google, as it would have gone there."""

    def __init__(self, origin: str):
        super().__init__()
        self.origin = origin

    def send(self, request, **options):
        assert request.url == GOOGLE_URL
        request.url = request.url.replace(f"https://{GOOGLE}", self.origin)
        return super().send(request, **options)


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch):
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "PERSPECTIVE_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with FakePerspective() as running:
        yield running


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def google(monkeypatch, server, clock):
    """A client of Google's, whose requests reach the fake server."""
    monkeypatch.setenv("PERSPECTIVE_API_KEY", KEY)
    scorer = Perspective(clock=clock, sleep=clock.sleep)
    scorer.session.mount("https://", ToFake(server.origin))
    return scorer


@pytest.fixture
def scorer(server, clock):
    """A client of a compatible server that asks for no key."""
    return Perspective(server.url, clock=clock, sleep=clock.sleep)


def ask(scorer, *texts, language="en"):
    return list(scorer.score(list(texts), language))


def scored(*texts):
    return [(score_of(text), "scored") for text in texts]


# What is asked


def test_a_request_is_what_the_contract_asks_for(server, google):
    assert ask(google, "You donkey.") == scored("You donkey.")
    request = server.seen[0]
    assert request.question == {
        "comment": {"text": "You donkey."},
        "languages": ["en"],
        "requestedAttributes": {"TOXICITY": {}},
        "doNotStore": True,
    }
    assert (
        request.path == "/v1alpha1/comments:analyze"
        and request.headers["Content-Type"] == "application/json"
    )


def test_google_gets_the_key_in_its_own_header_and_other_servers_as_a_bearer_token(
    monkeypatch, server, google
):
    ask(google, "a")
    ask(Perspective(server.url), "b")
    monkeypatch.delenv("PERSPECTIVE_API_KEY")
    ask(Perspective(server.url), "c")
    keys = [
        (request.headers["X-Goog-Api-Key"], request.headers["Authorization"])
        for request in server.seen
    ]
    assert keys == [(KEY, None), (None, f"Bearer {KEY}"), (None, None)]
    assert all(
        KEY not in request.path and quote(KEY, safe="") not in request.path
        for request in server.seen
    )


@pytest.mark.parametrize("language", NAMES)
def test_every_language_is_sent_and_known(server, scorer, language):
    assert ask(scorer, "Hm.", language=language) == scored("Hm.")
    assert server.seen[0].question["languages"] == [language]


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert('x')</script>&amp;",
        "nul \x00 bell \x07 escape \x1b[31m",
        "\u202eright to left\u202c \u05d0\u200f",
        "line\r\n\u2028line",
        '{"error": "API_KEY_INVALID"}',
        "\U0001f600 e\u0301 \u0928\u092e\u0938\u094d\u0924\u0947",
    ],
)
def test_a_text_arrives_as_it_is(server, scorer, text):
    assert ask(scorer, text) == scored(text)
    assert server.seen[0].text == text


def test_half_a_surrogate_pair_becomes_a_question_mark(server, scorer):
    assert ask(scorer, "a\ud800b") == scored("a?b")


@pytest.mark.parametrize(
    "text, kept",
    [
        ("a" * 100_000, 20_480),
        ("\u044f" * 100_000, 10_240),
        ("a" + "\u044f" * 100_000, 10_240),
        ("\U0001f600" * 5_121, 5_120),
        ("a" * 20_481, 20_480),
    ],
)
def test_a_text_over_20480_bytes_is_cut_between_two_characters_and_says_so(
    server, scorer, text, kept
):
    assert ask(scorer, text) == [(score_of(text[:kept]), "cut")]
    assert server.seen[0].text == text[:kept]


@pytest.mark.parametrize("text", ["a" * 20_480, "\u044f" * 10_240])
def test_a_text_of_20480_bytes_is_not_cut(scorer, text):
    assert ask(scorer, text) == scored(text)


def test_the_name_and_the_line_about_it_say_whose_scores_they_are(monkeypatch, server, google):
    names = {
        google.name,
        Perspective(server.url).name,
        Perspective(server.url + "2").name,
        Perspective(GOOGLE_URL).name,
    }
    assert len(names) == 3 and all(
        name.startswith("perspective-") and "/" not in name for name in names
    )
    assert GOOGLE_URL in google.about and "TOXICITY" in google.about and "\n" not in google.about


# What is wrong with a text


@pytest.mark.parametrize(
    "answer, status",
    [
        (fake.LANGUAGE, "unsupported"),
        (fake.EMPTY, "empty"),
        (fake.TOO_LONG, "failed: HTTP 400 COMMENT_TOO_LONG"),
        (fake.NO_ATTRIBUTES, "failed: HTTP 400"),
        (fake.UNKNOWN_ATTRIBUTE, "failed: HTTP 400"),
        (fake.UNDETECTED, "failed: HTTP 400"),
        (fake.OPENSPECTIVE, "failed: HTTP 400"),
        ((400, b"<html>you donkey</html>", {}), "failed: HTTP 400"),
        ((413, b"", {}), "failed: HTTP 413"),
        ((422, {"detail": [{"input": "you donkey"}]}, {}), "failed: HTTP 422"),
        ((408, b"\xff" * 9, {}), "failed: HTTP 408"),
        ((204, b"", {}), "failed: HTTP 204"),
    ],
)
def test_an_error_of_one_text_is_its_status_and_the_next_text_is_scored(
    server, scorer, clock, answer, status
):
    server.script.append(answer)
    assert ask(scorer, "a", "b") == [(None, status), *scored("b")]
    assert len(server.seen) == 2 and clock.waits == [
        1.0
    ]  # not asked again: all it waits for is the next token


def with_value(value: str) -> bytes:
    return b'{"attributeScores": {"TOXICITY": {"summaryScore": {"value": %s}}}}' % value.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"you donkey",
        b"<html>you donkey</html>",
        b"null",
        b"0.5",
        b"[]",
        b'"0.5"',
        b"\xff\xfe\x00",
        b"\x1f\x8b\x08" + bytes(9),
        b"{" * 100_000,
        b"[" * 100_000,
        b'{"attributeScores": {}}',
        b'{"attributeScores": null}',
        b'{"attributeScores": {"TOXICITY": [0.5]}}',
        b'{"attributeScores": {"INSULT": {"summaryScore": {"value": 0.5}}}}',
        b'{"attributeScores": {"TOXICITY": {"spanScores": []}}}',
        *map(
            with_value,
            [
                "NaN",
                "Infinity",
                "-Infinity",
                "1.0000001",
                "-0.01",
                "1e999",
                "9" * 400,
                "9" * 9_000,
                "null",
                "true",
                '"0.5"',
                '"you donkey"',
                "[0.5]",
                "{}",
                "0.5,",
                "",
            ],
        ),
    ],
    ids=lambda body: repr(body[-40:]),
)
def test_a_body_without_a_score_from_0_to_1_is_a_failure_and_nothing_of_it_is_repeated(
    server, scorer, body
):
    server.script.append((200, body, {}))
    (score, status), after = ask(scorer, "a", "b")
    assert score is None and status in (
        "failed: the answer contains no score",
        "failed: the score is not a number from 0 to 1",
    )
    assert after == scored("b")[0] and len(server.seen) == 2


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0])
def test_the_bounds_are_scores(server, scorer, value):
    server.script.append((200, with_value(json.dumps(value)), {}))
    assert ask(scorer, "a") == [(float(value), "scored")]


# What is wrong with the service


@pytest.mark.parametrize(
    "answer",
    [
        fake.BAD_KEY,
        fake.DISABLED,
        (401, b"", {}),
        (403, {"error": "Forbidden", "detail": "no"}, {}),
    ],
)
def test_a_bad_key_stops_at_once(server, google, clock, answer):
    server.script.extend([answer] * 20)
    with pytest.raises(
        InputError, match="HTTP 40[013].*the key is refused; check PERSPECTIVE_API_KEY"
    ):
        ask(google, "a", "b")
    assert len(server.seen) == 1 and clock.waits == []


@pytest.mark.parametrize(
    "answer",
    [fake.NOT_FOUND, (410, b"", {}), (301, b"", {"Location": "https://perspectiveapi.com/"})],
)
def test_when_google_has_closed_the_service_one_is_told_so_and_what_to_use_instead(
    server, google, answer
):
    server.script.append(answer)
    with pytest.raises(
        InputError,
        match=f"HTTP {answer[0]}.*closes.*31 December 2026.*--scorer surrogate:FILE.*encoder:DIR",
    ):
        ask(google, "a", "b")
    assert len(server.seen) == 1


@pytest.mark.parametrize("code", [404, 410, 302])
def test_another_server_that_is_not_there_is_a_mistake_in_its_address(server, scorer, code):
    server.script.append((code, b"", {}))
    with pytest.raises(
        InputError, match=f"^127.0.0.1: HTTP {code}.*check --perspective-url"
    ) as caught:
        ask(scorer, "a")
    assert "Google" not in str(caught.value)


def failing_lookups(monkeypatch, code: int, times: int) -> None:
    left, lookup = iter(range(times)), socket.getaddrinfo

    def getaddrinfo(host, *rest, **more):
        if next(left, None) is None:
            return lookup("127.0.0.1" if host == GOOGLE else host, *rest, **more)
        raise socket.gaierror(code, "as the system says")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_AGAIN])
def test_a_name_that_no_longer_resolves_is_looked_up_again_and_then_means_that_the_service_closed(
    monkeypatch, clock, code
):
    monkeypatch.setenv("PERSPECTIVE_API_KEY", KEY)
    failing_lookups(monkeypatch, code, times=10**6)
    with pytest.raises(
        InputError,
        match=f"^{GOOGLE}:.*its name does not resolve.*31 December 2026.*surrogate:FILE.*encoder:DIR",
    ):
        ask(Perspective(clock=clock, sleep=clock.sleep), "a")
    assert clock.waits == [1, 2, 4, 8, 16, 32, 64]


def test_a_name_that_resolves_again_was_a_hiccup(monkeypatch, server, clock):
    failing_lookups(monkeypatch, socket.EAI_AGAIN, times=2)
    assert ask(
        Perspective(server.url.replace("127.0.0.1", "localhost"), clock=clock, sleep=clock.sleep),
        "a",
    ) == scored("a")
    assert clock.waits == [1, 2]


def test_a_redirect_is_not_followed_even_to_the_same_server(server, google):
    server.script.append((307, b"", {"Location": server.origin + "/elsewhere"}))
    with pytest.raises(InputError, match="HTTP 307"):
        ask(google, "a")
    assert len(server.seen) == 1


# What passes if one waits

TROUBLE = [
    fake.QUOTA,
    (429, b"", {}),
    (500, b"<html>", {}),
    (502, b"", {}),
    (503, {"error": "busy"}, {}),
    (504, b"", {}),
    DROP,
    CUT,
    b"not HTTP\r\n\r\n",
]


@pytest.mark.parametrize("trouble", TROUBLE, ids=str)
def test_a_busy_server_and_a_lost_connection_are_asked_again_after_1_2_4_seconds(
    server, scorer, clock, trouble
):
    server.script.extend([trouble] * 3)
    assert ask(scorer, "a") == scored("a")
    assert clock.waits == [1, 2, 4] and [request.text for request in server.seen] == ["a"] * 4


@pytest.mark.parametrize("trouble", TROUBLE, ids=str)
def test_a_storm_stops_the_run_after_eight_requests_and_the_next_run_goes_on(
    tmp_path, server, scorer, clock, trouble
):
    server.scripted["b"] = trouble
    with pytest.raises(
        InputError, match="no answer to request 8 of 8 .*rerun the same command to resume"
    ):
        Scores(tmp_path / "scores", scorer).of(["a", "b", "c"], "en")
    assert clock.waits == [1, 1, 2, 4, 8, 16, 32, 64]  # the first for a token
    server.scripted.clear()
    assert Scores(tmp_path / "scores", scorer).of(["a", "b", "c"], "en") == scored("a", "b", "c")
    assert Counter(request.text for request in server.seen) == {"a": 1, "b": 9, "c": 1}


def test_after_a_storm_the_next_text_waits_as_briefly_as_the_first(server, scorer, clock):
    server.script.extend([fake.QUOTA] * 5)
    ask(scorer, "a")
    server.script.append(fake.QUOTA)
    ask(scorer, "b")
    assert clock.waits == [
        1,
        2,
        4,
        8,
        16,
        1,
        1,
    ]  # five times for the quota, once for a token, once for the quota


def test_a_server_that_says_nothing_is_asked_again(monkeypatch, server, scorer, clock):
    monkeypatch.setattr(perspective, "TIMEOUT", 0.3)
    server.script.extend([STALL] * 2)
    assert ask(scorer, "a") == scored("a")
    assert clock.waits == [1, 2]


def test_nobody_there_is_a_lost_connection(clock):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(
            InputError,
            match="no answer to request 8 of 8 .ConnectionError.; check --perspective-url",
        ):
            ask(
                Perspective(
                    f"http://127.0.0.1:{unused.getsockname()[1]}/", clock=clock, sleep=clock.sleep
                ),
                "a",
            )


@pytest.mark.parametrize(
    "header, waits",
    [
        ("7", [7, 7]),
        ("1800", [1800, 1800]),
        ("0", [1, 2]),
        ("1", [1, 2]),
        ("-5", [1, 2]),
        ("1.5", [1, 2]),
        ("soon", [1, 2]),
        ("", [1, 2]),
        (formatdate(0, usegmt=True), [1, 2]),
    ],
)
@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_lengthens_the_wait_and_never_shortens_it(
    server, scorer, clock, code, header, waits
):
    server.script.extend([(code, b"", {"Retry-After": header})] * 2)
    assert ask(scorer, "a") == scored("a")
    assert clock.waits == waits


def test_retry_after_may_be_a_date(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)
    assert retry_after(formatdate(1_000_000_090, usegmt=True)) == 90
    assert (
        retry_after("Sun, 99 Sep 2001 01:48:10 GMT")
        == retry_after("Sun, 09 Sep 2001 01:48:10 +99999999999999999999")
        == 0
    )


@pytest.mark.parametrize("header", ["86400", "9" * 400])
def test_a_server_that_wants_more_than_an_hour_is_not_waited_for(server, scorer, clock, header):
    server.script.append((429, b"", {"Retry-After": header}))
    with pytest.raises(
        InputError,
        match="request 1 of 8 .HTTP 429, retry after (86,400|inf) s.*rerun the same command to resume",
    ):
        ask(scorer, "a")
    assert clock.waits == []


# The quota


def test_sixty_a_minute_stay_within_a_quota_of_sixty_a_minute(clock):
    texts = [f"Text {i}." for i in range(150)]
    with FakePerspective(per_minute=60, clock=clock) as server:
        assert ask(Perspective(server.url, clock=clock, sleep=clock.sleep), *texts) == scored(
            *texts
        )
    assert (
        len(server.seen) == 150
    )  # a bucket that held a minute's tokens would run into the quota in the first minute
    assert clock.now == pytest.approx(149)


def test_a_quota_smaller_than_thought_costs_time_and_no_text(clock):
    texts = [f"Text {i}." for i in range(90)]
    with FakePerspective(per_minute=30, clock=clock) as server:
        assert ask(
            Perspective(server.url, 6_000, clock=clock, sleep=clock.sleep), *texts
        ) == scored(*texts)
        assert max(server.answered.values()) == 1
    assert clock.now > 120


def test_time_that_passes_elsewhere_counts_and_is_not_saved_up(server, clock):
    scorer = Perspective(server.url, 30, clock=clock, sleep=clock.sleep)
    ask(scorer, "a")
    clock.now += 1.5
    ask(scorer, "b")
    clock.now += 600
    ask(scorer, "c", "d", "e")
    assert clock.waits == [0.5, 2, 2]


# The cache


def test_a_cached_text_costs_no_request(tmp_path, server, scorer):
    for _ in range(2):
        assert Scores(tmp_path / "scores", scorer).of(["a", "b", "a", " "], "en") == [
            *scored("a", "b", "a"),
            (None, "empty"),
        ]
    assert [request.text for request in server.seen] == ["a", "b"]


# The key


@pytest.mark.parametrize("key", ["", "  \n"])
def test_without_a_key_google_is_not_asked_and_the_message_says_what_to_do(monkeypatch, key):
    monkeypatch.setenv("PERSPECTIVE_API_KEY", key)
    with pytest.raises(
        InputError,
        match="PERSPECTIVE_API_KEY is not set: export it.*31 December 2026.*surrogate:FILE",
    ):
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
def test_an_address_that_is_malformed_or_holds_a_key_is_refused_and_not_shown(url):
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
    for here in (
        "http://localhost:8080/",
        "http://127.0.0.1/",
        "http://[::1]:80/",
        "https://example.org/",
    ):
        Perspective(here)


def test_without_a_key_any_server_may_be_asked_over_plain_http():
    assert "Authorization" not in Perspective("http://example.org/").session.headers


def test_a_netrc_file_does_not_take_the_keys_place(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("default login me password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("PERSPECTIVE_API_KEY", KEY)
    for url in ("https://example.org/", "http://localhost/"):
        session = Perspective(url).session
        assert (
            session.prepare_request(requests.Request("POST", url)).headers["Authorization"]
            == f"Bearer {KEY}"
        )


def test_a_proxy_never_sees_an_unencrypted_request(monkeypatch, server, scorer):
    with FakePerspective() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.origin)
        monkeypatch.setenv("PERSPECTIVE_API_KEY", KEY)
        assert ask(scorer, "a") == scored("a")
        assert ask(Perspective(server.url), "b") == scored("b")
        assert proxy.seen == []
    https = Perspective("https://example.org/").session  # through the proxy, but encrypted
    assert (
        https.merge_environment_settings("https://example.org/", {}, False, None, None)["proxies"][
            "https"
        ]
        == proxy.origin
    )


@pytest.mark.parametrize("trouble", [DROP, CUT, fake.BAD_KEY, fake.QUOTA, fake.NOT_FOUND], ids=str)
def test_the_error_that_is_raised_holds_no_other_error(server, google, trouble):
    server.scripted["a"] = trouble
    with pytest.raises(InputError) as caught:
        ask(google, "a")
    assert caught.value.__cause__ is None and caught.value.__context__ is None


EVERY_SHAPE = """
import logging, sys, traceback
from pathlib import Path
from minitox.scorers import perspective
from minitox.scorers.scores import Scores
sys.path.insert(0, "tests/scorers")
from test_perspective import ToFake

logging.basicConfig(level=logging.DEBUG)
perspective.TIMEOUT, perspective.TRIES = 0.5, 2
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


def test_the_key_is_in_no_output_whatever_the_server_does(tmp_path):
    shapes = [
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
    ]
    texts = [f"shape {i}" for i in range(len(shapes))]
    with FakePerspective(KEY) as server:
        server.scripted = dict(zip(texts, shapes))
        command = [
            sys.executable,
            "-c",
            EVERY_SHAPE,
            server.url,
            str(tmp_path),
            *texts,
            "a good one",
        ]
        run = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            env={**os.environ, "PERSPECTIVE_API_KEY": KEY},
            timeout=120,
        )
    assert run.returncode == 0
    assert (
        run.stdout.count(b"'scored'") == 2
    )  # the text that is answered well: the key was sent, and right
    assert run.stdout.count(b"'failed: ") > 8 and run.stderr.count(b"InputError: ") > 20
    outputs = [
        run.stdout,
        run.stderr,
        *(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()),
    ]
    assert len(outputs) == 4
    for output in [*outputs, *(request.path.encode() + request.body for request in server.seen)]:
        for form in (KEY, quote(KEY), quote(KEY, safe="")):
            assert form.encode() not in output
        assert b"donkey" not in output
