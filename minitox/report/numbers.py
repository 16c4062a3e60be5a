"""report.json: the main results of the report, for other programs to read."""

import math
from dataclasses import replace

from minitox.evaluate import metrics
from minitox.report import exaggerated_safety, trade_off, verdicts
from minitox.report.results import Results, average, for_all, mean_over
from minitox.report.scorer_tables import Opinion


def all_measures(opinions: list[Opinion], comparisons: verdicts.Comparisons) -> dict:
    """[estimate, low, high] for other programs to read: of each measure, model and language.

    Models are those of the report, every draw and every rate. Also of each scorer's AUC and
    language; the draws, and the verdicts on neurons.
    """
    # 1) means, also over all languages of the report's models
    results = opinions[0].results
    each = replace(results, apart=True)
    toxicity = results.estimates(metrics.toxicity)
    _, languages = average(toxicity, results.languages)
    toxicity |= each.estimates(metrics.toxicity)
    means = mean_over(languages, toxicity)
    measures = {
        "toxicity": for_all(lambda _, of_language: metrics.interval(of_language), toxicity),
        "mean toxicity": {model: metrics.interval(mean) for model, mean in means.items()},
        "languages of the mean": languages,
    }

    # 2) shares
    sizes = results.prompts() | each.prompts()
    for category in metrics.SAFETY:
        shares = results.shares(category) | each.shares(category)
        measures[category] = with_intervals(shares, sizes)

    # 3) what tuning costs; of several draws, the first alone was asked and read everything
    measures |= prices(each)

    # 4) how the models are compared, and the scorers
    measures["draws"] = {model: names for model, names in results.shown.items() if names != [model]}
    measures["verdicts"] = verdicts.numbers(comparisons)
    measures |= verdicts.numbers_of_peers(results)
    measures["rates"] = trade_off.numbers(results)
    aucs = {opinion.scorer.name: opinion.aucs for opinion in opinions}
    return as_json(measures | {"scorers": aucs})


def prices(results: Results) -> dict:
    """{measure: {model: {language: value}}}, of knowledge, clean text and exaggerated safety."""
    measures = {}
    if any(results.answers.values()):
        measures["accuracy"] = with_intervals(results.accuracy("reply"), results.questions())
    for name in ("perplexity", "divergence"):
        values = results.together(getattr(results, name))
        if any(values.values()):
            measures[name] = values
    return measures | exaggerated_safety.numbers(results)


def with_intervals(shares: dict, sizes: dict) -> dict:
    """Shares and their 95 % Wilson intervals, given {model: {language: (1 + W,)}} and counts."""
    values = {}
    for model, by_language in shares.items():
        values[model] = {}
        for language, means in by_language.items():
            values[model][language] = metrics.wilson(means[0], sizes[model][language])
    return values


def as_json(values):
    """The same, with None for NaN and infinity, which JSON does not have."""
    if isinstance(values, dict):
        return {name: as_json(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [as_json(value) for value in values]
    if isinstance(values, float) and not math.isfinite(values):
        return None
    return values
