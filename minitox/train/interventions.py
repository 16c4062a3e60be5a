"""Interventions without training: a neuron is a row, so scaling its output is scaling its row.

AURA [Suau et al., 2024] scales a neuron down by how toxic it is; Damp scales all toxic neurons
alike; Det0 sets them to zero. They act on the outputs of gate_proj, up_proj and down_proj alike, so
up to three factors multiply what an intermediate unit contributes.
"""

import numpy as np
import torch

from minitox.neurons import NeuronAUROC, NeuronMask, stacked


def combine(aurocs: list[NeuronAUROC]) -> NeuronAUROC:
    """One AUROC for each neuron from those of several languages: their mean."""
    return {name: stacked(aurocs, name).mean(axis=0) for name in aurocs[0]}


def scales(method: str, auroc: NeuronAUROC, mask: NeuronMask, damp: float):
    """The factor of every neuron's output; 1 outside the mask."""
    scale = {}
    for name, values in auroc.items():
        if method == "aura":
            # 1 for a neuron that cannot tell toxic from clean, 0 for one that separates them
            factors = np.minimum(1, 1 - 2 * (values - 0.5))
        elif method == "damp":
            factors = np.full_like(values, damp)
        else:  # det0
            factors = np.zeros_like(values)
        scale[name] = np.where(mask[name], factors, 1)
    return scale


@torch.no_grad()
def fold(weights, scale):
    """Multiply each row (R, D) by its factor (R,), in place; rows of factor 1 keep every bit."""
    for name, factors in scale.items():
        rows = weights[name]
        factors = factors.to(rows.device, torch.float32).unsqueeze(1)  # (R, 1)
        rows.copy_(rows.float() * factors)
