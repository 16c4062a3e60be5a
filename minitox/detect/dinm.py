"""DINM's toxic layer: where the hidden states of a polite and a rude reply to a prompt differ most.

    distance[l] = mean over prompts of ‖ hidden[l, polite] - hidden[l, rude] ‖

`hidden[l]` is the output of layer `l` at the last token of the reply. DINM changes the `down_proj`
of the layer of largest distance.
"""

import torch

from minitox.lm.batching import on_device, pad
from minitox.lm.model import LanguageModel


def last_states(model: LanguageModel, sequences: list[list[int]]):  # -> (L, B, D)
    """The output of every layer at the last token of each sequence, as float32."""
    device = model.model.embed_tokens.weight.device
    ids = on_device(pad(sequences), device)  # (B, T)
    last = on_device([len(sequence) - 1 for sequence in sequences], device)  # (B,)
    rows = torch.arange(len(sequences), device=device)
    states = []

    def keep_last(layer, inputs, output):  # output (B, T, D)
        states.append(output[rows, last].float())  # (B, D)

    # one forward pass; PyTorch calls `keep_last` after every layer
    hooks = []
    for layer in model.model.layers:
        hooks.append(layer.register_forward_hook(keep_last))
    try:
        model.model(ids)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(states)


@torch.inference_mode()
def layer_distances(
    model: LanguageModel,
    batches: list[list],  # of pairs, each with a rejected reply
    show=lambda batches: None,  # progress, called after every batch
):  # -> (L,)
    """The mean distance of each layer over all pairs. ValueError if one is not finite.

    [DINM, Wang et al. 2024]
    """
    # DEVIATION: DINM names a layer for each prompt; ours is that of the largest mean distance
    total = 0
    for done, batch in enumerate(batches, start=1):
        polite = last_states(model, [pair.ids for pair in batch])  # (L, B, D)
        rude = last_states(model, [pair.rejected.ids for pair in batch])
        total += (polite - rude).norm(dim=-1).sum(dim=1)  # (L,)
        show(done)
    distances = total / sum(map(len, batches))
    if not distances.isfinite().all():
        raise ValueError("the hidden states of the replies are not finite")
    return distances
