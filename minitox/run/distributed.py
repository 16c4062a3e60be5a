"""Several processes under torchrun: which process does what, and how the parts meet.

    torchrun --nproc-per-node 8 detect.py ...       # and so train.py and evaluate.py

Every process runs the whole script. Work is dealt by position in a list; the parts meet in `gather`
or on disk, and only the first process prints and writes results. Without torchrun there is a single
process, and these functions return at once.
"""

import os
import re
import sys
from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist

from minitox import locks
from minitox.errors import InputError

ADVICE = "unset these variables, or start the script with torchrun"


def place(environment: dict[str, str]) -> tuple[int, int, int, int]:
    """RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; the local ones are on this machine.

    Without any of them there is one process. InputError if torchrun would not set them like this.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    present = [name for name in names if environment.get(name)]
    if not present:
        return 0, 1, 0, 1
    for name in (*names, "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"):
        if not environment.get(name):
            raise InputError(
                f"{present[0]} is set in the environment, as torchrun does, but {name} is not; "
                f"{ADVICE}"
            )
    numbers = []
    for name in (*names, "MASTER_PORT"):
        value = environment[name]
        if not re.fullmatch("[0-9]{1,5}", value):
            raise InputError(f"{name}={value!r} in the environment is not a number; {ADVICE}")
        numbers.append(int(value))
    rank, world, local_rank, local_world, port = numbers
    if not (rank < world and local_rank < local_world <= world and 0 < port < 2**16):
        values = ", ".join(f"{name}={environment[name]}" for name in (*names, "MASTER_PORT"))
        raise InputError(f"{values} in the environment do not fit together; {ADVICE}")
    return rank, world, local_rank, local_world


try:
    RANK, WORLD, LOCAL_RANK, LOCAL_WORLD = place(os.environ)
    PROBLEM = None
except InputError as error:
    RANK, WORLD, LOCAL_RANK, LOCAL_WORLD = place({})
    PROBLEM = error  # for `processes` to raise: an import should not fail
FIRST = RANK == 0


@contextmanager
def processes():
    """Connect the processes: gloo on CPUs, NCCL on GPUs. If one fails, only that one prints why.

    InputError if the environment is not as torchrun sets it, or if the processes cannot connect.
    """
    if PROBLEM:
        raise PROBLEM
    if WORLD == 1:
        yield
        return
    store = connect()
    if not FIRST:
        sys.stdout = open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")
    try:
        yield
        dist.barrier()
        dist.destroy_process_group()
    except BaseException as error:
        if store.add("failures", 1) > 1:  # another process failed first, and prints its reason
            sys.stderr = open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")
        # torch has no error class for a lost peer
        if isinstance(error, RuntimeError) and ("gloo" in str(error) or "NCCL" in str(error)):
            raise ConnectionError(
                "another process ended; rerun the same command to resume"
            ) from None
        raise


def connect():
    """Connect to the other processes; the store that all of them share."""
    try:
        store, rank, world = next(dist.rendezvous("env://", timeout=timedelta(minutes=5)))
        # a long timeout, because the others wait while the first process writes
        timeout = timedelta(days=30)
        dist.init_process_group(store=store, rank=rank, world_size=world, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"the {WORLD} processes cannot connect: {reason}; {ADVICE}") from None
    return store


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


def once(function: Callable, *values) -> None:
    """Call function(*values), once for all processes."""
    if FIRST:
        function(*values)


def on_first(function):
    """Call the function in the first process alone; its result, or its InputError, for all."""
    result = None
    error = None
    if FIRST:
        try:
            result = function()
        except InputError as refused:
            error = refused
    result, error = broadcast((result, error))
    if error is not None:
        raise error
    return result


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


def leave(status: int) -> None:
    """End this process with an exit status."""
    if WORLD > 1:
        # skip the shutdown of Python, in which gloo's threads may free a tensor and abort
        sys.stdout.flush()
        sys.stderr.flush()
        locks.release()
        os._exit(status)
    if status:
        sys.exit(status)
