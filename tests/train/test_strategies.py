"""Strategies: which neurons are tuned on whose pairs, and how many weights that is."""

import itertools

import numpy as np
import pytest
from tiny import write_neurons

from minitox import neurons
from minitox.lm import checkpoint
from minitox.lm.config import read_config
from minitox.train import strategies
from minitox.train.interventions import combine
from minitox.train.strategies import (
    DRAWN,
    SCALED,
    TUNED,
    TWINS,
    Choice,
    Plan,
    Stage,
    count_weights,
    intervention,
    scaling_plans,
    stages,
    tuning_plans,
    weight_rows,
)

LANGUAGES = ["de", "en", "fr"]


@pytest.fixture
def aurocs(folder, tmp_path):
    aurocs = {}
    for seed, language in enumerate(LANGUAGES):
        path = tmp_path / f"{language}.safetensors"
        aurocs[language] = write_neurons(path, folder, seed)
    return aurocs


@pytest.fixture
def masks(aurocs):
    return {language: Choice().toxic_neurons(auroc) for language, auroc in aurocs.items()}


def flat(mask) -> np.ndarray:  # -> (K,)
    """Of each of the model's K neurons, whether it is chosen."""
    return np.concatenate(list(mask.values()))


def rows_chosen(mask) -> dict[str, int]:
    """How many neurons of each module are chosen."""
    return {name: int(rows.sum()) for name, rows in mask.items()}


def plans_of(strategy: str, aurocs: dict, choice: Choice) -> list[Plan]:
    """The models of a strategy, as train.py plans them."""
    masks = {language: choice.toxic_neurons(auroc) for language, auroc in aurocs.items()}
    of_all = list(aurocs.values())
    if strategy in SCALED:
        return scaling_plans(strategy, combine(intervention(strategy), of_all), choice)
    return tuning_plans(strategy, masks, LANGUAGES, choice, neurons.highest(of_all))


def languages_of_neurons(masks) -> np.ndarray:  # -> (K,)
    """In how many languages each neuron is toxic."""
    return np.sum([flat(mask) for mask in masks.values()], axis=0)


def test_full_tunes_every_weight_on_all_pairs(masks):
    (stage,) = stages("full", masks, LANGUAGES, seed=[0, 1])
    assert stage == Stage("all", None, LANGUAGES)


def test_per_language_tunes_the_toxic_neurons_of_one_language_after_the_other(masks):
    rounds = stages("per-language", masks, LANGUAGES, seed=[0, 1])
    assert [stage.name for stage in rounds] == LANGUAGES
    for stage in rounds:
        assert stage.languages == [stage.name]
        assert (flat(stage.mask) == flat(masks[stage.name])).all()


def test_multilingual_tunes_neurons_toxic_in_any_language_on_all_pairs(masks):
    (stage,) = stages("multilingual", masks, LANGUAGES, seed=[0, 1])
    assert stage.languages == LANGUAGES
    assert (flat(stage.mask) == (languages_of_neurons(masks) > 0)).all()


def test_random_tunes_as_many_neurons_of_every_module_but_others(masks):
    (together,) = stages("multilingual", masks, LANGUAGES, seed=[0, 1])
    (random,) = stages("random", masks, LANGUAGES, seed=[0, 1])
    assert random.languages == LANGUAGES
    assert rows_chosen(random.mask) == rows_chosen(together.mask)
    assert (flat(random.mask) != flat(together.mask)).any()


def test_random_per_language_draws_as_many_neurons_for_each_language_shared_by_as_many(masks):
    rounds = stages("random-per-language", masks, LANGUAGES, seed=[0, 1])
    assert [stage.name for stage in rounds] == LANGUAGES
    drawn = {}
    for stage in rounds:
        assert stage.languages == [stage.name]
        assert rows_chosen(stage.mask) == rows_chosen(masks[stage.name])
        assert neurons.overlap(stage.mask, masks[stage.name])[1] == pytest.approx(1, abs=0.3)
        drawn[stage.name] = stage.mask
    assert neurons.sharing(drawn) == neurons.sharing(masks)

    # the neurons of a language do not depend on the other languages, and all together are random's
    (alone,) = stages("random-per-language", masks, ["fr"], seed=[0, 1])
    assert (flat(alone.mask) == flat(drawn["fr"])).all()
    (random,) = stages("random", masks, LANGUAGES, seed=[0, 1])
    assert (flat(random.mask) == flat(neurons.union([*drawn.values()]))).all()


