"""KL(base || tuned) is that of the definition, whatever the batch, and 0 of a model from itself."""

import math

import pytest
import torch
from tiny import GOLDEN

from minitox.evaluate import divergence
from minitox.evaluate.divergence import divergences, kl_divergence, mean_divergence
from minitox.evaluate.perplexity import states_before
from minitox.lm import checkpoint

SENTENCES = [[3, 9, 4, 30, 22], [3, 7], [3, 5, 5, 8, 13, 21, 34, 2]]


@pytest.fixture
def models():
    """A base model, and the same with some other weights."""
    base = checkpoint.load(GOLDEN / "llama3")
    tuned = checkpoint.load(GOLDEN / "llama3")
    with torch.no_grad():
        tuned.model.layers[0].mlp.up_proj.weight[::2] *= 1.5
    return base, tuned


def one_by_one(base, tuned, ids: list[int]) -> float:
    """The divergence of a sentence, summed in Python over its tokens and over the vocabulary."""
    total = 0.0
    for place in range(1, len(ids)):
        beginning = torch.tensor([ids[:place]])
        p = base(beginning)[0, -1].double().softmax(-1).tolist()
        q = tuned(beginning)[0, -1].double().softmax(-1).tolist()
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total


def test_it_is_that_of_the_definition_alone_and_in_a_batch(models, monkeypatch):
    with torch.inference_mode():
        expected = [one_by_one(*models, ids) for ids in SENTENCES]
        swapped = [one_by_one(*reversed(models), ids) for ids in SENTENCES]
    monkeypatch.setattr(divergence, "LOGITS_AT_ONCE", 100)  # those of two tokens
    assert divergences(*models, SENTENCES) == pytest.approx(expected, rel=1e-3)
    assert divergences(*models, SENTENCES[1:2]) == pytest.approx(expected[1:2], rel=1e-3)
    assert expected != pytest.approx(swapped, rel=1e-2)  # the order of the models matters
    assert min(expected) > 1e-4


def test_known_states_give_the_same(models):
    with torch.inference_mode():
        states = [states_before(model, SENTENCES) for model in models]
    expected = divergences(*models, SENTENCES)
    assert divergences(*models, SENTENCES, *states) == expected
    assert divergences(*models, SENTENCES, *reversed(states)) != expected  # they are used


def test_two_tokens_by_hand():
    base = torch.tensor([[0.0, 0.0]])  # 1/2, 1/2
    tuned = torch.tensor([[math.log(3), 0.0]])  # 3/4, 1/4
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert kl_divergence(base, tuned).item() == pytest.approx(expected)
    # a constant added to all logits changes nothing
    assert kl_divergence(base + 7, tuned - 3).item() == pytest.approx(expected, rel=1e-5)


def test_a_model_does_not_diverge_from_itself(models):
    base, _ = models
    assert divergences(base, base, SENTENCES) == [0.0, 0.0, 0.0]


def test_it_is_not_negative_by_rounding():
    logits = torch.randn(200, 5_000, generator=torch.Generator().manual_seed(0))
    assert (kl_divergence(logits, logits + 1e-6) >= 0).all()


def test_a_token_that_the_tuned_model_excludes_costs_many_nats_and_is_finite():
    base = torch.tensor([[0.0, 0.0]])
    tuned = torch.tensor([[0.0, -1e4]])
    assert kl_divergence(base, tuned).item() == pytest.approx(5_000, rel=1e-3)


def test_a_sentence_of_one_token_has_none(models):
    assert divergences(*models, [[3], [3, 7]])[0] == 0.0


@pytest.mark.parametrize("broken", [0, 1])
def test_logits_that_are_not_finite_have_no_divergence(models, broken):
    models[broken].model.norm.weight.data *= 1e38
    with pytest.raises(ValueError, match="logits of a sentence are not finite"):
        divergences(*models, SENTENCES)


def test_the_mean_is_over_tokens_and_not_over_sentences():
    assert mean_divergence([1, 3], [5.0, 3.0]) == pytest.approx(2.0)
    assert mean_divergence([0], [0.0]) == 0.0


@pytest.mark.parametrize("nats", [math.nan, math.inf, -1e-3])
def test_what_cannot_be_a_divergence_has_no_mean(nats):
    with pytest.raises(ValueError, match="negative or not finite"):
        mean_divergence([2, 2], [3.0, nats])


def test_half_precision_is_compared_in_float32():
    base = torch.tensor([[60.0, 0.0, 1.0]]).half()
    assert kl_divergence(base, base.roll(1, -1)).dtype == torch.float32
    assert divergence.kl_divergence(base, base).item() == 0.0
