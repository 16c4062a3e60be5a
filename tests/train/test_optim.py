"""What it takes to train some rows of a matrix and no others."""

import pytest
import torch
from tiny import state_bytes
from torch import nn

from minitox.train.optim import MaskedAdamW, RowAdamW, RowLinear

SHAPES = {"gate": (48, 33), "down": (32, 47), "norm": (19,)}


def weights(dtype=torch.float32, seed=0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: nn.Parameter((0.05 * torch.randn(shape, generator=generator)).to(dtype))
        for name, shape in SHAPES.items()
    }


def masks(share=0.4, seed=1) -> dict:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(shape[0], generator=generator) < share for name, shape in SHAPES.items()
    }


def gradients(steps: int, dtype=torch.float32, size=1.0) -> list[dict]:
    generator = torch.Generator().manual_seed(2)
    return [
        {
            name: (size * torch.randn(shape, generator=generator)).to(dtype)
            for name, shape in SHAPES.items()
        }
        for _ in range(steps)
    ]


def give(optimizer, grads: dict) -> None:
    """Put gradients where backward would have put them."""
    for name, weight in optimizer.weights.items():
        rows = optimizer.rows[name] if isinstance(optimizer, RowAdamW) else None
        if rows is None:
            weight.grad = grads[name].clone()
        else:
            weight.row_grad = grads[name][rows].float()


def run(
    kind,
    chosen: dict,
    steps: list[dict],
    dtype=torch.float32,
    lr=1e-3,
    decay=0.1,
    most=float("inf"),
    start=None,
) -> dict:
    """The weights after training the chosen rows."""
    optimizer = kind(start or weights(dtype), chosen, decay=decay)
    for grads in steps:
        give(optimizer, grads)
        optimizer.step(lr, min(1, most / optimizer.norm()))
    return {name: weight.detach() for name, weight in optimizer.weights.items()}


def bits(tensor):
    return tensor.view(torch.int32 if tensor.dtype == torch.float32 else torch.int16)


def same_bits(a, b) -> bool:
    """Stricter than torch.equal, to which 0 and -0 are the same."""
    return torch.equal(bits(a), bits(b))


@pytest.mark.parametrize("kind", [MaskedAdamW, RowAdamW])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("most", [0.1, float("inf")])
def test_rows_outside_the_mask_keep_every_bit(kind, dtype, most):
    chosen, before = masks(), weights(dtype)
    before["gate"].data[0, :4] = torch.tensor(
        [0.0, -0.0, 1e-30, -1e-30]
    )  # what rounding or a sign could change
    chosen["gate"][0] = False
    after = run(
        kind,
        chosen,
        gradients(20, dtype, size=100),
        dtype,
        most=most,
        start={name: nn.Parameter(w.clone()) for name, w in before.items()},
    )
    for name in SHAPES:
        assert same_bits(after[name][~chosen[name]], before[name].detach()[~chosen[name]])
        assert (after[name][chosen[name]] != before[name][chosen[name]]).float().mean() > 0.95


@pytest.mark.parametrize("kind", [MaskedAdamW, RowAdamW])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_change_of_mask_between_languages_leaves_no_momentum_behind(kind, dtype):
    first, second, grads = masks(seed=1), masks(seed=2), gradients(10, dtype)
    between = run(kind, first, grads, dtype)
    kept = {name: weight.clone() for name, weight in between.items()}
    after = run(
        kind,
        second,
        grads,
        dtype,
        start={name: nn.Parameter(weight) for name, weight in between.items()},
    )
    for name in SHAPES:
        assert same_bits(after[name][~second[name]], kept[name][~second[name]])


def test_masking_the_gradient_and_calling_adamw_does_not_freeze():
    """The obvious way, and why it is not ours: decay moves every weight, and so does momentum when the mask changes."""
    for decay, change in ((0.1, False), (0.0, True)):
        start, first, second = weights(), masks(seed=1), masks(seed=2)
        optimizer = torch.optim.AdamW(start.values(), lr=1e-3, weight_decay=decay)
        for step, grads in enumerate(gradients(10)):
            if step == 5:
                kept = {name: weight.detach().clone() for name, weight in start.items()}
            chosen = second if change and step >= 5 else first
            for name, weight in start.items():
                weight.grad = grads[name] * chosen[name].view(-1, *[1] * (weight.dim() - 1))
            optimizer.step()
        frozen = ~second["gate"] & first["gate"] if change else ~first["gate"]
        assert not torch.equal(start["gate"][frozen], kept["gate"][frozen])


@pytest.mark.parametrize("most", [0.1, float("inf")])
@pytest.mark.parametrize("share", [0.05, 0.4, 0.97])
def test_both_optimizers_agree_to_the_bit(most, share):
    chosen, grads = masks(share), gradients(20)
    masked, rows = (
        run(MaskedAdamW, chosen, grads, most=most),
        run(RowAdamW, chosen, grads, most=most),
    )
    assert all(same_bits(masked[name], rows[name]) for name in SHAPES)


