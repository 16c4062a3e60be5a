"""Read the rows of files as published: parquet, JSON, JSON Lines or CSV."""

import csv
import json
import re
from pathlib import Path

from minitox.errors import InputError
from minitox.files import read_jsonl
from minitox.languages import NAMES


def read(
    path: Path,
    columns=None,  # of a parquet file: those to read; None: all
    encoding="utf-8-sig",  # of a CSV file
    separator=None,  # of a CSV file; None: the most frequent one in its header
):
    """Yield (where, row) for each row of a parquet, JSON, JSON Lines or CSV file.

    InputError names the place where a file is malformed.
    """
    # 1) CSV, whose errors have a line number
    if path.suffix not in (".parquet", ".json", ".jsonl"):
        yield from read_csv(path, encoding, separator)
        return
    # 2) the others; a .json file is either an array or, as RTP-LX's, JSON Lines
    with open(path, "rb") as file:
        is_array = path.suffix == ".json" and file.read(1) == b"["
    try:
        if path.suffix == ".parquet":
            yield from read_parquet(path, columns)
        elif is_array:
            yield from read_array(path)
        else:
            yield from read_jsonl(path)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from None


def read_parquet(path, columns):
    """Yield the rows of a parquet file, 1,000 in memory at once."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise InputError(f"{path}: to read parquet files, pip install pyarrow") from None
    number = 0  # rows are counted over all batches
    for batch in parquet.ParquetFile(path).iter_batches(1_000, columns=columns):
        for row in batch.to_pylist():
            number += 1
            yield f"{path}: row {number}", row


def read_array(path):
    """Yield the objects in a JSON array."""
    for number, row in enumerate(json.loads(path.read_bytes()), start=1):
        if not isinstance(row, dict):
            raise ValueError(f"item {number}: expected a JSON object, found {type(row).__name__}")
        yield f"{path}: item {number}", row


def read_csv(path, encoding, separator):
    """Yield the rows of a CSV file with a header."""
    last = 0  # line where the last good row ends
    try:
        with open(path, encoding=encoding, newline="") as file:
            header = file.readline()
            file.seek(0)
            separator = separator or max(",;\t", key=header.count)
            rows = csv.DictReader(file, delimiter=separator, strict=True)
            for row in rows:
                # DictReader adds a None column for surplus cells, and None cells for missing ones
                if None in row or None in row.values():
                    raise csv.Error(
                        f"the row that ends in line {rows.line_num} has more or fewer cells "
                        "than the header"
                    )
                last = rows.line_num
                yield f"{path}:{last}", row
    except (csv.Error, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: after line {last}: {error}; check the file's quotation marks, "
            "--separator and --encoding"
        ) from None


def cell(
    where: str,
    row: dict,
    column: str,
    advice: str = "check that this file belongs to this command",
):
    """Return the value in a column that the corpus must have; InputError if it has none."""
    if column not in row:
        raise InputError(f"{where}: no column {column!r} in {', '.join(map(str, row))}; {advice}")
    return row[column]


def text_of(value) -> str:
    """Return a value that is text and not blank, without lone surrogates; else ""."""
    if not isinstance(value, str) or not value.strip():
        return ""
    return value.encode("utf-8", "ignore").decode()  # UTF-8 files cannot contain lone surrogates


def files_of(source: Path, word: str) -> list[Path]:
    """Return the data files in a folder with `word` in their names or as their folder's name.

    If `source` is a file, return that file.
    """
    paths = []
    for path in sorted(source.rglob("*")):
        words = [path.parent.name, *re.split(r"[-_.]", path.stem)]
        if path.suffix in (".parquet", ".json", ".jsonl", ".csv") and word in words:
            paths.append(path)
    if not paths and not source.is_file():
        raise InputError(
            f"{source}: no data file with {word!r} in its name; keep the published file names"
        )
    return paths or [source]


def language_of(path: Path) -> str | None:
    """Return the language in the name of a file, of its folder, or of the next folder up.

    Examples are ar_test.json, ptp-es/, PT_BR/test/ and spanish-set/.
    """
    codes = {name.lower(): code for code, name in NAMES.items()}
    for part in (path.stem, *path.parts[-2:-4:-1]):
        # 1) the words of the name, without what follows -0: a shard's number and a hash
        name = re.split(r"-\d", part)[0].lower()
        words = re.split(r"[-_. ]", name)
        # 2) those that name a language, or look like a code in a name of few words
        languages = [
            codes.get(word, word)
            for word in words
            if word in codes or len(words) < 4 and re.fullmatch("[a-z]{2}", word)
        ]
        # 3) the first that is one of the sixteen, as es in ES_LA; none is in SW_KE
        for language in languages:
            if language in NAMES:
                return language
        if languages:
            return languages[0]
    return None
