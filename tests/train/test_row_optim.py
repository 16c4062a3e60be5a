"""The fast twin of MaskedAdamW: the same update, with memory for the chosen rows alone."""

import math

import pytest
import torch
from optimizers import (
    SHAPES,
    random_gradients,
    random_masks,
    random_weights,
    row_adamw_with_row_grads,
    same_bits,
    train,
)
from tiny import state_bytes
from torch import nn

from minitox.train.optim import MaskedAdamW
from minitox.train.row_optim import RowAdamW, RowGradients, RowLinear

DTYPES = [torch.float32, torch.bfloat16]
ROW_OPTIMIZERS = [RowAdamW, row_adamw_with_row_grads]


@pytest.mark.parametrize("make_optimizer", ROW_OPTIMIZERS)
@pytest.mark.parametrize("max_norm", [0.1, float("inf")])
@pytest.mark.parametrize("share", [0.05, 0.4, 0.97])
def test_both_optimizers_agree_to_rounding(make_optimizer, max_norm, share):
    masks = random_masks(share)
    gradients = random_gradients(20)
    masked = train(MaskedAdamW, masks, gradients, max_norm=max_norm)
    rows = train(make_optimizer, masks, gradients, max_norm=max_norm)
    for name, mask in masks.items():
        # of weights above 0.1, which are rounded to 7e-9 or 1.5e-8, the last bit may differ
        assert torch.allclose(masked[name], rows[name], rtol=2**-23, atol=1e-8)
        assert same_bits(masked[name][~mask], rows[name][~mask])


@pytest.mark.parametrize("make_optimizer", ROW_OPTIMIZERS)
@pytest.mark.parametrize("max_norm", [0.1, float("inf")])
@pytest.mark.parametrize("share", [0.4, 1.1])
def test_in_bfloat16_both_train_through_the_same_master_weights(make_optimizer, max_norm, share):
    masks = random_masks(share)
    gradients = random_gradients(20, torch.bfloat16)
    masked = train(MaskedAdamW, masks, gradients, max_norm=max_norm)
    rows = train(make_optimizer, masks, gradients, max_norm=max_norm)
    for name, before in random_weights(torch.bfloat16).items():
        # a master weight in the middle of two bfloat16 numbers may be rounded to either
        assert (masked[name] != rows[name]).float().mean() < 0.01
        assert torch.allclose(masked[name], rows[name], rtol=2**-7, atol=0)
        assert not torch.equal(masked[name], before)


@pytest.mark.parametrize("dtype, bytes_each", [(torch.float32, 8), (torch.bfloat16, 12)])
def test_the_state_has_entries_for_the_chosen_weights_alone(dtype, bytes_each):
    masks = random_masks()
    weights = 0
    for name, shape in SHAPES.items():
        weights += int(masks[name].sum()) * math.prod(shape[1:])
    assert state_bytes(RowAdamW(random_weights(dtype), masks)) == bytes_each * weights


ROWS = torch.tensor([1, 4, 11])
OTHERS = torch.tensor([0, 2, 3, 5, 6, 7, 8, 9, 10])


def linear_and_input(dtype: torch.dtype) -> tuple[nn.Linear, torch.Tensor]:
    """A layer of 12 rows, and an input (2, 5, 7) that needs a gradient."""
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(7, 12, bias=False, dtype=dtype)
    linear.weight.data.copy_(torch.randn(12, 7, generator=generator))
    x = torch.randn(2, 5, 7, generator=generator).to(dtype).requires_grad_()
    return linear, x


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_linear_is_a_linear_with_the_gradient_of_some_rows(dtype):
    usual, x = linear_and_input(dtype)
    linear, same_x = linear_and_input(dtype)
    row_grad = torch.zeros(3, 7)
    layer = RowLinear(linear, ROWS, row_grad)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    for _ in range(2):  # gradients add up, as in any layer
        expected = usual(x)
        output = layer(same_x)
        assert torch.equal(expected, output)
        expected.square().sum().backward()
        output.square().sum().backward()
        assert torch.allclose(x.grad, same_x.grad)
        assert torch.allclose(usual.weight.grad[ROWS].float(), row_grad, rtol=tolerance)
        assert linear.weight.grad is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_a_place_for_row_gradients_they_go_to_the_weight_with_zeros_elsewhere(dtype):
    """As for a sharded weight, of which the processes sum whole gradients."""
    usual, x = linear_and_input(dtype)
    usual(x).square().sum().backward()
    linear, x = linear_and_input(dtype)
    RowLinear(linear, ROWS, None)(x).square().sum().backward()
    assert torch.allclose(linear.weight.grad[ROWS], usual.weight.grad[ROWS])
    assert not linear.weight.grad[OTHERS].any()


@pytest.fixture
def network():
    """Three layers, of which the masks leave out some rows, no row, and some rows."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Module()
    network.mlp = nn.Sequential(*[nn.Linear(7, 7, bias=False) for _ in range(3)])
    for weight in network.parameters():
        weight.data.copy_(torch.randn(7, 7, generator=generator))
    masks = {
        "mlp.0.weight": torch.arange(7) < 2,
        "mlp.1.weight": torch.ones(7, dtype=torch.bool),
        "mlp.2.weight": torch.arange(7) > 3,
    }
    return network, masks


def test_within_the_block_layers_compute_the_gradients_of_their_chosen_rows(network):
    network, masks = network
    x = torch.randn(4, 7, generator=torch.Generator().manual_seed(1))
    weights = dict(network.named_parameters())
    network.mlp(x).square().sum().backward()
    expected = {name: weight.grad for name, weight in weights.items()}
    network.zero_grad()

    with RowGradients(network, masks, whole=["mlp.2.weight"]) as row_grads:
        network.mlp(x).square().sum().backward()
    # some rows
    assert row_grads.keys() == {"mlp.0.weight"}
    assert torch.allclose(row_grads["mlp.0.weight"], expected["mlp.0.weight"][:2])
    assert weights["mlp.0.weight"].grad is None
    # all rows
    assert torch.equal(weights["mlp.1.weight"].grad, expected["mlp.1.weight"])
    # some rows, in a whole gradient
    whole = weights["mlp.2.weight"].grad
    assert torch.allclose(whole[4:], expected["mlp.2.weight"][4:])
    assert not whole[:4].any()


def test_after_the_block_the_layers_are_the_former_ones_even_after_an_error(network):
    network, masks = network
    before = list(network.mlp)
    with pytest.raises(KeyboardInterrupt):
        with RowGradients(network, masks):
            kinds = [type(layer) for layer in network.mlp]
            assert kinds == [RowLinear, nn.Linear, RowLinear]
            raise KeyboardInterrupt
    assert list(network.mlp) == before
