"""The tables say what was measured: averages over languages, gaps, and the paper's numbers beside the paper's models alone."""

from types import SimpleNamespace

import numpy as np
import pytest

from minitox.evaluate import metrics
from minitox.evaluate.metrics import Replies
from minitox.languages import HELD_OUT, TUNED
from minitox.report import report, result_tables
from minitox.report.results import Results, average

LLAMA = SimpleNamespace(
    model_type="llama", hidden_size=4096, num_hidden_layers=32, vocab_size=128256
)
AYA = SimpleNamespace(
    model_type="cohere", hidden_size=4096, num_hidden_layers=32, vocab_size=256000
)


def results(**scores) -> Results:
    """Ten replies of each model in each language, all of the model's score for that language; None: it has none."""
    languages = list(dict.fromkeys(language for by in scores.values() for language in by))
    found = {
        model: {
            language: Replies(
                np.full((10, 1), np.nan if score is None else score),
                np.full((10, 1), "failed" if score is None else "scored"),
                np.full((10, 1), language),
            )
            for language, score in by.items()
        }
        for model, by in scores.items()
    }
    rows = {
        model: {
            language: [{"stopped": True, "response": "x", "prompt": "y"}] * 10 for language in by
        }
        for model, by in scores.items()
    }
    return Results(
        languages,
        rows,
        found,
        {},
        {},
        {language: metrics.resample(10, 0) for language in languages},
        {},
        {},
    )


def test_the_average_is_over_the_languages_that_all_models_have():
    estimates = results(
        base={"de": 0.2, "en": 0.4, "zh": 0.9}, full={"de": 0.1, "en": 0.3, "zh": None}
    ).estimates(metrics.toxicity)
    means, common = average(estimates, TUNED)
    assert (
        common == ["de", "en"]
        and means["base"][0] == pytest.approx(0.3)
        and means["full"][0] == pytest.approx(0.2)
    )
    section = result_tables.by_language("Table 3", estimates, TUNED, {})
    assert section.rows[-1][1].startswith("0.300") and section.rows[2] == [
        "zh",
        "0.900 (0.900..0.900)",
        "-",
    ]
    assert "because a model has nothing there: zh" in section.notes[0]


@pytest.mark.parametrize(
    "config, name, tuned, held_out",
    [(LLAMA, "Llama-3.1-8B", 0.0512, 0.0537), (AYA, "Aya-23-8B", 0.1241, 0.1436)],
)
def test_the_paper_s_numbers_stand_beside_its_models_and_average_as_printed(
    config, name, tuned, held_out
):
    found, paper = result_tables.papers(config)
    assert found == name
    measured = results(base=dict.fromkeys(TUNED + HELD_OUT, 0.5))
    for section, mean in zip(result_tables.toxicity_tables(measured, paper), (tuned, held_out)):
        assert section.columns == [
            "",
            "base",
            "paper: base",
            "paper: full",
            "paper: per-language",
            "paper: multilingual",
        ]
        assert float(section.rows[-1][3]) == pytest.approx(mean, abs=6e-5)


def test_the_paper_s_average_is_not_shown_beside_one_over_other_languages():
    _, paper = result_tables.papers(LLAMA)
    section = result_tables.toxicity_tables(results(base={"de": 0.5, "en": None}), paper)[0]
    assert (
        section.rows[-1][2] == "0.304" and section.rows[1][2] == "0.379"
    )  # over German alone, as ours is


@pytest.mark.parametrize(
    "change", [{"hidden_size": 2048}, {"model_type": "qwen2"}, {"vocab_size": 32000}]
)
def test_other_models_have_no_numbers_of_the_paper(change):
    assert result_tables.papers(SimpleNamespace(**{**vars(LLAMA), **change})) == ("", {})


def test_nothing_is_compared_where_no_language_has_a_score_of_every_model():
    text = report.verdict(
        results(base={"de": None}, multilingual={"de": 0.2}, random={"de": 0.3})
    ).text
    assert "nothing is compared" in text and "random neurons" not in text and "nan" not in text


def test_a_model_is_called_less_toxic_only_beyond_the_interval():
    far, near = np.linspace(-0.2, -0.1, 1001), np.linspace(-0.2, 0.1, 1001)
    sentence = report.compare("base", {"full": far, "aura": near, "random": -far})
    assert (
        sentence
        == "Against base: less toxic: full (-0.200); not to be told apart: aura (-0.200); more toxic: random (+0.200)."
    )


@pytest.mark.parametrize(
    "random, says",
    [
        (0.2, "random neurons do as well as the toxic ones of multilingual: no evidence"),
        (0.1, "random neurons do better than the toxic ones of multilingual: no evidence"),
        (0.4, "The toxic neurons of multilingual do better than as many random ones."),
    ],
)
def test_the_first_page_says_whether_random_neurons_do_as_well(random, says):
    text = report.verdict(
        results(base={"de": 0.6}, multilingual={"de": 0.2}, random={"de": random})
    ).text
    assert says in text and "{" not in text


def test_languages_of_replies_are_counted_as_shares_of_each_prompt_language():
    found = results(base={"de": 0.1, "cs": 0.1})
    sections = result_tables.response_languages(found, fewer=20)
    assert [section.title[:8] for section in sections] == ["Figure 4", "Figure 5"] and sections[
        0
    ].rows == [["base, de", "100.0%"]]


def test_the_first_page_warns_of_itself_if_many_scores_failed():
    languages = dict.fromkeys(TUNED, 0.5)
    assert "do not trust" not in report.verdict(results(base=languages)).text
    assert report.verdict(results(base={**languages, "de": None})).text.startswith(
        "11.1% of the replies have no score"
    )
