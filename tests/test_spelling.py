"""Texts that look alike have one spelling."""

import pytest

from minitox.spelling import normalise


@pytest.mark.parametrize(
    "text, expected",
    [
        ("  You\tDONKEY\u3000\n", " you donkey "),
        ("sooooo!!!! good", " soo!! good "),
        ("Straße 1984 ٣", " strasse 00 0 "),
        ("Ｆｕｌｌ ﬁt", " full fit "),
        ("", "  "),
        ("여보 日本", " 여보 日本 "),
    ],
)
def test_texts_that_look_alike_are_normalised_to_one(text, expected):
    assert normalise(text) == expected
