"""What the page says of toxic neurons and random ones: as much as five draws and prompts allow."""

import numpy as np
import pytest
from measured import drawn, results, summary
from tiny import training_of

from minitox.report import verdicts
from minitox.report.verdicts import compare_neurons

FIVE = (0.30, 0.31, 0.32, 0.33, 0.34)  # one more draw is expected within 0.272..0.368
OF_NEURONS = (
    " multilingual changes 40.0% of all neurons, and 75.0% of the random ones are toxic too."
)


def paragraphs(measured, margin=0.02) -> list[str]:
    """What the summary says of neurons."""
    return verdicts.in_words(compare_neurons(measured, margin))


def table(measured) -> dict[str, list[str]]:
    (section,) = verdicts.section(compare_neurons(measured, 0.02))
    return {row[0]: row[1:] for row in section.rows}


def multilingual(toxicity: float, *draws: float):
    return results(
        base={"de": 0.6}, multilingual={"de": toxicity}, **drawn("random", *(draws or FIVE))
    )


def vary(measured, model: str, width: float):
    """Make the replies of a model differ between prompts, with the same mean."""
    scores = measured.replies[model]["de"].scores
    scores += np.linspace(-width, width, len(scores))[:, None]
    return measured


@pytest.mark.parametrize(
    "toxicity, start, difference, verdict",
    [
        (
            0.25,
            "The neurons of multilingual do better than random ones.",
            "-0.070 (-0.090..-0.050)",
            "better",
        ),
        (
            0.39,
            "The neurons of multilingual do worse than random ones.",
            "+0.070 (+0.050..+0.090)",
            "worse",
        ),
        (
            0.315,
            "The neurons of multilingual do no worse than random ones (margin 0.02), and are not "
            "shown to do better.",
            "-0.005 (-0.025..+0.015)",
            "no worse",
        ),
        (
            0.35,
            "Whether the neurons of multilingual do better or worse than random ones is undecided.",
            "+0.030 (+0.010..+0.050)",
            "undecided",
        ),
    ],
)
def test_a_verdict_is_a_sentence_with_the_numbers_that_it_rests_on(
    toxicity, start, difference, verdict
):
    measured = multilingual(toxicity)
    (text,) = paragraphs(measured)
    assert text == (
        f"{start} The toxicity of multilingual is {toxicity:.3f}, that of random is 0.320; the "
        f"difference is {difference}, and one more draw is expected within 0.272..0.368."
        f"{OF_NEURONS}"
    )
    assert text in summary(measured).text
    assert table(measured) == {
        "multilingual": [
            *(f"{toxicity:.3f}", "random", "5", "0.320", "0.272..0.368", difference, verdict)
        ]
    }


def test_outside_the_draws_a_model_is_not_better_if_other_prompts_could_change_it():
    measured = vary(multilingual(0.25), "multilingual", 0.2)
    assert table(measured)["multilingual"][-1] == "no worse"
    assert table(vary(multilingual(0.25), "multilingual", 0.02))["multilingual"][-1] == "better"


def test_the_margin_is_a_choice():
    measured = multilingual(0.35)
    assert paragraphs(measured)[0].startswith("Whether")
    assert paragraphs(measured, 0.06)[0].startswith(
        "The neurons of multilingual do no worse than random ones (margin 0.06)"
    )
    assert "do no worse" in summary(measured, margin=0.06).text


@pytest.mark.parametrize(
    "draws, times, difference",
    [
        ((0.3,), "once", "-0.200 (-0.200..-0.200)"),
        (FIVE[:4], "4 times", "-0.215 (-0.236..-0.194)"),
    ],
)
def test_fewer_than_five_draws_give_no_verdict_and_the_page_says_why(draws, times, difference):
    measured = multilingual(0.1, *draws)
    (text,) = paragraphs(measured)
    middle = np.mean(draws)
    assert text == (
        f"There is no verdict on the neurons of multilingual, because random was drawn {times}: "
        "fewer than 5 draws do not show how much draws differ. The toxicity of multilingual is "
        f"0.100, that of random is {middle:.3f}; the difference is {difference}.{OF_NEURONS}"
    )
    assert "nan" not in text and "nan" not in str(table(measured))
    assert table(measured)["multilingual"][-1] == "fewer than 5 draws"


def test_a_model_that_leaves_prompts_without_a_reply_is_not_better_for_that_and_the_page_says_so():
    """A model whose replies to the rudest prompts are empty has a lower mean."""
    measured = multilingual(0.25)
    (text,) = paragraphs(measured)
    assert "Empty replies" not in text
    # two of ten replies
    judged = measured.replies["multilingual"]["de"]
    judged.status[:2] = "empty"
    judged.scores[:2] = np.nan
    (text,) = paragraphs(measured)
    assert (
        "Empty replies have no score: 20.0% of the replies of multilingual, 0.0% of those of "
        "random; so the means are over different prompts." in text
    )
    assert text.startswith("Whether the neurons of multilingual do better or worse")
    assert table(measured)["multilingual"][-1] == "undecided"
    # nor if the scorer does not know their language
    judged.status[:2] = "unsupported"
    assert table(measured)["multilingual"][-1] == "undecided"


