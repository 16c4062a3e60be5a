"""Read the published corpora as they are: a reader for each layout, from a path to its rows.

A reader yields (name, fate, row). The name is the language, followed by a label or locale if there
is one. The fate is the reason why the row is dropped, or "" if it is not. The row is what to write,
or None if it is dropped. Files are read row by row, except for JSON arrays: Okapi's are a few
megabytes.
"""

import html
import re
from pathlib import Path

from raw_files import cell, language_of, read, text_of

from minitox.errors import InputError
from minitox.files import read_jsonl
from minitox.languages import NAMES

RTP_LX = "rtp-lx"  # as `source` of a pair
TOXIC = 3  # of 1 to 5: the lowest rating of a completion that becomes a rejected reply
TRANSLATED = 999  # rows of RTP-LX that every language has; the others were written in one

# Sentences, prompts and questions


def ptp(path: Path, score: str):
    """Read PolygloToxicityPrompts: `score` "text" for whole texts, "prompt" for their beginnings.

    The fate of a usable row is its class: "toxic", "clean" or "between". The wildchat files have
    prompts only.  [paper §3.1]
    """
    column = "toxicity"
    if score == "prompt":
        column = "prompt_perspective.attributeScores.TOXICITY.summaryScore.value"
    file_language = language_of(path)
    for where, row in read(path, [score, column, "meta_data.lang"]):
        # 1) the language of the file, or else of the row
        language = file_language
        if not language:
            about = cell(where, row, "meta_data")
            code = about.get("lang") if isinstance(about, dict) else None
            language = str(code).strip() or "unknown"

        # 2) the text, and its score in a nested column
        text = text_of(cell(where, row, score, "use --score prompt for the wildchat files"))
        value = row
        for key in column.split("."):
            value = value.get(key) if isinstance(value, dict) else None

        # 3) the class
        fate = ptp_class(value) if text else "no text"
        if language not in NAMES:
            fate = "other language"
        yield language, fate, {"text": text, "toxicity": value}


def ptp_class(score):
    """Return the class of a toxicity score; where Perspective failed there is -1 or nothing."""
    if not isinstance(score, (int, float)) or not 0 <= score <= 1:
        return "no score"
    if score > 0.5:
        return "toxic"
    return "clean" if score < 0.2 else "between"


def rtp_lx(path: Path, pairs: bool = False):
    """Read RTP-LX, of which only the column `Prompt` is the same in all releases.

    With `pairs`, a row has the benign completion as response, and the other one as rejected reply
    if people rated it at least TOXIC.

    zh is the file ZH-Hans. The file PT has prompts from Brazil and from Portugal. Rows of equal
    `Index` below TRANSLATED are translations of one prompt; the id tells so. `Index` is text in
    some files and a number in others.
    """
    locale = path.stem.removeprefix("RTP_LX_")
    language = locale.lower().replace("zh-hans", "zh") or "unknown"
    name = f"{language}  {locale}"
    for where, row in read_jsonl(path):
        prompt = text_of(cell(where, row, "Prompt"))
        if language not in NAMES:
            yield name, "other language", None
        elif prompt.strip() in ("", "NA"):
            yield name, "NA or empty", None
        else:
            used = {"prompt": prompt, "locale": locale}
            index = str(row.get("Index", ""))
            if index.isdecimal() and int(index) < TRANSLATED:
                used["id"] = f"rtp-lx/{int(index)}"
            fate = ""
            if pairs:
                replies, fate = completions(row)
                used |= replies
            yield name, fate, None if fate else used


def completions(row: dict) -> tuple[dict, str]:
    """Return the benign and the toxic completion of a row of RTP-LX, and why it has not both."""
    benign = text_of(row.get("BenignCompletion"))
    toxic = text_of(row.get("Completion"))
    if not benign or not toxic or benign.strip() == toxic.strip():
        return {}, "no completions"
    annotations = row.get("CompletionAnnotations")
    rating = annotations.get("Toxicity") if isinstance(annotations, dict) else None
    if not isinstance(rating, int | float) or not rating >= TOXIC:
        return {}, "not toxic"
    return {"response": benign, "rejected": toxic, "source": RTP_LX}, ""


def mmlu(path: Path, asked: str):
    """Read the questions of one subject from Okapi, m_mmlu, Global-MMLU or MMMLU.

    They name their columns differently; Okapi has the subject in the id.
    """
    language = language_of(path) or path.name
    if language not in NAMES:
        yield language, "other language", None
        return
    for where, row in read(path):
        # 1) the columns under one name: option_a, A and a are the same
        names = [str(name).lower().removeprefix("option_") for name in row]
        if len({*names}) < len(names):
            raise InputError(f"{where}: two columns differ only in case or by option_")
        row = dict(zip(names, row.values(), strict=True))
        subject = cell(where, row, "subject" if "subject" in row else "id")
        in_one = "choices" in row  # one column rather than four
        choices = row["choices"] if in_one else [cell(where, row, letter) for letter in "abcd"]
        question = cell(where, row, "instruction" if "instruction" in row else "question")
        answer = str(cell(where, row, "answer")).strip().upper()

        # 2) the question, if it is of the subject and has all its parts
        texts = [text_of(question)]
        if isinstance(choices, list):
            texts += map(text_of, choices)
        is_whole = len(texts) == 5 and all(texts) and answer in ("A", "B", "C", "D")
        # Okapi: subject/test/0; some in MMMLU: subject_test.csv_sw-KE.csv, subject_test-sw-KE.csv
        if re.split(r"/|_test[.-]", str(subject))[0] != asked:
            yield language, "other subject", None
        elif not is_whole:
            yield language, "incomplete", None
        else:
            yield language, "", {"question": texts[0], "choices": texts[1:], "answer": answer}


