"""The Perspective client with a server that follows its documented contract, or breaks it."""

import json
import socket
import time
from collections import Counter
from email.utils import formatdate

import fake_perspective as fake
import pytest
from fake_perspective import (
    KEY,
    STALL,
    TROUBLE,
    FakePerspective,
    ask,
    score_of,
    scored,
    with_value,
)

from minitox.errors import InputError
from minitox.languages import NAMES
from minitox.scorers import perspective
from minitox.scorers.perspective import GOOGLE, GOOGLE_URL, Perspective, retry_after
from minitox.scorers.scores import Scores

# ---- the request ----


def test_a_request_is_what_the_contract_asks_for(server, google):
    assert ask(google, "You donkey.") == scored("You donkey.")
    request = server.seen[0]
    assert request.question == {
        "comment": {"text": "You donkey."},
        "languages": ["en"],
        "requestedAttributes": {"TOXICITY": {}},
        "doNotStore": True,
    }
    assert request.path == "/v1alpha1/comments:analyze"
    assert request.headers["Content-Type"] == "application/json"


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
def test_a_text_over_20480_bytes_is_cut_between_two_characters_and_its_status_is_cut(
    server, scorer, text, kept
):
    assert ask(scorer, text) == [(score_of(text[:kept]), "cut")]
    assert server.seen[0].text == text[:kept]


@pytest.mark.parametrize("text", ["a" * 20_480, "\u044f" * 10_240])
def test_a_text_of_20480_bytes_is_not_cut(scorer, text):
    assert ask(scorer, text) == scored(text)


def test_the_name_and_the_line_about_it_identify_the_server(server, google):
    names = {
        google.name,
        Perspective(server.url).name,
        Perspective(server.url + "2").name,
        Perspective(GOOGLE_URL).name,
    }
    assert len(names) == 3
    for name in names:
        assert name.startswith("perspective-")
        assert "/" not in name
    assert GOOGLE_URL in google.about
    assert "TOXICITY" in google.about
    assert "\n" not in google.about


# ---- errors of a text ----


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
    assert len(server.seen) == 2  # no retry
    assert clock.waits == [1.0]  # for the second text's turn


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
        b'{"attributeScores": {"TOXICITY": {"summaryScore": {"value": 0.1, "value": 0.9}}}}',
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
    assert score is None
    assert status in (
        "failed: the answer contains no score",
        "failed: the score is not a number from 0 to 1",
    )
    assert [after] == scored("b")
    assert len(server.seen) == 2


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0])
def test_0_and_1_are_scores(server, scorer, value):
    server.script.append((200, with_value(json.dumps(value)), {}))
    assert ask(scorer, "a") == [(float(value), "scored")]


# ---- errors of the service ----


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
    message = "HTTP 40[013].*the key is refused; check PERSPECTIVE_API_KEY"
    with pytest.raises(InputError, match=message):
        ask(google, "a", "b")
    assert len(server.seen) == 1
    assert clock.waits == []


@pytest.mark.parametrize(
    "answer",
    [fake.NOT_FOUND, (410, b"", {}), (301, b"", {"Location": "https://perspectiveapi.com/"})],
)
def test_if_google_has_closed_the_service_the_message_names_what_to_use_instead(
    server, google, answer
):
    server.script.append(answer)
    message = f"HTTP {answer[0]}.*closes.*31 December 2026.*--scorer surrogate:FILE.*encoder:DIR"
    with pytest.raises(InputError, match=message):
        ask(google, "a", "b")
    assert len(server.seen) == 1


@pytest.mark.parametrize("code", [404, 410, 302])
def test_a_compatible_server_that_is_not_there_is_an_error_in_its_address(server, scorer, code):
    server.script.append((code, b"", {}))
    message = f"^127.0.0.1: HTTP {code}.*check --perspective-url"
    with pytest.raises(InputError, match=message) as caught:
        ask(scorer, "a")
    assert "Google" not in str(caught.value)


def fail_lookups(monkeypatch, code: int, times: int) -> None:
    """Let the first `times` look-ups of a host's name fail."""
    failures = iter(range(times))
    lookup = socket.getaddrinfo

    def getaddrinfo(host, *rest, **more):
        if next(failures, None) is None:
            return lookup("127.0.0.1" if host == GOOGLE else host, *rest, **more)
        raise socket.gaierror(code, "the system's message")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_AGAIN])
def test_a_name_that_does_not_resolve_is_looked_up_again_and_means_that_the_service_closed(
    monkeypatch, clock, code
):
    monkeypatch.setenv("PERSPECTIVE_API_KEY", KEY)
    fail_lookups(monkeypatch, code, times=10**6)
    message = f"^{GOOGLE}:.*its name does not resolve.*31 December 2026.*surrogate:FILE"
    with pytest.raises(InputError, match=f"{message}.*encoder:DIR"):
        ask(Perspective(clock=clock, sleep=clock.sleep), "a")
    assert clock.waits == [1, 2, 4, 8, 16, 32, 64]


