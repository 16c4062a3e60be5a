"""The plain loop's body: every neuron's response to each sentence of a batch.  [paper §3.1]

A neuron's response to a token is its output before the activation function; its response to a
sentence is the pooled response to the sentence's tokens. Only the pooled one is kept.
"""

from collections.abc import Callable

import torch

from minitox.lm.batching import on_device, pad
from minitox.lm.model import LanguageModel
from minitox.neurons import module_rows


def pool_max(output, keep, first: int, full: int):  # (B, T, R), (B, T) bool -> (B, R)
    """The largest output over a sentence's tokens."""
    parts = []
    # Tokens that every sentence has need no mask, and so no copy
    if first < full:
        parts.append(output[:, first:full].amax(dim=1))
    if full < output.shape[1]:
        dropped = ~keep[:, full:].unsqueeze(-1)  # (B, T - full, 1)
        parts.append(output[:, full:].masked_fill(dropped, -torch.inf).amax(dim=1))
    return torch.stack(parts).amax(dim=0)


def pool_mean(output, keep, first: int, full: int):  # (B, T, R), (B, T) bool -> (B, R)
    """The mean output over a sentence's tokens."""
    share = keep / keep.sum(dim=1, keepdim=True)  # (B, T), sums to 1 over a sentence
    return torch.einsum("bt,btr->br", share.to(output.dtype), output)


# DEVIATION: the paper does not say how it pools; max is ml-aura's only choice,
# mean does not grow with the text's length
POOL = {"max": pool_max, "mean": pool_mean}


@torch.inference_mode()
def pooled_responses(
    model: LanguageModel,
    sentences: list[list[int]],  # token ids
    special_ids: set[int],  # tokens that are not pooled
    pool,  # pool_max or pool_mean
):  # -> (B, K)
    """Every neuron's response to each sentence; padding and special tokens are not pooled.

    ValueError names the first module whose output is not finite.
    """
    device = model.model.embed_tokens.weight.device

    # 1) pad on the right, and mark the tokens that are pooled
    ids = pad(sentences)  # (B, T)
    lengths = torch.tensor([len(sentence) for sentence in sentences])
    keep = torch.arange(ids.shape[1]) < lengths.unsqueeze(1)  # (B, T) bool
    keep &= ~torch.isin(ids, torch.tensor(sorted(special_ids)))
    first, full = common_columns(keep)
    ids = on_device(ids, device)
    keep = on_device(keep, device)

    # 2) one forward pass; each module's output is pooled as soon as it is made
    responses = []  # of each module, (B, R)

    def record(layer: int, projection: str, output):  # output (B, T, R)
        responses.append(pool(output, keep, first, full))

    model.model(ids, record=record)

    # 3) all neurons side by side
    check_finite(responses, model)
    return torch.cat(responses, dim=1)


def common_columns(keep) -> tuple[int, int]:  # (B, T) bool
    """The range of columns that are kept in every row: after BOS, before any padding."""
    first = int(keep.any(dim=0).int().argmax())
    in_all_rows = keep[:, first:].all(dim=0).int()  # 1 1 1 0 1 0 0
    return first, first + int(in_all_rows.cumprod(dim=0).sum())


def check_finite(responses: list[torch.Tensor], model: LanguageModel):
    """ValueError names the first module of which a response is NaN or infinite."""
    finite = torch.stack([response.isfinite().all() for response in responses]).tolist()
    for name, is_finite in zip(module_rows(model.config), finite, strict=True):
        if not is_finite:
            raise ValueError(f"{name}: the responses are not finite; check the weights and --dtype")
