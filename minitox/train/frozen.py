"""Proof that a saved model differs from its base in the tuned rows and nowhere else."""

import hashlib
from pathlib import Path

import torch

from minitox.lm import checkpoint


def prove(base: Path, tuned: Path, rows: dict[str, torch.Tensor]) -> dict:
    """Compare every weight of two folders, bit by bit, given the rows (R,) of each weight that were tuned.

    Returns one SHA-256 of all frozen weights, how many there are, and which share of the tuned ones changed. The base is read
    in the tuned model's dtype. RuntimeError names the first weight of which a row changed that should not have.
    """
    digest, frozen, changed, total = hashlib.sha256(), 0, 0, 0
    for name, old, new in checkpoint.side_by_side(base, tuned):
        chosen = rows[name].cpu() if name in rows else torch.zeros(len(new), dtype=torch.bool)
        hashes = [
            hashlib.sha256(checkpoint.raw(weight[~chosen])).hexdigest() for weight in (old, new)
        ]
        if hashes[0] != hashes[1]:
            raise RuntimeError(f"{tuned}: frozen rows of {name} differ from those of {base}")
        digest.update(f"{name} {hashes[0]}\n".encode())
        differs = old[chosen] != new[chosen]
        frozen, changed, total = (
            frozen + old[~chosen].numel(),
            changed + int(differs.sum()),
            total + differs.numel(),
        )
    return {
        "frozen_sha256": digest.hexdigest(),
        "frozen_weights": frozen,
        "tuned_weights": total,
        "changed": changed / total,
    }
