"""The summary says what the numbers allow: no more than the intervals, of models that match."""

import numpy as np
import pytest
from measured import drawn, keep_prompts, results, summary
from tiny import training_of

from minitox.report import verdicts
from minitox.report.summary import compare, few_prompts
from minitox.report.verdicts import compare_neurons


def test_nothing_is_compared_where_no_language_has_a_score_of_every_model():
    draws = drawn("random", *DRAWS)
    measured = results(base={"de": None}, multilingual={"de": 0.2}, **draws)
    text = summary(measured).text
    assert "nothing is compared" in text
    assert "random neurons" not in text and "nan" not in text
    assert list(verdicts.section(compare_neurons(measured, 0.02))) == []


def test_a_model_is_called_less_toxic_only_beyond_the_interval():
    far = np.linspace(-0.2, -0.1, 1001)
    near = np.linspace(-0.2, 0.1, 1001)
    assert compare("base", {"full": far, "aura": near, "random": -far}) == (
        "Compared with base, less toxic: full (-0.200); not significantly different: "
        "aura (-0.200); more toxic: random (+0.200)."
    )


def test_a_single_prompt_in_a_language_gives_no_interval_and_no_verdict_and_the_reader_knows_why():
    scores = {"base": 0.6, "multilingual": 0.2} | {f"random-{i}": 0.3 for i in range(1, 6)}
    measured = results(**{name: {"de": score, "en": score} for name, score in scores.items()})
    assert few_prompts(measured) == []
    assert summary(measured).rows[0][1] == "0.600 (0.600..0.600)"
    section = summary(keep_prompts(measured, "de", 1))
    assert section.rows[0][1] == "0.600" and "nan" not in section.figure
    reason = "(no interval, because of a single prompt with a score in de)"
    assert section.text.split("\n\n")[1:] == [
        f"Not compared with base: multilingual, random {reason}.",
        f"Not compared with random: multilingual {reason}.",
    ]
    assert not any("difference" in column for column in section.columns)
    assert few_prompts(measured) == [
        "There is a single prompt in de, which does not show how much prompts differ, so no mean "
        "of scores that it is part of has an interval."
    ]


def test_a_model_with_a_single_score_in_a_language_has_no_interval_however_many_prompts_there_are():
    measured = results(base={"de": 0.6, "en": 0.6}, multilingual={"de": 0.2, "en": 0.2})
    judged = measured.replies["multilingual"]["en"]
    judged.status[1:] = "empty"
    judged.scores[1:] = np.nan
    section = summary(measured)
    reason = "(no interval, because of a single prompt with a score in en)"
    assert f"Not compared with base: multilingual {reason}." in section.text
    assert section.rows[1][1] == "0.200"


def test_the_intervals_of_two_to_four_prompts_are_called_too_narrow():
    measured = results(base={"de": 0.6, "en": 0.6, "fr": 0.6})
    keep_prompts(measured, "de", 4)
    keep_prompts(measured, "en", 2)
    keep_prompts(measured, "fr", 5)
    # by sqrt((n - 1) / n)
    assert few_prompts(measured) == [
        "There are fewer than 5 prompts in some languages (4 in de, 2 in en), so their bootstrap "
        "intervals are too narrow, by up to 29%."
    ]


DRAWS = (0.28, 0.29, 0.30, 0.31, 0.32)


def pair(**changes):
    """A base model, multilingual, and five draws that were made with other settings."""
    measured = results(base={"de": 0.6}, multilingual={"de": 0.2}, **drawn("random", *DRAWS))
    for draw in range(1, 6):
        measured.trainings[f"random-{draw}"] = training_of("random", draw=draw, **changes)
    return measured


def test_draws_are_one_row_of_the_summary_and_dots_in_its_figures():
    section = summary(pair())
    assert [row[0] for row in section.rows] == ["base", "multilingual", "random"]
    assert section.rows[2][1].startswith("0.300 (") and section.rows[2][3].startswith("-0.300 (")
    assert (
        "Mean toxicity of replies over 1 languages. Means of several draws, which differ only in "
        "their neurons: random (5).\n"
    ) in section.text
    assert "less toxic: multilingual (-0.400), random (-0.300)." in section.text
    toxicity, difference = section.figure.split("</svg><svg")
    for value in DRAWS:
        assert f"random, one draw: {value:.2f}<" in toxicity
        assert f"random, one draw: {value - 0.6:+.3f}<" in difference
    assert section.figure.count('class="draw"') == 10


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"epochs": 2, "seed": 4}, "seed 0, not 4; epochs 1, not 2"),
        ({"top_share": 0.1}, "top_share None, not 0.1"),
        ({"languages": ["de"]}, "languages de,en, not de"),
        ({"dtype": "torch.bfloat16"}, "dtype torch.float32, not torch.bfloat16"),
        ({"data": {"de": "another"}}, "other pairs"),
        ({"neurons": {"de": "another"}}, "other neuron files"),
    ],
)
def test_models_of_other_settings_are_not_compared_and_the_settings_are_named(changes, reason):
    section = summary(pair(**changes))
    assert f"Not compared with random: multilingual ({reason})." in section.text
    assert "The neurons of" not in section.text and "are toxic too" not in section.text
    # both may be compared with the base model
    assert "Compared with base, less toxic: multilingual (-0.400), random (-0.300)." in section.text


