"""The loss on replies: its definition, and the fast twin that agrees with it."""

import pytest
import torch
from tuning import loss_by_definition, some_pairs

from minitox.lm import batching, checkpoint
from minitox.train.loss import (
    add_gradients,
    chunked_reply_loss,
    loss_and_gradients,
    reply_loss,
    sft,
)

LOSSES = [reply_loss, chunked_reply_loss]
LOSSES_WITH_GRADIENTS = [sft(reference).loss_and_gradients for reference in (True, False)]


@pytest.fixture
def model(folder):
    return checkpoint.load(folder).requires_grad_(True)


@pytest.fixture
def five_logits_at_once(model, monkeypatch):
    """The fast twin computes logits of five positions at a time."""
    monkeypatch.setattr(batching, "LOGITS_AT_ONCE", 5 * model.config.vocab_size)


def gradients(model) -> dict[str, torch.Tensor]:
    """The gradient of every weight; all are zero afterwards."""
    grads = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad()
    return grads


@pytest.mark.parametrize("loss_of", LOSSES)
def test_the_loss_is_on_replies_and_their_end_and_does_not_depend_on_the_batch(model, loss_of):
    pairs = some_pairs()
    expected = sum(loss_by_definition(model, pair).item() for pair in pairs)
    assert loss_of(model, pairs).item() == pytest.approx(expected, rel=1e-5)
    one_by_one = sum(loss_of(model, [pair]).item() for pair in pairs)
    assert one_by_one == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("with_gradients", LOSSES_WITH_GRADIENTS)
def test_the_gradients_are_those_of_the_log_probabilities(
    model, with_gradients, five_logits_at_once
):
    """The fast twin goes back to the hidden states in chunks, then once through the layers."""
    pairs = some_pairs(4)
    sum(loss_by_definition(model, pair) for pair in pairs).backward()
    expected = gradients(model)
    with_gradients(model, pairs, scale=1.0)
    for name, grad in gradients(model).items():
        assert torch.allclose(grad, expected[name], atol=1e-4), name


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_definition_and_fast_twin_have_the_same_loss_and_gradients(
    model, scale, five_logits_at_once
):
    pairs = some_pairs()
    definition = loss_and_gradients(reply_loss, model, pairs, scale)
    expected = gradients(model)
    chunked = chunked_reply_loss(model, pairs, scale)
    assert chunked.item() == pytest.approx(definition.item(), rel=1e-6)
    assert not chunked.requires_grad and not definition.requires_grad
    for name, grad in gradients(model).items():
        assert (grad - expected[name]).norm() <= 1e-5 * expected[name].norm(), name


@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize("micro_batch_tokens", [1_000, 25, 1])
def test_micro_batches_add_up_to_the_mean_over_the_reply_tokens_of_the_batch(
    model, reference, micro_batch_tokens
):
    """Not to the mean of the micro-batches' means, in which a short reply would count more."""
    batch = some_pairs(6)
    tokens = sum(pair.reply_tokens for pair in batch)
    mean = sum(loss_by_definition(model, pair) for pair in batch) / tokens
    mean.backward()
    expected = gradients(model)

    added = add_gradients(model, batch, sft(reference), micro_batch_tokens)
    assert added.item() == pytest.approx(mean.item(), rel=1e-5)
    for name, grad in gradients(model).items():
        assert torch.allclose(grad, expected[name], atol=1e-5), name


def test_without_a_scale_the_fast_twin_computes_no_gradients(model):
    chunked_reply_loss(model, some_pairs(2))
    assert all(weight.grad is None for weight in model.parameters())