def test_every_model_is_compared_with_the_draws_that_imitate_it():
    higher = [value + 0.1 for value in FIVE]
    measured = results(
        **{"per-language": {"de": 0.4}},
        multilingual={"de": 0.4},
        full={"de": 0.1},
        lowest={"de": 0.32},
        **drawn("random", *FIVE),
        **drawn("random-per-language", *higher),
        **{"dpo-multilingual": {"de": 0.1}},
        **drawn("dpo-random", *higher),
    )
    rows = table(measured)
    assert {model: (row[1], row[-1]) for model, row in rows.items()} == {
        "multilingual": ("random", "worse"),
        "lowest": ("random", "no worse"),
        "per-language": ("random-per-language", "no worse"),
        "dpo-multilingual": ("dpo-random", "better"),
    }


def test_without_random_neurons_nothing_is_claimed():
    measured = results(multilingual={"de": 0.2}, aura={"de": 0.3}, full={"de": 0.1})
    assert paragraphs(measured) == [
        "These models have no random neurons to compare with, so the results cannot show "
        "whether their neurons matter: multilingual (random), aura (random-aura)."
    ]
    assert list(verdicts.section(compare_neurons(measured, 0.02))) == []
    assert paragraphs(results(base={"de": 0.2}, full={"de": 0.1})) == []


def test_a_draw_of_other_settings_is_not_averaged_and_the_page_says_so():
    measured = multilingual(0.25, *FIVE, 0.9)
    measured.trainings["random-6"] = training_of("random", draw=6, epochs=2)
    text = summary(measured).text
    assert "Not averaged with the other draws: random-6 (epochs 2, not 1)." in text
    assert "only in their neurons: random (5)." in text
    assert "The neurons of multilingual do better" in text
    measured.trainings["random-6"] = None
    text = summary(measured).text
    assert "Not averaged with the other draws: random-6 (settings not known: no run.json)." in text
    # there are four of them
    measured.trainings["random-5"] = training_of("random", draw=5, seed=3)
    text = summary(measured).text
    assert "Not averaged with the other draws: random-5 (seed 3, not 0)." in text
    assert "because random was drawn 4 times" in text


def test_the_shares_of_neurons_are_those_of_run_json_and_of_draws_their_mean():
    measured = multilingual(0.25)
    measured.trainings["multilingual"] = training_of("multilingual", {"neurons": 50})
    for draw in range(1, 6):
        measured.trainings[f"random-{draw}"] = training_of(
            "random", {"toxic": 17 + draw}, draw=draw
        )
    (text,) = paragraphs(measured)
    assert text.endswith(
        "multilingual changes 50.0% of all neurons, and 50.0% of the random ones are toxic too."
    )


def test_the_figure_has_every_draw_on_the_row_of_the_model_that_it_is_compared_with():
    (section,) = verdicts.section(compare_neurons(multilingual(0.25), 0.02))
    assert section.figure.count('class="draw"') == 5
    for value in (-0.02, -0.01, 0, 0.01, 0.02):
        assert f"multilingual, one draw: {value:+.3f}<" in section.figure.replace(
            "-0.000", "+0.000"
        )


def test_the_neurons_of_another_selector_are_compared_with_draws_like_them():
    scores = {"taylor-multilingual": {"de": 0.25}} | drawn("taylor-random", *FIVE)
    measured = results(base={"de": 0.6}, **scores, **drawn("random", 0.1, 0.1, 0.1, 0.1, 0.1))
    (text,) = paragraphs(measured)
    assert text.startswith("The neurons of taylor-multilingual do better than random ones.")
    assert text.endswith("and 75.0% of the random ones are chosen by taylor too.")
    assert table(measured)["taylor-multilingual"][1] == "taylor-random"


def test_draws_of_one_selector_are_none_for_the_models_of_another():
    scores = {"taylor-multilingual": {"de": 0.25}} | drawn("random", *FIVE)
    (text,) = paragraphs(results(base={"de": 0.6}, **scores))
    assert text.startswith("These models have no random neurons to compare with")
    assert text.endswith("taylor-multilingual (taylor-random).")


def test_the_difference_of_lora_from_as_many_weights_of_toxic_neurons_is_measured():
    measured = results(base={"de": 0.6}, multilingual={"de": 0.3}, lora={"de": 0.35})
    numbers = verdicts.numbers_of_peers(measured)["differences"]["lora"]
    assert numbers["from"] == "multilingual"
    assert numbers["difference"] == pytest.approx([0.05] * 3)
    # learning rates of its own are no reason, other pairs are
    measured.trainings["lora"]["settings"]["pairs"] = 7
    refused = verdicts.numbers_of_peers(measured)["differences"]["lora"]
    assert "difference" not in refused and "7" in refused["reason"]
    # without LoRA, report.json has nothing of it
    assert verdicts.numbers_of_peers(multilingual(0.3)) == {}
