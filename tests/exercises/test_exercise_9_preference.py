"""Fails until exercise 9 is solved."""

import math

import pytest
import torch
import torch.nn.functional as F
from exercise_9_preference import dpo_loss, log_probability, push

from minitox.lm import checkpoint

END = 1
BETA = 0.1


def random_pairs(count: int, spread: float = 30.0) -> list:
    """Log-probabilities of `count` pairs: of y and z by p, and of y and z by q."""
    generator = torch.Generator().manual_seed(0)
    return [-spread * torch.rand(count, generator=generator) for _ in range(4)]


def token_by_token(model, prompt, reply) -> float:
    """The log-probability of a reply and its end, computed one token at a time."""
    text = list(prompt)
    total = 0.0
    for token in [*reply, END]:
        total += F.log_softmax(model(torch.tensor([text]))[0, -1], dim=-1)[token].item()
        text.append(token)
    return total


def test_the_log_probability_is_the_sum_over_the_reply_and_its_end(folder):
    model = checkpoint.load(folder)
    prompt = [0, 20, 21, 22]
    for reply in ([57, 58, 59, 60, 61], [57], [], [END]):
        expected = pytest.approx(token_by_token(model, prompt, reply), rel=1e-4)
        assert float(log_probability(model, prompt, reply, END)) == expected


def test_the_probabilities_of_all_replies_of_one_token_add_up_to_those_of_all_second_tokens(folder):
    """p(t, end) summed over t is the probability that the second token ends the reply."""
    model = checkpoint.load(folder)
    prompt = [0, 30]
    tokens = range(0, model.config.vocab_size, 50)
    total = sum(math.exp(float(log_probability(model, prompt, [t], END))) for t in tokens)
    first = F.softmax(model(torch.tensor([prompt]))[0, -1], dim=-1)
    expected = 0.0
    for token in tokens:
        second = F.softmax(model(torch.tensor([[*prompt, token]]))[0, -1], dim=-1)
        expected += (first[token] * second[END]).item()
    assert total == pytest.approx(expected, rel=1e-3)


def test_the_loss_of_a_pair_by_hand():
    # p raised y by 3 nats and z by 1 nat: the margin is 0.5 * 2
    pair = [torch.tensor([value]) for value in (-7.0, -9.0, -10.0, -10.0)]
    assert dpo_loss(*pair, beta=0.5).item() == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-5)


def test_before_tuning_the_loss_is_log_2_whatever_the_replies():
    y, z, _, _ = random_pairs(20)
    assert dpo_loss(y, z, y, z, BETA).tolist() == pytest.approx([math.log(2)] * 20, rel=1e-5)


def test_each_pair_has_a_loss_of_its_own():
    pairs = random_pairs(8)
    together = dpo_loss(*pairs, BETA)
    assert together.shape == (8,)
    alone = [dpo_loss(*(values[i : i + 1] for values in pairs), BETA).item() for i in range(8)]
    assert together.tolist() == pytest.approx(alone, rel=1e-5)


def test_what_makes_both_replies_likelier_changes_nothing():
    y, z, *references = random_pairs(8)
    raised = dpo_loss(y + 5, z + 5, *references, BETA)
    assert raised.tolist() == pytest.approx(dpo_loss(y, z, *references, BETA).tolist(), rel=1e-4)


def test_a_pair_that_is_very_wrong_has_a_large_loss_that_is_finite():
    # the margin is 1 * (-1,000)
    pair = [torch.tensor([value]) for value in (-1_500.0, -500.0, -1_000.0, -1_000.0)]
    assert dpo_loss(*pair, beta=1.0).item() == pytest.approx(1_000, rel=1e-5)


def test_the_push_is_the_derivative_of_the_loss():
    pairs = random_pairs(50, spread=60.0)
    y, z, *references = (values.requires_grad_() for values in pairs)
    margins = BETA * ((y - references[0]) - (z - references[1]))
    F.softplus(-margins).sum().backward()
    pushes = push(y.detach(), z.detach(), *(of.detach() for of in references), BETA)
    assert torch.allclose(pushes, -y.grad, atol=1e-6)
    assert torch.allclose(pushes, z.grad, atol=1e-6)


def test_only_pairs_that_are_not_yet_right_push():
    y = torch.tensor([-10.0, -100.0, -1_000.0])  # likelier, as likely, less likely than by q
    z = torch.tensor([-1_000.0, -100.0, -10.0])
    both = torch.full((3,), -100.0)
    assert push(y, z, both, both, BETA).tolist() == pytest.approx([0, BETA / 2, BETA], abs=1e-6)
