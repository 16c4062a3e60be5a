"""What masks choose, for the tests of strategies and plans."""

import numpy as np

LANGUAGES = ["de", "en", "fr"]


def flat(mask) -> np.ndarray:  # -> (K,)
    """Of each of the model's K neurons, whether it is chosen."""
    return np.concatenate(list(mask.values()))


def rows_chosen(mask) -> dict[str, int]:
    """How many neurons of each module are chosen."""
    return {name: int(rows.sum()) for name, rows in mask.items()}


def languages_of_neurons(masks) -> np.ndarray:  # -> (K,)
    """In how many languages each neuron is toxic."""
    return np.sum([flat(mask) for mask in masks.values()], axis=0)
