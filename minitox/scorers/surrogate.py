"""The default scorer: a linear model that imitates the scores published with a corpus. data/prepare.py trains it.

A text is cut at LONGEST characters, normalised, and taken as the set of its character n-grams, each hashed to an entry of its
language's table. Its score is sigmoid(offset + sum of these entries / sqrt(number of n-grams)). The entries are the weights of
a ridge regression on tf-idf (without the tf), times the idf and the slope of the calibration, so that nothing else need be kept.
"""

import json
import re
import unicodedata
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from minitox.errors import InputError
from minitox.files import file_hash, is_kind

LONGEST, ORDER, BITS = (
    1_000,
    5,
    20,
)  # characters of a text, characters of an n-gram, bits of its hash
PENALTY, STEPS = (
    1.0,
    12,
)  # of the ridge regression, of conjugate gradients: twice as many change no figure
SETTINGS = {
    "format": 1,
    "longest": LONGEST,
    "order": ORDER,
    "bits": BITS,
    "penalty": PENALTY,
    "steps": STEPS,
}
SHAPES = {(np.dtype(np.float16), (1 << bits,)) for bits in range(BITS + 1)}  # that a table may have
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: its multiples scatter evenly


def normalise(text: str) -> str:
    """NFKC, case folded, digits 0, white space one space, at most two of a character in a row, a space at both ends."""
    text = " ".join(unicodedata.normalize("NFKC", text[:LONGEST]).casefold().split())
    return " " + re.sub(r"(.)\1{2,}", r"\1\1", re.sub(r"\d", "0", text)) + " "


def ngrams(text: str):  # -> (n,) int32
    """Hashes of the different n-grams of a normalised text, sorted; a table of 2**b entries takes their upper b bits."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(
        np.uint64
    ) + np.uint64(1)
    hashes, found = np.zeros_like(codes), []
    for n in range(min(ORDER, len(codes))):
        hashes = (
            hashes[: len(codes) - n] + codes[n:]
        ) * GOLDEN  # modulo 2**64; one for each place where an n-gram begins
        found.append(hashes >> np.uint64(64 - BITS))
    return np.unique(np.concatenate(found)).astype(np.int32)


def margins(table, rows):  # (entries,), (texts,) of ngrams -> (texts,) float64
    shift = BITS - (len(table) - 1).bit_length()
    return np.array([table[row >> shift].sum(dtype=np.float64) / np.sqrt(len(row)) for row in rows])


def sigmoid(x):
    return (1 + np.tanh(x / 2)) / 2  # exp would overflow


def ridge(rows, scores, bits: int):  # (texts,) of ngrams, (texts,) -> (2**bits,) float64
    """Weights of the linear model nearest to the scores less their mean, by conjugate gradients on the normal equations."""
    lengths, entries = np.array([len(row) for row in rows]), np.concatenate(rows) >> (BITS - bits)
    starts = np.cumsum(lengths) - lengths
    idf = np.log((1 + len(rows)) / (1 + np.bincount(entries, minlength=1 << bits))) + 1
    idf /= np.sqrt(np.mean(idf[entries] ** 2))  # so that a text's vector has a length of about 1

    def forward(weights):
        return np.add.reduceat((idf * weights)[entries], starts) / np.sqrt(lengths)

    def backward(errors):
        return idf * np.bincount(
            entries, np.repeat(errors / np.sqrt(lengths), lengths), minlength=1 << bits
        )

    weights, residual = np.zeros(1 << bits), backward(scores - scores.mean())
    direction, left = residual, np.sum(residual**2)
    for _ in range(STEPS):
        curved = backward(forward(direction)) + PENALTY * direction
        step = left / max(
            np.sum(direction * curved), 1e-300
        )  # 0 if nothing is left, as where all scores are equal
        weights, residual, before = weights + step * direction, residual - step * curved, left
        left = np.sum(residual**2)
        direction = residual + left / max(before, 1e-300) * direction
    return idf * weights


def calibrate(margin, scores):  # (texts,), (texts,) -> slope, offset
    """Platt scaling: the slope and the offset of the margin whose sigmoid is nearest to the scores in cross-entropy."""
    centre, spread, count = margin.mean(), margin.std() or 1, len(scores)
    x, targets = (
        (margin - centre) / spread,
        (scores * count + 1) / (count + 2),
    )  # Platt's: no infinite confidence
    slope = offset = 0.0
    for _ in range(
        500
    ):  # Newton's method with 1/4 as the curvature, a sigmoid's greatest: no step goes too far
        errors = targets - sigmoid(slope * x + offset)
        slope, offset = slope + 4 * np.mean(errors * x), offset + 4 * np.mean(errors)
    return slope / spread, offset - slope * centre / spread


def fit(
    rows, scores, folds
):  # (texts,) of ngrams, (texts,), (texts,) integers -> (entries,) float16, offset
    """A language's table and offset, calibrated on what models of the other folds say of each fold's texts."""
    bits = min(
        BITS, (2 * len(np.unique(np.concatenate(rows))) - 1).bit_length()
    )  # two entries an n-gram: few share one
    margin = np.empty(len(rows))
    for fold in np.unique(folds):
        margin[folds == fold] = margins(
            ridge(rows[folds != fold], scores[folds != fold], bits), rows[folds == fold]
        )
    slope, offset = calibrate(margin, scores)
    return (slope * ridge(rows, scores, bits)).astype(np.float16), round(float(offset), 4)


class Surrogate:
    """A scorer: the file of a linear model; `held_out` is what it is worth on sentences that it had not seen."""

    def __init__(self, path: Path):
        try:
            with safe_open(str(path), framework="numpy") as file:
                info = json.loads((file.metadata() or {})["surrogate"])
                self.tables = {language: file.get_tensor(language) for language in file.keys()}
            kind = {
                "offset": float,
                "held_out": {"auc": float, "correlation": float, "calibration": float, "rows": int},
            }
            shapes = {(table.dtype, table.shape) for table in self.tables.values()}
            if (
                info | SETTINGS != info
                or shapes - SHAPES
                or not is_kind(info["languages"], {str: kind})
            ):
                raise ValueError("other settings")
            self.offset = {
                language: info["languages"][language]["offset"] for language in self.tables
            }
            self.held_out = {
                language: info["languages"][language]["held_out"] for language in self.tables
            }
            aucs = [found["auc"] for found in self.held_out.values()]
            self.about = (
                f"linear on character 1..{ORDER}-grams, {len(aucs)} languages, "
                f"held-out AUC {sum(aucs) / len(aucs):.2f} on average, {min(aucs):.2f} at worst"
            )
        except (
            SafetensorError,
            OSError,
            ArithmeticError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise InputError(f"{path}: not a scorer of this version of minitox ({error})") from None
        self.name, self.languages = f"surrogate-{file_hash(path)[:12]}", set(self.tables)

    def score(self, texts: list[str], language: str):
        """Yield (score, "scored") of each text, "cut" if only its first LONGEST characters were read."""
        for text in texts:
            margin = margins(self.tables[language], [ngrams(normalise(text))])[0]
            yield (
                float(sigmoid(self.offset[language] + margin)),
                "cut" if len(text) > LONGEST else "scored",
            )
