"""Every neuron's response to each sentence of a batch, in one forward pass.  [paper §3.1]

A neuron's response to a token is the output of its linear layer (for gate_proj: before SiLU); its
response to a sentence is that output, pooled over the sentence's tokens. Only the latter is kept.
"""

import torch

from minitox.lm.batching import on_device, pad
from minitox.lm.model import LanguageModel
from minitox.neurons import module_rows


def pool_max(
    output,  # (B, T, R)
    keep,  # (B, T) bool: the tokens that are pooled
    first: int,  # every sentence has the tokens from `first` to `full`
    full: int,
):  # -> (B, R)
    """The largest output over a sentence's tokens."""
    parts = []
    # 1) tokens that every sentence has need no mask, and so no copy
    if first < full:
        text = output[:, first:full]
        parts.append(text.amax(dim=1))

    # 2) the end of the longer sentences
    if full < output.shape[1]:
        # adding 0 or -inf takes less than half of the time that masked_fill takes
        added = torch.where(keep[:, full:], 0.0, -torch.inf).to(output.dtype)  # (B, T - full)
        text = output[:, full:] + added.unsqueeze(-1)
        parts.append(text.amax(dim=1))
    return torch.stack(parts).amax(dim=0)


def pool_mean(
    output,  # (B, T, R)
    keep,  # (B, T) bool
    first: int,  # not needed here
    full: int,
):  # -> (B, R)
    """The mean output over a sentence's tokens."""
    lengths = keep.sum(dim=1, keepdim=True)  # (B, 1)
    share = keep / lengths  # (B, T), sums to 1 over a sentence
    share = share.to(output.dtype)
    return torch.einsum("bt,btr->br", share, output)


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
    positions = torch.arange(ids.shape[1])
    keep = positions < lengths.unsqueeze(1)  # (B, T) bool
    special = torch.tensor(sorted(special_ids))
    keep &= ~torch.isin(ids, special)
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
    in_any_row = keep.any(dim=0).int()  # (T,) 0 1 1 1 1 1 1 0
    first = int(in_any_row.argmax())
    in_all_rows = keep[:, first:].all(dim=0).int()  # 1 1 1 0 1 0 0
    until_a_gap = in_all_rows.cumprod(dim=0)  # 1 1 1 0 0 0 0
    return first, first + int(until_a_gap.sum())


def check_finite(responses: list[torch.Tensor], model: LanguageModel):
    """ValueError names the first module of which a response is NaN or infinite."""
    # one transfer from the device for all modules
    finite = torch.stack([response.isfinite().all() for response in responses])
    names = module_rows(model.config)
    for name, is_finite in zip(names, finite.tolist(), strict=True):
        if not is_finite:
            raise ValueError(f"{name}: the responses are not finite; check the weights and --dtype")
