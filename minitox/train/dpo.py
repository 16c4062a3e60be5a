"""Direct preference optimisation: the model should prefer a reply to a rejected one.

    loss = -log sigmoid(beta * ((log p(y|x) - log q(y|x)) - (log p(z|x) - log q(z|x))))

y is the reply to a prompt x and z the rejected one; p is the model and q the base model, whose
log-probabilities are known before tuning, as the pairs' `reference_log_p`. `summed_dpo_loss` is the
definition; `chunked_dpo_loss` is the same loss in less memory.
[Rafailov et al. 2023, Eq. 7]
"""

from functools import partial

import torch
import torch.nn.functional as F

from minitox.lm.batching import on_device, positions_at_once
from minitox.lm.model import LanguageModel
from minitox.train.loss import (
    Objective,
    loss_and_gradients,
    reply_states,
)
from minitox.train.pairs import Pair


def dpo_objective(beta: float, label_smoothing: float, reference: bool) -> Objective:
    """The mean DPO loss over pairs, by the definition or in little memory."""
    numbers = {"beta": beta, "label_smoothing": label_smoothing}
    if reference:
        loss = partial(summed_dpo_loss, **numbers)
        return Objective(loss, partial(loss_and_gradients, loss), count_one, count_both)
    chunked = partial(chunked_dpo_loss, **numbers)
    return Objective(chunked, chunked, count_one, count_both)


def count_one(pair: Pair) -> int:
    """The loss is a mean over pairs, however long their replies are."""
    return 1


def count_both(pair: Pair) -> int:
    """Both replies are in one micro-batch, padded to the longer one."""
    return 2 * max(len(pair.ids), len(pair.rejected.ids))


# ---- the definition ----


def reward_margins(
    log_p,  # (B,) log-probability of each reply
    rejected_log_p,  # (B,) of each rejected reply
    reference_log_p,  # (B,) both by the base model
    rejected_reference_log_p,  # (B,)
    beta: float,
):  # -> (B,)
    """By how much the reward of a reply, beta * log(p / q), exceeds that of the rejected one."""
    reward = beta * (log_p - reference_log_p)
    rejected_reward = beta * (rejected_log_p - rejected_reference_log_p)
    return reward - rejected_reward


def dpo_loss(margins, label_smoothing: float = 0.0):  # (B,) -> (B,)
    """The loss of each pair, given its reward margin; a share of the labels may be wrong.

    [Rafailov et al. 2023, Eq. 7; label smoothing: Mitchell 2023]
    """
    right = -F.logsigmoid(margins)
    wrong = -F.logsigmoid(-margins)  # if the replies were exchanged
    return (1 - label_smoothing) * right + label_smoothing * wrong


def reply_log_probabilities(model: LanguageModel, pairs: list[Pair]):  # -> (B,)
    """The log-probability of each reply with the token that ends it, in nats."""
    states, targets = reply_states(model, pairs)
    return of_replies(token_log_probabilities(model, states, targets), pairs)


def token_log_probabilities(model: LanguageModel, states, targets):  # (n, D), (n,) -> (n,)
    return -F.cross_entropy(model.logits(states).float(), targets, reduction="none")


def of_replies(log_p, pairs: list[Pair]):  # (n,) -> (B,)
    """Sums over the tokens of each reply."""
    replies = log_p.split([pair.reply_tokens for pair in pairs])
    return torch.stack([reply.sum() for reply in replies])


def both_replies(pairs: list[Pair]) -> list[Pair]:
    """All replies (B), then all rejected ones (B)."""
    return [*pairs, *(pair.rejected for pair in pairs)]


def total_loss(log_p, replies: list[Pair], beta: float, label_smoothing: float):  # (2B,) -> ()
    """The DPO loss summed over pairs, given the log-probabilities of `both_replies`."""
    references = torch.tensor([reply.reference_log_p for reply in replies], dtype=log_p.dtype)
    references = on_device(references, log_p.device)
    margins = reward_margins(*log_p.chunk(2), *references.chunk(2), beta)
    return dpo_loss(margins, label_smoothing).sum()