def test_swapped_tunes_the_toxic_neurons_of_the_next_language(masks):
    rounds = stages("swapped", masks, LANGUAGES, seed=[])
    assert [stage.languages for stage in rounds] == [["de"], ["en"], ["fr"]]
    for stage, other in zip(rounds, ["en", "fr", "de"], strict=True):
        assert (flat(stage.mask) == flat(masks[other])).all()
    with pytest.raises(ValueError, match="swapped: there is no second language"):
        stages("swapped", masks, ["de"], seed=[])


@pytest.mark.parametrize("name", ["shuffled", "lowest"])
def test_shuffled_and_lowest_tune_as_many_of_every_module_by_the_highest_auroc(aurocs, masks, name):
    highest = neurons.highest(list(aurocs.values()))
    (together,) = stages("multilingual", masks, LANGUAGES, seed=[])
    (stage,) = stages(name, masks, LANGUAGES, seed=[], highest=highest)
    assert stage.languages == LANGUAGES
    assert rows_chosen(stage.mask) == rows_chosen(together.mask)
    for module, chosen in stage.mask.items():
        others = highest[module][~chosen]
        if name == "shuffled":
            assert highest[module][chosen].min() >= others.max(initial=0)
        else:
            assert highest[module][chosen].max() <= others.min(initial=1)


def test_shared_tunes_the_neurons_toxic_in_every_language_on_all_pairs(masks):
    (shared,) = stages("shared", masks, LANGUAGES, seed=[0, 1])
    assert shared.languages == LANGUAGES
    assert (flat(shared.mask) == (languages_of_neurons(masks) == 3)).all()


def test_specific_tunes_the_neurons_toxic_in_one_language_alone(masks):
    in_one = languages_of_neurons(masks) == 1
    rounds = stages("specific", masks, LANGUAGES, seed=[0, 1])
    assert [stage.name for stage in rounds] == LANGUAGES
    for stage in rounds:
        assert stage.languages == [stage.name]
        assert (flat(stage.mask) == (flat(masks[stage.name]) & in_one)).all()


def test_an_unknown_strategy_is_an_error(masks):
    with pytest.raises(ValueError, match="half is not a strategy"):
        stages("half", masks, LANGUAGES, seed=[0, 1])


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


def test_every_twin_is_drawn_and_every_strategy_has_a_line_in_the_documentation():
    assert set(TWINS.values()) == set(DRAWN)
    assert TWINS.keys() | set(DRAWN) <= set(TUNED + SCALED)
    lines = [line.split(" ")[0] for line in strategies.__doc__.splitlines() if "  " in line]
    assert sorted(lines) == sorted(TUNED + SCALED)


# Orders of the languages


@pytest.mark.parametrize("name", strategies.ORDERED)
def test_orders_differ_in_the_order_of_the_languages_alone(aurocs, name):
    plans = plans_of(name, aurocs, Choice(draws=1, orders=3))
    draw = "-1" if name in DRAWN else ""
    names = [f"{name}{draw}", f"{name}-order-2{draw}", f"{name}-order-3{draw}"]
    assert [plan.name for plan in plans] == names
    assert {plan.first_name for plan in plans} == {names[0]}
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
    few = strategies.permutations(LANGUAGES, 2, seed=0)
    every = strategies.permutations(LANGUAGES, 6, seed=0)
    assert few == every[:2] and few[0] == LANGUAGES
    assert sorted(every) == sorted(map(list, itertools.permutations(LANGUAGES)))
    assert every != strategies.permutations(LANGUAGES, 6, seed=1)
    with pytest.raises(ValueError, match="de, en, fr have fewer than 7 orders"):
        strategies.permutations(LANGUAGES, 7, seed=0)


