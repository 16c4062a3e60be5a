"""Which neurons are tuned on whose pairs: the paper's three strategies, and their controls.

full                 every weight of the model, on all pairs                          [paper §3.3]
per-language         language after language: its toxic neurons on its pairs          [paper §3.3]
multilingual         neurons toxic in any language, on all pairs                      [paper §3.3]
shared               like multilingual, with the neurons toxic in every language      [paper Fig. 2]
specific             like per-language, with those toxic in that language alone       [paper Fig. 2]
aura                 no training: neurons scaled down by how toxic they are (interventions.py)
damp                 no training: toxic neurons scaled by one factor
det0                 no training: toxic neurons set to zero

Controls change as many neurons of each module, chosen in another way (swapped: as many in all):

random               like multilingual, with neurons drawn at random
shuffled             like multilingual, with those of highest AUROC if labels are shuffled
lowest               like multilingual, with those of lowest AUROC
random-per-language  like per-language, with neurons drawn at random, shared by as many languages
swapped              like per-language, with the toxic neurons of the next language
random-aura          like aura, with the same factors at neurons drawn at random
random-damp          like damp, likewise
random-det0          like det0, likewise

Neurons may be chosen by another selector than AUROC. It is then part of the model's name, as in
taylor-multilingual and taylor-random-1, and "toxic" above means chosen by it. By dinm, controls
change as many neurons of each projection, in any layer.

One random draw may be lucky, so a strategy that draws makes several models: random-1, random-2, ...
They differ in their neurons alone.

A strategy that tunes language after language may be made in several orders of the languages, to see
what depends on the order. The later ones have it in their name: per-language-order-2, and of the
control random-per-language-order-2-1, ...
"""

from dataclasses import dataclass

import torch

from minitox import neurons
from minitox.lm.config import Config
from minitox.lm.model import LanguageModel
from minitox.neurons import NeuronAUROC, NeuronMask

TUNED = (
    *("full", "per-language", "multilingual", "shared", "specific"),
    *("random", "shuffled", "lowest", "random-per-language", "swapped"),
)
SCALED = ("aura", "damp", "det0", "random-aura", "random-damp", "random-det0")
DEFAULT = ("full", "per-language", "multilingual", "random")  # the paper's, and a control
DRAWN = ("random", "random-per-language", "random-aura", "random-damp", "random-det0")

# These tune language after language
ORDERED = ("per-language", "specific", "random-per-language", "swapped")

# These need AUROC, and no other selector will do
BY_AUROC = ("shuffled", *SCALED)

# The draws that a strategy is compared with. shared and specific have none: there are fewer toxic
# neurons in every language, or in one language alone, than in any
TWINS = {
    "multilingual": "random",
    "shuffled": "random",
    "lowest": "random",
    "per-language": "random-per-language",
    "swapped": "random-per-language",
    "aura": "random-aura",
    "damp": "random-damp",
    "det0": "random-det0",
}

OBJECTIVES = ("sft", "dpo")


@dataclass(frozen=True)
class Stage:
    """A part of tuning, with an optimizer of its own."""

    name: str
    mask: NeuronMask | None  # None: every weight of the model
    languages: list[str]  # on whose pairs


def intervention(strategy: str) -> str:
    """The intervention that a strategy is, or imitates: "aura" for random-aura."""
    return strategy.removeprefix("random-")


def stages_by(
    by: str,  # the selector
    strategy: str,
    masks: dict[str, NeuronMask],
    languages: list[str],
    seed: list[int],  # of a draw
    highest: NeuronAUROC | None,
) -> list[Stage]:
    """`stages`; by dinm, controls have as many rows of each projection, in all layers together.

    DINM chooses every row of a module, so a control within the module would have the same rows.
    """
    if by != "dinm":
        return stages(strategy, masks, languages, seed, highest)
    rows = {name: len(mask) for name, mask in next(iter(masks.values()), {}).items()}
    masks = {language: neurons.joined(mask) for language, mask in masks.items()}
    highest = highest and neurons.joined(highest)
    within_modules = []
    for stage in stages(strategy, masks, languages, seed, highest):
        mask = stage.mask if stage.mask is None else neurons.apart(stage.mask, rows)
        within_modules.append(Stage(stage.name, mask, stage.languages))
    return within_modules


def stages(
    strategy: str,
    masks: dict[str, NeuronMask],  # by language: its toxic neurons
    languages: list[str],  # in the order of tuning
    seed: list[int],  # of a draw
    highest: NeuronAUROC | None = None,  # over the languages, if the strategy chooses by it
) -> list[Stage]:
    """The stages of a strategy. ValueError if there are too few languages for it."""
    # Every weight
    if strategy == "full":
        return [Stage("all", None, languages)]

    # Language after language, each on its own pairs
    # DEVIATION: the paper names no order of languages; ours is that of --languages, or --order
    if strategy == "per-language":
        return [Stage(language, masks[language], [language]) for language in languages]
    if strategy == "specific":
        return [Stage(language, only_in(language, masks), [language]) for language in languages]
    if strategy == "random-per-language":
        controls = []
        for language in languages:
            # one seed: neurons that languages share stay shared, so all together are as many, too
            mask = neurons.random_like(masks[language], seed)
            controls.append(Stage(language, mask, [language]))
        return controls
    if strategy == "swapped":
        if len(languages) < 2:
            raise ValueError("swapped: there is no second language to take the neurons of")
        following = [*languages[1:], languages[0]]
        swapped = []
        for language, other in zip(languages, following, strict=True):
            swapped.append(Stage(language, masks[other], [language]))
        return swapped

    # One set of neurons for all languages
    toxic = [masks[language] for language in languages]
    union = neurons.union(toxic)
    if strategy == "multilingual":
        mask = union
    elif strategy == "shared":
        mask = neurons.intersection(toxic)
    elif strategy == "random":
        mask = neurons.random_like(union, seed)
    elif strategy == "shuffled":
        mask = neurons.highest_like(union, highest)
    elif strategy == "lowest":
        mask = neurons.lowest_like(union, highest)
    else:
        raise ValueError(f"{strategy} is not a strategy")
    return [Stage("all", mask, languages)]


def only_in(language: str, masks: dict[str, NeuronMask]) -> NeuronMask:
    """Neurons toxic in this language alone.  [paper Fig. 2]"""
    languages = neurons.times_chosen(list(masks.values()))  # of each neuron
    return {name: rows & (languages[name] == 1) for name, rows in masks[language].items()}


def weight_rows(model: LanguageModel, mask: NeuronMask | None):
    """The chosen rows (R,) of every weight that has any; a mask of None chooses all rows."""
    rows = {}
    if mask is None:
        for name, weight in model.named_parameters():
            rows[name] = torch.ones(len(weight), dtype=torch.bool, device=weight.device)
        return rows
    device = model.model.embed_tokens.weight.device
    for name, chosen in mask.items():
        if chosen.any():
            rows[f"{name}.weight"] = torch.from_numpy(chosen).to(device)
    return rows


def count_weights(config: Config, mask: NeuronMask | None) -> int:
    """Number of weights that a mask chooses; a mask of None chooses the whole model."""
    if mask is None:
        with torch.device("meta"):  # shapes only, no memory
            model = LanguageModel(config)
        return sum(weight.numel() for weight in model.parameters())
    weights = 0
    for name, rows in mask.items():
        is_down = neurons.projection_of(name) == "down_proj"
        width = config.intermediate_size if is_down else config.hidden_size
        weights += int(rows.sum()) * width
    return weights
