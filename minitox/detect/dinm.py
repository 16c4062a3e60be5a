"""DINM's toxic layer: where the hidden states of a polite and a rude reply to a prompt differ most.

    distance[l] = mean over prompts of ‖ hidden[l, polite] - hidden[l, rude] ‖

`hidden[l]` is the output of layer `l` at the last token of the reply. DINM changes the `down_proj`
of the layer of largest distance.
"""

import torch

from minitox.lm.batching import on_device, pad
from minitox.lm.model import LanguageModel, check_length, rope_angles


def last_states(model: LanguageModel, sequences: list[list[int]]):  # -> (L, B, D)
    """The output of every layer at the last token of each sequence, as float32."""
    device = model.model.embed_tokens.weight.device
    ids = on_device(pad(sequences), device)  # (B, T)
    check_length(model.config, ids.shape[1])
    last = on_device([len(sequence) - 1 for sequence in sequences], device)  # (B,)
    rows = torch.arange(len(sequences), device=device)

    # layer after layer, as the model does it
    x = model.model.embed_tokens(ids)  # (B, T, D)
    cos, sin = rope_angles(model.config, ids.shape[1], device)
    states = []
    for layer in model.model.layers:
        x = layer(x, cos.to(x.dtype), sin.to(x.dtype))
        states.append(x[rows, last].float())  # (B, D)
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
