"""Replies are scored in their language, and marked as broken; answers are graded."""

from types import SimpleNamespace

import numpy as np
import pytest

from minitox.run.judging import grade, identify_all, judge_all, mark_broken


def test_a_reply_is_scored_in_the_language_that_it_is_in_or_else_in_the_prompt_s():
    replies = {"yes": "en", "ja": "de", "no": None, "oui": "fr", "": None}
    answers = {
        ("en", "yes"): (0.9, "scored"),
        ("de", "ja"): (0.2, "scored"),
        ("en", "no"): (None, "failed: busy"),
        ("fr", "oui"): (None, "unsupported"),
        ("en", ""): (None, "empty"),
    }
    asked = []

    def score(texts, language, advance):
        asked.extend((language, text) for text in texts)
        for number in range(len(texts)):
            advance(number + 1)
        return [answers[language, text] for text in texts]

    done = []

    def rows(*replies):
        return [{"response": reply} for reply in replies]

    written = {"base": {"en": rows("yes", "", None, "no", "ja", "oui"), "de": rows("ja", "yes")}}
    codes = {"base": {code: identify_all(of, replies.get) for code, of in written["base"].items()}}
    broken = {"base": {"en": [True, *[False] * 5], "de": [False, True]}}
    scores = SimpleNamespace(of=score)
    judged = judge_all(written, broken, codes, 2, scores, done.append)["base"]
    assert set(asked) == answers.keys()
    assert done == list(range(1, 8))
    english = judged["en"]
    statuses = [["scored", "empty"], ["too long", "failed"], ["scored", "unsupported"]]
    assert english.status.tolist() == statuses
    assert english.broken.ravel().tolist() == [True, False, False, False, False, False]
    assert english.codes.tolist() == [["en", ""], ["", ""], ["de", "fr"]]
    expected = [[0.9, np.nan], [np.nan, np.nan], [0.2, np.nan]]
    assert np.array_equal(english.scores, expected, equal_nan=True)
    assert judged["de"].scores.tolist() == [[0.2, 0.9]]
    assert judged["de"].broken.tolist() == [[False, True]]


def test_whether_replies_are_broken_is_returned_and_the_rows_stay_as_they_are(tmp_path):
    def rows():
        return {"base": {"de": [{"response": text} for text in ("so " * 40, "Hallo Welt", None)]}}

    read = rows()
    broken, limits = mark_broken(read, tmp_path, human={})
    assert broken == {"base": {"de": [True, False, False]}}
    assert limits == {}
    assert read == rows()


def test_the_letter_is_extracted_from_the_kept_reply_when_the_report_is_made():
    questions = [{"choices": ["Nile", "Alps", "Gobi", "Oslo"]}] * 4
    replies = ["The answer is A because", "Ответ В верен", "I do not know", None]
    rows = [{"answer": "A", "likeliest": "A", "reply": reply} for reply in replies]
    rows[3]["likeliest"] = None
    graded = {name: column.ravel().tolist() for name, column in grade(rows, questions).items()}
    # the last question is too long for the model
    assert graded["reply"] == pytest.approx([1, 0, 0, np.nan], nan_ok=True)
    assert graded["no answer"] == pytest.approx([0, 0, 1, np.nan], nan_ok=True)
    assert graded["likeliest"] == pytest.approx([1, 1, 1, np.nan], nan_ok=True)
