"""The detectors that --language-id offers."""

import sys

import pytest

from minitox.errors import InputError
from minitox.run.language_detector import open_detector


def test_the_script_detector_has_its_word_lists():
    assert open_detector("script")("Das ist ein schöner Garten, und der Hund schläft dort.") == "de"


def test_langid_needs_its_package_and_the_error_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid", None)
    with pytest.raises(InputError, match="pip install py3langid"):
        open_detector("langid")


@pytest.fixture
def classified(monkeypatch) -> list[str]:
    """The texts that a replacement of py3langid is asked about; its answers are German or Wu."""
    texts = []

    def classify(text: str) -> tuple[str, float]:
        texts.append(text)
        return ("wuu" if text == "侬好" else "de"), -54.8

    module = type(sys)("py3langid")
    module.classify = classify
    monkeypatch.setitem(sys.modules, "py3langid", module)
    return texts


def test_langid_does_not_see_a_text_without_letters(classified):
    """It would answer "af"."""
    identify = open_detector("langid")
    texts = ("", " 12 😀 ", "https://example.org/ USER", "Guten Tag")
    assert [identify(text) for text in texts] == [None, None, None, "de"]
    assert classified == ["Guten Tag"]


def test_every_kind_of_chinese_is_chinese(classified):
    assert open_detector("langid")("侬好") == "zh"
