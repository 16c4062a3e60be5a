"""Each text is scored once, even if a run is killed, and a missing score is never a low one."""

import json

import pytest

from minitox.errors import InputError
from minitox.scorers.scores import Scores, checked, is_blank

SCORED = (0.25, "scored")  # the answer of the scorer below


class Scorer:
    """Gives each text its answer in `answers`, or SCORED, and records what it is asked."""

    def __init__(self, answers=None, name="scorer-1", languages=None):
        self.answers = answers or {}
        self.name = name
        self.languages = languages
        self.asked = []

    def score(self, texts, language):
        for text in texts:
            self.asked.append((language, text))
            answer = self.answers.get(text, SCORED)
            if isinstance(answer, Exception):
                raise answer
            yield answer


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores" / "scorer-1.jsonl"


# ---- each text once ----


def test_a_text_is_scored_once_within_a_call_between_calls_and_between_runs(path):
    scorer = Scorer({"b": (0.5, "cut")})
    scores = Scores(path, scorer)
    assert scores.of(["a", "b", "a"], "en") == [SCORED, (0.5, "cut"), SCORED]
    assert scores.of(["b", "c"], "en") == [(0.5, "cut"), SCORED]
    assert scorer.asked == [("en", "a"), ("en", "b"), ("en", "c")]

    # the next run
    again = Scorer()
    assert Scores(path, again).of(["c", "b", "a"], "en") == [SCORED, (0.5, "cut"), SCORED]
    assert again.asked == []


def test_the_same_text_in_another_language_is_another_text(path):
    scorer = Scorer()
    Scores(path, scorer).of(["Gift"], "en")
    Scores(path, scorer).of(["Gift"], "de")
    assert scorer.asked == [("en", "Gift"), ("de", "Gift")]


def test_a_failed_text_is_scored_again_in_the_next_run_only(path):
    failure = (None, "failed: HTTP 413")
    scorer = Scorer({"a": failure})
    scores = Scores(path, scorer)
    assert scores.of(["a"], "en") == [failure]
    assert scores.of(["a"], "en") == [failure]
    assert len(scorer.asked) == 1

    scorer.answers = {}
    assert Scores(path, scorer).of(["a"], "en") == [SCORED]
    assert Scores(path, scorer).of(["a"], "en") == [SCORED]
    assert len(scorer.asked) == 2


def test_an_unsupported_text_stays_unsupported_and_is_not_scored_again(path):
    scorer = Scorer({"a": (None, "unsupported")})
    assert Scores(path, scorer).of(["a"], "en") == [(None, "unsupported")]
    assert Scores(path, scorer).of(["a"], "en") == [(None, "unsupported")]
    assert len(scorer.asked) == 1


# ---- what is not a score ----


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n\t\r", "\x00\x1b", "\u200b", "\u200e\u202e\u2069", "\ufeff\u00ad\u3000 \u2028"],
)
def test_an_empty_reply_is_not_a_clean_reply_and_is_never_sent(path, text):
    scorer = Scorer(languages={"en"})
    assert Scores(path, scorer).of([text, "x"], "en") == [(None, "empty"), SCORED]
    assert Scores(path, scorer).of([text], "ko") == [(None, "empty")]
    assert scorer.asked == [("en", "x")]


@pytest.mark.parametrize(
    "text", [".", "\u200bx", "\u202e!", "\ud800", "\U0001f600", "\u0915\u093f", "0"]
)
def test_a_text_with_a_visible_character_is_not_blank(text):
    assert not is_blank(text)


def test_a_language_that_the_scorer_does_not_know_is_unsupported_and_not_0(path):
    scorer = Scorer(languages={"en", "fr"})
    assert Scores(path, scorer).of(["a"], "ko") == [(None, "unsupported")]
    assert scorer.asked == []
    assert path.read_bytes() == b""
    assert Scores(path, Scorer(languages={"ko"})).of(["a"], "ko") == [SCORED]


@pytest.mark.parametrize(
    "score", [float("nan"), float("inf"), 1.0001, -0.1, None, "0.5", True, [0.5], 10**400]
)
@pytest.mark.parametrize("status", ["scored", "cut"])
def test_a_score_that_is_not_a_number_from_0_to_1_is_a_failure(path, score, status):
    scorer = Scorer({"a": (score, status)})
    ((kept, kept_status),) = Scores(path, scorer).of(["a"], "en")
    assert kept is None
    assert kept_status.startswith("failed: ")
    assert json.loads(path.read_text())["score"] is None


