"""Fails until exercise 3 is solved."""

import numpy as np
import pytest
import torch
from exercise_3_aura import aura, fold

from minitox.lm import checkpoint
from minitox.neurons import module_rows


def random_factors(model, only: str = "") -> dict:
    """Random factors for half of the neurons, 1 for the others, in modules whose name fits."""
    rng = np.random.default_rng(0)
    factors = {}
    for name, rows in module_rows(model.config).items():
        if only in name:
            values = np.where(rng.random(rows) < 0.5, rng.random(rows), 1)
            factors[name] = values.astype(np.float32)
    return factors


def test_a_neuron_is_damped_by_its_auroc_and_never_amplified():
    factors = aura(np.array([0.0, 0.3, 0.5, 0.6, 0.75, 1.0], dtype=np.float32))
    assert factors == pytest.approx([1, 1, 1, 0.8, 0.5, 0], abs=1e-6)


@torch.no_grad()
def test_folding_equals_scaling_the_outputs_while_the_model_runs(folder):
    ids = torch.arange(4, 44).view(2, 20)
    for only in ("gate_proj", "up_proj", "down_proj", "layers.1", ""):
        hooked = checkpoint.load(folder)
        folded = checkpoint.load(folder)
        before = folded(ids)
        factors = random_factors(folded, only)
        for name, values in factors.items():
            alpha = torch.from_numpy(values)
            hooked.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, alpha=alpha: output * alpha
            )
        fold(folded, factors)
        assert (hooked(ids) - before).abs().max() > 1e-2
        assert (hooked(ids) - folded(ids)).abs().max() < 1e-4


@torch.no_grad()
def test_weights_that_are_not_scaled_keep_every_bit(folder):
    for dtype in (torch.float32, torch.bfloat16):
        before = checkpoint.load(folder, dtype=dtype)
        folded = checkpoint.load(folder, dtype=dtype)
        factors = random_factors(folded, only="layers.0")
        fold(folded, factors)
        after = dict(folded.named_parameters())
        for name, old in before.named_parameters():
            new = after[name]
            values = factors.get(name.removesuffix(".weight"), np.ones(len(old)))
            same = torch.from_numpy(values == 1)
            assert new.dtype == dtype and torch.equal(old[same], new[same]), name
