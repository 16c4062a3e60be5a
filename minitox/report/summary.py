"""The first section of the report: every model in one row, and whether toxic neurons matter."""

import numpy as np

from minitox.evaluate import metrics
from minitox.report import figures
from minitox.report.page import Section
from minitox.report.result_tables import PARTS, cells, grid
from minitox.report.results import Results, average
from minitox.run import training_record
from minitox.run.settings import as_text
from minitox.train.strategies import SCALED, TUNED

# settings that are hashes, and what is different if they are
OTHERS = {"model": "another base model", "data": "other pairs", "neurons": "other neuron files"}
FEW = 0.01  # share of replies that may be without a score
NOTES = [
    "In brackets: 95 % bootstrap intervals over prompts, with the same resamples for all models; "
    "they do not include the variation between training runs.",
    "Low toxicity means little if few replies are clean in language: not toxic, in the prompt's "
    "language, and not broken.",
]


def summary(
    results: Results,
    paper: str = "",  # the paper's name for the base model
    doubts: list[str] = (),  # paragraphs on how far to rely on scorers and fluency
) -> Section:
    """Every model in one row, and in words what follows."""
    # 1) the mean toxicity of each model, (1 + W,)
    estimates = results.estimates(metrics.toxicity)
    means, languages = average(estimates, results.languages)
    panels = intervals("Mean toxicity, with 95 % intervals", means)
    columns = {}
    for part, of_part in PARTS.items():
        columns[f"toxicity, {part} languages"] = cells(average(estimates, of_part)[0])

    # 2) what tuning changes, and what the choice of neurons adds to it, in every resample
    text = []
    settled = {"base"}  # models of which it is written how they differ
    for other in ("base", "random"):
        if other not in means:
            continue
        differences, unmatched = differences_from(other, means, results)
        if differences:
            panels += intervals(f"Difference from {other}", differences, 0.0, "{:+.3f}")
            columns[f"difference from {other}"] = cells(differences, "+.3f")
            text.append(compare(other, differences))
        text += in_sentences(f"Not compared with {other}", unmatched)
        # unless the reason is in `other`
        if other == "base" or not mismatch(other, other, results):
            settled |= unmatched.keys()
    text += incomparable([model for model in means if model not in settled], results)
    text.append(evidence(results, means))
    if not languages:
        text = ["No language has a score for every model, so nothing is compared."]

    # 3) what a low toxicity may hide; `grid` shows a dash where there is no share
    for category in ("clean in language", "broken", "wrong language", "empty"):
        shares, _ = average(results.shares(category), results.languages)
        columns[category] = {
            model: f"{share[0]:.1%}" for model, share in shares.items() if not np.isnan(share[0])
        }

    # 4) in front, a warning; below, what the numbers do not say
    text = [
        *warning(results),
        *doubts,
        f"Mean toxicity of replies over {len(languages)} languages.",
        *text,
    ]
    notes = NOTES
    if paper:
        note = (
            f"The paper's numbers for {paper} are shown beside ours, because the base model's "
            "config.json fits it; the paper's prompts, decoding, scorer and training differ."
        )
        notes = [*NOTES, note]
    return Section("Summary", "\n\n".join(text), *grid(columns, means), notes, panels)


def warning(results) -> list[str]:
    """A paragraph for each model of which too many replies have no score."""
    paragraphs = []
    for model, by_language in results.replies.items():
        status = np.concatenate([replies.status.ravel() for replies in by_language.values()])
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


def intervals(name, means, *more) -> str:
    """A figure of the means with their intervals."""
    rows = {model: metrics.interval(mean) for model, mean in means.items()}
    return figures.dots(name, rows, *more)


# ---- which models are compared ----


def differences_from(other: str, means: dict, results: Results) -> tuple[dict, dict]:
    """The difference (1 + W,) of each model that matches `other`; and why others have none."""
    differences = {}
    unmatched = {}
    for model in means:
        if model == other:
            continue
        reason = mismatch(model, other, results)
        if reason:
            unmatched[model] = reason
        else:
            differences[model] = means[model] - means[other]
    return differences, unmatched


