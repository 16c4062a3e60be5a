"""Plans: the models of a strategy, by draw, order of the languages and selector."""

import itertools

import numpy as np
import pytest
from small_masks import LANGUAGES, flat, languages_of_neurons, rows_chosen

from minitox import neurons
from minitox.lm.config import read_config
from minitox.train.interventions import combine
from minitox.train.plans import Choice, Plan, permutations, scaling_plans, tuning_plans
from minitox.train.strategies import (
    BY_AUROC,
    DRAWN,
    ORDERED,
    SCALED,
    TUNED,
    TWINS,
    Stage,
    intervention,
)


def plans_of(strategy: str, aurocs: dict, choice: Choice) -> list[Plan]:
    """The models of a strategy, as train.py plans them."""
    masks = {language: choice.toxic_neurons(auroc) for language, auroc in aurocs.items()}
    of_all = list(aurocs.values())
    if strategy in SCALED:
        return scaling_plans(strategy, combine(intervention(strategy), of_all), choice)
    return tuning_plans(strategy, masks, LANGUAGES, choice, neurons.highest(of_all))


# Draws


@pytest.mark.parametrize("name", DRAWN)
def test_draws_differ_in_their_neurons_alone(aurocs, name):
    plans = plans_of(name, aurocs, Choice(draws=3))
    assert [plan.name for plan in plans] == [f"{name}-1", f"{name}-2", f"{name}-3"]
    assert [(plan.strategy, plan.draw) for plan in plans] == [(name, draw) for draw in (1, 2, 3)]
    first, *others = plans
    for other in others:
        assert len(other.masks) == len(first.masks)
        for mine, theirs in zip(first.masks, other.masks, strict=True):
            assert rows_chosen(mine) == rows_chosen(theirs)
            assert (flat(mine) != flat(theirs)).any()
        for mine, theirs in zip(first.stages, other.stages, strict=True):
            assert (mine.name, mine.languages) == (theirs.name, theirs.languages)
    assert (flat(others[0].mask) != flat(others[1].mask)).any()


@pytest.mark.parametrize("name", DRAWN)
def test_a_draw_depends_on_the_seed_and_its_number_and_not_on_how_many_there_are(aurocs, name):
    few = plans_of(name, aurocs, Choice(draws=2, seed=4))
    many = plans_of(name, aurocs, Choice(draws=9, seed=4))
    other_seed = plans_of(name, aurocs, Choice(draws=2, seed=5))
    for mine, same, other in zip(few, many[:2], other_seed, strict=True):
        assert mine.name == same.name == other.name
        for mask, same_mask in zip(mine.masks, same.masks, strict=True):
            assert (flat(mask) == flat(same_mask)).all()
        assert (flat(mine.mask) != flat(other.mask)).any()


@pytest.mark.parametrize("name", [name for name in TUNED + SCALED if name not in DRAWN])
def test_without_a_draw_there_is_one_model_whatever_the_seed(aurocs, name):
    (plan,) = plans_of(name, aurocs, Choice(draws=7))
    (same,) = plans_of(name, aurocs, Choice(draws=2, seed=3))
    assert plan.name == plan.strategy == name
    assert plan.draw is None
    if plan.mask is not None:
        assert (flat(plan.mask) == flat(same.mask)).all()


@pytest.mark.parametrize("name", ["aura", "damp", "det0"])
def test_random_interventions_have_the_same_factors_in_every_module_at_other_neurons(aurocs, name):
    (plan,) = plans_of(name, aurocs, Choice())
    for twin in plans_of(f"random-{name}", aurocs, Choice(draws=2)):
        assert not twin.stages
        for module, factors in plan.scale.items():
            assert np.sort(twin.scale[module]).tolist() == np.sort(factors).tolist()
        assert (flat(twin.scale) != flat(plan.scale)).any()


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_changes_as_many_neurons_of_every_module(aurocs, name):
    (plan,) = plans_of(name, aurocs, Choice())
    for twin in plans_of(TWINS[name], aurocs, Choice()):
        assert rows_chosen(plan.mask) == rows_chosen(twin.mask)
        if name == "swapped":
            continue  # the sets of all languages are the same, but each is another language's
        for mine, theirs in zip(plan.masks, twin.masks, strict=True):
            assert rows_chosen(mine) == rows_chosen(theirs)


