"""Which neurons are tuned on whose pairs: the paper's three strategies, and their controls.

full             every weight of the model, on all pairs                              [paper §3.3]
per-language     one model, language after language: its toxic neurons on its pairs   [paper §3.3]
multilingual     neurons toxic in any language, on all pairs                          [paper §3.3]
random           like multilingual, with as many neurons of each module, drawn at random
shared           like multilingual, with the neurons toxic in every language         [paper Fig. 2]
specific         like per-language, with the neurons toxic in that language alone    [paper Fig. 2]
aura, damp, det0 no training: toxic neurons scaled down in the weights (interventions.py)
"""

from dataclasses import dataclass, field

import torch

from minitox import neurons
from minitox.lm.config import Config
from minitox.lm.model import LanguageModel
from minitox.neurons import NeuronAUROC, NeuronMask
from minitox.train import interventions

TUNED = ("full", "per-language", "multilingual", "random", "shared", "specific")
SCALED = ("aura", "damp", "det0")
DEFAULT = ("full", "per-language", "multilingual", "random", "aura")  # the paper's, and controls
# strategies of random neurons, which are drawn several times: random-1, random-2, ...
DRAWN = ("random", "random-per-language", "random-aura", "random-damp", "random-det0")
# the draws that a strategy is compared with: they have as many neurons in each module
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


@dataclass(frozen=True)
class Stage:
    """One round of tuning, with an optimizer of its own."""

    name: str
    mask: NeuronMask | None  # None: every weight of the model
    languages: list[str]  # on whose pairs


@dataclass(frozen=True)
class Plan:
    """How one model is made from the base model: tuned in stages, or its rows scaled."""

    name: str
    stages: list[Stage] = field(default_factory=list)
    scale: dict | None = None  # the factor of every neuron

    @property
    def masks(self) -> list[NeuronMask | None]:
        """The neurons that each stage, or the scaling, may change."""
        if self.scale is None:
            return [stage.mask for stage in self.stages]
        return [{name: factors != 1 for name, factors in self.scale.items()}]

    @property
    def mask(self) -> NeuronMask | None:
        """The neurons that any stage may change; None: every weight."""
        return None if any(mask is None for mask in self.masks) else neurons.union(self.masks)


@dataclass(frozen=True)
class Choice:
    """How neurons are chosen."""

    threshold: float = 0.5  # a neuron of higher AUROC is toxic
    top_share: float | None = None  # instead: this share of all neurons, those of highest AUROC
    damp: float = 0.5  # factor of toxic neurons in damp
    independent: bool = False  # per-language: one model for each language instead of one for all
    seed: int = 0  # of random neurons

    def toxic_neurons(self, auroc: NeuronAUROC) -> NeuronMask:
        """The toxic neurons.  [paper §3.1]"""
        if self.top_share is not None:
            return neurons.select_top(auroc, self.top_share)
        return neurons.select(auroc, self.threshold)


def tuning_plans(
    strategy: str,
    masks: dict[str, NeuronMask],  # by language: its toxic neurons
    languages: list[str],  # in the order of tuning
    choice: Choice,
) -> list[Plan]:
    """The models of a strategy; usually one. ValueError if no neuron is chosen."""
    plan = Plan(strategy, stages(strategy, masks, languages, choice.seed))
    check_not_empty(plan)
    if not (choice.independent and strategy == "per-language"):
        return [plan]
    chosen = [stage for stage in plan.stages if neurons.count(stage.mask)]
    return [Plan(f"{strategy}-{stage.name}", [stage]) for stage in chosen]


def scaling_plan(strategy: str, auroc: NeuronAUROC, choice: Choice) -> Plan:
    """The model of an intervention; ValueError if no neuron is chosen."""
    mask = choice.toxic_neurons(auroc)
    plan = Plan(strategy, scale=interventions.scales(strategy, auroc, mask, choice.damp))
    check_not_empty(plan)
    return plan


def check_not_empty(plan: Plan):
    """ValueError if a plan changes nothing."""
    if not any(mask is None or neurons.count(mask) for mask in plan.masks):
        raise ValueError(f"{plan.name}: no neuron is chosen")


def stages(
    strategy: str, masks: dict[str, NeuronMask], languages: list[str], seed: int
) -> list[Stage]:
    """The rounds of tuning of a strategy, given the toxic neurons of each language."""
    # Every weight
    if strategy == "full":
        return [Stage("all", None, languages)]

    # Language after language
    # DEVIATION: the paper names no order of languages; ours is that of --languages, or --order
    if strategy == "per-language":
        return [Stage(language, masks[language], [language]) for language in languages]
    if strategy == "specific":
        return [Stage(language, only_in(language, masks), [language]) for language in languages]

    # One set of neurons for all languages
    toxic = [masks[language] for language in languages]
    if strategy == "multilingual":
        mask = neurons.union(toxic)
    elif strategy == "random":
        mask = neurons.random_like(neurons.union(toxic), seed)
    elif strategy == "shared":
        mask = neurons.intersection(toxic)
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
    with torch.device("meta"):  # shapes only, no memory
        model = LanguageModel(config)
    if mask is None:
        return sum(weight.numel() for weight in model.parameters())
    weights = 0
    for name, rows in mask.items():
        weights += int(rows.sum()) * model.get_submodule(name).in_features
    return weights
