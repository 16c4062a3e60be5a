"""The default scorer: hashing that never changes, a ridge regression, honest probabilities, and a file that is what it claims."""

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
    Surrogate,
    calibrate,
    margins,
    ngrams,
    normalise,
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


@pytest.fixture(scope="module")
def toy():
    return Surrogate(TOY / "scorer.safetensors")


def texts_as_ngrams(*texts: str):
    return np.fromiter((ngrams(normalise(text)) for text in texts), dtype=object)


def write(path, tables: dict, **changes):
    """A scorer's file, with something else in its metadata if so wished."""
    known = {
        "offset": 0.0,
        "held_out": {"auc": 0.9, "correlation": 0.5, "calibration": 0.05, "rows": 7},
    }
    languages = dict.fromkeys(tables, known)
    save_file(
        tables,
        path,
        metadata={"surrogate": json.dumps(SETTINGS | {"languages": languages} | changes)},
    )
    return path


# ---- text to n-grams ----


@pytest.mark.parametrize(
    "text, expected",
    [
        ("  You\tDONKEY\u3000\n", " you donkey "),
        ("sooooo!!!! good", " soo!! good "),
        ("Straße 1984 ٣", " strasse 00 0 "),
        ("Ｆｕｌｌ ﬁt", " full fit "),
        ("", "  "),
        ("여보 日本", " 여보 日本 "),
    ],
)
def test_texts_that_look_alike_are_one(text, expected):
    assert normalise(text) == expected


def test_hashes_are_the_same_in_every_process_and_version():
    """Another value here makes every file written before worthless."""
    assert ngrams(" a ").tolist() == [290143, 364646, 414315, 594889, 906239]
    assert ngrams(normalise("日本語"))[:4].tolist() == [34292, 36312, 138144, 180521]
    assert ngrams(normalise("You donkey"))[[0, 1, -1]].tolist() == [34187, 35192, 1028541]


def test_ngrams_are_the_different_pieces_of_up_to_five_characters():
    text = normalise("the ox, the ox and the other ox")
    pieces = {text[i : i + n] for n in range(1, 6) for i in range(len(text) - n + 1)}

    def slow(piece):  # the definition, in integers without end
        value = 0
        for character in piece:
            value = (value + ord(character) + 1) * 0x9E3779B97F4A7C15
        return value % 2**64 >> 44

    assert ngrams(text).tolist() == sorted({slow(piece) for piece in pieces})


def test_hashes_spread_evenly():
    rng = np.random.default_rng(0)
    texts = [
        "".join(map(chr, low + rng.integers(0, 26, 400)))
        for low in (97, 0x430, 0x4E00, 0xAC00)
        for _ in range(20)
    ]
    hashes = np.unique(np.concatenate([ngrams(text) for text in texts]))
    counts = np.bincount(hashes >> 10, minlength=1024)
    assert (
        len(hashes) > 60_000 and np.var(counts) < 1.5 * counts.mean()
    )  # as chance would have it, variance and mean are equal


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
    scores, bits = (
        np.array([0.1, 0.9, 0.0, 0.8, 0.2, 0.6]),
        8,
    )  # of so few entries that n-grams share them
    counts = np.array([np.bincount(row >> 12, minlength=256) for row in rows])  # (texts, entries)
    idf = np.log(7 / (1 + counts.sum(axis=0))) + 1
    idf /= np.sqrt((counts * idf**2).sum() / counts.sum())
    x = counts * idf / np.sqrt(counts.sum(axis=1, keepdims=True))
    expected = idf * np.linalg.solve(
        x.T @ x + surrogate.PENALTY * np.eye(256), x.T @ (scores - scores.mean())
    )
    assert ridge(rows, scores, bits) == pytest.approx(expected, abs=1e-9)
    assert margins(expected, rows) == pytest.approx(counts @ expected / np.sqrt(counts.sum(axis=1)))


def test_equal_scores_leave_nothing_to_learn():
    assert np.abs(ridge(texts_as_ngrams("one", "two", "three"), np.full(3, 0.5), 8)).max() == 0
    assert (
        np.abs(ridge(texts_as_ngrams("one", "two", "three"), np.full(3, 0.4), 8)).max() < 1e-12
    )  # their mean is rounded


def test_calibration_finds_the_slope_and_the_offset_that_the_scores_were_made_with():
    rng = np.random.default_rng(0)
    margin = rng.normal(0.3, 0.2, 5_000)
    slope, offset = calibrate(margin, sigmoid(7 * margin - 3))
    assert (slope, offset) == (pytest.approx(7, rel=0.02), pytest.approx(-3, rel=0.02))
    labels = (rng.random(5_000) < sigmoid(7 * margin - 3)).astype(float)
    slope, offset = calibrate(margin, labels)
    assert (slope, offset) == (pytest.approx(7, rel=0.1), pytest.approx(-3, rel=0.1))


