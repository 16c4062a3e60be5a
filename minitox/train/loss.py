"""The loss on replies: cross-entropy of every reply token, given the prompt and the reply so far.

`reply_loss` is the definition; `chunked_reply_loss` is the same loss in less memory.
"""

import torch
import torch.nn.functional as F

from minitox.lm.batching import batches, on_device, pad
from minitox.lm.model import LanguageModel
from minitox.train.pairs import Pair

LOGITS_AT_ONCE = 2**23  # elements, on a CPU
LOGITS_AT_ONCE_ON_GPU = 2**27


def reply_loss(model: LanguageModel, pairs: list[Pair]):  # -> ()
    """Cross-entropy of the replies and of the tokens that end them, summed over tokens, in nats."""
    states, targets = reply_states(model, pairs)
    return F.cross_entropy(model.logits(states).float(), targets, reduction="sum")


def reply_states(model: LanguageModel, pairs: list[Pair]):  # -> (n, D), (n,)
    """The hidden state before each reply token, and the token that it should predict."""
    device = model.model.embed_tokens.weight.device
    ids = pad([pair.ids for pair in pairs]).to(device)  # (B, T + 1)
    inputs = ids[:, :-1]  # (B, T)
    targets = ids[:, 1:]  # (B, T): the next token of each

    # the loss counts where the next token belongs to the reply
    counts = torch.zeros(inputs.shape, dtype=torch.bool, device=device)
    for row, pair in enumerate(pairs):
        counts[row, pair.start - 1 : len(pair.ids) - 1] = True
    return model.model(inputs)[counts], targets[counts]


def reply_loss_and_gradients(model: LanguageModel, pairs: list[Pair], scale: float):  # -> ()
    """`reply_loss`; adds the gradients of scale * loss to the weights' `.grad`.

    One backward pass would do. It has two parts because a tied embedding gets a gradient from the
    head and one from the lookup, and `chunked_reply_loss` adds them to `.grad` in this order.
    """
    states, targets = reply_states(model, pairs)
    leaf = states.detach().requires_grad_()
    loss = F.cross_entropy(model.logits(leaf).float(), targets, reduction="sum")
    (loss * scale).backward()  # through the head
    states.backward(leaf.grad)  # through the layers
    return loss.detach()


def chunked_reply_loss(
    model: LanguageModel, pairs: list[Pair], scale: float | None = None
):  # -> ()
    """`reply_loss` in little memory; with `scale`, adds the gradients of scale * loss.

    Logits of all reply tokens (n, V) would outweigh all activations. They are computed a few
    positions at a time, and only where there is a loss.
    """
    device = model.model.embed_tokens.weight.device

    # 1) the row and the position of each prediction, and the token that it should predict
    rows = []
    positions = []
    targets = []
    for row, pair in enumerate(pairs):
        rows += [row] * pair.reply_tokens
        positions += range(pair.start - 1, len(pair.ids) - 1)
        targets += pair.ids[pair.start :]
    targets = on_device(targets, device)  # (n,)

    # 2) hidden states there
    ids = on_device(pad([pair.ids[:-1] for pair in pairs]), device)  # (B, T)
    hidden = model.model(ids)  # (B, T, D)
    hidden = hidden[on_device(rows, device), on_device(positions, device)]  # (n, D)

    # 3) logits and loss chunk by chunk; backward stops at the hidden states
    leaf = hidden.detach().requires_grad_(scale is not None)
    at_once = LOGITS_AT_ONCE if device.type == "cpu" else LOGITS_AT_ONCE_ON_GPU
    chunk = max(1, at_once // model.config.vocab_size)
    total = torch.zeros((), device=device)
    for states, wanted in zip(leaf.split(chunk), targets.split(chunk), strict=True):
        loss = F.cross_entropy(model.logits(states).float(), wanted, reduction="sum")
        if scale is not None:
            (loss * scale).backward()
        total += loss.detach()

    # 4) one backward pass through the layers
    if scale is not None:
        hidden.backward(leaf.grad)
    return total


def add_gradients(
    model: LanguageModel,
    batch: list[Pair],
    micro_batch_tokens: int,  # most padded tokens in the model at once
    loss_and_gradients=chunked_reply_loss,  # or reply_loss_and_gradients
):  # -> ()
    """Mean loss over a batch's reply tokens; adds its gradients, micro-batch by micro-batch."""
    reply_tokens = sum(pair.reply_tokens for pair in batch)
    loss = torch.zeros((), device=model.model.embed_tokens.weight.device)
    for group in batches([len(pair.ids) for pair in batch], micro_batch_tokens):
        micro_batch = [batch[i] for i in group]
        loss += loss_and_gradients(model, micro_batch, 1 / reply_tokens) / reply_tokens
    return loss
