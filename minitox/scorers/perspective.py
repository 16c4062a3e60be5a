"""The Perspective API's TOXICITY: one text a request, a limited request rate, and retries.

Two rules keep the API key and the texts out of messages, logs and files:

- An exception of `requests` contains the request, with the key in its headers. None leaves `post`,
  not even as the context of another exception.
- A server's answer may quote the key or the text. A message repeats nothing of it but the HTTP
  status and the name of one of ERRORS.
"""

import logging
import os
import re
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from hashlib import sha256

import requests

from minitox.errors import InputError
from minitox.files import parse
from minitox.scorers.bounded_http import BoundedAdapter
from minitox.scorers.scores import checked

GOOGLE = "commentanalyzer.googleapis.com"
GOOGLE_URL = f"https://{GOOGLE}/v1alpha1/comments:analyze"
CLOSING = (
    "Google closes the service on 31 December 2026; "
    "use --scorer surrogate:FILE or --scorer encoder:DIR instead"
)
MAX_BYTES = 20_480  # of a text; longer ones are cut
TRIES = 8  # requests for a text, with waits of 1, 2, 4 ... 64 seconds between them
TIMEOUT = 30  # seconds without a byte from the server
MAX_WAIT = 3_600  # seconds that a server may ask us to wait
# the service's names of errors, and the status of the text; None: failed
ERRORS = {
    "API_KEY_INVALID": None,
    "SERVICE_DISABLED": None,
    "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE": "unsupported",
    "COMMENT_EMPTY": "empty",
    "COMMENT_TOO_LONG": None,
}


class Perspective:
    """A scorer: Google's service, or a server with the same interface.

    The key is read from the environment variable PERSPECTIVE_API_KEY; only Google requires one.
    """

    languages = None  # all: Google's service knows the sixteen

    def __init__(
        self,
        url: str = GOOGLE_URL,
        per_minute: float = 60,
        clock=time.monotonic,
        sleep=time.sleep,
    ):
        key = os.environ.get("PERSPECTIVE_API_KEY", "").strip()
        self.url = url
        self.host = check_address(url, key)
        self.name = f"perspective-{sha256(url.encode()).hexdigest()[:12]}"
        self.about = f"Perspective's TOXICITY, from {url}; its model may change without notice"
        self.advice = CLOSING if self.host == GOOGLE else "check --perspective-url"
        self.clock = clock
        self.sleep = sleep
        self.interval = 60 / per_minute  # seconds between two requests
        self.next_request = clock()  # the earliest time of it

        # the key, if there is one, goes in a header and to this server alone
        session = requests.Session()
        # without encryption, a proxy that the environment names would read the key
        session.trust_env = url.startswith("https:")
        # without an `auth`, requests would send a password from ~/.netrc in the key's place
        session.auth = lambda request: request
        if key and self.host == GOOGLE:
            session.headers["X-Goog-Api-Key"] = key
        elif key:
            session.headers["Authorization"] = f"Bearer {key}"
        # ask for uncompressed answers: a small compressed one may contain gigabytes
        session.headers["Accept-Encoding"] = "identity"
        session.mount("http://", BoundedAdapter())
        session.mount("https://", BoundedAdapter())
        # urllib3 warns of malformed headers and quotes them, and they may quote the key
        logging.getLogger("urllib3.connection").setLevel(logging.ERROR)
        self.session = session

    def score(self, texts: list[str], language: str):
        """Yield each text's answer; InputError if the service, the key or the network fails."""
        for text in texts:
            whole = text.encode("utf-8", "replace")  # half a surrogate pair becomes "?"
            beginning = whole[:MAX_BYTES].decode("utf-8", "ignore")  # without half a character
            request = {
                "comment": {"text": beginning},
                "languages": [language],
                "requestedAttributes": {"TOXICITY": {}},
                "doNotStore": True,
            }
            score, status = self.read(*self.post(request))
            if status == "scored" and len(whole) > MAX_BYTES:
                status = "cut"
            yield score, status

    def post(self, request):
        """HTTP status and body of the answer; retries if the server is busy or unreachable."""
        for attempt in range(TRIES):
            # 1) wait until the next request is due; idle time is not saved up, because a minute of
            #    it would put two minutes' requests into the next
            now = self.clock()
            self.sleep(max(0.0, self.next_request - now))
            self.next_request = max(now, self.next_request) + self.interval

            # 2) send it
            wait = 2.0**attempt
            try:
                with self.send(request) as answer:
                    code = answer.status_code
                    # 429: over the quota; 5xx: the server is busy or broken
                    if code == 429 or code >= 500:
                        wait = max(wait, retry_after(answer.headers.get("Retry-After", "")))
                        trouble = f"HTTP {code}, retry after {wait:,.0f} s"
                    elif answer.headers.get("Content-Encoding", "identity") != "identity":
                        trouble = f"HTTP {code}, the answer is compressed"
                    else:
                        return code, answer.content
            except requests.RequestException as error:
                # `error` contains the key: only its type is repeated
                trouble = type(error).__name__
                if "NameResolutionError" in str(error):
                    trouble = "its name does not resolve"

            # 3) wait, outside of `except`, or the InputError would keep `error` as its context
            if attempt + 1 == TRIES or wait > MAX_WAIT:
                why = f"no answer to request {attempt + 1} of {TRIES} ({trouble})"
                raise self.stop(why, self.advice)
            self.sleep(wait)

    def send(self, request):
        """The HTTP answer, whose body is not read yet.

        Sent by the adapter, because the session would read the whole body of a redirect, follow it
        with the key, and keep cookies.
        """
        request = self.session.prepare_request(requests.Request("POST", self.url, json=request))
        settings = self.session.merge_environment_settings(self.url, {}, True, None, None)
        return self.session.get_adapter(self.url).send(request, timeout=TIMEOUT, **settings)

    def read(self, code, body):
        """The answer in an HTTP answer; InputError if it is about the service, not the text."""
        error = next((name for name in ERRORS if f'"{name}"'.encode() in body), "")
        trouble = f"HTTP {code} {error}".strip()

        # 1) errors that every other text would have as well
        if 300 <= code < 400 or code in (404, 410):
            raise self.stop(f"{trouble}, the service is not at this address", self.advice)
        if code in (401, 403) or error == "API_KEY_INVALID":
            raise self.stop(
                f"{trouble}, the key is refused",
                "check PERSPECTIVE_API_KEY, and that the API is enabled for it",
            )

        # 2) errors of this text
        if code != 200:
            return None, ERRORS.get(error) or f"failed: {trouble}"

        # 3) a score
        try:
            toxicity = parse(self.host, body)["attributeScores"]["TOXICITY"]
            return checked(toxicity["summaryScore"]["value"], "scored")
        except (LookupError, TypeError, InputError):
            return None, "failed: the answer contains no score"

    def stop(self, why, advice):
        return InputError(
            f"{self.host}: {why}; {advice}. "
            "The scores so far are kept: rerun the same command to resume"
        )