def test_perfect_separation_is_not_infinite_confidence():
    labels = np.repeat([0.0, 1.0], 20)
    slope, offset = calibrate(labels * 2 - 1, labels)
    assert 0.9 < sigmoid(slope + offset) < 0.99
    assert np.isfinite(calibrate(np.zeros(40), labels)).all()


def test_calibration_is_fitted_on_texts_that_the_model_has_not_seen():
    """Labels dealt at random are learned by heart; asked about its own texts, a model would seem to know them."""
    rng = np.random.default_rng(0)
    rows = texts_as_ngrams(*("".join(map(chr, 97 + rng.integers(0, 26, 40))) for _ in range(200)))
    scores, folds = rng.permutation(np.repeat([0.0, 1.0], 100)), np.arange(200) % 5
    weights = ridge(rows, scores, 16)
    slope, offset = calibrate(margins(weights, rows), scores)
    assert (
        np.abs(sigmoid(slope * margins(weights, rows) + offset) - scores).mean() < 0.1
    )  # the plausible wrong way
    table, offset = surrogate.fit(rows, scores, folds)
    assert np.abs(sigmoid(offset + margins(table, rows)) - scores).mean() > 0.3


# ---- the scorer ----


def test_the_toys_scorer_tells_rude_from_kind_and_says_how_well(toy):
    rude, kind = [
        score for score, _ in toy.score(["You are a stupid donkey.", "The soup is warm."], "en")
    ]
    assert rude > 0.55 and kind < 0.3
    assert len(toy.languages) == 16 and min(found["auc"] for found in toy.held_out.values()) >= 0.99
    assert all(
        set(found) == {"auc", "correlation", "calibration", "rows"}
        for found in toy.held_out.values()
    )
    assert (
        toy.about
        == "linear on character 1..5-grams, 16 languages, held-out AUC 1.00 on average, 1.00 at worst"
    )


def test_a_score_depends_on_the_text_and_nothing_else(toy):
    texts = ["you donkey", "The soup is warm.", "日本語", "you donkey"]
    together = list(toy.score(texts, "en"))
    assert (
        together
        == [next(toy.score([text], "en")) for text in texts]
        == list(Surrogate(TOY / "scorer.safetensors").score(texts, "en"))
    )
    assert together[0] == together[3] != together[1]
    assert next(toy.score(["you donkey"], "de")) != together[0]


def test_what_lies_beyond_the_limit_is_not_read_and_the_status_says_so(toy):
    begin = ("The soup is warm. " * MAX_CHARACTERS)[:MAX_CHARACTERS]
    (whole, status), (more, cut) = toy.score([begin, begin + "you donkey"], "en")
    assert (status, cut) == ("scored", "cut") and whole == more


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_text_is_too_strange(toy, text):
    for language in ("en", "zh"):
        ((score, status),) = toy.score([text], language)
        assert 0 <= score <= 1 and status == ("cut" if len(text) > MAX_CHARACTERS else "scored")


def test_scores_keep_to_0_and_1_however_large_a_weight(tmp_path):
    for weight, expected in ((60_000, 1), (-60_000, 0)):
        path = write(tmp_path / "large", {"en": np.full(4, weight, np.float16)})
        assert next(Surrogate(path).score(["any text"], "en"))[0] == expected


def test_the_name_changes_with_the_weights(tmp_path):
    names = [
        Surrogate(write(tmp_path / "a", {"en": np.full(4, weight, np.float16)})).name
        for weight in (1, 2, 1)
    ]
    assert names[0] == names[2] != names[1] and len(names[0].removeprefix("surrogate-")) == 12


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
    "languages no dict": ({"en": TABLE}, {"languages": 3}),
    "auc no number": (
        {"en": TABLE},
        {"languages": {"en": {"offset": 0.0, "held_out": {"auc": "good"}}}},
    ),
    "no language": ({}, {}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_not_quite_a_scorer_is_refused_in_one_line(tmp_path, name):
    tables, changes = BROKEN[name]
    with pytest.raises(
        InputError, match="scorer.*: not a scorer of this version of minitox"
    ) as error:
        Surrogate(write(tmp_path / "scorer", tables, **changes))
    assert "\n" not in str(error.value)


def test_a_foreign_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "text").write_text("not safetensors at all")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "torn").write_bytes((TOY / "scorer.safetensors").read_bytes()[:-100])
    save_file(load_file(TOY / "scorer.safetensors"), tmp_path / "plain")
    save_file({"en": TABLE}, tmp_path / "list", metadata={"surrogate": "[1]"})
    save_file({"en": TABLE}, tmp_path / "no json", metadata={"surrogate": "{"})
    foreign = [
        tmp_path / name for name in ("text", "empty", "torn", "plain", "list", "no json", "missing")
    ]
    for path in [*foreign, tmp_path, TOY / "model" / "model.safetensors"]:
        with pytest.raises(InputError, match="not a scorer of this version of minitox") as error:
            Surrogate(path)
        assert "\n" not in str(error.value)
