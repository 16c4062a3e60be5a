"""What published corpora look like: one function each from a path to its rows, and for hate speech one line of a table each.

They yield (name, fate, row). The name is the language, and a label or locale after it; the fate says why a row is dropped, and
is "" if it is not; the row is what to write, or None. Files are read row by row, except JSON arrays: Okapi's have some megabytes.
"""

import csv
import html
import json
import re
from pathlib import Path

from minitox.errors import InputError
from minitox.files import read_jsonl
from minitox.languages import NAMES


def read(
    path: Path,
    columns: list[str] | None = None,
    encoding: str = "utf-8-sig",
    separator: str | None = None,
):
    """Yield (where, row) for each row of a file: parquet, of which `columns` alone, JSON, JSON Lines, else CSV.

    Without a `separator`, a CSV file's is what its header has most of. InputError says where a broken file breaks.
    """
    number = 0
    try:
        with open(path, "rb") as file:
            array = path.suffix == ".json" and file.read(1) == b"["
        if path.suffix == ".parquet":
            from pyarrow import parquet

            for batch in parquet.ParquetFile(path).iter_batches(1_000, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
        elif array:
            for number, row in enumerate(json.loads(path.read_bytes()), start=1):
                if not isinstance(row, dict):
                    raise ValueError(
                        f"item {number}: expected a JSON object, found {type(row).__name__}"
                    )
                yield f"{path}: item {number}", row
        elif path.suffix in (".json", ".jsonl"):
            yield from read_jsonl(path)
        else:
            with open(path, encoding=encoding, newline="") as file:
                separator = separator or max(",;\t", key=file.readline().count)
                file.seek(0)
                rows = csv.DictReader(file, delimiter=separator, strict=True)
                for row in rows:
                    if None in row or None in row.values():
                        raise csv.Error(
                            f"the row that ends in line {rows.line_num} has not as many cells as the header"
                        )
                    number = rows.line_num
                    yield f"{path}:{number}", row
    except ImportError:
        raise InputError(
            f"{path}: reading parquet needs one more package: pip install pyarrow"
        ) from None
    except (csv.Error, LookupError, TypeError, ValueError, RecursionError) as error:
        if path.suffix in (".parquet", ".json", ".jsonl"):
            raise InputError(f"{path}: {str(error).splitlines()[0]}") from None
        raise InputError(
            f"{path}: after line {number}: {error}; a quotation mark, --separator or --encoding is wrong"
        ) from None


def cell(
    where: str, row: dict, column: str, advice: str = "is this the file that the command is for?"
):
    """The value in a column that the corpus must have."""
    if column not in row:
        raise InputError(f"{where}: no column {column!r} in {', '.join(map(str, row))}; {advice}")
    return row[column]


def text_of(value) -> str:
    """The value if it is text that says something, without halves of characters, which no file can hold; else nothing."""
    return (
        value.encode("utf-8", "ignore").decode() if isinstance(value, str) and value.strip() else ""
    )


def files_of(source: Path, word: str) -> list[Path]:
    """`source` itself if it is a file, else the data files in it with this word in their names, or in a folder of this name."""
    found = [
        path
        for path in sorted(source.rglob("*"))
        if path.suffix in (".parquet", ".json", ".jsonl", ".csv")
        and word in (path.parent.name, *re.split(r"[-_.]", path.stem))
    ]
    if not found and not source.is_file():
        raise InputError(
            f"{source}: no data file here has {word!r} in its name, as the published ones have"
        )
    return found or [source]


def language_of(path: Path) -> str | None:
    """The language in a file's name, else its folder's, else the next folder's: ar_test.json, ptp-es, PT_BR/test, spanish-set."""
    codes = {name.lower(): code for code, name in NAMES.items()}
    for part in (path.stem, *path.parts[-2:-4:-1]):
        words = re.split(
            r"[-_. ]", re.split(r"-\d", part)[0].lower()
        )  # after -0 come the shard's number and a hash
        found = [
            codes.get(word, word)
            for word in words
            if word in codes or len(words) < 4 and re.fullmatch("[a-z]{2}", word)
        ]
        if found:
            return next(
                (code for code in found if code in NAMES), found[0]
            )  # of ES_LA, es; SW_KE is none of ours
    return None


def ptp(path: Path, score: str):
    """PolygloToxicityPrompts, with the toxicity of the whole text, or of the prompt it begins with; wildchat has prompts alone.

    The fate of what could be used is "toxic", "clean" or "between".  [paper §3.1]
    """
    scores = (
        "toxicity"
        if score == "text"
        else "prompt_perspective.attributeScores.TOXICITY.summaryScore.value"
    )
    known = language_of(path)
    for where, row in read(path, [score, scores, "meta_data.lang"]):
        about = None if known else cell(where, row, "meta_data")
        language = known or str(about.get("lang") if isinstance(about, dict) else None)
        value, words = row, text_of(cell(where, row, score, "for wildchat, --score prompt"))
        for key in scores.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        scored = (
            isinstance(value, (int, float)) and 0 <= value <= 1
        )  # where Perspective failed stands -1, or nothing
        fate = (
            "no score"
            if not scored
            else "toxic"
            if value > 0.5
            else "clean"
            if value < 0.2
            else "between"
        )
        fate = fate if words else "no text"
        yield (
            language,
            fate if language in NAMES else "other language",
            {"text": words, "toxicity": value},
        )


def rtp_lx(path: Path):
    """RTP-LX, of which `Prompt` alone is the same in all releases; zh is ZH-Hans, and PT mixes two countries."""
    locale = path.stem.removeprefix("RTP_LX_")
    language = locale.lower().replace("zh-hans", "zh")
    for where, row in read_jsonl(path):
        prompt = text_of(cell(where, row, "Prompt"))
        fate = (
            "other language"
            if language not in NAMES
            else "NA or empty"
            if prompt.strip() in ("", "NA")
            else ""
        )
        yield f"{language}  {locale}", fate, None if fate else {"prompt": prompt, "locale": locale}


def mmlu(path: Path, asked: str):
    """Questions of one subject from Okapi, m_mmlu, Global-MMLU or MMMLU; the columns' names differ, and Okapi's id has the subject."""
    language = language_of(path) or path.name
    if language not in NAMES:
        return (yield language, "other language", None)
    for where, row in read(path):
        row = {str(name).lower().removeprefix("option_"): value for name, value in row.items()}
        subject = cell(
            where, row, "subject" if "subject" in row else "id"
        )  # MMMLU has some <subject>_test.csv_sw-KE.csv
        choices = (
            row["choices"] if "choices" in row else [cell(where, row, letter) for letter in "abcd"]
        )
        question = cell(where, row, "instruction" if "instruction" in row else "question")
        texts = [
            text_of(text) for text in (question, *(choices if isinstance(choices, list) else []))
        ]
        answer = str(cell(where, row, "answer")).strip().upper()
        whole = len(texts) == 5 and all(texts) and answer in [*"ABCD"]
        fate = (
            "other subject"
            if re.split(r"/|_test[.-]", str(subject))[0] != asked
            else ""
            if whole
            else "incomplete"
        )
        yield (
            language,
            fate,
            None if fate else {"question": texts[0], "choices": texts[1:], "answer": answer},
        )


# Hate-speech corpora: where the text is, where the labels are, and which of them mean hateful [paper §3.2]; the language, or the
# column that tells it, if the file's name does not; the origin, a column that tells from which corpus a collection has a row.
HATE = {
    "davidson": {
        "about": "Davidson 2017",
        "text": "tweet",
        "label": ["class"],
        "hateful": ["0"],
        "language": "en",
    },
    "ibrohim": {
        "about": "Ibrohim 2019",
        "text": "Tweet",
        "label": ["HS"],
        "hateful": ["1"],
        "language": "id",
        "encoding": "latin-1",
    },
    "moosa": {
        "about": "Moosa 2022",
        "text": "text",
        "label": ["label"],
        "hateful": ["1"],
        "language": "language",
    },
    "tonneau": {
        "about": "Tonneau 2024",
        "text": "text",
        "label": ["labels"],
        "hateful": ["1"],
        "origin": "dataset",
    },
    "saitov": {
        "about": "Saitov 2021",
        "text": "text",
        "label": ["hate_speech"],
        "hateful": ["1", "2", "3"],
        "language": "ru",
    },
    "hate": {"about": "Any other corpus"},
}
MOOSA = dict(
    zip(map(str, range(1, 14)), "ar en zh fr de ru tr hi-Latn ko it es pt id".split())
)  # hi-Latn's labels are doubtful


def hate(path: Path, corpus):
    """A corpus laid out as HATE or the command line says; of several labels, in columns or in a cell, one hateful one is enough."""
    code_or_column, advice = (
        corpus.language or language_of(path) or "language",
        "--text, --label and --language name them",
    )
    for where, row in read(path, encoding=corpus.encoding, separator=corpus.separator):
        labels = [
            label
            for column in corpus.label
            for label in labels_of(cell(where, row, column, advice))
        ]
        language = code_or_column
        if language not in NAMES:
            language = (
                "".join(labels_of(cell(where, row, language, advice))[:1]).strip().lower()
                or "unknown"
            )
        language, prompt = (
            MOOSA.get(language, language),
            plain(text_of(cell(where, row, corpus.text, advice))),
        )
        unlabelled = all(
            label in ("", "nan") or label.startswith("-") for label in labels
        )  # one of Saitov's is -1
        fate = (
            "no label"
            if unlabelled
            else "not hateful"
            if not {*labels} & {*corpus.hateful}
            else ""
            if prompt
            else "no text"
        )
        fate = fate if language in NAMES else "other language"
        source = f"{corpus.name}/{row[corpus.origin]}" if row.get(corpus.origin) else corpus.name
        yield (
            f"{language}  {','.join(labels)}",
            fate,
            None if fate else {"prompt": prompt, "source": source},
        )


def labels_of(value) -> list[str]:
    """The labels in a cell: 1.0 and "1.0" are 1; a list, and text such as "hate,offensive" or "['hate']", are several."""
    cells = (
        value
        if isinstance(value, list)
        else re.split("[,;|]", "" if value is None else str(value).strip("[] "))
    )
    return [re.sub(r"^(-?\d+)\.0+$", r"\1", str(part).strip(" '\"")) for part in cells]


def plain(text: str) -> str:
    """On one line, with character references (&amp;) and literal escapes (\\n, \\xc3\\xa9) decoded, or dropped if cut short."""

    def decode(escapes):
        return bytes.fromhex(escapes[1].replace("\\x", "")).decode("utf-8", "ignore")

    text = re.sub(
        r"((?:\\x[0-9a-fA-F]{2})+)(?:\\x?[0-9a-fA-F]?(?=\W*$))?", decode, html.unescape(text)
    )
    return " ".join(re.sub(r"\\[nrt]", " ", text).split())
