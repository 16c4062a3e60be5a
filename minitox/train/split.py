"""Pairs for training, validation and test, such that translations are in the same part.

Rows with the same id are translations of one prompt. Tuning on a prompt in one language lowers the
loss on its translations too, so their loss would be too low to judge the model by.
"""

import numpy as np

from minitox.train.pairs import Pair


def in_random_order(pairs: list[Pair], seed: int, rng) -> list[Pair]:
    """The pairs of one language in a random order, in which translations are about equally early.

    A pair with ids is ordered by a random number in [0, 1) that depends on the seed and the id
    alone, of several ids the lowest. The other pairs are ordered by `rng`.
    """
    numbers = {}
    for place, i in enumerate(rng.permutation(len(pairs))):
        of_ids = [number_of(name, seed) for name in pairs[i].names]
        numbers[i] = min(of_ids, default=place / len(pairs))
    # equal numbers stay in the order of the permutation
    return [pairs[i] for i in sorted(numbers, key=numbers.get)]


def number_of(name: str, seed: int) -> float:
    """A random number in [0, 1) for an id."""
    # "pair" makes it independent of the number by which data/prepare.py chooses test prompts
    key = f"pair {name}".encode(errors="surrogatepass")
    return np.random.default_rng([seed, *key]).random()


def split(
    languages: dict[str, list[Pair]],  # `in_random_order`
    counts: dict[str, int],  # by language: of validation pairs, and as many for the test
) -> dict[str, dict[str, list[Pair]]]:
    """By language, the pairs of the parts "validation", "test", "train" and "left out".

    The pairs of a prompt stay together. Each language takes its first prompts for validation, until
    they have enough pairs. Then every language leaves out those of its other prompts that share an
    id with one of these. The next prompts are for the test, likewise, and the rest is for training.

    So no id is in two parts, neither of one language nor of several. If all languages have the same
    ids, hardly a pair is left out. If they have different ones, each still gets the validation and
    test pairs that it needs, as long as it has enough, and fewer remain for training.
    """
    parts = {language: {"left out": []} for language in languages}
    waiting = {language: by_prompt(pairs) for language, pairs in languages.items()}
    for part in ("validation", "test"):
        # 1) the first prompts of each language
        names = set()
        for language, prompts in waiting.items():
            parts[language][part], waiting[language] = first(prompts, counts[language])
            names |= names_of(parts[language][part])

        # 2) whatever shares an id with one of them, in any language, is in no later part
        for language, prompts in waiting.items():
            waiting[language] = []
            for of_prompt in prompts:
                if names_of(of_prompt) & names:
                    parts[language]["left out"] += of_prompt
                else:
                    waiting[language].append(of_prompt)

    # 3) the other prompts
    for language, prompts in waiting.items():
        parts[language]["train"] = sum(prompts, [])
    return parts


def by_prompt(pairs: list[Pair]) -> list[list[Pair]]:
    """The pairs of each prompt, in the order of its first pair."""
    together = {}
    for pair in pairs:
        together.setdefault(pair.prompt_ids, []).append(pair)
    return list(together.values())


def first(prompts: list[list[Pair]], count: int) -> tuple[list[Pair], list[list[Pair]]]:
    """The pairs of the first prompts that have at least `count` together, and the other prompts."""
    taken = []
    for place, of_prompt in enumerate(prompts):
        if len(taken) >= count:
            return taken, prompts[place:]
        taken += of_prompt
    return taken, []


def names_of(pairs: list[Pair]) -> set[str]:
    """All ids of some pairs."""
    names = set()
    for pair in pairs:
        names |= pair.names
    return names
