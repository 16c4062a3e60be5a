"""Tuning in stages: only chosen rows move, and a killed run resumes to the same bits."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import state_bytes, write_neurons
from tuning import (
    HYPER,
    PROCEDURE,
    loss_by_definition,
    one_stage,
    pairs_in,
    random_mask,
    some_pairs,
    weights_of,
)

from minitox.errors import InputError, NotFinite
from minitox.files import read_tensors, write_json
from minitox.lm import checkpoint
from minitox.lm.batching import batches
from minitox.run import distributed, training, training_record
from minitox.run import tuning as stage_of_tuning
from minitox.run.training import make_model
from minitox.run.tuning import Tuning
from minitox.train import loss as loss_on_replies
from minitox.train.loss import chunked_reply_loss
from minitox.train.optim import MaskedAdamW
from minitox.train.pairs import Pair, Pairs
from minitox.train.plans import Choice, Plan, tuning_plans
from minitox.train.row_optim import RowAdamW
from minitox.train.strategies import Stage, count_weights, weight_rows

REFERENCE = replace(PROCEDURE, reference=True)
PROCEDURES = [PROCEDURE, REFERENCE]
DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture
def model(folder):
    return checkpoint.load(folder)


# What a step computes


def test_a_step_computed_in_micro_batches_is_the_same_step(folder, tmp_path):
    hyper = replace(HYPER, epochs=1)
    results = []
    for tokens in (1_000, 25, 1):
        model = checkpoint.load(folder)
        procedure = replace(PROCEDURE, batch_tokens=tokens)
        plan = one_stage(random_mask(model))
        path = tmp_path / f"{tokens}"
        losses = make_model(model, plan, pairs_in("en"), hyper, procedure, path)
        results.append((losses[0], weights_of(model)))
    expected_losses, expected = results[0]
    for losses, weights in results[1:]:
        assert losses == pytest.approx(expected_losses, rel=1e-4)
        for name, weight in weights.items():
            assert torch.allclose(weight, expected[name], atol=1e-4)


def test_the_reference_trains_the_same_model(folder, tmp_path):
    results = []
    for procedure in PROCEDURES:
        model = checkpoint.load(folder)
        plan = one_stage(random_mask(model))
        path = tmp_path / f"{procedure.reference}"
        losses = make_model(model, plan, pairs_in("en"), HYPER, procedure, path)
        results.append((losses[0], weights_of(model)))
    (losses, weights), (reference_losses, reference_weights) = results
    assert losses == pytest.approx(reference_losses, rel=1e-4)
    assert losses[-1] < losses[0]
    for name, weight in weights.items():
        assert torch.allclose(weight, reference_weights[name], atol=1e-4)


def test_the_reference_runs_on_the_readable_implementations_alone(model, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise AssertionError("a fast implementation was used")

    for fast in ("RowAdamW", "RowGradients"):
        monkeypatch.setattr(stage_of_tuning, fast, fail)
    monkeypatch.setattr(loss_on_replies, "chunked_reply_loss", fail)
    plan = one_stage(random_mask(model))
    pairs = pairs_in("en")
    make_model(model, plan, pairs, HYPER, REFERENCE, tmp_path / "checkpoint")
    training.losses_aside(model, pairs, REFERENCE)


@pytest.mark.parametrize("procedure", PROCEDURES)
def test_full_fine_tuning_moves_every_weight_as_torch_would(folder, tmp_path, procedure):
    pairs = pairs_in("en")
    hyper = replace(HYPER, epochs=1, batch_size=10, lr=1e-3, warmup=0)
    model = checkpoint.load(folder)
    make_model(model, one_stage(None), pairs, hyper, procedure, tmp_path / "checkpoint")

    # one step of torch's AdamW
    twin = checkpoint.load(folder).requires_grad_(True)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-3, weight_decay=0.1)
    loss = sum(loss_by_definition(twin, pair) for pair in pairs["en"].train)
    (loss / sum(pair.reply_tokens for pair in pairs["en"].train)).backward()
    torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
    optimizer.step()
    for name, weight in twin.named_parameters():
        # below, rounding decides the sign of Adam's first step
        decided = weight.grad.abs() > 1e-6
        tuned = model.get_parameter(name)
        assert torch.allclose(weight[decided], tuned[decided], atol=1e-6), name


def test_activation_checkpointing_changes_no_weight(folder, tmp_path):
    results = []
    for activation_checkpointing in (False, True):
        model = checkpoint.load(folder)
        procedure = replace(PROCEDURE, activation_checkpointing=activation_checkpointing)
        plan = one_stage(random_mask(model))
        path = tmp_path / f"{activation_checkpointing}"
        seen = []

        def look(steps, more, transformer=model.model, seen=seen):
            seen.append(transformer.activation_checkpointing)

        make_model(model, plan, pairs_in("en"), HYPER, procedure, path, look)
        results.append(weights_of(model))
        # on while tuning, off afterwards
        assert seen == [activation_checkpointing] * 6
        assert not model.model.activation_checkpointing
        assert not any(weight.requires_grad for weight in model.parameters())
    for name, weight in results[0].items():
        assert torch.equal(weight, results[1][name])


# Which weights move


@pytest.mark.parametrize("procedure", PROCEDURES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_weight_outside_the_masks_keeps_every_bit_from_language_to_language(
    folder, tmp_path, procedure, dtype
):
    model = checkpoint.load(folder, dtype=dtype)
    first = random_mask(model, seed=1)
    second = random_mask(model, seed=2)
    plan = Plan("two stages", [Stage("de", first, ["de"]), Stage("en", second, ["en"])])
    before = weights_of(model)
    between = {}

    def copy_after_first_stage(steps, more):
        if steps == 6:
            between.update({name: weight.detach().clone() for name, weight in weights.items()})

    weights = dict(model.named_parameters())
    path = tmp_path / "checkpoint"
    pairs = pairs_in("de", "en")
    make_model(model, plan, pairs, HYPER, procedure, path, copy_after_first_stage)
    after = weights_of(model)
    for name in before:
        module = name.removesuffix(".weight")
        no_row = np.zeros(len(before[name]), dtype=bool)
        in_first = torch.from_numpy(first.get(module, no_row))
        in_second = torch.from_numpy(second.get(module, no_row))
        assert torch.equal(between[name][~in_first], before[name][~in_first])
        assert torch.equal(after[name][~in_second], between[name][~in_second])
        if module in first:
            assert (between[name][in_first] != before[name][in_first]).float().mean() > 0.9
            assert (after[name][in_second] != between[name][in_second]).float().mean() > 0.9


def test_weights_without_a_chosen_row_get_no_gradient(model):
    mask = random_mask(model)
    mask["model.layers.0.mlp.gate_proj"][:] = False
    mask["model.layers.0.mlp.up_proj"][:] = True
    weights = dict(model.named_parameters())
    for weight in weights.values():
        weight.grad = torch.ones_like(weight)  # as an earlier stage may leave it
    rows = weight_rows(model, mask)
    with Tuning(model, weights, rows, HYPER.weight_decay, PROCEDURE) as tuning:
        chunked_reply_loss(model, some_pairs(2), 1.0)
        row_grads = tuning.row_grads
    for name, weight in weights.items():
        chosen = mask.get(name.removesuffix(".weight"), np.zeros(1, dtype=bool))
        assert (weight.grad is not None) == chosen.all()
        assert (name in row_grads) == (chosen.any() and not chosen.all())
    with_state = {f"{name}.weight" for name in mask} - {"model.layers.0.mlp.gate_proj.weight"}
    assert tuning.optimizer.state.keys() == with_state


# Checkpoints


@pytest.mark.parametrize("procedure", PROCEDURES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stop", [1, 2, 5, 7, 12])
def test_a_run_that_was_killed_ends_with_the_same_bits(folder, tmp_path, procedure, dtype, stop):
    """Stopped before, at and after a checkpoint, in the first and in the second language, and
    at the end; a third language has no neuron.
    """
    pairs = pairs_in("de", "en")

    def tune(model, path, show=lambda steps, more: None):
        no_neuron = {name: rows & False for name, rows in random_mask(model).items()}
        stages = [
            Stage("de", random_mask(model, seed=1), ["de"]),
            Stage("fr", no_neuron, ["de"]),
            Stage("en", random_mask(model, seed=2), ["en"]),
        ]
        plan = Plan("three stages", stages)
        return make_model(model, plan, pairs, HYPER, procedure, path, show)

    def interrupt(steps, more):
        if steps == stop:
            raise KeyboardInterrupt

    expected = checkpoint.load(folder, dtype=dtype)
    expected_losses = tune(expected, tmp_path / "expected")
    broken = checkpoint.load(folder, dtype=dtype)
    with pytest.raises(KeyboardInterrupt):
        tune(broken, tmp_path / "broken", interrupt)
    resumed = checkpoint.load(folder, dtype=dtype)
    losses = tune(resumed, tmp_path / "broken")
    assert losses == expected_losses
    assert [len(values) for values in losses] == [6, 0, 6]
    for name, weight in weights_of(resumed).items():
        assert torch.equal(weight, expected.get_parameter(name))


@pytest.mark.parametrize("stop", [1, 5, 6, 7, 9, 12])
def test_losses_after_each_stage_are_those_of_the_model_then_also_after_a_kill(
    folder, tmp_path, stop
):
    """Killed in the first stage, at its end, and in the second; a third stage tunes nothing."""
    pairs = pairs_in("de", "en")

    def plan_of(model, count=3) -> Plan:
        no_neuron = {name: rows & False for name, rows in random_mask(model).items()}
        stages = [
            Stage("de", random_mask(model, seed=1), ["de"]),
            Stage("fr", no_neuron, ["de"]),
            Stage("en", random_mask(model, seed=2), ["en"]),
        ]
        return Plan("stages", stages[:count])

    def tune(model, path, show=lambda steps, more: None):
        make_model(model, plan_of(model), pairs, HYPER, PROCEDURE, path, show)
        return training.losses_after_stages(plan_of(model), path)

    def interrupt(steps, more):
        if steps == stop:
            raise KeyboardInterrupt

    # 1) by the models that were tuned up to there
    expected = []
    for count in (2, 3):
        model = checkpoint.load(folder)
        make_model(model, plan_of(model, count), pairs, HYPER, PROCEDURE, tmp_path / str(count))
        expected.append(training.losses_aside(model, pairs, PROCEDURE)["validation"])
    after_de, after_en = expected
    assert after_de != after_en and after_de.keys() == {"de", "en"}

    # 2) killed and resumed
    with pytest.raises(KeyboardInterrupt):
        tune(checkpoint.load(folder), tmp_path / "broken", interrupt)
    assert tune(checkpoint.load(folder), tmp_path / "broken") == [after_de, None, after_en]


def test_a_model_of_one_stage_is_measured_at_its_end_alone(model, tmp_path):
    plan = one_stage(random_mask(model))
    make_model(model, plan, pairs_in("en"), HYPER, PROCEDURE, tmp_path)
    assert training.losses_after_stages(plan, tmp_path) == [None]
    assert not list(tmp_path.glob("after-stage-*"))


def test_losses_after_a_stage_that_are_not_finite_stop_the_run(model, tmp_path):
    model.model.norm.weight.data *= torch.inf
    with pytest.raises(NotFinite, match="the loss on the validation pairs of en is nan"):
        training.measure_after_stage(model, pairs_in("en"), PROCEDURE, tmp_path / "after.json")
    assert not (tmp_path / "after.json").exists()


def test_the_last_step_of_a_stage_is_in_the_checkpoint(model, tmp_path):
    path = tmp_path / "checkpoint"
    mask = random_mask(model)
    procedure = replace(PROCEDURE, checkpoint_steps=4)
    losses = make_model(model, one_stage(mask), pairs_in("en"), HYPER, procedure, path)
    weights = dict(model.named_parameters())
    saved_losses, _ = training.load_checkpoint(
        path / "checkpoint.safetensors", weights, weight_rows(model, mask)
    )
    assert saved_losses == losses


def test_a_loss_that_is_not_finite_names_step_and_batch_and_the_checkpoint_remains(model, tmp_path):
    mask = random_mask(model)
    path = tmp_path / "checkpoint"
    hyper = replace(HYPER, lr=1e30, warmup=0)
    procedure = replace(PROCEDURE, checkpoint_steps=1)
    message = r"all: step 2 of 6: the loss is (nan|inf) .*en.jsonl:\d+"
    weights = dict(model.named_parameters())
    with pytest.raises(NotFinite, match=message):
        make_model(model, one_stage(mask), pairs_in("en"), hyper, procedure, path)
    assert dict(model.named_parameters()).keys() == weights.keys()
    losses, state = training.load_checkpoint(
        path / "checkpoint.safetensors", weights, weight_rows(model, mask)
    )
    assert len(losses[0]) == 1
    assert all(tensor.isfinite().all() for tensor in state.values())


@pytest.mark.parametrize("procedure", PROCEDURES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_reach_no_checkpoint(
    model, tmp_path, procedure, value, monkeypatch
):
    """An optimizer whose fourth step leaves a weight that is not finite."""
    optimizer = MaskedAdamW if procedure.reference else RowAdamW
    right_step = optimizer.step
    mask = random_mask(model)
    rows = weight_rows(model, mask)

    def wrong_step(self, lr, scale=1.0):
        right_step(self, lr, scale)
        if self.steps == 4:
            name = next(iter(self.weights))
            self.weights[name].data[rows[name]] = value

    monkeypatch.setattr(optimizer, "step", wrong_step)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(NotFinite, match="all: step 4: .* rows contain NaN or infinity$"):
        make_model(model, one_stage(mask), pairs_in("en"), HYPER, procedure, tmp_path)
    _, about = read_tensors(path, "train", "checkpoint")
    assert [len(stage) for stage in about["losses"]] == [2]


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_loss_aside_that_is_not_finite_names_pairs_language_and_base_model(model, part):
    pairs = pairs_in("de", "en")
    if part == "test":
        pairs["de"].validation.clear()
    model.model.norm.weight.fill_(3e38)
    with pytest.raises(NotFinite, match=f"^the loss on the {part} pairs of de is (nan|inf)$"):
        training.losses_aside(model, pairs, PROCEDURE)
    with pytest.raises(NotFinite, match="^soup: the loss .*; check its weights and --dtype$"):
        training.losses_aside(model, pairs, PROCEDURE, Path("soup"))


def test_a_file_of_a_model_that_is_gone_added_or_another_is_named(folder):
    write_json(folder / "run.json", {"files": training_record.file_hashes(folder)})
    training_record.check_files(folder)
    (folder / "notes.txt").write_text("a user's own file does not matter")
    training_record.check_files(folder)

    (folder / "chat_template.jinja").write_text("another format")
    with pytest.raises(InputError, match="chat_template.jinja is not from train.py; move it away"):
        training_record.check_files(folder)
    (folder / "chat_template.jinja").unlink()

    tokenizer = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(tokenizer + " ")
    with pytest.raises(InputError, match="tokenizer.json is not the file that train.py wrote"):
        training_record.check_files(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="tokenizer.json is missing; put it back, or delete"):
        training_record.check_files(folder)


def test_a_checkpoint_of_other_rows_is_refused(model, tmp_path):
    path = tmp_path / "checkpoint"
    plan = one_stage(random_mask(model))
    make_model(model, plan, pairs_in("en"), HYPER, PROCEDURE, path)
    other = one_stage(random_mask(model, share=0.9))
    with pytest.raises(
        InputError, match="checkpoint.safetensors is broken: it does not fit the model"
    ):
        make_model(model, other, pairs_in("en"), HYPER, PROCEDURE, path)


@pytest.mark.parametrize(
    "losses",
    [
        [],
        [[]],
        [[0.5] * 2],
        [[0.5] * 6, []],
        [[0.5] * 6, [], []],
        [[0.5] * 6, [], [0.5] * 7],
        [[0.5] * 6, [0.5], [0.5] * 6],
        [[0.5] * 6, [], [0.5] * 2, [0.5]],
    ],
)
def test_a_checkpoint_of_steps_that_no_run_has_made_is_refused(losses):
    """Three stages of 6 steps, of which the second tunes nothing; a checkpoint after 6 + 2."""
    path = Path("checkpoint.safetensors")
    steps = [6, 0, 6]
    training.check_losses(path, [[0.5] * 6, [], [0.5] * 2], steps)
    training.check_losses(path, [[0.5] * 6], steps)
    if losses == [[0.5] * 2]:
        steps = [1, 0, 6]
    with pytest.raises(InputError, match="its losses are not those of this run; delete it"):
        training.check_losses(path, losses, steps)


# Several processes


def dealt(monkeypatch, world: int, lengths: list[int], tokens: int) -> list[list[list[int]]]:
    """The micro-batches of each of `world` processes."""
    monkeypatch.setattr(distributed, "WORLD", world)
    of_processes = []
    for rank in range(world):
        monkeypatch.setattr(distributed, "RANK", rank)
        of_processes.append(stage_of_tuning.micro_batches_dealt(lengths, tokens))
    return of_processes


LENGTHS = [12, 5, 9, 9, 3, 20, 2]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_enough_micro_batches_are_dealt_as_they_are(monkeypatch, world):
    """The gradient of a micro-batch then has the bits that it has in a single process."""
    groups = batches(LENGTHS, 20)
    assert len(groups) >= world
    of_processes = dealt(monkeypatch, world, LENGTHS, 20)
    turns = [group for turn in zip(*of_processes, strict=True) for group in turn]
    assert turns[: len(groups)] == groups
    assert not any(turns[len(groups) :])


@pytest.mark.parametrize("world, tokens", [(2, 1_000), (3, 1_000), (3, 50), (9, 1_000)])
def test_too_few_micro_batches_are_divided_so_that_every_process_has_pairs(
    monkeypatch, world, tokens
):
    assert len(batches(LENGTHS, tokens)) < world
    of_processes = dealt(monkeypatch, world, LENGTHS, tokens)
    assert len({len(groups) for groups in of_processes}) == 1  # as many turns for every process
    indices = []
    longest_pairs = []
    for groups in of_processes:
        mine = sum(groups, [])
        indices += mine
        if mine:
            longest_pairs.append(max(LENGTHS[i] for i in mine))
        for group in groups:
            longest = max((LENGTHS[i] for i in group), default=0)
            assert len(group) * longest <= tokens
    assert sorted(indices) == list(range(len(LENGTHS)))
    # the longest pairs go to different processes
    assert longest_pairs == sorted(LENGTHS, reverse=True)[:world]


# Around tuning


@pytest.mark.parametrize("procedure", PROCEDURES)
@pytest.mark.parametrize("tokens", [1_000, 20])
def test_a_loss_aside_is_the_mean_over_reply_tokens(model, procedure, tokens):
    pairs = pairs_in("de", "en")
    pairs["en"].validation.clear()
    procedure = replace(procedure, batch_tokens=tokens)
    losses = training.losses_aside(model, pairs, procedure)

    def expected(aside: list[Pair]):
        total = sum(loss_by_definition(model, pair).item() for pair in aside)
        return pytest.approx(total / sum(pair.reply_tokens for pair in aside), rel=1e-5)

    assert losses == {
        "validation": {"de": expected(pairs["de"].validation), "en": None},
        "test": {"de": expected(pairs["de"].test), "en": expected(pairs["en"].test)},
    }


def test_folding_multiplies_the_rows_of_the_model(folder, model):
    scale = {}
    for name, rows in random_mask(model).items():
        scale[name] = np.where(rows, 0.25, 1.0)
    training.fold(model, scale)
    for name, weight in checkpoint.load(folder).named_parameters():
        factors = torch.from_numpy(scale.get(name.removesuffix(".weight"), np.ones(len(weight))))
        shape = (-1, *[1] * (weight.dim() - 1))
        assert torch.equal(model.get_parameter(name), weight * factors.float().view(shape))


def test_an_intervention_has_no_losses(model, tmp_path):
    mask = random_mask(model)
    scale = {name: np.where(rows, 0.0, 1.0) for name, rows in mask.items()}
    plan = Plan("det0", scale=scale)
    assert make_model(model, plan, {}, HYPER, PROCEDURE, tmp_path) == []
    for name, rows in mask.items():
        zero = (model.get_submodule(name).weight == 0).all(dim=1)
        assert (zero.numpy() == rows).all()


def test_the_proof_of_two_folders_has_one_hash_of_all_frozen_rows(folder, model, tmp_path):
    rows = weight_rows(model, random_mask(model))
    for name, chosen in rows.items():
        model.get_parameter(name)[chosen] += 0.1
    checkpoint.save(model, tmp_path / "tuned", source=folder)
    proof = training.prove(folder, tmp_path / "tuned", rows)

    frozen_weights = 0
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        frozen = weight[~rows.get(name, torch.zeros(len(weight), dtype=torch.bool))]
        frozen_weights += frozen.numel()
        digest.update(f"{name} {hashlib.sha256(frozen.numpy().tobytes()).hexdigest()}\n".encode())
    total = sum(weight.numel() for weight in model.parameters())
    assert proof == {
        "frozen_sha256": digest.hexdigest(),
        "frozen_weights": frozen_weights,
        "tuned_weights": total - frozen_weights,
        "changed": 1.0,
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("procedure", PROCEDURES)
@pytest.mark.parametrize("name", ["full", "multilingual"])
def test_the_announced_memory_is_the_memory_of_the_optimizer(
    folder, tmp_path, dtype, procedure, name
):
    # 1) a plan for three languages
    choice = Choice(top_share=0.2)
    languages = ["de", "en", "fr"]
    masks = {}
    pairs = {}
    for seed, language in enumerate(languages):
        auroc = write_neurons(tmp_path / f"{language}.safetensors", folder, seed)
        masks[language] = choice.toxic_neurons(auroc)
        pairs[language] = Pairs([Pair([0, 5, 1], 1, "")] * 9, [], [], 0, 0, "")
    (plan,) = tuning_plans(name, masks, languages, choice)
    mask = plan.stages[0].mask

    # 2) what is announced
    model = checkpoint.load(folder, dtype=dtype)
    hyper = replace(HYPER, epochs=1)
    (cost,) = training.costs([plan], model.config, dtype, pairs, hyper, procedure.reference)[name]
    assert cost["pairs"] == 27
    assert cost["steps"] == 7

    # 3) what the optimizer needs
    weights = dict(model.named_parameters())
    with Tuning(model, weights, weight_rows(model, mask), 0.0, procedure) as tuning:
        assert cost["optimizer_bytes"] == state_bytes(tuning.optimizer)
    if not procedure.reference:
        bytes_each = 8 if dtype == torch.float32 else 12
        assert cost["optimizer_bytes"] == count_weights(model.config, mask) * bytes_each


def test_a_stage_without_a_neuron_costs_nothing(model):
    no_neuron = {name: rows & False for name, rows in random_mask(model).items()}
    plan = Plan(
        "per-language", [Stage("de", no_neuron, ["de"]), Stage("en", random_mask(model), ["en"])]
    )
    pairs = pairs_in("de", "en")
    costs = training.costs([plan], model.config, torch.float32, pairs, HYPER, reference=False)
    german, english = costs["per-language"]
    assert german == {"name": "de", "optimizer_bytes": 0, "pairs": 0, "steps": 0}
    assert english["pairs"] == 10
    assert english["steps"] == 6
