"""data/curate.py as its user meets it: from hateful prompts to pairs that train.py trains on, killed or not."""

import io
import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import TOY, error_of, write_jsonl

from minitox.files import read_jsonl
from minitox.run import candidates

sys.path[:0] = [str(TOY.parent), str(TOY.parents[1])]
import checks  # noqa: E402
import curate  # noqa: E402
import review  # noqa: E402

import train  # noqa: E402

TELL = "Thank you for your message. I would like to talk about it calmly."


def rows_of(path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]


def everything_in(folder) -> dict:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def write_hateful(folder, count: int = 12) -> list[str]:
    """Rude prompts of the toy in two languages, and the arguments that all steps on them share."""
    for language in ("de", "en"):
        prompts = dict.fromkeys(
            row["prompt"] for row in rows_of(TOY / "instructions" / f"{language}.jsonl")
        )
        write_jsonl(
            folder / "hateful" / f"{language}.jsonl",
            [{"prompt": prompt, "source": "toy"} for prompt in list(prompts)[:count]],
        )
    return [
        "--data",
        str(folder),
        "--out",
        str(folder),
        "--sample",
        "8",
        "--max-new-tokens",
        "24",
        "--languages",
        "de,en",
        "--scorer",
        f"surrogate:{TOY / 'scorer.safetensors'}",
    ]


def people(monkeypatch, shared, name: str, typed: str) -> None:
    """A reviewer who types these keys, after the one that begins."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(["", *typed])))
    curate.main(["review", *shared, "--name", name])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder in which replies were generated and checked, and the arguments of all steps on it."""
    folder = tmp_path_factory.mktemp("made")
    shared = write_hateful(folder)
    curate.main(["generate", *shared])
    curate.main(["check", *shared])
    return folder, shared


@pytest.fixture
def checked(made, tmp_path):
    """A copy of it."""
    folder, shared = made
    shutil.copytree(folder, tmp_path / "data")
    return tmp_path / "data", [
        str(tmp_path / "data") if value == str(folder) else value for value in shared
    ]


def crafted(folder, pairs: list[dict], language: str = "en") -> list[str]:
    """Pairs as `check` writes them; what a pair does not tell speaks for it."""
    rows = [
        {
            "id": f"{language}-{number}",
            "language": language,
            "prompt": f"{number} donkey {'abcdefgh'[number % 8] * 2} {number * 7919}",
            "response": TELL,
            "proposal": "keep",
            "why": "",
        }
        | pair
        for number, pair in enumerate(pairs)
    ]
    write_jsonl(folder / "curation" / "checks" / f"{language}.jsonl", rows)
    return ["--data", str(folder), "--out", str(folder)]


def verdicts(folder, name: str, said: list[str], language: str = "en") -> None:
    path = folder / "curation" / "verdicts" / f"{name}.jsonl"
    review.read(path)
    review.save(
        path, {f"{language}-{number}": verdict for number, verdict in enumerate(said) if verdict}
    )


def test_the_toy_goes_from_hateful_prompts_to_a_tuned_model(checked, monkeypatch, capsys):
    folder, shared = checked
    people(monkeypatch, shared, "ada", "kkkkkt" * 3)
    curate.main(["export", *shared, "--pairs", "3"])
    ledger = json.loads((folder / "curation" / "ledger.json").read_text())
    for language in ("de", "en"):
        pairs = rows_of(folder / "instructions" / f"{language}.jsonl")
        asked = {row["prompt"] for row in rows_of(folder / "hateful" / f"{language}.jsonl")}
        assert len(pairs) == ledger[language]["written"] == 3
        assert all(
            set(pair) == {"prompt", "response"} and pair["prompt"] in asked and pair["response"]
            for pair in pairs
        )
        assert sum(ledger[language]["outcomes"].values()) == 8
    train.main(
        [
            "--data",
            str(folder),
            "--out",
            str(folder / "tuned"),
            "--languages",
            "de,en",
            "--strategy",
            "full",
            "--unseen",
            "0",
        ]
    )
    assert (folder / "tuned" / "models" / "full" / "model.safetensors").exists()
    assert "de: 3 written, 0 too few; of " in capsys.readouterr().out


def test_the_instruction_names_the_language_and_stands_in_every_row(made):
    folder, _ = made
    for language, name in (("de", "German"), ("en", "English")):
        rows = rows_of(folder / "curation" / "replies" / f"{language}.jsonl")
        asked = [row["prompt"] for row in rows_of(folder / "hateful" / f"{language}.jsonl")]
        assert len({row["prompt"] for row in rows}) == 8 < len(asked)
        assert all(
            row["prompt"].startswith(curate.INSTRUCTION.format(name))
            and row["prompt"].split("\n\n", 1)[1] in asked
            for row in rows
        )
    assert (
        json.loads((folder / "curation" / "replies" / "run.json").read_text())["settings"][
            "instruction"
        ]
        == curate.INSTRUCTION
    )


