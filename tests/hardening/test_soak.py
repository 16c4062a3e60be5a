"""The Perspective client under a soak: many texts, a server that fails at every tenth request in every way it knows, and kills.

TEXTS=20000 python -m pytest tests/hardening/test_soak.py -rP
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from hashlib import sha256
from random import Random

from worlds import ROOT

sys.path.insert(0, str(ROOT / "tests" / "scorers"))
import fake_perspective as fake  # noqa: E402
from fake_perspective import STALL, FakePerspective, score_of  # noqa: E402
from test_perspective import TROUBLE, with_value  # noqa: E402

TEXTS, KILLS, FAULTS = int(os.environ.get("TEXTS", 400)), 5, 0.1
LANGUAGES = ("ar", "en", "hi", "zh")
PASSING = [
    *TROUBLE,
    (429, b"", {"Retry-After": "60"}),
    (503, b"", {"Retry-After": "soon"}),
]  # the text is asked again at once
BODIES = (
    b"",
    b"you donkey",
    b"[]",
    b"\xff\xfe",
    b"{" * 100_000,
    *map(with_value, ("NaN", "-1", "null", "{}")),
)
GARBAGE = [(200, body, {}) for body in BODIES]
OF_ONE_TEXT = [
    *GARBAGE,
    fake.UNDETECTED,
    fake.OPENSPECTIVE,
    (413, b"", {}),
    (204, b"", {}),
]  # it has failed; the next run asks again
STOPPING = [fake.BAD_KEY, fake.NOT_FOUND, fake.DISABLED, (301, b"", {"Location": "/"})][
    : TEXTS // 200
]  # the run ends; once
SCORE = """
import sys
from minitox.run import cli
from minitox.evaluate import perspective
from minitox.scorers.scores import Scores

perspective.TIMEOUT = 2
texts = {}
for number, language in enumerate(sys.argv[4:] * int(sys.argv[3])):
    texts.setdefault(language, []).append(f"You donkey, number {number}.")

def main():
    scores = Scores(sys.argv[2], perspective.Perspective(sys.argv[1], 1e9, sleep=lambda seconds: None))
    for language in texts:
        scores.of(texts[language], language)
cli.run(main)
"""


def faults(rng: Random) -> list:
    """The answers to the first requests: None, the right one, to nine of ten."""
    script = [
        rng.choice(rng.choice([PASSING, OF_ONE_TEXT])) if rng.random() < FAULTS else None
        for _ in range(TEXTS)
    ]
    for place, answer in zip(rng.sample(range(TEXTS), len(STOPPING) + 1), [*STOPPING, STALL]):
        script[place] = answer
    return script


def run_until(process: subprocess.Popen, server: FakePerspective, requests: float) -> None:
    """Wait for the end of a process, or for this many requests in all."""
    while process.poll() is None and len(server.seen) < requests:
        time.sleep(0.001)


def test_through_faults_and_kills_every_text_is_scored_exactly_once(tmp_path):
    rng, path, ends, begun = Random(7), tmp_path / "scores.jsonl", Counter(), time.monotonic()
    moments = sorted(rng.sample(range(TEXTS), KILLS), reverse=True)  # as counts of requests
    command = [sys.executable, "-c", SCORE, "", str(path), str(TEXTS // len(LANGUAGES)), *LANGUAGES]
    with FakePerspective() as server:
        command[3] = server.url
        server.script.extend(script := faults(rng))
        before = -1
        while before < len(server.seen):  # until there is nothing left to ask
            before = len(server.seen)
            process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
            run_until(process, server, max(moments[-1], before + 1) if moments else float("inf"))
            if process.poll() is None:
                time.sleep(rng.uniform(0, 0.005))
                process.kill()
            said = process.communicate()[1]
            ends[process.returncode] += 1
            del moments[KILLS - ends[-signal.SIGKILL] :]
            assert said.count("\n") == (process.returncode == 2) and "Traceback" not in said
        answered, asked, left = Counter(server.answered), len(server.seen), len(server.script)
    assert (
        ends[-signal.SIGKILL] == KILLS
        and 0 < ends[2] <= len(STOPPING)
        and left == 0
        and ends[1] == 0
    )

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    scored = {
        (line["language"], line["text"]): line["score"]
        for line in lines
        if line["status"] == "scored"
    }
    expected = {
        (language, sha256(text.encode()).hexdigest()): score_of(text)
        for language, text in zip(
            LANGUAGES * TEXTS, (f"You donkey, number {number}." for number in range(TEXTS))
        )
    }
    assert scored == expected and len(expected) == TEXTS
    failed = Counter(line["text"] for line in lines if line["status"].startswith("failed: "))
    assert (
        len(lines) == TEXTS + failed.total() and failed.total() > 0
    )  # and so no text was scored twice

    garbled = Counter(
        line["text"]
        for line in lines
        if line["status"]
        in ("failed: the answer holds no score", "failed: the score is no number from 0 to 1")
    )
    extra = {
        text: count - 1 - garbled[sha256(text.encode()).hexdigest()]
        for text, count in answered.items()
    }
    twice = [text for text, count in extra.items() if count]
    assert (
        all(extra[text] == 1 for text in twice) and len(twice) <= KILLS
    )  # what was under way when it was killed
    kinds, count = (
        len({str(answer) for answer in script if answer}),
        sum(answer is not None for answer in script),
    )
    print(
        f"{TEXTS:,} texts, {asked:,} requests, {count:,} faults of {kinds} kinds, {failed.total():,} failures asked again; "
        f"{KILLS} kills, {ends[2]} stops, {sum(ends.values())} runs; {len(twice)} texts answered twice; "
        f"{time.monotonic() - begun:.0f} s"
    )
