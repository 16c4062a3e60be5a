"""Sets of neurons: AUROC on disk, and masks to choose, unite, compare and imitate.

AUROC and masks are dicts from a module's name, "model.layers.0.mlp.gate_proj", to an array with one entry a row of its
weight, that is, a neuron.
"""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from minitox.errors import InputError
from minitox.files import replacing
from minitox.lm.config import Config

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def module_rows(config: Config) -> dict[str, int]:
    """Every module that has neurons, in the order in which the model computes them, and how many it has."""
    rows = {
        "gate_proj": config.intermediate_size,
        "up_proj": config.intermediate_size,
        "down_proj": config.hidden_size,
    }
    return {
        f"model.layers.{layer}.mlp.{name}": rows[name]
        for layer in range(config.num_hidden_layers)
        for name in PROJECTIONS
    }


def by_module(flat, rows: dict[str, int]) -> dict:
    """Cut an array over all K neurons into modules."""
    return dict(zip(rows, np.split(flat, np.cumsum(list(rows.values()))[:-1])))


def save(path: Path, auroc: dict, info: dict) -> None:
    """Write the AUROC of every neuron as float32, with `info` (how it was found) in the file's metadata."""
    with replacing(path) as temporary:
        save_file(
            {name: values.astype(np.float32) for name, values in auroc.items()},
            temporary,
            metadata={"detect": json.dumps(info)},
        )


def load(path: Path, rows: dict[str, int], fingerprint: str | None = None) -> tuple[dict, dict]:
    """AUROC and info of a file; InputError if it is broken, does not fit a model with these modules, or is of another model."""
    try:
        with safe_open(str(path), framework="numpy") as file:
            info = json.loads((file.metadata() or {}).get("detect", "null"))
            auroc = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run detect.py first") from None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a neuron file ({error})") from None
    if not isinstance(info, dict):
        raise InputError(f"{path}: not a neuron file (its metadata lacks 'detect')")
    for name, count in rows.items():
        if name not in auroc or auroc[name].shape != (count,):
            found = "is missing" if name not in auroc else f"has shape {list(auroc[name].shape)}"
            raise InputError(f"{path}: module {name} {found}, the model has {count} rows there")
        if not ((0 <= auroc[name]) & (auroc[name] <= 1)).all():  # nor is NaN
            raise InputError(f"{path} is broken: module {name} holds numbers that are no AUROC")
    if extra := auroc.keys() - rows.keys():
        raise InputError(f"{path}: module {min(extra)} is no part of the model")
    if fingerprint is not None and info.get("model") != fingerprint:
        raise InputError(
            f"{path} was found in another model than this one; run detect.py on this one"
        )
    return {name: auroc[name] for name in rows}, info


def select(auroc: dict, threshold: float = 0.5) -> dict:
    """The toxic neurons: AUROC strictly above the threshold.  [paper §3.1]"""
    return {name: values > threshold for name, values in auroc.items()}


def select_top(auroc: dict, share: float) -> dict:
    """Exactly the given share of all neurons, those of highest AUROC; among equals the first in the model."""
    flat = np.concatenate(list(auroc.values()))
    chosen = np.zeros(len(flat), dtype=bool)
    chosen[np.argsort(-flat, kind="stable")[: round(share * len(flat))]] = True
    return by_module(chosen, {name: len(values) for name, values in auroc.items()})


def union(masks: list[dict]) -> dict:
    """Neurons in any of the sets.  [paper §3.3, multilingual]"""
    return {name: np.logical_or.reduce([mask[name] for mask in masks]) for name in masks[0]}


def intersection(masks: list[dict]) -> dict:
    """Neurons in all of the sets."""
    return {name: np.logical_and.reduce([mask[name] for mask in masks]) for name in masks[0]}


def count(mask: dict) -> int:
    return sum(int(rows.sum()) for rows in mask.values())


def size(mask: dict) -> int:
    """How many neurons there are, chosen or not."""
    return sum(len(rows) for rows in mask.values())


def overlap(a: dict, b: dict) -> tuple[int, float]:
    """How many neurons two sets share, and the ratio to what two independent sets of their sizes would.  [paper Figure 3]"""
    shared, by_chance = count(intersection([a, b])), count(a) * count(b) / size(a)
    return shared, shared / by_chance if by_chance else float("nan")


def sharing(masks: dict[str, dict]) -> dict[str, tuple[int, int, int]]:
    """For each language, how many of its neurons are its own, shared by some others, shared by all.  [paper Figure 2]"""
    languages = {
        name: np.sum([mask[name] for mask in masks.values()], axis=0)
        for name in next(iter(masks.values()))
    }
    counts = {}
    for language, mask in masks.items():
        held = np.concatenate(
            [languages[name][mask[name]] for name in mask]
        )  # by how many languages, for each of its neurons
        own, everyone = int((held == 1).sum()), int((held == len(masks)).sum())
        counts[language] = (
            (own, len(held) - own - everyone, everyone) if len(masks) > 1 else (own, 0, 0)
        )
    return counts


def random_like(mask: dict, seed: int) -> dict:
    """A control: as many neurons as `mask` has in each module, drawn at random."""
    rng = np.random.default_rng(seed)
    return {name: rng.permutation(rows) for name, rows in mask.items()}
