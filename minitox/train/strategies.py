"""Which neurons are tuned on whose pairs: the paper's three strategies, and the controls that say what they are worth.

full             every weight of the model, on all pairs                              [paper §3.3]
per-language     one model, language after language: its toxic neurons on its pairs   [paper §3.3]
multilingual     neurons toxic in any language, on all pairs                          [paper §3.3]
random           as multilingual, with as many neurons of every module, drawn at random
shared           as multilingual, with the neurons toxic in every language            [paper Figure 2]
specific         as per-language, with the neurons toxic in that language alone       [paper Figure 2]
aura, damp, det0 no training: toxic neurons scaled down in the weights (interventions.py)
"""

import math
from dataclasses import dataclass, field

import torch

from minitox import neurons
from minitox.errors import InputError
from minitox.lm.config import Config
from minitox.lm.model import LanguageModel
from minitox.train import interventions
from minitox.train.pairs import Pairs

TUNED = ("full", "per-language", "multilingual", "random", "shared", "specific")
FOLDED = ("aura", "damp", "det0")
DEFAULT = (
    "full",
    "per-language",
    "multilingual",
    "random",
    "aura",
)  # a result without its control teaches nothing


@dataclass(frozen=True)
class Stage:
    """One round of tuning, with an optimizer of its own."""

    name: str
    mask: dict | None  # which neurons; None: every weight of the model
    languages: list[str]  # on whose pairs


@dataclass(frozen=True)
class Plan:
    """How one model is made from the base: tuned in stages, or its rows scaled."""

    name: str
    stages: list[Stage] = field(default_factory=list)
    scale: dict | None = None  # the factor of every neuron

    @property
    def masks(self) -> list[dict | None]:
        """What each stage, or the scaling, may change."""
        return [stage.mask for stage in self.stages] or [
            {name: factors != 1 for name, factors in self.scale.items()}
        ]


def select(args, auroc: dict) -> dict:
    """The toxic neurons, as the command line defines them.  [paper §3.1]"""
    return (
        neurons.select(auroc, args.threshold)
        if args.top_share is None
        else neurons.select_top(auroc, args.top_share)
    )


def plans(
    args, aurocs: dict[str, dict], masks: dict[str, dict], languages: list[str]
) -> list[Plan]:
    """What the command line asks for, given every neuron's AUROC and the toxic ones; InputError if nothing is chosen."""
    found = []
    for strategy in args.strategy:
        if strategy in FOLDED:
            auroc = (
                aurocs[args.language]
                if args.language
                else interventions.combine(list(aurocs.values()))
            )
            plan = Plan(
                strategy,
                scale=interventions.scales(strategy, auroc, select(args, auroc), args.damp),
            )
        else:
            plan = Plan(strategy, stages(strategy, masks, languages, args.seed))
        if not any(mask is None or neurons.count(mask) for mask in plan.masks):
            raise InputError(
                f"--strategy {strategy}: no neuron is chosen; choose a lower --threshold, or leave it out"
            )
        if args.independent and strategy == "per-language":
            found += [
                Plan(f"{strategy}-{stage.name}", [stage])
                for stage in plan.stages
                if neurons.count(stage.mask)
            ]
        else:
            found.append(plan)
    return found


def stages(strategy: str, masks: dict[str, dict], languages: list[str], seed: int) -> list[Stage]:
    """The rounds of a strategy, given the toxic neurons of each language."""
    if strategy == "full":
        return [Stage("all", None, languages)]
    every = [masks[language] for language in languages]
    if strategy in ("per-language", "specific"):
        own = (
            masks
            if strategy == "per-language"
            else {language: only_in(language, masks) for language in languages}
        )
        # DEVIATION: the paper names no order of languages; ours is that of --languages, or --order
        return [Stage(language, own[language], [language]) for language in languages]
    toxic = neurons.union(every)
    mask = {
        "multilingual": toxic,
        "random": neurons.random_like(toxic, seed),
        "shared": neurons.intersection(every),
    }[strategy]
    return [Stage("all", mask, languages)]


def only_in(language: str, masks: dict[str, dict]) -> dict:
    """Neurons toxic in this language and in no other.  [paper Figure 2]"""
    return {
        name: rows & (sum(mask[name].astype(int) for mask in masks.values()) == 1)
        for name, rows in masks[language].items()
    }


def union(masks: list[dict | None]) -> dict | None:
    """What any of several stages changes; every weight if one of them does."""
    return None if any(mask is None for mask in masks) else neurons.union(masks)


def weight_rows(model: LanguageModel, mask: dict | None) -> dict[str, torch.Tensor]:
    """The chosen rows (R,) of every weight that has any; a mask of None chooses all rows of all weights."""
    if mask is None:
        return {
            name: torch.ones(len(weight), dtype=torch.bool, device=weight.device)
            for name, weight in model.named_parameters()
        }
    device = model.model.embed_tokens.weight.device
    return {
        f"{name}.weight": torch.from_numpy(rows).to(device)
        for name, rows in mask.items()
        if rows.any()
    }


def count_weights(config: Config, mask: dict | None) -> int:
    """How many weights a mask chooses."""
    if mask is None:
        with torch.device("meta"):
            return sum(weight.numel() for weight in LanguageModel(config).parameters())
    width = {
        "gate_proj": config.hidden_size,
        "up_proj": config.hidden_size,
        "down_proj": config.intermediate_size,
    }
    return sum(int(rows.sum()) * width[name.rsplit(".", 1)[1]] for name, rows in mask.items())


def describe(
    stage: Stage, config: Config, dtype: torch.dtype, pairs: dict[str, Pairs], args
) -> dict:
    """What a stage takes: memory of its optimizer's state, and steps; none if no neuron is chosen."""
    held = stage.mask
    if args.optimizer == "masked" and held is not None:  # it holds whole matrices
        held = {name: rows | rows.any() for name, rows in held.items()}
    examples = (
        sum(len(pairs[language].train) for language in stage.languages)
        if held is None or neurons.count(held)
        else 0
    )
    return {
        "name": stage.name,
        "optimizer_bytes": count_weights(config, held) * (8 if dtype == torch.float32 else 12),
        "pairs": examples,
        "steps": args.epochs * math.ceil(examples / args.batch_size),
    }
