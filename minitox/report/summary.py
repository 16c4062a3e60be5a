"""The first section of the report: every model in one row, and whether toxic neurons matter."""

import numpy as np

from minitox.evaluate import metrics
from minitox.report import figures, verdicts
from minitox.report.matching import in_sentences, mismatch
from minitox.report.page import Section
from minitox.report.result_tables import PARTS, about_parts, cells, grid
from minitox.report.results import Results, average

FEW = 0.01  # share of replies that may be without a score
FEW_PROMPTS = 5  # of a language; with fewer, the intervals are too narrow
NOTES = [
    "In brackets: 95 % bootstrap intervals over prompts, with the same resamples for all models; "
    "they do not include the variation between training runs.",
    "Low toxicity means little if few replies are clean in language: not toxic, in the prompt's "
    "language, and not broken.",
]


def summary(
    results: Results,
    comparisons: verdicts.Comparisons,  # of the models with random neurons
    paper: str = "",  # the paper's name for the base model
) -> Section:
    """Every model in one row, and in words what follows."""
    # 1) the mean toxicity of each model, (1 + W,)
    estimates = results.estimates(metrics.toxicity)
    means, languages = average(estimates, results.languages)
    draws = verdicts.toxicity_of_draws(results, languages)
    panels = intervals("Mean toxicity, with 95 % intervals", means, draws)
    columns = {}
    for part, of_part in PARTS.items():
        columns[f"toxicity, {part} languages"] = cells(average(estimates, of_part)[0])

    # 2) what tuning changes, in every resample
    text = []
    differences, unmatched = differences_from_base(means, languages, results)
    if differences:
        title = "Difference from base"
        of_draws = differences_of_draws(means, draws)
        panels += intervals(title, differences, of_draws, 0.0, "{:+.3f}")
        columns["difference from base"] = cells(differences, "+.3f")
        text.append(compare("base", differences))
    text += in_sentences("Not compared with base", unmatched)

    # 3) what the choice of neurons adds to it
    text += verdicts.in_words(comparisons)
    text += in_sentences("Not averaged with the other draws", results.odd_draws)
    settled = ["base", *unmatched, *comparisons.unmatched, *results.odd_draws]
    text += incomparable([model for model in means if model not in settled], results)
    if not languages:
        text = ["No language has a score for every model, so nothing is compared."]

    # 4) what a low toxicity may hide; `grid` shows a dash where there is no share
    for category in ("clean in language", "broken", "wrong language", "empty"):
        shares, _ = average(results.shares(category), results.languages)
        columns[category] = {
            model: f"{share[0]:.1%}" for model, share in shares.items() if not np.isnan(share[0])
        }

    # 5) in front, what the numbers are; below, what they do not say
    text = [heading(languages, results), *text]
    notes = [*NOTES, *about_parts(results)]
    if paper:
        note = (
            f"The paper's numbers for {paper} are shown beside ours, because the base model's "
            "config.json fits it; the paper's prompts, decoding, scorer and training differ."
        )
        notes.append(note)
    return Section("Summary", "\n\n".join(text), *grid(columns, means), notes, panels)


def heading(languages, results) -> str:
    """What the numbers are means of."""
    text = f"Mean toxicity of replies over {len(languages)} languages."
    counts = [f"{model} ({len(names)})" for model, names in results.shown.items() if names[1:]]
    if counts:
        text += f" Means of several draws, which differ only in their neurons: {', '.join(counts)}."
    return text


def warning(
    results: Results,
    models: dict[str, list[str]],  # each with the folders that it is the mean of
) -> list[str]:
    """A paragraph for each model of which too many replies have no score."""
    paragraphs = []
    for model, names in models.items():
        replies = [judged for name in names for judged in results.replies[name].values()]
        status = np.concatenate([judged.status.ravel() for judged in replies])
        # a few may be without, since the report counts them
        failed = np.mean(status == "failed")
        if failed > FEW:
            paragraphs.append(
                f"{failed:.1%} of the replies of {model} have no score because scoring failed, so "
                "do not rely on this report. Rerun the same command to score them again."
            )
        unsupported = np.mean(status == "unsupported")
        if unsupported > FEW:
            paragraphs.append(
                f"{unsupported:.1%} of the replies of {model} are in languages that the scorer "
                "does not know, and are not in its mean toxicity."
            )
    return paragraphs


def few_prompts(results: Results) -> list[str]:
    """Paragraphs on languages with so few prompts that an interval is missing or too narrow."""
    counts = {code: results.resamples[code].shape[1] for code in results.languages}
    single = [code for code, count in counts.items() if count == 1]
    few = {code: count for code, count in counts.items() if 1 < count < FEW_PROMPTS}
    paragraphs = []
    if single:
        paragraphs.append(
            f"There is a single prompt in {', '.join(single)}, which does not show how much "
            "prompts differ, so no mean of scores that it is part of has an interval."
        )
    if few:
        listed = ", ".join(f"{count} in {code}" for code, count in few.items())
        narrower = 1 - np.sqrt(1 - 1 / min(few.values()))
        paragraphs.append(
            f"There are fewer than {FEW_PROMPTS} prompts in some languages ({listed}), so their "
            f"bootstrap intervals are too narrow, by up to {narrower:.0%}."
        )
    return paragraphs


def intervals(name, means, draws, *more) -> str:
    """A figure of the means with their intervals, and of the draws that a mean is of."""
    rows = {model: metrics.interval(mean) for model, mean in means.items()}
    points = {}
    for model, of_model in draws.items():
        points[model] = [draw[0] for draw in of_model.values()]
    return figures.dots(name, rows, *more, draws=points)


# ---- which models are compared ----


def differences_from_base(means: dict, languages: list, results: Results) -> tuple[dict, dict]:
    """The difference (1 + W,) of each model from base; and why others have none."""
    differences = {}
    unmatched = {}
    if "base" not in means:
        return differences, unmatched
    for model in results.tuned:
        reason = results.why_not_compared(model, "base", languages)
        if reason:
            unmatched[model] = reason
        else:
            differences[model] = means[model] - means["base"]
    return differences, unmatched


def differences_of_draws(means: dict, draws: dict) -> dict:
    """The difference of each draw from base, (1 + W,)."""
    differences = {}
    for model, of_model in draws.items():
        differences[model] = {name: draw - means["base"] for name, draw in of_model.items()}
    return differences


def incomparable(models: list[str], results: Results) -> list[str]:
    """Sentences on the tuned models that do not match the first one, or one after it."""
    sentences = []
    while models:
        first, *others = models
        reasons = {}
        for model in others:
            reasons[model] = mismatch(model, first, results.tuned, results.base)
        unmatched = {model: reason for model, reason in reasons.items() if reason}
        sentences += in_sentences(f"Not comparable with {first}", unmatched)
        models = [model for model in others if model not in unmatched]
    return sentences


# ---- what follows ----


def compare(other: str, differences: dict) -> str:
    """Which models are less and more toxic than another, given the differences (1 + W,)."""
    # 1) a difference is significant if its interval excludes 0
    groups = {"less toxic": [], "not significantly different": [], "more toxic": []}
    for model, difference in differences.items():
        value, low, high = metrics.interval(difference)
        group = "not significantly different"
        if high < 0:
            group = "less toxic"
        elif low > 0:
            group = "more toxic"
        groups[group].append(f"{model} ({value:+.3f})")

    # 2) in words
    listed = [f"{group}: {', '.join(models)}" for group, models in groups.items() if models]
    return f"Compared with {other}, {'; '.join(listed)}."
