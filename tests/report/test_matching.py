"""Draws are one model as far as they differ only in their neurons."""

import measured
import pytest
from tiny import training_of

from minitox.report import matching

NAMES = ["base", "multilingual", "random-1", "random-2", "random-3", "aura"]


def trainings(**changes) -> dict:
    """What run.json says of the models in NAMES, and of others."""
    known = {f"random-{draw}": training_of("random", draw=draw) for draw in (1, 2, 3)}
    known |= {name: training_of(name) for name in ("multilingual", "aura")}
    return known | {name.replace("_", "-"): training for name, training in changes.items()}


def test_draws_stand_where_the_first_of_them_is():
    shown, odd = matching.grouped(NAMES, trainings(), "base")
    assert list(shown) == ["base", "multilingual", "random", "aura"]
    assert shown["random"] == ["random-1", "random-2", "random-3"] and shown["aura"] == ["aura"]
    assert odd == {}


@pytest.mark.parametrize(
    "training, reason",
    [
        (None, "settings not known: no run.json"),
        (training_of("random", draw=1, lr=0.5, seed=7), "seed 7, not 0"),
        (training_of("random", draw=1, top_share=0.1), "top_share 0.1, not None"),
        (training_of("random", draw=1, model="another"), "another base model"),
        (
            training_of("random", draw=1, objective="dpo"),
            "random-1 was made with the strategy dpo-random, draw 1",
        ),
        (training_of("multilingual"), "random-1 was made with the strategy multilingual"),
        # a copy of another draw says nothing of how draws differ
        (training_of("random", draw=2), "random-1 was made with the strategy random, draw 2"),
    ],
)
def test_a_draw_that_does_not_match_most_others_is_a_model_of_its_own(training, reason):
    shown, odd = matching.grouped(NAMES, trainings(random_1=training), "base")
    assert shown["random"] == ["random-2", "random-3"]
    assert shown["random-1"] == ["random-1"]
    assert list(odd) == ["random-1"] and reason in odd["random-1"]


def test_draws_without_settings_are_not_averaged_at_all():
    unknown = {f"random_{draw}": None for draw in (1, 2, 3)}
    shown, odd = matching.grouped(NAMES, trainings(**unknown), "base")
    assert list(shown) == NAMES
    assert odd == {f"random-{draw}": "settings not known: no run.json" for draw in (1, 2, 3)}


def test_models_at_other_rates_are_shown_only_if_none_of_them_was_chosen():
    at_rates = ["multilingual@0.1", "random-1@0.1", "full@0.1", "random-4@0.1"]
    names = [*NAMES, *at_rates]
    known = trainings(**dict.fromkeys(at_rates))
    shown, odd = matching.grouped(names, known, "base")
    assert list(shown) == ["base", "multilingual", "random", "aura", "full@0.1", "random-4@0.1"]
    assert odd == {} and len(shown["random"]) == 3
    assert matching.at_rates(names) == {
        "multilingual@0.1": "multilingual",
        "random-1@0.1": "random-1",
    }


def test_the_counts_of_several_draws_are_their_means_and_they_are_no_one_choice():
    of_draws = []
    for draw, toxic in ((1, 17), (2, 20)):
        of_draws.append(training_of("random", {"toxic": toxic, "neurons": 40 + draw}, draw=draw))
    together = matching.one_training(of_draws)
    assert together["settings"]["draw"] is None
    assert together["settings"]["strategy"] == "random"
    assert together["chosen"] == of_draws[0]["chosen"] | {
        "neurons": 42,
        "toxic": 18,
        "sha256": None,
    }
    assert together["draws"] == 2
    assert matching.one_training(of_draws[:1]) == of_draws[0]


def test_draws_at_other_rates_are_not_averaged_unless_the_rate_depends_on_the_neurons():
    def of_rates(rates):
        known = trainings()
        for draw, lr in ((1, 0.004), (2, 0.004), (3, 0.001)):
            known[f"random-{draw}"] = training_of("random", draw=draw, rates=rates, lr=lr)
        return matching.grouped(NAMES, known, "base")

    shown, odd = of_rates("auto")
    assert len(shown["random"]) == 3 and odd == {}
    shown, odd = of_rates([0.001, 0.004])
    assert shown["random"] == ["random-1", "random-2"]
    assert odd == {"random-3": "lr 0.001, not 0.004"}


def test_a_model_is_compared_with_one_of_the_same_objective():
    """The draws of an objective are one model, and other pairs are part of an objective."""
    names = ["base", "multilingual", "dpo-multilingual", "dpo-random-1", "dpo-random-2", "aura"]
    of_dpo = {"objective": "dpo", "data": {"de": "hash of a file with rejected replies"}}
    known = trainings()
    known["dpo-multilingual"] = training_of("multilingual", **of_dpo)
    for draw in (1, 2):
        known[f"dpo-random-{draw}"] = training_of("random", draw=draw, **of_dpo)
    shown, odd = matching.grouped(names, known, "base")
    assert shown["dpo-random"] == ["dpo-random-1", "dpo-random-2"] and odd == {}

    assert matching.mismatch("dpo-multilingual", "dpo-random-1", known, "base") == ""
    assert matching.mismatch("dpo-multilingual", "base", known, "base") == ""
    assert matching.mismatch("dpo-multilingual", "aura", known, "base") == ""
    reason = matching.mismatch("dpo-multilingual", "multilingual", known, "base")
    assert reason == "objective dpo, not sft"
    known["dpo-random-1"] = training_of("random", draw=1, beta=0.5, **of_dpo)
    reason = matching.mismatch("dpo-multilingual", "dpo-random-1", known, "base")
    assert reason == "beta 0.1, not 0.5"


def test_models_that_differ_in_the_order_of_the_languages_are_compared_if_their_names_say_so():
    names = ["per-language", "per-language-order-2", "random-per-language-order-2-1"]
    known = {name: measured.record_of(name) for name in names}
    first, second, draw = names
    assert "order" not in known[first]["settings"] and "order" in known[draw]["settings"]
    for other in (first, draw, "base"):
        assert matching.mismatch(second, other, known, "base") == ""
    known[second]["settings"]["order"] = ["de", "en"]
    reason = matching.mismatch(second, draw, known, "base")
    assert reason == "order de,en, not en,de"
    known |= {first: known[second], second: known[first]}
    assert matching.mismatch(first, "base", known, "base") == (
        "per-language was made with the strategy per-language, in the order de,en"
    )
    assert matching.mismatch(second, "base", known, "base") == (
        "per-language-order-2 was made with the strategy per-language"
    )


def test_the_models_of_a_selector_are_draws_and_twins_of_their_own():
    known = trainings()
    for draw in (1, 2):
        changes = {"by": "taylor", "top_share": 0.1}
        known[f"taylor-random-{draw}"] = training_of("random", draw=draw, **changes)
    shown, odd = matching.grouped([*known], known, "base")
    assert shown["random"] == ["random-1", "random-2", "random-3"]
    assert shown["taylor-random"] == ["taylor-random-1", "taylor-random-2"]
    assert odd == {}


@pytest.mark.parametrize(
    "name, by, reason",
    [
        ("multilingual", "taylor", "was made with the strategy taylor-multilingual"),
        ("taylor-multilingual", "auroc", "was made with the strategy multilingual"),
        ("taylor-multilingual", "taylor", ""),
    ],
)
def test_a_model_with_the_name_of_another_selector_is_not_compared(name, by, reason):
    training = training_of("multilingual", by=by, top_share=0.1)
    expected = f"{name} {reason}" if reason else ""
    assert matching.mismatch(name, "base", {name: training}, "base") == expected
