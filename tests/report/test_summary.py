"""The summary says what the numbers allow: no more than the intervals and the control."""

import numpy as np
import pytest
from measured import results

from minitox.languages import TUNED
from minitox.report.summary import compare, summary


def test_nothing_is_compared_where_no_language_has_a_score_of_every_model():
    measured = results(base={"de": None}, multilingual={"de": 0.2}, random={"de": 0.3})
    text = summary(measured).text
    assert "nothing is compared" in text
    assert "random neurons" not in text and "nan" not in text


def test_a_model_is_called_less_toxic_only_beyond_the_interval():
    far = np.linspace(-0.2, -0.1, 1001)
    near = np.linspace(-0.2, 0.1, 1001)
    assert compare("base", {"full": far, "aura": near, "random": -far}) == (
        "Compared with base: less toxic: full (-0.200); no significant difference: aura (-0.200); "
        "more toxic: random (+0.200)."
    )


@pytest.mark.parametrize(
    "random, expected",
    [
        (0.2, "random neurons do as well as the toxic neurons of multilingual: no evidence"),
        (0.1, "random neurons do better than the toxic neurons of multilingual: no evidence"),
        (0.4, "toxic neurons of multilingual do better than the same number of random neurons."),
    ],
)
def test_the_summary_says_whether_random_neurons_do_as_well(random, expected):
    measured = results(base={"de": 0.6}, multilingual={"de": 0.2}, random={"de": random})
    text = summary(measured).text
    assert expected in text and "{" not in text


def test_without_random_neurons_there_is_no_evidence():
    text = summary(results(base={"de": 0.6}, multilingual={"de": 0.2})).text
    assert "There is no model of random neurons to compare with" in text


def test_every_model_has_its_differences_from_base_and_from_random():
    section = summary(results(base={"de": 0.6}, multilingual={"de": 0.2}, random={"de": 0.3}))
    assert section.columns[3:5] == ["difference from base", "difference from random"]
    assert [row[3][:6] for row in section.rows] == ["-", "-0.400", "-0.300"]
    assert [row[4][:6] for row in section.rows] == ["+0.300", "-0.100", "-"]
    alone = summary(results(base={"de": 0.6}))
    assert not any("difference" in column for column in alone.columns)
    assert "Compared with" not in alone.text


def test_the_summary_warns_if_many_scores_failed():
    languages = dict.fromkeys(TUNED, 0.5)
    assert "do not rely" not in summary(results(base=languages)).text
    text = summary(results(base={**languages, "de": None})).text
    assert text.startswith("11.1% of the replies have no score") and "do not rely" in text
