"""What the report says of test prompts that were seen before."""

from minitox.report.report import seen_before
from minitox.run.overlap_check import Copies

CODES = ["de", "en", "fr"]


def test_copies_of_test_prompts_are_a_row_a_language_and_a_column_a_source():
    section = seen_before(
        {
            "detection": {"de": Copies(["a:1", "a:2"], ["a:3"]), "en": Copies()},
            "surrogate-1": {"en": Copies(["p:1"])},
            "perspective": None,
        },
        CODES,
    )
    assert section.columns == ["", "detection", "surrogate-1", "perspective"]
    assert section.rows == [
        ["de", "2 exact, 1 near", "-", "not known"],
        ["en", "none", "1 exact", "not known"],
        ["fr", "-", "-", "not known"],
    ]
    assert "The training texts of perspective are not known." in section.notes


def test_without_copies_it_is_a_sentence_that_names_what_was_compared():
    none = {"detection": {"de": Copies()}, "perspective": None, "surrogate-1": {"de": Copies()}}
    section = seen_before(none, CODES)
    assert section.text == "None was found in: detection, surrogate-1."
    assert not section.columns
    assert "The training texts of perspective are not known." in section.notes
    assert "nothing was compared" in seen_before({"perspective": None}, CODES).text
