"""The paper's tables and figures from what was measured, with the columns that the paper lacks; every function gives sections."""

import json
from pathlib import Path

import numpy as np

from minitox.evaluate import metrics
from minitox.evaluate.metrics import interval
from minitox.evaluate.mmlu import CHANCE
from minitox.languages import HELD_OUT, NAMES, TUNED
from minitox.report import figures
from minitox.report.page import Section
from minitox.report.results import Results, average

PARTS = {"tuned": TUNED, "held-out": HELD_OUT}


def cell(means, form: str = ".3f") -> str:
    """An estimate and its interval, a dash if there is none."""
    value, low, high = interval(means)
    return "-" if np.isnan(value) else f"{value:{form}} ({low:{form}}..{high:{form}})"


def cells(means: dict, form: str = ".3f") -> dict[str, str]:
    return {name: cell(mean, form) for name, mean in means.items()}


def grid(columns: dict[str, dict[str, str]], labels) -> dict[str, list]:
    """A section's columns, and its rows in the order of `labels`, from {column: {label: cell}}; a dash where there is no cell."""
    rows = [[label, *(found.get(label, "-") for found in columns.values())] for label in labels]
    return {"columns": ["", *columns], "rows": rows}


def papers(config) -> tuple[str, dict]:
    """The paper's name for the base model and its numbers; ("", {}) for a model that the paper does not have."""
    known = json.loads(Path(__file__).with_name("paper.json").read_text(encoding="utf-8"))
    fitting = (
        paper
        for paper in known.items()
        if all(getattr(config, key) == value for key, value in paper[1]["config"].items())
    )
    return next(fitting, ("", {}))


def by_language(
    title: str, estimates, languages, paper: dict, text: str = "", form: str = ".3f", notes=()
) -> Section:
    """A row a language and a column a model, the mean over languages last, the paper's numbers on the right."""
    languages = [
        language for language in languages if any(language in by for by in estimates.values())
    ]
    means, common = average(estimates, languages)
    columns = {
        model: cells({**by, "average": means[model]}, form) for model, by in estimates.items()
    }
    for model, numbers in paper.items():
        theirs = {language: f"{number:g}" for language, number in numbers.items()}
        columns[f"paper: {model}"] = {**theirs, "average": papers_average(numbers, common)}
    left_out = [language for language in languages if language not in common]
    if left_out:
        notes = [
            *notes,
            f"Not in the average, because a model has nothing there: {', '.join(left_out)}.",
        ]
    return Section(title, text, **grid(columns, [*languages, "average"]), notes=list(notes))


def papers_average(numbers: dict[str, float], languages: list[str]) -> str:
    """The paper's mean over the same languages as ours, or a dash if it lacks one of them."""
    known = [numbers[language] for language in languages if language in numbers]
    return f"{np.mean(known):.4g}" if languages and len(known) == len(languages) else "-"


def toxicity_tables(results: Results, paper: dict) -> list[Section]:
    """Mean toxicity of the replies that have a score.  [paper Tables 3 and 4]"""
    estimates = results.estimates(metrics.toxicity)
    text = (
        "Mean score of all replies that have one, with the 95 % interval of resampled prompts. Empty replies are left out here, "
        "as the Perspective API refuses them; the next table counts them in other ways."
    )
    return [
        by_language(
            f"Table {number}. Toxicity of replies, {part} languages",
            estimates,
            languages,
            paper.get("toxicity", {}),
            text,
        )
        for number, (part, languages) in enumerate(PARTS.items(), start=3)
        if set(languages) & set(results.languages)
    ]


def empties(results: Results) -> Section:
    """The same averages under every way to count an empty reply."""
    rows = []
    for policy, value in metrics.POLICIES.items():
        estimates = results.estimates(lambda replies: metrics.toxicity(replies, value))
        rows += [
            [f"{policy}, {part}", *cells(average(estimates, chosen)[0]).values()]
            for part, chosen in PARTS.items()
        ]
    text = "The paper does not say. A model that falls silent looks harmless in some of these rows."
    return Section(
        "What an empty reply counts as", text, ["an empty reply counts", *results.replies], rows
    )


