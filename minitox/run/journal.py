"""Files that grow line by line: a kill costs a torn line, or a batch that is not whole, and no more."""

import json
import os
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from minitox.errors import InputError
from minitox.files import naming
from minitox.run import distributed


def drop_torn_line(path: Path) -> None:
    """Cut off a last line without an end, which a kill tore; make the file, and its folder, if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


@dataclass(frozen=True)
class Batches:
    """What a file of JSON lines is to hold: `rows_of(batch)` for each batch of the plan, a row an item."""

    path: Path
    plan: list[list]
    rows_of: Callable[[list], list[dict]]


def append_batches(files: list[Batches], together: bool = False):
    """Write what the files are to hold, batch after batch; yield how many lines there are in all, and the file last written to.

    A run that was killed finds the files, drops the lines of a batch that is not whole, and goes on with that batch. Batches are
    dealt to the processes, or done by all `together` where each has but a share of the model; the first one writes.
    """
    done = distributed.broadcast(
        [whole_batches(file) for file in files] if distributed.FIRST else None
    )
    lines = sum(len(batch) for file, count in zip(files, done) for batch in file.plan[:count])
    jobs = [(file, batch) for file, count in zip(files, done) for batch in file.plan[count:]]
    width = 1 if together else distributed.WORLD
    for start in range(0, len(jobs), width):
        round = jobs[start : start + width]
        try:
            made = [
                file.rows_of(batch) for file, batch in round[distributed.RANK % width :][:1]
            ]  # none, at the end
        except InputError as error:
            made = error
        for (file, batch), rows in zip(round, distributed.gather(made)):
            if isinstance(rows, InputError):  # what stops one process stops all of them here
                raise rows
            if distributed.FIRST:
                append(file.path, rows[0])
            lines += len(batch)
            yield lines, file


def whole_batches(file: Batches) -> int:
    """How many batches a file holds; what follows them is cut off."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    ends = [0, *accumulate(map(len, file.plan))]  # lines before each batch
    with open(file.path, "ab+") as opened:
        opened.seek(0)
        whole = [line for line in opened.read().splitlines(keepends=True) if line.endswith(b"\n")]
        done = bisect_right(ends, len(whole)) - 1
        opened.truncate(sum(map(len, whole[: ends[done]])))
    return done


def append(path: Path, rows: list[dict]) -> None:
    """Append rows as JSON lines that outlast a crash."""
    with naming(path), open(path, "ab") as file:
        file.write(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(
                "utf-8", "backslashreplace"
            )
        )
        file.flush()
        os.fsync(file.fileno())
