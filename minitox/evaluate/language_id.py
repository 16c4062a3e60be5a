"""The language of a text without a model: its script names it, or else function words and typical pieces of words do.

function_words.json lists both, "_" being a word's edge, for the sixteen and for neighbours, lest Swedish be called Dutch; any
other language may pass for its nearest. Words give points to the languages of their clues; the one with most wins, if well ahead.
"""

import json
import re
from collections import Counter
from functools import cache, lru_cache
from pathlib import Path
from unicodedata import category, name, normalize

from minitox.errors import InputError

MOST_CHARACTERS = 2_000  # are read of a text, the first ones
NOISE = re.compile(r"(?:https?://|www\.)\S*|</?\w[^<>]*>|&#?\w+;|@\w+|\b(?:USER|URL|RT)\b")
SAME_SCRIPT = {
    "HIRAGANA": "KANA",
    "KATAKANA": "KANA",
    "KATAKANA-HIRAGANA": "KANA",
    "IDEOGRAPHIC": "CJK",
}
ONE_LANGUAGE = {
    "HANGUL": "ko",
    "GREEK": "el",
    "HEBREW": "he",
    "THAI": "th",
    "BENGALI": "bn",
    "TAMIL": "ta",
    "TELUGU": "te",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "KHMER": "km",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy",
}  # or nearly so
DENSE = {"CJK": 3, "HANGUL": 3}  # one of these says about as much as three letters do
WORD, LETTER, PIECE = 4, 3, 1  # points of a clue
LEAST, PER_WORD, AHEAD, AHEAD_SHARE = (
    6,
    1.3,
    3,
    0.1,
)  # the winner's points; what it has more than the second, also as a share
SHARE, WORDS_OF_HALF = (
    2 / 3,
    10,
)  # one script's share of the text; so many words make half a text worth asking alone


def identify(text: str) -> str | None:
    """The ISO 639-1 code of a text's language, or None: no letters, too few, or no script or language that dominates."""
    words = "".join(
        map(letter, normalize("NFKC", NOISE.sub(" ", text[:MOST_CHARACTERS])).lower())
    ).split()
    count = Counter(map(script, "".join(words)))
    kana = count.pop("KANA", 0)
    count["CJK"] += kana
    weight = {each: n * DENSE.get(each, 1) for each, n in count.items()}
    main = max(weight, key=weight.get)
    if count[main] < 2 or weight[main] < SHARE * sum(weight.values()):
        return None
    if main == "CJK":  # a few Japanese words may do without kana, and a Chinese text may quote some
        return (
            "ja"
            if kana > 0.15 * count[main]
            else "zh"
            if kana < 0.05 * count[main] and count[main] >= 6
            else None
        )
    if main in ONE_LANGUAGE:
        return ONE_LANGUAGE[main]
    words = [word for word in words if script(word[0]) == main]
    half = len(words) // 2
    mixed = (
        half >= WORDS_OF_HALF
        and len({by_words(words[:half]), by_words(words[half:])} - {None}) == 2
    )
    return None if mixed else by_words(words)


def by_words(words: list[str]) -> str | None:
    """The language with most clues in these words, if there are enough and it is ahead."""
    points = sum(map(points_of, words), Counter())
    (first, most), (_, second), *_ = points.most_common(2) + 2 * [(None, 0)]
    enough = most >= max(LEAST, PER_WORD * len(words)) and most - second >= max(
        AHEAD, AHEAD_SHARE * most
    )
    return first if enough else None


@lru_cache(maxsize=50_000)
def points_of(word: str) -> Counter:
    word, table = f"_{word[:30]}_", clues()
    pieces = {word[i:j] for i in range(len(word)) for j in range(i + 1, len(word) + 1)}
    return sum((table[piece] for piece in sorted(pieces & table.keys())), Counter())


@cache
def clues() -> dict[str, Counter]:
    """What each word and piece of function_words.json is worth to each language."""
    table = {}
    for language, lists in json.loads(
        Path(__file__).with_name("function_words.json").read_text("utf-8")
    ).items():
        for piece in normalize("NFKC", " ".join(lists["pieces"])).split():
            table.setdefault(piece, Counter())[language] = LETTER if len(piece) == 1 else PIECE
        for word in normalize("NFKC", " ".join(lists["words"])).split():
            table.setdefault(f"_{word}_", Counter())[language] = WORD
    return table


@cache
def script(character: str) -> str:  # the first word of its Unicode name, such as LATIN
    return SAME_SCRIPT.get(first := name(character, "").split(" ")[0], first)


@cache
def letter(
    character: str,
) -> (
    str
):  # itself if a letter; nothing if only an accent or unseen, which end no word; else a space
    kind = category(character)
    if (
        character == "\u0640"
        or kind == "Cf"
        or kind[0] == "M"
        and script(character) != "DEVANAGARI"
    ):  # U+0640 widens a word
        return ""
    return character if kind[0] in "LM" else " "


def detector(which: str):
    """A function from a text to its language or None: `identify` for "script", py3langid, on all of the text, for "langid"."""
    if which == "script":
        return identify  # DEVIATION: the paper asks langid, which names a language even for a blank text
    try:
        from py3langid import classify
    except ImportError:
        raise InputError("--language-id langid needs a package: pip install py3langid") from None

    def ask(text: str) -> str | None:
        code = classify(text)[0] if any(map(str.isalpha, NOISE.sub(" ", text))) else None
        return (
            "zh" if code in ("yue", "wuu") else code
        )  # it tells kinds of Chinese apart, as the prompts do not

    return ask
