"""The models of a strategy: one, or one for each draw and each order of the languages."""

import math
from dataclasses import dataclass, field

import numpy as np

from minitox import neurons
from minitox.neurons import NeuronAUROC, NeuronMask
from minitox.train import interventions
from minitox.train.model_names import ModelName
from minitox.train.strategies import (
    DRAWN,
    ORDERED,
    Stage,
    intervention,
    stages_by,
)


@dataclass(frozen=True)
class Plan:
    """How one model is made from the base model: tuned in stages, or its rows scaled."""

    strategy: str
    stages: list[Stage] = field(default_factory=list)
    scale: dict | None = None  # the factor of every neuron
    draw: int | None = None  # from 1, if neurons are drawn
    order: int = 1  # of the languages; 1 is the one that is asked for
    objective: str = "sft"  # of the stages
    by: str = "auroc"  # what the neurons are chosen by

    @property
    def name(self) -> str:
        """The name of the model."""
        return str(self.model_name)

    @property
    def model_name(self) -> ModelName:
        """The name of the model in its parts."""
        by = "auroc" if self.mask is None else self.by  # the whole model is no choice
        return ModelName(self.strategy, self.objective, by, self.order, self.draw)

    @property
    def languages(self) -> list[str]:
        """The languages in the order of tuning."""
        languages = []
        for stage in self.stages:
            languages += stage.languages
        return languages

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
    by: str = "auroc"  # the selector
    damp: float = 0.5  # factor of toxic neurons in damp
    independent: bool = False  # per-language: one model for each language instead of one for all
    draws: int = 5  # models of a strategy that draws neurons
    orders: int = 1  # of the languages, in a strategy that tunes one after the other
    seed: int = 0  # of these neurons and orders

    def toxic_neurons(self, auroc: NeuronAUROC) -> NeuronMask:
        """The toxic neurons, or those that another selector chooses.  [paper §3.1]"""
        if self.by == "dinm":
            return neurons.select_largest(auroc)
        if self.top_share is not None:
            return neurons.select_top(auroc, self.top_share)
        return neurons.select(auroc, self.threshold)

    def seeds(self, strategy: str) -> dict[int | None, list[int]]:
        """The seed of every draw of a strategy; of a strategy that draws nothing, draw None."""
        if strategy not in DRAWN:
            return {None: []}
        # a draw does not depend on the number of draws
        return {draw: [self.seed, draw] for draw in range(1, self.draws + 1)}

    def orders_of(self, strategy: str, languages: list[str]) -> list[list[str]]:
        """The orders in which a strategy is made, of which the first is that of the languages.

        ValueError if there are fewer.
        """
        if strategy not in ORDERED:
            return [languages]
        try:
            return permutations(languages, self.orders, self.seed)
        except ValueError as error:
            raise ValueError(f"{strategy}: {error}") from None


def tuning_plans(
    strategy: str,
    masks: dict[str, NeuronMask],  # by language: its toxic neurons
    languages: list[str],  # in the order of tuning
    choice: Choice,
    highest: NeuronAUROC | None = None,  # over the languages, if the strategy chooses by it
) -> list[Plan]:
    """The models of a strategy that tunes, one for each order and draw.

    ValueError if no neuron is chosen, or if there are fewer orders.
    """
    plans = []
    for order, in_order in enumerate(choice.orders_of(strategy, languages), start=1):
        for draw, seed in choice.seeds(strategy).items():
            of_draw = stages_by(choice.by, strategy, masks, in_order, seed, highest)
            plans.append(Plan(strategy, of_draw, draw=draw, order=order, by=choice.by))
    check_not_empty(plans)
    if not (choice.independent and strategy == "per-language"):
        return plans
    chosen = [stage for stage in plans[0].stages if neurons.count(stage.mask)]
    return [Plan(f"{strategy}-{stage.name}", [stage], by=choice.by) for stage in chosen]


def scaling_plans(strategy: str, auroc: NeuronAUROC, choice: Choice) -> list[Plan]:
    """The models of an intervention, one for each draw; ValueError if no neuron is chosen."""
    mask = choice.toxic_neurons(auroc)
    scale = interventions.scales(intervention(strategy), auroc, mask, choice.damp)
    plans = []
    for draw, seed in choice.seeds(strategy).items():
        factors = scale
        if draw is not None:
            factors = neurons.random_like(scale, seed)
        plans.append(Plan(strategy, scale=factors, draw=draw))
    check_not_empty(plans)
    return plans


def permutations(items: list, count: int, seed: int) -> list[list]:
    """The items as they are, then in other orders, drawn at random; all are different.

    An order does not depend on how many there are. ValueError if there are fewer.
    """
    if count > math.factorial(min(len(items), 20)):
        raise ValueError(f"{', '.join(items)} have fewer than {count} orders")
    rng = np.random.default_rng(seed)
    orders = [list(items)]
    while len(orders) < count:
        order = [items[i] for i in rng.permutation(len(items))]
        if order not in orders:
            orders.append(order)
    return orders


def check_not_empty(plans: list[Plan]):
    """ValueError if a plan changes nothing."""
    for plan in plans:
        if not any(mask is None or neurons.count(mask) for mask in plan.masks):
            raise ValueError(f"{plan.strategy}: no neuron is chosen")