def safety(results: Results) -> Section:
    """What each reply is: only clean in the prompt's language is what was wanted."""
    means = {name: average(results.shares(name), results.languages)[0] for name in metrics.SAFETY}
    columns = {name: cells(mean, ".1%") for name, mean in means.items()}
    bars = {
        model: {name: float(mean[model][0]) for name, mean in means.items()}
        for model in results.replies
    }
    text = f"Replies by what they are, mean over {len(results.languages)} languages; toxic is a score of {metrics.TOXIC} or more."
    notes = ["unclear: too short or too mixed for the language detector, or without a score"]
    return Section(
        "Effective safety",
        text,
        **grid(columns, results.replies),
        notes=notes,
        figure=figures.stacked_bars("Effective safety", bars, metrics.SAFETY),
    )


def several_samples(results: Results, samples: int) -> list[Section]:
    """Expected maximum toxicity and toxicity probability, if several replies were drawn for each prompt."""
    if samples == 1:
        return []
    return [
        by_language(
            "Expected maximum toxicity",
            results.estimates(metrics.worst),
            results.languages,
            {},
            "Mean over prompts of the highest score among a prompt's samples.",
        ),
        by_language(
            "Toxicity probability",
            results.estimates(metrics.ever_toxic),
            results.languages,
            {},
            f"Share of prompts with a sample of {metrics.TOXIC} or more.",
        ),
    ]


def response_languages(results: Results, fewer: int) -> list[Section]:
    """In which language each model replies.  [paper Figures 4 and 5, §5.1]"""
    shares = {
        model: {
            language: metrics.language_shares(replies, language, fewer)
            for language, replies in by.items()
        }
        for model, by in results.replies.items()
    }
    seen = {name for by in shares.values() for parts in by.values() for name in parts}
    first = [name for name in ("self", "empty", "unclear", "others") if name in seen]
    order, sections = first + sorted(seen.difference(first)), []
    note = (
        f"self: the prompt's language; empty: the paper's NaN; others: languages seen fewer than {fewer} times for a prompt "
        "language; unclear: the detector abstained, which the paper's cannot"
    )
    for number, (part, languages) in enumerate(PARTS.items(), start=4):
        chosen = {
            model: {language: by[language] for language in languages if language in by}
            for model, by in shares.items()
        }
        rows = [
            [f"{model}, {language}", *(f"{parts.get(name, 0):.1%}" for name in order)]
            for model, by in chosen.items()
            for language, parts in by.items()
        ]
        if rows:
            panels = "".join(figures.stacked_bars(model, by, order) for model, by in chosen.items())
            title = f"Figure {number}. Languages of the replies, {part} languages"
            sections.append(Section(title, "", ["", *order], rows, [note], panels))
    return sections


def knowledge(results: Results, paper: dict) -> list[Section]:
    """Accuracy on multilingual MMLU, in two readings, with the share of replies in which no answer was found.  [paper Table 5]"""
    if not any(results.right.values()):
        return []
    theirs = {
        model: {language: value / 100 for language, value in by.items()}
        for model, by in paper.get("mmlu", {}).items()
    }
    chance = [f"chance: {CHANCE:.0%}, if a letter is always given"]
    generated, likeliest, missing = (
        results.accuracy(name) for name in ("generated", "likeliest", "no answer")
    )
    return [
        by_language(
            "Table 5. Geography, the answer in the reply",
            generated,
            NAMES,
            theirs,
            form=".1%",
            notes=chance,
        ),
        by_language(
            "Table 5, read otherwise: the likeliest letter",
            likeliest,
            NAMES,
            {},
            form=".1%",
            notes=chance,
        ),
        by_language("Replies without an answer", missing, NAMES, {}, form=".1%"),
    ]


def perplexities(results: Results) -> list[Section]:
    """How surprised each model is by clean text of each language."""
    languages = [
        language for language in NAMES if any(language in by for by in results.perplexity.values())
    ]
    columns = {
        model: {language: f"{value:,.2f}" for language, value in by.items()}
        for model, by in results.perplexity.items()
    }
    text = "Per token, all sentences of a language together."
    return (
        [Section("Perplexity of clean sentences", text, **grid(columns, languages))]
        if languages
        else []
    )
