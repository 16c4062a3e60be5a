"""data/curate.py from hateful prompts to pairs that train.py trains on, interrupted or not."""

import io
import json
import shutil
import sys
from types import SimpleNamespace

import pytest
from tiny import TOY, error_of, write_jsonl

from minitox.files import FORMAT, read_jsonl, write_json

sys.path[:0] = [str(TOY.parent), str(TOY.parents[1])]
import curate  # noqa: E402
import review  # noqa: E402

import train  # noqa: E402

POLITE = "Thank you for your message. I would like to talk about it calmly."


def rows_of(path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]


def everything_in(folder) -> dict:
    contents = {}
    for path in folder.rglob("*"):
        if path.is_file():
            contents[str(path.relative_to(folder))] = path.read_bytes()
    return contents


def ledger_of(folder) -> dict:
    return json.loads((folder / "curation" / "ledger.json").read_text())


def exported(folder, language: str = "en") -> list[dict]:
    return rows_of(folder / "instructions" / f"{language}.jsonl")


def write_hateful(folder, count: int = 12) -> list[str]:
    """Write rude prompts of the toy in two languages; return the arguments that all steps share."""
    for language in ("de", "en"):
        pairs = rows_of(TOY / "instructions" / f"{language}.jsonl")
        prompts = list(dict.fromkeys(pair["prompt"] for pair in pairs))
        rows = [{"prompt": prompt, "source": "toy"} for prompt in prompts[:count]]
        write_jsonl(folder / "hateful" / f"{language}.jsonl", rows)
    options = "--sample 8 --max-new-tokens 24 --languages de,en".split()
    scorer = f"surrogate:{TOY / 'scorer.safetensors'}"
    return ["--data", str(folder), "--out", str(folder), *options, "--scorer", scorer]


def review_as(monkeypatch, shared, name: str, typed: str) -> None:
    """Review as a person who types these keys, after one to begin."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(["", *typed])))
    curate.main(["review", *shared, "--name", name])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder in which replies were generated and checked, and the arguments of all steps."""
    folder = tmp_path_factory.mktemp("made")
    shared = write_hateful(folder)
    curate.main(["generate", *shared])
    curate.main(["check", *shared])
    return folder, shared


@pytest.fixture
def checked(made, tmp_path):
    """A copy of it that a test may change."""
    folder, shared = made
    copy = tmp_path / "data"
    shutil.copytree(folder, copy)
    return copy, [str(copy) if value == str(folder) else value for value in shared]


def write_checked(folder, pairs: list[dict], language: str = "en") -> list[str]:
    """Write pairs as `check` does, with defaults for missing fields; return a step's arguments."""
    rows = []
    for number, pair in enumerate(pairs):
        word = "abcdefgh"[number % 8] * 2
        default = {
            "id": f"{language}-{number}",
            "language": language,
            "prompt": f"{number} donkey {word} {number * 7919}",
            "response": POLITE,
            "proposal": "keep",
            "why": "",
        }
        rows.append(default | pair)
    write_jsonl(folder / "curation" / "checks" / f"{language}.jsonl", rows)
    return ["--data", str(folder), "--out", str(folder)]


def write_verdicts(folder, name: str, verdicts: list[str], language: str = "en") -> None:
    path = folder / "curation" / "verdicts" / f"{name}.jsonl"
    rows = {f"{language}-{number}": verdict for number, verdict in enumerate(verdicts) if verdict}
    review.save(path, rows)


# All steps


def test_the_toy_goes_from_hateful_prompts_to_a_tuned_model(checked, monkeypatch, capsys):
    folder, shared = checked
    review_as(monkeypatch, shared, "ada", "kkkkkt" * 3)
    curate.main(["export", *shared, "--pairs", "3"])
    ledger = ledger_of(folder)
    for language in ("de", "en"):
        pairs = exported(folder, language)
        asked = {row["prompt"] for row in rows_of(folder / "hateful" / f"{language}.jsonl")}
        assert len(pairs) == ledger[language]["written"] == 3
        for pair in pairs:
            assert set(pair) == {"prompt", "response"}
            assert pair["prompt"] in asked
            assert pair["response"]
        assert sum(ledger[language]["outcomes"].values()) == 8
    tuning = ["--data", str(folder), "--out", str(folder / "tuned"), "--languages", "de,en"]
    train.main([*tuning, "--strategy", "full", "--validation-share", "0"])
    assert (folder / "tuned" / "models" / "full" / "model.safetensors").exists()
    assert "de: 3 written, 0 too few; of " in capsys.readouterr().out


