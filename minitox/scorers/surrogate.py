"""The default scorer: a linear model that imitates the scores published with a corpus.

A text is cut at MAX_CHARACTERS, normalised, and represented by the set of its character n-grams,
each of which is hashed to an entry of its language's table:

    score = sigmoid(offset + sum of the n-grams' entries / sqrt(number of n-grams))

The entries are the weights of a ridge regression on tf-idf (without the tf), multiplied by the idf
and by the slope of the calibration, so that a scorer consists of tables and offsets alone.
data/prepare.py trains it. Its file also has hashes of the training texts, so that evaluate.py can
recognise test prompts among them.
"""

from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from minitox.errors import InputError
from minitox.files import FORMAT, as_arrays, file_hash, is_kind, read_tensors
from minitox.spelling import normalise

MAX_CHARACTERS = 1_000  # of a text
ORDER = 5  # characters of the longest n-gram
BITS = 20  # of an n-gram's hash
PENALTY = 1.0  # of the ridge regression
STEPS = 12  # of conjugate gradients: twice as many change no held-out figure
SETTINGS = {
    "format": FORMAT,
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
TEXTS = "texts of "  # with the language: the name of the tensor with its texts' hashes
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: its multiples scatter evenly


# ---- a text's n-grams ----


def as_read(text: str) -> str:
    """What the scorer reads of a text: its beginning, normalised."""
    return normalise(text[:MAX_CHARACTERS])


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


def text_hash_64(text: str) -> int:
    """A hash of 64 bits, by which a scorer's file records a normalised text that it has learned."""
    digest = sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


# ---- the model ----


def margins(table, rows):  # (entries,), (texts,) of ngrams -> (texts,) float64
    """Each text's sum of entries, divided by the square root of its number of n-grams."""
    shift = BITS - (len(table) - 1).bit_length()
    sums = [table[row >> shift].sum(dtype=np.float64) for row in rows]
    lengths = [len(row) for row in rows]
    return np.array(sums) / np.sqrt(lengths)


def sigmoid(x):
    return (1 + np.tanh(x / 2)) / 2  # exp would overflow


def ridge(rows, scores, bits):  # (texts,) of ngrams, (texts,) -> (2**bits,) float64
    """Ridge regression on the centred scores, by conjugate gradients on the normal equations."""
    # 1) the sparse matrix X of the texts: entries of all texts, end to end
    lengths = np.array([len(row) for row in rows])  # (texts,)
    entries = np.concatenate(rows) >> (BITS - bits)  # (n-grams of all texts,)
    starts = np.cumsum(lengths) - lengths
    counts = np.bincount(entries, minlength=1 << bits)
    idf = np.log((1 + len(rows)) / (1 + counts)) + 1  # (2**bits,)
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
        weights += step * direction
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
        slope += 4 * np.mean(errors * x)
        offset += 4 * np.mean(errors)
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
        weights = ridge(rows[~inside], scores[~inside], bits)
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
        self.tables, self.texts, self.known = read_scorer(path)
        self.held_out = {language: self.known[language]["held_out"] for language in self.tables}
        self.languages = set(self.tables)
        self.name = f"surrogate-{file_hash(path)[:12]}"
        aucs = [quality["auc"] for quality in self.held_out.values()]
        self.about = (
            f"linear on character 1..{ORDER}-grams, {len(aucs)} languages, "
            f"held-out AUC {sum(aucs) / len(aucs):.2f} on average, {min(aucs):.2f} at worst"
        )

    def score(self, texts: list[str], language: str):
        """Yield each text's score and status: "cut" if only its first MAX_CHARACTERS were read."""
        for text in texts:
            row = ngrams(as_read(text))
            margin = margins(self.tables[language], [row])[0]
            status = "cut" if len(text) > MAX_CHARACTERS else "scored"
            yield float(sigmoid(self.known[language]["offset"] + margin)), status

    def has_learned(self, text: str, language: str) -> bool:
        """Whether a text was among the training texts, as the scorer reads them."""
        return text_hash_64(as_read(text)) in self.texts.get(language, ())


def read_scorer(path):
    """By language, a scorer's table, hashes of its training texts, offset and held-out quality."""
    texts = {}
    try:
        tables, about = read_tensors(path, "surrogate", "file of tables")
        for name in list(tables):
            if name.startswith(TEXTS):
                texts[name.removeprefix(TEXTS)] = tables.pop(name)
        check(tables, texts, about)
    except InputError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise InputError(
            f"{path}: not a scorer of this version of minitox ({reason}); "
            "create it again with data/prepare.py scorer"
        ) from None
    learned = {language: {*hashes.tolist()} for language, hashes in texts.items()}
    return as_arrays(path, tables), learned, about["languages"]


def check(tables, texts, about):
    """Raise InputError unless this version can score with the tables and knows their texts."""
    # 1) the metadata
    if not is_kind(about, {"languages": {str: LANGUAGE}}):
        raise InputError("its metadata are malformed")
    if about | SETTINGS != about:
        raise InputError("its settings are different")
    if not tables or not tables.keys() <= about["languages"].keys():
        raise InputError("its languages are missing")

    # 2) the tables: a hash's upper bits are the index of an entry
    shapes = [(1 << bits,) for bits in range(BITS + 1)]
    for language, table in tables.items():
        if table.dtype != torch.float16 or table.shape not in shapes:
            raise InputError(f"its table of {language} is malformed")

    # 3) the hashes of the training texts, sorted
    if texts.keys() != tables.keys():
        raise InputError("the hashes of its training texts are missing")
    for language, hashes in texts.items():
        is_list = hashes.dtype == torch.int64 and hashes.dim() == 1 and len(hashes)
        if not is_list or (hashes[1:] <= hashes[:-1]).any():
            raise InputError(f"its hashes of the training texts of {language} are malformed")
