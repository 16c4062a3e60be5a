"""Which models may be compared, and which draws are shown as one, by the settings in run.json."""

from dataclasses import replace

import numpy as np

from minitox.run import training_record
from minitox.run.settings import as_text
from minitox.train.model_names import ModelName
from minitox.train.strategies import SCALED, TUNED

# settings that are hashes, and what is different if they are
OTHERS = {
    "model": "another base model",
    "data": "other pairs",
    "split": "other pairs for training, validation and test",
    "neurons": "other neuron files",
}


def mismatch(
    model: str,
    other: str,
    trainings: dict,  # {model: its run.json, or None}; without the base model
    base: str,  # fingerprint of the base model
) -> str:
    """Why a difference of two models would not be that of their strategies; "" if it would."""
    # 1) what is known of the tuned ones
    settings = {}
    for name in (other, model):
        if name == "base":
            continue
        training = trainings[name]
        if training is None:
            of = f" of {other}" if name == other != model else ""
            return f"settings{of} not known: no run.json"
        settings[name] = training["settings"]
        if not is_named_well(name, settings[name]):
            draw = settings[name]["draw"]
            details = f", draw {draw}" if draw else ""
            if "order" in settings[name]:
                details += f", in the order {as_text(settings[name]['order'])}"
            return f"{name} was made with the strategy {strategy_of(settings[name])}{details}"

    # 2) the base model has no settings, but is one itself
    if "base" in (model, other):
        (values,) = settings.values()
        return "" if values["model"] == base else OTHERS["model"]

    # 3) the settings that both depend on; data means other files to another objective
    objectives = [training_record.objective_of(settings[name]) for name in (model, other)]
    if objectives[0] != objectives[1] and None not in objectives:
        return f"objective {objectives[0]}, not {objectives[1]}"
    names = training_record.differences(settings[model], settings[other])
    if ModelName.parse(model).order != ModelName.parse(other).order:  # as their names say
        names = [name for name in names if name != "order"]
    return "; ".join(in_words(name, settings[model], settings[other]) for name in names)


def is_named_well(name: str, settings: dict) -> bool:
    """Whether a model is of the strategy, order and draw in its name, if there are any in it."""
    parts = ModelName.parse(name)
    if parts.strategy not in TUNED + SCALED:
        return True
    first = replace(parts, order=1, draw=None, rate=None)
    is_same = str(first) == strategy_of(settings) and parts.draw in (None, settings["draw"])
    return is_same and (parts.order > 1) == ("order" in settings)


def strategy_of(settings: dict) -> str:
    """The strategy of a model that was made with these settings, as in its name.

    With its objective and its selector, but without an order and a draw.
    """
    objective = training_record.objective_of(settings) or "sft"
    return str(ModelName(settings["strategy"], objective, settings.get("by", "auroc")))


def in_words(name: str, ours: dict, theirs: dict) -> str:
    """How a model differs from another in a setting."""
    if name in OTHERS:
        return OTHERS[name]
    return f"{name} {as_text(ours[name])}, not {as_text(theirs[name])}"


def in_sentences(start: str, reasons: dict[str, str]) -> list[str]:
    """A sentence for each reason, on all models that have it."""
    models = {}
    for model, reason in reasons.items():
        models.setdefault(reason, []).append(model)
    return [f"{start}: {', '.join(names)} ({reason})." for reason, names in models.items()]


# ---- draws ----


def grouped(names, trainings: dict, base: str) -> tuple[dict, dict]:
    """The models to show, each with the folders that it is the mean of; and odd draws, with why.

    The draws of a strategy are one model, as far as they differ in their neurons alone. Those that
    do not match most of the others stay models of their own, and have a reason. A model at
    another rate than the chosen one is not shown.
    """
    # 1) all draws of each strategy
    draws = {}
    for name in names:
        parts = ModelName.parse(name)
        if parts.draw and not parts.rate:
            draws.setdefault(parts.common_name, []).append(name)
    most = {strategy: largest(names, trainings, base) for strategy, names in draws.items()}

    # 2) the models in their order
    hidden = at_rates(names)
    shown = {}
    odd = {}
    for name in names:
        strategy = ModelName.parse(name).common_name
        if name in most.get(strategy, []):
            shown.setdefault(strategy, []).append(name)
        elif name not in hidden:
            shown[name] = [name]
        if name in draws.get(strategy, []) and name not in most[strategy]:
            first, *_ = *most[strategy], name
            odd[name] = mismatch_of_draws(name, first, trainings, base)
    return shown, odd


def largest(draws: list[str], trainings: dict, base: str) -> list[str]:
    """Most of the draws, as many as match one of them."""
    groups = []
    for first in draws:
        groups.append(
            [draw for draw in draws if not mismatch_of_draws(draw, first, trainings, base)]
        )
    return max(groups, key=len)


def mismatch_of_draws(draw: str, other: str, trainings: dict, base: str) -> str:
    """Why two draws differ in more than their neurons; "" if they do not.

    An automatic rate depends on the neurons; one of several is that of the first draw.
    """
    reason = mismatch(draw, other, trainings, base)
    if reason:
        return reason
    ours = trainings[draw]["settings"]
    theirs = trainings[other]["settings"]
    if ours.get("rates", "auto") != "auto" and ours["lr"] != theirs["lr"]:
        return in_words("lr", ours, theirs)
    return ""


def at_rates(names) -> dict[str, str]:
    """The models NAME@RATE, each with the NAME that was chosen among them."""
    chosen = {}
    for name in names:
        parts = ModelName.parse(name)
        if parts.rate is None:
            continue
        model = str(replace(parts, rate=None))
        if model in names:
            chosen[name] = model
    return chosen


def one_training(trainings: list[dict]) -> dict:
    """The run.json of several draws together, with the mean numbers of neurons and weights."""
    first = trainings[0]
    if len(trainings) == 1:
        return first
    chosen = {"sha256": None}  # each draw has other neurons
    for name in ("neurons", "weights", "toxic"):
        chosen[name] = round(np.mean([training["chosen"][name] for training in trainings]))
    return first | {
        "settings": first["settings"] | {"draw": None},
        "chosen": first["chosen"] | chosen,
        "draws": len(trainings),
    }
