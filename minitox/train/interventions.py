"""Interventions without training: a neuron is a row, so scaling its output is scaling its row.

AURA [Suau et al., 2024] scales a neuron down by how toxic it is; Damp scales all toxic neurons
alike; Det0 sets them to zero. They act on the outputs of gate_proj, up_proj and down_proj alike, so
up to three factors multiply what an intermediate unit contributes.
"""

import numpy as np
import torch

from minitox.neurons import NeuronAUROC, NeuronMask, stacked

# How the AUROCs of several languages become one; run.json records it
COMBINED = {
    "aura": "mean over the languages in which the AUROC is above 0.5",
    "damp": "mean over all languages",
    "det0": "mean over all languages",
}


def combine(method: str, aurocs: list[NeuronAUROC]) -> NeuronAUROC:
    """One AUROC for each neuron from those of several languages, as COMBINED says.

    damp and det0 scale all chosen neurons alike, so only the mean matters, by which neurons are
    chosen. aura scales by the AUROC itself. Its mean over all languages is near 0.5 for nearly
    every neuron, which scales nothing.
    """
    # DEVIATION: AURA is defined for one language; the mean over several is ours, chosen by
    # what it does to toxicity and to clean text
    combined = {}
    for name in aurocs[0]:
        values = stacked(aurocs, name)  # (languages, R)
        mean = values.mean(axis=0)
        if method == "aura":
            # also with another threshold, since a factor is below 1 above 0.5
            above = values > 0.5
            times = above.sum(axis=0)
            where_above = (values * above).sum(axis=0) / np.maximum(1, times)
            mean = np.where(times > 0, where_above, mean)
        combined[name] = mean
    return combined


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