def test_a_name_that_resolves_again_costs_no_score(monkeypatch, server, clock):
    fail_lookups(monkeypatch, socket.EAI_AGAIN, times=2)
    url = server.url.replace("127.0.0.1", "localhost")
    assert ask(Perspective(url, clock=clock, sleep=clock.sleep), "a") == scored("a")
    assert clock.waits == [1, 2]


def test_a_redirect_is_not_followed_even_to_the_same_server(server, google):
    server.script.append((307, b"", {"Location": server.origin + "/elsewhere"}))
    with pytest.raises(InputError, match="HTTP 307"):
        ask(google, "a")
    assert len(server.seen) == 1


# ---- errors that pass ----


@pytest.mark.parametrize("trouble", TROUBLE, ids=str)
def test_a_busy_server_or_a_lost_connection_is_retried_after_1_2_4_seconds(
    server, scorer, clock, trouble
):
    server.script.extend([trouble] * 3)
    assert ask(scorer, "a") == scored("a")
    assert clock.waits == [1, 2, 4]
    assert [request.text for request in server.seen] == ["a"] * 4


@pytest.mark.parametrize("trouble", TROUBLE, ids=str)
def test_lasting_trouble_stops_the_run_after_eight_requests_and_the_next_run_resumes(
    tmp_path, server, scorer, clock, trouble
):
    server.scripted["b"] = trouble
    message = "no answer to request 8 of 8 .*rerun the same command to resume"
    with pytest.raises(InputError, match=message):
        Scores(tmp_path / "scores", scorer).of(["a", "b", "c"], "en")
    assert clock.waits == [1, 1, 2, 4, 8, 16, 32, 64]  # the first for the text's turn
    server.scripted.clear()
    assert Scores(tmp_path / "scores", scorer).of(["a", "b", "c"], "en") == scored("a", "b", "c")
    assert Counter(request.text for request in server.seen) == {"a": 1, "b": 9, "c": 1}


def test_after_retries_the_next_text_waits_as_briefly_as_the_first(server, scorer, clock):
    server.script.extend([fake.QUOTA] * 5)
    ask(scorer, "a")
    server.script.append(fake.QUOTA)
    ask(scorer, "b")
    # five times for the quota, once for the text's turn, once for the quota
    assert clock.waits == [1, 2, 4, 8, 16, 1, 1]


def test_a_server_that_does_not_answer_is_retried(monkeypatch, server, scorer, clock):
    monkeypatch.setattr(perspective, "TIMEOUT", 0.3)
    server.script.extend([STALL] * 2)
    assert ask(scorer, "a") == scored("a")
    assert clock.waits == [1, 2]


def test_a_port_without_a_server_is_a_lost_connection(clock):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        scorer = Perspective(url, clock=clock, sleep=clock.sleep)
        message = "no answer to request 8 of 8 .ConnectionError.; check --perspective-url"
        with pytest.raises(InputError, match=message):
            ask(scorer, "a")


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
    assert retry_after("Sun, 99 Sep 2001 01:48:10 GMT") == 0
    assert retry_after("Sun, 09 Sep 2001 01:48:10 +99999999999999999999") == 0


@pytest.mark.parametrize("header", ["86400", "9" * 400])
def test_a_server_that_asks_for_more_than_an_hour_stops_the_run(server, scorer, clock, header):
    server.script.append((429, b"", {"Retry-After": header}))
    trouble = "HTTP 429, retry after (86,400|inf) s"
    message = f"request 1 of 8 .{trouble}.*rerun the same command to resume"
    with pytest.raises(InputError, match=message):
        ask(scorer, "a")
    assert clock.waits == []


# ---- the request rate ----


def test_sixty_a_minute_stay_within_a_quota_of_sixty_a_minute(clock):
    texts = [f"Text {i}." for i in range(150)]
    with FakePerspective(per_minute=60, clock=clock) as server:
        scorer = Perspective(server.url, clock=clock, sleep=clock.sleep)
        assert ask(scorer, *texts) == scored(*texts)
    # no retry: if a minute's requests could be saved up, the first minute would exceed the quota
    assert len(server.seen) == 150
    assert clock.now == pytest.approx(149)


def test_a_quota_below_the_request_rate_costs_time_and_no_score(clock):
    texts = [f"Text {i}." for i in range(90)]
    with FakePerspective(per_minute=30, clock=clock) as server:
        scorer = Perspective(server.url, 6_000, clock=clock, sleep=clock.sleep)
        assert ask(scorer, *texts) == scored(*texts)
        assert max(server.answered.values()) == 1
    assert clock.now > 120


def test_time_between_requests_counts_and_is_not_saved_up(server, clock):
    scorer = Perspective(server.url, 30, clock=clock, sleep=clock.sleep)
    ask(scorer, "a")
    clock.now += 1.5
    ask(scorer, "b")
    clock.now += 600
    ask(scorer, "c", "d", "e")
    assert clock.waits == [0.5, 2, 2]


# ---- the file of scores ----


def test_a_text_with_a_score_costs_no_request(tmp_path, server, scorer):
    for _ in range(2):
        answers = Scores(tmp_path / "scores", scorer).of(["a", "b", "a", " "], "en")
        assert answers == [*scored("a", "b", "a"), (None, "empty")]
    assert [request.text for request in server.seen] == ["a", "b"]
