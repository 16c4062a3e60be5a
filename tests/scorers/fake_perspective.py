"""A server for tests: it speaks the documented contract of comments:analyze, counts what it is asked, and misbehaves on demand."""

import json
import threading
from collections import Counter, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from zlib import crc32

PATH = "/v1alpha1/comments:analyze"
LANGUAGES = "ar zh cs nl en fr de hi hi-Latn id it ja ko pl pt ru es sv".split()
DROP, CUT, STALL = (
    "the connection closes",
    "the body ends early",
    "no answer comes",
)  # misbehaviour besides (code, body, headers)


def score_of(text: str) -> float:
    return crc32(text.encode()) % 1001 / 1000


def success(text: str, language: str):
    score = {"value": score_of(text), "type": "PROBABILITY"}
    spans = [{"begin": 0, "end": len(text), "score": score}]
    return (
        200,
        {
            "attributeScores": {"TOXICITY": {"spanScores": spans, "summaryScore": score}},
            "languages": [language],
            "detectedLanguages": [language],
        },
        {},
    )


def error(code: int, status: str, message: str, *details: dict):
    return (
        code,
        {"error": {"code": code, "message": message, "status": status, "details": list(details)}},
        {},
    )


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
)  # an error as a string
NOT_FOUND = (
    404,
    b"<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>",
    {"Content-Type": "text/html"},
)


class FakePerspective:
    """`with FakePerspective() as server:` answers at `server.url` until the block ends.

    `script` holds the answers to the next requests, whatever they ask (None: the right one); `scripted` the answer to a text, however
    often it is asked; `seen` lists the requests, and `answered` counts the scores that were sent for each text.
    """

    def __init__(self, key: str = "", per_minute: int = 0, clock=None):
        self.key, self.per_minute, self.clock, self.times = key, per_minute, clock, []
        self.script, self.scripted, self.seen, self.answered, self.closing = (
            deque(),
            {},
            [],
            Counter(),
            threading.Event(),
        )
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
        """What the contract says to this request."""
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
        attributes, languages = (
            seen.question.get("requestedAttributes"),
            seen.question.get("languages"),
        )
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
        return TOO_LONG if len(seen.text.encode()) > 20_480 else success(seen.text, languages[0])


class Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm, wbufsize = (
        "HTTP/1.1",
        True,
        -1,
    )  # connections stay open; an answer is one write

    def do_POST(self):
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
        answer = self.fake.script.popleft() if self.fake.script else None
        answer = answer or self.fake.scripted.get(seen.text) or self.fake.answer(seen)
        if answer == STALL:
            self.fake.closing.wait(20)
        if answer in (DROP, STALL):
            self.close_connection = True
        elif isinstance(answer, bytes):  # not even HTTP
            self.wfile.write(answer)
            self.close_connection = True
        else:
            self.reply(
                *(success(seen.text, "en") if answer == CUT else answer), early_end=answer == CUT
            )
            self.wfile.flush()
            self.fake.answered[seen.text] += answer != CUT and answer[0] == 200

    def reply(self, code: int, body, headers: dict, early_end: bool):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code, headers.get("reason"))
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if early_end else body)
        self.close_connection |= early_end

    do_GET = do_POST  # a redirect that was followed would come as this

    def log_message(self, *_):
        pass
