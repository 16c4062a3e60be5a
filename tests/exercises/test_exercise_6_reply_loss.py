"""Fails until exercise 6 is solved."""

import pytest
import torch
import torch.nn.functional as F
from exercise_6_reply_loss import reply_loss

from minitox.lm import checkpoint

END = 1
PROMPTS, REPLIES = (
    [[0, 20, 21, 22, 23], [0, 30], [0, 40, 41]],
    [[57, 58], [60, 0, 61, 0, 0, 62, 0], [END]],
)


def trainable(folder):
    return checkpoint.load(folder).requires_grad_(True)


def surprises(model, prompt, reply) -> list[float]:
    """How surprised the model is by each token of a reply and its end: one text at a time, one token at a time."""
    text, found = list(prompt), []
    for token in [*reply, END]:
        found.append(-F.log_softmax(model(torch.tensor([text]))[0, -1], dim=-1)[token].item())
        text.append(token)
    return found


def test_the_loss_is_the_surprise_at_each_token_of_the_reply_and_at_its_end(folder):
    model = trainable(folder)
    for prompt, reply in zip(PROMPTS, REPLIES):
        expected = surprises(model, prompt, reply)
        assert reply_loss(model, [prompt], [reply], END).item() == pytest.approx(
            sum(expected) / len(expected), rel=1e-4
        )


def test_an_empty_reply_teaches_to_end_at_once(folder):
    model = trainable(folder)
    assert reply_loss(model, [PROMPTS[0]], [[]], END).item() == pytest.approx(
        surprises(model, PROMPTS[0], [])[0], rel=1e-4
    )


def test_in_a_batch_every_token_counts_the_same_and_padding_does_not_count(folder):
    """The second reply holds token 0, the padding's id, and the third the end token as a word: both are to be learned."""
    model = trainable(folder)
    each = [surprises(model, prompt, reply) for prompt, reply in zip(PROMPTS, REPLIES)]
    expected = sum(map(sum, each)) / sum(map(len, each))
    assert (
        abs(expected - sum(sum(one) / len(one) for one in each) / 3) > 1e-2
    )  # else this test could not tell
    assert reply_loss(model, PROMPTS, REPLIES, END).item() == pytest.approx(expected, rel=1e-4)
    assert reply_loss(model, PROMPTS[::-1], REPLIES[::-1], END).item() == pytest.approx(
        expected, rel=1e-4
    )


def test_a_step_down_its_gradient_makes_the_replies_likelier(folder):
    model = trainable(folder)
    before = reply_loss(model, PROMPTS, REPLIES, END)
    before.backward()
    with torch.no_grad():
        for weight in model.parameters():
            weight -= 1e-3 * weight.grad
    assert reply_loss(model, PROMPTS, REPLIES, END) < before - 1e-3


def test_the_lists_that_were_handed_in_are_left_as_they_were(folder):
    model = trainable(folder)
    prompts, replies = [list(prompt) for prompt in PROMPTS], [list(reply) for reply in REPLIES]
    reply_loss(model, prompts, replies, END)
    assert (prompts, replies) == (PROMPTS, REPLIES)
