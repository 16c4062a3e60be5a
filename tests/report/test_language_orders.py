"""What the report says of several orders of the languages."""

import measured
import pytest

from minitox.report import language_orders
from minitox.report.page import html

NAMES = ["per-language", "per-language-order-2"]
ORDERS = [["de", "en"], ["en", "de"]]
# losses after each stage of each order: German loses more when it is tuned first
AFTER = [
    [{"de": 1.0, "en": 1.9}, {"de": 1.4, "en": 0.5}],
    [{"de": 2.9, "en": 0.6}, {"de": 1.0, "en": 0.8}],
]


def training(name: str, order: list[str], after: list[dict]) -> dict:
    """The run.json of a model that was tuned in stages, in this order."""
    validation = {"hi": {"pairs": 0, "before": None, "after": None}}
    for language, before in {"de": 3.0, "en": 2.0}.items():
        validation[language] = {"pairs": 4, "before": before, "after": after[-1][language]}
    stages = []
    for language, losses in zip(order, after, strict=True):
        stages.append({"name": language, "validation": losses | {"hi": None}})
    return measured.record_of(name) | {"validation": validation, "stages": stages}


def results_of(trainings: dict):
    results = measured.results(base={"de": 0.5}, **{name: {"de": 0.4} for name in trainings})
    results.trainings |= trainings
    return results


def two_orders(names=NAMES) -> dict:
    return dict(zip(names, map(training, names, ORDERS, AFTER), strict=True))


def test_each_language_is_compared_with_its_mean_over_the_orders_place_by_place():
    (section,) = language_orders.section(results_of(two_orders()))
    assert section.rows == [
        # German 1.4 of 1.2 on average, English 0.8 of 0.65
        ["per-language, 1", "de, en", "+0.175 (+0.150..+0.200)", "+0.300 (+0.200..+0.400)"],
        ["per-language, 2", "en, de", "-0.175 (-0.200..-0.150)", "+0.000 (+0.000..+0.000)"],
    ]
    assert (
        "per-language: the mean loss over the languages is 0.950 in de, en; 0.900 in en, de. The 2 "
        "orders differ by 0.050 at most. Against its mean over the orders, a language that is "
        "tuned first ends at +0.175 (+0.150..+0.200), one that is tuned last at "
        "-0.175 (-0.200..-0.150)." in section.paragraphs()
    )
    page = html("report", [section])
    assert page.count("<svg") == 1 and "2: en, de" in page


def test_draws_are_averaged_before_orders_are_compared():
    names = ["random-per-language-1", "random-per-language-order-2-1"]
    trainings = two_orders(names)
    (one_draw,) = language_orders.section(results_of(trainings))
    # a second draw of both orders, whose losses are higher by as much everywhere
    more = [[{code: of[code] + 1 for code in of} for of in after] for after in AFTER]
    for name, order, after in zip(names, ORDERS, more, strict=True):
        second = f"{name[:-1]}2"
        trainings[second] = training(second, order, after)
    (two_draws,) = language_orders.section(results_of(trainings))
    assert two_draws.rows == one_draw.rows
    assert "1.450 in de, en; 1.400 in en, de" in two_draws.text


@pytest.mark.parametrize("change", ["one order", "other epochs", "in one stage"])
def test_without_two_orders_that_differ_in_nothing_else_there_is_no_section(change):
    trainings = two_orders()
    if change == "one order":
        del trainings["per-language"]
    elif change == "other epochs":
        trainings["per-language-order-2"]["settings"]["epochs"] = 2
    else:
        trainings = {"full": measured.record_of("full")}
    assert not list(language_orders.section(results_of(trainings)))


def test_a_language_that_was_measured_in_one_order_alone_has_no_number():
    trainings = two_orders()
    second = trainings["per-language-order-2"]
    second["validation"]["en"]["before"] = None
    (section,) = language_orders.section(results_of(trainings))
    assert section.rows[0][1:3] == ["de, en", "+0.200 (+0.200..+0.200)"]