def summed_dpo_loss(
    model: LanguageModel, pairs: list[Pair], beta: float, label_smoothing: float
):  # -> ()
    """The DPO loss, summed over pairs."""
    replies = both_replies(pairs)
    log_p = reply_log_probabilities(model, replies)
    return total_loss(log_p, replies, beta, label_smoothing)


# ---- the same in less memory ----


def chunked_dpo_loss(
    model: LanguageModel,
    pairs: list[Pair],
    scale: float | None = None,
    *,
    beta: float,
    label_smoothing: float,
):  # -> ()
    """`summed_dpo_loss` in little memory; with `scale`, adds the gradients of scale * loss.

    The loss is not a sum over tokens: the gradient of a token's log-probability depends on the
    whole pair. So logits are computed twice, first for the loss and then for the gradients.
    """
    # 1) the loss, with the logits of a few positions at a time
    replies = both_replies(pairs)
    hidden, targets = reply_states(model, replies)  # (n, D), (n,)
    log_p = chunked_log_probabilities(model, hidden.detach(), targets, replies)  # (2B,)
    log_p.requires_grad_(scale is not None)
    loss = total_loss(log_p, replies, beta, label_smoothing)
    if scale is None:
        return loss

    # 2) its gradient by the log-probability of each reply, which is that of each of its tokens
    (loss * scale).backward()
    tokens = on_device([reply.reply_tokens for reply in replies], hidden.device)
    weights = log_p.grad.repeat_interleave(tokens, output_size=len(targets))  # (n,)

    # 3) logits again, chunk by chunk; backward stops at the hidden states
    leaf = hidden.detach().requires_grad_()
    chunk = positions_at_once(model)
    pieces = (leaf.split(chunk), targets.split(chunk), weights.split(chunk))
    for states, wanted, weight in zip(*pieces, strict=True):
        (token_log_probabilities(model, states, wanted) * weight).sum().backward()

    # 4) one backward pass through the layers
    hidden.backward(leaf.grad)
    return loss.detach()


@torch.no_grad()
def chunked_log_probabilities(model: LanguageModel, hidden, targets, pairs):  # -> (B,)
    """The log-probability of each reply, with the logits of a few positions at a time."""
    chunk = positions_at_once(model)
    log_p = []
    for states, wanted in zip(hidden.split(chunk), targets.split(chunk), strict=True):
        log_p.append(token_log_probabilities(model, states, wanted))
    return of_replies(torch.cat(log_p), pairs)


# ---- what is known of pairs, besides the loss ----


def log_probabilities(model: LanguageModel, pairs: list[Pair], reference: bool = False):  # -> (B,)
    """The log-probability of each reply, by the definition or in little memory."""
    if reference:
        return reply_log_probabilities(model, pairs)
    hidden, targets = reply_states(model, pairs)
    return chunked_log_probabilities(model, hidden, targets, pairs)


def preferences(
    pairs: list[Pair],
    log_p,  # (2B,) of `both_replies`, by the tuned model
    beta: float,
) -> dict[str, float | None]:
    """The mean reward margin, the share of pairs with a positive one, and the loss on replies.

    The loss is that of loss.reply_loss, per token. All are None if there are no pairs.
    """
    if not pairs:
        return dict.fromkeys(("margin", "accuracy", "reply_loss"))
    replies = both_replies(pairs)
    references = torch.tensor([reply.reference_log_p for reply in replies], dtype=log_p.dtype)
    margins = reward_margins(*log_p.chunk(2), *references.chunk(2), beta)
    tokens = sum(pair.reply_tokens for pair in pairs)
    return {
        "margin": margins.mean().item(),
        "accuracy": (margins > 0).double().mean().item(),
        "reply_loss": -log_p[: len(pairs)].sum().item() / tokens,
    }
