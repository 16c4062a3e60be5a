"""AURA, Damp and Det0: scaling a neuron's output in a running model is scaling its row in the weights."""

import numpy as np
import pytest
import torch
from tiny import write_neurons

from minitox import neurons
from minitox.lm import checkpoint
from minitox.train import interventions


@pytest.fixture
def auroc(folder, tmp_path):
    return write_neurons(tmp_path / "en.safetensors", folder)


@torch.no_grad()
@pytest.mark.parametrize(
    "method, factor",
    [
        ("aura", lambda auroc: 1 - 2 * (auroc - 0.5)),  # [Suau et al., 2024]
        ("damp", lambda auroc: 0.3),
        ("det0", lambda auroc: 0.0),
    ],
)
def test_folding_equals_scaling_outputs_with_hooks(folder, auroc, method, factor):
    hooked, folded, ids = (
        checkpoint.load(folder),
        checkpoint.load(folder),
        torch.arange(4, 44).view(2, 20),
    )
    for name, values in auroc.items():
        alpha = torch.tensor([factor(value) if value > 0.5 else 1.0 for value in values.tolist()])
        hooked.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, alpha=alpha: output * alpha
        )
    interventions.fold(folded, interventions.scales(method, auroc, neurons.select(auroc), damp=0.3))
    before = checkpoint.load(folder)(ids)
    assert (hooked(ids) - folded(ids)).abs().max() <= 1e-5 < (hooked(ids) - before).abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", ["aura", "damp", "det0"])
def test_neurons_outside_the_mask_keep_every_bit(folder, auroc, dtype, method):
    model, before = checkpoint.load(folder, dtype=dtype), checkpoint.load(folder, dtype=dtype)
    mask = neurons.select(auroc, 0.7)
    interventions.fold(model, interventions.scales(method, auroc, mask, damp=0.5))
    for (name, old), (_, new) in zip(before.named_parameters(), model.named_parameters()):
        rows = torch.from_numpy(
            mask.get(name.removesuffix(".weight"), np.zeros(len(old), dtype=bool))
        )
        assert torch.equal(old[~rows], new[~rows])
        assert not rows.any() or (old[rows] != new[rows]).any(dim=1).all()


def test_aura_never_amplifies():
    auroc = {"gate": np.array([0.1, 0.5, 0.75, 1.0], dtype=np.float32)}
    everything = {"gate": np.ones(4, dtype=bool)}
    assert interventions.scales("aura", auroc, everything, damp=0.5)["gate"].tolist() == [
        1.0,
        1.0,
        0.5,
        0.0,
    ]


def test_several_languages_are_combined_by_their_mean_auroc():
    mean = interventions.combine([{"gate": np.array([0.9, 0.4])}, {"gate": np.array([0.3, 0.8])}])
    assert mean["gate"].tolist() == pytest.approx([0.6, 0.6])
