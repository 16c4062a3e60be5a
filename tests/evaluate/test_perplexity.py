"""Perplexity is exp of the mean negative log-likelihood of a token, whatever the batch, and nothing is left out."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from tiny import GOLDEN, write_model

from minitox.evaluate import perplexity
from minitox.lm import checkpoint
from minitox.lm.checkpoint import save_weights
from minitox.run import candidates
from minitox.run.journal import append_batches


def slowly(model, ids: list[int]) -> float:
    """One token after another, from the definition."""
    return -sum(
        float(model(torch.tensor([ids[:i]]))[0, -1].log_softmax(-1)[ids[i]])
        for i in range(1, len(ids))
    )


@pytest.mark.parametrize("family", ["llama3", "cohere"])
def test_it_is_the_definition_alone_and_in_a_batch(family, monkeypatch):
    model = checkpoint.load(GOLDEN / family)
    sentences = [[3, 9, 4, 30, 22], [3, 7], [3, 5, 5, 8, 13, 21, 34, 2]]
    with torch.inference_mode():
        expected = [slowly(model, ids) for ids in sentences]
    monkeypatch.setattr(perplexity, "AT_ONCE", 100)  # logits of two tokens at a time
    assert perplexity.negative_log_likelihoods(model, sentences) == pytest.approx(
        expected, rel=1e-4
    )
    assert perplexity.negative_log_likelihoods(model, sentences[1:2]) == pytest.approx(
        expected[1:2], rel=1e-4
    )


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary(tmp_path):
    model = write_model(tmp_path / "model")
    model.model.norm.weight.zero_()  # all logits are equal
    save_weights(model.state_dict(), tmp_path / "model", shard_bytes=10**9)
    found = candidates.open_one("base", tmp_path / "model", torch.device("cpu"), torch.float32)
    sentences = ["the soup is warm", "green", "q" * 100]
    args = SimpleNamespace(max_tokens=30, batch_tokens=40)
    assert [
        done
        for done, _ in append_batches(
            [perplexity.plan(found, sentences, args, tmp_path / "en.jsonl")]
        )
    ][-1] == 3
    rows = sorted(
        map(json.loads, (tmp_path / "en.jsonl").read_text().splitlines()), key=lambda row: row["id"]
    )
    assert rows[2]["tokens"] == 30 and rows[2]["nats"] == pytest.approx(
        30 * math.log(300), rel=1e-5
    )
    assert perplexity.read(tmp_path / "en.jsonl") == pytest.approx(300, rel=1e-4)


def test_a_collapsed_model_is_shown_and_not_discarded(tmp_path):
    (tmp_path / "en.jsonl").write_text(
        json.dumps({"id": 1, "tokens": 2, "nats": 60.0})
        + "\n"
        + json.dumps({"id": 2, "tokens": 2, "nats": 2.0})
        + "\n"
    )
    assert perplexity.read(tmp_path / "en.jsonl") == pytest.approx(math.exp(15.5))


def test_a_sentence_longer_than_the_context_is_cut_and_one_of_no_tokens_says_nothing(tmp_path):
    write_model(tmp_path / "model")  # 64 positions
    found = candidates.open_one("base", tmp_path / "model", torch.device("cpu"), torch.float32)
    list(
        append_batches(
            [
                perplexity.plan(
                    found,
                    ["q" * 200],
                    SimpleNamespace(max_tokens=128, batch_tokens=1_000),
                    tmp_path / "en.jsonl",
                )
            ]
        )
    )
    assert json.loads((tmp_path / "en.jsonl").read_text())["tokens"] == 63
    assert perplexity.negative_log_likelihoods(found.model, [[0]]) == [0.0]
