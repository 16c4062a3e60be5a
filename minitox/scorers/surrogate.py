"""The default scorer: a linear model that imitates the scores published with a corpus.

A text is cut at MAX_CHARACTERS, normalised, and represented by the set of its character n-grams,
each of which is hashed to an entry of its language's table:

    score = sigmoid(offset + sum of the n-grams' entries / sqrt(number of n-grams))

The entries are the weights of a ridge regression on tf-idf (without the tf), multiplied by the idf
and by the slope of the calibration, so that a scorer consists of tables and offsets alone.
data/prepare.py trains it.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from minitox.errors import InputError
from minitox.files import file_hash, is_kind
from minitox.scorers.scores import Answer

MAX_CHARACTERS = 1_000  # of a text
ORDER = 5  # characters of the longest n-gram
BITS = 20  # of an n-gram's hash
PENALTY = 1.0  # of the ridge regression
STEPS = 12  # of conjugate gradients: twice as many change no held-out figure
SETTINGS = {
    "format": 1,
    "longest": MAX_CHARACTERS,
    "order": ORDER,
    "bits": BITS,
    "penalty": PENALTY,
    "steps": STEPS,
}
# what the metadata contain for each language
LANGUAGE = {
    "offset": float,
    "held_out": {
        "auc": float,
        "correlation": float,
        "calibration": float,
        "rows": int,
    },
}
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: its multiples scatter evenly


# ---- a text's n-grams ----


def normalise(text: str) -> str:
    """Give texts that look alike one spelling, with a space at both ends."""
    text = text[:MAX_CHARACTERS]
    text = unicodedata.normalize("NFKC", text).casefold()
    text = " ".join(text.split())
    text = re.sub(r"\d", "0", text)  # "1984" is "0000", and then "00"
    text = re.sub(r"(.)\1{2,}", r"\1\1", text)  # "soooo" is "soo"
    return f" {text} "


def ngrams(text: str):  # -> (n,) int32
    """Sorted hashes of the distinct n-grams of a normalised text; a table uses their upper bits."""
    utf32 = text.encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(utf32, dtype="<u4")
    codes = codes.astype(np.uint64) + np.uint64(1)  # (characters,)
    hashes = np.zeros_like(codes)  # of the n-gram that begins at each character
    by_length = []
    for n in range(min(ORDER, len(codes))):
        # append the next character to each n-gram, modulo 2**64
        hashes = (hashes[: len(codes) - n] + codes[n:]) * GOLDEN
        by_length.append(hashes >> np.uint64(64 - BITS))
    return np.unique(np.concatenate(by_length)).astype(np.int32)


# ---- the model ----


def margins(table, rows):  # (entries,), (texts,) of ngrams -> (texts,) float64
    """Each text's sum of entries, divided by the square root of its number of n-grams."""
    shift = BITS - (len(table) - 1).bit_length()
    sums = [table[row >> shift].sum(dtype=np.float64) for row in rows]
    lengths = [len(row) for row in rows]
    return np.array(sums) / np.sqrt(lengths)


def sigmoid(x):
    return (1 + np.tanh(x / 2)) / 2  # exp would overflow


def ridge(rows, scores, bits: int):  # (texts,) of ngrams, (texts,) -> (2**bits,) float64
    """Ridge regression on the centred scores, by conjugate gradients on the normal equations."""
    # 1) the sparse matrix X of the texts: entries of all texts, end to end
    lengths = np.array([len(row) for row in rows])  # (texts,)
    entries = np.concatenate(rows) >> (BITS - bits)  # (n-grams of all texts,)
    starts = np.cumsum(lengths) - lengths
    counts = np.bincount(entries, minlength=1 << bits)
    rarity = (1 + len(rows)) / (1 + counts)  # (2**bits,)
    idf = np.log(rarity) + 1
    idf /= np.sqrt(np.mean(idf[entries] ** 2))  # so that a text's vector has a length of about 1

    def forward(weights):  # X @ weights
        sums = np.add.reduceat((idf * weights)[entries], starts)  # (texts,)
        return sums / np.sqrt(lengths)

    def backward(errors):  # X.T @ errors
        of_entries = np.repeat(errors / np.sqrt(lengths), lengths)
        return idf * np.bincount(entries, of_entries, minlength=1 << bits)

    # 2) solve (X.T @ X + PENALTY) @ weights = X.T @ (scores - mean)
    weights = np.zeros(1 << bits)
    residual = backward(scores - scores.mean())
    direction = residual
    energy = np.sum(residual**2)  # 0 if all scores are equal: hence the 1e-300
    for _ in range(STEPS):
        curved = backward(forward(direction)) + PENALTY * direction
        step = energy / max(np.sum(direction * curved), 1e-300)
        weights = weights + step * direction
        residual = residual - step * curved
        before = energy
        energy = np.sum(residual**2)
        direction = residual + energy / max(before, 1e-300) * direction
    return idf * weights


