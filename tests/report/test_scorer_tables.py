"""What the report shows of the scorers: their AUCs, their agreement, and when it warns."""

from types import SimpleNamespace

import numpy as np
import pytest
from measured import results

from minitox.report import scorer_tables
from minitox.report.scorer_tables import Opinion, measure


class Fixed:
    """Gives each text its answer in `answers`."""

    def __init__(self, answers):
        self.answers = answers

    def of(self, texts, language, advance):
        advance(len(texts))
        return [self.answers[language, text] for text in texts]


def opinion(name="a", aucs=None, unscored=None, **scores) -> Opinion:
    aucs = {language: (auc, auc - 0.1, auc + 0.1) for language, auc in (aucs or {}).items()}
    unscored = dict.fromkeys(aucs, "") | (unscored or {})
    scorer = SimpleNamespace(name=name, about="made up")
    return Opinion(scorer, results(**(scores or {"base": {"de": 0.4}})), aucs, unscored)


def rows(section) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in section.rows}


# ---- labelled cases ----


def test_cases_are_measured_in_each_language_by_those_that_have_a_score():
    cases = {
        "de": [("Esel", True), ("Gans", True), ("Suppe", False), ("Brot", False)],
        "ja": [("ロバ", True), ("汁", False)],
    }
    answers = {
        ("de", "Esel"): (0.9, "scored"),
        ("de", "Gans"): (0.3, "cut"),
        ("de", "Suppe"): (0.4, "scored"),
        ("de", "Brot"): (None, "failed: busy"),
        ("ja", "ロバ"): (None, "unsupported"),
        ("ja", "汁"): (None, "unsupported"),
    }
    done = []
    aucs, unscored = measure(Fixed(answers), cases, done.append)
    assert aucs["de"][0] == 0.5
    assert aucs["de"][1] < 0.5 < aucs["de"][2]
    assert np.isnan(aucs["ja"]).all()
    assert unscored == {
        "de": "1 cases: scoring failed",
        "ja": "2 cases: the scorer does not know the language",
    }
    assert done[-1] == 6


def test_the_report_warns_of_languages_below_0_7_and_of_no_other():
    aucs = {"de": 0.56, "en": 0.69999, "fr": 0.7, "zh": 0.95}
    text = scorer_tables.finding(opinion("s", aucs), "")
    assert text == (
        "s separates hateful from harmless cases poorly (AUC below 0.7) in: de (0.56), en (0.70). "
        "Do not rely on its scores in these languages; 0.5 is chance."
    )
    assert "fr (" not in text and "zh (" not in text


def test_weak_scorers_are_warned_of_and_others_are_described():
    opinions = [opinion("good", {"de": 0.9}), opinion("weak", {"de": 0.9, "fr": 0.6})]
    warnings, others = scorer_tables.findings([*opinions, opinion("new", {})], "no cases")
    assert [text.split()[0] for text in warnings] == ["weak"]
    assert others[0].startswith("good separates") and "well new separates" in others[1]


def test_without_a_weak_language_there_is_no_warning():
    text = scorer_tables.finding(opinion("s", {"de": 0.9, "fr": 0.8}), "")
    assert text.endswith("with an AUC of 0.80 at worst (fr), 0.85 on average.")
    assert "ely on" not in text


@pytest.mark.parametrize("auc", [0.9, 0.4])
def test_it_is_known_in_how_many_languages_of_the_report_a_scorer_was_measured(auc):
    scores = {"base": {"de": 0.1, "fr": 0.1, "zh": 0.1}}
    # there are cases of English, and no prompts
    of_scorer = opinion("s", {"de": auc, "en": auc, "zh": np.nan}, **scores)
    text = scorer_tables.finding(of_scorer, "")
    assert text.endswith(" Measured in 1 of 3 languages.")


@pytest.mark.parametrize(
    "aucs, reason",
    [({}, "no folder data/hatecheck"), ({"ja": np.nan}, "it has no score of them")],
)
def test_a_scorer_that_was_not_measured_says_why(aucs, reason):
    text = scorer_tables.finding(opinion("s", aucs), "no folder data/hatecheck")
    assert text.endswith(f"was not measured: {reason}.")


def test_the_section_has_a_row_for_each_language_and_a_dash_with_its_reason():
    unscored = {"ja": "2 cases: the scorer does not know the language"}
    section = scorer_tables.scorers([opinion("s", {"de": 0.56, "ja": np.nan}, unscored)], "")
    assert section.columns == ["", "s"]
    assert section.rows == [["AUC, de", "0.56 (0.46..0.66)"], ["AUC, ja", "-"]]
    assert "s, ja: no score of 2 cases: the scorer does not know the language." in section.notes


def test_the_section_says_why_there_are_no_cases():
    section = scorer_tables.scorers([opinion("s")], "no folder data/hatecheck")
    assert section.rows == []
    assert section.notes[0] == "AUC: not measured: no folder data/hatecheck."


# ---- several scorers ----


def test_scorers_stand_beside_each_other_over_the_languages_that_all_know():
    one = opinion("one", base={"de": 0.4, "fr": 0.2}, full={"de": 0.1, "fr": 0.2})
    two = opinion("two", base={"de": 0.8, "fr": None}, full={"de": 0.3, "fr": None})
    section = scorer_tables.scorers([one, two], "")
    table = rows(section)
    assert [cell[:5] for cell in table["toxicity, base"]] == ["0.400", "0.800"]
    assert [cell[:5] for cell in table["toxicity, full"]] == ["0.100", "0.300"]
    assert "Toxicity: mean over the 1 languages that all scorers know." in section.notes
    # German alone: both rank base above full; one calls everything clean
    assert table["rank correlation with one"] == ["", "1.00"]
    assert table["kappa with one"] == ["", "0.00"]


def test_agreement_that_is_undefined_is_a_dash():
    same = opinion("two", base={"de": 0.4})
    table = rows(scorer_tables.scorers([opinion("one", base={"de": 0.4}), same], ""))
    assert table["rank correlation with one"] == ["", "-"]
    assert table["kappa with one"] == ["", "-"]
    none = opinion("two", base={"de": None})
    table = rows(scorer_tables.scorers([opinion("one", base={"de": 0.4}), none], ""))
    assert table["toxicity, base"] == ["-", "-"]
    assert table["kappa with one"] == ["", "-"]


def test_the_quality_on_held_out_sentences_is_shown_where_it_is_known():
    scorer = opinion("s").scorer
    assert "not measured here" in scorer_tables.held_out(scorer).notes[0]
    scorer.held_out = {"de": {"auc": 0.9, "correlation": 0.8, "calibration": 0.1, "rows": 1234}}
    assert scorer_tables.held_out(scorer).rows == [["de", "0.900", "0.800", "0.100", "1,234"]]
