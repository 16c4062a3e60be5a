"""A model sharded over several processes (FSDP2): load, save, and plain tensors for the method.

Each process holds some rows of every weight of every layer. The method sees only plain tensors:
`local` gives the rows that this process holds, `local_rows` the part of a mask that belongs to
them. In a single process no weight is sharded, and these functions return what they are given.
"""

from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from minitox.lm import checkpoint
from minitox.lm.model import LanguageModel
from minitox.run import distributed


def load(folder: Path, device, dtype, shard: bool = False) -> LanguageModel:
    """The model of a folder; with `shard`, its layers are sharded over the processes."""
    if not (shard and distributed.WORLD > 1):
        return checkpoint.load(folder, device, dtype)
    model, files = checkpoint.without_weights(folder, dtype)
    shard_layers(model, device)
    model.to_empty(device=device)
    for name, weight in model.named_parameters():
        stored = checkpoint.read_tensor(files[name], name)
        checkpoint.check_finite(files[name], name, stored, weight.dtype)  # same error everywhere
        local(weight).copy_(local_rows(stored, weight))
    return model.eval()


def loader(folder: Path, device, dtype, shard: bool):
    """A function that loads the model, anew at each call."""
    return partial(load, folder, device, dtype, shard)


def save(model: LanguageModel, folder: Path, source: Path):
    """Write a model as a Hugging Face folder; for all processes to call, the first one writes."""
    if distributed.FIRST:
        checkpoint.save(model, folder, source, whole=whole)
        return
    for weight in model.state_dict().values():  # in the same order, to take part in the gathering
        whole(weight)


def shard_layers(model: LanguageModel, device):
    """Leave each process its share of the rows of every layer's weights.

    The embedding, the last norm and the head stay whole. Gradients of sharded weights are summed
    over the processes, in float32.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    options = {
        "mesh": dist.init_device_mesh(device.type, (distributed.WORLD,)),
        "mp_policy": MixedPrecisionPolicy(reduce_dtype=torch.float32),
    }
    unsharded = set()
    for name, weight in model.named_parameters():
        if not name.startswith("model.layers."):
            unsharded.add(weight)
    for layer in model.model.layers:
        fully_shard(layer, **options)
    fully_shard(model.model, ignored_params=unsharded, **options)
    for module in (model.model, *model.model.layers):
        module.set_gradient_divide_factor(1.0)  # summed, not averaged
        module.set_force_sum_reduction_for_comms(True)  # gloo cannot divide during the reduction


def is_sharded(weight) -> bool:
    return hasattr(weight, "to_local")


def local(weight):
    """The rows of a weight that this process holds, as a plain tensor that shares memory."""
    return weight.to_local() if is_sharded(weight) else weight


def local_rows(tensor, weight):
    """The entries of a tensor (R, ...) that belong to the rows of `weight` held here."""
    if not is_sharded(weight):
        return tensor
    chunks = tensor.chunk(distributed.WORLD)
    return chunks[distributed.RANK] if distributed.RANK < len(chunks) else tensor[:0]


def local_chosen(tensor, weight, mask):
    """The same of a tensor (n, ...) with an entry for each row that `mask` (R,) chooses."""
    if not is_sharded(weight):
        return tensor
    entries = mask.cumsum(0) - 1  # of each chosen row
    here = local_rows(entries, weight)[local_rows(mask, weight)]
    return tensor[here.to(tensor.device)]


def all_rows(tensor, weight):
    """The inverse of `local_rows`; for all processes to call."""
    if not is_sharded(weight):
        return tensor
    from torch.distributed.tensor import DTensor

    like = torch.empty((len(weight), *tensor.shape[1:]), device="meta")
    return DTensor.from_local(
        tensor, weight.device_mesh, weight.placements, shape=like.shape, stride=like.stride()
    ).full_tensor()


def all_chosen(tensor, weight, mask):
    """The inverse of `local_chosen`; for all processes to call."""
    if not is_sharded(weight):
        return tensor
    here = local_rows(mask, weight)
    rows = tensor.new_zeros(len(here), *tensor.shape[1:])
    rows[here] = tensor
    return all_rows(rows, weight)[mask]


def whole(weight):
    """All rows of a weight; for all processes to call."""
    return all_rows(local(weight), weight)
