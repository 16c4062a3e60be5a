"""Perplexity of a model on clean text: exp of the mean negative log-likelihood of a token."""

import math

import torch
import torch.nn.functional as F

from minitox.lm.batching import pad, positions_at_once
from minitox.lm.model import LanguageModel, are_finite

MOST_NATS = 700  # of a token; exp of more than 709 overflows


@torch.inference_mode()
def negative_log_likelihoods(
    model: LanguageModel,
    sentences: list[list[int]],
    states=None,  # what `states_before` gives, if it is known
) -> list[float]:
    """-log p of each sentence, in nats: of every token but the first, given those before it.

    ValueError if logits are not finite.
    """
    # 1) the hidden state before each token that is predicted: n in all
    if states is None:
        states = states_before(model, sentences)
    hidden, targets = states

    # 2) their losses, a few at a time, because all logits (n, V) would need too much memory
    size = positions_at_once(model)
    parts = zip(
        hidden.split(size),
        targets.split(size),
        strict=True,
    )
    losses = []
    for part, target in parts:
        logits = model.logits(part).float()  # (size, V)
        loss = F.cross_entropy(logits, target, reduction="none")  # (size,)
        losses.append(loss.where(are_finite(logits), torch.nan))

    # 3) a sum for each sentence
    return sums(losses, sentences)


def sums(parts: list, sentences: list[list[int]]) -> list[float]:
    """Sums in float64 over the predicted tokens of each sentence, all of which `parts` have.

    ValueError if a number is not finite.
    """
    values = torch.cat(parts).cpu().double()  # (n,)
    if not values.isfinite().all():
        raise ValueError("the logits of a sentence are not finite; check the weights and --dtype")
    counts = [len(sentence) - 1 for sentence in sentences]
    by_sentence = values.split(counts)
    return [part.sum().item() for part in by_sentence]


def states_before(model: LanguageModel, sentences: list[list[int]]):  # -> (n, D), (n,)
    """The hidden state before every token but the first of each sentence, and that token."""
    device = model.model.embed_tokens.weight.device

    # 1) of a batch, with the padding
    ids = pad(sentences).to(device)  # (B, T)
    hidden = model.model(ids)  # (B, T, D)
    hidden = hidden[:, :-1]  # (B, T - 1, D)
    targets = ids[:, 1:]  # (B, T - 1)

    # 2) without the padding
    counts = [len(sentence) - 1 for sentence in sentences]
    ends = torch.tensor(counts, device=device)
    places = torch.arange(hidden.shape[1], device=device)
    real = places < ends.unsqueeze(1)  # (B, T - 1)
    return (
        hidden[real],
        targets[real],
    )


def perplexity(tokens: list[int], nats: list[float]) -> float:
    """Perplexity per token of all sentences together, given the tokens and nats of each.

    Infinity if it overflows; ValueError if a likelihood is not finite.
    """
    mean = sum(nats) / max(1, sum(tokens))
    if not math.isfinite(mean):
        raise ValueError("a likelihood is not finite")
    return math.exp(mean) if mean <= MOST_NATS else math.inf
