"""Replies become arrays of scores and languages; averages are over the same languages."""

from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from measured import drawn, results

from minitox.evaluate import metrics
from minitox.languages import TUNED
from minitox.report.results import average, resample_all


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


def test_another_scorer_changes_scores_alone_and_no_language_is_identified_again():
    first = results(base={"de": 0.2, "en": None}, full={"de": 0.4})
    codes = first.replies["base"]["de"].codes
    codes[3] = "en"
    codes[4] = ""
    first.replies["base"]["de"].broken[5] = True
    first.rows["full"]["de"] = [{"response": None}, *first.rows["full"]["de"][1:]]
    asked = []

    def score(texts, language, advance):
        asked.append((language, len(texts)))
        return [(0.7, "scored")] * len(texts)

    second = first.judged_again(1, SimpleNamespace(of=score), lambda done: None)
    assert sorted(asked) == [("de", 18), ("en", 11)]
    for model, by_language in first.replies.items():
        for language, replies in by_language.items():
            again = second.replies[model][language]
            assert np.array_equal(again.codes, replies.codes)
            assert np.array_equal(again.broken, replies.broken)
    assert (second.replies["base"]["de"].scores == 0.7).all()
    assert second.replies["full"]["de"].status.ravel().tolist() == ["too long", *["scored"] * 9]
    assert np.isnan(second.replies["full"]["de"].scores[0, 0])
    assert (first.replies["base"]["de"].scores == 0.2).all()


# ---- resamples ----

PROMPTS = {"de": {9: "i", 1: "a", 4: "e"}, "en": {1: "a", 2: "b"}, "fr": {3: "c", 7: "g"}}


def test_translations_of_a_prompt_are_equally_often_in_a_resample_and_other_prompts_are_not():
    ids = {"de": {9: "rtp-lx/5", 1: "rtp-lx/6"}, "en": {2: "rtp-lx/5"}, "fr": {3: "rtp-lx/7"}}
    resamples = resample_all(PROMPTS, ids, 0)
    columns = {}
    for language, prompts in PROMPTS.items():
        for number, column in zip(sorted(prompts), resamples[language].T, strict=True):
            columns[language, number] = column.tolist()
    equal = [pair for pair in combinations(columns, 2) if columns[pair[0]] == columns[pair[1]]]
    assert equal == [(("de", 9), ("en", 2))]
    assert all(column[0] == 1 for column in columns.values())


def test_the_resamples_of_a_language_do_not_depend_on_the_languages_beside_it():
    ids = {"de": {9: "rtp-lx/5"}, "en": {2: "rtp-lx/5"}, "fr": {}}
    every = resample_all(PROMPTS, ids, 0)
    for language in PROMPTS:
        alone = resample_all({language: PROMPTS[language]}, ids, 0)
        assert (alone[language] == every[language]).all()
    assert (resample_all(PROMPTS, ids, 1)["en"] != every["en"]).any()


def test_prompts_without_an_id_are_drawn_in_each_language_by_itself():
    resamples = resample_all(PROMPTS, dict.fromkeys(PROMPTS, {}), 3)
    for language, prompts in PROMPTS.items():
        rng = np.random.default_rng([3, *language.encode()])
        counts = rng.multinomial(len(prompts), [1 / len(prompts)] * len(prompts), size=1_000)
        assert (resamples[language][1:] == counts).all()


# ---- several draws ----


def test_of_draws_the_mean_is_averaged_in_every_resample():
    measured = results(base={"de": 0.6}, **drawn("random", 0.2, 0.4))
    rng = np.random.default_rng(0)
    for draw in ("random-1", "random-2"):
        measured.replies[draw]["de"].scores[:] = rng.random((10, 1))
    estimates = measured.estimates(metrics.toxicity)
    each = replace(measured, apart=True).estimates(metrics.toxicity)
    assert list(estimates) == ["base", "random"]
    assert list(each) == ["base", "random-1", "random-2"]
    mean = (each["random-1"]["de"] + each["random-2"]["de"]) / 2
    assert estimates["random"]["de"] == pytest.approx(mean) and np.ptp(mean) > 0.1
    # as the report shows a single model
    assert (estimates["base"]["de"] == each["base"]["de"]).all()


def test_a_language_in_which_one_draw_has_no_score_has_no_mean():
    measured = results(base={"de": 0.6}, **drawn("random", 0.2, 0.4, None))
    assert np.isnan(measured.estimates(metrics.toxicity)["random"]["de"]).all()


def test_whatever_was_measured_of_draws_is_averaged():
    measured = results(base={"de": 0.1}, **drawn("random", 0.1, 0.9))
    measured.replies["random-2"]["de"].codes[:4] = "en"
    measured.perplexity = {"base": {"de": 3.0}, "random-1": {"de": 4.0}, "random-2": {"de": 6.0}}
    graded = {}
    for model, right in (("base", 1.0), ("random-1", 1.0), ("random-2", 0.0)):
        graded[model] = {"de": {"reply": np.full((4, 1), right)}}
    measured.answers = graded

    assert measured.together(measured.perplexity) == {"base": {"de": 3.0}, "random": {"de": 5.0}}
    assert measured.accuracy("reply")["random"]["de"] == pytest.approx([0.5])
    assert measured.questions()["random"] == {"de": 4}
    assert measured.prompts()["random"] == {"de": 10}
    assert measured.shares("clean in language")["random"]["de"] == pytest.approx([0.5])
    assert measured.shares("wrong language")["random"]["de"] == pytest.approx([0.2])
    # four replies of a draw are fewer than five
    shares = measured.languages_of_replies(5)["random"]["de"]
    assert shares == pytest.approx({"self": 0.8, "others": 0.2})
    assert list(measured.tuned) == ["random"]


def test_a_gap_in_one_draw_is_a_gap_of_their_mean():
    measured = results(base={"de": 0.1}, **drawn("random", 0.1, 0.9))
    values = {"base": {"de": 1.0}, "random-1": {"de": 1.0, "en": 2.0}, "random-2": {"de": 3.0}}
    assert measured.together(values)["random"] == {"de": 2.0}