def test_other_strategies_have_one_order_and_too_few_languages_are_an_error(aurocs, masks):
    for name in set(TUNED) - set(strategies.ORDERED):
        plans = plans_of(name, aurocs, Choice(draws=1, orders=3))
        assert [plan.order for plan in plans] == [1]
    with pytest.raises(ValueError, match="^specific: de have fewer than 2 orders"):
        tuning_plans("specific", masks, ["de"], Choice(orders=2))


# Another selector


@pytest.mark.parametrize("name", [name for name in TUNED if name not in strategies.BY_AUROC])
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


@pytest.mark.parametrize(
    "name, prefix, strategy, order, by",
    [
        ("random", "", "random", 1, "auroc"),
        ("taylor-random", "taylor-", "random", 1, "taylor"),
        ("dpo-random", "dpo-", "random", 1, "auroc"),
        ("dpo-taylor-per-language", "dpo-taylor-", "per-language", 1, "taylor"),
        ("auroc-random", "", "auroc-random", 1, "auroc"),
        ("other-random", "", "other-random", 1, "auroc"),
        ("per-language-order-2", "", "per-language", 2, "auroc"),
        ("dpo-taylor-specific-order-10", "dpo-taylor-", "specific", 10, "taylor"),
        ("random-per-language-order-3", "", "random-per-language", 3, "auroc"),
        ("per-language-order-1", "", "per-language-order-1", 1, "auroc"),
        ("per-language-order-02", "", "per-language-order-02", 1, "auroc"),
        ("multilingual-order-2", "", "multilingual-order-2", 1, "auroc"),
    ],
)
def test_a_name_has_an_objective_a_selector_a_strategy_and_an_order(
    name, prefix, strategy, order, by
):
    assert strategies.split_name(name) == (prefix, strategy, order)
    assert strategies.selector_in(name) == by
    if not name.startswith(("auroc", "other")):
        objective = "dpo" if name.startswith("dpo") else "sft"
        suffix = strategies.suffix_of(order)
        assert strategies.prefix_of(objective, by) + strategy + suffix == name


def test_the_twin_of_a_strategy_is_drawn_like_the_neurons_of_the_same_selector():
    assert strategies.twin_of("multilingual") == "random"
    assert strategies.twin_of("taylor-multilingual") == "taylor-random"
    assert strategies.twin_of("taylor-swapped") == "taylor-random-per-language"
    assert strategies.twin_of("taylor-random") is None
    assert strategies.twin_of("swapped-order-2") == "random-per-language-order-2"
    assert strategies.twin_of("specific-order-2") is None
    assert strategies.is_drawn("random-per-language-order-2")
    assert strategies.is_drawn("taylor-random") and not strategies.is_drawn("taylor-lowest")


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


def test_weight_rows_are_the_masks_of_the_weights_that_have_a_chosen_row(folder, masks):
    model = checkpoint.load(folder)
    mask = masks["de"] | {"model.layers.0.mlp.up_proj": np.zeros(48, dtype=bool)}
    rows = weight_rows(model, mask)
    assert rows.keys() == {f"{name}.weight" for name in mask} - {
        "model.layers.0.mlp.up_proj.weight"
    }
    for name, chosen in rows.items():
        assert (chosen.numpy() == mask[name.removesuffix(".weight")]).all()


@pytest.mark.parametrize("name", ["full", "multilingual"])
def test_the_weights_that_a_mask_chooses_are_counted(folder, masks, name):
    model = checkpoint.load(folder)
    (stage,) = stages(name, masks, LANGUAGES, seed=[0, 1])
    weights = 0
    for weight, rows in weight_rows(model, stage.mask).items():
        weights += int(rows.sum()) * model.get_parameter(weight)[0].numel()
    assert count_weights(read_config(folder), stage.mask) == weights
