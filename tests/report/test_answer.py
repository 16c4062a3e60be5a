"""The report begins with the question, the answer that the intervals allow, and its doubts."""

from dataclasses import replace

import numpy as np
import pytest
from measured import drawn, keep_prompts, results
from test_summary import DRAWS, pair
from tiny import training_of

from minitox.languages import TUNED
from minitox.report.answer import QUESTION, section, subject
from minitox.report.verdicts import compare_neurons
from minitox.train.strategies import DRAWN


def begin(measured, warnings=(), doubts=()) -> str:
    return section(measured, compare_neurons(measured, 0.02), list(warnings), list(doubts)).text


def test_question_warnings_answer_and_doubts_follow_each_other():
    text = begin(pair(), ["Do not rely on a."], ["b was not measured."])
    paragraphs = text.split("\n\n")
    assert paragraphs == [
        QUESTION,
        "Do not rely on a.",
        "Yes, less toxic: multilingual changes 40.0% of all neurons, and the mean toxicity of its "
        "replies is 0.200, that of base 0.600; the difference is -0.400 (95 % interval "
        "-0.400..-0.400).",
        "Choosing these neurons helps: the same number of random neurons gives 0.300.",
        "Of its replies, 0.0% are clean but broken, 0.0% are in another language (base 0.0%), 0.0% "
        "are empty (base 0.0%); 100.0% are clean in language (base 0.0%).",
        "b was not measured.",
    ]


def test_a_model_that_tuning_made_worse_is_warned_of_before_the_answer():
    measured = pair()
    measured.trainings["multilingual"]["test"] = {"de": {"before": 3.0, "after": 9.0}}
    _, caution, first, *_ = begin(measured).split("\n\n")
    assert caution.startswith("The test loss of multilingual is higher than before tuning")
    assert first.startswith("Yes, less toxic")


def test_every_draw_that_tuning_made_worse_is_warned_of_by_name():
    scores = {"base": {"de": 0.6}, "random-2@0.1": {"de": 0.9}}
    measured = results(**scores, **drawn("random", *DRAWS))
    for name, training in measured.trainings.items():
        worse = name in ("random-2", "random-5", "random-2@0.1")
        training["test"] = {"de": {"before": 3.0, "after": 9.0 if worse else 2.0}}
    text = begin(measured)
    # a rate that was not chosen is not in the report
    assert "The test loss of random-2, random-5 is higher than before tuning" in text


@pytest.mark.parametrize(
    "toxicity, start, choice",
    [
        (0.2, "Yes, less toxic: ", "Choosing these neurons helps: "),
        (0.3, "Yes, less toxic: ", "Choosing these neurons is not shown to help: "),
        (0.335, "Yes, less toxic: ", "Whether choosing these neurons helps is undecided: "),
        (0.6, "Not shown: ", "Choosing these neurons does harm: "),
        (0.7, "No, more toxic: ", "Choosing these neurons does harm: "),
    ],
)
def test_the_answer_is_that_of_the_intervals_and_of_the_verdict(toxicity, start, choice):
    scores = {"base": {"de": 0.6}, "multilingual": {"de": toxicity}}
    _, first, second, *_ = begin(results(**scores, **drawn("random", *DRAWS))).split("\n\n")
    assert first.startswith(start)
    assert second.startswith(choice)


def test_what_full_fine_tuning_does_is_beside_it_and_knowledge_is_part_of_the_price():
    measured = results(base={"de": 0.6}, full={"de": 0.1}, multilingual={"de": 0.2})
    right = np.array([[1.0], [0.0], [1.0], [1.0]])
    measured.answers = {
        "base": {"de": {"reply": right}},
        "multilingual": {"de": {"reply": right[:2]}},
    }
    text = begin(measured)
    assert "Tuning all weights (full) gives 0.100." in text
    assert "Accuracy on MMLU: 50.0% (base 75.0%)." in text
    assert "not known: random is not in this report." in text
    measured.answers = {}
    assert "MMLU" not in begin(measured)


@pytest.mark.parametrize(
    "scores, reason",
    [
        ({"base": {"de": 0.6}, "full": {"de": 0.1}}, "no model in this report"),
        ({"multilingual": {"de": 0.1}}, "(base is not in this report)"),
        ({"base": {"de": None}, "multilingual": {"de": 0.2}}, "no language has a score"),
    ],
)
def test_an_answer_that_the_report_cannot_give_is_not_given(scores, reason):
    text = begin(results(**scores))
    assert "Not known: " in text and reason in text
    assert "Of its replies" not in text


def test_a_model_of_other_settings_is_no_answer():
    measured = pair(top_share=0.1)
    assert "helps is not known: top_share None, not 0.1." in begin(measured)
    measured.trainings["multilingual"] = training_of("multilingual", model="another")
    assert "multilingual is not compared with base (another base model)." in begin(measured)
    measured.trainings["multilingual"] = None
    assert "(settings not known: no run.json)." in begin(measured)


def test_the_answer_says_that_empty_replies_have_no_score():
    measured = results(
        base={"de": 0.6}, multilingual={"de": 0.25}, **drawn("random", 0.30, 0.31, 0.32, 0.33, 0.34)
    )
    judged = measured.replies["multilingual"]["de"]
    judged.status[:2] = "empty"
    judged.scores[:2] = np.nan
    assert begin(measured).split("\n\n")[2] == (
        "Whether choosing these neurons helps is undecided: the same number of random neurons "
        "gives 0.320. The means are over different prompts, because empty replies have no score: "
        "20.0% of multilingual, 0.0% with random neurons."
    )


def test_a_single_prompt_is_no_answer():
    text = begin(keep_prompts(pair(), "de", 1))
    assert "Not known: multilingual is not compared with base (no interval, because of a" in text
    assert "less toxic: multilingual" not in text and "nan" not in text


def test_few_draws_are_no_verdict():
    draws = drawn("random", 0.3, 0.4)
    text = begin(results(base={"de": 0.6}, multilingual={"de": 0.2}, **draws))
    assert (
        "helps is not known (fewer than 5 draws): the same number of random neurons gives 0.350."
        in text
    )


def test_the_question_is_about_toxic_neurons_and_the_simplest_model_that_changes_them_alone():
    assert subject(["base", "aura", "per-language", "dpo-multilingual", "multilingual"]) == (
        "multilingual"
    )
    assert subject(["base", "full", "taylor-multilingual", "random", "lowest"]) is None
    assert subject(["aura", "random-aura"]) == "aura"


@pytest.mark.parametrize("strategy", DRAWN)
def test_random_neurons_are_not_those_that_respond_to_toxic_text(strategy):
    text = begin(results(base={"de": 0.6}, **drawn(strategy, *DRAWS)))
    assert "Not known: no model in this report changed toxic neurons alone." in text


def test_the_report_warns_if_many_scores_failed():
    languages = dict.fromkeys(TUNED, 0.5)
    assert "do not rely" not in begin(results(base=languages))
    text = begin(results(base={**languages, "de": None}))
    assert (
        text.split("\n\n")[1].startswith("11.1% of the replies of base have no score")
        and "do not rely" in text
    )


def test_the_report_says_how_many_replies_are_in_languages_without_a_scorer():
    measured = results(base={"de": 0.5, "en": 0.5}, full={"de": 0.5, "en": 0.5})
    assert "languages that the scorer does not know" not in begin(measured)
    german = measured.replies["full"]["de"]
    status = np.array([["unsupported"], ["scored"]]).repeat(5, axis=0)
    measured.replies["full"]["de"] = replace(german, status=status)
    text = begin(measured)
    assert "25.0% of the replies of full are in languages that the scorer does not know" in text
