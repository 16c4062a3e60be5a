"""The Perspective API's TOXICITY, one text a request: a quota, retries, and a key that nobody gets to see.

An error of `requests` holds the key, so none leaves `ask`. A server may quote the key or the text: only its WORDS are repeated.
"""

import json
import os
import re
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from hashlib import sha256

import requests

from minitox.errors import InputError
from minitox.scorers.scores import checked

GOOGLE = "commentanalyzer.googleapis.com"
GOOGLE_URL = f"https://{GOOGLE}/v1alpha1/comments:analyze"
CLOSING = "Google closes the service on 31 December 2026; --scorer surrogate:FILE and --scorer encoder:DIR need none"
LONGEST, TRIES = (
    20_480,
    8,
)  # bytes of a text; requests for it, with waits of 1, 2, 4 ... 64 seconds between them
TIMEOUT, LONGEST_WAIT = 30, 3_600  # seconds: of silence from the server; of a wait that it asks for
WORDS = (
    "API_KEY_INVALID",
    "SERVICE_DISABLED",
    "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
    "COMMENT_EMPTY",
    "COMMENT_TOO_LONG",
)


class Perspective:
    """A scorer that asks Google, or another server that speaks as Google's does; the key is in PERSPECTIVE_API_KEY."""

    def __init__(
        self, url: str = GOOGLE_URL, per_minute: float = 60, clock=time.monotonic, sleep=time.sleep
    ):
        key = os.environ.get("PERSPECTIVE_API_KEY", "").strip()
        self.url, self.host, self.clock, self.sleep = url, check_address(url, key), clock, sleep
        self.name, self.languages = (
            f"perspective-{sha256(url.encode()).hexdigest()[:12]}",
            None,
        )  # Google knows all sixteen
        self.about = f"Perspective's TOXICITY, from {url}; its model may change without notice"
        self.advice = CLOSING if self.host == GOOGLE else "check --perspective-url"
        self.interval, self.token_at = (
            60 / per_minute,
            clock(),
        )  # seconds between two tokens; when the next is there
        self.session = requests.Session()
        self.session.trust_env = url.startswith(
            "https:"
        )  # without encryption, a proxy would read the key
        self.session.auth = lambda request: (
            request
        )  # or a password from ~/.netrc would take the key's place
        if key:
            self.session.headers.update(
                {"X-Goog-Api-Key": key}
                if self.host == GOOGLE
                else {"Authorization": f"Bearer {key}"}
            )

    def score(self, texts: list[str], language: str):
        """Yield (score, status) of each text; InputError if the service, the key or the network is at fault and not the text."""
        for text in texts:
            whole = text.encode("utf-8", "replace")  # half a surrogate pair becomes "?"
            question = {
                "comment": {"text": whole[:LONGEST].decode("utf-8", "ignore")},
                "languages": [language],
                "requestedAttributes": {"TOXICITY": {}},
                "doNotStore": True,
            }
            score, status = self.read(*self.ask(question))
            yield score, "cut" if status == "scored" and len(whole) > LONGEST else status

    def ask(self, question: dict) -> tuple[int, bytes]:
        """HTTP status and body of the answer; while the server is busy or the connection drops, the question is put again."""
        for attempt in range(TRIES):
            wait = 2.0**attempt
            self.take_token()
            try:
                answer = self.session.post(
                    self.url, json=question, timeout=TIMEOUT, allow_redirects=False
                )
                if answer.status_code != 429 and answer.status_code < 500:
                    return answer.status_code, answer.content
                wait = max(wait, retry_after(answer.headers.get("Retry-After", "")))
                trouble = f"HTTP {answer.status_code}, to be asked again in {wait:,.0f} s"
            except requests.RequestException as error:
                trouble = (
                    "its name does not resolve"
                    if "NameResolutionError" in str(error)
                    else type(error).__name__
                )
            if attempt + 1 == TRIES or wait > LONGEST_WAIT:
                raise self.stop(
                    f"no answer to request {attempt + 1} of {TRIES} ({trouble})", self.advice
                )
            self.sleep(wait)

    def take_token(self) -> None:
        """Wait for a token. The bucket holds one: if it held a minute's, the first minute would see two minutes' requests."""
        now = self.clock()
        self.sleep(max(0.0, self.token_at - now))
        self.token_at = max(now, self.token_at) + self.interval

    def read(self, code: int, body: bytes) -> tuple[float | None, str]:
        """(score, status) from an answer, or InputError if it is about the service and not about the text."""
        word = next((word for word in WORDS if f'"{word}"'.encode() in body), "")
        said = f"HTTP {code} {word}".strip()
        if 300 <= code < 400 or code in (
            404,
            410,
        ):  # no redirect is followed: the key would go with it
            raise self.stop(f"{said}, the service is not at this address", self.advice)
        if code in (401, 403) or word == "API_KEY_INVALID":
            raise self.stop(
                f"{said}, the key is refused",
                "check PERSPECTIVE_API_KEY, and that the API is enabled for it",
            )
        if code != 200:
            return None, {
                "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE": "unsupported",
                "COMMENT_EMPTY": "empty",
            }.get(word, f"failed: {said}")
        try:
            return checked(
                json.loads(body)["attributeScores"]["TOXICITY"]["summaryScore"]["value"], "scored"
            )
        except (LookupError, TypeError, ValueError, RecursionError):
            return None, "failed: the answer holds no score"

    def stop(self, why: str, advice: str) -> InputError:
        return InputError(
            f"{self.host}: {why}; {advice}. What is scored is kept, and the same command goes on from there"
        )


def check_address(url: str, key: str) -> str:
    """The host of a server's address; InputError if the address is malformed or the key would not be safe, and shows neither."""
    address = re.fullmatch(r"(https?)://([a-z0-9_.-]+|\[[0-9a-f:]+\])(:\d{1,5})?/[^\s?#@]*", url)
    if not address:
        raise InputError(
            "--perspective-url must be http(s)://HOST/PATH, without a password and without ?key="
        )
    scheme, host, _ = address.groups()
    if not re.fullmatch(r"[A-Za-z0-9._~+/=-]*", key):
        raise InputError("PERSPECTIVE_API_KEY holds a character that is in no key")
    if host == GOOGLE and not key:
        raise InputError(f"PERSPECTIVE_API_KEY is not set: export it. {CLOSING}")
    if key and scheme == "http" and host not in ("localhost", "127.0.0.1", "[::1]"):
        raise InputError(
            f"the key is not sent over plain http: give the https address of {host}, or unset PERSPECTIVE_API_KEY"
        )
    return host


def retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or as a date; 0 if it is neither."""
    if value.isdecimal():
        return float(value)
    with suppress(ValueError, OverflowError):
        return parsedate_to_datetime(value).timestamp() - time.time()
    return 0.0
