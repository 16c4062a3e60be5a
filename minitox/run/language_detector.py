"""The language detector that --language-id names."""

from pathlib import Path

from minitox.errors import InputError
from minitox.evaluate import language_id
from minitox.evaluate.language_id import NOISE, LanguageIdentifier
from minitox.files import read_json

WORD_LISTS = Path(language_id.__file__).with_name("function_words.json")
CHINESE = ("yue", "wuu")  # langid tells kinds of Chinese apart, the prompts do not


def open_detector(name: str):
    """The detector "script", which is ours, or "langid", which is py3langid's.

    A detector gives the code of a text's language, or None if it abstains.
    """
    if name == "langid":
        return open_langid()
    # DEVIATION: the paper asks langid, which names a language even for a blank text
    return LanguageIdentifier(read_json(WORD_LISTS)).identify


def open_langid():
    """py3langid on the whole text; it abstains only from texts without letters."""
    try:
        from py3langid import classify
    except ImportError:
        raise InputError("--language-id langid needs a package: pip install py3langid") from None

    def identify(text):
        # langid would name a language for digits and links too
        if not any(map(str.isalpha, NOISE.sub(" ", text))):
            return None
        code, _ = classify(text)
        return "zh" if code in CHINESE else code

    return identify