# Orders of the languages


@pytest.mark.parametrize("name", ORDERED)
def test_orders_differ_in_the_order_of_the_languages_alone(aurocs, name):
    plans = plans_of(name, aurocs, Choice(draws=1, orders=3))
    draw = "-1" if name in DRAWN else ""
    names = [f"{name}{draw}", f"{name}-order-2{draw}", f"{name}-order-3{draw}"]
    assert [plan.name for plan in plans] == names
    assert {plan.model_name.first_name for plan in plans} == {names[0]}
    first, *others = plans
    assert first.languages == LANGUAGES
    assert len({tuple(plan.languages) for plan in plans}) == 3
    neurons_of = {stage.name: stage.mask for stage in first.stages}
    for other in others:
        assert sorted(other.languages) == LANGUAGES
        assert (flat(other.mask) == flat(first.mask)).all()
        for stage in other.stages:
            assert stage.languages == [stage.name]
            if name != "swapped":  # the next language is another one
                assert (flat(stage.mask) == flat(neurons_of[stage.name])).all()


def test_an_order_depends_on_the_seed_and_its_number_and_not_on_how_many_there_are():
    few = permutations(LANGUAGES, 2, seed=0)
    every = permutations(LANGUAGES, 6, seed=0)
    assert few == every[:2] and few[0] == LANGUAGES
    assert sorted(every) == sorted(map(list, itertools.permutations(LANGUAGES)))
    assert every != permutations(LANGUAGES, 6, seed=1)
    with pytest.raises(ValueError, match="de, en, fr have fewer than 7 orders"):
        permutations(LANGUAGES, 7, seed=0)


def test_other_strategies_have_one_order_and_too_few_languages_are_an_error(aurocs, masks):
    for name in set(TUNED) - set(ORDERED):
        plans = plans_of(name, aurocs, Choice(draws=1, orders=3))
        assert [plan.order for plan in plans] == [1]
    with pytest.raises(ValueError, match="^specific: de have fewer than 2 orders"):
        tuning_plans("specific", masks, ["de"], Choice(orders=2))


# Another selector


@pytest.mark.parametrize("name", [name for name in TUNED if name not in BY_AUROC])
def test_another_selector_chooses_in_the_same_way_under_names_of_its_own(aurocs, name):
    plans = plans_of(name, aurocs, Choice(top_share=0.4, draws=2))
    others = plans_of(name, aurocs, Choice(top_share=0.4, draws=2, by="taylor"))
    for plan, other in zip(plans, others, strict=True):
        assert (plan.by, other.by) == ("auroc", "taylor")
        assert (plan.strategy, plan.draw) == (other.strategy, other.draw)
        if name == "full":  # the whole model is no choice
            assert other.name == "full"
            continue
        assert other.name == f"taylor-{plan.name}"
        assert (flat(plan.mask) == flat(other.mask)).all()


def by_dinm(layer: int, rows: dict[str, int]) -> dict:
    """What dinm gives every neuron, with this layer as the one of largest distance."""
    values = {}
    for name, count in rows.items():
        distance = 9.0 if f".{layer}." in name else 1.0
        values[name] = np.full(count, distance if name.endswith("down_proj") else 0.0)
    return values


def test_dinm_chooses_all_down_proj_rows_of_one_layer(folder):
    rows = neurons.module_rows(read_config(folder))
    values = dict.fromkeys(LANGUAGES, by_dinm(1, rows))
    (plan,) = plans_of("multilingual", values, Choice(by="dinm"))
    assert plan.name == "dinm-multilingual"
    full = "model.layers.1.mlp.down_proj"
    assert rows_chosen(plan.mask) == {name: 32 if name == full else 0 for name in rows}


