"""Copies of test prompts: which texts repeat a prompt that models are evaluated on, or nearly so.

Neither a model nor its scorer may have seen a test prompt before the test. Texts are compared as
`normalise` spells them, up to COMPARED characters.
"""

import math
from pathlib import Path

from minitox.files import read_jsonl, text_field
from minitox.spelling import normalise

COMPARED = 10_000  # characters at the beginning of a text; the rest makes no difference
SHINGLE = 5  # characters in a shingle
NEAR = 0.8  # texts are near copies if the Jaccard similarity of their shingles is at least this


def shingles(text: str) -> list[str]:
    """All substrings of SHINGLE characters of a normalised text, or the text if it is shorter."""
    count = max(1, len(text) - SHINGLE + 1)
    return [text[i : i + SHINGLE] for i in range(count)]


def rarest(parts, frequency) -> list[str]:
    """The shingles of a text of which every near copy has one, given the frequency of a shingle."""
    by_rarity = sorted(parts, key=lambda part: (frequency(part), part))
    # a near copy has at least ceil(NEAR * len(parts)) of all of them
    return by_rarity[: len(parts) - math.ceil(NEAR * len(parts)) + 1]


def are_near(
    common: int,  # shingles that both texts have
    size: int,  # shingles of one text
    other_size: int,  # and of the other
) -> bool:
    """Whether two texts are near copies, given the numbers of their distinct shingles."""
    return common >= NEAR * (size + other_size - common)


class PromptIndex:
    """The test prompts of one language, to compare texts with."""

    def __init__(self, prompts: list[str]):
        self.texts = {normalise(prompt[:COMPARED]) for prompt in prompts}

        # 1) the distinct shingles of each prompt, and the prompts that have a shingle
        self.shingles = [{*shingles(text)} for text in self.texts]
        self.numbers = {}
        for number, parts in enumerate(self.shingles):
            for part in parts:
                self.numbers.setdefault(part, []).append(number)

        # 2) a near copy has at most this many shingles that no prompt has
        largest = max(map(len, self.shingles), default=0)
        self.most_missing = math.ceil(largest / NEAR) - largest

    def compare(self, text: str) -> str:
        """How a text repeats a prompt: "exact", "near", or "" if it does not."""
        # 1) the same text
        text = normalise(text[:COMPARED])
        if text in self.texts:
            return "exact"

        # 2) the beginning of most other texts shows that they are no near copies
        end = SHINGLE + 2 * self.most_missing
        beginning = {*shingles(text[:end])}
        missing = beginning.difference(self.numbers)
        if len(missing) > self.most_missing:
            return ""

        # 3) compare it with the prompts that have one of its rarest shingles
        parts = {*shingles(text)}
        prompts_with = self.numbers.get
        rare = rarest(parts, lambda part: len(prompts_with(part, ())))
        candidates = set().union(*(prompts_with(part, ()) for part in rare))
        for number in candidates:
            other = self.shingles[number]
            if are_near(len(parts & other), len(parts), len(other)):
                return "near"
        return ""


def read_prompt_index(path: Path) -> PromptIndex:
    """All prompts of a prompts/ file; none if there is no such file."""
    prompts = []
    if path.exists():
        for where, row in read_jsonl(path):
            prompts.append(text_field(where, row, "prompt"))
    return PromptIndex(prompts)
