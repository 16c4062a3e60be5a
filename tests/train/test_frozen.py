"""The proof that the frozen rows of a model are those of its base, bit by bit."""

import pytest
import torch

from minitox.train.frozen import prove

BASE = {
    "gate": torch.tensor([[1.0, 2.0], [0.0, 4.0], [5.0, 6.0]]),
    "down": torch.tensor([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]),
    "norm": torch.ones(4),
}
ROWS = {"gate": torch.tensor([True, False, True]), "norm": torch.tensor([True, True, False, False])}


def bits(weight: torch.Tensor) -> str:
    return weight.numpy().tobytes().hex()


def prove_change(**changes: torch.Tensor):
    """The proof about a copy of BASE in which some weights are others."""
    tuned = BASE | changes
    return prove([(name, BASE[name], tuned[name]) for name in BASE], ROWS, bits)


def test_it_counts_frozen_and_tuned_weights_and_the_share_that_changed():
    gate = BASE["gate"].clone()
    gate[0, 0] += 1
    gate[2] += 1
    proof = prove_change(gate=gate)
    assert proof.tuned_weights == 4 + 2
    assert proof.frozen_weights == 2 + 6 + 2
    assert proof.changed == 3 / 6


def test_it_has_a_hash_of_the_frozen_rows_of_every_weight():
    changed = prove_change(norm=torch.tensor([3.0, 3.0, 1.0, 1.0]))
    assert changed.frozen_hashes == prove_change().frozen_hashes
    assert changed.frozen_hashes == {
        "gate": bits(BASE["gate"][1:2]),
        "down": bits(BASE["down"]),
        "norm": bits(BASE["norm"][2:]),
    }


@pytest.mark.parametrize("name, place", [("gate", (1, 1)), ("down", (0, 2)), ("norm", 3)])
def test_a_frozen_weight_that_moved_by_one_bit_is_an_error_that_names_it(name, place):
    weight = BASE[name].clone()
    weight[place] = torch.nextafter(weight[place], torch.tensor(9.0))
    with pytest.raises(RuntimeError, match=f"frozen rows of {name} differ from those of the base"):
        prove_change(**{name: weight})


def test_a_zero_that_changed_its_sign_has_moved():
    gate = BASE["gate"].clone()
    gate[1, 0] = -0.0
    assert torch.equal(gate, BASE["gate"])
    with pytest.raises(RuntimeError, match="frozen rows of gate differ"):
        prove_change(gate=gate)
