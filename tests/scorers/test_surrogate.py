"""The default scorer: stable hashes, a ridge regression, calibrated scores, and strict files."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny import TOY

from minitox.errors import InputError
from minitox.scorers import surrogate
from minitox.scorers.surrogate import (
    MAX_CHARACTERS,
    SETTINGS,
    TEXTS,
    Surrogate,
    as_read,
    calibrate,
    margins,
    ngrams,
    ridge,
    sigmoid,
)

HOSTILE = [
    "\0",
    "\u202e\u200f",
    "\ud83d",
    "x\udfff\ud800",
    "\U0010ffff",
    ".",
    "\ufdfa" * MAX_CHARACTERS,
    "\u0301" * 3_000,
    "a" * 100_000,
    "1 \n" * 50_000,
]
QUALITY = {"auc": 0.9, "correlation": 0.5, "calibration": 0.05, "rows": 7}
ABOUT = {"offset": 0.0, "held_out": QUALITY}  # what a file records of a language


@pytest.fixture(scope="module")
def toy():
    return Surrogate(TOY / "scorer.safetensors")


def texts_as_ngrams(*texts: str):
    return np.fromiter((ngrams(as_read(text)) for text in texts), dtype=object)


def write(path, tables: dict, **changes):
    """Write a scorer's file, with some of its metadata changed.

    Without other hashes of training texts, a language has one.
    """
    texts = {language for language in tables if not language.startswith(TEXTS)}
    tables = {TEXTS + language: np.zeros(1, np.int64) for language in texts} | tables
    languages = dict.fromkeys(texts, ABOUT)
    about = SETTINGS | {"languages": languages} | changes
    save_file(tables, path, metadata={"surrogate": json.dumps(about)})
    return path


# ---- text to n-grams ----


def test_hashes_are_the_same_in_every_process_and_version():
    """Another value here makes every existing scorer file useless."""
    assert ngrams(" a ").tolist() == [290143, 364646, 414315, 594889, 906239]
    assert ngrams(as_read("日本語"))[:4].tolist() == [34292, 36312, 138144, 180521]
    assert ngrams(as_read("You donkey"))[[0, 1, -1]].tolist() == [34187, 35192, 1028541]


def test_ngrams_are_the_distinct_substrings_of_up_to_five_characters():
    text = as_read("the ox, the ox and the other ox")
    substrings = set()
    for n in range(1, 6):
        substrings |= {text[i : i + n] for i in range(len(text) - n + 1)}

    def slow_hash(substring):  # the definition, in integers of any size
        value = 0
        for character in substring:
            value = (value + ord(character) + 1) * 0x9E3779B97F4A7C15
        return value % 2**64 >> 44

    assert ngrams(text).tolist() == sorted(set(map(slow_hash, substrings)))


def test_hashes_are_distributed_evenly():
    rng = np.random.default_rng(0)
    hashes = []
    for first_letter in (97, 0x430, 0x4E00, 0xAC00):  # Latin, Cyrillic, Han, Hangul
        for _ in range(20):
            text = "".join(map(chr, first_letter + rng.integers(0, 26, 400)))
            hashes.append(ngrams(text))
    hashes = np.unique(np.concatenate(hashes))
    counts = np.bincount(hashes >> 10, minlength=1024)
    assert len(hashes) > 60_000
    assert np.var(counts) < 1.5 * counts.mean()  # of random hashes, the two are equal


# ---- the model ----


def test_weights_are_those_of_the_closed_form():
    rows = texts_as_ngrams(
        "the soup is warm",
        "you donkey",
        "the garden is green",
        "what a donkey you are",
        "a warm day",
        "go away",
    )
    scores = np.array([0.1, 0.9, 0.0, 0.8, 0.2, 0.6])
    bits = 8  # so few entries that n-grams share them
    counts = np.array([np.bincount(row >> 12, minlength=256) for row in rows])  # (texts, entries)
    idf = np.log(7 / (1 + counts.sum(axis=0))) + 1
    idf /= np.sqrt((counts * idf**2).sum() / counts.sum())
    x = counts * idf / np.sqrt(counts.sum(axis=1, keepdims=True))
    normal = x.T @ x + surrogate.PENALTY * np.eye(256)
    expected = idf * np.linalg.solve(normal, x.T @ (scores - scores.mean()))
    assert ridge(rows, scores, bits) == pytest.approx(expected, abs=1e-9)
    assert margins(expected, rows) == pytest.approx(counts @ expected / np.sqrt(counts.sum(axis=1)))


def test_equal_scores_give_weights_of_0():
    rows = texts_as_ngrams("one", "two", "three")
    assert np.abs(ridge(rows, np.full(3, 0.5), 8)).max() == 0
    assert np.abs(ridge(rows, np.full(3, 0.4), 8)).max() < 1e-12  # their mean is rounded


def test_calibration_recovers_the_slope_and_the_offset_of_the_scores():
    rng = np.random.default_rng(0)
    margin = rng.normal(0.3, 0.2, 5_000)
    slope, offset = calibrate(margin, sigmoid(7 * margin - 3))
    assert slope == pytest.approx(7, rel=0.02)
    assert offset == pytest.approx(-3, rel=0.02)
    labels = (rng.random(5_000) < sigmoid(7 * margin - 3)).astype(float)
    slope, offset = calibrate(margin, labels)
    assert slope == pytest.approx(7, rel=0.1)
    assert offset == pytest.approx(-3, rel=0.1)


def test_perfect_separation_is_not_infinite_confidence():
    labels = np.repeat([0.0, 1.0], 20)
    slope, offset = calibrate(labels * 2 - 1, labels)
    assert 0.9 < sigmoid(slope + offset) < 0.99
    assert np.isfinite(calibrate(np.zeros(40), labels)).all()


def test_calibration_is_fitted_on_texts_that_the_model_has_not_seen():
    """A model memorises random labels, and so seems to predict them for its own training texts."""
    rng = np.random.default_rng(0)
    rows = texts_as_ngrams(*("".join(map(chr, 97 + rng.integers(0, 26, 40))) for _ in range(200)))
    scores = rng.permutation(np.repeat([0.0, 1.0], 100))
    folds = np.arange(200) % 5

    # the plausible wrong way
    weights = ridge(rows, scores, 16)
    slope, offset = calibrate(margins(weights, rows), scores)
    assert np.abs(sigmoid(slope * margins(weights, rows) + offset) - scores).mean() < 0.1

    table, offset = surrogate.fit(rows, scores, folds)
    assert np.abs(sigmoid(offset + margins(table, rows)) - scores).mean() > 0.3


# ---- the scorer ----


def test_the_toys_scorer_separates_rude_from_kind_and_reports_its_quality(toy):
    answers = toy.score(["You are a stupid donkey.", "The soup is warm."], "en")
    rude, kind = [score for score, _ in answers]
    assert rude > 0.5
    assert kind < 0.3
    assert len(toy.languages) == 16
    for quality in toy.held_out.values():
        assert set(quality) == {"auc", "correlation", "calibration", "rows"}
        assert quality["auc"] >= 0.99
    assert toy.about == (
        "linear on character 1..5-grams, 16 languages, held-out AUC 1.00 on average, 1.00 at worst"
    )


def test_a_score_depends_on_the_text_and_nothing_else(toy):
    texts = ["you donkey", "The soup is warm.", "日本語", "you donkey"]
    together = list(toy.score(texts, "en"))
    assert together == [next(toy.score([text], "en")) for text in texts]
    assert together == list(Surrogate(TOY / "scorer.safetensors").score(texts, "en"))
    assert together[0] == together[3]
    assert together[0] != together[1]
    assert next(toy.score(["you donkey"], "de")) != together[0]


def test_the_end_of_a_long_text_is_not_read_and_the_status_is_cut(toy):
    beginning = ("The soup is warm. " * MAX_CHARACTERS)[:MAX_CHARACTERS]
    whole, longer = toy.score([beginning, beginning + "you donkey"], "en")
    assert whole[1] == "scored"
    assert longer == (whole[0], "cut")


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_every_text_has_a_score(toy, text):
    for language in ("en", "zh"):
        ((score, status),) = toy.score([text], language)
        assert 0 <= score <= 1
        assert status == ("cut" if len(text) > MAX_CHARACTERS else "scored")


def test_scores_stay_between_0_and_1_however_large_a_weight_is(tmp_path):
    for weight, expected in ((60_000, 1), (-60_000, 0)):
        path = write(tmp_path / "large", {"en": np.full(4, weight, np.float16)})
        score, _ = next(Surrogate(path).score(["any text"], "en"))
        assert score == expected


def test_the_name_changes_with_the_weights(tmp_path):
    names = []
    for weight in (1, 2, 1):
        path = write(tmp_path / "a", {"en": np.full(4, weight, np.float16)})
        names.append(Surrogate(path).name)
    assert names[0] == names[2]
    assert names[0] != names[1]
    assert len(names[0].removeprefix("surrogate-")) == 12


TABLE = np.zeros(8, np.float16)
BROKEN = {
    "another version": ({"en": TABLE}, {"format": 0}),
    "other n-grams": ({"en": TABLE}, {"order": 4}),
    "not a power of two": ({"en": np.zeros(7, np.float16)}, {}),
    "too large": ({"en": np.zeros(2**21, np.float16)}, {}),
    "other dtype": ({"en": TABLE.astype(np.float32)}, {}),
    "two dimensions": ({"en": TABLE.reshape(2, 4)}, {}),
    "no figures": ({"en": TABLE}, {"languages": {"en": {"offset": 0.0}}}),
    "no offset": ({"en": TABLE}, {"languages": {"en": {}}}),
    "language unknown": ({"en": TABLE}, {"languages": {}}),
    "languages not an object": ({"en": TABLE}, {"languages": 3}),
    "auc not a number": (
        {"en": TABLE},
        {"languages": {"en": {"offset": 0.0, "held_out": {"auc": "good"}}}},
    ),
    "no language": ({}, {}),
    "texts of no table": ({"en": TABLE, f"{TEXTS}de": np.zeros(1, np.int64)}, {}),
    "texts not sorted": ({"en": TABLE, f"{TEXTS}en": np.array([3, 2])}, {}),
    "a text twice": ({"en": TABLE, f"{TEXTS}en": np.array([2, 2])}, {}),
    "no text": ({"en": TABLE, f"{TEXTS}en": np.zeros(0, np.int64)}, {}),
    "texts of another dtype": ({"en": TABLE, f"{TEXTS}en": np.zeros(1)}, {}),
    "texts of two dimensions": ({"en": TABLE, f"{TEXTS}en": np.zeros((1, 1), np.int64)}, {}),
    "a single text": ({"en": TABLE, f"{TEXTS}en": np.array(3)}, {}),
}


def assert_refused_in_one_line(path) -> None:
    message = f"{path}: not a scorer of this version of minitox"
    with pytest.raises(InputError, match=message) as error:
        Surrogate(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_not_quite_a_scorer_is_refused_in_one_line(tmp_path, name):
    tables, changes = BROKEN[name]
    assert_refused_in_one_line(write(tmp_path / "scorer", tables, **changes))


def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path):
    toy = TOY / "scorer.safetensors"
    (tmp_path / "text").write_text("not safetensors at all")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "torn").write_bytes(toy.read_bytes()[:-100])
    save_file(load_file(toy), tmp_path / "no metadata")
    without_texts = {"surrogate": json.dumps(SETTINGS | {"languages": {"en": ABOUT}})}
    save_file({"en": TABLE}, tmp_path / "no texts", metadata=without_texts)
    save_file({"en": TABLE}, tmp_path / "list", metadata={"surrogate": "[1]"})
    save_file({"en": TABLE}, tmp_path / "no json", metadata={"surrogate": "{"})
    names = ("text", "empty", "torn", "no metadata", "no texts", "list", "no json", "missing")
    for name in names:
        assert_refused_in_one_line(tmp_path / name)
    assert_refused_in_one_line(tmp_path)  # a folder
    assert_refused_in_one_line(TOY / "model" / "model.safetensors")
