"""Strategies: which neurons are tuned on whose pairs, and how many weights that is."""

import numpy as np
import pytest
from tiny import write_neurons

from minitox import neurons
from minitox.lm import checkpoint
from minitox.lm.config import read_config
from minitox.train.interventions import combine
from minitox.train.strategies import (
    SCALED,
    Choice,
    Plan,
    Stage,
    count_weights,
    scaling_plan,
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


def languages_of_neurons(masks) -> np.ndarray:  # -> (K,)
    """In how many languages each neuron is toxic."""
    return np.sum([flat(mask) for mask in masks.values()], axis=0)


def test_full_tunes_every_weight_on_all_pairs(masks):
    (stage,) = stages("full", masks, LANGUAGES, seed=0)
    assert stage == Stage("all", None, LANGUAGES)


def test_per_language_tunes_the_toxic_neurons_of_one_language_after_the_other(masks):
    rounds = stages("per-language", masks, LANGUAGES, seed=0)
    assert [stage.name for stage in rounds] == LANGUAGES
    for stage in rounds:
        assert stage.languages == [stage.name]
        assert (flat(stage.mask) == flat(masks[stage.name])).all()


def test_multilingual_tunes_neurons_toxic_in_any_language_on_all_pairs(masks):
    (stage,) = stages("multilingual", masks, LANGUAGES, seed=0)
    assert stage.languages == LANGUAGES
    assert (flat(stage.mask) == (languages_of_neurons(masks) > 0)).all()


def test_random_tunes_as_many_neurons_of_every_module_but_others(masks):
    (together,) = stages("multilingual", masks, LANGUAGES, seed=0)
    (random,) = stages("random", masks, LANGUAGES, seed=0)
    assert random.languages == LANGUAGES
    for name, rows in random.mask.items():
        assert rows.sum() == together.mask[name].sum()
    assert (flat(random.mask) != flat(together.mask)).any()


def test_shared_tunes_the_neurons_toxic_in_every_language_on_all_pairs(masks):
    (shared,) = stages("shared", masks, LANGUAGES, seed=0)
    assert shared.languages == LANGUAGES
    assert (flat(shared.mask) == (languages_of_neurons(masks) == 3)).all()


def test_specific_tunes_the_neurons_toxic_in_one_language_alone(masks):
    in_one = languages_of_neurons(masks) == 1
    rounds = stages("specific", masks, LANGUAGES, seed=0)
    assert [stage.name for stage in rounds] == LANGUAGES
    for stage in rounds:
        assert stage.languages == [stage.name]
        assert (flat(stage.mask) == (flat(masks[stage.name]) & in_one)).all()


def test_an_unknown_strategy_is_an_error(masks):
    with pytest.raises(ValueError, match="half is not a strategy"):
        stages("half", masks, LANGUAGES, seed=0)


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
    german = scaling_plan("aura", aurocs["de"], Choice())
    assert (flat(german.mask) == flat(masks["de"])).all()
    of_all = scaling_plan("aura", combine("aura", list(aurocs.values())), Choice())
    assert (flat(of_all.mask) == flat(neurons.union(list(masks.values())))).all()
    mean = scaling_plan("det0", combine("det0", list(aurocs.values())), Choice())
    expected = np.mean([flat(auroc) for auroc in aurocs.values()], axis=0) > 0.5
    assert (flat(mean.mask) == expected).all()
    assert not mean.stages and not german.stages


def test_a_top_share_instead_of_a_threshold(aurocs):
    choice = Choice(top_share=0.25)
    for auroc in aurocs.values():
        assert neurons.count(choice.toxic_neurons(auroc)) == 64  # of 256


@pytest.mark.parametrize("name", ["per-language", "multilingual", "random", "shared", "specific"])
def test_tuning_no_neuron_is_an_error(aurocs, name):
    choice = Choice(threshold=1.0)
    masks = {language: choice.toxic_neurons(auroc) for language, auroc in aurocs.items()}
    with pytest.raises(ValueError, match=f"{name}: no neuron is chosen"):
        tuning_plans(name, masks, LANGUAGES, choice)


@pytest.mark.parametrize("name", SCALED)
def test_scaling_no_neuron_is_an_error(aurocs, name):
    with pytest.raises(ValueError, match=f"{name}: no neuron is chosen"):
        scaling_plan(name, aurocs["de"], Choice(threshold=1.0))


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
    (stage,) = stages(name, masks, LANGUAGES, seed=0)
    weights = 0
    for weight, rows in weight_rows(model, stage.mask).items():
        weights += int(rows.sum()) * model.get_parameter(weight)[0].numel()
    assert count_weights(read_config(folder), stage.mask) == weights