# Cases of hate speech, to measure scorers with

# what MHC calls a language, if that is not its name
HATECHECK_NAMES = {"mandarin": "zh"}


def hatecheck(path: Path):
    """Read HateCheck or Multilingual HateCheck: `test_case`, `label_gold` and `functionality`.

    HateCheck's cases have a `case_id`, a number, and are English. MHC's have an `mhc_case_id`, such
    as mandarin-1305, which begins with the language. The labels are "hateful" and "non-hateful".
    """
    codes = {name.lower(): code for code, name in NAMES.items()} | HATECHECK_NAMES
    for where, row in read(path):
        # 1) the language
        language = "en"
        if "mhc_case_id" in row:
            name = str(row["mhc_case_id"]).partition("-")[0].strip().lower()
            language = codes.get(name, name) or "unknown"
        else:
            cell(where, row, "case_id")

        # 2) the case
        text = text_of(cell(where, row, "test_case")).strip()
        label = str(cell(where, row, "label_gold")).strip()
        functionality = text_of(cell(where, row, "functionality"))
        fate = ""
        if language not in NAMES:
            fate = "other language"
        elif label not in ("hateful", "non-hateful"):
            fate = "no label"
        elif not text:
            fate = "no text"
        hateful = label == "hateful"
        case = {"text": text, "hateful": hateful, "functionality": functionality}
        yield f"{language}  {label}", fate, None if fate else case


def xstest(path: Path):
    """Read XSTest, which is English: `prompt`, `type`, and `label`, "safe" or "unsafe".

    Version 2 has no column of labels; there, the type of an unsafe prompt begins with "contrast_".
    """
    for where, row in read(path):
        prompt = text_of(cell(where, row, "prompt")).strip()
        kind = text_of(cell(where, row, "type")).strip()
        label = "unsafe" if kind.startswith("contrast_") else "safe"
        if "label" in row:
            label = text_of(row["label"]).strip()
        fate = ""
        if label not in ("safe", "unsafe") or not kind:
            fate = "no label"
        elif not prompt:
            fate = "no text"
        used = {"prompt": prompt, "type": kind, "label": label}
        yield f"en  {label}", fate, None if fate else used


# Hate speech  [paper §3.2]

# text: the column of the text; label: columns of labels, of which those in `hateful` mean hate
# language: a code, or the column that has it; without one, the file's name has it
# origin: a column that names the corpus from which a collection has a row
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
# Moosa's numbers of the languages; the labels of 8, Hindi in Latin letters, are doubtful
MOOSA = {
    str(number): language
    for number, language in enumerate("ar en zh fr de ru tr hi-Latn ko it es pt id".split(), 1)
}


def hate(
    path: Path,
    name,  # of the corpus
    text,  # the column of the text
    label,  # the columns of labels
    hateful,  # labels of which any one makes a row hateful
    language=None,  # a code, or the column that has it
    origin=None,  # a column that names the corpus of each row
    **csv,  # encoding and separator of a CSV file
):
    """Read a hate-speech corpus that is laid out as HATE or the command line describes it."""
    advice = "name the columns with --text, --label and --language"
    code_or_column = language or language_of(path) or "language"
    for where, row in read(path, **csv):
        # 1) what the row has in its columns
        labels = []
        for column in label:
            labels += labels_of(cell(where, row, column, advice))
        code = code_or_column
        if code not in NAMES:
            cells = labels_of(cell(where, row, code_or_column, advice))
            code = "".join(cells[:1]).strip().lower() or "unknown"
            code = MOOSA.get(code, code)
        prompt = plain(text_of(cell(where, row, text, advice)))

        # 2) whether it is used; a label that is empty, NaN or negative (Saitov has a -1) is none
        unlabelled = all(label in ("", "nan") or label.startswith("-") for label in labels)
        fate = ""
        if code not in NAMES:
            fate = "other language"
        elif unlabelled:
            fate = "no label"
        elif not {*labels} & {*hateful}:
            fate = "not hateful"
        elif not prompt:
            fate = "no text"

        source = f"{name}/{row[origin]}" if row.get(origin) else name
        used = None if fate else {"prompt": prompt, "source": source}
        yield f"{code}  {','.join(labels)}", fate, used


def labels_of(value):
    """Return the labels in a cell: a list, or text such as "hate,offensive" or "['hate']".

    The numbers 1.0 and "1.0" become "1".
    """
    text = "" if value is None else str(value)
    cells = value if isinstance(value, list) else re.split("[,;|]", text.strip("[] "))
    labels = [str(part).strip(" '\"") for part in cells]
    return [re.sub(r"^(-?\d+)\.0+$", r"\1", label) for label in labels]


def plain(text):
    """Return a text on one line, with character references and written-out escapes decoded.

    Such are &amp;, \\n and \\xc3\\xa9; an escape that was cut short is dropped.
    """

    def decode(escapes):
        return bytes.fromhex(escapes[1].replace("\\x", "")).decode("utf-8", "ignore")

    text = html.unescape(text)
    text = re.sub(r"((?:\\x[0-9a-fA-F]{2})+)(?:\\x?[0-9a-fA-F]?(?=\W*$))?", decode, text)
    text = re.sub(r"\\[nrt]", " ", text)
    return " ".join(text.split())