def test_a_model_of_another_base_is_compared_with_neither():
    section = summary(pair(model="another"))
    assert "Not compared with base: random (another base model)." in section.text
    assert "Not compared with random: multilingual (another base model)." in section.text


def test_a_model_whose_settings_are_not_known_is_not_compared():
    measured = pair()
    measured.trainings["multilingual"] = None
    text = summary(measured).text
    reason = "multilingual (settings not known: no run.json)."
    assert f"Not compared with base: {reason}" in text
    assert f"Not compared with random: {reason}" in text
    assert "The neurons of" not in text


def test_a_model_that_is_not_what_its_name_says_is_not_compared():
    measured = pair()
    measured.trainings["multilingual"] = training_of("shared")
    text = summary(measured).text
    reason = "multilingual (multilingual was made with the strategy shared)."
    assert f"Not compared with base: {reason}" in text
    assert f"Not compared with random: {reason}" in text
    assert "The neurons of" not in text


def test_settings_that_a_strategy_does_not_depend_on_are_no_differences():
    draws = drawn("random-aura", *DRAWS)
    measured = results(base={"de": 0.6}, full={"de": 0.2}, aura={"de": 0.5}, **draws)
    # full chooses no neurons, and no intervention is tuned
    measured.trainings["full"] = training_of("full", top_share=0.1, damp=0.2)
    measured.trainings["aura"] = training_of("aura", epochs=2, seed=3, data={})
    text = summary(measured).text
    assert "Not compar" not in text and "The neurons of aura do worse" in text
    measured.trainings["full"] = training_of("full", dtype="torch.bfloat16")
    measured.trainings["aura"] = training_of("aura", threshold=0.6)
    text = summary(measured).text
    assert "Not comparable with full: random-aura (dtype torch.float32, not torch.b" in text
    assert "Not compared with random-aura: aura (threshold 0.6, not 0.5)." in text
    assert "less toxic: full (-0.400), aura (-0.100), random-aura (-0.300)." in text


def without_random(**changes):
    """A base model and three tuned ones, of which `full` was made with other settings."""
    scores = {"multilingual": {"de": 0.2}, "full": {"de": 0.1}, "aura": {"de": 0.5}}
    measured = results(base={"de": 0.6}, **scores)
    measured.trainings["full"] = training_of("full", **changes)
    return measured


def test_tuned_models_of_other_settings_are_named_also_without_random_neurons():
    text = summary(without_random(epochs=2, seed=3)).text
    assert "Not comparable with multilingual: full (seed 3, not 0; epochs 2, not 1)." in text
    assert text.count("Not comparable") == 1
    assert "Not comparable" not in summary(without_random()).text
    text = summary(without_random(data={"de": "another"})).text
    assert "Not comparable with multilingual: full (other pairs)." in text


def test_two_models_that_match_the_first_one_need_not_match_each_other():
    measured = results(full={"de": 0.1}, aura={"de": 0.5}, multilingual={"de": 0.2})
    # full chooses no neurons
    measured.trainings["aura"] = training_of("aura", top_share=0.1)
    text = summary(measured).text
    assert "Not comparable with aura: multilingual (top_share None, not 0.1)." in text
    assert text.count("Not comparable") == 1


def test_no_mismatch_is_named_twice():
    measured = pair(epochs=2)
    assert "Not comparable" not in summary(measured).text
    measured = pair()
    measured.trainings["multilingual"] = None
    assert "Not comparable" not in summary(measured).text


def test_models_are_still_compared_with_each_other_if_the_draws_are_not_known():
    draws = drawn("random", 0.3, 0.3)
    measured = results(base={"de": 0.6}, multilingual={"de": 0.2}, full={"de": 0.1}, **draws)
    measured.trainings |= {"random-1": None, "random-2": None}
    measured.trainings["full"] = training_of("full", epochs=2)
    section = summary(measured)
    assert "Not comparable with multilingual: full (epochs 2, not 1)." in section.text
    reason = "random-1, random-2 (settings not known: no run.json)."
    assert f"Not compared with base: {reason}" in section.text
    assert f"Not averaged with the other draws: {reason}" in section.text
    assert [row[0] for row in section.rows][3:] == ["random-1", "random-2"]
    assert "no random neurons to compare with" in section.text


def test_every_model_has_its_difference_from_base():
    section = summary(pair())
    assert section.columns[3] == "difference from base"
    assert [row[3][:6] for row in section.rows] == ["-", "-0.400", "-0.300"]
    alone = summary(results(base={"de": 0.6}))
    assert not any("difference" in column for column in alone.columns)
    assert "Compared with" not in alone.text
