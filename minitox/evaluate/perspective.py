"""The Perspective API's TOXICITY, one text a request: quota, retries, and a key that nobody gets to see."""

import json
import os
import re
import time
import traceback
from contextlib import suppress
from email.utils import parsedate_to_datetime

import requests

from minitox.evaluate.scores import checked
from minitox.files import InputError
from minitox.languages import NAMES

GOOGLE_URL = "https://commentanalyzer.googleapis.com/v1alpha1/comments:analyze"
END = ". Google announced the service's end for 31 December 2026; --scorer surrogate:FILE and encoder:DIR need no service"
LONGEST, TRIES, LONGEST_WAIT = 20_480, 8, 600.0  # bytes of a text, requests for it, seconds between two of them


class Perspective:
    """A scorer that asks Google, or another server that speaks as Google's does."""

    def __init__(self, url: str = GOOGLE_URL, per_minute: float = 60):
        address = re.fullmatch(r"(https?)://([\w.:\[\]-]+)/[^\s?#]*", url)
        if not address:
            raise InputError("a Perspective server's address is http(s)://HOST/PATH, without a password or ?key= in it")
        (scheme, host), google, key = address.groups(), url == GOOGLE_URL, os.environ.get("PERSPECTIVE_API_KEY", "")
        if google and not key:
            raise InputError(f"PERSPECTIVE_API_KEY is not set: export it{END}")
        if not re.fullmatch("[!-~]*", key):
            raise InputError("PERSPECTIVE_API_KEY holds a space, a line break or another character that is in no key")
        if key and scheme == "http" and not re.fullmatch(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", host):
            raise InputError(f"the key is not sent over plain http: give the https address of {host}, or unset PERSPECTIVE_API_KEY")
        self.name, self.languages = "perspective" if google else "perspective-" + re.sub(r"[^\w.-]", "_", host), set(NAMES)
        self.url, self.host, self.key, self.end, self.interval = url, host, key, END if google else "", 60 / per_minute
        self.timeout, self.clock, self.sleep, self.full_at, self.session = 30, time.monotonic, time.sleep, 0.0, requests.Session()
        self.session.headers.update({"X-Goog-Api-Key": key} if google else {"Authorization": f"Bearer {key}"} if key else {})
        self.session.auth, self.session.trust_env = lambda request: request, scheme == "https"  # ~/.netrc and a proxy keep their hands off

    def score(self, texts: list[str], language: str):
        """Yield (score, status) for each text; InputError if the service is at fault and not the text."""
        for text in texts:
            whole = text.encode("utf-8", "replace")  # half a surrogate pair becomes "?"
            score, status = outcome(*self.post({"comment": {"text": whole[:LONGEST].decode("utf-8", "ignore")}, "languages": [language],
                                                "requestedAttributes": {"TOXICITY": {}}, "doNotStore": True}))
            status = "".join(filter(str.isprintable, status)).replace(self.key or "\n", "[key]")[:300]  # it may quote the server
            if status.startswith("stop: "):
                raise InputError(f"{self.host} {status.removeprefix('stop: ')}{self.end}")
            yield score, "cut" if status == "scored" and len(whole) > LONGEST else status

    def post(self, question: dict) -> tuple[int, bytes]:
        """HTTP status and body of the answer, asked again while the service is busy or the connection drops."""
        wait = 0.0
        for tries in range(TRIES):
            self.full_at = max(self.clock(), self.full_at) + self.interval  # when a bucket of a minute's tokens will be full again
            self.sleep(max(wait, self.full_at - 60 - self.clock()))
            try:
                answer = self.session.post(self.url, json=question, timeout=self.timeout, allow_redirects=False)
                if answer.status_code != 429 and answer.status_code < 500:
                    return answer.status_code, answer.content
                why, wait = f"HTTP {answer.status_code}", max(2.0**tries, retry_after(answer.headers.get("Retry-After", "")))
            except (OSError, ValueError) as error:  # it holds the request with the key, so no other error is raised in here
                if "gaierror" in "".join(traceback.format_exception(error)):
                    return 404, b'{"error": "no such name"}'
                why, wait = type(error).__name__, 2.0**tries
        raise InputError(f"no answer from {self.host} ({why}) after {TRIES} tries; the same command goes on from here{self.end}")


def outcome(code: int, body: bytes) -> tuple[float | None, str]:
    """What an answer says of the text, as (score, status), or of the service, as (None, "stop: ...")."""
    fields, score = {}, None  # the fields at any depth: errors come in several shapes
    with suppress(LookupError, RecursionError, TypeError, ValueError):
        score = json.loads(body, object_hook=lambda part: fields.update(part) or part)["attributeScores"]["TOXICITY"]["summaryScore"]["value"]
    reason, message = (next((fields[name] for name in names if isinstance(fields.get(name), str)), default) for names, default in (
        (("errorType", "reason"), ""), (("message", "detail", "error"), f"HTTP {code}")))
    if code == 200:
        return checked(score, "scored")
    if 300 <= code < 400:
        return None, f"stop: redirects; give the final address ({message})"
    if code in (404, 410):
        return None, f"stop: was not found; the scores so far are kept ({message})"
    if code in (401, 403) or reason == "API_KEY_INVALID":
        return None, f"stop: refuses the key; check PERSPECTIVE_API_KEY, and that the API is enabled for it ({message})"
    if reason == "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE":
        return None, "unsupported"
    return None, f"failed: {reason or message}"


def retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 if it makes no sense."""
    with suppress(ArithmeticError, LookupError, OSError, TypeError, ValueError):
        return min(LONGEST_WAIT, float(value) if value.isdecimal() else parsedate_to_datetime(value).timestamp() - time.time())
    return 0.0
