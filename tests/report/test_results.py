"""Replies become arrays of scores and languages; averages are over the same languages."""

from types import SimpleNamespace

import numpy as np
import pytest
from measured import results

from minitox.evaluate import metrics
from minitox.languages import TUNED
from minitox.report.results import average, grade, judge_all


def test_the_average_is_over_the_languages_that_all_models_have():
    estimates = results(
        base={"de": 0.2, "en": 0.4, "zh": 0.9},
        full={"de": 0.1, "en": 0.3, "zh": None},
    ).estimates(metrics.toxicity)
    means, common = average(estimates, TUNED)
    assert common == ["de", "en"]
    assert means["base"][0] == pytest.approx(0.3)
    assert means["full"][0] == pytest.approx(0.2)


def test_the_average_over_no_language_is_not_a_number():
    estimates = results(base={"de": None}, full={"de": 0.1}).estimates(metrics.toxicity)
    means, common = average(estimates, ["de"])
    assert common == [] and all(np.isnan(mean).all() for mean in means.values())


def test_a_reply_is_judged_where_there_is_one_and_identified_where_it_is_not_empty():
    texts = ["yes", "", None, "no"]
    answers = {"yes": (0.9, "scored"), "": (None, "empty"), "no": (None, "failed: busy")}
    asked = []

    def score(texts, language, advance):
        asked.extend(texts)
        advance(len(texts))
        return [answers[text] for text in texts]

    done = []
    rows = [{"response": text} for text in texts]
    identify = {"yes": "en", "no": None}.get
    replies = {"base": {"en": rows}}
    judged = judge_all(replies, 2, SimpleNamespace(of=score), identify, done.append)["base"]["en"]
    assert asked == ["yes", "", "no"] and done == [3]
    assert judged.status.tolist() == [["scored", "empty"], ["too long", "failed"]]
    assert judged.codes.tolist() == [["en", ""], ["", ""]]
    assert judged.scores[0, 0] == 0.9 and np.isnan(judged.scores).sum() == 3


def test_the_letter_is_extracted_from_the_kept_reply_when_the_report_is_made():
    questions = [{"choices": ["Nile", "Alps", "Gobi", "Oslo"]}] * 4
    replies = ["The answer is A because", "Ответ В верен", "I do not know", None]
    rows = [{"answer": "A", "likeliest": "A", "reply": reply} for reply in replies]
    graded = {name: column.ravel().tolist() for name, column in grade(rows, questions).items()}
    assert graded["reply"] == [1, 0, 0, 0]
    assert graded["no answer"] == [0, 0, 1, 1]
    assert graded["likeliest"] == [1, 1, 1, 1]
