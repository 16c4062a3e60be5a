"""Several processes under torchrun: who does what, how their parts meet, and a model spread over all of them.

    torchrun --nproc-per-node 8 detect.py ...       # and so train.py and evaluate.py

Every process runs the whole script. Work is dealt out by place in a list, the parts meet in `gather` or on disk, and only the
first process prints and writes results. Without torchrun there is one process, and all this costs nothing.
"""

import os
import sys
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

RANK, WORLD = (
    int(os.environ.get("RANK", 0)),
    int(os.environ.get("WORLD_SIZE", 1)),
)  # set by torchrun
LOCAL_RANK, LOCAL_WORLD = (
    int(os.environ.get("LOCAL_RANK", 0)),
    int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
)  # on this machine
FIRST = RANK == 0


@contextmanager
def processes():
    """Let the processes find each other: gloo on CPUs, NCCL on GPUs. When one fails, it alone says why, and all end."""
    if WORLD == 1:
        yield
        return
    store, rank, world = next(dist.rendezvous("env://"))
    dist.init_process_group(
        store=store, rank=rank, world_size=world, timeout=timedelta(days=30)
    )  # the first may write for long
    if not FIRST:
        sys.stdout = open(os.devnull, "w")
    try:
        yield
        dist.barrier()
        dist.destroy_process_group()
    except BaseException as error:
        if store.add("failures", 1) > 1:  # another one failed before, and this one merely lost it
            sys.stderr = open(os.devnull, "w")
        if isinstance(error, RuntimeError) and ("gloo" in str(error) or "NCCL" in str(error)):
            raise ConnectionError(
                "another process ended; the same command goes on from here"
            ) from None
        raise


def gather(value) -> list:
    """What each process has for `value`, in their order."""
    if WORLD == 1:
        return [value]
    values = [None] * WORLD
    dist.all_gather_object(values, value)
    return values


def broadcast(value):
    """The first process's `value`, for all."""
    return gather(value if FIRST else None)[0]


def deal(items: list) -> list:
    """This process's items, and None where it only keeps up with the others: with a model that is spread, all must go through it."""
    mine = items[RANK::WORLD]
    return mine + [None] * (-(-len(items) // WORLD) - len(mine))


def all_reduce(tensor):
    """The sum of a tensor over all processes."""
    if WORLD > 1:
        dist.all_reduce(tensor)
    return tensor


def spread(model, device: torch.device) -> None:
    """Leave on each process its share of the rows of every layer's weights (FSDP2); the embedding, the last norm and the head stay
    whole. Gradients of spread weights are summed over the processes in float32."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    options = {
        "mesh": dist.init_device_mesh(device.type, (WORLD,)),
        "mp_policy": MixedPrecisionPolicy(reduce_dtype=torch.float32),
    }
    unsharded = {
        weight for name, weight in model.named_parameters() if not name.startswith("model.layers.")
    }
    for layer in model.model.layers:
        fully_shard(layer, **options)
    fully_shard(model.model, ignored_params=unsharded, **options)
    for module in (model.model, *model.model.layers):
        module.set_gradient_divide_factor(1.0)  # summed, not averaged
        module.set_force_sum_reduction_for_comms(True)  # gloo cannot divide on the way


def is_spread(weight) -> bool:
    return hasattr(weight, "to_local")


def local(weight):
    """The rows of a weight that this process holds, sharing memory."""
    return weight.to_local() if is_spread(weight) else weight


def part(tensor, weight, mask=None):
    """Of a tensor with an entry for each row of `weight`, or for each that `mask` (R,) chooses, those that this process holds."""
    if not is_spread(weight):
        return tensor
    if mask is not None:
        places = mask.cumsum(0) - 1  # of each chosen row in the tensor
        return tensor[part(places, weight)[part(mask, weight)].to(tensor.device)]
    parts = tensor.chunk(WORLD)
    return parts[RANK] if RANK < len(parts) else tensor[:0]


def whole(tensor, weight, mask=None):
    """The inverse of `part`: all entries, of which each process has its own. For all processes to call."""
    if not is_spread(weight):
        return tensor
    from torch.distributed.tensor import DTensor

    if mask is not None:
        here = part(mask, weight)
        return whole(
            tensor.new_zeros(len(here), *tensor.shape[1:]).index_copy_(
                0, here.nonzero().squeeze(1), tensor
            ),
            weight,
        )[mask]
    like = torch.empty((len(weight), *tensor.shape[1:]), device="meta")
    return DTensor.from_local(
        tensor, weight.device_mesh, weight.placements, shape=like.shape, stride=like.stride()
    ).full_tensor()
