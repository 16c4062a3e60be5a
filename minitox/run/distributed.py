"""Several processes under torchrun: which process does what, and how the parts meet.

    torchrun --nproc-per-node 8 detect.py ...       # and so train.py and evaluate.py

Every process runs the whole script. Work is dealt by position in a list; the parts meet in `gather`
or on disk, and only the first process prints and writes results. Without torchrun there is a single
process, and these functions return at once.
"""

import os
import sys
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist

from minitox.errors import InputError

# Set by torchrun; the local ones are those on this machine
RANK = int(os.environ.get("RANK", 0))
WORLD = int(os.environ.get("WORLD_SIZE", 1))
LOCAL_RANK = int(os.environ.get("LOCAL_RANK", 0))
LOCAL_WORLD = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
FIRST = RANK == 0


@contextmanager
def processes():
    """Connect the processes: gloo on CPUs, NCCL on GPUs. If one fails, only that one prints why."""
    if WORLD == 1:
        yield
        return
    store, rank, world = next(dist.rendezvous("env://"))
    # a long timeout, because the others wait while the first process writes
    dist.init_process_group(store=store, rank=rank, world_size=world, timeout=timedelta(days=30))
    if not FIRST:
        sys.stdout = open(os.devnull, "w")
    try:
        yield
        dist.barrier()
        dist.destroy_process_group()
    except BaseException as error:
        if store.add("failures", 1) > 1:  # another process failed first, and prints its reason
            sys.stderr = open(os.devnull, "w")
        # torch has no error class for a lost peer
        if isinstance(error, RuntimeError) and ("gloo" in str(error) or "NCCL" in str(error)):
            raise ConnectionError(
                "another process ended; rerun the same command to resume"
            ) from None
        raise


def gather(value) -> list:
    """The `value` of every process, in the order of the processes."""
    if WORLD == 1:
        return [value]
    values = [None] * WORLD
    dist.all_gather_object(values, value)
    return values


def broadcast(value):
    """The first process's `value`."""
    return gather(value if FIRST else None)[0]


def barrier():
    """Wait until every process is here."""
    gather(None)


def check_same(values: dict) -> None:
    """InputError, in every process, names what differs between the values of two processes."""
    everywhere = gather(values)
    for process, of_process in enumerate(everywhere):
        if of_process != everywhere[0]:
            name = first_difference(everywhere[0], of_process)
            raise InputError(
                f"process {process} differs from process 0 in {name}; "
                "start all of them with the same files and options"
            )


def first_difference(ours, theirs) -> str:
    """The keys, from the outermost on, that lead to the first value that is not the same."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours | theirs:
            if ours.get(key) != theirs.get(key):
                return f"{key} {first_difference(ours.get(key), theirs.get(key))}".strip()
    return ""


def on_first(function):
    """Call the function in the first process alone; its result, for all processes."""
    return broadcast(function() if FIRST else None)


def deal(items: list) -> list:
    """This process's items, and None to fill its last turn.

    With sharded weights all processes must make the same number of forward passes.
    """
    mine = items[RANK::WORLD]
    turns = -(-len(items) // WORLD)  # rounded up
    return mine + [None] * (turns - len(mine))


def all_reduce(tensor):
    """The sum of a tensor over all processes, in place."""
    if WORLD > 1:
        dist.all_reduce(tensor)
    return tensor
