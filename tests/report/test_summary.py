"""The summary says what the numbers allow: no more than the intervals and the control."""

from dataclasses import replace

import numpy as np
import pytest
from measured import results
from tiny import training_of

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


def pair(**changes):
    """A base model, and two models of which the random one was made with other settings."""
    measured = results(base={"de": 0.6}, multilingual={"de": 0.2}, random={"de": 0.3})
    measured.trainings["random"] = training_of("random", **changes)
    return measured


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
    assert "multilingual and random are not compared" in section.text
    assert "random neurons do" not in section.text and "are toxic too" not in section.text
    # both may be compared with the base model
    assert "Compared with base: less toxic: multilingual (-0.400), random (-0.300)." in section.text
    column = section.columns.index("difference from random")
    assert [row[column][:6] for row in section.rows] == ["+0.300", "-", "-"]
    assert "base" in section.figure.rpartition("Difference from random")[2]
    assert "multilingual" not in section.figure.rpartition("Difference from random")[2]


def test_a_model_of_another_base_is_compared_with_neither():
    section = summary(pair(model="another"))
    assert "Not compared with base: random (another base model)." in section.text
    assert "Not compared with random: base, multilingual (another base model)." in section.text
    assert "difference from random" not in section.columns
    assert "Difference from random" not in section.figure


@pytest.mark.parametrize("name", ["multilingual", "random"])
def test_a_model_whose_settings_are_not_known_is_not_compared(name):
    measured = pair()
    measured.trainings[name] = None
    text = summary(measured).text
    assert f"Not compared with base: {name} (settings not known: no run.json)." in text
    with_random = {
        "multilingual": "multilingual (settings not known: no run.json)",
        "random": "base, multilingual (settings of random not known: no run.json)",
    }
    assert f"Not compared with random: {with_random[name]}." in text
    assert "multilingual and random are not compared" in text


def test_a_model_that_is_not_what_its_name_says_is_not_compared():
    measured = pair()
    measured.trainings["random"] = training_of("multilingual")
    text = summary(measured).text
    assert (
        "Not compared with base: random (random was made with the strategy multilingual)." in text
    )
    assert "random neurons do" not in text


def test_settings_that_a_strategy_does_not_depend_on_are_no_differences():
    measured = results(base={"de": 0.6}, random={"de": 0.3}, full={"de": 0.2}, aura={"de": 0.5})
    # full chooses no neurons, and no intervention is tuned
    measured.trainings["full"] = training_of("full", top_share=0.1, damp=0.2)
    measured.trainings["aura"] = training_of("aura", epochs=2, seed=3, data={}, damp=0.2)
    assert "Not compared" not in summary(measured).text
    measured.trainings["full"] = training_of("full", epochs=2)
    measured.trainings["aura"] = training_of("aura", threshold=0.6)
    text = summary(measured).text
    assert "Not compared with random: full (epochs 2, not 1)." in text
    assert "Not compared with random: aura (threshold 0.6, not 0.5)." in text
    assert "less toxic: random (-0.300), full (-0.400), aura (-0.100)." in text


def without_random(**changes):
    """A base model and three tuned ones, of which `full` was made with other settings."""
    scores = {"multilingual": {"de": 0.2}, "full": {"de": 0.1}, "aura": {"de": 0.5}}
    measured = results(base={"de": 0.6}, **scores)
    measured.trainings["full"] = training_of("full", **changes)
    return measured


def test_tuned_models_of_other_settings_are_named_also_without_random_neurons():
    text = summary(without_random(epochs=2, seed=3)).text
    assert "Not comparable with multilingual: full (seed 3, not 0; epochs 2, not 1).\n" in text
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


def test_models_are_still_compared_with_each_other_if_those_of_random_are_not_known():
    scores = {"multilingual": {"de": 0.2}, "random": {"de": 0.3}, "full": {"de": 0.1}}
    measured = results(base={"de": 0.6}, **scores)
    measured.trainings["random"] = None
    measured.trainings["full"] = training_of("full", epochs=2)
    text = summary(measured).text
    assert "Not comparable with multilingual: full (epochs 2, not 1)." in text
    assert text.count("random (settings not known: no run.json)") == 1


def test_the_summary_says_how_many_neurons_were_tuned_and_how_many_random_ones_are_toxic():
    measured = pair()
    measured.trainings["random"] = training_of("random", {"toxic": 19})
    text = summary(measured).text
    assert text.endswith(
        " multilingual tunes 40.0% of all neurons, and 47.5% of the random ones are toxic too."
    )


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
    assert text.startswith("11.1% of the replies of base have no score") and "do not rely" in text


def test_the_summary_says_how_many_replies_are_in_languages_without_a_scorer():
    measured = results(base={"de": 0.5, "en": 0.5}, full={"de": 0.5, "en": 0.5})
    assert "languages that the scorer does not know" not in summary(measured).text
    german = measured.replies["full"]["de"]
    status = np.array([["unsupported"], ["scored"]]).repeat(5, axis=0)
    measured.replies["full"]["de"] = replace(german, status=status)
    text = summary(measured).text
    assert "25.0% of the replies of full are in languages that the scorer does not know" in text