def test_controls_of_dinm_have_as_many_rows_of_the_projection_in_all_layers(folder):
    """As many rows of every module would be the same rows."""
    rows = neurons.module_rows(read_config(folder))
    values = dict.fromkeys(LANGUAGES, by_dinm(1, rows))
    first, second = plans_of("random", values, Choice(by="dinm", draws=2))
    (lowest,) = plans_of("lowest", values, Choice(by="dinm"))
    for plan in (first, second, lowest):
        counts = rows_chosen(plan.mask)
        down = {name: count for name, count in counts.items() if name.endswith("down_proj")}
        assert sum(counts.values()) == sum(down.values()) == 32
        if plan is lowest:
            assert counts["model.layers.0.mlp.down_proj"] == 32
        else:
            assert 0 < min(down.values())
    assert (flat(first.mask) != flat(second.mask)).any()


def test_independent_models_have_the_name_of_the_selector_too(masks):
    plans = tuning_plans("per-language", masks, LANGUAGES, Choice(independent=True, by="taylor"))
    names = [f"taylor-per-language-{language}" for language in LANGUAGES]
    assert [plan.name for plan in plans] == names


# Plans


def test_a_strategy_makes_one_model_named_after_it(masks):
    (plan,) = tuning_plans("per-language", masks, LANGUAGES, Choice())
    assert plan.name == "per-language"
    assert [stage.name for stage in plan.stages] == LANGUAGES
    assert (flat(plan.mask) == (languages_of_neurons(masks) > 0)).all()


def test_independent_models_are_one_for_each_language_with_a_toxic_neuron(masks):
    choice = Choice(independent=True)
    plans = tuning_plans("per-language", masks, LANGUAGES, choice)
    names = ["per-language-de", "per-language-en", "per-language-fr"]
    assert [plan.name for plan in plans] == names
    assert [[stage.name for stage in plan.stages] for plan in plans] == [["de"], ["en"], ["fr"]]

    masks["en"] = {name: rows & False for name, rows in masks["en"].items()}
    plans = tuning_plans("per-language", masks, LANGUAGES, choice)
    assert [plan.name for plan in plans] == ["per-language-de", "per-language-fr"]


def test_a_plan_with_a_stage_of_every_weight_changes_every_weight(masks):
    plan = Plan("two stages", [Stage("de", masks["de"], ["de"]), Stage("all", None, LANGUAGES)])
    assert plan.mask is None


def test_interventions_scale_the_neurons_of_one_language_of_any_or_of_the_mean(aurocs, masks):
    (german,) = scaling_plans("aura", aurocs["de"], Choice())
    assert (flat(german.mask) == flat(masks["de"])).all()
    (of_all,) = scaling_plans("aura", combine("aura", list(aurocs.values())), Choice())
    assert (flat(of_all.mask) == flat(neurons.union(list(masks.values())))).all()
    (mean,) = scaling_plans("det0", combine("det0", list(aurocs.values())), Choice())
    expected = np.mean([flat(auroc) for auroc in aurocs.values()], axis=0) > 0.5
    assert (flat(mean.mask) == expected).all()
    assert not mean.stages and not german.stages


def test_a_top_share_instead_of_a_threshold(aurocs):
    choice = Choice(top_share=0.25)
    for auroc in aurocs.values():
        assert neurons.count(choice.toxic_neurons(auroc)) == 64  # of 256


@pytest.mark.parametrize("name", [name for name in TUNED + SCALED if name != "full"])
def test_changing_no_neuron_is_an_error(aurocs, name):
    with pytest.raises(ValueError, match=f"^{name}: no neuron is chosen"):
        plans_of(name, aurocs, Choice(threshold=1.0))
