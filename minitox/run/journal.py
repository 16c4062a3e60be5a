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
            for job, rows in zip(jobs, result, strict=True):
                if job.is_done:
                    continue
                if distributed.FIRST:
                    append(job.file.path, rows)
                lines += len(job.batch)
                yield lines, job.file


@dataclass(frozen=True)
class Job:
    """A batch of a file, and whether its rows are there."""

    file: Batches
    batch: list
    is_done: bool


def remaining_calls(files: list[Batches], done: list[int]) -> list[list[Job]]:
    """The jobs of every call that is still to be made, as not all of its rows are there.

    Which batches share a call does not depend on how many are done, so neither does rounding.
    """
    calls = []
    for file, count in zip(files, done, strict=True):
        for number, batch in enumerate(file.batches):
            job = Job(file, batch, number < count)
            if calls and is_joined(calls[-1], job):
                calls[-1].append(job)
            else:
                calls.append([job])
    return [jobs for jobs in calls if not all(job.is_done for job in jobs)]


def is_joined(jobs: list[Job], job: Job) -> bool:
    """Whether a job can be done in one call with the others, and fits."""
    first = jobs[0].file
    if not isinstance(first, Joint) or not isinstance(job.file, Joint):
        return False
    return first.call == job.file.call and first.call.fits(all_inputs([*jobs, job]))


def all_inputs(jobs: list[Job]) -> list:
    """The inputs of all batches of a call."""
    return [item for job in jobs for item in job.file.inputs_of(job.batch)]


def rows_or_error(jobs: list[Job]):
    """The rows of each job of a call, or the error that all processes are to raise."""
    file = jobs[0].file
    try:
        return joint_rows(jobs) if isinstance(file, Joint) else [file.rows_of(jobs[0].batch)]
    except InputError as error:
        return error


def joint_rows(jobs: list[Job]) -> list[list[dict]]:
    """The rows of each job, whose results come from one call."""
    names = [job.file.name_of(job.batch) for job in jobs]
    results = iter(jobs[0].file.call(all_inputs(jobs), names))
    rows = []
    for job in jobs:
        count = len(job.file.inputs_of(job.batch))
        rows.append(job.file.rows_of(job.batch, list(islice(results, count))))
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
