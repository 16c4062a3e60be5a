"""Fit the default scorer, a linear model per language, to the scores published with a corpus."""

from hashlib import sha256
from pathlib import Path

import numpy as np
from writing import language_files, refuse_sources

from minitox import files, locks
from minitox.data import distinct, read_detection
from minitox.detect.auroc import auroc
from minitox.errors import InputError, UnusableLanguage
from minitox.languages import NAMES
from minitox.overlap import PromptIndex, read_prompt_index
from minitox.scorers import surrogate

NO_PROMPTS = PromptIndex([])


def scorer(source: Path, out: Path | None, seed: int):
    """Fit a scorer to detection/ files, and print its quality on held-out rows.

    Copies of the test prompts in prompts/, the folder beside `source`, are left out.
    """
    out = out or source.parent / "scorer.safetensors"
    paths = [path for path in sorted(source.glob("*.jsonl")) if path.stem in NAMES]
    if not paths:
        raise InputError(
            f"{source}: no usable language; expected files such as data/toy/detection/en.jsonl"
        )
    prompts = source.parent / "prompts"
    refuse_sources([*paths, *language_files(prompts)], [out])
    locks.acquire(out.with_name(f".{out.name}.lock"))
    tensors = {}
    known = {}  # what the file records about each language
    # 1) a model per language
    print("    held-out rows    AUC  correlation  calibration error")
    for path in paths:
        language = path.stem
        try:
            index = read_prompt_index(prompts / path.name)
            table, known[language], texts = learn(path, seed, index)
        except UnusableLanguage as error:
            print(f"{language}  left out: {error}")
            continue
        hashes = np.array([surrogate.text_hash_64(text) for text in texts], np.int64)
        tensors |= {language: table, surrogate.TEXTS + language: np.unique(hashes)}
        row = "{}  {rows:13,}  {auc:5.3f}  {correlation:11.3f}  {calibration:17.3f}"
        print(row.format(language, **known[language]["held_out"]), flush=True)
    if not known:
        raise InputError(f"{source}: no usable language; see above")
    # 2) all of them in one file
    about = surrogate.SETTINGS | {"seed": seed, "languages": known}
    files.write_tensors(out, tensors, "surrogate", about)
    print(f"wrote {out} ({len(known)} languages, {out.stat().st_size / 1000:,.0f} kB)")


def learn(path, seed, prompts=NO_PROMPTS):  # -> (entries,) table, its record, normalised texts
    """Fit a model to a detection/ file, without copies of the test prompts.

    Its held-out quality is that of a second model, which is fitted without one fold, on that fold.
    """
    every = read_detection(path)
    data = distinct(every)
    if len(data) < len(every):
        print(f"{path.stem}: dropped {len(every) - len(data):,} duplicates")
    unseen = [(text, score) for text, score in data if not prompts.compare(text)]
    if len(unseen) < len(data):
        print(f"{path.stem}: dropped {len(data) - len(unseen):,} copies of test prompts")
    data = unseen
    texts = [surrogate.as_read(text) for text, _ in data]
    scores = np.array([score for _, score in data])
    rows = np.fromiter(map(surrogate.ngrams, texts), dtype=object)

    # 1) five folds by a hash of the text, so that equal texts are in the same fold; the first is
    # held out
    digests = [sha256(f"{seed} {text}".encode()).hexdigest() for text in texts]
    folds = np.array([int(digest, 16) % 5 for digest in digests])
    seen = folds > 0
    held_out = folds == 0
    for part in (seen, held_out):
        if not ((scores[part] > 0.5).any() and (scores[part] < 0.2).any()):
            raise UnusableLanguage(
                f"{path}: too few rows above 0.5 or below 0.2 to fit a model and to test it"
            )
    if len(np.unique(folds[seen])) < 2:
        raise UnusableLanguage(f"{path}: too few rows to fit a model and to calibrate it")

    # 2) the quality of a model of the other folds
    table, offset = surrogate.fit(rows[seen], scores[seen], folds[seen])
    predicted = surrogate.sigmoid(offset + surrogate.margins(table, rows[held_out]))
    figures = quality(predicted, scores[held_out])

    # 3) the model of all rows
    table, offset = surrogate.fit(rows, scores, folds)
    known = {"offset": offset, "held_out": figures, "data": files.file_hash(path)}
    return table, known, texts


def quality(predicted, scores):  # (texts,), (texts,)
    """Compare predicted with published scores.

    The figures are the AUC of toxic against clean texts, Pearson's correlation, and the expected
    calibration error in ten bins of equal width.
    """
    # 1) between the paper's classes; `auroc` takes responses of shape (neurons, texts)
    toxic = scores > 0.5
    extreme = toxic | (scores < 0.2)
    responses = predicted[None, extreme].astype(np.float32)
    auc = auroc(responses, toxic[extreme])[0]

    # 2) the mean product of standardised values
    correlation = np.mean(standardised(predicted) * standardised(scores))

    # 3) in each bin the sum of the errors, so that they cancel where the mean is right
    bins = np.minimum((predicted * 10).astype(int), 9)  # 1.0 is in the last bin
    errors = np.bincount(bins, predicted - scores)
    calibration = np.abs(errors).sum() / len(scores)
    return {
        "auc": round(float(auc), 3),
        "correlation": round(float(correlation), 3),
        "calibration": round(float(calibration), 3),
        "rows": len(scores),
    }


def standardised(x):  # (texts,) -> (texts,) with mean 0 and, unless all are equal, deviation 1
    return (x - x.mean()) / (x.std() or 1)
