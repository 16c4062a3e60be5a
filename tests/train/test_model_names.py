"""Names of models: their parts, and what is known by a name alone."""

import itertools

import pytest

from minitox.neurons import SELECTORS
from minitox.train.model_names import ModelName
from minitox.train.strategies import DRAWN, OBJECTIVES, ORDERED, SCALED, TUNED, TWINS

RATES = (None, "0.004", "1e-05", "1e+20")
INDEPENDENT = ("per-language-de", "per-language-zh")  # --independent


def names_of(strategy: str) -> list[ModelName]:
    """Every name that a model of a strategy may have, with some orders, draws and rates."""
    orders = (1, 2, 10) if strategy in ORDERED else (1,)
    draws = (None, 1, 2, 10) if strategy in DRAWN else (None,)
    parts = itertools.product(OBJECTIVES, SELECTORS, orders, draws, RATES)
    return [ModelName(strategy, *of_name) for of_name in parts]


@pytest.mark.parametrize("strategy", TUNED + SCALED + INDEPENDENT)
def test_a_name_is_read_as_it_was_made(strategy):
    for name in names_of(strategy):
        assert ModelName.parse(str(name)) == name


def test_no_two_models_have_the_same_name():
    names = [name for strategy in TUNED + SCALED + INDEPENDENT for name in names_of(strategy)]
    assert len({str(name) for name in names}) == len(names) > 1_000


def test_a_name_has_the_parts_that_are_not_the_defaults_in_one_order():
    assert str(ModelName("multilingual")) == "multilingual"
    name = ModelName("random-per-language", "dpo", "taylor", order=2, draw=3, rate="0.004")
    assert str(name) == "dpo-taylor-random-per-language-order-2-3@0.004"
    assert name.prefix == "dpo-taylor-"
    assert ModelName("random", draw=1).at_rate(0.00001) == "random-1@1e-05"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("random", ModelName("random")),
        ("random-3@0.004", ModelName("random", draw=3, rate="0.004")),
        ("random-per-language-12", ModelName("random-per-language", draw=12)),
        ("per-language", ModelName("per-language")),
        ("per-language-de@1e-05", ModelName("per-language-de", rate="1e-05")),
        ("dpo-random-3@0.004", ModelName("random", "dpo", draw=3, rate="0.004")),
        ("dpo-multilingual", ModelName("multilingual", "dpo")),
        ("taylor-random-3@0.004", ModelName("random", by="taylor", draw=3, rate="0.004")),
        ("dinm-multilingual", ModelName("multilingual", by="dinm")),
        ("dpo-taylor-per-language", ModelName("per-language", "dpo", "taylor")),
        ("per-language-order-2@0.004", ModelName("per-language", order=2, rate="0.004")),
        ("dpo-taylor-specific-order-10", ModelName("specific", "dpo", "taylor", 10)),
        ("random-per-language-order-3", ModelName("random-per-language", order=3)),
        ("random-per-language-order-2-3", ModelName("random-per-language", order=2, draw=3)),
    ],
)
def test_a_name_has_an_objective_a_selector_a_strategy_an_order_a_draw_and_a_rate(text, expected):
    assert ModelName.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        *("base", "lora", "mine", "Llama-3.1-8B", "", "-", "-1", "random-", "random--1"),
        # numbers that are none of minitox
        *("random-0", "random-03", "random-+3", "random-³", "random-1.5", "random-1\n"),
        *("random-1-2", "full-3", "aura-2", "multilingual-1", "per-language-de-3"),
        *("per-language-order-0", "per-language-order-1", "per-language-order-02"),
        *("per-language-order-2-order-3", "per-language-order-2-3", "per-language-order"),
        *("multilingual-order-2", "random-order-2", "random-order-2-3", "full-order-2-1"),
        *("random-per-language-order-1-3", "random-per-language-order-2-0"),
        *("random-per-language-3-order-2", "order-2", "mine-order-2", "random-mine-1"),
        # the defaults, and other words before a strategy
        *("auroc-random", "sft-random-1", "mine-random-3", "-random-1", "Random-1"),
        *("dpo", "taylor", "dporandom"),
    ],
)
def test_any_other_text_is_all_strategy(text):
    assert ModelName.parse(text) == ModelName(text)
    assert str(ModelName.parse(text)) == text


