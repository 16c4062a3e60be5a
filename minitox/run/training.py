"""Tuning around the method's loop: stages, checkpoints, several processes, sharded weights.

The loop, the loss and the optimizers see plain tensors. Of a sharded weight that is the rows that
this process holds, with their part of the mask and of the gradient.
"""

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import torch

from minitox import neurons
from minitox.errors import InputError, user_errors
from minitox.files import as_written, fitting, read_tensors, write_tensors
from minitox.lm import checkpoint
from minitox.lm.batching import batches
from minitox.lm.config import Config
from minitox.lm.model import LanguageModel
from minitox.neurons import NeuronMask
from minitox.run import distributed, sharding
from minitox.train import frozen, interventions
from minitox.train.loss import (
    add_gradients,
    chunked_reply_loss,
    reply_loss,
    reply_loss_and_gradients,
)
from minitox.train.optim import MaskedAdamW
from minitox.train.pairs import Pair, Pairs
from minitox.train.row_optim import RowAdamW, row_gradients
from minitox.train.strategies import Plan, count_weights, weight_rows
from minitox.train.tune import Hyperparameters, tune


@dataclass(frozen=True)
class Procedure:
    """How tuning is carried out, besides the hyperparameters."""

    batch_tokens: int  # most padded tokens of a micro-batch
    reference: bool = False  # the readable optimizer and loss
    activation_checkpointing: bool = False
    checkpoint_steps: int = 50


Losses = list[list[float]]  # of each stage, the loss of each step
ADVICE = (
    "; the checkpoint before this step is kept; try a lower --lr or --dtype float32, "
    "with another --out"
)


def check_dtype(dtype):
    """InputError if gradients would vanish in this dtype."""
    if dtype == torch.float16:
        raise InputError("gradients vanish in float16; use --dtype bfloat16 or float32")


def make(
    model: LanguageModel,
    plan: Plan,
    pairs: dict[str, Pairs],
    hyper: Hyperparameters,
    procedure: Procedure,
    work: Path,  # folder of the checkpoint
    show=lambda steps, more="": None,  # progress
) -> Losses:
    """Make a plan's model of the base model, in place; resumes from a checkpoint."""
    if plan.scale is not None:
        fold(model, plan.scale)
        return []
    return tune_in_stages(
        model, plan, pairs, hyper, procedure, work / "checkpoint.safetensors", show
    )


def tune_in_stages(
    model: LanguageModel,
    plan: Plan,
    pairs: dict[str, Pairs],
    hyper: Hyperparameters,
    procedure: Procedure,
    path: Path,  # of the checkpoint; resumes from it if it is there
    show=lambda steps, more="": None,  # progress, called after every step
) -> Losses:
    """Tune the model through the stages of a plan, in place; returns all losses.

    InputError if a loss is not finite; the last checkpoint then remains.
    """
    weights = dict(model.named_parameters())
    rows_of_stages = [weight_rows(model, stage.mask) for stage in plan.stages]
    all_rows = weight_rows(model, plan.mask)
    losses, state = load_checkpoint(path, weights, all_rows)
    model.model.activation_checkpointing = procedure.activation_checkpointing
    for number, stage in enumerate(plan.stages):
        # 1) after a kill: earlier stages are done, and this one may have begun
        if number < len(losses) - 1:
            continue
        if number == len(losses):
            losses.append([])
        rows = rows_of_stages[number]
        if not rows:
            continue  # no neuron of this language was chosen

        # 2) an optimizer of its own: no momentum of one language moves neurons of another
        with Tuning(model, weights, rows, hyper.weight_decay, procedure) as tuning:
            if losses[-1]:
                tuning.set_state(state, len(losses[-1]), path)

            # 3) the method's loop, with a checkpoint now and then
            examples = [pair for language in stage.languages for pair in pairs[language].train]
            steps = hyper.steps(len(examples))
            begun = len(losses[-1])
            with user_errors(f"{stage.name}: ", ADVICE):
                for loss in tuning.steps(examples, hyper, number, begun):
                    losses[-1].append(loss)
                    step = len(losses[-1])
                    if step % procedure.checkpoint_steps == 0 or step == steps:
                        save_checkpoint(path, weights, all_rows, tuning, losses)
                    show(sum(map(len, losses)), f", loss {loss:.3f}")
    model.requires_grad_(False)
    model.model.activation_checkpointing = False
    return losses


