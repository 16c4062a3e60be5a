"""One stage of tuning, around the method's loop: several processes, sharded weights.

The loop, the loss and the optimizers see plain tensors. Of a sharded weight that is the rows that
this process holds, with their part of the mask and of the gradient.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path

import torch

from minitox.files import fitting
from minitox.lm.batching import batches
from minitox.lm.model import LanguageModel
from minitox.run import distributed, sharding
from minitox.train import dpo
from minitox.train.loss import Objective, add_gradients, sft
from minitox.train.optim import MaskedAdamW
from minitox.train.pairs import Pair
from minitox.train.row_optim import RowAdamW, RowGradients
from minitox.train.tune import Hyperparameters, tune


@dataclass(frozen=True)
class Procedure:
    """How tuning is carried out, besides the hyperparameters."""

    batch_tokens: int  # most padded tokens of a micro-batch
    reference: bool = False  # the readable optimizer and loss
    activation_checkpointing: bool = False
    checkpoint_steps: int = 50
    objective: str = "sft"  # or "dpo"
    beta: float = 0.1  # of DPO
    label_smoothing: float = 0.0  # of DPO

    @property
    def loss_functions(self) -> Objective:
        """The loss that is minimised, and its gradients."""
        if self.objective == "dpo":
            return dpo.dpo_objective(self.beta, self.label_smoothing, self.reference)
        return sft(self.reference)


class Tuning:
    """The optimizer of a stage, and the gradients that it reads.

    A context manager: in its block, layers may compute the gradients of chosen rows only.
    """

    def __init__(
        self,
        model: LanguageModel,
        weights,  # of the whole model by name, each may be sharded
        rows,  # (R,) bool by name: the rows that are tuned
        decay: float,
        procedure: Procedure,
    ):
        self.model = model
        self.procedure = procedure
        self.weights = {name: weight for name, weight in weights.items() if name in rows}
        self.sharded = [name for name in self.weights if sharding.is_sharded(weights[name])]
        for name, weight in weights.items():
            weight.grad = None
            weight.requires_grad_(name in rows)

        # Plain tensors: the rows held here, and their part of the mask
        local = dict(self.weights)
        for name in self.sharded:
            local[name] = sharding.local(weights[name].detach())
        masks = {}
        for name, weight in self.weights.items():
            masks[name] = sharding.local_rows(rows[name], weight)

        # `state_rows`: the rows (R,) that the optimizer's state has an entry for
        if procedure.reference:
            self.row_grads = {}
            self.layers = nullcontext()
            self.optimizer = MaskedAdamW(local, masks, decay=decay)
            self.state_rows = {name: torch.ones_like(mask) for name, mask in rows.items()}
        else:
            # FSDP sums whole gradients over the processes: sharded weights have no row gradients
            self.layers = RowGradients(model, rows, whole=self.sharded)
            self.row_grads = self.layers.row_grads
            self.optimizer = RowAdamW(local, masks, self.row_grads, decay=decay)
            self.state_rows = rows

    def __enter__(self):
        self.layers.__enter__()
        return self

    def __exit__(self, *error):
        self.layers.__exit__(*error)

    def steps(self, examples: list[Pair], hyper: Hyperparameters, stage: int, start: int):
        """The method's loop; yields the loss of each step."""
        add = partial(
            add_gradients if distributed.WORLD == 1 else self.add_gradients_dealt,
            self.model,
            objective=self.procedure.loss_functions,
            micro_batch_tokens=self.procedure.batch_tokens,
        )
        return tune(self.optimizer, examples, hyper, add, stage, start, self.total_norm)

    def add_gradients_dealt(
        self, model, batch: list[Pair], objective: Objective, micro_batch_tokens: int
    ):  # -> ()
        """`add_gradients` with the micro-batches dealt to the processes."""
        size = sum(map(objective.size_of, batch))
        loss = torch.zeros((), device=model.model.embed_tokens.weight.device)
        lengths = [objective.tokens_of(pair) for pair in batch]
        for group in micro_batches_dealt(lengths, micro_batch_tokens):
            # without a micro-batch, a process only takes part in the others' forward pass
            micro_batch = [batch[i] for i in group] or batch[:1]
            scale = 1 / size if group else 0.0
            summed = objective.loss_and_gradients(model, micro_batch, scale)
            if group:
                loss += summed / size

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

    # The optimizer's state, as a checkpoint has it: whole, whatever the number of processes

    def state(self):
        """Yield (key in the checkpoint, tensor, weight, rows with an entry)."""
        for name, tensors in self.optimizer.state.items():
            for key, tensor in tensors.items():
                yield f"{name} {key}", tensor, self.weights[name], self.state_rows[name]

    def whole_state(self):
        """Yield (key, whole tensor); for all processes to go through."""
        for key, tensor, weight, rows in self.state():
            yield key, sharding.all_chosen(tensor, weight, rows)

    def set_state(self, stored, steps: int, path: Path):
        """Resume with the state that a checkpoint stored."""
        self.optimizer.steps = steps
        with fitting(path):
            for key, tensor, weight, rows in self.state():
                tensor.copy_(sharding.local_chosen(stored[key], weight, rows))


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