@pytest.mark.parametrize(
    "text, expected",
    [
        ("dpo-", ModelName("", "dpo")),
        ("dpo-mine-1", ModelName("mine-1", "dpo")),
        ("dpo-auroc-random", ModelName("auroc-random", "dpo")),
        ("taylor-mine", ModelName("mine", by="taylor")),
        # a second objective, a second selector, and both in the other order
        ("dpo-dpo-random-1", ModelName("dpo-random-1", "dpo")),
        ("taylor-dinm-random-1", ModelName("dinm-random-1", by="taylor")),
        ("taylor-dpo-random-1", ModelName("dpo-random-1", by="taylor")),
        # any text may follow the sign of a rate
        ("mine@0.1", ModelName("mine", rate="0.1")),
        ("random-1@", ModelName("random", draw=1, rate="")),
        ("@", ModelName("", rate="")),
        ("@0.1", ModelName("", rate="0.1")),
        ("random@0.1@0.2-3", ModelName("random", rate="0.1@0.2-3")),
        ("random@dpo-1", ModelName("random", rate="dpo-1")),
        ("full@order-2", ModelName("full", rate="order-2")),
    ],
)
def test_a_text_of_another_strategy_has_the_parts_that_it_seems_to_have(text, expected):
    assert ModelName.parse(text) == expected
    assert str(expected) == text


def test_every_text_is_the_name_that_its_parts_make():
    pieces = ["dpo-", "taylor-", "random", "per-language", "full", "-order-", "-", "1", "2", "@"]
    for count in range(1, 6):
        for text in map("".join, itertools.product(pieces, repeat=count)):
            assert str(ModelName.parse(text)) == text


# What follows from a name


@pytest.mark.parametrize(
    "name, common, first",
    [
        ("multilingual", "multilingual", "multilingual"),
        ("random-3", "random", "random-1"),
        ("random", "random", "random"),
        ("dpo-random-3@0.004", "dpo-random", "dpo-random-1@0.004"),
        ("taylor-per-language-order-2", "taylor-per-language-order-2", "taylor-per-language"),
        (
            "random-per-language-order-2-3",
            "random-per-language-order-2",
            "random-per-language-1",
        ),
        ("full-3", "full-3", "full-3"),
        ("mine-1@", "mine-1", "mine-1@"),
    ],
)
def test_draws_have_a_name_in_common_and_a_first_one(name, common, first):
    assert ModelName.parse(name).common_name == common
    assert ModelName.parse(name).first_name == first


@pytest.mark.parametrize("strategy", TUNED + SCALED)
def test_a_strategy_that_draws_is_the_name_of_its_draws_together(strategy):
    for name in names_of(strategy):
        is_of_all = strategy in DRAWN and str(name) == name.common_name
        assert name.is_of_all_draws == is_of_all
    for other in ("random-mine", "mine", "random-0", "random@", "random-per-language-order-1"):
        assert not ModelName.parse(other).is_of_all_draws


def test_the_twin_of_a_strategy_is_drawn_like_the_neurons_of_the_same_selector():
    twins = {
        "multilingual": "random",
        "taylor-multilingual": "taylor-random",
        "dpo-taylor-swapped": "dpo-taylor-random-per-language",
        "swapped-order-2": "random-per-language-order-2",
        "aura": "random-aura",
        "specific-order-2": None,
        "taylor-random": None,
        "random-1": None,
        "multilingual@0.004": None,
        "multilingual-1": None,
        "mine": None,
    }
    for name, twin in twins.items():
        assert ModelName.parse(name).twin == twin
    for strategy in TWINS:
        assert ModelName.parse(ModelName(strategy).twin).is_of_all_draws