def check_address(url, key):
    """The host of a server's address.

    Raises InputError if the address is malformed or the key would not be safe there. The message
    shows neither a malformed address, which may contain a key or a password, nor the key.
    """
    # 1) the address has no user, password, query or fragment
    host_pattern = r"[a-z0-9_.-]+|\[[0-9a-f:]+\]"
    address = re.fullmatch(rf"(https?)://({host_pattern})(:\d{{1,5}})?/[^\s?#@]*", url)
    if not address:
        raise InputError(
            "--perspective-url must be http(s)://HOST/PATH, without a password and without ?key="
        )
    scheme, host, _ = address.groups()

    # 2) the key can be sent in a header
    if not re.fullmatch(r"[A-Za-z0-9._~+/=-]*", key):
        raise InputError("PERSPECTIVE_API_KEY contains a character that no key has; copy it again")
    if host == GOOGLE and not key:
        raise InputError(f"PERSPECTIVE_API_KEY is not set: export it. {CLOSING}")

    # 3) nobody on the way can read the key
    if key and scheme == "http" and host not in ("localhost", "127.0.0.1", "[::1]"):
        raise InputError(
            "the key is not sent over plain http: "
            f"give the https address of {host}, or unset PERSPECTIVE_API_KEY"
        )
    return host


def retry_after(value):
    """The seconds in a Retry-After header, which has a number or a date; 0 if it has neither."""
    if value.isdecimal():
        return float(value)
    with suppress(ValueError, OverflowError):
        return parsedate_to_datetime(value).timestamp() - time.time()
    return 0.0
