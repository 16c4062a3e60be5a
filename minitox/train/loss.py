"""The loss on replies: cross-entropy of every reply token, given the prompt and the reply so far.

`reply_loss` is the definition; `chunked_reply_loss` is the same loss in less memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from minitox.lm.batching import batches, on_device, pad, positions_at_once
from minitox.lm.model import LanguageModel
from minitox.train.pairs import Pair


@dataclass(frozen=True)
class Objective:
    """What is minimised: a loss of some pairs, divided by their size."""

    loss: Callable  # (model, pairs) -> (), summed over the pairs
    loss_and_gradients: Callable  # (model, pairs, scale) -> (): adds the gradients of scale * loss
    size_of: Callable  # of a pair
    tokens_of: Callable  # of a pair: how many of a micro-batch's tokens it takes


def sft(reference: bool) -> Objective:
    """The mean loss over reply tokens, by the definition or in little memory.  [paper §3.3]"""
    if reference:
        with_gradients = partial(loss_and_gradients, reply_loss)
        return Objective(reply_loss, with_gradients, count_reply_tokens, count_tokens)
    return Objective(chunked_reply_loss, chunked_reply_loss, count_reply_tokens, count_tokens)


def loss_and_gradients(
    loss_of: Callable, model: LanguageModel, pairs: list[Pair], scale: float
):  # -> ()
    """A loss of some pairs; adds the gradients of scale * loss to the weights' `.grad`."""
    loss = loss_of(model, pairs)
    (loss * scale).backward()
    return loss.detach()


def count_reply_tokens(pair: Pair) -> int:
    return pair.reply_tokens


def count_tokens(pair: Pair) -> int:
    return len(pair.ids)


def reply_loss(model: LanguageModel, pairs: list[Pair]):  # -> ()
    """Cross-entropy of the replies and of the tokens that end them, summed over tokens, in nats."""
    states, targets = reply_states(model, pairs)
    return F.cross_entropy(model.logits(states).float(), targets, reduction="sum")


def reply_states(model: LanguageModel, pairs: list[Pair]):  # -> (n, D), (n,)
    """The hidden state before each reply token, and the token that it should predict."""
    device = model.model.embed_tokens.weight.device

    # the row and the position of each prediction, and the token that it should predict
    rows = []
    positions = []
    targets = []
    for row, pair in enumerate(pairs):
        rows += [row] * pair.reply_tokens
        positions += range(pair.start - 1, len(pair.ids) - 1)
        targets += pair.ids[pair.start :]
    targets = on_device(targets, device)  # (n,)

    # hidden states there
    ids = on_device(pad([pair.ids[:-1] for pair in pairs]), device)  # (B, T)
    hidden = model.model(ids)  # (B, T, D)
    return hidden[on_device(rows, device), on_device(positions, device)], targets


def chunked_reply_loss(
    model: LanguageModel, pairs: list[Pair], scale: float | None = None
):  # -> ()
    """`reply_loss` in little memory; with `scale`, adds the gradients of scale * loss.

    Logits of all reply tokens (n, V) would outweigh all activations. They are computed a few
    positions at a time, and only where there is a loss.
    """
    # 1) the hidden state before each reply token
    hidden, targets = reply_states(model, pairs)  # (n, D), (n,)

    # 2) logits and loss chunk by chunk; backward stops at the hidden states
    leaf = hidden.detach().requires_grad_(scale is not None)
    chunk = positions_at_once(model)
    total = torch.zeros((), device=leaf.device)
    for states, wanted in zip(leaf.split(chunk), targets.split(chunk), strict=True):
        loss = F.cross_entropy(model.logits(states).float(), wanted, reduction="sum")
        if scale is not None:
            (loss * scale).backward()
        total += loss.detach()

    # 3) one backward pass through the layers
    if scale is not None:
        hidden.backward(leaf.grad)
    return total


def add_gradients(
    model: LanguageModel,
    batch: list[Pair],
    objective: Objective,
    micro_batch_tokens: int,  # most padded tokens in the model at once
):  # -> ()
    """Mean loss of a batch, for sft over its reply tokens; adds its gradients by micro-batches."""
    size = sum(map(objective.size_of, batch))
    loss = torch.zeros((), device=model.model.embed_tokens.weight.device)
    lengths = [objective.tokens_of(pair) for pair in batch]
    for group in batches(lengths, micro_batch_tokens):
        micro_batch = [batch[i] for i in group]
        loss += objective.loss_and_gradients(model, micro_batch, 1 / size) / size
    return loss
