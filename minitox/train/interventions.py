"""Interventions without training, folded into the weights: a neuron is a row, so scaling its output is scaling its row.

AURA [Suau et al., 2024] damps a neuron by how toxic it is; Damp scales all toxic neurons alike; Det0 silences them. They act on the
outputs of gate_proj, up_proj and down_proj alike, so what an intermediate unit passes on is damped up to three times.
"""

import numpy as np
import torch

from minitox.lm.model import LanguageModel
from minitox.run import distributed


def combine(aurocs: list[dict]) -> dict:
    """One AUROC a neuron for several languages: their mean."""
    return {name: np.mean([auroc[name] for auroc in aurocs], axis=0) for name in aurocs[0]}


def scales(method: str, auroc: dict, mask: dict, damp: float) -> dict:
    """The factor of every neuron's output: 1 outside the mask.

    aura: 1 - 2 (AUROC - 0.5), which is 1 for a neuron that knows nothing and 0 for one that separates perfectly.
    """
    factor = {
        "aura": lambda values: np.minimum(1, 1 - 2 * (values - 0.5)),
        "damp": lambda values: np.full_like(values, damp),
        "det0": np.zeros_like,
    }[method]
    return {name: np.where(mask[name], factor(values), 1) for name, values in auroc.items()}


@torch.no_grad()
def fold(model: LanguageModel, scale: dict) -> None:
    """Multiply every neuron's row by its factor; a row whose factor is 1 keeps every bit."""
    for name, factors in scale.items():
        weight = model.get_submodule(name).weight
        factors, rows = (
            distributed.part(torch.from_numpy(factors), weight),
            distributed.local(weight),
        )
        rows.copy_(rows.float() * factors.to(rows.device, torch.float32).unsqueeze(1))