class Tuning:
    """The optimizer of a stage on plain tensors, and the gradients that it reads.

    A context manager: within the block, layers may compute the gradients of chosen rows alone.
    """

    def __init__(
        self,
        model: LanguageModel,
        weights,  # of the whole model; each may be sharded
        rows,  # (R,) bool: the rows of each weight that are tuned
        decay: float,
        procedure: Procedure,
    ):
        self.model = model
        self.weights = {name: weight for name, weight in weights.items() if name in rows}
        self.rows = rows
        self.decay = decay
        self.procedure = procedure
        self.sharded = [name for name in self.weights if sharding.is_sharded(weights[name])]
        # No weight without a chosen row gets a gradient
        for name, weight in weights.items():
            weight.grad = None
            weight.requires_grad_(name in rows)

    def __enter__(self) -> "Tuning":
        # Plain tensors: the rows held here, and their part of the mask
        local = dict(self.weights)
        masks = {}
        for name, weight in self.weights.items():
            masks[name] = sharding.local_rows(self.rows[name], weight)
            if name in self.sharded:
                local[name] = sharding.local(weight.detach())
        self.row_grads = {}
        self.layers = nullcontext()
        if self.procedure.reference:
            self.optimizer = MaskedAdamW(local, masks, decay=self.decay)
            # of each weight, the rows that the optimizer's state has an entry for
            self.state_rows = {name: torch.ones_like(mask) for name, mask in self.rows.items()}
            return self
        # FSDP sums whole gradients over the processes, so sharded weights have no row gradients
        self.layers = row_gradients(self.model, self.rows, whole=self.sharded)
        self.row_grads = self.layers.__enter__()
        self.optimizer = RowAdamW(local, masks, self.row_grads, decay=self.decay)
        self.state_rows = self.rows
        return self

    def __exit__(self, *error):
        self.layers.__exit__(*error)

    def steps(self, examples: list[Pair], hyper: Hyperparameters, stage: int, start: int):
        """The method's loop; yields the loss of each step."""
        add = self.add_gradients_dealt
        if distributed.WORLD == 1:
            add = partial(
                add_gradients,
                self.model,
                micro_batch_tokens=self.procedure.batch_tokens,
                loss_and_gradients=self.loss_and_gradients,
            )
        return tune(self.optimizer, examples, hyper, add, stage, start, self.total_norm)

    @property
    def loss_and_gradients(self) -> Callable:
        return reply_loss_and_gradients if self.procedure.reference else chunked_reply_loss

    def add_gradients_dealt(self, batch: list[Pair]):  # -> ()
        """`add_gradients` with the micro-batches dealt to the processes."""
        reply_tokens = sum(pair.reply_tokens for pair in batch)
        loss = torch.zeros((), device=self.model.model.embed_tokens.weight.device)
        lengths = [len(pair.ids) for pair in batch]
        for group in micro_batches_dealt(lengths, self.procedure.batch_tokens):
            # without a micro-batch, a process only takes part in the others' forward pass
            micro_batch = [batch[i] for i in group] or batch[:1]
            scale = 1 / reply_tokens if group else 0.0
            summed = self.loss_and_gradients(self.model, micro_batch, scale)
            if group:
                loss += summed / reply_tokens

        # FSDP has summed the gradients of sharded weights; the others are summed here
        for name, weight in self.weights.items():
            if name in self.sharded:
                self.optimizer.weights[name].grad = sharding.local(weight.grad)
                weight.grad = None
            else:
                distributed.all_reduce(self.row_grads.get(name, weight.grad))
        return distributed.all_reduce(loss)

    def total_norm(self, norms):  # (weights,) -> ()
        """The norm of all gradients together, given those of the rows held here."""
        names = list(self.weights)
        if places := [names.index(name) for name in self.sharded]:
            norms[places] = distributed.all_reduce(norms[places].square()).sqrt()
        return torch.linalg.vector_norm(norms)

    def whole_state(self):
        """Yield (key in the checkpoint, tensor); for all processes to go through."""
        for name, state in self.optimizer.state.items():
            for key, tensor in state.items():
                rows = self.state_rows[name]
                yield f"{name} {key}", sharding.all_chosen(tensor, self.weights[name], rows)

    def set_state(self, tensors, steps: int, path: Path):
        """Resume with the optimizer's state of a checkpoint."""
        self.optimizer.steps = steps
        with fitting(path):
            for name, state in self.optimizer.state.items():
                for key, tensor in state.items():
                    stored = tensors[f"{name} {key}"]
                    rows = self.state_rows[name]
                    tensor.copy_(sharding.local_chosen(stored, self.weights[name], rows))


