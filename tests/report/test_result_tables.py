"""Tables of results: gaps, averages, and the paper's numbers beside the paper's models alone."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from measured import results

from minitox.evaluate import metrics
from minitox.languages import HELD_OUT, TUNED
from minitox.report import result_tables
from minitox.run.judging import grade

LLAMA = SimpleNamespace(
    model_type="llama",
    hidden_size=4096,
    num_hidden_layers=32,
    vocab_size=128256,
    rope_scaling={
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192.0,
    },
)
AYA = SimpleNamespace(
    model_type="cohere", hidden_size=4096, num_hidden_layers=32, vocab_size=256000
)


def test_a_language_without_a_score_is_a_gap_and_not_in_the_average():
    estimates = results(
        base={"de": 0.2, "en": 0.4, "zh": 0.9},
        full={"de": 0.1, "en": 0.3, "zh": None},
    ).estimates(metrics.toxicity)
    section = result_tables.language_table("Table 3", estimates, TUNED)
    assert section.rows[-1][1].startswith("0.300")
    assert section.rows[2] == ["zh", "0.900 (0.900..0.900)", "-"]
    assert section.notes[0].endswith("because at least one model has no value: zh.")


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
    sections = result_tables.toxicity_tables(measured, paper)
    for section, mean in zip(sections, (tuned, held_out), strict=True):
        assert section.columns == [
            "",
            "base",
            "paper: base",
            "paper: full",
            "paper: per-language",
            "paper: multilingual",
        ]
        assert float(section.rows[-1][3]) == pytest.approx(mean, abs=6e-5)


def test_tuned_languages_that_are_not_those_of_the_models_are_named():
    measured = results(base={"de": 0.6, "en": 0.5}, full={"de": 0.2, "en": 0.2})
    (table,) = result_tables.toxicity_tables(measured, {})
    assert table.notes == ["tuned languages: the paper's; these models are tuned on pairs in de"]
    measured.trainings["full"]["settings"]["data"] = dict.fromkeys(TUNED, "hash of a file")
    (table,) = result_tables.toxicity_tables(measured, {})
    assert table.notes == []


def test_the_paper_s_average_is_not_shown_beside_one_over_other_languages():
    _, paper = result_tables.papers(LLAMA)
    measured = results(base={"de": 0.5, "en": None})
    section = next(result_tables.toxicity_tables(measured, paper))
    # over German alone, as ours is
    assert section.rows[-1][2] == "0.304" and section.rows[1][2] == "0.379"


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 2048},
        {"model_type": "qwen2"},
        {"vocab_size": 32000},
        {"rope_scaling": None},  # Llama-3-8B
    ],
)
def test_other_models_have_no_numbers_of_the_paper(change):
    config = SimpleNamespace(**{**vars(LLAMA), **change})
    assert result_tables.papers(config) == ("", {})


def test_safety_is_a_mean_over_the_languages_in_which_every_model_replied():
    measured = results(base={"de": 0.1, "fr": 0.1}, full={"de": 0.1, "fr": 0.1})
    section = result_tables.safety(measured, samples=1)
    assert "mean over 2 languages" in section.text and len(section.notes) == 2
    replies = measured.replies["full"]
    replies["fr"] = replace(replies["fr"], status=np.full((10, 1), "too long"))
    section = result_tables.safety(measured, samples=2)
    assert "mean over 1 languages" in section.text
    assert section.notes[2].startswith("intervals: they count prompts, not replies")


def test_intervals_of_shares_over_languages_are_called_too_narrow_where_prompts_are_translated():
    measured = replace(results(base={"de": 0.1, "fr": 0.1}), translated=True)
    section = result_tables.safety(measured, samples=1)
    assert section.notes[2].startswith("intervals: too narrow")
    alone = replace(results(base={"de": 0.1}), translated=True)
    assert len(result_tables.safety(alone, samples=1).notes) == 2


def test_the_limits_on_perplexity_are_named_with_what_they_are():
    limits = {"de": (math.log(12.5), True), "fr": (1000.0, True), "zh": (math.log(1_030), False)}
    assert result_tables.broken(limits) == (
        "broken: in the prompt's language and not toxic, but repetitive, or of a perplexity per "
        "token under the base model above the 99th percentile of the replies in DATA/instructions "
        "(of fewer than 99: above the highest): de 12.50, fr over 1e300; zh 1,030.00 (by the "
        "replies of all languages)"
    )


def test_the_share_of_right_answers_has_wilson_s_interval():
    measured = results(base={"de": 0.1})
    right = np.array([[1.0], [1.0], [0.0], [1.0]])
    graded = {"reply": right, "likeliest": 1 - right, "no answer": 0 * right}
    measured.answers = {"base": {"de": graded}}
    tables = list(result_tables.knowledge(measured, {}))
    low, high = metrics.wilson(0.75, 4)[1:]
    assert tables[0].rows == [
        ["de", f"75.0% ({low:.1%}..{high:.1%})"],
        ["average", f"75.0% ({low:.1%}..{high:.1%})"],
    ]
    assert tables[1].rows[0][1].startswith("25.0% (") and tables[2].rows[0][1][:4] == "0.0%"


def test_a_question_that_is_too_long_for_the_model_is_no_wrong_answer_and_is_counted():
    measured = results(base={"de": 0.1}, full={"de": 0.1})
    question = {"question": "Which is a river?", "choices": ["Nile", "Alps", "Gobi", "Oslo"]}
    right = {"answer": "A", "likeliest": "A", "reply": "A."}
    not_asked = {"answer": "A", "likeliest": None, "reply": None}
    graded = {
        "de": grade([right, not_asked, right], [question] * 3),
        "fr": grade([not_asked], [question]),
    }
    measured.answers = {"base": graded}
    assert measured.questions() == {"base": {"de": 2, "fr": 0}}
    *tables, no_answer = result_tables.knowledge(measured, {})
    low, high = metrics.wilson(1.0, 2)[1:]
    cell = f"100.0% ({low:.1%}..{high:.1%})"
    for table in tables:
        assert table.rows == [["de", cell], ["fr", "-"], ["average", cell]]
        assert "questions left out, too long for the model: base 2" in table.notes
    assert no_answer.rows[0][1].startswith("0.0% (")

    measured.answers = {"base": {"de": graded["de"]}, "full": {"de": graded["de"]}}
    table, *_ = result_tables.knowledge(measured, {})
    assert "questions left out, too long for the model: base 1, full 1" in table.notes
    measured.answers = {"base": {"de": grade([right], [question])}}
    table, *_ = result_tables.knowledge(measured, {})
    assert not any("too long" in note for note in table.notes)


def test_languages_of_replies_are_counted_as_shares_of_each_prompt_language():
    measured = results(base={"de": 0.1, "cs": 0.1})
    sections = list(result_tables.response_languages(measured, fewer=20))
    assert [section.title[:8] for section in sections] == ["Figure 4", "Figure 5"]
    assert sections[0].rows == [["base, de", "100.0%"]]
