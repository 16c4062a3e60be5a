"""Strategies: which neurons are tuned on whose pairs, and how many weights that is."""

import numpy as np
import pytest
from small_masks import LANGUAGES, flat, languages_of_neurons, rows_chosen

from minitox import neurons
from minitox.lm import checkpoint
from minitox.lm.config import read_config
from minitox.train import strategies
from minitox.train.strategies import (
    DRAWN,
    SCALED,
    TUNED,
    TWINS,
    Stage,
    count_weights,
    stages,
    weight_rows,
)


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


def test_every_twin_is_drawn_and_every_strategy_has_a_line_in_the_documentation():
    assert set(TWINS.values()) == set(DRAWN)
    assert TWINS.keys() | set(DRAWN) <= set(TUNED + SCALED)
    lines = [line.split(" ")[0] for line in strategies.__doc__.splitlines() if "  " in line]
    assert sorted(lines) == sorted(TUNED + SCALED)