def test_the_instruction_names_the_language_and_stands_in_every_row(made):
    folder, _ = made
    for language, name in (("de", "German"), ("en", "English")):
        rows = rows_of(folder / "curation" / "replies" / f"{language}.jsonl")
        hateful = [row["prompt"] for row in rows_of(folder / "hateful" / f"{language}.jsonl")]
        assert len({row["prompt"] for row in rows}) == 8 < len(hateful)
        for row in rows:
            assert row["prompt"].startswith(curate.INSTRUCTION.format(name))
            assert row["prompt"].split("\n\n", 1)[1] in hateful
    record = json.loads((folder / "curation" / "replies" / "run.json").read_text())
    assert record["settings"]["instruction"] == curate.INSTRUCTION


# Resume, and the settings check


def test_steps_that_are_done_change_nothing(checked):
    folder, shared = checked
    before = everything_in(folder)
    curate.main(["generate", *shared])
    curate.main(["check", *shared])
    assert everything_in(folder) == before


def test_an_empty_file_of_replies_is_a_one_line_error(checked, capsys):
    folder, shared = checked
    path = next(folder.rglob("replies/*.jsonl"))
    path.write_text("")
    for result in folder.rglob("checks/*.jsonl"):
        result.unlink()
    error = error_of(curate.main, ["check", *shared], capsys)
    assert error.startswith(f"error: {path} has no replies; delete it") and error.count("\n") == 1


@pytest.mark.parametrize("share", [0, 0.1, 0.35, 0.5, 0.77, 0.999, 1])
def test_a_killed_generate_resumes_and_writes_the_same_bytes(checked, share):
    folder, shared = checked
    shared = [*shared, "--batch-tokens", "350"]  # several batches
    for step in ("replies", "checks"):
        shutil.rmtree(folder / "curation" / step)
    curate.main(["generate", *shared])
    path = folder / "curation" / "replies" / "en.jsonl"
    work = path.with_suffix(".partial")
    whole = path.read_bytes()
    path.unlink()
    write_json(work / "run.json", {"format": FORMAT, "settings": {}, "versions": {}})
    (work / "en.jsonl").write_bytes(whole[: round(share * len(whole))])
    curate.main(["generate", *shared])
    assert path.read_bytes() == whole
    assert not work.exists()


def test_results_of_other_settings_or_other_prompts_are_not_mixed(checked, capsys):
    folder, shared = checked
    before = everything_in(folder)
    assert "sample was 8" in error_of(curate.main, ["generate", *shared, "--sample", "9"], capsys)
    with open(folder / "hateful" / "de.jsonl", "a") as file:
        file.write('{"prompt": "one more donkey"}\n')
    assert "was made from other de data" in error_of(curate.main, ["generate", *shared], capsys)
    with open(folder / "curation" / "replies" / "en.jsonl", "a") as file:
        file.write(json.dumps({"prompt": "x\n\ny", "response": "z", "stopped": True}) + "\n")
    assert "was made from other en data" in error_of(curate.main, ["check", *shared], capsys)
    expected = {name[16:]: content for name, content in before.items() if "/checks/" in name}
    assert everything_in(folder / "curation" / "checks") == expected


# generate and check


def test_a_prompt_too_long_for_the_model_gets_no_reply_and_is_not_kept(tmp_path):
    shared = write_hateful(tmp_path, 3)
    too_long = "donkey " * 300
    rows = [{"prompt": too_long}, {"prompt": "you donkey"}]
    write_jsonl(tmp_path / "hateful" / "en.jsonl", rows)
    curate.main(["generate", *shared])
    curate.main(["check", *shared])
    pairs = rows_of(tmp_path / "curation" / "checks" / "en.jsonl")
    (pair,) = [pair for pair in pairs if pair["prompt"] == too_long]
    assert pair["proposal"] == "not fluent"
    assert pair["response"] == ""


def test_failures_of_a_scorer_are_counted_and_not_taken_for_politeness(
    checked, monkeypatch, capsys
):
    folder, shared = checked
    shutil.rmtree(folder / "curation" / "checks")

    def score(texts, language):
        yield from [(None, "failed: no network")] * len(texts)

    scorer = SimpleNamespace(name="broken", languages=None, about="", score=score)
    monkeypatch.setattr(curate, "open_scorer", lambda *_, **__: scorer)
    curate.main(["check", *shared])
    assert "8 failed: no network" in capsys.readouterr().out


# export


