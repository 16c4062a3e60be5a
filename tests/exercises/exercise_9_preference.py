"""Exercise 9. What does a preference push?  [paper §6, Limitations; Rafailov et al. 2023] (medium)

So far a model has learned to write polite replies. A pair may also have a reply to avoid, the
*rejected* one. Direct preference optimisation (DPO) then asks for a preference: the model p should
have raised the log-probability of the polite reply y to a prompt x, compared with the model q
before tuning, by more than that of the rejected reply z. With

    margin = beta * ((log p(y|x) - log q(y|x)) - (log p(z|x) - log q(z|x)))

the loss of a pair is -log sigmoid(margin). The log-probability of a reply is the sum over its
tokens and the token that ends it, each given all that comes before it.

First write the log-probability of a reply and the loss. Then look at how the loss pulls: its
derivative by log p(y|x) is -push, and by log p(z|x) it is +push. The push is a number of each pair,
between 0 and beta. Write it without autograd. For which pairs is it large, and for which is it 0?

A trap: sigmoid(-1,000) is 0 in float32, and log 0 is minus infinity.

Run the tests with

    python -m pytest tests/exercises/test_exercise_9_preference.py

Afterwards read minitox/train/dpo.py. Questions to think about: the loss before tuning is log 2,
whatever the model. Why? The loss depends on y and z only through the difference of the
log-ratios. Can it fall while the polite reply becomes less likely? Run
`python train.py --objective dpo`, and look at its columns "reward margin" and "loss on
replies".
"""


def log_probability(model, prompt: list[int], reply: list[int], end: int):  # -> ()
    """log p(reply and the token `end` | prompt), in nats. model(ids) maps (B, T) to (B, T, V)."""
    raise NotImplementedError


def dpo_loss(log_p, rejected, reference, rejected_reference, beta: float):  # (B,) each -> (B,)
    """The loss of each pair.

    `log_p` are log p(y|x) and `rejected` log p(z|x); the others are the same of the model q.
    """
    raise NotImplementedError


def push(log_p, rejected, reference, rejected_reference, beta: float):  # (B,) each -> (B,)
    """How strongly each pair pulls y up and z down: minus the derivative of its loss by `log_p`."""
    raise NotImplementedError
