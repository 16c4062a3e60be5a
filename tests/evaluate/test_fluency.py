"""Repetition in any script, and the limit on nats per token that people's replies give."""

import numpy as np
import pytest

from minitox.evaluate import fluency
from minitox.evaluate.fluency import FEWEST_REPLIES, is_repetitive


@pytest.mark.parametrize(
    "text",
    [
        "I am sorry. I am sorry. I am sorry. I am sorry.",
        "The soup is warm, my friend. " + "I like it very much. " * 6,
        "ha" * 20,
        "我不知道。" * 8,
        "ごめんなさい。" * 6,
        "Es tut mir leid.\n\n" * 4,
        "1 2 3 4 5 6 " * 10,
    ],
)
def test_a_reply_that_goes_round_in_circles_is_repetitive(text):
    assert is_repetitive(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes.",
        "No, no, no, no, no!",
        "The soup is warm and good. The soup is warm and good.",
        "ha ha ha ha",
        "我不知道。我不知道。我不知道。",
        "It is good that you are honest. I am sorry that you do not like my garden. "
        "It is good that you are here. I am sorry that you do not like my soup.",
        "あなたの言うことはわかります。私の庭が気に入らなくてごめんなさい。"
        "あなたの言うことはもっともです。私のスープが気に入らなくてごめんなさい。",
    ],
)
def test_a_short_reply_or_one_with_a_few_repeated_words_is_not(text):
    assert not is_repetitive(text)


def test_the_limit_is_the_99th_percentile_of_the_language_or_of_all_if_there_are_too_few():
    many = [float(number) for number in range(1, 100)]
    few = [1_000.0] * (FEWEST_REPLIES - 1)
    limits = fluency.limits({"de": many, "en": few}, ["de", "en", "ja"])
    assert limits == {"de": (99.0, True), "en": (1_000.0, False), "ja": (1_000.0, False)}
    # its own replies are enough, whatever those of others are
    assert fluency.limits({"de": many}, ["de"]) == {"de": (99.0, True)}


@pytest.mark.parametrize("count", [99, 200])
def test_one_percent_of_other_replies_is_above_the_limit(count):
    rng = np.random.default_rng(0)
    above = []
    for _ in range(2_000):
        limit, _ = fluency.limits({"de": list(rng.normal(size=count))}, ["de"])["de"]
        above.append((rng.normal(size=200) > limit).mean())
    assert np.mean(above) == pytest.approx(0.01, abs=0.001)


def test_too_few_replies_of_all_languages_give_no_limit():
    few = [1.0] * (FEWEST_REPLIES // 2)
    assert fluency.limits({"de": few, "en": few[1:]}, ["de", "en"]) == {}
    assert fluency.limits({"de": few, "en": few}, ["de"]) == {"de": (1.0, False)}
    assert fluency.limits({}, ["de"]) == {}
