"""Tuning: the loss is what it says, its pieces add up, and only chosen rows move."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minitox import neurons
from minitox.errors import InputError
from minitox.lm import checkpoint
from minitox.train import finetune
from minitox.train.pairs import Pair, Pairs
from minitox.train.strategies import Stage, weight_rows


def arguments(**changes):
    return SimpleNamespace(
        **{
            "optimizer": "rows",
            "epochs": 2,
            "lr": 1e-2,
            "schedule": "cosine",
            "warmup": 0.1,
            "batch_size": 4,
            "batch_tokens": 1_000,
            "weight_decay": 0.1,
            "clip": 1.0,
            "recompute": False,
            "checkpoint_steps": 2,
            "seed": 0,
        }
        | changes
    )


def some_pairs(count=10, seed=0) -> list[Pair]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(6, 20, count)
    return [
        Pair(
            [0, *rng.integers(4, 300, length).tolist(), 1],
            int(rng.integers(2, length)),
            f"en.jsonl:{i + 1}",
        )
        for i, length in enumerate(lengths)
    ]


def languages(*names) -> dict[str, Pairs]:
    return {
        name: Pairs(some_pairs(seed=i), some_pairs(3, seed=100 + i), 0, 0, "")
        for i, name in enumerate(names)
    }


def random_mask(model, share=0.4, seed=0) -> dict:
    rng = np.random.default_rng(seed)
    return {
        name: rng.random(rows) < share for name, rows in neurons.module_rows(model.config).items()
    }


def tune(model, stages, pairs, path, show=lambda losses: None, **changes) -> list[list[float]]:
    return finetune.tune(model, stages, pairs, arguments(**changes), path, show)


def weights_of(model) -> dict:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def by_definition(model, pair: Pair):
    """Minus the log-probability of each reply token and of the end, one pair at a time."""
    log_p = F.log_softmax(model(torch.tensor([pair.ids]))[0], dim=-1)
    return -sum(log_p[place - 1, pair.ids[place]] for place in range(pair.start, len(pair.ids)))


@pytest.fixture
def model(folder):
    return checkpoint.load(folder)


def test_the_loss_is_on_replies_and_their_end_and_does_not_depend_on_the_batch(model):
    pairs = some_pairs()
    expected = sum(by_definition(model, pair).item() for pair in pairs)
    assert finetune.reply_loss(model, pairs).item() == pytest.approx(expected, rel=1e-5)
    assert sum(finetune.reply_loss(model, [pair]).item() for pair in pairs) == pytest.approx(
        expected, rel=1e-5
    )


def test_logits_made_in_chunks_give_the_same_gradients(model, monkeypatch):
    """The loss goes back to the hidden states chunk by chunk, then once through the layers; autograd at once agrees."""
    pairs = some_pairs(4)
    model.requires_grad_(True)
    sum(by_definition(model, pair) for pair in pairs).backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    split = torch.Tensor.split
    monkeypatch.setattr(
        torch.Tensor,
        "split",
        lambda tensor, size, dim=0: split(tensor, 5 if size > 1_000 else size, dim),
    )
    finetune.reply_loss(model, pairs, scale=1.0)
    for name, weight in model.named_parameters():
        assert torch.allclose(weight.grad, expected[name], atol=1e-4), name


def test_a_step_computed_in_pieces_is_the_same_step(folder, tmp_path):
    results = []
    for tokens in (1_000, 25, 1):
        model = checkpoint.load(folder)
        losses = tune(
            model,
            [Stage("all", random_mask(model), ["en"])],
            languages("en"),
            tmp_path / f"{tokens}",
            batch_tokens=tokens,
            epochs=1,
        )
        results.append((losses[0], weights_of(model)))
    for losses, weights in results[1:]:
        assert losses == pytest.approx(results[0][0], rel=1e-4)
        assert all(
            torch.allclose(weight, results[0][1][name], atol=1e-4)
            for name, weight in weights.items()
        )


@pytest.mark.parametrize("optimizer", ["rows", "masked"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_weight_outside_the_masks_keeps_every_bit_from_language_to_language(
    folder, tmp_path, optimizer, dtype
):
    model = checkpoint.load(folder, dtype=dtype)
    first, second = random_mask(model, seed=1), random_mask(model, seed=2)
    before, between = weights_of(model), {}

    def look(losses):
        if len(losses) == 1:
            between.update(weights_of(model))

    tune(
        model,
        [Stage("de", first, ["de"]), Stage("en", second, ["en"])],
        languages("de", "en"),
        tmp_path / "checkpoint",
        look,
        optimizer=optimizer,
    )
    after = weights_of(model)
    for name in before:
        module = name.removesuffix(".weight")
        in_first, in_second = (
            torch.from_numpy(mask[module])
            if module in mask
            else torch.zeros(len(before[name]), dtype=torch.bool)
            for mask in (first, second)
        )
        assert torch.equal(between[name][~in_first], before[name][~in_first])
        assert torch.equal(after[name][~in_second], between[name][~in_second])
        if module in first:
            assert (between[name][in_first] != before[name][in_first]).float().mean() > 0.9
            assert (after[name][in_second] != between[name][in_second]).float().mean() > 0.9


def test_both_optimizers_train_the_same_model(folder, tmp_path):
    results = []
    for optimizer in ("rows", "masked"):
        model = checkpoint.load(folder)
        results.append(
            tune(
                model,
                [Stage("all", random_mask(model), ["en"])],
                languages("en"),
                tmp_path / optimizer,
                optimizer=optimizer,
            )
        )
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-4)
    assert results[0][0][-1] < results[0][0][0]


def test_weights_without_a_chosen_row_get_no_gradient(model):
    mask = random_mask(model)
    mask["model.layers.0.mlp.gate_proj"][:] = False
    mask["model.layers.0.mlp.up_proj"][:] = True
    stage = Stage("all", mask, ["en"])
    optimizer = finetune.make_optimizer(model, stage, weight_rows(model, mask), arguments())
    finetune.reply_loss(model, some_pairs(2), scale=1.0)
    for name, weight in model.named_parameters():
        rows = mask.get(name.removesuffix(".weight"), np.zeros(1, dtype=bool))
        assert (weight.grad is not None) == rows.all()
        assert (getattr(weight, "row_grad", None) is not None) == (rows.any() and not rows.all())
    assert set(optimizer.state) == {f"{name}.weight" for name in mask} - {
        "model.layers.0.mlp.gate_proj.weight"
    }


def test_recomputing_activations_changes_nothing(folder, tmp_path):
    results = []
    for recompute in (False, True):
        model = checkpoint.load(folder)
        tune(
            model,
            [Stage("all", random_mask(model), ["en"])],
            languages("en"),
            tmp_path / f"{recompute}",
            recompute=recompute,
        )
        results.append(weights_of(model))
        assert not model.model.activation_checkpointing
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.parametrize("optimizer", ["rows", "masked"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stop", [1, 2, 5, 7, 12])
def test_a_run_that_was_killed_ends_with_the_same_bits(folder, tmp_path, optimizer, dtype, stop):
    """Stopped before, at and after a checkpoint, in the first language, in the second, and at the end; one language has no neuron."""

    def stages(model):
        nothing = {name: rows & False for name, rows in random_mask(model).items()}
        return [
            Stage("de", random_mask(model, seed=1), ["de"]),
            Stage("fr", nothing, ["de"]),
            Stage("en", random_mask(model, seed=2), ["en"]),
        ]

    whole, broken, pairs = (
        checkpoint.load(folder, dtype=dtype),
        checkpoint.load(folder, dtype=dtype),
        languages("de", "en"),
    )
    expected = tune(whole, stages(whole), pairs, tmp_path / "whole", optimizer=optimizer)

    def interrupt(losses):
        if sum(map(len, losses)) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(broken, stages(broken), pairs, tmp_path / "broken", interrupt, optimizer=optimizer)
    resumed = checkpoint.load(folder, dtype=dtype)
    losses = tune(resumed, stages(resumed), pairs, tmp_path / "broken", optimizer=optimizer)
    assert losses == expected and [len(values) for values in losses] == [6, 0, 6]
    assert all(
        torch.equal(weight, weights_of(whole)[name]) for name, weight in weights_of(resumed).items()
    )


def test_full_fine_tuning_moves_every_weight_as_torch_would(folder, tmp_path):
    model, twin = checkpoint.load(folder), checkpoint.load(folder).requires_grad_(True)
    pairs = languages("en")
    tune(
        model,
        [Stage("all", None, ["en"])],
        pairs,
        tmp_path / "checkpoint",
        epochs=1,
        batch_size=10,
        lr=1e-3,
        warmup=0,
    )
    optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-3, weight_decay=0.1)
    (
        sum(by_definition(twin, pair) for pair in pairs["en"].train)
        / sum(pair.reply_tokens for pair in pairs["en"].train)
    ).backward()
    torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
    optimizer.step()
    for name, weight in twin.named_parameters():
        seen = weight.grad.abs() > 1e-6  # below, rounding decides which way Adam's first step goes
        assert torch.allclose(
            weight[seen], dict(model.named_parameters())[name][seen], atol=1e-6
        ), name


def test_every_epoch_sees_every_pair_once_in_an_order_of_its_own():
    args = arguments(batch_size=4)
    epochs = [
        [i for step in range(3) for i in finetune.batch_of(3 * epoch + step, 10, args, 0)]
        for epoch in range(2)
    ]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs) and epochs[0] != epochs[1]


def test_the_learning_rate_warms_up_then_falls():
    rates = [finetune.learning_rate(step, 100, arguments(lr=1.0)) for step in range(100)]
    assert rates[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert all(a > b for a, b in zip(rates[10:], rates[11:])) and 0 < rates[-1] < 0.001
    assert rates[55] == pytest.approx(0.5)
    assert [
        finetune.learning_rate(step, 10, arguments(lr=1.0, schedule="constant", warmup=0))
        for step in range(10)
    ] == [1.0] * 10
    assert math.isfinite(finetune.learning_rate(0, 1, arguments(warmup=1.0)))


def test_a_loss_that_is_not_finite_names_step_and_batch_and_keeps_the_checkpoint(model, tmp_path):
    mask, path = random_mask(model), tmp_path / "checkpoint"
    with pytest.raises(
        InputError,
        match=r"step 2 of 6 \(all\): the loss is (nan|inf) .*en.jsonl:\d+.* the checkpoint before is kept",
    ):
        tune(
            model,
            [Stage("all", mask, ["en"])],
            languages("en"),
            path,
            lr=1e30,
            warmup=0,
            checkpoint_steps=1,
        )
    losses, state = finetune.load_checkpoint(path, model, weight_rows(model, mask))
    assert len(losses[0]) == 1 and all(tensor.isfinite().all() for tensor in state.values())
