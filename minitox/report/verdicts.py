"""Whether the neurons of a model do better than random ones, of which there are several draws."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from minitox.evaluate import metrics
from minitox.report import figures
from minitox.report.matching import in_sentences
from minitox.report.page import Section
from minitox.report.results import Results, average, mean_over
from minitox.train.model_names import ModelName


@dataclass(frozen=True)
class Comparison:
    """The mean toxicity of a model beside that of draws with random neurons."""

    twin: str  # the strategy of the draws
    toxicity: float
    draws: dict[str, float]  # of each draw
    difference: tuple[float, float, float]  # from the mean of the draws, and its interval
    expected: tuple[float, float, float]  # the mean, and where one more draw is expected
    verdict: str  # as metrics.verdict gives it
    chosen: dict  # what the model's run.json says of its neurons
    random: dict  # and that of the draws
    empty: tuple[float, float]  # share of empty replies of the model, and of the draws


@dataclass(frozen=True)
class Comparisons:
    """Every model that has random neurons to be compared with, and why others are not compared."""

    compared: dict[str, Comparison]
    unmatched: dict[str, str]  # why a model is not compared with its draws
    missing: dict[str, str]  # models without draws, with the strategy that is missing
    margin: float  # a mean toxicity that is higher by less is no worse


def toxicity_of_draws(results: Results, languages) -> dict:
    """{strategy: {draw: mean toxicity over the languages (1 + W,)}} of what has draws."""
    each = replace(results, apart=True).estimates(metrics.toxicity)
    draws = {}
    for model, names in results.shown.items():
        if ModelName.parse(model).is_of_all_draws:
            draws[model] = mean_over(languages, {name: each[name] for name in names})
    return draws


def without_a_score(replies: metrics.Replies):  # -> (n, S)
    """Which replies have no score, whatever the reason; NaN where there is no reply."""
    unanswered = replies.status == "too long"
    return np.where(unanswered, np.nan, np.isnan(replies.scores))


def compare_neurons(results: Results, margin: float) -> Comparisons:
    """Compare every model with its draws, given the margin of a verdict, a mean toxicity."""
    trainings = results.tuned
    means, languages = average(results.estimates(metrics.toxicity), results.languages)
    draws = toxicity_of_draws(results, languages)
    empty = mean_over(languages, results.shares("empty"))
    missing_scores = mean_over(languages, results.estimates(without_a_score))
    compared = {}
    unmatched = {}
    missing = {}
    # in the order of the report, as far as anything can be compared
    for model in means if languages else ():
        # 1) only a matched pair is evidence
        twin = ModelName.parse(model).twin
        if twin is None:
            continue
        if twin not in means:
            missing[model] = twin
            continue
        reason = results.why_not_compared(model, twin, languages)
        if reason:
            unmatched[model] = reason
            continue

        # 2) the verdict: replies without a score must not be able to explain it
        of_draws = list(draws[twin].values())  # (1 + W,) each
        verdict = metrics.verdict(means[model], of_draws, margin)
        difference = metrics.difference_from_draws(means[model], of_draws)
        without_score = float(missing_scores[model][0] + missing_scores[twin][0])
        if verdict in ("better", "worse") and abs(difference[0]) <= without_score:
            verdict = "undecided"

        # 3) the numbers, all over the same languages
        estimates = {name: float(mean[0]) for name, mean in draws[twin].items()}
        compared[model] = Comparison(
            twin,
            float(means[model][0]),
            estimates,
            difference,
            metrics.prediction_interval(list(estimates.values())),
            verdict,
            trainings[model]["chosen"],
            trainings[twin]["chosen"],
            (float(empty[model][0]), float(empty[twin][0])),
        )
    return Comparisons(compared, unmatched, missing, margin)


# ---- in words ----

FEW = 0.01  # a smaller difference in the share of empty replies is not mentioned

STARTS = {
    "better": "The neurons of {} do better than random ones",
    "worse": "The neurons of {} do worse than random ones",
    "no worse": "The neurons of {} do no worse than random ones (margin {margin:g}), and are not "
    "shown to do better",
    "undecided": "Whether the neurons of {} do better or worse than random ones is undecided",
    "": "There is no verdict on the neurons of {}",
}


def in_words(comparisons: Comparisons) -> list[str]:
    """A paragraph on each model that has draws to be compared with, and on those without."""
    paragraphs = []
    for model, compared in comparisons.compared.items():
        paragraphs.append(paragraph(model, compared, comparisons.margin))
    for model, reason in comparisons.unmatched.items():
        twin = ModelName.parse(model).twin
        paragraphs += in_sentences(f"Not compared with {twin}", {model: reason})
    if comparisons.missing:
        listed = ", ".join(f"{model} ({twin})" for model, twin in comparisons.missing.items())
        paragraphs.append(
            "These models have no random neurons to compare with, so the results cannot show "
            f"whether their neurons matter: {listed}."
        )
    return paragraphs


def paragraph(model: str, compared: Comparison, margin: float) -> str:
    """The verdict, the numbers that it rests on, and how different the neurons are."""
    # 1) the verdict
    text = STARTS[compared.verdict].format(model, margin=margin)
    value, low, high = compared.difference
    middle, lowest, highest = compared.expected
    count = len(compared.draws)
    if not compared.verdict:
        text += (
            f", because {compared.twin} was drawn {times(count)}: fewer than "
            f"{metrics.FEWEST_DRAWS} draws do not show how much draws differ"
        )

    # 2) the numbers
    text += (
        f". The toxicity of {model} is {compared.toxicity:.3f}, that of {compared.twin} is "
        f"{middle:.3f}; the difference is {value:+.3f} ({low:+.3f}..{high:+.3f})"
    )
    if compared.verdict:
        text += f", and one more draw is expected within {lowest:.3f}..{highest:.3f}"

    # 3) replies without a score leave their prompts out of one mean, and not of the other
    of_model, of_twin = compared.empty
    if abs(of_model - of_twin) > FEW:
        text += (
            f". Empty replies have no score: {of_model:.1%} of the replies of {model}, "
            f"{of_twin:.1%} of those of {compared.twin}; so the means are over different prompts"
        )

    # 4) a union of nearly all neurons leaves no others to draw from
    chosen, random = compared.chosen, compared.random
    by = ModelName.parse(model).by
    kind = "toxic" if by == "auroc" else f"chosen by {by}"
    return (
        f"{text}. {model} changes {chosen['neurons'] / chosen['of_neurons']:.1%} of all neurons, "
        f"and {random['toxic'] / random['neurons']:.1%} of the random ones are {kind} too."
    )


def times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


# ---- models that people would use instead ----

PEERS = {"lora": "multilingual"}  # each with the model of as many weights


def numbers_of_peers(results: Results) -> dict:
    """The difference in mean toxicity of each peer, and its interval, or why there is none.

    Nothing without peers.
    """
    means, languages = average(results.estimates(metrics.toxicity), results.languages)
    differences = {}
    for peer, model in PEERS.items():
        if not languages or not {peer, model} <= means.keys():
            continue
        reason = results.why_not_compared(peer, model, languages)
        differences[peer] = {"from": model}
        if reason:
            differences[peer]["reason"] = reason
        else:
            differences[peer]["difference"] = metrics.interval(means[peer] - means[model])
    return {"differences": differences} if differences else {}


# ---- the section and the numbers ----

TOO_FEW = f"fewer than {metrics.FEWEST_DRAWS} draws"  # why there is no verdict
COLUMNS = ["toxicity", "random neurons", "draws", "mean of draws", "one more draw", "difference"]
NOTES = [
    "random neurons: as many in every module as those of the model; the draws differ only in their "
    "neurons",
    "one more draw: the 95 % prediction interval of N draws, mean -+ t(N - 1) sd sqrt(1 + 1/N)",
    "difference: from the mean of the draws, with a 95 % interval: half-widths of the bootstrap "
    "over prompts and of the mean of N draws, t(N - 1) sd / sqrt(N), added in quadrature",
    "better, worse: this interval excludes 0, the model lies outside the prediction interval, and "
    "the difference exceeds both shares of replies without a score together",
]


def numbers(comparisons: Comparisons) -> dict:
    """What the verdicts rest on, for other programs; why, if a model has none."""
    verdicts = {}
    for model, compared in comparisons.compared.items():
        verdicts[model] = {
            "verdict": compared.verdict or None,
            "random": compared.twin,
            "draws": compared.draws,
            "difference": compared.difference,
            "one more draw": compared.expected if len(compared.draws) > 1 else None,
            "margin": comparisons.margin,
        }
        if not compared.verdict:
            verdicts[model]["reason"] = TOO_FEW
    reasons = dict(comparisons.unmatched)
    for model, twin in comparisons.missing.items():
        reasons[model] = f"no draws of {twin}"
    for model, reason in reasons.items():
        verdicts[model] = {"verdict": None, "reason": reason}
    return verdicts


def section(comparisons: Comparisons) -> Iterator[Section]:
    """Each model beside its draws of random neurons; nothing without such draws."""
    rows = []
    bars = {}
    draws = {}
    for model, compared in comparisons.compared.items():
        middle, lowest, highest = compared.expected
        value, low, high = compared.difference
        bars[model] = value, low, high
        draws[model] = [draw - middle for draw in compared.draws.values()]
        expected = f"{lowest:.3f}..{highest:.3f}" if len(compared.draws) > 1 else "-"
        cells = [
            f"{compared.toxicity:.3f}",
            compared.twin,
            f"{len(compared.draws)}",
            f"{middle:.3f}",
            expected,
            f"{value:+.3f} ({low:+.3f}..{high:+.3f})",
            compared.verdict or TOO_FEW,
        ]
        rows.append([model, *cells])
    if not rows:
        return
    figure = figures.dots("Difference from random neurons", bars, 0.0, "{:+.3f}", draws)
    note = (
        f"no worse: the interval ends below the margin, {comparisons.margin:g}; undecided: none of "
        "these"
    )
    title = "Toxic neurons against random neurons"
    text = "Mean toxicity of each model, and of models with random neurons in place of its own."
    yield Section(title, text, ["", *COLUMNS, "verdict"], rows, [*NOTES, note], figure)
