"""Replies on disk: each prompt once, in any batch, and none lost or made twice by a kill."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import TOY, write_model

from minitox.data import read_prompts
from minitox.errors import InputError
from minitox.files import read_jsonl
from minitox.run import candidates, replies
from minitox.run.journal import Batches, append_batches


def arguments(**changes) -> SimpleNamespace:
    return SimpleNamespace(
        **{
            "samples": 1,
            "max_new_tokens": 20,
            "temperature": 0.0,
            "top_p": 1.0,
            "batch_tokens": 300,
            "seed": 0,
        }
        | changes
    )


@pytest.fixture(scope="module")
def toy():
    return candidates.open_one("base", TOY / "model", torch.device("cpu"), torch.float32)


def prompts_of(language: str, most: int = 10) -> dict[int, str]:
    return read_prompts(TOY / "prompts" / f"{language}.jsonl", most, np.random.default_rng(0))


def write(candidate, prompts, args, path) -> list[int]:
    return [done for done, _ in append_batches([replies.plan(candidate, prompts, args, path)])]


def test_the_same_replies_come_of_any_batch(toy, tmp_path):
    prompts = prompts_of("de")
    for name, tokens in (("one", 1), ("some", 300), ("all", 10**6)):
        assert (
            write(toy, prompts, arguments(batch_tokens=tokens), tmp_path / f"{name}.jsonl")[-1]
            == 10
        )
    one, some, every = (replies.read(tmp_path / f"{name}.jsonl") for name in ("one", "some", "all"))
    assert one == some == every and [row["id"] for row in one] == list(prompts)
    assert all(row["prompt"] == prompts[row["id"]] and row["response"] for row in one)


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(toy, tmp_path):
    prompts, path = prompts_of("en"), tmp_path / "en.jsonl"
    counts = write(toy, prompts, arguments(), path)
    whole = path.read_bytes()
    ends = [0, *(i + 1 for i, byte in enumerate(whole) if byte == 10)]
    for size in (0, 1, ends[1], ends[1] + 5, ends[counts[1]], ends[counts[1]] - 1, len(whole) - 1):
        path.write_bytes(whole[:size])
        again = write(toy, prompts, arguments(), path)
        assert path.read_bytes() == whole and again == [
            count for count in counts if count > sum(end <= size for end in ends[1:])
        ]
    assert write(toy, prompts, arguments(), path) == []


def test_a_batch_that_was_cut_short_is_made_again_and_whole_ones_are_not(tmp_path):
    asked, plan = [], [["a", "b"], ["c"], ["d", "e", "f"]]

    def rows_of(batch):
        asked.append(batch)
        return [{"letter": letter} for letter in batch]

    file, other = (
        Batches(tmp_path / "x.jsonl", plan, rows_of),
        Batches(tmp_path / "y.jsonl", [["g"]], rows_of),
    )
    assert list(append_batches([file, other])) == [(2, file), (3, file), (6, file), (7, other)]
    lines = (tmp_path / "x.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "x.jsonl").write_text("".join(lines[:4]) + lines[4][:5])
    asked.clear()
    assert list(append_batches([file, other])) == [(7, file)] and asked == [["d", "e", "f"]]
    assert [row["letter"] for _, row in read_jsonl(tmp_path / "x.jsonl")] == list("abcdef")


def test_the_model_is_not_read_where_nothing_is_missing(toy, tmp_path):
    prompts = prompts_of("en", 3)
    write(toy, prompts, arguments(), tmp_path / "en.jsonl")
    found = candidates.open_one("base", TOY / "model", torch.device("cpu"), torch.float32)
    write(found, prompts, arguments(), tmp_path / "en.jsonl")
    assert "model" not in vars(found)


def test_samples_differ_and_do_not_depend_on_the_batch_or_the_other_prompts(toy, tmp_path):
    args = arguments(samples=3, temperature=1.5)
    write(toy, prompts_of("en"), args, tmp_path / "all" / "en.jsonl")
    every = replies.read(tmp_path / "all" / "en.jsonl")
    assert [(row["id"], row["sample"]) for row in every[:4]] == [
        (every[0]["id"], 0),
        (every[0]["id"], 1),
        (every[0]["id"], 2),
        (every[3]["id"], 0),
    ]
    assert len({row["response"] for row in every[:3]}) > 1
    few = dict(list(prompts_of("en").items())[2:4])
    write(
        toy,
        few,
        arguments(samples=3, temperature=1.5, batch_tokens=1),
        tmp_path / "few" / "en.jsonl",
    )
    assert replies.read(tmp_path / "few" / "en.jsonl") == [row for row in every if row["id"] in few]


def test_a_prompt_longer_than_the_context_gets_no_reply_and_the_others_do(tmp_path):
    write_model(tmp_path / "model")  # 64 positions
    found = candidates.open_one("base", tmp_path / "model", torch.device("cpu"), torch.float32)
    write(
        found, {1: "q" * 200, 2: "the soup", 3: "w" * 42}, arguments(), tmp_path / "en.jsonl"
    )  # BOS, text, newline, reply
    rows = replies.read(tmp_path / "en.jsonl")
    assert [row["response"] is None for row in rows] == [True, False, False] and rows[0][
        "tokens"
    ] == 0
    with pytest.raises(
        InputError, match="--max-new-tokens 64 leaves no room for a prompt in 64 positions"
    ):
        write(found, {1: "the soup"}, arguments(max_new_tokens=64), tmp_path / "de.jsonl")
