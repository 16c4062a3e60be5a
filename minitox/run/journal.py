"""Files that grow line by line; a kill costs the batch that was being computed, or a torn line."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path

from minitox.errors import InputError
from minitox.files import append, drop_torn_line, open_to_append
from minitox.run import distributed


@dataclass(frozen=True)
class Batches:
    """The content of a file of JSON lines: `rows_of(batch)` for each batch, a row for each item."""

    path: Path
    batches: list[list]
    rows_of: Callable


@dataclass(frozen=True)
class Joint(Batches):
    """The same where batches of several files can be computed in one call.

    The call gives a result for each input, and `rows_of(batch, results)` the rows.
    """

    inputs_of: Callable  # the inputs of a batch, a list
    name_of: Callable  # how an error names a batch
    call: Callable  # call(inputs, names); files of equal calls are joined while call.fits(inputs)


def append_batches(files: list[Batches], together: bool = False) -> Iterator[tuple[int, Batches]]:
    """Fill the files batch after batch; yields the number of lines in all, and the file written to.

    A rerun after a kill drops the lines of a batch that is not whole, and resumes with that batch.
    Calls are dealt to the processes; with `together`, for a sharded model, all processes make each
    call. The first process writes.
    """
    # 1) what is there already
    done = distributed.on_first(lambda: [whole_batches(file) for file in files])
    lines = sum(
        sum(map(len, file.batches[:count])) for file, count in zip(files, done, strict=True)
    )

    # 2) the rest, one call for each process in a round
    calls = remaining_calls(files, done)
    width = 1 if together else distributed.WORLD  # together, every process makes the same call
    for start in range(0, len(calls), width):
        in_this_round = calls[start : start + width]
        mine = distributed.RANK % width
        result = rows_or_error(in_this_round[mine]) if mine < len(in_this_round) else None
        # in the last round, fewer calls than processes may be left
        of_each = distributed.gather(result)[: len(in_this_round)]
        for jobs, result in zip(in_this_round, of_each, strict=True):
            if isinstance(result, InputError):
                raise result
            for (file, batch), rows in zip(jobs, result, strict=True):
                if distributed.FIRST:
                    append(file.path, rows)
                lines += len(batch)
                yield lines, file


def remaining_calls(files: list[Batches], done: list[int]) -> list[list[tuple[Batches, list]]]:
    """The (file, batch) of every call that is still to be made.

    Which batches share a call does not depend on how many are done, as rounding would.
    """
    calls = []
    for file, count in zip(files, done, strict=True):
        for number, batch in enumerate(file.batches):
            job = file, batch, number >= count
            if calls and is_joined(calls[-1], file, batch):
                calls[-1].append(job)
            else:
                calls.append([job])
    remaining = []
    for jobs in calls:
        todo = [(file, batch) for file, batch, is_todo in jobs if is_todo]
        if todo:
            remaining.append(todo)
    return remaining


def is_joined(jobs, file: Batches, batch: list) -> bool:
    """Whether a batch can be computed in one call with these jobs, and fits."""
    first = jobs[0][0]
    if not isinstance(first, Joint) or not isinstance(file, Joint) or first.call != file.call:
        return False
    inputs = file.inputs_of(batch)
    for other, of_other, _ in jobs:
        inputs = inputs + other.inputs_of(of_other)
    return file.call.fits(inputs)


def rows_or_error(jobs):
    """The rows of each (file, batch) of a call, or the error that all processes are to raise."""
    try:
        file, batch = jobs[0]
        return joint_rows(jobs) if isinstance(file, Joint) else [file.rows_of(batch)]
    except InputError as error:
        return error


def joint_rows(jobs: list[tuple[Joint, list]]) -> list[list[dict]]:
    """The rows of each batch, whose results come from one call."""
    inputs = [file.inputs_of(batch) for file, batch in jobs]
    names = [file.name_of(batch) for file, batch in jobs]
    results = iter(jobs[0][0].call(sum(inputs, []), names))
    rows = []
    for (file, batch), of_batch in zip(jobs, inputs, strict=True):
        rows.append(file.rows_of(batch, list(islice(results, len(of_batch)))))
    return rows


def whole_batches(file):
    """How many batches a file contains; lines after them are cut off."""
    drop_torn_line(file.path)
    with open_to_append(file.path) as opened:
        opened.seek(0)
        lines = opened.readlines()
        ends = [0, *accumulate(map(len, file.batches))]  # lines before each batch
        done = bisect_right(ends, len(lines)) - 1
        opened.truncate(sum(map(len, lines[: ends[done]])))
    return done
