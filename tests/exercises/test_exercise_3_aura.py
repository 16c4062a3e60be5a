"""Fails until exercise 3 is solved."""

import numpy as np
import pytest
import torch
from exercise_3_aura import aura, fold

from minitox.lm import checkpoint
from minitox.neurons import module_rows


def random_factors(model, only: str = "") -> dict:
    """Half of the neurons are scaled."""
    rng = np.random.default_rng(0)
    return {
        name: np.where(rng.random(rows) < 0.5, rng.random(rows), 1).astype(np.float32)
        for name, rows in module_rows(model.config).items()
        if only in name
    }


def test_a_neuron_is_damped_by_what_it_knows_and_never_amplified():
    found = aura(np.array([0.0, 0.3, 0.5, 0.6, 0.75, 1.0], dtype=np.float32))
    assert found == pytest.approx([1, 1, 1, 0.8, 0.5, 0], abs=1e-6)


@torch.no_grad()
def test_folding_is_scaling_outputs_as_the_model_runs(folder):
    ids = torch.arange(4, 44).view(2, 20)
    for only in ("gate_proj", "up_proj", "down_proj", "layers.1", ""):
        hooked, folded = checkpoint.load(folder), checkpoint.load(folder)
        before, factors = folded(ids), random_factors(folded, only)
        for name, values in factors.items():
            alpha = torch.from_numpy(values)
            hooked.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, alpha=alpha: output * alpha
            )
        fold(folded, factors)
        assert (hooked(ids) - before).abs().max() > 1e-2
        assert (hooked(ids) - folded(ids)).abs().max() < 1e-4


@torch.no_grad()
def test_what_is_not_scaled_keeps_every_bit(folder):
    for dtype in (torch.float32, torch.bfloat16):
        before, folded = checkpoint.load(folder, dtype=dtype), checkpoint.load(folder, dtype=dtype)
        factors = random_factors(folded, only="layers.0")
        fold(folded, factors)
        for (name, old), new in zip(before.named_parameters(), folded.parameters()):
            same = torch.from_numpy(
                factors.get(name.removesuffix(".weight"), np.ones(len(old))) == 1
            )
            assert new.dtype == dtype and torch.equal(old[same], new[same]), name
