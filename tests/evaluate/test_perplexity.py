"""Perplexity is exp of the mean negative log-likelihood of a token, whatever the batch."""

import math

import pytest
import torch
from tiny import GOLDEN

from minitox.evaluate import perplexity
from minitox.lm import batching, checkpoint


def one_by_one(model, ids: list[int]) -> float:
    """-log p of a sentence by its definition, one token after another."""
    total = 0.0
    for place in range(1, len(ids)):
        logits = model(torch.tensor([ids[:place]]))[0, -1]  # (V,)
        total -= float(logits.log_softmax(-1)[ids[place]])
    return total


@pytest.mark.parametrize("family", ["llama3", "cohere"])
def test_likelihoods_are_those_of_the_definition_alone_and_in_a_batch(family, monkeypatch):
    model = checkpoint.load(GOLDEN / family)
    sentences = [[3, 9, 4, 30, 22], [3, 7], [3, 5, 5, 8, 13, 21, 34, 2]]
    with torch.inference_mode():
        expected = [one_by_one(model, ids) for ids in sentences]
    monkeypatch.setattr(batching, "LOGITS_AT_ONCE", 100)  # those of two tokens
    batch = perplexity.negative_log_likelihoods(model, sentences)
    assert batch == pytest.approx(expected, rel=1e-4)
    alone = perplexity.negative_log_likelihoods(model, sentences[1:2])
    assert alone == pytest.approx(expected[1:2], rel=1e-4)


def test_a_sentence_of_one_token_predicts_nothing():
    model = checkpoint.load(GOLDEN / "llama3")
    assert perplexity.negative_log_likelihoods(model, [[0]]) == [0.0]
    assert perplexity.perplexity([0], [0.0]) == 1.0


def test_perplexity_is_a_mean_over_tokens_and_not_over_sentences():
    assert perplexity.perplexity([1, 3], [5.0, 3.0]) == pytest.approx(math.exp(8 / 4))


def test_a_collapsed_model_has_a_large_perplexity_and_is_not_left_out():
    assert perplexity.perplexity([2, 2], [60.0, 2.0]) == pytest.approx(math.exp(15.5))
    assert perplexity.perplexity([1], [690.0]) == pytest.approx(math.exp(690))
    assert perplexity.perplexity([1], [1e6]) == math.inf


@pytest.mark.parametrize("nats", [math.nan, math.inf, -math.inf])
def test_a_likelihood_that_is_not_finite_is_no_perplexity(nats):
    with pytest.raises(ValueError, match="a likelihood is not finite"):
        perplexity.perplexity([2, 2], [3.0, nats])


def test_logits_that_are_not_finite_have_no_likelihood():
    model = checkpoint.load(GOLDEN / "llama3")
    model.model.norm.weight *= 1e38
    with pytest.raises(ValueError, match="logits of a sentence are not finite"):
        perplexity.negative_log_likelihoods(model, [[3, 9, 4], [3, 7]])