def calibrate(margin, scores):  # (texts,), (texts,) -> slope, offset
    """Platt scaling: sigmoid(slope * margin + offset) fits the scores best in cross-entropy."""
    centre = margin.mean()
    scale = margin.std() or 1
    x = (margin - centre) / scale
    # Platt's targets, which keep confidence finite
    targets = (scores * len(scores) + 1) / (len(scores) + 2)

    slope = 0.0
    offset = 0.0
    for _ in range(500):
        # Newton's method with a sigmoid's greatest curvature, 1/4: no step goes too far
        errors = targets - sigmoid(slope * x + offset)
        slope = slope + 4 * np.mean(errors * x)
        offset = offset + 4 * np.mean(errors)
    return slope / scale, offset - slope * centre / scale


def fit(rows, scores, folds):  # (texts,) of ngrams, (texts,), (texts,) integers
    """Train a language's table, (entries,) float16, and its offset."""
    # 1) the size of the table: twice as many entries as n-grams, so that few share one
    distinct = len(np.unique(np.concatenate(rows)))
    bits = min(BITS, (2 * distinct - 1).bit_length())

    # 2) calibrate on margins that each fold's texts get from a model of the other folds
    margin = np.empty(len(rows))
    for fold in np.unique(folds):
        inside = folds == fold
        others = folds != fold
        weights = ridge(rows[others], scores[others], bits)
        margin[inside] = margins(weights, rows[inside])
    slope, offset = calibrate(margin, scores)

    # 3) the model of all texts
    table = slope * ridge(rows, scores, bits)
    offset = round(float(offset), 4)
    return table.astype(np.float16), offset


# ---- the scorer ----


class Surrogate:
    """A scorer: the linear models of a file; `held_out` is their quality on unseen texts."""

    def __init__(self, path: Path):
        self.tables, known = read_scorer(path)
        self.offset = {language: known[language]["offset"] for language in self.tables}
        self.held_out = {language: known[language]["held_out"] for language in self.tables}
        self.languages = set(self.tables)
        self.name = f"surrogate-{file_hash(path)[:12]}"
        aucs = [quality["auc"] for quality in self.held_out.values()]
        self.about = (
            f"linear on character 1..{ORDER}-grams, {len(aucs)} languages, "
            f"held-out AUC {sum(aucs) / len(aucs):.2f} on average, {min(aucs):.2f} at worst"
        )

    def score(self, texts: list[str], language: str) -> Iterator[Answer]:
        """Yield each text's score, with "cut" if only its first MAX_CHARACTERS were read."""
        for text in texts:
            row = ngrams(normalise(text))
            margin = margins(self.tables[language], [row])[0]
            status = "cut" if len(text) > MAX_CHARACTERS else "scored"
            yield float(sigmoid(self.offset[language] + margin)), status


def read_scorer(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """The tables of a scorer's file, and each language's offset and held-out quality."""
    try:
        tables, about = read_tensor_file(path, "surrogate")
        check(tables, about)
    except (SafetensorError, OSError, RecursionError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a scorer of this version of minitox ({error}); "
            "create it again with data/prepare.py scorer"
        ) from None
    return tables, about["languages"]


def read_tensor_file(path: Path, key: str) -> tuple[dict[str, np.ndarray], dict]:
    """The tensors of a safetensors file, and the JSON object at `key` of its metadata."""
    with safe_open(str(path), framework="numpy") as file:
        metadata = file.metadata() or {}
        if key not in metadata:
            raise ValueError(f"its metadata have no {key}")
        about = json.loads(metadata[key])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    return tensors, about


def check(tables: dict[str, np.ndarray], about: dict) -> None:
    """Raise ValueError unless this version can score with the tables."""
    # 1) the metadata
    if not is_kind(about, {"languages": {str: LANGUAGE}}):
        raise ValueError("its metadata are malformed")
    if about | SETTINGS != about:
        raise ValueError("its settings are different")
    if not tables or not tables.keys() <= about["languages"].keys():
        raise ValueError("its languages are missing")

    # 2) the tables: a hash's upper bits are the index of an entry
    shapes = [(1 << bits,) for bits in range(BITS + 1)]
    for language, table in tables.items():
        if table.dtype != np.float16 or table.shape not in shapes:
            raise ValueError(f"its table of {language} is malformed")
