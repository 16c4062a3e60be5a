"""The language detector on real prompts and replies that it was not made from; no text is printed.

The prompts are informal translations with names and English words in them: 100 % is not possible.
"""

import json
from collections import Counter

import pytest

from minitox.languages import NAMES
from minitox.run.language_detector import open_detector

identify = open_detector("script")


def texts(real, kind: str, field: str, least: int) -> list[tuple[str, str]]:
    """(language, text) of all rows with at least `least` characters."""
    rows = []
    for path in sorted((real / "data" / kind).glob("*.jsonl")):
        if path.stem not in NAMES:
            continue
        for line in path.read_text("utf-8").splitlines():
            text = json.loads(line)[field]
            if len(text) >= least:
                rows.append((path.stem, text))
    return rows or pytest.skip(f"no {kind} in {real / 'data'}")


def outcome(language: str, answer: str | None) -> str:
    if answer is None:
        return "open"
    return "right" if answer == language else "wrong"


def measure(rows: list[tuple[str, str]], what: str) -> Counter:
    """How many texts are right, wrong or open; the shares of each language are printed."""
    counts = {}
    for language, text in rows:
        of_language = counts.setdefault(language, Counter())
        of_language[outcome(language, identify(text))] += 1
    for language, count in sorted(counts.items()):
        right = count["right"] / count.total()
        wrong = count["wrong"] / count.total()
        print(f"{what} {language}: {count.total():5,}, right {right:6.1%}, wrong {wrong:5.1%}")
    return sum(counts.values(), Counter())


def test_prompts_of_sixty_characters(real):
    counts = measure(texts(real, "detection", "text", 60), "prompts")
    assert counts["right"] / counts.total() >= 0.97
    assert counts["wrong"] / counts.total() <= 0.005


def test_shorter_prompts_are_left_open_rather_than_identified_wrongly(real):
    rows = [row for row in texts(real, "detection", "text", 20) if len(row[1]) < 60]
    counts = measure(rows, "short prompts")
    assert counts["right"] / counts.total() >= 0.94
    assert counts["wrong"] / counts.total() <= 0.005


def test_replies(real):
    counts = measure(texts(real, "instructions", "response", 20), "replies")
    assert counts["right"] / counts.total() >= 0.995


def test_agreement_with_langid(real):
    pytest.importorskip("py3langid")
    langid = open_detector("langid")
    rows = texts(real, "detection", "text", 60)[::4]
    both = []
    for _, text in rows:
        ours = identify(text)
        theirs = langid(text)
        if ours and theirs:
            both.append(ours == theirs)
    agreement = sum(both) / len(both)
    print(f"langid agrees on {agreement:.1%} of {len(both):,} texts, of {len(rows):,}")
    assert len(both) >= 0.95 * len(rows)
    assert agreement >= 0.97
