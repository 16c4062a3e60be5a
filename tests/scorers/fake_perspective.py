"""A server for tests that follows the documented contract of comments:analyze, or breaks it.

It records its requests, and gives wrong answers on demand. Also a clock and an adapter for clients.
"""

import gzip
import json
import threading
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from zlib import crc32

from minitox.scorers.bounded_http import BoundedAdapter
from minitox.scorers.perspective import GOOGLE, GOOGLE_URL

KEY = "AIza+no/Key-of_anyone~4711="  # with characters that a URL would encode
PATH = "/v1alpha1/comments:analyze"
LANGUAGES = "ar zh cs nl en fr de hi hi-Latn id it ja ko pl pt ru es sv".split()
# answers besides (code, body, headers)
DROP = "the connection closes"
CUT = "the body ends early"
STALL = "no answer comes"


@dataclass(frozen=True)
class Endless:
    """An answer without an end: a beginning, and the same bytes again and again."""

    begin: bytes
    again: bytes
    pause: float = 0  # seconds before each


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.now = 0.0
        self.waits = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        if seconds:
            self.waits.append(seconds)
        self.now += seconds


class ToFake(BoundedAdapter):
    """Sends requests for Google to the fake server, otherwise unchanged."""

    def __init__(self, origin: str):
        super().__init__()
        self.origin = origin

    def send(self, request, **options):
        assert request.url == GOOGLE_URL
        request.url = request.url.replace(f"https://{GOOGLE}", self.origin)
        return super().send(request, **options)


# ---- answers ----


def score_of(text: str) -> float:
    return crc32(text.encode()) % 1001 / 1000


def success(text: str, language: str):
    score = {"value": score_of(text), "type": "PROBABILITY"}
    spans = [{"begin": 0, "end": len(text), "score": score}]
    body = {
        "attributeScores": {"TOXICITY": {"spanScores": spans, "summaryScore": score}},
        "languages": [language],
        "detectedLanguages": [language],
    }
    return 200, body, {}


def error(code: int, status: str, message: str, *details: dict):
    inner = {"code": code, "message": message, "status": status, "details": list(details)}
    return code, {"error": inner}, {}


def with_value(value: str) -> bytes:
    """The body of an answer whose score is this text."""
    return b'{"attributeScores": {"TOXICITY": {"summaryScore": {"value": %s}}}}' % value.encode()


def ask(scorer, *texts: str, language: str = "en") -> list:
    return list(scorer.score(list(texts), language))


def scored(*texts: str) -> list:
    """What `ask` returns if nothing goes wrong."""
    return [(score_of(text), "scored") for text in texts]


def google_info(reason: str, **metadata) -> dict:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": "commentanalyzer.googleapis.com", **metadata},
    }


def own_error(kind: str, message: str, **more):
    detail = {
        "@type": "type.googleapis.com/google.commentanalyzer.v1alpha1.Error",
        "errorType": kind,
        **more,
    }
    return error(400, "INVALID_ARGUMENT", message, detail)


BAD_KEY = error(
    400,
    "INVALID_ARGUMENT",
    "API key not valid. Please pass a valid API key.",
    google_info("API_KEY_INVALID"),
)
DISABLED = error(
    403,
    "PERMISSION_DENIED",
    "The API has not been used in this project.",
    google_info("SERVICE_DISABLED"),
)
QUOTA = error(
    429,
    "RESOURCE_EXHAUSTED",
    "Quota exceeded for quota metric 'Analysis requests (AnalyzeComment)' and limit '...'.",
    google_info(
        "RATE_LIMIT_EXCEEDED",
        quota_limit="AnalyzeRequestsPerMinutePerProject",
        quota_limit_value="60",
    ),
    {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
)
LANGUAGE = own_error(
    "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
    "Attribute TOXICITY does not support request languages: xx",
    languageNotSupportedByAttributeError={"attribute": "TOXICITY", "requestedLanguages": ["xx"]},
)
EMPTY = own_error("COMMENT_EMPTY", "Comment must be non-empty.")
TOO_LONG = own_error("COMMENT_TOO_LONG", "Comment text too long.")
NO_ATTRIBUTES = own_error("NO_REQUESTED_ATTRIBUTES", "Missing requested_attributes")
UNKNOWN_ATTRIBUTE = own_error("INVALID_REQUEST", "Unknown requested attribute: X")
UNDETECTED = own_error("LANGUAGE_DETECTION_FAILED", "Unable to detect language")
OPENSPECTIVE = (
    400,
    {"error": "Bad Request", "detail": "Text is too long"},
    {},
)  # its error is a string
NOT_FOUND = (
    404,
    b"<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>",
    {"Content-Type": "text/html"},
)
# answers after which the same request may succeed
TROUBLE = [
    QUOTA,
    (429, b"", {}),
    (500, b"<html>", {}),
    (502, b"", {}),
    (503, {"error": "busy"}, {}),
    (504, b"", {}),
    DROP,
    CUT,
    b"not HTTP\r\n\r\n",
]


# ---- answers without an end, or much larger than they look ----

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n"
DRIP = 0.02
ENDLESS = {
    "a body that drips": Endless(LONG, b" ", DRIP),
    "a chunk that drips": Endless(CHUNKED + b"1000\r\n", b" ", DRIP),
    "chunks that drip": Endless(CHUNKED, b"1\r\n \r\n", DRIP),
    "a status line that drips": Endless(b"HTTP/1.1 200 ", b"O", DRIP),
    "headers that drip": Endless(b"HTTP/1.1 200 OK\r\n", b"X", DRIP),
    "continuations that drip": Endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", DRIP),
    "a body": Endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65_536),
    "a body with a length": Endless(LONG, b" " * 65_536),
    "a status line": Endless(b"HTTP/1.1 200 ", b"O" * 65_536),
    "a header": Endless(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65_536),
    "headers": Endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1_000),
    "long headers": Endless(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 60_000 + b"\r\n"),
    "continuations": Endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000),
    "chunks": Endless(CHUNKED, b"1000\r\n" + b" " * 4_096 + b"\r\n"),
    "the size of a chunk": Endless(CHUNKED, b"0" * 65_536),
    "an extension of a chunk": Endless(CHUNKED + b"1;", b"x" * 65_536),
    "headers after the chunks": Endless(CHUNKED + b"0\r\n", b"X: y\r\n" * 1_000),
}


