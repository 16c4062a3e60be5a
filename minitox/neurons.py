"""Sets of neurons: choose, unite, compare, imitate.

A neuron is one output of gate_proj, up_proj or down_proj, that is, one row of one weight matrix.
Sets of neurons, and their AUROCs, are dicts from a module's name to an array (R,) with one entry
for each of its R rows:

    {"model.layers.0.mlp.gate_proj": [False, True, ...], "model.layers.0.mlp.up_proj": [...], ...}
"""

import numpy as np

from minitox.lm.config import Config

NeuronMask = dict[str, np.ndarray]  # bool: is the neuron in the set?
NeuronAUROC = dict[str, np.ndarray]  # from 0 to 1; of other selectors, a value of at least 0

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
SELECTORS = ("auroc", "taylor", "dinm")  # what neurons are chosen by


def module_rows(config: Config) -> dict[str, int]:
    """Number of neurons of each module, in the order in which the model computes the modules."""
    # The paper does not say which outputs are neurons; these are those that ml-aura's published
    # configurations name. The counts in [paper Table 2] would fit others as well
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
    """Cut an array over all K neurons into one array per module."""
    ends = np.cumsum(list(rows.values()))
    parts = np.split(flat, ends[:-1])
    return dict(zip(rows, parts, strict=True))


# Choose


def select(auroc: NeuronAUROC, threshold: float = 0.5) -> NeuronMask:
    """The toxic neurons: AUROC strictly above the threshold.  [paper §3.1]"""
    mask = {}
    for name, values in auroc.items():
        mask[name] = values > threshold  # (R,)
    return mask


def select_top(auroc: NeuronAUROC, share: float) -> NeuronMask:
    """Exactly the given share of all neurons, those of highest AUROC.

    Among neurons of equal AUROC, the first ones in the model are chosen.
    """
    # 1) rank all neurons together; a stable sort leaves equal ones in the model's order
    flat = np.concatenate(list(auroc.values()))  # (K,)
    highest_first = np.argsort(-flat, kind="stable")

    # 2) choose the first ones
    number = round(share * len(flat))
    highest = highest_first[:number]
    chosen = np.zeros(len(flat), dtype=bool)
    chosen[highest] = True
    rows = {name: len(values) for name, values in auroc.items()}
    return by_module(chosen, rows)


def select_largest(values: NeuronAUROC) -> NeuronMask:
    """The neurons that have the largest value of all."""
    flat = np.concatenate(list(values.values()))  # (K,)
    largest = flat.max()
    mask = {}
    for name, of_module in values.items():
        mask[name] = of_module == largest
    return mask


# Unite


def union(masks: list[NeuronMask]) -> NeuronMask:
    """Neurons in any of the sets.  [paper §3.3, multilingual]"""
    return over_sets(np.any, masks)


def intersection(masks: list[NeuronMask]) -> NeuronMask:
    """Neurons in all of the sets."""
    return over_sets(np.all, masks)


def highest(aurocs: list[NeuronAUROC]) -> NeuronAUROC:
    """Each neuron's highest AUROC in any of several languages."""
    return over_sets(np.max, aurocs)


def times_chosen(masks: list[NeuronMask]) -> dict:
    """How many of the sets each neuron is in."""
    return over_sets(np.sum, masks)


def over_sets(reduce, masks: list[dict]) -> dict:
    """Reduce several sets, or AUROCs in several languages, to one value for each neuron."""
    reduced = {}
    for name in masks[0]:
        rows = stacked(masks, name)  # (sets, R)
        reduced[name] = reduce(rows, axis=0)  # (R,)
    return reduced


def stacked(arrays: list[dict], name: str):  # -> (sets, R)
    """One module's arrays of several sets."""
    return np.stack([by_name[name] for by_name in arrays])


# Compare


def count(mask: NeuronMask) -> int:
    """Number of neurons in the set."""
    return sum(int(rows.sum()) for rows in mask.values())


def size(mask: NeuronMask) -> int:
    """Number of neurons in the model."""
    return sum(len(rows) for rows in mask.values())


def overlap(a: NeuronMask, b: NeuronMask) -> tuple[int, float]:
    """How many neurons two sets share, and the ratio to chance.  [paper Figure 3]

    The ratio is NaN if a set is empty.
    """
    shared = count(intersection([a, b]))
    # Two sets of these sizes, drawn independently, would share this many
    in_a = count(a)
    in_b = count(b)
    expected = in_a * in_b / size(a)
    if expected == 0:
        return shared, float("nan")
    return shared, shared / expected


def sharing(
    masks: dict[str, NeuronMask],  # of each language
) -> dict[str, tuple[int, int, int]]:
    """For each language, its neurons in no other set, in some others, in all.  [paper Figure 2]"""
    sets = times_chosen(list(masks.values()))  # how many languages share each neuron
    counts = {}
    for language, mask in masks.items():
        # 1) the same for this language's neurons alone
        parts = [sets[name][rows] for name, rows in mask.items()]
        shared_by = np.concatenate(parts)  # (neurons of this language,)

        # 2) if there is a single language, all its neurons are its own
        own = int((shared_by == 1).sum())
        everyone = 0
        if len(masks) > 1:
            everyone = int((shared_by == len(masks)).sum())
        several = len(shared_by) - own - everyone
        counts[language] = (own, several, everyone)
    return counts


# Imitate


def random_like(mask: dict, seed: int | list[int]) -> dict:
    """A control: the values of a mask, or the factors of neurons, at random rows of their module.

    The permutation depends only on the seed and on the number of rows, so sets that are drawn with
    one seed overlap as the originals do.
    """
    rng = np.random.default_rng(seed)
    control = {}
    for name, rows in mask.items():
        control[name] = rng.permutation(rows)  # (R,)
    return control


def lowest_like(mask: NeuronMask, auroc: NeuronAUROC) -> NeuronMask:
    """A control: as many neurons as `mask` has in each module, those of lowest AUROC."""
    control = {}
    for name, rows in mask.items():
        # a stable sort leaves equal ones in the model's order
        lowest_first = np.argsort(auroc[name], kind="stable")
        number = int(rows.sum())
        lowest = lowest_first[:number]
        control[name] = np.zeros(len(rows), dtype=bool)
        control[name][lowest] = True
    return control


def highest_like(mask: NeuronMask, auroc: NeuronAUROC) -> NeuronMask:
    """A control: as many neurons as `mask` has in each module, those of highest AUROC."""
    reverse = {name: -values for name, values in auroc.items()}
    return lowest_like(mask, reverse)


# Imitate across layers: a set that has all neurons of a module has no others to draw from there


def joined(values: dict) -> dict:
    """The same values with all layers of a projection as one module."""
    parts = {}
    for name, rows in values.items():
        projection = projection_of(name)
        parts.setdefault(projection, [])
        parts[projection].append(rows)
    by_projection = {}
    for projection, layers in parts.items():
        by_projection[projection] = np.concatenate(layers)  # (layers * R,)
    return by_projection


def apart(by_projection: dict, rows: dict[str, int]) -> dict:
    """The inverse of `joined`, for modules of these numbers of rows."""
    values = {}
    start = dict.fromkeys(by_projection, 0)
    for name, count in rows.items():
        projection = projection_of(name)
        first = start[projection]
        end = first + count
        values[name] = by_projection[projection][first:end]
        start[projection] = end
    return values


def projection_of(name: str) -> str:
    """The projection of a module: "up_proj" of model.layers.0.mlp.up_proj."""
    return name.rpartition(".")[2]
