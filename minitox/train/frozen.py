"""Proof that a tuned model differs from its base in the tuned rows and nowhere else."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Proof:
    """What a comparison of two models found."""

    frozen_hashes: dict[str, str]  # of each weight's frozen rows, the same in both models
    frozen_weights: int
    tuned_weights: int
    changed: float  # share of the tuned weights that differ from the base model's


def prove(
    weights: Iterable[tuple[str, torch.Tensor, torch.Tensor]],  # name, base (R, D), tuned (R, D)
    rows,  # by weight name: (R,) bool, the rows that were tuned
    hash_of,  # of a tensor's bytes
) -> Proof:
    """Compare every weight of two models, bit by bit.

    RuntimeError names the first weight of which a row changed that should not have.
    """
    frozen_hashes = {}
    frozen = 0
    tuned = 0
    changed = 0
    for name, old, new in weights:
        if name in rows:
            chosen = rows[name].cpu()
        else:
            chosen = torch.zeros(len(new), dtype=torch.bool)

        # Frozen rows: equal to the bit, so that 0 and -0 differ
        frozen_hashes[name] = hash_of(old[~chosen])
        if hash_of(new[~chosen]) != frozen_hashes[name]:
            raise RuntimeError(f"frozen rows of {name} differ from those of the base model")
        frozen += old[~chosen].numel()

        # Tuned rows: how many weights moved
        moved = old[chosen] != new[chosen]
        changed += int(moved.sum())
        tuned += moved.numel()
    return Proof(frozen_hashes, frozen, tuned, changed / tuned)