def bomb(code: int, times: int = 1, **headers: str):
    """An answer that is compressed once or more, and contains 200 MB."""
    body = bytes(200_000_000)
    for _ in range(times):
        body = gzip.compress(body, compresslevel=1)
    return code, body, {"Content-Encoding": ", ".join(["gzip"] * times), **headers}


# ---- the server ----


class FakePerspective:
    """`with FakePerspective() as server:` answers at `server.url` until the block ends.

    `script` holds the answers to the next requests, whatever their texts; None is the right answer.
    `scripted` holds the answer to a text, in every request for it. `seen` lists the requests, and
    `answered` counts the scores that were sent for each text.
    """

    def __init__(self, key: str = "", per_minute: int = 0, clock=None):
        self.key = key
        self.per_minute = per_minute
        self.clock = clock
        self.times = []  # of the last minute's requests
        self.script = deque()
        self.scripted = {}
        self.seen = []
        self.answered = Counter()
        self.connections = 0
        self.tunnels = 0  # that were asked for, as of a proxy; the answers have no end
        self.closing = threading.Event()
        self.server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("BoundHandler", (Handler,), {"fake": self})
        )
        self.server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.url = self.origin + PATH

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, seen: SimpleNamespace):
        """The contract's answer to this request."""
        # 1) the address, the key and the quota
        if seen.path != PATH:
            return NOT_FOUND
        keys = (
            seen.headers.get("X-Goog-Api-Key"),
            seen.headers.get("Authorization", "").removeprefix("Bearer "),
        )
        if self.key and self.key not in keys:
            return BAD_KEY
        if self.per_minute:
            self.times = [time for time in self.times if time > self.clock() - 60]
            if len(self.times) >= self.per_minute:
                return QUOTA
            self.times.append(self.clock())

        # 2) the request's fields
        attributes = seen.question.get("requestedAttributes")
        languages = seen.question.get("languages")
        if not attributes:
            return NO_ATTRIBUTES
        if set(attributes) != {"TOXICITY"}:
            return UNKNOWN_ATTRIBUTE
        if not languages:
            return UNDETECTED
        if not set(languages) <= set(LANGUAGES):
            return LANGUAGE
        if not seen.text.strip():
            return EMPTY
        if len(seen.text.encode()) > 20_480:
            return TOO_LONG
        return success(seen.text, languages[0])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer is one write

    def setup(self):
        super().setup()
        self.fake.connections += 1

    def handle(self):
        with suppress(ConnectionError):  # the client has closed the connection
            super().handle()

    def do_CONNECT(self):
        self.fake.tunnels += 1
        self.send_without_end(ENDLESS["headers that drip"])

    def do_POST(self):
        # 1) what is asked
        body = self.rfile.read(int(self.headers["Content-Length"]))
        question = json.loads(body)
        seen = SimpleNamespace(
            path=self.path,
            headers=self.headers,
            body=body,
            question=question,
            text=question["comment"]["text"],
        )
        self.fake.seen.append(seen)

        # 2) the scripted answer, or the contract's
        answer = self.fake.script.popleft() if self.fake.script else None
        answer = answer or self.fake.scripted.get(seen.text) or self.fake.answer(seen)

        # 3) send it, or break off
        if answer == STALL:
            self.fake.closing.wait(20)
        if answer in (DROP, STALL):
            self.close_connection = True
        elif isinstance(answer, Endless):
            self.send_without_end(answer)
        elif isinstance(answer, bytes):  # not even HTTP
            self.wfile.write(answer)
            self.close_connection = True
        else:
            code, content, headers = success(seen.text, "en") if answer == CUT else answer
            self.reply(code, content, headers, early_end=answer == CUT)
            self.wfile.flush()
            self.fake.answered[seen.text] += answer != CUT and answer[0] == 200

    def reply(self, code: int, body, headers: dict, early_end: bool):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code, headers.get("reason"))
        defaults = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in {**defaults, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if early_end else body)
        self.close_connection |= early_end

    def send_without_end(self, answer: Endless):
        self.close_connection = True
        with suppress(OSError):  # the client has closed the connection
            self.connection.sendall(answer.begin)
            while not self.fake.closing.wait(answer.pause):
                self.connection.sendall(answer.again)

    do_GET = do_POST  # a client that follows a redirect uses this

    def log_message(self, *_):
        pass
