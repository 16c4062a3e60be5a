"""What depends on the order of the languages, in a strategy that was tuned in several orders."""

from collections.abc import Iterator

from minitox.report import figures
from minitox.report.forgetting import (
    SINCE,
    changes_of,
    languages_of,
    loss_in_words,
    mean_of_stages,
)
from minitox.report.matching import mismatch
from minitox.report.page import Section
from minitox.report.results import Results, mean_value
from minitox.train.model_names import ModelName
from minitox.train.strategies import ORDERED

TITLE = "Orders of the languages"
TEXT = (
    "The validation loss after the last stage, by the place of a language in the order: minus the "
    "mean of that language over the orders. A number above 0 says that languages at this place end "
    "with a higher loss than at others."
)
COLUMNS = ["languages", "loss at the end", "forgotten since its stage"]
NOTES = [
    "forgotten since its stage: the loss after the last stage, minus after the language's own",
    "in parentheses the lowest and the highest of the orders; these are not confidence "
    "intervals, and places differ in their languages too",
]


def section(results: Results) -> Iterator[Section]:
    """The loss by place in the order; nothing without a strategy in several orders."""
    # 1) the losses of each model, of several draws their mean
    losses = {}
    for name, training in results.trainings.items():
        of_model = losses_of(training) if training else {}
        if of_model:
            losses[name] = of_model
    of_models = list(losses)
    losses = results.together(losses, mean_of_stages)

    # 2) of each strategy its orders, place by place
    paragraphs = [TEXT]
    rows = []
    panels = ""
    for strategy, models in of_strategies(results, losses).items():
        orders = {model: languages_tuned(results.tuned[model]) for model in models}
        ends = {model: losses[model]["end"] for model in models}
        by_place = {}
        for place, languages in enumerate(zip(*orders.values(), strict=True), start=1):
            above = []
            since = []
            for model, language in zip(models, languages, strict=True):
                above.append(above_mean(ends, model, language))
                since.append(losses[model]["since"].get(language))
            listed = ", ".join(languages)
            by_place[f"{place}: {listed}"] = spread(above)
            cells = [in_cell(spread(above)), in_cell(spread(since))]
            rows.append([f"{strategy}, {place}", listed, *cells])
        panels += figures.dots(strategy, by_place, 0.0, "{:+.3f}")
        paragraphs.append(in_words(strategy, orders, ends, list(by_place.values())))
    if rows:
        text = "\n\n".join(paragraphs)
        notes = [loss_in_words(results, of_models), *NOTES]
        yield Section(TITLE, text, ["", *COLUMNS], rows, notes, panels)


def losses_of(training: dict) -> dict[str, dict[str, float]]:
    """Of a run.json, each language's loss at the end, and its change since the language's stage.

    Empty if the model was tuned in one stage.
    """
    changes = changes_of(training)
    if not changes:
        return {}
    measured = training["validation"]
    end = {}
    for language in languages_of(training):
        end[language] = measured[language]["after"]
    return {"end": end, "since": changes[SINCE]}


def of_strategies(results: Results, losses: dict) -> dict[str, list[str]]:
    """{strategy, with its prefixes: models that differ in their order alone}, of two and more."""
    groups = {}
    for model in losses:
        parts = ModelName.parse(model)
        # a draw or a rate that is shown apart is no order of its own
        if parts.strategy not in ORDERED or model != parts.common_name:
            continue
        first = parts.first_name
        if first not in losses:
            continue
        if parts.order == 1 or not mismatch(model, first, results.tuned, results.base):
            groups.setdefault(first, []).append(model)
    return {first: models for first, models in groups.items() if len(models) > 1}


def languages_tuned(training: dict) -> list[str]:
    """The languages in the order of tuning, also those without a neuron."""
    return [stage["name"] for stage in training["stages"]]


def above_mean(ends: dict, model: str, language: str) -> float | None:
    """A language's loss in one order minus its mean over all; None if it was not measured."""
    losses = [of_model.get(language) for of_model in ends.values()]
    return None if None in losses else ends[model][language] - mean_value(losses)


def spread(values: list) -> tuple[float, float, float] | None:
    """The mean, the lowest and the highest of those that are known; None if none is."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    return mean_value(values), min(values), max(values)


def in_cell(values: tuple | None) -> str:
    return "-" if values is None else "{:+.3f} ({:+.3f}..{:+.3f})".format(*values)


def in_words(strategy: str, orders: dict, ends: dict, by_place: list) -> str:
    """The mean loss of each order, how much the orders differ, and the first and last place."""
    means = {}
    listed = []
    for model, order in orders.items():
        means[model] = mean_value(list(ends[model].values()))
        listed.append(f"{means[model]:.3f} in {', '.join(order)}")
    apart = max(means.values()) - min(means.values())
    return (
        f"{strategy}: the mean loss over the languages is {'; '.join(listed)}. The {len(orders)} "
        f"orders differ by {apart:.3f} at most. Against its mean over the orders, a language that "
        f"is tuned first ends at {in_cell(by_place[0])}, one that is tuned last at "
        f"{in_cell(by_place[-1])}."
    )
