"""Tuning with DPO in stages: the base model is the reference, and only chosen rows move."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tuning import HYPER, PROCEDURE, preferences_in, random_mask, weights_of

from minitox.errors import NotFinite
from minitox.lm import checkpoint
from minitox.run import training
from minitox.run.training import make_model
from minitox.train import dpo
from minitox.train.plans import Plan
from minitox.train.strategies import Stage

DPO = replace(PROCEDURE, objective="dpo", beta=0.2)
PROCEDURES = [DPO, replace(DPO, reference=True)]


def two_stages(model) -> Plan:
    """German pairs and English ones, each on neurons of their own."""
    stages = [
        Stage("de", random_mask(model, seed=1), ["de"]),
        Stage("en", random_mask(model, seed=2), ["en"]),
    ]
    return Plan("two stages", stages, objective="dpo")


@pytest.fixture
def model(folder):
    return checkpoint.load(folder)


@pytest.fixture
def pairs(folder):
    return training.with_references(checkpoint.load(folder), preferences_in("de", "en"), DPO)


@pytest.mark.parametrize("procedure", PROCEDURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_chosen_rows_move(folder, tmp_path, procedure, dtype):
    model = checkpoint.load(folder, dtype=dtype)
    pairs = training.with_references(model, preferences_in("de", "en"), procedure)
    before = weights_of(model)
    plan = two_stages(model)
    make_model(model, plan, pairs, HYPER, procedure, tmp_path / "work")
    for name, weight in weights_of(model).items():
        no_row = np.zeros(len(weight), dtype=bool)
        chosen = torch.from_numpy(plan.mask.get(name.removesuffix(".weight"), no_row))
        assert torch.equal(weight[~chosen], before[name][~chosen])
        if chosen.any():
            assert (weight[chosen] != before[name][chosen]).float().mean() > 0.9


def test_definition_and_fast_twin_make_the_same_model(folder, pairs, tmp_path):
    results = []
    for procedure in PROCEDURES:
        model = checkpoint.load(folder)
        path = tmp_path / f"{procedure.reference}"
        losses = make_model(model, two_stages(model), pairs, HYPER, procedure, path)
        results.append((losses, weights_of(model)))
    (losses, weights), (reference_losses, reference_weights) = results
    for ours, theirs in zip(losses, reference_losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    for name, weight in weights.items():
        assert torch.allclose(weight, reference_weights[name], atol=1e-4)


def test_the_reference_of_every_stage_is_the_base_model(model, pairs, tmp_path):
    """The first loss of the second stage is that of what the first stage has changed."""
    first = Plan("one stage", two_stages(model).stages[:1], objective="dpo")
    hyper = replace(HYPER, batch_size=10, epochs=1)
    losses = make_model(model, first, pairs, hyper, DPO, tmp_path / "first")
    assert losses[0][0] == pytest.approx(math.log(2), rel=1e-5)
    between = DPO.loss_functions.loss(model, pairs["en"].train).item() / 10
    assert abs(between - math.log(2)) > 1e-3

    again = checkpoint.load(tmp_path / "model")
    both = make_model(again, two_stages(again), pairs, hyper, DPO, tmp_path / "both")
    assert both[0] == losses[0]
    assert both[1][0] == pytest.approx(between, rel=1e-6)


@pytest.mark.parametrize("procedure", PROCEDURES)
@pytest.mark.parametrize("stop", [1, 2, 5, 7])
def test_a_run_that_was_killed_ends_with_the_same_bits(folder, tmp_path, procedure, stop):
    """A rerun computes the log-probabilities by the base model again."""

    def tune(path, show=lambda steps, more: None):
        model = checkpoint.load(folder)
        pairs = training.with_references(model, preferences_in("de", "en"), procedure)
        losses = make_model(model, two_stages(model), pairs, HYPER, procedure, path, show)
        return losses, weights_of(model)

    def interrupt(steps, more):
        if steps == stop:
            raise KeyboardInterrupt

    expected_losses, expected = tune(tmp_path / "expected")
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "broken", interrupt)
    losses, weights = tune(tmp_path / "broken")
    assert losses == expected_losses
    assert all(torch.equal(weight, expected[name]) for name, weight in weights.items())


def test_tuning_raises_the_margins_of_what_it_is_tuned_on(model, pairs, tmp_path):
    make_model(model, two_stages(model), pairs, HYPER, DPO, tmp_path / "work")
    train = pairs["en"].train
    log_p = training.log_probabilities(model, dpo.both_replies(train), DPO)
    numbers = dpo.preferences(train, log_p, DPO.beta)
    assert numbers["margin"] > 0.1
    assert numbers["accuracy"] == 1


def test_the_replies_are_computed_in_micro_batches_and_stay_in_their_order(model):
    pairs = preferences_in("en")["en"].train
    at_once = training.refer(model, pairs, DPO)
    one_by_one = training.refer(model, pairs, replace(DPO, batch_tokens=1))
    for ours, theirs, pair in zip(at_once, one_by_one, pairs, strict=True):
        assert ours.ids == pair.ids and ours.rejected.ids == pair.rejected.ids
        assert ours.reference_log_p == pytest.approx(theirs.reference_log_p, rel=1e-5)
        assert ours.rejected.reference_log_p == pytest.approx(
            theirs.rejected.reference_log_p, rel=1e-5
        )


def test_a_base_model_without_finite_log_probabilities_is_refused(model):
    model.model.norm.weight.data.fill_(math.inf)
    with pytest.raises(NotFinite, match=r"en.jsonl:\d+: the base model gives a reply the log-"):
        training.with_references(model, preferences_in("en"), DPO)


def test_without_dpo_nothing_is_asked_of_the_base_model(model):
    pairs = preferences_in("en")
    assert training.with_references(model, pairs, PROCEDURE) is pairs
    assert training.preferences_aside(model, pairs, PROCEDURE) == {}