@pytest.mark.parametrize("most", [0.1, float("inf")])
def test_in_bfloat16_both_train_through_the_same_masters(most):
    chosen, grads = masks(), gradients(20, torch.bfloat16)
    masked, rows = (
        run(kind, chosen, grads, torch.bfloat16, most=most) for kind in (MaskedAdamW, RowAdamW)
    )
    assert all(same_bits(masked[name], rows[name]) for name in SHAPES)


@pytest.mark.parametrize("kind", [MaskedAdamW, RowAdamW])
@pytest.mark.parametrize("share", [0.4, 1.1])
def test_chosen_rows_move_as_torch_would_move_them_alone(kind, share):
    chosen, grads = masks(share), gradients(20)
    after = run(kind, chosen, grads)
    alone = {
        name: nn.Parameter(weight.detach()[chosen[name]].clone())
        for name, weight in weights().items()
    }
    optimizer = torch.optim.AdamW(alone.values(), lr=1e-3, weight_decay=0.1)
    for step in grads:
        for name, weight in alone.items():
            weight.grad = step[name][chosen[name]]
        optimizer.step()
    assert all(same_bits(after[name][chosen[name]], alone[name].detach()) for name in SHAPES)


@pytest.mark.parametrize("kind", [MaskedAdamW, RowAdamW])
def test_clipping_sees_only_the_chosen_rows(kind):
    """Frozen rows with huge gradients must not shrink the others' step; that is why clipping comes after masking."""
    chosen = masks()
    quiet, loud = gradients(1)[0], gradients(1)[0]
    for name in SHAPES:
        loud[name][~chosen[name]] *= 1e6
    norms = []
    for grads in (quiet, loud):
        optimizer = kind(weights(), chosen)
        give(optimizer, grads)
        norms.append(optimizer.norm())
    expected = torch.cat([quiet[name][chosen[name]].flatten() for name in SHAPES]).norm().item()
    assert norms[0] == norms[1] == pytest.approx(expected)


@pytest.mark.parametrize("kind", [MaskedAdamW, RowAdamW])
def test_masters_keep_what_bfloat16_would_round_away(kind):
    """1,000 steps of 1e-5 add up to 0.01; in bfloat16 alone a weight of 0.5 would never see one of them."""

    def trained(dtype):
        weight, mask = (
            nn.Parameter(torch.full((4, 8), 0.5, dtype=dtype)),
            torch.tensor([True, False, True, False]),
        )
        optimizer = kind({"w": weight}, {"w": mask}, decay=0)
        for _ in range(1_000):
            weight.grad, weight.row_grad = torch.ones(4, 8, dtype=dtype), torch.ones(2, 8)
            optimizer.step(1e-5)
        return weight.detach().float()

    assert trained(torch.bfloat16)[0, 0] == pytest.approx(
        trained(torch.float32)[0, 0].item(), abs=0.002
    )
    assert trained(torch.bfloat16)[1, 0] == 0.5
    naive = torch.full((4, 8), 0.5, dtype=torch.bfloat16).requires_grad_()
    optimizer = torch.optim.AdamW([naive], lr=1e-5, weight_decay=0)
    for _ in range(1_000):
        naive.grad = torch.ones_like(naive)
        optimizer.step()
    assert (naive == 0.5).all()


@pytest.mark.parametrize("dtype, each", [(torch.float32, 8), (torch.bfloat16, 12)])
def test_memory_is_the_chosen_weights_alone(dtype, each):
    chosen = masks()
    count = sum(
        int(chosen[name].sum()) * (shape[1] if len(shape) > 1 else 1)
        for name, shape in SHAPES.items()
    )
    assert state_bytes(RowAdamW(weights(dtype), chosen)) == each * count


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_linear_is_a_linear_with_the_gradient_of_some_rows(dtype):
    generator = torch.Generator().manual_seed(0)
    weight, x = (
        torch.randn(shape, generator=generator).to(dtype).requires_grad_()
        for shape in ((12, 7), (2, 5, 7))
    )
    rows, layer = torch.tensor([1, 4, 11]), RowLinear(7, 12, bias=False, dtype=dtype)
    layer.weight, layer.rows = nn.Parameter(weight.detach().clone()), rows
    layer.weight.row_grad = torch.zeros(3, 7)
    same = x.detach().clone().requires_grad_()
    for _ in (1, 2):  # gradients add up, as in any layer
        expected, found = nn.functional.linear(x, weight), layer(same)
        assert torch.equal(expected, found)
        expected.square().sum().backward()
        found.square().sum().backward()
        assert torch.allclose(x.grad, same.grad)
        assert torch.allclose(
            weight.grad[rows].float(),
            layer.weight.row_grad,
            rtol=1e-5 if dtype == torch.float32 else 0.05,
        )
        assert layer.weight.grad is None and layer.weight.row_grad.shape == (3, 7)
    del (
        layer.weight.row_grad
    )  # as where it is gathered from several processes: they sum up whole gradients
    layer(same).square().sum().backward()
    others = [row for row in range(12) if row not in rows]
    assert (
        torch.allclose(layer.weight.grad[rows] * 2, weight.grad[rows])
        and not layer.weight.grad[others].any()
    )
