"""Errors that a user can cause: one line that says what is wrong, where, and what to do."""

from contextlib import contextmanager
from unicodedata import category

MOST_CHARACTERS = 1_000  # of a message


class InputError(Exception):
    """Something the user gave is wrong; scripts print the message and exit with status 2."""

    def __str__(self) -> str:
        # the message may quote a file, which may contain a megabyte or terminal escape sequences
        text = printable(super().__str__())
        return text if len(text) <= MOST_CHARACTERS else f"{text[:600]} ... {text[-390:]}"


def printable(text: str, keep: str = "") -> str:
    """The text with escapes for controls and invisible characters, except spaces and `keep`."""
    if text.isprintable():
        return text
    shown = []
    for char in text:
        visible = char.isprintable() or char in keep or category(char) == "Zs"
        shown.append(char if visible else ascii(char)[1:-1])
    return "".join(shown)


class UnusableLanguage(InputError):
    """A language's data are well-formed but not enough; the run continues without the language."""


class NotFinite(InputError):
    """A loss or a weight has become NaN or infinite; another learning rate may do better."""


@contextmanager
def user_errors(before: str = "", after: str = ""):
    """Turn an error of the method, which knows no files and no options, into an InputError.

    A ValueError becomes an InputError, a FloatingPointError NotFinite.
    """
    try:
        yield
    except ValueError as error:
        raise InputError(f"{before}{error}{after}") from None
    except FloatingPointError as error:
        raise NotFinite(f"{before}{error}{after}") from None
