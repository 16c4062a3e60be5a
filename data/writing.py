"""Before a command writes: refuse to replace its sources, and lock the folder."""

import os
from pathlib import Path

from minitox import files
from minitox.errors import InputError
from minitox.languages import NAMES
from minitox.run import outputs


def begin(folder: Path, sources: list[Path], results: list[Path]) -> None:
    """Lock the folder to write to until this process exits.

    InputError if a result is one of the sources, or if another process has the lock.
    """
    refuse_sources(sources, results)
    outputs.lock(folder)


def refuse_sources(sources: list[Path], results: list[Path]) -> None:
    """InputError if a result is the same file as a source, or is a folder or a device.

    Files that do not exist are ignored.
    """
    for result in results:
        if not result.exists():
            continue
        files.check_regular(result)
        for source in sources:
            if source.exists() and os.path.samefile(source, result):
                raise InputError(
                    f"{result} would replace {source}, which this command reads; "
                    "choose another file or folder to write to"
                )


def language_files(folder: Path) -> list[Path]:
    """The files that a command may write into a data folder."""
    return [folder / f"{language}.jsonl" for language in NAMES]
