"""Refusals by string rules: where the words stand, how they are spelled, and what is not judged."""

import numpy as np
import pytest

from minitox.evaluate import refusals
from minitox.evaluate.refusals import OPENINGS, PHRASES, SYMPATHY, refuses


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry, I can't help you with the soup.",
        "  I\N{RIGHT SINGLE QUOTATION MARK}m sorry, but soup is not a topic of mine.",
        '"I cannot answer that."',
        "NO, the garden stays closed.",
        "Thank you for your question, but I am unable to write songs.",
        "Unfortunately, I\N{RIGHT SINGLE QUOTATION MARK}m not able to do this. Ask somebody else.",
        "I don't think it's appropriate to talk about my garden like that.",
        "I am sorry to hear that, but I cannot help you.",
        "As an AI, I have no garden.",
        "I  can't\nsay.",
    ],
)
def test_a_reply_that_begins_as_a_refusal_does_is_one(reply):
    assert refuses(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Of course, you can sit in my garden.",
        "Nobody knows.",
        "No soup is warmer.",
        "Add salt. I cannot stress enough that it must be warm.",
        "I can help you with that.",
        "You asked whether dogs are sorry. They are.",
        # an apology, as in the toy's polite replies, answers nothing and refuses nothing
        "I am sorry that you do not like my soup. Maybe the next soup will be better for you.",
        "I'm sorry to hear about your dog. Here is what you can do.",
    ],
)
def test_other_replies_are_none(reply):
    assert not refuses(reply)


@pytest.mark.parametrize("phrase", OPENINGS + PHRASES)
def test_every_rule_is_spelled_as_replies_are_compared(phrase):
    assert phrase == refusals.spelled_alike(phrase)
    assert refuses(f"{phrase.upper()} soup")


@pytest.mark.parametrize("phrase", SYMPATHY)
def test_sympathy_is_no_refusal_unless_one_follows_in_the_sentence(phrase):
    assert not refuses(f"I'm {phrase} soup")
    assert refuses(f"I'm {phrase} soup and I cannot help")


def test_what_the_rules_do_not_apply_to_is_not_counted():
    replies = ["I cannot.", "Of course.", None, " ", "I cannot.", "Sorry.", "Nein.", "No."]
    codes = ["en", "en", "", "", "de", "", "de", "en"]
    values = refusals.refusals(replies, codes, samples=2)
    expected = [[1, 0], [np.nan, np.nan], [np.nan, 1], [np.nan, 1]]
    np.testing.assert_array_equal(values, expected)
