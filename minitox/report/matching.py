"""Which models may be compared, and which draws are shown as one, by the settings in run.json."""

import numpy as np

from minitox.run import training_record
from minitox.run.candidates import parts_of
from minitox.run.settings import as_text
from minitox.train.strategies import SCALED, TUNED, prefix_of, split_name

# settings that are hashes, and what is different if they are
OTHERS = {"model": "another base model", "data": "other pairs", "neurons": "other neuron files"}


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
            return f"{name} was made with the strategy {common_name(settings[name])}{details}"

    # 2) the base model has no settings, but is one itself
    if "base" in (model, other):
        (values,) = settings.values()
        return "" if values["model"] == base else OTHERS["model"]

    # 3) the settings that both depend on; data means other files to another objective
    objectives = [training_record.objective_of(settings[name]) for name in (model, other)]
    if objectives[0] != objectives[1] and None not in objectives:
        return f"objective {objectives[0]}, not {objectives[1]}"
    names = training_record.differences(settings[model], settings[other])
    if order_of(model) != order_of(other):  # which is in their names
        names = [name for name in names if name != "order"]
    return "; ".join(in_words(name, settings[model], settings[other]) for name in names)


def order_of(name: str) -> int:
    """The order of the languages in the name of a model."""
    return split_name(parts_of(name)[0])[2]


def is_named_well(name: str, settings: dict) -> bool:
    """Whether a model is of the strategy, order and draw in its name, if there are any in it."""
    named, draw, _ = parts_of(name)
    prefix, strategy, order = split_name(named)
    if strategy not in TUNED + SCALED:
        return True
    is_same = prefix + strategy == common_name(settings) and draw in (None, settings["draw"])
    return is_same and (order > 1) == ("order" in settings)


def common_name(settings: dict) -> str:
    """The name, without a draw, of a model that was made with these settings."""
    objective = training_record.objective_of(settings)
    return prefix_of(objective, settings.get("by", "auroc")) + settings["strategy"]


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
        strategy, draw, rate = parts_of(name)
        if draw and not rate:
            draws.setdefault(strategy, []).append(name)
    most = {strategy: largest(of, trainings, base) for strategy, of in draws.items()}

    # 2) the models in their order
    hidden = at_rates(names)
    shown = {}
    odd = {}
    for name in names:
        strategy = parts_of(name)[0]
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
    chosen = {name: name.partition("@")[0] for name in names if "@" in name}
    return {name: model for name, model in chosen.items() if model in names}


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
