"""Read the rows of files as published: parquet, JSON, JSON Lines or CSV."""

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path

from minitox.errors import InputError
from minitox.files import (
    MOST_BYTES,
    check_regular,
    finite,
    open_input,
    read_bytes,
    read_jsonl,
    with_distinct_keys,
)
from minitox.languages import NAMES

MOST_CHARACTERS = 2**22  # of a row of a CSV file
BATCH = 1_000  # rows of a parquet file in memory at once


def read(
    path: Path,
    columns=None,  # of a parquet file: those to read; None: all
    encoding="utf-8-sig",  # of a CSV file
    separator=None,  # of a CSV file; None: the most frequent one in its header
):
    """Yield (where, row) for each row of a parquet, JSON, JSON Lines or CSV file.

    InputError names the place where a file is malformed, or has a row that is too large.
    """
    # 1) CSV, whose errors have a line number
    if path.suffix not in (".parquet", ".json", ".jsonl"):
        yield from read_csv(path, encoding, separator)
        return
    # 2) the others; a .json file is either an array or, as RTP-LX's, JSON Lines
    with open_input(path) as file:
        is_array = path.suffix == ".json" and file.read(1) == b"["
    try:
        if path.suffix == ".parquet":
            yield from read_parquet(path, columns)
        elif is_array:
            yield from read_array(path)
        else:
            yield from read_jsonl(path)
    # pyarrow's errors are ValueErrors and NotImplementedErrors, which are RuntimeErrors
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: {reason.splitlines()[0]}") from None


def read_parquet(path, columns):
    """Yield the rows of a parquet file, BATCH in memory at once."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise InputError(f"{path}: to read parquet files, pip install pyarrow") from None
    file = parquet.ParquetFile(path)
    check_columns(file.schema_arrow.names)
    number = 0  # rows are counted over all batches
    for batch in file.iter_batches(BATCH, columns=columns):
        if batch.nbytes > MOST_BYTES:
            raise ValueError(f"the {BATCH:,} rows after row {number} are too large")
        for row in batch.to_pylist():
            number += 1
            yield f"{path}: row {number}", row


def read_array(path):
    """Yield the objects in a JSON array."""
    rows = json.loads(
        read_bytes(path),
        object_pairs_hook=with_distinct_keys,
        parse_float=finite,
        parse_constant=finite,  # NaN and Infinity, which are refused in JSON Lines, too
    )
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"item {number}: expected a JSON object, found {type(row).__name__}")
        yield f"{path}: item {number}", row


def read_csv(path, encoding, separator):
    """Yield the rows of a CSV file with a header."""
    last = 0  # line where the last good row ends
    try:
        with io.TextIOWrapper(open_input(path), encoding=encoding, newline="") as file:
            separator = separator or max(",;\t", key=file.readline(MOST_CHARACTERS).count)
            file.seek(0)
            lines = Lines(file)
            rows = csv.reader(lines, delimiter=separator, strict=True)
            header = next(rows, [])
            check_columns(header)
            lines.row_ends()
            for cells in rows:
                lines.row_ends()
                if not cells:  # a blank line
                    continue
                if len(cells) != len(header):
                    raise csv.Error(
                        f"the row that ends in line {rows.line_num} has more or fewer cells "
                        "than the header"
                    )
                last = rows.line_num
                yield f"{path}:{last}", dict(zip(header, cells, strict=True))
    except (csv.Error, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: after line {last}: {error}; check the file's quotation marks, "
            "--separator and --encoding"
        ) from None


class Lines:
    """The lines of a text file, as long as no row of several lines becomes too long."""

    def __init__(self, file):
        self.file = file
        self.characters = 0  # of the row that is being read

    def __iter__(self):
        return self

    def __next__(self) -> str:
        line = self.file.readline(MOST_CHARACTERS)
        self.characters += len(line)
        if self.characters >= MOST_CHARACTERS:
            raise csv.Error(f"the next row has over {MOST_CHARACTERS:,} characters")
        if not line:
            raise StopIteration
        return line

    def row_ends(self) -> None:
        self.characters = 0


def check_columns(names: list[str]) -> None:
    """ValueError if two columns have the same name; several may have none."""
    for name, count in Counter(names).items():
        if count > 1 and name:
            raise ValueError(f"there are {count} columns with the name {name!r:.40}")


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
    if not source.is_dir():
        check_regular(source)
        return [source]
    paths = []
    for path in sorted(source.rglob("*")):
        words = [path.parent.name, *re.split(r"[-_.]", path.stem)]
        if path.suffix in (".parquet", ".json", ".jsonl", ".csv") and word in words:
            paths.append(path)
    if not paths:
        raise InputError(
            f"{source}: no data file with {word!r} in its name; keep the published file names"
        )
    return paths


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
