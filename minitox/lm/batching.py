"""Batches that waste little on padding."""

import torch


def batches(lengths: list[int], tokens: int) -> list[list[int]]:
    """Indices of sentences grouped by length, longest first, at most `tokens` padded tokens a batch (or one sentence)."""
    groups, order = [], sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for i in order:
        if not groups or (len(groups[-1]) + 1) * lengths[groups[-1][0]] > tokens:
            groups.append([])
        groups[-1].append(i)
    return groups


def pad(sentences: list[list[int]]) -> torch.Tensor:  # -> (B, T)
    """Stack sentences, padded on the right with id 0, which no real token ever sees."""
    longest = max(map(len, sentences))
    return torch.tensor([ids + [0] * (longest - len(ids)) for ids in sentences])


def on_device(values, device: torch.device) -> torch.Tensor:
    """Numbers as a tensor on a device; a GPU need not be waited for."""
    tensor = torch.as_tensor(values)
    return (
        tensor.pin_memory().to(device, non_blocking=True)
        if device.type == "cuda"
        else tensor.to(device)
    )
