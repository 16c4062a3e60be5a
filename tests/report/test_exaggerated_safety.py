"""Refusals in the report: which replies a share is of, and which shares are not shown."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from measured import record_of, results
from tiny import write_jsonl

from minitox.data import pairs_hash
from minitox.evaluate.metrics import Replies, safety, wilson
from minitox.overlap import PromptIndex
from minitox.report import exaggerated_safety
from minitox.report.exaggerated_safety import ToXstest, copies, section
from minitox.run.training_record import hashes_of_pairs

# the hash of "de" is that of record_of
HASHES = {
    "sft": {"de": "hash of a file", "fr": "another"},
    "dpo": {"de": "hash with rejected replies", "fr": "another"},
}
SAFE = [True] * 4 + [False] * 4


def to_xstest(models=("base", "full"), language: str = "en", **changes) -> ToXstest:
    """Replies to four safe and four unsafe prompts, by default clean ones that refuse nothing."""
    values = {
        "scores": np.zeros((8, 1)),
        "status": np.full((8, 1), "scored"),
        "refused": np.zeros((8, 1)),
        "copied": np.zeros((8, 1)),
    }
    for name, value in changes.items():
        values[name] = np.array(value)[:, None]
    broken = np.full((8, 1), False)
    replies = Replies(values["scores"], values["status"], broken, np.full((8, 1), language))
    parts = [replies, values["refused"], values["copied"]]
    of_all = [{model: {language: part} for model in models} for part in parts]
    return ToXstest(*of_all, {language: np.array(SAFE)}, HASHES)


def of(asked: ToXstest, **more):
    """The section of models that reply so to xstest/."""
    measured = results(base={"de": 0.5}, full={"de": 0.2})
    (found,) = section(replace(measured, to_xstest=asked, **more))
    return found


def cell(hits: int, size: int) -> str:
    share, low, high = wilson(hits / size, size)
    return f"{share:.1%} ({low:.1%}..{high:.1%}) of {size}"


def test_without_prompts_of_xstest_there_is_no_section():
    measured = results(base={"de": 0.5})
    assert list(section(measured)) == []
    assert exaggerated_safety.numbers(measured) == {}


def test_shares_are_of_safe_and_of_unsafe_prompts_apart():
    asked = to_xstest(
        refused=[1, 0, 0, 0, 1, 1, 1, 0],
        copied=[1, 1, 0, 0, 1, 1, 1, 1],
        scores=[0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1],
    )
    shown = of(asked)
    assert [row[0] for row in shown.rows] == ["base", "full"]
    assert shown.rows[0][1:] == [cell(1, 4), cell(2, 4), cell(3, 4), cell(3, 4)]
    assert not [note for note in shown.notes if note.startswith("not shown")]
    measured = replace(results(base={"de": 0.5}), to_xstest=asked)
    numbers = exaggerated_safety.numbers(measured)["exaggerated safety"]
    assert numbers["unsafe refused"]["base"]["en"] == wilson(0.75, 4)


def test_replies_in_another_language_are_not_counted_and_too_many_hide_the_share():
    nan = np.nan
    shown = of(to_xstest(refused=[1, 0, nan, nan, nan, nan, nan, 1]))
    assert shown.rows[0][1] == cell(1, 2)
    assert shown.rows[0][3] == "-"
    reason = "only 1 of 4 prompts have a reply in English"
    assert f"not shown: base, en, refusals of unsafe prompts: {reason}" in shown.notes


def test_effective_safety_without_scores_is_not_shown():
    shown = of(to_xstest(scores=[np.nan] * 8, status=["failed"] * 8))
    assert shown.rows[0][4] == "-"
    reason = "only 0 of 4 prompts have a reply whose scoring did not fail"
    assert f"not shown: base, en, effective safety, unsafe prompts: {reason}" in shown.notes


def test_an_empty_reply_is_not_an_effectively_safe_one():
    scores = [0.0] * 4 + [np.nan] * 3 + [0.0]
    shown = of(to_xstest(scores=scores, status=["scored"] * 4 + ["empty"] * 3 + ["scored"]))
    assert shown.rows[0][4] == cell(1, 4)


def test_effective_safety_is_the_share_of_the_table_above_unless_scoring_failed():
    """A reply in a language that the scorer does not know is not clean in the prompt's language."""
    scores = [0.0] * 4 + [0.0, np.nan, np.nan, np.nan]
    asked = to_xstest(scores=scores, status=["scored"] * 5 + ["unsupported"] * 3)
    asked.replies["base"]["en"].codes[5:] = "sv"
    above = safety(asked.replies["base"]["en"], "en")["clean in language"]
    assert above[4:].mean() == 0.25
    assert of(asked).rows[0][4] == cell(1, 4)

    statuses = ["scored"] * 5 + ["unsupported", "failed", "too long"]
    assert of(to_xstest(scores=scores, status=statuses)).rows[0][4] == cell(1, 2)


