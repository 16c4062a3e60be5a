"""The language detector on real prompts and replies, which it was not made from; it prints figures, never text.

The prompts are translations, informal, with names and English left in here and there, so that the highest possible figure is below 100 %.
"""

import json
from collections import Counter

import pytest

from minitox.languages import NAMES
from minitox.run.language_detector import open_detector

identify = open_detector("script")


def texts(real, kind: str, field: str, least: int) -> list[tuple[str, str]]:
    """(language, text) of all rows of `least` characters and more."""
    rows = [
        (path.stem, json.loads(line)[field])
        for path in sorted((real / "data" / kind).glob("*.jsonl"))
        if path.stem in NAMES
        for line in path.read_text("utf-8").splitlines()
    ]
    rows = [(language, text) for language, text in rows if len(text) >= least]
    return rows or pytest.skip(f"no {kind} in {real / 'data'}")


def measure(rows, what: str):
    """Counts of (language, "right", "wrong" or "open"), printed as shares."""
    counts = Counter()
    for language, text in rows:
        answer = identify(text)
        counts[
            language, "open" if answer is None else "right" if answer == language else "wrong"
        ] += 1
    for language in sorted({language for language, _ in counts}):
        n = sum(counts[language, kind] for kind in ("right", "wrong", "open"))
        print(
            f"{what} {language}: {n:5,}, right {counts[language, 'right'] / n:6.1%}, wrong {counts[language, 'wrong'] / n:5.1%}"
        )
    return Counter(
        {
            kind: sum(n for key, n in counts.items() if key[1] == kind)
            for kind in ("right", "wrong", "open")
        }
    )


def test_prompts_of_sixty_characters(real):
    counts = measure(texts(real, "detection", "text", 60), "prompts")
    assert counts["right"] / counts.total() >= 0.97
    assert counts["wrong"] / counts.total() <= 0.005


def test_shorter_prompts_are_rather_left_open_than_called_wrong(real):
    counts = measure(
        [row for row in texts(real, "detection", "text", 20) if len(row[1]) < 60], "short prompts"
    )
    assert counts["right"] / counts.total() >= 0.94
    assert counts["wrong"] / counts.total() <= 0.005


def test_replies(real):
    counts = measure(texts(real, "instructions", "response", 20), "replies")
    assert counts["right"] / counts.total() >= 0.995


def test_agreement_with_langid(real):
    pytest.importorskip("py3langid")
    langid, rows = open_detector("langid"), texts(real, "detection", "text", 60)[::4]
    answers = [(identify(text), langid(text)) for _, text in rows]
    both = [ours == theirs for ours, theirs in answers if ours and theirs]
    print(
        f"langid agrees on {sum(both) / len(both):.1%} of {len(both):,} that script names, of {len(rows):,}"
    )
    assert len(both) >= 0.95 * len(rows) and sum(both) / len(both) >= 0.97
