"""Sets of neurons: choose, unite, compare, imitate.

A neuron is one output of gate_proj, up_proj or down_proj, that is, one row of one weight matrix.
Sets of neurons, and their AUROCs, are dicts from a module's name to an array with one entry for
each of its rows:

    {"model.layers.0.mlp.gate_proj": [False, True, ...], "model.layers.0.mlp.up_proj": [...], ...}
"""

import numpy as np

from minitox.lm.config import Config

NeuronMask = dict[str, np.ndarray]  # bool: is the neuron in the set?
NeuronAUROC = dict[str, np.ndarray]  # from 0 to 1

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def module_rows(config: Config) -> dict[str, int]:
    """Number of neurons of each module, in the order in which the model computes the modules."""
    rows = {
        "gate_proj": config.intermediate_size,
        "up_proj": config.intermediate_size,
        "down_proj": config.hidden_size,
    }
    modules = {}
    for layer in range(config.num_hidden_layers):
        for projection in PROJECTIONS:
            modules[f"model.layers.{layer}.mlp.{projection}"] = rows[projection]
    return modules


def by_module(flat, rows: dict[str, int]):  # (K,)
    """Cut an array over all K neurons into one array a module."""
    ends = np.cumsum(list(rows.values()))
    return dict(zip(rows, np.split(flat, ends[:-1]), strict=True))


# Choose


def select(auroc: NeuronAUROC, threshold: float = 0.5) -> NeuronMask:
    """The toxic neurons: AUROC strictly above the threshold.  [paper §3.1]"""
    return {name: values > threshold for name, values in auroc.items()}


def select_top(auroc: NeuronAUROC, share: float) -> NeuronMask:
    """Exactly this share of all neurons, those of highest AUROC; of equal ones the first."""
    flat = np.concatenate(list(auroc.values()))  # (K,)
    highest_first = np.argsort(-flat, kind="stable")
    chosen = np.zeros(len(flat), dtype=bool)
    chosen[highest_first[: round(share * len(flat))]] = True
    return by_module(chosen, {name: len(values) for name, values in auroc.items()})


# Unite


def stacked(masks: list[dict], name: str):  # -> (sets, R)
    """The entries of one module in several sets."""
    return np.stack([mask[name] for mask in masks])


def union(masks: list[NeuronMask]) -> NeuronMask:
    """Neurons in any of the sets.  [paper §3.3, multilingual]"""
    return {name: stacked(masks, name).any(axis=0) for name in masks[0]}


def intersection(masks: list[NeuronMask]) -> NeuronMask:
    """Neurons in all of the sets."""
    return {name: stacked(masks, name).all(axis=0) for name in masks[0]}


def times_chosen(masks: list[NeuronMask]) -> dict:
    """How many of the sets each neuron is in."""
    return {name: stacked(masks, name).sum(axis=0) for name in masks[0]}


# Compare


def count(mask: NeuronMask) -> int:
    """Number of neurons in the set."""
    return sum(int(rows.sum()) for rows in mask.values())


def size(mask: NeuronMask) -> int:
    """Number of neurons in the model."""
    return sum(len(rows) for rows in mask.values())


def overlap(a: NeuronMask, b: NeuronMask) -> tuple[int, float]:
    """Neurons in both sets, and the ratio to what independent sets share.  [paper Fig. 3]"""
    shared = count(intersection([a, b]))
    expected = count(a) * count(b) / size(a)  # of two sets drawn independently
    return shared, shared / expected if expected else float("nan")


def sharing(masks: dict[str, NeuronMask]) -> dict[str, tuple[int, int, int]]:
    """For each language, its neurons in no other set, in some others, in all.  [paper Fig. 2]"""
    languages = times_chosen(list(masks.values()))  # of each neuron
    counts = {}
    for language, mask in masks.items():
        sets = np.concatenate([languages[name][mask[name]] for name in mask])
        own = int((sets == 1).sum())
        everyone = int((sets == len(masks)).sum()) if len(masks) > 1 else 0
        counts[language] = (own, len(sets) - own - everyone, everyone)
    return counts


# Imitate


def random_like(mask: NeuronMask, seed: int) -> NeuronMask:
    """A control: as many neurons as `mask` has in each module, drawn at random."""
    rng = np.random.default_rng(seed)
    return {name: rng.permutation(rows) for name, rows in mask.items()}
