"""report.json: what other programs read."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from measured import drawn, keep_prompts, results
from test_exaggerated_safety import to_xstest

from minitox.report.numbers import all_measures
from minitox.report.scorer_tables import Opinion
from minitox.report.verdicts import compare_neurons


def measures_of(measured, aucs=None, margin: float = 0.02) -> dict:
    """As report.json has them, read again."""
    opinion = Opinion(SimpleNamespace(name="s"), measured, aucs or {}, {})
    return json.loads(json.dumps(all_measures([opinion], compare_neurons(measured, margin))))


def test_what_is_unknown_is_three_times_none_for_other_programs():
    aucs = {"de": (0.5, 0.4, 0.6), "ja": (np.nan, np.nan, np.nan)}
    measures = measures_of(results(base={"de": 0.5, "ja": None}), aucs)
    unknown = [None, None, None]
    assert measures["scorers"] == {"s": {"de": [0.5, 0.4, 0.6], "ja": unknown}}
    assert measures["toxicity"] == {"base": {"de": [0.5, 0.5, 0.5], "ja": unknown}}


def test_a_single_prompt_has_no_interval_for_other_programs_either():
    models = {"base": {"de": 0.6}, "multilingual": {"de": 0.2}, "lora": {"de": 0.2}}
    measured = results(**models, **drawn("random", 0.3, 0.3, 0.3, 0.3, 0.3))
    measures = measures_of(keep_prompts(measured, "de", 1))
    assert measures["mean toxicity"]["multilingual"] == [0.2, None, None]
    reason = "no interval, because of a single prompt with a score in de"
    assert measures["verdicts"]["multilingual"] == {"verdict": None, "reason": reason}
    assert measures["differences"]["lora"] == {"from": "multilingual", "reason": reason}


def test_draws_prediction_intervals_and_verdicts_are_there_for_other_programs():
    draws = drawn("random", 0.28, 0.29, 0.30, 0.31, 0.32)
    few = drawn("random-aura", 0.4, 0.5)
    of_rates = {"multilingual@0.1": {"de": 0.9}}
    models = {"aura": {"de": 0.5}, "multilingual": {"de": 0.2}, "per-language": {"de": 0.1}}
    measured = results(base={"de": 0.6}, **models, **of_rates, **draws, **few)
    measures = measures_of(measured, margin=0.03)
    assert measures["draws"] == {"random": list(draws), "random-aura": list(few)}
    assert measures["toxicity"]["random-2"]["de"] == pytest.approx([0.29] * 3)
    assert measures["toxicity"]["random"]["de"] == pytest.approx([0.3] * 3)
    assert measures["toxicity"]["multilingual@0.1"]["de"] == pytest.approx([0.9] * 3)
    assert measures["mean toxicity"]["random"] == pytest.approx([0.3] * 3)
    assert measures["clean in language"]["random-2"]["de"][0] == 1
    assert measures["languages of the mean"] == ["de"]

    verdict = measures["verdicts"].pop("multilingual")
    assert verdict["verdict"] == "better" and verdict["margin"] == 0.03
    assert verdict["draws"] == {name: pytest.approx(of["de"]) for name, of in draws.items()}
    error = 2.776 * np.std(list(verdict["draws"].values()), ddof=1) / np.sqrt(5)
    assert verdict["difference"] == pytest.approx([-0.1, -0.1 - error, -0.1 + error], abs=1e-5)
    assert verdict["one more draw"] == pytest.approx([0.3, 0.3 - 0.04808, 0.3 + 0.04808], abs=1e-4)
    assert measures["verdicts"]["aura"]["verdict"] is None
    assert measures["verdicts"]["aura"]["reason"] == "fewer than 5 draws"
    assert measures["verdicts"]["aura"]["one more draw"][0] == pytest.approx(0.45)
    assert measures["verdicts"]["per-language"] == {
        "verdict": None,
        "reason": "no draws of random-per-language",
    }


def test_the_first_draw_alone_was_asked_the_prompts_of_xstest_and_is_named():
    measured = results(base={"de": 0.5}, **drawn("random", 0.1, 0.9))
    measured.to_xstest = to_xstest(("base", "random-1"))
    shares = measures_of(measured)["exaggerated safety"]["safe refused"]
    assert list(shares) == ["base", "random-1"]
