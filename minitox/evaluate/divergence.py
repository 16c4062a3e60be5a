"""KL divergence of a tuned model from its base model on clean text, per token, in nats.

    KL(base || tuned) = sum over v of p_base(v) * (log p_base(v) - log p_tuned(v))

It is 0 if both predict the same, and unlike perplexity it grows with every change of prediction.
"""

import math

import torch

from minitox.evaluate.perplexity import states_before, sums
from minitox.lm.batching import positions_at_once
from minitox.lm.model import LanguageModel, are_finite

LOGITS_AT_ONCE = 2**17  # of each model on a CPU: they stay in its cache


def kl_divergence(
    base,  # (n, V) logits
    tuned,  # (n, V)
):  # -> (n,)
    """KL(base || tuned) of each prediction, by its definition."""
    log_base = base.float().log_softmax(dim=-1)
    log_tuned = tuned.float().log_softmax(dim=-1)
    divergence = (log_base.exp() * (log_base - log_tuned)).sum(dim=-1)
    # never negative, except for rounding
    return divergence.clamp(min=0)


@torch.inference_mode()
def divergences(
    base: LanguageModel,
    tuned: LanguageModel,  # with the same vocabulary
    sentences: list[list[int]],
    base_states=None,  # what `states_before` gives, of the base model, if it is known
    tuned_states=None,  # and of the tuned model
) -> list[float]:
    """The sum over each sentence's tokens but the first of KL(base || tuned), in nats.

    ValueError if logits are not finite.
    """
    # 1) the hidden states of both models before each token that is predicted: n in all
    base_hidden, _ = base_states or states_before(base, sentences)  # (n, D)
    tuned_hidden, _ = tuned_states or states_before(tuned, sentences)

    # 2) the divergence, a few at a time, because all logits (n, V) would need too much memory
    size = positions_at_once(base, on_cpu=LOGITS_AT_ONCE)
    parts = zip(
        base_hidden.split(size),
        tuned_hidden.split(size),
        strict=True,
    )
    nats = []
    for base_part, tuned_part in parts:
        base_logits = base.logits(base_part)  # (size, V)
        tuned_logits = tuned.logits(tuned_part)
        divergence = kl_divergence(base_logits, tuned_logits)  # (size,)
        finite = are_finite(base_logits) & are_finite(tuned_logits)
        nats.append(divergence.where(finite, torch.nan))

    # 3) a sum for each sentence
    return sums(nats, sentences)


def mean_divergence(tokens: list[int], nats: list[float]) -> float:
    """Nats per token of all sentences together; ValueError if a divergence cannot be one."""
    if not all(math.isfinite(value) and value >= 0 for value in nats):
        raise ValueError("a divergence is negative or not finite")
    return sum(nats) / max(1, sum(tokens))
