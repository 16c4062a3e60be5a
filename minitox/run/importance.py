"""The values of selectors other than AUROC, from training pairs, in one process or several."""

from functools import partial

import numpy as np

from minitox import neurons
from minitox.detect import dinm, taylor
from minitox.errors import InputError
from minitox.lm.model import LanguageModel
from minitox.run import distributed
from minitox.run.training import check_dtype
from minitox.train.loss import add_gradients, sft
from minitox.train.pairs import Pair


def check_model(selectors: tuple[str, ...], dtype, shard: bool) -> None:
    """InputError if gradients would vanish in the dtype, or if the layers would be sharded."""
    if "taylor" in selectors:
        check_dtype(dtype)
    if shard and distributed.WORLD > 1 and set(selectors) - {"auroc"}:
        raise InputError(
            "--shard: --select taylor and dinm need the whole model in each process; "
            "leave --shard out"
        )


def batches_of(pairs: list[Pair], size: int) -> list[list[Pair]]:
    """The training pairs, in the random order in which read_pairs gives them, as batches."""
    return [pairs[first : first + size] for first in range(0, len(pairs), size)]


def importances(
    model: LanguageModel,
    batches: list[list[Pair]],  # of training pairs
    batch_tokens: int,  # most padded tokens of a micro-batch
    reference: bool,  # the readable loss
    show=lambda batches: None,  # progress
) -> dict[str, np.ndarray]:  # (R,) of each module
    """Every neuron's importance (detect/taylor.py); for all processes to call.

    Each process has some of the batches. ValueError if a loss or a gradient is not finite.
    """
    # 1) gradients of the rows that are neurons, and of nothing else
    model.requires_grad_(False)
    weights = {}
    for name in neurons.module_rows(model.config):
        weights[name] = model.get_parameter(f"{name}.weight").requires_grad_(True)

    # 2) the method, on this process's batches
    mine = [batch for batch in distributed.deal(batches) if batch is not None]
    objective = sft(reference)
    add = partial(add_gradients, model, objective=objective, micro_batch_tokens=batch_tokens)
    values = taylor.importance(weights, mine, add, show)

    # 3) the mean over the batches of all processes, each of which has that of its own
    means = {}
    for name, of_module in values.items():
        of_all = distributed.all_reduce(of_module * (len(mine) / len(batches)))
        means[name] = of_all.cpu().numpy()
        weights[name].grad = None
    model.requires_grad_(False)
    return means


def layer_values(
    model: LanguageModel,
    batches: list[list[Pair]],  # of training pairs with a rejected reply
    show=lambda batches: None,  # progress
) -> tuple[dict[str, np.ndarray], list[float]]:  # (R,) of each module, (L,)
    """For dinm, the distance of each layer at its down_proj, 0 elsewhere; and the distances.

    Every process computes the same. ValueError if a hidden state is not finite.
    """
    distances = dinm.layer_distances(model, batches, show).tolist()
    values = {}
    for name, rows in neurons.module_rows(model.config).items():
        layer = int(name.split(".")[2])
        value = distances[layer] if name.endswith("down_proj") else 0
        values[name] = np.full(rows, value, dtype=np.float32)
    return values, distances
