"""Fails until exercise 6 is solved."""

import pytest
import torch
import torch.nn.functional as F
from exercise_6_reply_loss import reply_loss

from minitox.lm import checkpoint

END = 1
PROMPTS = [[0, 20, 21, 22, 23], [0, 30], [0, 40, 41]]
# the second reply contains token 0, the id of padding, and the third the end token as a word
REPLIES = [[57, 58], [60, 0, 61, 0, 0, 62, 0], [END]]


def trainable(folder):
    return checkpoint.load(folder).requires_grad_(True)


def losses_of(model, prompt, reply) -> list[float]:
    """The loss on each token of a reply and on its end, computed one token at a time."""
    text = list(prompt)
    losses = []
    for token in [*reply, END]:
        log_probabilities = F.log_softmax(model(torch.tensor([text]))[0, -1], dim=-1)
        losses.append(-log_probabilities[token].item())
        text.append(token)
    return losses


def test_the_loss_is_the_mean_over_the_tokens_of_the_reply_and_its_end(folder):
    model = trainable(folder)
    for prompt, reply in zip(PROMPTS, REPLIES, strict=True):
        losses = losses_of(model, prompt, reply)
        expected = pytest.approx(sum(losses) / len(losses), rel=1e-4)
        assert reply_loss(model, [prompt], [reply], END).item() == expected


def test_the_loss_on_an_empty_reply_is_the_loss_on_its_end(folder):
    model = trainable(folder)
    expected = pytest.approx(losses_of(model, PROMPTS[0], [])[0], rel=1e-4)
    assert reply_loss(model, [PROMPTS[0]], [[]], END).item() == expected


def test_in_a_batch_every_token_counts_the_same_and_padding_does_not_count(folder):
    model = trainable(folder)
    texts = zip(PROMPTS, REPLIES, strict=True)
    losses = [losses_of(model, prompt, reply) for prompt, reply in texts]
    mean = sum(map(sum, losses)) / sum(map(len, losses))
    mean_of_means = sum(sum(one) / len(one) for one in losses) / 3
    assert abs(mean - mean_of_means) > 1e-2  # otherwise this test could not separate them
    expected = pytest.approx(mean, rel=1e-4)
    assert reply_loss(model, PROMPTS, REPLIES, END).item() == expected
    assert reply_loss(model, PROMPTS[::-1], REPLIES[::-1], END).item() == expected


def test_a_gradient_step_makes_the_replies_more_likely(folder):
    model = trainable(folder)
    before = reply_loss(model, PROMPTS, REPLIES, END)
    before.backward()
    with torch.no_grad():
        for weight in model.parameters():
            weight -= 1e-3 * weight.grad
    assert reply_loss(model, PROMPTS, REPLIES, END) < before - 1e-3


def test_the_lists_that_are_passed_in_are_not_changed(folder):
    model = trainable(folder)
    prompts = [list(prompt) for prompt in PROMPTS]
    replies = [list(reply) for reply in REPLIES]
    reply_loss(model, prompts, replies, END)
    assert (prompts, replies) == (PROMPTS, REPLIES)
