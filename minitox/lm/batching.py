"""Batches of token sequences: little padding, and tensors on the model's device."""

import torch

from minitox.lm.model import LanguageModel

LOGITS_AT_ONCE = 2**23  # logits in memory at once, on a CPU
LOGITS_AT_ONCE_ON_GPU = 2**27


def batches(lengths: list[int], tokens: int) -> list[list[int]]:
    """Indices of sequences grouped by length, the longest first.

    A batch has at most `tokens` tokens, padding included, or consists of one longer sequence.
    """
    # 1) longest first; sequences of equal length keep their order
    indices = range(len(lengths))
    order = sorted(indices, key=lambda i: -lengths[i])
    # 2) fill one batch after another
    groups = []
    room = 0  # for further sequences in the last batch
    for i in order:
        if room == 0:
            # the first sequence of a batch is its longest
            groups.append([])
            longest = max(1, lengths[i])
            room = max(1, tokens // longest)
        groups[-1].append(i)
        room -= 1
    return groups


def pad(sequences: list[list[int]]) -> torch.Tensor:  # -> (B, T)
    """Stack sequences, padded on the right with id 0, which no real token attends to."""
    longest = max(len(ids) for ids in sequences)
    padded = [ids + [0] * (longest - len(ids)) for ids in sequences]
    return torch.tensor(padded)


def on_device(values, device: torch.device) -> torch.Tensor:
    """Numbers as a tensor on `device`, copied to a GPU without waiting for it."""
    tensor = torch.as_tensor(values)
    if device.type == "cuda":
        # only a copy from pinned memory runs in the background
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def positions_at_once(model: LanguageModel, on_cpu: int | None = None) -> int:
    """The number of positions whose logits are in memory at once.

    All logits of a batch would need more memory than the model. `on_cpu`: how many logits those
    are on a CPU, if not LOGITS_AT_ONCE.
    """
    logits = LOGITS_AT_ONCE_ON_GPU
    if model.model.embed_tokens.weight.device.type == "cpu":
        logits = on_cpu or LOGITS_AT_ONCE
    return max(1, logits // model.config.vocab_size)
