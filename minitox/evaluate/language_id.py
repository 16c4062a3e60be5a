"""The language of a text without a model: by its script, else by function words and word pieces.

Some scripts belong to one language. For the others, every function word and every typical piece of
a word is a clue: it gives points to the languages it occurs in. The language with most points is
the answer, if it is far enough ahead of the second. The word lists contain languages beside the
sixteen too, so that Swedish is not taken for Dutch; a language without a list may be taken for a
similar one.
"""

import re
from collections import Counter
from functools import cache, lru_cache
from unicodedata import category, name, normalize

MOST_CHARACTERS = 2_000  # the rest of a text is not read
MOST_LETTERS = 30  # the rest of a word is not read

# links, tags, entities, user names, and the placeholders of social media corpora
NOISE = re.compile(r"(?:https?://|www\.)\S*|</?\w[^<>]*>|&#?\w+;|@\w+|\b(?:USER|URL|RT)\b")

# A script is the first word of a character's Unicode name; Japanese has several.
SAME_SCRIPT = {
    "HIRAGANA": "KANA",
    "KATAKANA": "KANA",
    "KATAKANA-HIRAGANA": "KANA",
    "IDEOGRAPHIC": "CJK",
}

# scripts of one language, or nearly so
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
}

# 1) the dominant script
SCRIPT_SHARE = 2 / 3  # of the text
DENSE = {"CJK": 3, "HANGUL": 3}  # one character says about as much as three letters

# 2) Japanese or Chinese: a few Japanese words need no kana, and a Chinese text may quote some
KANA_IN_JAPANESE = 0.15  # share of kana among the characters, more than this
KANA_IN_CHINESE = 0.05  # less than this
CHINESE_CHARACTERS = 6  # at least, because a Japanese word may be as long

# 3) points of a clue: a whole word, a single letter that few languages have, a piece of a word
WORD = 4
LETTER = 3
PIECE = 1

# 4) the winner's points, and its lead over the second
LEAST_POINTS = 6
POINTS_PER_WORD = 1.3
LEAST_LEAD = 3
LEAD_SHARE = 0.1  # of its points
WORDS_OF_HALF = 10  # a text of twice as many words may be in two languages


class LanguageIdentifier:
    """Identifies the language of texts, given the word lists of each language.

    `word_lists[language]` has lists of text under "words" and "pieces", separated by spaces; in a
    piece, "_" is the edge of a word.
    """

    def __init__(self, word_lists):
        self.clues = points_of_clues(word_lists)
        # words repeat within and between texts
        self.points_of = lru_cache(50_000)(self.count_points)

    def identify(self, text: str) -> str | None:
        """The ISO 639-1 code of a text's language.

        None if the text has too few letters, or if no script or language dominates.
        """
        # 1) count the letters of each script
        words = words_of(text)
        letters = Counter(map(script, "".join(words)))
        kana = letters.pop("KANA", 0)
        letters["CJK"] += kana
        main = dominant_script(letters)
        if main is None:
            return None

        # 2) scripts that identify the language
        if main == "CJK":
            return japanese_or_chinese(kana, letters["CJK"])
        if main in ONE_LANGUAGE:
            return ONE_LANGUAGE[main]

        # 3) other scripts: by words; a text of two languages has none
        words = [word for word in words if script(word[0]) == main]
        half = len(words) // 2
        if half >= WORDS_OF_HALF:
            languages = {self.by_words(words[:half]), self.by_words(words[half:])}
            if len(languages - {None}) == 2:
                return None
        return self.by_words(words)

    def by_words(self, words):
        """The language with most points, if it has enough and is far enough ahead."""
        points = Counter()
        for word in words:
            points.update(self.points_of(word))
        ranking = points.most_common(2)
        if not ranking:
            return None  # no word has a clue
        language, most = ranking[0]
        second = ranking[1][1] if len(ranking) == 2 else 0

        # abstain rather than guess
        if most < max(LEAST_POINTS, POINTS_PER_WORD * len(words)):
            return None
        if most - second < max(LEAST_LEAD, LEAD_SHARE * most):
            return None
        return language

    def count_points(self, word):
        """Points of each language for one word; every clue in the word counts once."""
        # every piece of the word, from one letter to all of it with its edges
        word = f"_{word[:MOST_LETTERS]}_"
        pieces = set()
        for start in range(len(word)):
            for end in range(start + 1, len(word) + 1):
                pieces.add(word[start:end])

        # those that are clues
        points = Counter()
        for clue in pieces & self.clues.keys():
            points.update(self.clues[clue])
        return points


def points_of_clues(word_lists):
    """Points that each clue gives to each language."""
    clues = {}
    for language, lists in word_lists.items():
        for piece in split(lists["pieces"]):
            points = LETTER if len(piece) == 1 else PIECE
            clues.setdefault(piece, Counter())[language] = points
        # a whole word has an edge on both sides
        for word in split(lists["words"]):
            clues.setdefault(f"_{word}_", Counter())[language] = WORD
    return clues


def split(lines):
    """The words of several lines, in the Unicode form that `words_of` uses."""
    return normalize("NFKC", " ".join(lines)).split()


def words_of(text):
    """Words of a text's beginning, in lower case, without links, names, markup and digits."""
    text = NOISE.sub(" ", text[:MOST_CHARACTERS])
    text = normalize("NFKC", text).lower()  # half-width letters become ordinary ones
    return "".join(map(letter, text)).split()


@cache
def letter(character):
    """The character if it is a letter, "" if it is invisible or an accent, else a space."""
    kind = category(character)  # L: letters, M: accents and vowel signs, C: control
    # U+0640 only widens a word, and format characters (Cf) are invisible
    if character == "\u0640" or kind == "Cf":
        return ""
    # some texts leave accents out; in Devanagari, marks are vowels
    if kind[0] == "M" and script(character) != "DEVANAGARI":
        return ""
    return character if kind[0] in "LM" else " "


@cache
def script(character):
    """The script of a character, such as LATIN."""
    first = name(character, "").split(" ")[0]  # "LATIN SMALL LETTER A" -> "LATIN"
    return SAME_SCRIPT.get(first, first)


def dominant_script(letters):
    """The script that most of a text is written in, given the letters of each."""
    weights = {kind: count * DENSE.get(kind, 1) for kind, count in letters.items()}
    main = max(weights, key=weights.get)
    if letters[main] < 2:
        return None  # no text, or a single letter
    if weights[main] < SCRIPT_SHARE * sum(weights.values()):
        return None  # scripts are mixed
    return main


def japanese_or_chinese(kana, characters):
    """The language of a text with this number of characters, kana among them."""
    if kana > KANA_IN_JAPANESE * characters:
        return "ja"
    if kana < KANA_IN_CHINESE * characters and characters >= CHINESE_CHARACTERS:
        return "zh"
    return None
