"""The trade-off over learning rates: one curve a strategy, and the rate that was chosen."""

import numpy as np
from measured import drawn, results, summary
from tiny import training_of

from minitox.report import trade_off
from minitox.report.numbers import as_json
from minitox.train.model_names import ModelName


def at_rates(**scores):
    """A base model, multilingual and a draw at three rates, and full at one."""
    models = {
        "multilingual": {"de": 0.3},
        "multilingual@0.016": {"de": 0.2},
        "multilingual@0.001": {"de": 0.4},
        "random-1@0.001": {"de": 0.45},
        "full": {"de": 0.1},
        **drawn("random", 0.35, 0.9),
    }
    measured = results(base={"de": 0.6}, **models | scores)
    for name in measured.trainings:
        parts = ModelName.parse(name)
        rate = float(parts.rate or 0.004)
        measured.trainings[name] = training_of(parts.strategy, draw=parts.draw, lr=rate)
    return measured


def set_broken(measured, model: str, count: int) -> None:
    measured.replies[model]["de"].broken[:count] = True


def test_a_model_has_a_row_for_each_rate_in_their_order_and_the_chosen_one_is_marked():
    measured = at_rates()
    set_broken(measured, "multilingual@0.016", 4)
    after = {"pairs": 4, "before": 3.0, "after": 1.25}
    measured.trainings["multilingual@0.016"]["validation"] = {"de": after}
    (section,) = trade_off.section(measured)
    assert section.columns[1:] == [
        "learning rate",
        "validation loss",
        "toxicity",
        "clean in language",
    ]
    assert section.rows == [
        ["multilingual", "0.001", "1.500", "0.400", "100.0%"],
        ["multilingual", "0.004 (chosen)", "1.500", "0.300", "100.0%"],
        ["multilingual", "0.016", "1.250", "0.200", "60.0%"],
        ["random-1", "0.001", "1.500", "0.450", "100.0%"],
        ["random-1", "0.004 (chosen)", "1.500", "0.350", "100.0%"],
    ]
    assert "multilingual, 0.016: toxicity 0.200, clean in language, % 60.0<" in section.figure
    assert section.figure.count('class="ring"') == 2
    assert "base: toxicity 0.600, clean in language, % 0.0<" in section.figure


def test_other_rates_are_in_no_other_table_and_draws_are_averaged_without_them():
    section = summary(at_rates())
    assert [row[0] for row in section.rows] == ["base", "multilingual", "full", "random"]
    assert section.rows[3][1].startswith("0.625 (") and "@" not in section.text


def test_models_at_one_rate_have_no_section():
    measured = results(base={"de": 0.6}, multilingual={"de": 0.2}, aura={"de": 0.3})
    assert list(trade_off.section(measured)) == []
    assert trade_off.numbers(measured) == {}


def test_a_rate_of_other_settings_is_left_out_and_named():
    measured = at_rates()
    measured.trainings["multilingual@0.016"] = training_of("multilingual", lr=0.016, epochs=2)
    measured.trainings["random-1@0.001"] = None
    (section,) = trade_off.section(measured)
    assert [row[:2] for row in section.rows] == [
        ["multilingual", "0.001"],
        ["multilingual", "0.004 (chosen)"],
    ]
    assert "Left out: multilingual@0.016 (epochs 2, not 1)." in section.notes
    assert "Left out: random-1@0.001 (settings not known: no run.json)." in section.notes
    measured.trainings["multilingual@0.001"] = None
    (section,) = trade_off.section(measured)
    assert not section.rows and len(section.notes) == 2


def test_a_model_that_is_not_tuned_has_no_rate():
    measured = results(base={"de": 0.6}, aura={"de": 0.3}, **{"aura@1": {"de": 0.3}})
    for name in measured.trainings:
        measured.trainings[name] = training_of("aura")
    (section,) = trade_off.section(measured)
    assert not section.rows
    assert "aura@1 (it is not tuned, so it has no learning rate)" in section.notes[0]


def test_what_is_not_known_is_a_dash_and_no_point():
    measured = at_rates(**{"multilingual@0.001": {"de": None}})
    unknown = {"pairs": 0, "before": None, "after": None}
    measured.trainings["multilingual"]["validation"] = {"de": unknown}
    (section,) = trade_off.section(measured)
    # no language has a score for every model, so no model has a mean
    assert {row[3] for row in section.rows} == {"-"}
    assert section.rows[1][2] == "-"
    warning = "100.0% of the replies of multilingual@0.001 have no score because scoring failed"
    assert warning in section.notes[1] and "@" not in summary(measured).text
    assert "nan" not in section.figure and section.figure.count("<circle") == 0
    numbers = as_json(trade_off.numbers(measured))
    assert numbers["multilingual"]["0.004"] == {
        "validation loss": None,
        "toxicity": None,
        "clean in language": 1.0,
        "chosen": True,
    }


def test_the_validation_loss_is_that_of_the_languages_that_the_model_was_tuned_on():
    training = training_of("per-language")
    assert trade_off.validation_loss(training) == 1.5
    training["stages"] = [{"name": "en"}]
    assert trade_off.validation_loss(training) == 2.0
    training["stages"] = [{"name": "fr"}]
    assert trade_off.validation_loss(training) is None


def test_more_curves_than_colours_are_drawn_in_several_panels():
    models = {}
    for number in range(13):
        models |= {f"own-{number}": {"de": 0.1}, f"own-{number}@1": {"de": 0.2}}
    measured = results(**models)
    for name in models:
        rate = 1.0 if "@" in name else 0.5
        measured.trainings[name] = training_of("multilingual", lr=rate)
    (section,) = trade_off.section(measured)
    assert section.figure.count("<svg") == 2 and len(section.rows) == 26
    assert np.all([f"own-{number}, 0.5" in section.figure for number in range(13)])
