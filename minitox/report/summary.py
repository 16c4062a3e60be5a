"""The first section of the report: every model in one row, and whether toxic neurons matter."""

import numpy as np

from minitox import neurons
from minitox.evaluate import metrics
from minitox.evaluate.metrics import interval
from minitox.report import figures
from minitox.report.page import Section
from minitox.report.result_tables import PARTS, cells, grid
from minitox.report.results import Estimates, Results, average

TOLERATED = 0.01  # share of failed scores above which the summary warns


def summary(results: Results, paper: str = "") -> Section:
    """Every model in one row, and in words what follows; `paper`: its name for the base model."""
    # 1) the mean toxicity of each model over all languages, (1 + W,), and its differences
    estimates = results.estimates(metrics.toxicity)
    means, languages = average(estimates, results.languages)
    differences = differences_of(means)

    # 2) in words
    text = warning(results)
    text.append(f"Mean toxicity of replies over {len(languages)} languages.")
    if languages:
        text += [compare(other, by_model) for other, by_model in differences.items()]
        text.append(evidence(results, differences.get("random", {})))
    else:
        text.append("No language has a score for every model, so nothing is compared.")

    # 3) in numbers, and as figures
    return Section(
        "Summary",
        "\n\n".join(text),  # paragraphs
        *grid(columns(results, estimates, differences), means),
        notes=notes(paper),
        figure=intervals(means, differences),
    )


def warning(results: Results) -> list[str]:
    """A paragraph, if too many replies have no score."""
    failed = 0
    total = 0
    for by_language in results.replies.values():
        for replies in by_language.values():
            failed += int((replies.status == "failed").sum())
            total += replies.status.size
    # a few may fail, since the report counts them
    if failed / total <= TOLERATED:
        return []
    return [
        f"{failed / total:.1%} of the replies have no score because scoring failed, so do not rely "
        "on this report. Rerun the same command to score them again."
    ]


def notes(paper: str) -> list[str]:
    """What the numbers do not say."""
    lines = [
        "In brackets: 95 % bootstrap intervals over prompts, with the same resamples for all "
        "models; they do not include the variation between training runs.",
        "Low toxicity means little if few replies are clean and in the prompt's language.",
    ]
    # the paper's own models
    if paper:
        lines.append(
            f"The paper's numbers for {paper} are shown beside ours; its prompts, decoding, scorer "
            "and training differ."
        )
    return lines


def differences_of(means: dict) -> dict[str, dict]:
    """{other: {model: its mean less that of the other, in every resample (1 + W,)}}."""
    differences = {}
    # what tuning changes, and what the choice of neurons adds to it
    for other in ("base", "random"):
        models = [model for model in means if model != other]
        if other in means and models:
            differences[other] = {model: means[model] - means[other] for model in models}
    return differences


def columns(results: Results, estimates: Estimates, differences: dict) -> dict[str, dict]:
    """{column: {model: cell}} of the table."""
    shown = {}

    # 1) toxicity
    for part, languages in PARTS.items():
        means, _ = average(estimates, languages)
        shown[f"toxicity, {part} languages"] = cells(means)
    for other, by_model in differences.items():
        shown[f"difference from {other}"] = cells(by_model, "+.3f")

    # 2) what a low toxicity may hide
    for category in ("clean in language", "wrong language", "empty"):
        shares, _ = average(results.shares(category), results.languages)
        shown[category] = {}
        for model, share in shares.items():
            shown[category][model] = "-" if np.isnan(share[0]) else f"{share[0]:.1%}"
    return shown


def intervals(means: dict, differences: dict[str, dict]) -> str:
    """The means and the differences with their intervals, as figures."""
    # a figure of the means, and one for each model that the others are compared with
    rows = {model: interval(mean) for model, mean in means.items()}
    panels = figures.dots("Mean toxicity, with 95 % intervals", rows)
    for other, by_model in differences.items():
        rows = {model: interval(difference) for model, difference in by_model.items()}
        panels += figures.dots(f"Difference from {other}", rows, 0.0, "{:+.3f}")
    return panels


def compare(other: str, differences: dict) -> str:
    """Which models are less and more toxic than another, given the differences (1 + W,)."""
    groups = {"less toxic": [], "no significant difference": [], "more toxic": []}
    for model, difference in differences.items():
        value, low, high = interval(difference)
        # a difference is significant if its interval excludes 0
        group = "no significant difference"
        if high < 0:
            group = "less toxic"
        elif low > 0:
            group = "more toxic"
        groups[group].append(f"{model} ({value:+.3f})")
    listed = [f"{group}: {', '.join(models)}" for group, models in groups.items() if models]
    return f"Compared with {other}: {'; '.join(listed)}."


def evidence(results: Results, differences: dict) -> str:
    """Whether toxic neurons did better than random ones, and how many of these are toxic too.

    `differences` are those from the model of random neurons; {} if there is none.
    """
    if "multilingual" in differences:
        _, low, high = interval(differences["multilingual"])
        text = toxic_or_random(low, high)
    else:
        text = (
            "There is no model of random neurons to compare with, so these results cannot show "
            "whether the toxic neurons matter."
        )

    # a union of nearly all neurons leaves no others to draw from
    if results.masks:
        toxic = neurons.union(list(results.masks.values()))
        share = neurons.count(toxic) / neurons.size(toxic)
        text += (
            f" {share:.1%} of all neurons are toxic in some language, so about the same share of "
            "the random neurons is toxic too."
        )
    return text


def toxic_or_random(low: float, high: float) -> str:
    """Which neurons did better, given the interval of the difference in toxicity."""
    # less toxic, also at the upper end
    if high < 0:
        return "The toxic neurons of multilingual do better than the same number of random neurons."
    how = "better than" if low > 0 else "as well as"
    return (
        f"The same number of random neurons do {how} the toxic neurons of multilingual: no "
        "evidence that the toxic neurons matter."
    )
