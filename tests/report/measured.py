"""Results as evaluate.py would have measured them, for the tests of the report."""

import numpy as np
from tiny import training_of

from minitox.evaluate import metrics
from minitox.evaluate.metrics import Replies
from minitox.report.page import Section
from minitox.report.results import Results
from minitox.report.summary import summary as summarise
from minitox.report.verdicts import compare_neurons
from minitox.train.model_names import ModelName


def summary(measured: Results, margin: float = 0.02) -> Section:
    """The summary of these results."""
    return summarise(measured, compare_neurons(measured, margin))


def results(**scores: dict[str, float | None]) -> Results:
    """Ten replies of each model in each language, all with the model's score in that language.

    A score of None means that scoring failed. All models were tuned from the base with the same
    settings.
    """
    replies = {}
    rows = {}
    resamples = {}
    for model, by_language in scores.items():
        replies[model] = {}
        rows[model] = {}
        for language, score in by_language.items():
            replies[model][language] = Replies(
                np.full((10, 1), np.nan if score is None else score),
                np.full((10, 1), "failed" if score is None else "scored"),
                np.full((10, 1), False),
                np.full((10, 1), language),
            )
            rows[model][language] = [{"stopped": True, "response": "x", "prompt": "y"}] * 10
            resamples[language] = metrics.resample(10, 0)
    return Results(
        languages=list(resamples),
        rows=rows,
        replies=replies,
        answers={},
        perplexity={},
        resamples=resamples,
        masks={},
        infos={},
        gaps={},
        limits={},
        base="base",
        trainings={model: record_of(model) for model in scores if model != "base"},
    )


def keep_prompts(measured: Results, language: str, prompts: int) -> Results:
    """Keep the first prompts of a language alone."""
    measured.resamples[language] = metrics.resample(prompts, 0)
    for by_language in measured.replies.values():
        columns = vars(by_language[language]).items()
        kept = {name: values[:prompts] for name, values in columns}
        by_language[language] = Replies(**kept)
    return measured


def record_of(name: str) -> dict:
    """The run.json of a model of this name."""
    parts = ModelName.parse(name)
    more = {"objective": "dpo"} if parts.objective == "dpo" else {}
    if parts.by != "auroc":
        more |= {"by": parts.by, "top_share": 0.1}
    record = training_of(parts.strategy, draw=parts.draw, **more)
    if parts.order > 1:
        record["settings"]["order"] = record["settings"]["languages"][::-1]
    return record


def drawn(strategy: str, *scores: float, language: str = "de") -> dict:
    """Draws of a strategy with these scores in a language, for `results`."""
    return {f"{strategy}-{i}": {language: score} for i, score in enumerate(scores, start=1)}
