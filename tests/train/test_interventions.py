"""AURA, Damp and Det0: scaling a neuron's output is scaling its row in the weights."""

import numpy as np
import pytest
import torch
from tiny import write_neurons

from minitox import neurons
from minitox.lm import checkpoint
from minitox.train import interventions

FACTORS = {
    "aura": lambda auroc: 1 - 2 * (auroc - 0.5),  # [Suau et al., 2024]
    "damp": lambda auroc: 0.3,
    "det0": lambda auroc: 0.0,
}


@pytest.fixture
def auroc(folder, tmp_path):
    return write_neurons(tmp_path / "en.safetensors", folder)


def fold(model, scale: dict[str, np.ndarray]) -> None:
    """Fold the factors into a model."""
    weights = {name: model.get_submodule(name).weight for name in scale}
    factors = {name: torch.from_numpy(values) for name, values in scale.items()}
    interventions.fold(weights, factors)


def scale_outputs(model, auroc: dict, factor_of) -> None:
    """Multiply the output of each neuron of AUROC above 0.5, while the model runs."""

    def hook(factors):
        return lambda module, inputs, output: output * factors

    for name, values in auroc.items():
        factors = [factor_of(value) if value > 0.5 else 1.0 for value in values.tolist()]
        model.get_submodule(name).register_forward_hook(hook(torch.tensor(factors)))


@torch.no_grad()
@pytest.mark.parametrize("method", FACTORS)
def test_folding_equals_scaling_the_outputs_of_a_running_model(folder, auroc, method):
    ids = torch.arange(4, 44).view(2, 20)
    before = checkpoint.load(folder)(ids)
    running = checkpoint.load(folder)
    scale_outputs(running, auroc, FACTORS[method])
    expected = running(ids)

    folded = checkpoint.load(folder)
    fold(folded, interventions.scales(method, auroc, neurons.select(auroc), damp=0.3))
    assert (expected - folded(ids)).abs().max() <= 1e-5 < (expected - before).abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", FACTORS)
def test_neurons_outside_the_mask_keep_every_bit(folder, auroc, dtype, method):
    before = checkpoint.load(folder, dtype=dtype).state_dict()
    model = checkpoint.load(folder, dtype=dtype)
    mask = neurons.select(auroc, 0.7)
    fold(model, interventions.scales(method, auroc, mask, damp=0.5))
    for name, new in model.state_dict().items():
        old = before[name]
        module = name.removesuffix(".weight")
        rows = torch.zeros(len(old), dtype=torch.bool)
        if module in mask:
            rows = torch.from_numpy(mask[module])
            assert (old[rows] != new[rows]).any(dim=1).all()
        assert torch.equal(old[~rows], new[~rows])


def test_in_bfloat16_the_product_is_rounded_and_not_the_factor():
    weight = torch.rand(50, 50, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    factors = torch.linspace(0, 1, 50)
    expected = (weight.float() * factors[:, None]).to(torch.bfloat16)
    assert not torch.equal(weight * factors.to(torch.bfloat16)[:, None], expected)
    interventions.fold({"gate": weight}, {"gate": factors})
    assert torch.equal(weight, expected)


def test_aura_never_amplifies():
    auroc = {"gate": np.array([0.1, 0.5, 0.75, 1.0], dtype=np.float32)}
    every_neuron = {"gate": np.ones(4, dtype=bool)}
    scale = interventions.scales("aura", auroc, every_neuron, damp=0.5)
    assert scale["gate"].tolist() == [1.0, 1.0, 0.5, 0.0]


GERMAN = {"gate": np.array([0.9, 0.4, 0.7, 0.3, 0.5], dtype=np.float32)}
ENGLISH = {"gate": np.array([0.1, 0.8, 0.9, 0.4, 0.5], dtype=np.float32)}


@pytest.mark.parametrize("method", ["damp", "det0"])
def test_damp_and_det0_scale_the_neurons_that_are_toxic_on_average(method):
    mean = interventions.combine(method, [GERMAN, ENGLISH])
    assert mean["gate"].tolist() == pytest.approx([0.5, 0.6, 0.8, 0.35, 0.5])


def test_aura_of_several_languages_is_the_mean_factor_of_those_in_which_a_neuron_is_toxic():
    combined = interventions.combine("aura", [GERMAN, ENGLISH])
    assert combined["gate"].tolist() == pytest.approx([0.9, 0.8, 0.8, 0.35, 0.5])
    factors = interventions.scales("aura", combined, neurons.select(combined), damp=0.5)
    in_german = FACTORS["aura"](0.7)
    in_english = FACTORS["aura"](0.9)
    expected = [FACTORS["aura"](0.9), FACTORS["aura"](0.8), (in_german + in_english) / 2, 1, 1]
    assert factors["gate"].tolist() == pytest.approx(expected)


def test_of_one_language_nothing_is_combined():
    for method in FACTORS:
        combined = interventions.combine(method, [GERMAN])
        assert np.array_equal(combined["gate"], GERMAN["gate"])


def test_every_intervention_says_how_it_combines_languages():
    assert interventions.COMBINED.keys() == FACTORS.keys()
