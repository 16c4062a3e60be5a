"""One spelling for texts that look alike, for the default scorer and for finding copies."""

import re
import unicodedata


def normalise(text: str) -> str:
    """The text in a form that ignores case, spacing, digits and repeated letters.

    It has a space at both ends.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    text = " ".join(text.split())
    text = re.sub(r"\d", "0", text)  # "1984" is "0000", and then "00"
    text = re.sub(r"(.)\1{2,}", r"\1\1", text)  # "soooo" is "soo"
    return f" {text} "