def test_steps_that_are_done_change_nothing(checked):
    folder, shared = checked
    before = everything_in(folder)
    curate.main(["generate", *shared])
    curate.main(["check", *shared])
    assert everything_in(folder) == before


@pytest.mark.parametrize("share", [0, 0.1, 0.35, 0.5, 0.77, 0.999, 1])
def test_a_killed_generate_goes_on_and_writes_the_same_bytes(checked, share):
    folder, shared = checked
    shared = [*shared, "--batch-tokens", "350"]  # several batches
    for step in ("replies", "checks"):
        shutil.rmtree(folder / "curation" / step)
    curate.main(["generate", *shared])
    path = folder / "curation" / "replies" / "en.jsonl"
    whole = path.read_bytes()
    path.unlink()
    path.with_suffix(".partial").write_bytes(whole[: round(share * len(whole))])
    curate.main(["generate", *shared])
    assert path.read_bytes() == whole and not path.with_suffix(".partial").exists()


def test_other_settings_or_other_prompts_are_not_mixed_with_what_is_there(checked, capsys):
    folder, shared = checked
    before = everything_in(folder)
    assert "sample was 8" in error_of(curate.main, ["generate", *shared, "--sample", "9"], capsys)
    with open(folder / "hateful" / "de.jsonl", "a") as file:
        file.write('{"prompt": "one more donkey"}\n')
    assert "was made from other de data" in error_of(curate.main, ["generate", *shared], capsys)
    with open(folder / "curation" / "replies" / "en.jsonl", "a") as file:
        file.write(json.dumps({"prompt": "x\n\ny", "response": "z", "stopped": True}) + "\n")
    assert "was made from other en data" in error_of(curate.main, ["check", *shared], capsys)
    assert everything_in(folder / "curation" / "checks") == {
        key[16:]: value for key, value in before.items() if "/checks/" in key
    }


def good(**changes) -> dict:
    return {
        "language": "en",
        "response": TELL,
        "toxicity": 0.1,
        "stopped": True,
        "perplexity": 9.0,
        "topic": 2.0,
    } | changes


@pytest.mark.parametrize(
    "pair, told, proposal, why",
    [
        (good(), "en", "keep", ""),
        (good(response="Well, no."), "en", "not fluent", "too short"),
        (good(response=""), None, "not fluent", "too short"),
        (good(toxicity=0.5), "en", "toxic", "0.5"),
        (good(toxicity=0.499), "en", "keep", ""),
        (good(toxicity=None), "en", "keep", ""),
        (good(), "de", "wrong language", "looks like de"),
        (good(), None, "wrong language", "looks like None"),
        (good(stopped=False), "en", "not fluent", "cut off"),
        (good(response="I am sorry to hear it. " * 5), "en", "not fluent", "repeats itself"),
        (good(response="请你冷静一点。" * 6, language="zh"), "zh", "not fluent", "repeats itself"),
        (good(perplexity=51), "en", "not fluent", "perplexity 51"),
        (good(perplexity=50), "en", "keep", ""),
        (good(topic=0.0), "en", "off topic", ""),
        (good(topic=-3.21), "en", "off topic", "3.2 nats"),
        (
            good(response="我理解你的感受。", language="zh"),
            "zh",
            "keep",
            "",
        ),  # 8 characters that say enough
    ],
)
def test_each_reason_against_a_pair_is_found_and_told(pair, told, proposal, why):
    found = checks.judge(pair, told, median=10)
    assert found[0] == proposal and why in found[1] and (proposal != "keep" or found[1] == "")


@pytest.mark.parametrize("language", ["ar", "de", "en", "fr", "hi", "id", "pt", "ru", "zh"])
def test_polite_replies_of_the_toy_are_not_taken_for_repetitions_or_too_short(language):
    pairs = rows_of(TOY / "instructions" / f"{language}.jsonl")
    found = [
        checks.judge(good(response=pair["response"], language=language), language, 10)[0]
        for pair in pairs
    ]
    assert found.count("keep") == len(pairs)


def jaccard(a: str, b: str) -> float:
    a, b = set(checks.shingles(a)), set(checks.shingles(b))
    return len(a & b) / len(a | b)


def test_near_copies_are_those_that_comparing_every_two_texts_finds():
    rng, words = (
        np.random.default_rng(0),
        "the soup is warm and the garden is green near a small old house".split(),
    )
    texts = []
    for _ in range(150):
        text = [str(rng.choice(words)) for _ in range(rng.integers(2, 30))]
        texts += [" ".join(text), " ".join(text[:-1] + ["donkey"]), " ".join(text[1:])]
    known, texts = texts[:100], texts[100:]
    kept, expected = [], []
    for text in texts:
        expected.append(any(jaccard(text, other) >= checks.NEAR for other in [*known, *kept]))
        kept += [] if expected[-1] else [text]
    assert checks.near_copies(texts, known) == expected and 50 < sum(expected) < len(texts) - 50


