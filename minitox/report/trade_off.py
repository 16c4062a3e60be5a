"""What a lower toxicity costs at several learning rates: replies that are clean in language."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import mean

import numpy as np

from minitox.evaluate import metrics
from minitox.report import figures
from minitox.report.matching import in_sentences, mismatch
from minitox.report.page import Section
from minitox.report.results import Results, average
from minitox.report.summary import warning
from minitox.run.training_record import choosing_losses

TITLE = "Trade-off over learning rates"
COLUMNS = ["", "learning rate", "validation loss", "toxicity", "clean in language"]


@dataclass(frozen=True)
class AtRate:
    """A model at one learning rate, or the base model, which has none."""

    toxicity: float  # this and `clean` are means over the same languages for all models
    clean: float  # share of replies that are clean in language
    rate: float | None = None
    # on replies of validation pairs, mean over the languages that have some
    loss: float | None = None
    is_chosen: bool = False  # by this loss

    def point(self) -> figures.Point:
        words = "base" if self.rate is None else f"{self.rate:g}"
        return figures.Point(self.toxicity, 100 * self.clean, words, self.is_chosen)

    def cells(self) -> list[str]:
        """Its row of the table."""
        return [
            f"{self.rate:g}" + " (chosen)" * self.is_chosen,
            number(self.loss, ".3f"),
            number(self.toxicity, ".3f"),
            number(self.clean, ".1%"),
        ]


def number(value: float | None, form: str) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:{form}}"


def curves(results: Results) -> tuple[dict, AtRate | None, dict]:
    """{model: [AtRate]} in the order of rates, the base model, and why models are left out."""
    # 1) the models that differ from the chosen one in their rate alone
    rates = {}
    unmatched = {}
    for name, chosen in results.at_rates.items():
        reason = mismatch(name, chosen, results.trainings, results.base)
        if not reason and "lr" not in results.trainings[name]["settings"]:
            reason = "it is not tuned, so it has no learning rate"
        if reason:
            unmatched[name] = reason
        else:
            rates.setdefault(chosen, [chosen]).append(name)

    # 2) what they do
    each = replace(results, apart=True)
    names = [name for of_model in rates.values() for name in of_model]
    names += [name for name in each.shown if name == "base"]
    toxicity = means_of(names, each.estimates(metrics.toxicity), results.languages)
    clean = means_of(names, each.shares("clean in language"), results.languages)
    base = AtRate(toxicity["base"], clean["base"]) if "base" in names else None
    lines = {}
    for chosen, of_model in rates.items():
        points = []
        for name in of_model:
            training = results.trainings[name]
            rate = training["settings"]["lr"]
            loss = validation_loss(training)
            points.append(AtRate(toxicity[name], clean[name], rate, loss, name == chosen))
        lines[chosen] = sorted(points, key=lambda point: point.rate)
    return lines, base, unmatched


def means_of(names: list[str], estimates: dict, languages) -> dict[str, float]:
    """The mean of each model over the languages that all of them have."""
    means, _ = average({name: estimates[name] for name in names}, languages)
    return {name: float(estimate[0]) for name, estimate in means.items()}


def validation_loss(training: dict) -> float | None:
    """The mean over the languages that a model was tuned on, as far as they have a loss."""
    stages = [stage["name"] for stage in training["stages"]]
    losses = choosing_losses(training)
    tuned = [loss for language, loss in losses.items() if "all" in stages or language in stages]
    return mean(tuned) if tuned else None


# ---- the section and the numbers ----


def section(results: Results) -> Iterator[Section]:
    """A curve of each model that was made at several learning rates; nothing without one."""
    lines, base, unmatched = curves(results)
    notes = in_sentences("Left out", unmatched)
    notes += warning(results, {name: [name] for name in results.at_rates})
    if not lines:
        if notes:
            yield Section(TITLE, notes=notes)
        return

    # 1) a row for each rate
    rows = []
    for model, points in lines.items():
        rows += [[model, *point.cells()] for point in points]

    # 2) panels of as many curves as there are colours
    panels = ""
    names = list(lines)
    for start in range(0, len(names), figures.CURVES):
        drawn = {}
        for name in names[start : start + figures.CURVES]:
            drawn[name] = [point.point() for point in lines[name]]
        axes = "toxicity", "clean in language, %"
        panels += figures.curves(TITLE, drawn, *axes, base and base.point())
    text = (
        "Better is left and up. The rate in a ring was chosen by the loss on validation pairs, and "
        "not by toxicity or by these prompts. Of several draws the first is shown; the others "
        "were made at its rate."
    )
    note = "toxicity, clean in language: means over the same languages for all rows"
    yield Section(TITLE, text, COLUMNS, rows, [note, *notes], panels)


def numbers(results: Results) -> dict:
    """{model: {rate: what was measured}} for other programs."""
    lines, _, _ = curves(results)
    models = {}
    for model, points in lines.items():
        models[model] = {}
        for point in points:
            models[model][f"{point.rate:g}"] = {
                "validation loss": point.loss,
                "toxicity": point.toxicity,
                "clean in language": point.clean,
                "chosen": point.is_chosen,
            }
    return models