def test_people_overrule_the_check_and_a_majority_decides(tmp_path, capsys):
    proposals = ["keep", "toxic", "keep", "keep", "keep", "near copy", "keep", "toxic"]
    shared = write_checked(tmp_path, [{"proposal": proposal} for proposal in proposals])
    ada = ["keep", "keep", "keep", "toxic", "skip", "keep", "", ""]
    bob = ["keep", "keep", "off topic", "toxic", "", "keep", "", ""]
    eve = ["toxic", "skip", "", "off topic", "", "keep", "", ""]
    for name, verdicts in (("ada", ada), ("bob", bob), ("eve", eve)):
        write_verdicts(tmp_path, name, verdicts)

    curate.main(["export", *shared])
    ledger = ledger_of(tmp_path)["en"]
    assert ledger["outcomes"] == {
        "keep": 2,
        "reviewers differ": 1,
        "toxic": 1,
        "not reviewed": 3,
        "near copy": 1,
    }
    assert ledger["verdicts"]["eve"] == {"toxic": 1, "skip": 1, "off topic": 1, "keep": 1}
    assert {row["prompt"][0] for row in exported(tmp_path)} == {"0", "1"}
    assert "WARNING" not in capsys.readouterr().out
    assert not ledger["unreviewed"]

    curate.main(["export", *shared, "--unreviewed"])
    assert {row["prompt"][0] for row in exported(tmp_path)} == {"0", "1", "4", "6"}
    assert "WARNING: some of these were not reviewed" in capsys.readouterr().out
    assert ledger_of(tmp_path)["en"]["unreviewed"]


def test_neither_a_test_prompt_nor_a_near_copy_of_one_is_trained_on(tmp_path, capsys):
    prompts = [
        "Only a fool would eat your terrible soup, go home",
        "You sing as badly as a donkey does, be quiet",
        "Your garden is the ugliest one that there is",
        "Nobody ever liked your silly old hat",
    ]
    shared = write_checked(tmp_path, [{"prompt": prompt} for prompt in prompts])
    tests = [prompts[0], prompts[1] + "!", "Nobody ever liked soup"]
    write_jsonl(tmp_path / "prompts" / "en.jsonl", [{"prompt": prompt} for prompt in tests])
    curate.main(["export", *shared, "--unreviewed"])
    assert {row["prompt"] for row in exported(tmp_path)} == set(prompts[2:])
    ledger = ledger_of(tmp_path)["en"]
    copies = {"exact copy of a test prompt": 1, "near copy of a test prompt": 1}
    assert ledger["outcomes"] == {**copies, "keep": 2}
    assert ledger["test_prompts"] == 3
    printed = capsys.readouterr().out
    for reason in copies:
        assert f"1 {reason}" in printed


def test_the_same_seed_draws_the_same_pairs_and_another_seed_draws_others(tmp_path):
    shared = [*write_checked(tmp_path, [{}] * 30), "--pairs", "10", "--unreviewed"]
    drawn = []
    for seed in ("0", "0", "1"):
        curate.main(["export", *shared, "--seed", seed])
        drawn.append((tmp_path / "instructions" / "en.jsonl").read_text())
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(text.count("\n") == 10 for text in drawn)


def test_pairs_of_another_origin_are_not_overwritten(tmp_path, capsys):
    shared = [*write_checked(tmp_path, [{}]), "--unreviewed"]
    mine = [{"prompt": "mine", "response": "mine"}]
    write_jsonl(tmp_path / "instructions" / "en.jsonl", mine)
    error = error_of(curate.main, ["export", *shared], capsys)
    assert "en.jsonl was not written by export" in error
    assert exported(tmp_path) == mine


def test_an_export_of_nothing_is_an_error(tmp_path, capsys):
    shared = write_checked(tmp_path, [{}])
    assert "no pair was kept" in error_of(curate.main, ["export", *shared], capsys)


# Mistakes


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["generate"],
            "hateful: no file for ar, de, en, fr, hi, id, pt, ru, zh; run data/prepare.py first",
        ),
        (["check"], "replies: no file for"),
        (["review", "--name", "ada"], "checks: no file for"),
        (["agreement"], "checks: no file for"),
        (["export"], "checks: no file for"),
        (["review"], "--name"),
        (["review", "--name", "a/b"], "--name"),
        (["generate", "--model", "missing"], "hateful: no file"),
    ],
)
def test_a_step_without_its_input_or_a_name_is_a_one_line_error(
    arguments, message, tmp_path, capsys
):
    folders = ["--data", str(tmp_path), "--out", str(tmp_path)]
    error = error_of(curate.main, [*arguments, *folders], capsys)
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