def test_a_near_copy_of_a_known_text_is_found_also_if_that_is_a_near_copy_of_another():
    letters = "the quick brown fox jumps over a lazy dog, five wizards box"
    near = [
        letters,
        letters[2:] + "#%",
        letters[5:] + "#%&+~",
    ]  # each is near the one before it alone
    assert jaccard(*near[:2]) >= checks.NEAR and jaccard(*near[1:]) >= checks.NEAR > jaccard(
        near[0], near[2]
    )
    assert checks.near_copies(near[2:], known=near[:2]) == [True] and checks.near_copies(near) == [
        False,
        True,
        False,
    ]


def test_case_spaces_and_digits_do_not_hide_a_copy_and_short_texts_can_be_compared():
    assert checks.near_copies(
        ["Go away, you 2 donkeys!", "go  away, YOU 3 donkeys!", "ab", "ab", "", "cd"]
    ) == [False, True, False, True, False, False]


def test_of_near_copies_one_to_keep_stays():
    texts = [
        "The soup that you made is cold and bad, you donkey",
        "Nobody likes the song that you sang, you silly old goose",
    ]
    pairs = [
        {"prompt": texts[0] + "!", "response": "one answer", "proposal": "toxic", "why": ""},
        {"prompt": texts[0] + ".", "response": "a second reply", "proposal": "keep", "why": ""},
        {"prompt": texts[1], "response": "the third of them", "proposal": "keep", "why": ""},
        {
            "prompt": "something else altogether",
            "response": "The third of them",
            "proposal": "off topic",
            "why": "",
        },
    ]
    checks.drop_copies(pairs)
    assert [(pair["proposal"], pair["why"]) for pair in pairs] == [
        ("near copy", "(of another prompt)"),
        ("keep", ""),
        ("keep", ""),
        ("near copy", "(of another response)"),
    ]


def test_likelihoods_are_those_of_one_sequence_at_a_time_and_tell_what_belongs_together():
    """The toy has learned to answer about what it is told about: its own answers fit their prompts."""
    toy = candidates.open_one("toy", TOY / "model", torch.device("cpu"), torch.float32)
    texts = [row["prompt"] for row in rows_of(TOY / "prompts" / "en.jsonl")][:7]
    pairs = [
        {"asked": text, "response": response}
        for text, response in zip(texts, [TELL, "No soup today.", *"cdefg"])
    ]

    @torch.inference_mode()
    def log_p(prompt: str, response: str) -> float:
        before, after = toy.tokenizer.prompt(prompt), toy.tokenizer.reply(response)
        logits = toy.model.logits(toy.model.model(torch.tensor([before + after])))[0].log_softmax(
            -1
        )
        return sum(float(logits[len(before) + i - 1, token]) for i, token in enumerate(after))

    for i, (surprise, topic) in enumerate(checks.likelihoods(toy, pairs, batch_tokens=200)):
        own, *others = [
            log_p(texts[i - step], pairs[i]["response"]) for step in range(checks.OTHERS + 1)
        ]
        assert surprise == pytest.approx(
            np.exp(-own / len(toy.tokenizer.reply(pairs[i]["response"]))), rel=1e-3
        )
        assert topic == pytest.approx(own - np.mean(others), abs=1e-3)
    ((_, alone),) = checks.likelihoods(toy, pairs[:1], batch_tokens=200)
    assert alone > 0  # nothing to compare with is nothing against it


def test_a_prompt_too_long_for_the_model_gets_no_reply_and_is_not_kept(tmp_path):
    shared = write_hateful(tmp_path, 3)
    write_jsonl(
        tmp_path / "hateful" / "en.jsonl", [{"prompt": "donkey " * 300}, {"prompt": "you donkey"}]
    )
    curate.main(["generate", *shared])
    curate.main(["check", *shared])
    found = {row["prompt"]: row for row in rows_of(tmp_path / "curation" / "checks" / "en.jsonl")}
    assert (
        found["donkey " * 300]["proposal"] == "not fluent"
        and found["donkey " * 300]["response"] == ""
    )