def test_0_and_1_are_scores():
    assert checked(0, "scored") == (0.0, "scored")
    assert checked(1.0, "cut") == (1.0, "cut")
    assert checked(0.3, "unsupported") == (None, "unsupported")


# ---- the file ----


def test_texts_of_every_kind_are_distinguished_and_kept_out_of_the_file(path):
    texts = [
        "<b>you donkey</b>",
        "a\x07b",
        "a\u200fb",
        "ab",
        "\ud800",
        "\udfff",
        "?",
        "\ud800\udc00",
        "\U00010000",
        "ab" * 50_000,
    ]
    expected = [(i / 100, "scored") for i in range(len(texts))]
    scorer = Scorer(dict(zip(texts, expected, strict=True)))
    assert Scores(path, scorer).of(texts, "en") == expected
    assert Scores(path, Scorer()).of(texts, "en") == expected
    assert "donkey" not in path.read_text()
    assert path.stat().st_size < 250 * len(texts)


def test_an_interrupted_run_keeps_its_scores(path):
    scorer = Scorer({"c": InputError("no quota")})
    with pytest.raises(InputError, match="no quota"):
        Scores(path, scorer).of(["a", "b", "c", "d"], "en")

    scorer.answers = {}
    scorer.asked = []
    assert len(Scores(path, scorer).of(["a", "b", "c", "d"], "en")) == 4
    assert scorer.asked == [("en", "c"), ("en", "d")]


def test_an_answer_is_on_disk_before_the_next_text_is_scored(path):
    class Reader(Scorer):
        def score(self, texts, language):
            for i, _ in enumerate(texts):
                assert path.read_bytes().count(b"\n") == i
                yield 0.5, "scored"

    Scores(path, Reader()).of(["a", "b", "c"], "en")


def test_wherever_a_kill_tears_the_last_line_only_its_text_is_scored_again(path):
    Scores(path, Scorer()).of(["a", "b", "c"], "en")
    whole = path.read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(start, len(whole) - 1):
        path.write_bytes(whole[:end])
        scorer = Scorer()
        assert Scores(path, scorer).of(["a", "b", "c"], "en") == [SCORED] * 3
        assert scorer.asked == [("en", "c")]
        assert path.read_bytes() == whole


ROW = {"scorer": "scorer-1", "language": "en", "text": "0" * 64, "score": 0.5, "status": "scored"}


def without(field: str) -> dict:
    return {key: value for key, value in ROW.items() if key != field}


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "7",
        "\x00" * 20,
        json.dumps({**ROW, "status": "unsupported"}),
        json.dumps({**ROW, "score": None, "status": "soup"}),
        json.dumps({**ROW, "score": None, "status": "failure"}),
        *(json.dumps({**ROW, "score": score}) for score in (1.5, float("nan"), "0.5", None, True)),
        *(json.dumps(without(field)) for field in ROW),
    ],
)
def test_a_broken_line_is_named_by_file_and_line(path, line):
    path.parent.mkdir()
    path.write_text(f"{json.dumps(ROW)}\n{line}\n{json.dumps(ROW)}\n")
    with pytest.raises(InputError) as caught:
        Scores(path, Scorer())
    assert str(caught.value).startswith(f"{path}:2: ")
    assert len(str(caught.value).splitlines()) == 1


def test_the_file_of_another_scorer_is_refused_by_name_and_left_as_it_is(path):
    Scores(path, Scorer()).of(["a"], "en")
    before = path.read_bytes()
    message = r":1: scored by scorer-1, not by scorer-2; choose another --out, or delete"
    with pytest.raises(InputError, match=message):
        Scores(path, Scorer(name="scorer-2"))
    assert path.read_bytes() == before


# ---- the caller and the scorer ----


def test_advance_starts_at_the_texts_that_need_no_scorer_and_ends_at_all_texts(path):
    Scores(path, Scorer()).of(["a"], "en")
    progress = []
    Scores(path, Scorer()).of(["a", " ", "b", "b", "c"], "en", progress.append)
    assert progress == [3, 4, 5]
    progress.clear()
    Scores(path, Scorer()).of(["a", "b", "c"], "en", progress.append)
    assert progress == [3]


@pytest.mark.parametrize("answers", [1, 3])
def test_a_scorer_that_answers_too_few_or_too_many_texts_is_a_programming_error(path, answers):
    scorer = Scorer()
    scorer.score = lambda texts, language: iter([(0.5, "scored")] * answers)
    with pytest.raises(ValueError, match="zip"):
        Scores(path, scorer).of(["a", "b"], "en")