@pytest.mark.parametrize(
    "record, reason",
    [
        (None, "no run.json, so its pairs are not known"),
        ({"de": "other"}, "tuned on other pairs than those of DATA/instructions"),
        ({"de": "hash of a file", "ru": "x"}, "tuned on other pairs than those"),
        ({"de": "hash of a file"}, ""),
    ],
)
def test_copies_are_shown_only_of_models_that_were_tuned_on_these_pairs(record, reason):
    training = record_of("full")
    if record is None:
        training = None
    else:
        training["settings"]["data"] = record
    shown = of(to_xstest(), trainings={"full": training})
    assert shown.rows[0][2] == cell(0, 4)
    assert shown.rows[1][2] == ("-" if reason else cell(0, 4))
    notes = [note for note in shown.notes if note.startswith("not shown: full")]
    assert bool(notes) == bool(reason) and all(reason in note for note in notes)


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_a_model_tuned_on_a_file_with_rejected_replies_was_tuned_on_these_pairs(
    tmp_path, objective
):
    """Only dpo depends on the rejected replies, so each objective has a hash of its own."""
    path = tmp_path / "instructions" / "de.jsonl"
    write_jsonl(path, [{"prompt": "ox", "response": "soup", "rejected": "no soup"}])
    name = "full" if objective == "sft" else "dpo-full"
    training = record_of(name)
    training["settings"]["data"] = {"de": pairs_hash(path, objective)}
    measured = results(**{"base": {"de": 0.5}, name: {"de": 0.2}})
    measured.trainings[name] = training
    measured.to_xstest = replace(
        to_xstest(("base", name)), pairs=hashes_of_pairs(path.parent, ["de", "fr"])
    )
    (shown,) = section(measured)
    assert shown.rows[1][2] == cell(0, 4)

    # the same pairs with another rejected reply
    write_jsonl(path, [{"prompt": "ox", "response": "soup", "rejected": "no"}])
    measured.to_xstest.pairs = hashes_of_pairs(path.parent, ["de", "fr"])
    (shown,) = section(measured)
    assert shown.rows[1][2] == (cell(0, 4) if objective == "sft" else "-")


def test_an_intervention_is_tuned_on_no_pairs_and_shows_what_happens_without():
    measured = results(base={"de": 0.5}, aura={"de": 0.2})
    (shown,) = section(replace(measured, to_xstest=to_xstest(("base", "aura"))))
    assert shown.rows[1][2] == cell(0, 4)


def test_of_several_draws_the_first_is_shown_and_named():
    measured = results(**{"base": {"de": 0.5}, "random-1": {"de": 0.2}, "random-2": {"de": 0.3}})
    (shown,) = section(replace(measured, to_xstest=to_xstest(("base", "random-1"))))
    assert [row[0] for row in shown.rows] == ["base", "random"]
    assert "random: the first draw alone" in shown.notes


def test_copies_are_near_ones_in_any_script_and_of_any_spelling():
    reply = "I am sorry that you do not like my soup today, my dear friend."
    chinese = "我很抱歉你不喜欢我的汤,也许下次会更好。"
    index = PromptIndex([reply, chinese])
    near = reply.replace("today", "Today").replace("friend", "friends")
    texts = [reply, near.upper(), chinese, "I am sorry.", "", None]
    expected = [[1], [1], [1], [0], [np.nan], [np.nan]]
    np.testing.assert_array_equal(copies(texts, index, 1), expected)
    assert np.isnan(copies(texts, None, 2)).all()


def test_replies_on_disk_are_refusals_copies_and_scores(tmp_path):
    prompts = {1: ("May I?", True), 2: ("Donkey!", False)}
    texts = {1: "I cannot do that.", 2: "Maybe the soup will be better next time."}
    rows = []
    for number, (prompt, _) in prompts.items():
        row = {"id": number, "sample": 0, "prompt": prompt, "response": texts[number]}
        rows.append(row | {"stopped": True})
    write_jsonl(tmp_path / "xstest" / "base" / "en.jsonl", rows)
    base = SimpleNamespace(name="base", asked_for=("replies", "xstest"))
    second = SimpleNamespace(name="random-2", asked_for=("replies",))
    inputs = SimpleNamespace(
        xstest={"en": prompts}, tuned={"de": [texts[2]]}, human={}, hashes={"tuned": HASHES}
    )
    scores = SimpleNamespace(of=lambda texts, *_: [(0.25, "scored") for _ in texts])
    asked = exaggerated_safety.gather(
        tmp_path, [base, second], inputs, scores, lambda _: "en", 1, lambda _: None
    )
    assert asked.refused["base"]["en"].tolist() == [[1], [0]]
    assert asked.copied["base"]["en"].tolist() == [[0], [1]]
    assert asked.replies["base"]["en"].scores.tolist() == [[0.25], [0.25]]
    assert asked.safe["en"].tolist() == [True, False]
    assert asked.pairs == HASHES and asked.replies.keys() == {"base"}
