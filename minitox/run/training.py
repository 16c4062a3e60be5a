"""Make one model: run its stages with checkpoints, measure losses, verify frozen rows."""

import hashlib
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from minitox import neurons
from minitox.errors import InputError, NotFinite, user_errors
from minitox.files import (
    as_written,
    fitting,
    is_finite,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from minitox.lm import checkpoint
from minitox.lm.batching import batches
from minitox.lm.config import Config
from minitox.lm.model import LanguageModel
from minitox.run import distributed, sharding
from minitox.run.tuning import Procedure, Tuning
from minitox.train import dpo, frozen, interventions
from minitox.train.pairs import Pair, Pairs
from minitox.train.plans import Plan
from minitox.train.strategies import Stage, count_weights, weight_rows
from minitox.train.tune import Hyperparameters

Losses = list[list[float]]  # of each stage, the loss of each step


def check_dtype(dtype):
    """InputError if gradients would vanish in this dtype."""
    if dtype == torch.float16:
        raise InputError("gradients vanish in float16; use --dtype bfloat16 or float32")


def make_model(
    model: LanguageModel,  # the base model, changed in place
    plan: Plan,
    pairs: dict[str, Pairs],
    hyper: Hyperparameters,
    procedure: Procedure,
    work: Path,  # folder of the checkpoint, from which a rerun resumes
    show=lambda steps, more="": None,  # progress, called after every step
) -> Losses:
    """Scale neurons, or tune them through the stages of a plan; returns the losses.

    NotFinite if a loss or a weight is not finite; the last checkpoint then remains.
    """
    if plan.scale is not None:
        fold(model, plan.scale)
        return []
    path = work / "checkpoint.safetensors"
    weights = dict(model.named_parameters())
    all_rows = weight_rows(model, plan.mask)
    losses, state = load_checkpoint(path, weights, all_rows)
    if path.exists():
        examples = [examples_of(stage, pairs) for stage in plan.stages]
        check_losses(path, losses, [hyper.steps(len(of_stage)) for of_stage in examples])
    model.model.activation_checkpointing = procedure.activation_checkpointing
    for number, stage in enumerate(plan.stages):
        # 1) after a kill: earlier stages are done, and this one may have begun
        if number < len(losses) - 1:
            continue
        if number == len(losses):
            losses.append([])
        rows = weight_rows(model, stage.mask)
        if not rows:
            continue  # no neuron of this language was chosen

        # 2) an optimizer of its own: no momentum of one language moves neurons of another
        with Tuning(model, weights, rows, hyper.weight_decay, procedure) as tuning:
            start = len(losses[-1])
            if start:
                tuning.set_state(state, start, path)

            # 3) the method's loop, with a checkpoint now and then
            examples = examples_of(stage, pairs)
            steps = hyper.steps(len(examples))
            with user_errors(f"{stage.name}: "):
                for loss in tuning.steps(examples, hyper, number, start):
                    losses[-1].append(loss)
                    step = len(losses[-1])
                    if step % procedure.checkpoint_steps == 0 or step == steps:
                        save_checkpoint(path, weights, all_rows, tuning, losses)
                    show(sum(map(len, losses)), f", loss {loss:.3f}")

        # 4) what the next stage starts from: what this one has taught and made the model forget
        if len(plan.stages) > 1:
            measure_after_stage(model, pairs, procedure, work / after_stage(number))
    model.requires_grad_(False)
    model.model.activation_checkpointing = False
    return losses


def examples_of(stage: Stage, pairs: dict[str, Pairs]) -> list[Pair]:
    """The pairs that a stage is tuned on; none if it tunes no neuron."""
    if stage.mask is not None and not neurons.count(stage.mask):
        return []
    return [pair for language in stage.languages for pair in pairs[language].train]


def fold(model: LanguageModel, scale: dict):
    """Scale neurons in the weights (interventions.py), each process the rows that it holds."""
    weights = {}
    factors = {}
    for name, of_module in scale.items():
        weight = model.get_submodule(name).weight
        weights[name] = sharding.local(weight)
        factors[name] = sharding.local_rows(torch.from_numpy(of_module), weight)
    interventions.fold(weights, factors)


# Checkpoints: the same file however many processes there are


def save_checkpoint(path: Path, weights, rows, tuning: Tuning, losses: Losses):
    """Write the tuned rows, the optimizer's state and the losses; for all processes to call.

    `rows` are those that any stage tunes. FloatingPointError if a number is not finite; then
    nothing is written.
    """
    tensors = {}
    for name, mask in rows.items():
        weight = weights[name].detach()
        chosen = sharding.local(weight)[sharding.local_rows(mask, weight)]
        tensors[f"{name} rows"] = cpu_on_first(sharding.all_chosen(chosen, weight, mask))
    for key, tensor in tuning.whole_state():
        tensors[key] = cpu_on_first(tensor)
    broken = [key for key, tensor in tensors.items() if distributed.FIRST and not is_finite(tensor)]
    if broken := distributed.broadcast(broken):
        raise FloatingPointError(f"step {len(losses[-1])}: {broken[0]} contain NaN or infinity")
    if distributed.FIRST:
        write_tensors(path, tensors, "train", {"losses": losses})


def cpu_on_first(tensor):
    """A tensor on the CPU of the first process; the others need no memory for it."""
    return tensor.cpu() if distributed.FIRST else None


def load_checkpoint(path: Path, weights, rows) -> tuple[Losses, dict]:
    """Put the tuned rows back into the weights; returns losses and the optimizer's state."""
    if not path.exists():
        return [], {}
    tensors, about = read_tensors(path, "train", "checkpoint")
    losses = as_written(path, about, losses=[[float]])["losses"]
    with fitting(path):
        for name, mask in rows.items():
            weight = weights[name].detach()
            mine = sharding.local_chosen(tensors.pop(f"{name} rows"), weight, mask)
            sharding.local(weight)[sharding.local_rows(mask, weight)] = mine.to(mask.device)
    return losses, tensors


def check_losses(path: Path, losses: Losses, steps: list[int]):
    """InputError if a checkpoint's losses are not those of finished stages and one more.

    `steps`: of every stage.
    """
    *before, last = [len(of_stage) for of_stage in losses] or [0]
    stage = len(before)
    if stage >= len(steps) or before != steps[:stage] or not 0 < last <= steps[stage]:
        raise InputError(f"{path} is broken: its losses are not those of this run; delete it")


# Before, between and after


def after_stage(number: int) -> str:
    """The name of the file of losses after a stage, in the work folder."""
    return f"after-stage-{number}.json"


def measure_after_stage(model: LanguageModel, pairs: dict[str, Pairs], procedure, path: Path):
    """Write the validation loss of each language, unless a killed run has; for all processes."""
    if distributed.broadcast(path.exists()):
        return
    losses = losses_aside(model, pairs, procedure, parts=("validation",))
    if distributed.FIRST:
        write_json(path, losses)


def losses_after_stages(plan: Plan, work: Path) -> list[dict[str, float | None] | None]:
    """The validation loss of each language after each stage; None if it was not measured.

    That is after a stage that tunes no neuron, and if there is a single stage.
    """
    losses = []
    for number in range(len(plan.stages)):
        path = work / after_stage(number)
        of_stage = None
        if path.exists():
            parts = as_written(path, read_json(path), validation={str: float | None})
            of_stage = parts["validation"]
        losses.append(of_stage)
    return losses


def before_tuning(
    model: LanguageModel,  # the base model
    pairs: dict[str, Pairs],
    procedure: Procedure,
    base: Path,  # its folder
) -> tuple[dict[str, Pairs], dict]:
    """The pairs with what the objective needs of the base model, and `losses_aside`."""
    pairs = with_references(model, pairs, procedure)
    return pairs, losses_aside(model, pairs, procedure, base)


def losses_aside(
    model: LanguageModel,
    pairs: dict[str, Pairs],
    procedure: Procedure,
    base: Path | None = None,  # the model's folder, if it is not tuned
    parts: tuple[str, ...] = ("validation", "test"),
) -> dict[str, dict[str, float | None]]:
    """For each part, the mean loss of each language's pairs; None if it has none.

    For all processes to call. NotFinite if a loss is not finite.
    """
    means = {part: {} for part in parts}
    for language, of_language in pairs.items():
        for part in parts:
            mean = mean_loss(model, of_language.aside[part], procedure)
            means[part][language] = mean
            if mean is not None and not math.isfinite(mean):
                reason = f"the loss on the {part} pairs of {language} is {mean:g}"
                if base:
                    reason = f"{base}: {reason}; check its weights and --dtype"
                raise NotFinite(reason)
    return means


def recorded_losses(
    pairs: dict[str, Pairs],
    before: dict[str, dict],  # as `losses_aside` gives them
    after: dict[str, dict],
) -> dict[str, dict[str, dict]]:
    """The losses on validation and test pairs with the numbers of pairs, as run.json has them."""
    losses = {part: {} for part in before}
    for language, of_language in pairs.items():
        for part, of_part in of_language.aside.items():
            losses[part][language] = {
                "pairs": len(of_part),
                "before": before[part][language],
                "after": after[part][language],
            }
    return losses


@torch.inference_mode()
def mean_loss(model: LanguageModel, pairs: list[Pair], procedure: Procedure) -> float | None:
    """The mean loss of some pairs, of DPO over pairs, else over reply tokens; None without pairs.

    For all processes to call.
    """
    if not pairs:
        return None
    objective = procedure.loss_functions
    lengths = [objective.tokens_of(pair) for pair in pairs]
    groups = batches(lengths, procedure.batch_tokens)
    total = 0
    for loss in of_micro_batches(objective.loss, model, pairs, groups):
        total += loss.item()
    return total / sum(map(objective.size_of, pairs))


def of_micro_batches(compute, model: LanguageModel, pairs: list[Pair], groups) -> list:
    """`compute(model, micro-batch)` of all groups of pairs, in order, each by one process."""
    mine = []
    for group in distributed.deal(groups):
        micro_batch = [pairs[i] for i in group or groups[0]]
        mine.append(compute(model, micro_batch).cpu())
    of_processes = distributed.gather(mine)
    results = []
    for number in range(len(groups)):
        turn, process = divmod(number, distributed.WORLD)
        results.append(of_processes[process][turn])
    return results


# What DPO needs of the base model, and what it changes


def with_references(
    model: LanguageModel,  # the base model
    pairs: dict[str, Pairs],
    procedure: Procedure,
) -> dict[str, Pairs]:
    """The pairs with the log-probabilities of their replies by the base model, if DPO needs them.

    For all processes to call. NotFinite if one is not finite.
    """
    if procedure.objective != "dpo":
        return pairs
    known = {}
    for language, of_language in pairs.items():
        parts = {}
        for part in ("train", "validation", "test"):
            parts[part] = refer(model, getattr(of_language, part), procedure)
        known[language] = replace(of_language, **parts)
    return known


def refer(model: LanguageModel, pairs: list[Pair], procedure: Procedure) -> list[Pair]:
    """The pairs, each reply with its log-probability by the base model as `reference_log_p`."""
    log_p = log_probabilities(model, dpo.both_replies(pairs), procedure).tolist()
    referred = []
    for pair, of_reply, of_rejected in zip(
        pairs, log_p[: len(pairs)], log_p[len(pairs) :], strict=True
    ):
        if not math.isfinite(of_reply + of_rejected):
            raise NotFinite(
                f"{pair.where}: the base model gives a reply the log-probability "
                f"{of_reply:g}, the rejected one {of_rejected:g}; check its weights and --dtype"
            )
        rejected = replace(pair.rejected, reference_log_p=of_rejected)
        referred.append(replace(pair, reference_log_p=of_reply, rejected=rejected))
    return referred


@torch.inference_mode()
def log_probabilities(model: LanguageModel, replies: list[Pair], procedure: Procedure):  # -> (B,)
    """The log-probability of each reply; for all processes to call."""
    if not replies:
        return torch.zeros(0)
    compute = partial(dpo.log_probabilities, reference=procedure.reference)
    groups = batches([len(reply.ids) for reply in replies], procedure.batch_tokens)
    log_p = torch.zeros(len(replies), dtype=torch.float64)
    for group, of_group in zip(
        groups, of_micro_batches(compute, model, replies, groups), strict=True
    ):
        log_p[group] = of_group.double()
    return log_p


def preferences_aside(
    model: LanguageModel, pairs: dict[str, Pairs], procedure: Procedure
) -> dict[str, dict]:
    """For "validation" and "test", what `dpo.preferences` says of each language's pairs.

    Nothing without DPO; None instead of a number if there are no such pairs. For all processes to
    call.
    """
    if procedure.objective != "dpo":
        return {}
    measured = {"validation": {}, "test": {}}
    for language, of_language in pairs.items():
        for part, aside in of_language.aside.items():
            log_p = log_probabilities(model, dpo.both_replies(aside), procedure)
            measured[part][language] = dpo.preferences(aside, log_p, procedure.beta)
    return {"preferences": measured}


def after_tuning(model: LanguageModel, pairs: dict[str, Pairs], procedure: Procedure) -> dict:
    """`losses_aside` of a tuned model, and with DPO its `preferences_aside`."""
    losses = losses_aside(model, pairs, procedure)
    return losses | preferences_aside(model, pairs, procedure)


def prove(base: Path, tuned: Path, rows) -> dict:
    """The proof that two folders differ in the tuned rows alone, as run.json records it."""
    proof = frozen.prove(checkpoint.side_by_side(base, tuned), rows, hash_of)
    lines = "".join(f"{name} {hash}\n" for name, hash in proof.frozen_hashes.items())
    return {
        "frozen_sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "frozen_weights": proof.frozen_weights,
        "tuned_weights": proof.tuned_weights,
        "changed": proof.changed,
    }


def hash_of(weight) -> str:
    return hashlib.sha256(checkpoint.raw(weight)).hexdigest()


def costs(
    plans: list[Plan],
    config: Config,
    dtype,
    pairs: dict[str, Pairs],
    hyper: Hyperparameters,
    reference: bool,
) -> dict[str, list[dict]]:
    """For each plan's stages: bytes of the optimizer's state, pairs, and steps."""
    bytes_each = 8 if dtype == torch.float32 else 12  # two moments, and master weights
    of_plans = {}
    for plan in plans:
        of_plans[plan.name] = []
        for stage in plan.stages:
            mask = stage.mask
            examples = len(examples_of(stage, pairs))
            if reference and mask is not None:  # its state has whole matrices
                mask = {name: rows | rows.any() for name, rows in mask.items()}
            cost = {
                "name": stage.name,
                "optimizer_bytes": bytes_each * count_weights(config, mask),
                "pairs": examples,
                "steps": hyper.steps(examples),
            }
            of_plans[plan.name].append(cost)
    return of_plans