def incomparable(models: list[str], results: Results) -> list[str]:
    """Sentences on the tuned models that do not match the first one, or one after it."""
    sentences = []
    while models:
        first, *others = models
        reasons = {model: mismatch(model, first, results) for model in others}
        unmatched = {model: reason for model, reason in reasons.items() if reason}
        sentences += in_sentences(f"Not comparable with {first}", unmatched)
        models = [model for model in others if model not in unmatched]
    return sentences


def in_sentences(start: str, reasons: dict[str, str]) -> list[str]:
    """A sentence for each reason, on all models that have it."""
    models = {}
    for model, reason in reasons.items():
        models.setdefault(reason, []).append(model)
    return [f"{start}: {', '.join(names)} ({reason})." for reason, names in models.items()]


def mismatch(model: str, other: str, results: Results) -> str:
    """Why a difference of two models would not be that of their strategies; "" if it would."""
    # 1) what is known of the tuned ones
    settings = {}
    for name in (other, model):
        if name == "base":
            continue
        training = results.trainings[name]
        if training is None:
            of = f" of {other}" if name == other else ""
            return f"settings{of} not known: no run.json"
        settings[name] = training["settings"]
        strategy = settings[name]["strategy"]
        if name in TUNED + SCALED and name != strategy:
            return f"{name} was made with the strategy {strategy}"

    # 2) the base model has no settings, but is one itself
    if "base" in (model, other):
        (values,) = settings.values()
        return "" if values["model"] == results.base else OTHERS["model"]

    # 3) the settings that both depend on
    names = training_record.differences(settings[model], settings[other])
    return "; ".join(in_words(name, settings[model], settings[other]) for name in names)


def in_words(name: str, ours: dict, theirs: dict) -> str:
    """How a model differs from another in a setting."""
    if name in OTHERS:
        return OTHERS[name]
    return f"{name} {as_text(ours[name])}, not {as_text(theirs[name])}"


# ---- what follows ----


def compare(other: str, differences: dict) -> str:
    """Which models are less and more toxic than another, given the differences (1 + W,)."""
    # 1) a difference is significant if its interval excludes 0
    groups = {"less toxic": [], "no significant difference": [], "more toxic": []}
    for model, difference in differences.items():
        value, low, high = metrics.interval(difference)
        group = "no significant difference"
        if high < 0:
            group = "less toxic"
        elif low > 0:
            group = "more toxic"
        groups[group].append(f"{model} ({value:+.3f})")

    # 2) in words
    listed = [f"{group}: {', '.join(models)}" for group, models in groups.items() if models]
    return f"Compared with {other}: {'; '.join(listed)}."


def evidence(results: Results, means: dict) -> str:
    """Whether toxic neurons did better than random ones, and how many of these are toxic too."""
    # 1) only a matched pair is evidence
    if "multilingual" not in means or "random" not in means:
        return (
            "There is no model of random neurons to compare with, so these results cannot show "
            "whether the toxic neurons matter."
        )
    if mismatch("multilingual", "random", results):
        return (
            "multilingual and random are not compared, so these results cannot show whether the "
            "toxic neurons matter."
        )

    # 2) the difference between the two models, by its interval
    _, low, high = metrics.interval(means["multilingual"] - means["random"])
    how = "better than" if low > 0 else "as well as"
    text = (
        f"The same number of random neurons do {how} the toxic neurons of multilingual: no "
        "evidence that the toxic neurons matter."
    )
    # less toxic, also at the upper end
    if high < 0:
        text = "The toxic neurons of multilingual do better than the same number of random neurons."

    # 3) a union of nearly all neurons leaves no others to draw from
    toxic = results.trainings["multilingual"]["chosen"]
    random = results.trainings["random"]["chosen"]
    return (
        f"{text} multilingual tunes {toxic['neurons'] / toxic['of_neurons']:.1%} of all neurons, "
        f"and {random['toxic'] / random['neurons']:.1%} of the random ones are toxic too."
    )
