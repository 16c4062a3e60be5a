"""Files that grow line by line; a kill costs the batch that was being computed, or a torn line."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
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


def append_batches(files: list[Batches], together: bool = False) -> Iterator[tuple[int, Batches]]:
    """Fill the files batch after batch; yields the number of lines in all, and the file written to.

    A rerun after a kill drops the lines of a batch that is not whole, and resumes with that batch.
    Batches are dealt to the processes; with `together`, for a sharded model, all processes compute
    each batch. The first process writes.
    """
    # 1) what is there already
    done = distributed.on_first(lambda: [whole_batches(file) for file in files])
    jobs = []
    lines = 0
    for file, count in zip(files, done, strict=True):
        lines += sum(map(len, file.batches[:count]))
        jobs += [(file, batch) for batch in file.batches[count:]]

    # 2) the rest, one job for each process in a round
    width = 1 if together else distributed.WORLD  # together, every process computes the same job
    for start in range(0, len(jobs), width):
        in_this_round = jobs[start : start + width]
        mine = distributed.RANK % width
        rows = rows_or_error(in_this_round[mine]) if mine < len(in_this_round) else None
        # in the last round, fewer jobs than processes may be left
        of_each = distributed.gather(rows)[: len(in_this_round)]
        for (file, batch), rows in zip(in_this_round, of_each, strict=True):
            if isinstance(rows, InputError):
                raise rows
            if distributed.FIRST:
                append(file.path, rows)
            lines += len(batch)
            yield lines, file


def rows_or_error(job):
    """The rows of a batch, or the error that all processes are to raise."""
    file, batch = job
    try:
        return file.rows_of(batch)
    except InputError as error:
        return error


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
