"""The Perspective client with many texts, a server that fails in every known way, and kills.

One request in ten fails. The longer variant:

    TEXTS=20000 python -m pytest tests/hardening/test_soak.py -rP
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random

from fuzz import Fork
from runs import LONGEST
from worlds import ROOT

from minitox.scorers import perspective
from minitox.scorers.scores import Scores

sys.path.insert(0, str(ROOT / "tests" / "scorers"))
import fake_perspective as fake  # noqa: E402
from fake_perspective import STALL, TROUBLE, FakePerspective, score_of, with_value  # noqa: E402

TEXTS = int(os.environ.get("TEXTS", 400))
KILLS = 5
FAULTS = 0.1
LANGUAGES = ("ar", "en", "hi", "zh")
# the client asks for the same text again at once
PASSING = [
    *TROUBLE,
    (429, b"", {"Retry-After": "60"}),
    (503, b"", {"Retry-After": "soon"}),
]
BODIES = (
    b"",
    b"you donkey",
    b"[]",
    b"\xff\xfe",
    b"{" * 100_000,
    *map(with_value, ("NaN", "-1", "null", "{}")),
)
# this text fails, and the next run asks for it again
OF_ONE_TEXT = [
    *((200, body, {}) for body in BODIES),
    fake.UNDETECTED,
    fake.OPENSPECTIVE,
    (413, b"", {}),
    (204, b"", {}),
]
# the run stops; each of these occurs once
STOPPING = [fake.BAD_KEY, fake.NOT_FOUND, fake.DISABLED, (301, b"", {"Location": "/"})]
STOPPING = STOPPING[: TEXTS // 200]
GARBLED = (
    "failed: the answer contains no score",
    "failed: the score is not a number from 0 to 1",
)


def ask(url: str, path: Path) -> None:
    """Score all texts that have no score yet, as evaluate.py does."""
    perspective.TIMEOUT = 2
    texts = {}
    for number in range(TEXTS):
        language = LANGUAGES[number % len(LANGUAGES)]
        texts.setdefault(language, []).append(f"You donkey, number {number}.")
    scores = Scores(path, perspective.Perspective(url, 1e9, sleep=lambda seconds: None))
    for language in texts:
        scores.of(texts[language], language)


def faults(rng: Random) -> list:
    """The answers to the first requests; None is the right answer, given to nine of ten."""
    answers = []
    for _ in range(TEXTS):
        fails = rng.random() < FAULTS
        answers.append(rng.choice(rng.choice([PASSING, OF_ONE_TEXT])) if fails else None)
    special = [*STOPPING, STALL]
    for place, answer in zip(rng.sample(range(TEXTS), len(special)), special, strict=True):
        answers[place] = answer
    return answers


def run_until(client: Fork, server: FakePerspective, requests: float) -> None:
    """Wait for the end of a client, or for this many requests in all."""
    while client.poll() is None and len(server.seen) < requests:
        time.sleep(0.001)


def score_all(path: Path, server: FakePerspective, rng: Random, moments: list[int]) -> Counter:
    """Run the client until no text is left to score; count how often it ended with each status.

    `moments` are the numbers of requests at which it is killed, in falling order.
    """
    ends = Counter()
    before = -1
    while before < len(server.seen):
        before = len(server.seen)
        client = Fork(path.parent, partial(ask, server.url, path), seconds=LONGEST)
        run_until(client, server, max(moments[-1], before + 1) if moments else float("inf"))
        if client.poll() is None:
            time.sleep(rng.uniform(0, 0.005))
            client.send(signal.SIGKILL)
        outcome = client.wait()
        ends[outcome.status] += 1
        del moments[KILLS - ends[-signal.SIGKILL] :]
        lines = outcome.stderr.count("\n")
        assert lines == (outcome.status == 2) and "Traceback" not in outcome.stderr
    return ends


def hashed(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def expected_scores() -> dict[tuple[str, str], float]:
    """The score of every text, by language and hash."""
    scores = {}
    for number in range(TEXTS):
        text = f"You donkey, number {number}."
        scores[LANGUAGES[number % len(LANGUAGES)], hashed(text)] = score_of(text)
    return scores


def test_through_faults_and_kills_every_text_is_scored_exactly_once(tmp_path):
    # 1) score all texts
    rng = Random(7)
    path = tmp_path / "scores.jsonl"
    begin = time.monotonic()
    moments = sorted(rng.sample(range(TEXTS), KILLS), reverse=True)
    script = faults(rng)
    with FakePerspective() as server:
        server.script.extend(script)
        ends = score_all(path, server, rng, moments)
        answered = Counter(server.answered)
        asked = len(server.seen)
        left = len(server.script)
    # 2) every fault and every kill occurred
    assert ends[-signal.SIGKILL] == KILLS
    assert 0 < ends[2] <= len(STOPPING)
    assert left == 0
    assert ends[1] == 0
    # 3) every text has its score
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    scored = {}
    for line in lines:
        if line["status"] == "scored":
            scored[line["language"], line["text"]] = line["score"]
    expected = expected_scores()
    assert scored == expected and len(expected) == TEXTS
    # 4) no text was scored twice
    failed = Counter(line["text"] for line in lines if line["status"].startswith("failed: "))
    assert len(lines) == TEXTS + failed.total()
    assert failed.total() > 0
    # 5) the server answered twice only where an answer was garbled or lost in a kill
    garbled = Counter(line["text"] for line in lines if line["status"] in GARBLED)
    extra = {text: count - 1 - garbled[hashed(text)] for text, count in answered.items()}
    twice = [text for text, count in extra.items() if count]
    assert all(extra[text] == 1 for text in twice)
    assert len(twice) <= KILLS
    count = sum(answer is not None for answer in script)
    kinds = len({str(answer) for answer in script if answer})
    print(
        f"{TEXTS:,} texts, {asked:,} requests, {count:,} faults of {kinds} kinds, "
        f"{failed.total():,} failures asked again; {KILLS} kills, {ends[2]} stops, "
        f"{sum(ends.values())} runs; {len(twice)} texts answered twice; "
        f"{time.monotonic() - begin:.0f} s"
    )