def micro_batches_dealt(lengths: list[int], tokens: int) -> list[list[int]]:
    """This process's micro-batches of a step, as indices of pairs; an empty one fills a turn.

    With at least WORLD micro-batches, they are the same as in a single-process run, so results
    differ only in summation order. That matters, because the first steps of Adam depend on the
    sign of a gradient, however small it is.
    """
    groups = batches(lengths, tokens)
    if len(groups) < distributed.WORLD:
        # Too few: each process takes every WORLD-th pair, longest first
        longest_first = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        of_processes = []
        for process in range(distributed.WORLD):
            mine = longest_first[process :: distributed.WORLD]
            parts = batches([lengths[i] for i in mine], tokens)
            of_processes.append([[mine[i] for i in part] for part in parts])
        turns = zip_longest(*of_processes, fillvalue=[])
        groups = list(chain.from_iterable(turns))
    return [group or [] for group in distributed.deal(groups)]


# Checkpoints: the same file however many processes there are


def save_checkpoint(
    path: Path,
    weights,
    rows,  # all rows that any stage tunes
    tuning: Tuning,
    losses: Losses,
):
    """Write the tuned rows, the optimizer's state and the losses; for all processes to call."""
    tensors = {}
    for name, mask in rows.items():
        weight = weights[name].detach()
        chosen = sharding.local(weight)[sharding.local_rows(mask, weight)]
        tensors[f"{name} rows"] = on_first_cpu(sharding.all_chosen(chosen, weight, mask))
    for key, tensor in tuning.whole_state():
        tensors[key] = on_first_cpu(tensor)
    if distributed.FIRST:
        write_tensors(path, tensors, "train", {"losses": losses})


def on_first_cpu(tensor):
    """A tensor on the CPU of the first process; the others need no memory for it."""
    return tensor.cpu() if distributed.FIRST else None


def load_checkpoint(path: Path, weights, rows) -> tuple[Losses, dict[str, torch.Tensor]]:
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


# Around tuning


@torch.inference_mode()
def validation_losses(
    model: LanguageModel, pairs: dict[str, Pairs], procedure: Procedure
) -> dict[str, float | None]:
    """Of each language, the mean loss over the reply tokens of its validation pairs.

    None if it has none. For all processes to call.
    """
    loss = reply_loss if procedure.reference else chunked_reply_loss
    means = {}
    for language, of_language in pairs.items():
        validation = of_language.validation
        groups = batches([len(pair.ids) for pair in validation], procedure.batch_tokens)
        mine = []
        for group in distributed.deal(groups):
            micro_batch = [validation[i] for i in group or groups[0]]
            mine.append(loss(model, micro_batch).item())
        # Summed in the order of the micro-batches, whichever process had them
        of_processes = distributed.gather(mine)
        total = 0
        for number in range(len(groups)):
            turn, process = divmod(number, distributed.WORLD)
            total += of_processes[process][turn]
        tokens = sum(pair.reply_tokens for pair in validation)
        means[language] = total / tokens if validation else None
    return means


def fold(model: LanguageModel, scale):
    """Scale neurons in the weights (interventions.py), each process the rows that it holds."""
    weights = {}
    factors = {}
    for name, of_module in scale.items():
        weight = model.get_submodule(name).weight
        weights[name] = sharding.local(weight)
        factors[name] = sharding.local_rows(torch.from_numpy(of_module), weight)
    interventions.fold(weights, factors)


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
    procedure: Procedure,
) -> dict[str, list[dict]]:
    """Of each plan's stages: bytes of the optimizer's state, pairs, and steps."""
    of_plans = {}
    for plan in plans:
        of_plans[plan.name] = []
        for stage in plan.stages:
            examples = 0
            if stage.mask is None or neurons.count(stage.mask):
                examples = sum(len(pairs[language].train) for language in stage.languages)
            cost = {
                "name": stage.name,
                "optimizer_bytes": optimizer_bytes(stage.mask, config, dtype, procedure.reference),
                "pairs": examples,
                "steps": hyper.steps(examples),
            }
            of_plans[plan.name].append(cost)
    return of_plans


def optimizer_bytes(mask: NeuronMask | None, config: Config, dtype, reference: bool) -> int:
    """Memory of the optimizer's state for the chosen rows."""
    if reference and mask is not None:  # it holds whole matrices
        mask = {name: rows | rows.any() for name, rows in mask.items()}
    bytes_each = 8 if dtype == torch.float32 else 12  # two moments, and master weights
    return count_weights(config, mask) * bytes_each