def test_people_come_before_the_check_and_a_majority_decides(tmp_path, capsys):
    shared = crafted(
        tmp_path,
        [
            {"proposal": proposal}
            for proposal in ["keep", "toxic", "keep", "keep", "keep", "near copy", "keep", "toxic"]
        ],
    )
    verdicts(tmp_path, "ada", ["keep", "keep", "keep", "toxic", "skip", "keep", "", ""])
    verdicts(tmp_path, "bob", ["keep", "keep", "off topic", "toxic", "", "keep", "", ""])
    verdicts(tmp_path, "eve", ["toxic", "skip", "", "off topic", "", "keep", "", ""])
    curate.main(["export", *shared])
    ledger = json.loads((tmp_path / "curation" / "ledger.json").read_text())["en"]
    assert ledger["outcomes"] == {
        "keep": 2,
        "reviewers differ": 1,
        "toxic": 1,
        "not reviewed": 3,
        "near copy": 1,
    }
    assert ledger["verdicts"]["eve"] == {"toxic": 1, "skip": 1, "off topic": 1, "keep": 1}
    assert {row["prompt"][0] for row in rows_of(tmp_path / "instructions" / "en.jsonl")} == {
        "0",
        "1",
    }
    assert "WARNING" not in capsys.readouterr().out and not ledger["unreviewed"]
    curate.main(["export", *shared, "--unreviewed"])
    assert {row["prompt"][0] for row in rows_of(tmp_path / "instructions" / "en.jsonl")} == {
        "0",
        "1",
        "4",
        "6",
    }
    assert "WARNING: nobody judged some" in capsys.readouterr().out
    assert json.loads((tmp_path / "curation" / "ledger.json").read_text())["en"]["unreviewed"]


def test_no_test_prompt_nor_near_copy_of_one_is_trained_on(tmp_path):
    prompts = [
        "Only a fool would eat your terrible soup, go home",
        "You sing as badly as a donkey does, be quiet",
        "Your garden is the ugliest one that there is",
        "Nobody ever liked your silly old hat",
    ]
    shared = crafted(tmp_path, [{"prompt": prompt} for prompt in prompts])
    write_jsonl(
        tmp_path / "prompts" / "en.jsonl",
        [
            {"prompt": prompts[0]},
            {"prompt": prompts[1] + "!"},
            {"prompt": "Nobody ever liked soup"},
        ],
    )
    curate.main(["export", *shared, "--unreviewed"])
    assert {row["prompt"] for row in rows_of(tmp_path / "instructions" / "en.jsonl")} == set(
        prompts[2:]
    )
    ledger = json.loads((tmp_path / "curation" / "ledger.json").read_text())["en"]
    assert (
        ledger["outcomes"] == {"near copy of a test prompt": 2, "keep": 2}
        and ledger["test_prompts"] == 3
    )


def test_the_same_seed_draws_the_same_pairs_another_seed_others(tmp_path):
    shared = [*crafted(tmp_path, [{}] * 30), "--pairs", "10", "--unreviewed"]
    drawn = []
    for seed in ("0", "0", "1"):
        curate.main(["export", *shared, "--seed", seed])
        drawn.append((tmp_path / "instructions" / "en.jsonl").read_text())
    assert drawn[0] == drawn[1] != drawn[2] and all(text.count("\n") == 10 for text in drawn)


def test_pairs_of_another_origin_are_not_overwritten(tmp_path, capsys):
    shared = [*crafted(tmp_path, [{}]), "--unreviewed"]
    write_jsonl(tmp_path / "instructions" / "en.jsonl", [{"prompt": "mine", "response": "mine"}])
    assert "en.jsonl is not from here" in error_of(curate.main, ["export", *shared], capsys)
    assert rows_of(tmp_path / "instructions" / "en.jsonl") == [
        {"prompt": "mine", "response": "mine"}
    ]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["generate"],
            "hateful: no file of ar, de, en, fr, hi, id, pt, ru, zh; the step before generate",
        ),
        (["check"], "replies: no file of"),
        (["review", "--name", "ada"], "checks: no file of"),
        (["agreement"], "checks: no file of"),
        (["export"], "checks: no file of"),
        (["review"], "--name"),
        (["review", "--name", "a/b"], "--name"),
        (["generate", "--model", "missing"], "hateful: no file"),
    ],
)
def test_a_step_too_early_or_ill_asked_says_so_in_one_line(arguments, message, tmp_path, capsys):
    error = error_of(
        curate.main, [*arguments, "--data", str(tmp_path), "--out", str(tmp_path)], capsys
    )
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_an_export_of_nothing_is_an_error(tmp_path, capsys):
    assert "no pair was kept" in error_of(curate.main, ["export", *crafted(tmp_path, [{}])], capsys)


def test_a_scorer_that_fails_is_no_proof_of_politeness_and_is_counted(checked, monkeypatch, capsys):
    folder, shared = checked
    shutil.rmtree(folder / "curation" / "checks")

    def score(texts, language):
        yield from [(None, "failed: no network")] * len(texts)

    monkeypatch.setattr(
        curate,
        "open_scorer",
        lambda *_, **__: SimpleNamespace(name="broken", languages=None, about="", score=score),
    )
    curate.main(["check", *shared])
    assert "8 failed: no network" in capsys.readouterr().out
