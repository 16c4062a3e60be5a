"""The beginning of the report: the question, the answer in a few sentences, and one figure."""

import numpy as np

from minitox.evaluate import metrics
from minitox.report import training_tables, verdicts
from minitox.report.page import Section
from minitox.report.results import Results, average
from minitox.report.summary import differences_from_base, warning
from minitox.train.model_names import ModelName
from minitox.train.strategies import DRAWN, SCALED

QUESTION = (
    "Does changing only the neurons that respond to toxic text make the replies of this model less "
    "toxic, and at what price?"
)
# the answer is that of the first one that there is
STRATEGIES = ("multilingual", "per-language", *(name for name in SCALED if name not in DRAWN))
# what the price names of the replies: a category, and its words
REPLIES = {
    "broken": "are clean but broken",
    "wrong language": "are in another language",
    "empty": "are empty",
    "clean in language": "are clean in language",
}
CHOICES = {
    "better": "Choosing these neurons helps",
    "worse": "Choosing these neurons does harm",
    "no worse": "Choosing these neurons is not shown to help",
    "undecided": "Whether choosing these neurons helps is undecided",
    "": f"Whether choosing these neurons helps is not known ({verdicts.TOO_FEW})",
}


def section(
    results: Results,
    comparisons: verdicts.Comparisons,  # of the models with random neurons
    warnings: list[str],  # paragraphs on scorers not to rely on
    doubts: list[str],  # paragraphs on other scorers, and on fluency
    figure: str = "",  # of all replies by category
) -> Section:
    """Question, warnings, answer, doubts, each a paragraph or several."""
    # of several draws, any may have diverged
    shown = [name for names in results.shown.values() for name in names]
    trainings = {name: results.trainings[name] for name in shown if name != "base"}
    worse = training_tables.got_worse(trainings)
    warnings = [*warning(results, results.shown), *warnings, *training_tables.too_high(worse)]
    text = [QUESTION, *warnings, *answer(results, comparisons), *doubts]
    return Section("Question and answer", "\n\n".join(text), figure=figure)


def answer(results: Results, comparisons: verdicts.Comparisons) -> list[str]:
    """Paragraphs: what changed, whether the choice of neurons matters, and the price."""
    means, languages = average(results.estimates(metrics.toxicity), results.languages)
    if not languages:
        return ["Not known: no language has a score for every model."]
    model = subject(means)
    if model is None:
        return ["Not known: no model in this report changed toxic neurons alone."]
    differences, unmatched = differences_from_base(means, languages, results)
    if model not in differences:
        reason = unmatched.get(model, "base is not in this report")
        return [f"Not known: {model} is not compared with base ({reason})."]
    changed = effect(model, means, differences, results.tuned[model]["chosen"])
    if "full" in differences and not results.why_not_compared("full", model, languages):
        changed += f" Tuning all weights (full) gives {means['full'][0]:.3f}."
    return [changed, choice_of_neurons(model, comparisons), *price(model, results)]


def subject(models) -> str | None:
    """The model that the question is about; None if there is none."""
    for strategy in STRATEGIES:
        names = []
        for model in models:
            parts = ModelName.parse(model)
            # without the models at several rates of which none was chosen
            if parts.strategy == strategy and parts.by == "auroc" and parts.rate is None:
                names.append(model)
        if names:
            # the one without a prefix, which has the default objective
            return min(names, key=len)
    return None


# ---- the sentences ----


def effect(
    model: str,
    means: dict,  # {model: mean toxicity (1 + W,)}
    differences: dict,  # from base
    chosen: dict,  # what run.json says of the neurons
) -> str:
    """Whether the model is less toxic than base."""
    value, low, high = metrics.interval(differences[model])
    start = "Not shown"
    if high < 0:
        start = "Yes, less toxic"
    elif low > 0:
        start = "No, more toxic"
    share = chosen["neurons"] / chosen["of_neurons"]
    return (
        f"{start}: {model} changes {share:.1%} of all neurons, and the mean toxicity of its "
        f"replies is {means[model][0]:.3f}, that of base {means['base'][0]:.3f}; the difference is "
        f"{value:+.3f} (95 % interval {low:+.3f}..{high:+.3f})."
    )


def choice_of_neurons(model: str, comparisons: verdicts.Comparisons) -> str:
    """The verdict on these neurons, or why there is none."""
    reason = comparisons.unmatched.get(model)
    if model in comparisons.missing:
        reason = f"{comparisons.missing[model]} is not in this report"
    if reason:
        return f"Whether choosing these neurons helps is not known: {reason}."
    compared = comparisons.compared[model]
    text = f"{CHOICES[compared.verdict]}: the same number of random neurons gives "
    text += f"{compared.expected[0]:.3f}."
    of_model, of_random = compared.empty
    if abs(of_model - of_random) > verdicts.FEW:
        text += (
            f" The means are over different prompts, because empty replies have no score: "
            f"{of_model:.1%} of {model}, {of_random:.1%} with random neurons."
        )
    return text


def price(model: str, results: Results) -> list[str]:
    """Which replies are not as desired, and what is left of knowledge; nothing without replies."""
    # 1) replies
    parts = []
    for category, words in REPLIES.items():
        shares, _ = average(results.shares(category), results.languages)
        of_model, of_base = (shares[name][0] for name in (model, "base"))
        if np.isnan(of_model):
            return []
        part = f"{of_model:.1%} {words}"
        if category != "broken":  # only clean replies can be, of which a toxic base has few
            part += f" (base {of_base:.1%})"
        parts.append(part)
    text = f"Of its replies, {', '.join(parts[:-1])}; {parts[-1]}."

    # 2) knowledge
    accuracy, languages = average(results.accuracy("reply"), languages_of(results.answers))
    if languages and model in accuracy and "base" in accuracy:
        right = [accuracy[name][0] for name in (model, "base")]
        text += " Accuracy on MMLU: {:.1%} (base {:.1%}).".format(*right)
    return [text]


def languages_of(values: dict) -> list[str]:
    """The languages of {model: {language: value}} of any model."""
    return list(dict.fromkeys(language for of_model in values.values() for language in of_model))
