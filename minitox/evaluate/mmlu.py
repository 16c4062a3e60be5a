"""Multilingual MMLU: four lettered options, no examples, two readings of the answer.  [paper §5.2]

reply       the letter found in the reply, by the rule of `extract`
likeliest   the letter with the highest probability as the first token of the reply
"""

import re
import unicodedata

LETTERS = "ABCD"
CHANCE = 1 / len(LETTERS)  # accuracy of a random guess

# Every pattern below has all four letters, so none of them is easier to find than another one.
# Cyrillic А, В, С look like Latin letters, and Д is their fourth.
CYRILLIC = str.maketrans("АВСД", LETTERS)
WORD = "A-Za-z\u00c0-\u024f\u0400-\u04ff"  # scripts that have A, B, C as letters of their words

# A letter that is no part of a word (D'Artagnan), a name (C-3PO), an abbreviation (B.C.), or 25 °C.
# Letters of other scripts may touch it: 答えはBです
ALONE = (
    rf"(?<![{WORD}\d°])(?<![{WORD}]['’.-])"
    rf"([{LETTERS}АВСД])"
    rf"(?![{WORD}\d])(?!['’-][{WORD}\d])(?!\.[{WORD}](?![{WORD}]))"
)
LONE = re.compile(ALONE)
ITEM = re.compile(rf"{ALONE}[*_]*(?:[.):\]]|\s*$)", re.MULTILINE)  # "B." or a line that ends in B

# "A", "В" and "С" are words, too, but only before another word, and capital only at the beginning
# of a sentence ("A country", "В Африке") or in a title ("IT IS A RIVER").
NEXT_WORD = re.compile(rf"\s+[\"'“„«*_]*([{WORD}])")
NOT_AFTER_A_WORD = re.compile(  # "A is", "A because", "A or B"
    rf"(?:is|ist|est|es|é|è|adalah|benar|верен|верно|верна|je(?! to)|jest(?! to)"
    rf"|because|weil|parce|porque|pois|perché|omdat|karena|protože|ponieważ)(?![{WORD}])"
    rf"|[{WORD}]{{1,4}}\s+{ALONE}"
)
BETWEEN_SENTENCES = re.compile(r"(?<![.!?:;。।])[.!?:;。।]+[*_\"'”’»)\]]*\s+|\n")
FIRST = re.compile(r"[^\W_]")  # letter or digit

# An option is whole words, in scripts with spaces between words: Niger is not in Nigeria
SPACED = rf"{WORD}\d\u0600-\u06ff\u0900-\u097f"


def as_prompt(question: dict) -> str:
    """The question, then an option a line.  The paper does not give its prompt."""
    pairs = zip(LETTERS, question["choices"], strict=True)
    options = [f"{letter}. {choice}" for letter, choice in pairs]
    return "\n".join([question["question"], *options])


def extract(reply: str, choices: list[str]) -> str | None:
    """Take the leading letter, else the option it is, else the only letter, else the only option.

    None if there is no such letter or option, as in a list of all options.
    """
    reply = plain(reply)

    # 1) the letter that the reply begins with, unless it lists others in the same way
    items = [match[1].translate(CYRILLIC) for match in ITEM.finditer(reply)]
    first = FIRST.search(reply)
    if first and ITEM.match(reply, first.start()) and len(set(items)) == 1:
        return items[0]

    # 2) the option that is the whole reply; it may contain a letter: "Vitamin C"
    options = dict(zip(LETTERS, map(plain, choices), strict=True))
    same = [letter for letter, option in options.items() if words_of(option) == words_of(reply)]
    if len(same) == 1:
        return same[0]

    # 3) the only letter in it; of several letters, none is the answer
    letters = named_letters(reply)
    if letters:
        return letters.pop() if len(letters) == 1 else None

    # 4) without letters, the only option in it
    repeated = [letter for letter, option in options.items() if repeats(reply, option)]
    return repeated[0] if len(repeated) == 1 else None


def words_of(text: str) -> str:
    """A text without its case and the full stop at its end."""
    return text.casefold().rstrip(".")


def named_letters(reply: str) -> set[str]:
    """The letters in a reply that stand alone and are not words, such as the article "A"."""
    letters = set()
    for sentence in BETWEEN_SENTENCES.split(reply):
        first = FIRST.search(sentence)
        for match in LONE.finditer(sentence):
            following = NEXT_WORD.match(sentence, match.end())
            if following:
                begins = match.start() == first.start()
                may_be_word = begins or following[1].isupper()
                if may_be_word and not NOT_AFTER_A_WORD.match(sentence, following.start(1)):
                    continue
            letters.add(match[1].translate(CYRILLIC))
    return letters


def repeats(reply: str, option: str) -> bool:
    """Whether an option is in a reply, and not as a part of a longer word or number."""
    start = rf"(?<![{SPACED}])" if re.match(rf"[{SPACED}]", option) else ""
    end = rf"(?![{SPACED}])" if re.search(rf"[{SPACED}]\Z", option) else ""
    pattern = start + re.escape(option.casefold()) + end
    return re.search(pattern, reply.casefold()) is not None


def plain(text):
    """The text in one Unicode form, so that a full-width letter equals an ordinary one."""
    return unicodedata.normalize("NFKC", text).strip()


def likeliest_letter(logits: list[float]) -> str:
    """The letter of highest logit, given those of all LETTERS right after a question."""
    # only the letters compete
    best = max(range(len(LETTERS)), key=logits.__getitem__)
    return LETTERS[best]
