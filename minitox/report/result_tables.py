"""The paper's tables and figures of the results, and more columns; every function gives sections.

Table 2 and Figures 2 and 3 are in neuron_tables.py.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np

from minitox.evaluate import metrics
from minitox.evaluate.metrics import interval
from minitox.evaluate.mmlu import CHANCE
from minitox.languages import HELD_OUT, NAMES, TUNED
from minitox.report import figures
from minitox.report.page import Section
from minitox.report.results import Estimates, Results, average, for_all

# the paper has a table of each
PARTS = {"tuned": TUNED, "held-out": HELD_OUT}

# ---- cells and columns ----


def cell(means, form: str = ".3f") -> str:  # (1 + W,)
    """An estimate and its interval; a dash if there is none."""
    value, low, high = interval(means)
    if np.isnan(value):
        return "-"
    return f"{value:{form}} ({low:{form}}..{high:{form}})"


def cells(means: dict, form: str = ".3f") -> dict[str, str]:
    return {name: cell(mean, form) for name, mean in means.items()}


def grid(columns: dict[str, dict[str, str]], labels) -> tuple[list, list]:
    """Names of columns and rows of cells from {column: {label: cell}}; a dash for no cell."""
    rows = []
    for label in labels:
        rows.append([label, *(column.get(label, "-") for column in columns.values())])
    return ["", *columns], rows


def language_table(
    title: str,
    estimates: Estimates,
    languages,  # the rows, as far as a model has them
    text: str = "",
    form: str = ".3f",  # of our numbers
    notes=(),
    paper: dict[str, dict] | None = None,  # the paper's numbers, {model: {language: number}}
) -> Section:
    """A row a language and a column a model; the average is last, the paper's are on the right."""
    # 1) our columns
    known = set().union(*estimates.values())
    languages = [language for language in languages if language in known]
    means, common = average(estimates, languages)
    columns = {}
    for model, by_language in estimates.items():
        columns[model] = cells({**by_language, "average": means[model]}, form)

    # 2) the paper's
    for model, numbers in (paper or {}).items():
        column = {language: f"{number:g}" for language, number in numbers.items()}
        column["average"] = average_of_paper(numbers, common)
        columns[f"paper: {model}"] = column

    # 3) the languages that are not in the average
    notes = list(notes)
    left_out = [language for language in languages if language not in common]
    if left_out:
        codes = ", ".join(left_out)
        notes.append(f"Not in the average, because at least one model has no value: {codes}.")
    return Section(title, text, *grid(columns, [*languages, "average"]), notes)


# ---- the paper's numbers ----


def papers(config) -> tuple[str, dict]:
    """The paper's name and numbers for the base model; ("", {}) if it is not the paper's."""
    path = Path(__file__).with_name("paper.json")
    models = json.loads(path.read_text(encoding="utf-8"))
    for name, numbers in models.items():
        if all(getattr(config, key) == value for key, value in numbers["config"].items()):
            return name, numbers
    return "", {}


def average_of_paper(numbers: dict[str, float], languages: list[str]) -> str:
    """The paper's mean over the same languages as ours; a dash if it lacks one of them."""
    if not languages or not numbers.keys() >= set(languages):
        return "-"
    return f"{np.mean([numbers[language] for language in languages]):.4g}"


# ---- toxicity ----


def toxicity_tables(results: Results, paper: dict) -> list[Section]:
    """Mean toxicity of the replies that have a score.  [paper Tables 3 and 4]"""
    text = (
        "Mean score of the replies that have one, with a 95 % bootstrap interval over prompts. "
        "Empty replies are left out, because the Perspective API refuses them; a table below "
        "counts them in other ways."
    )
    sections = []
    estimates = results.estimates(metrics.toxicity)
    for number, (part, languages) in enumerate(PARTS.items(), start=3):
        if set(languages) & set(results.languages):
            title = f"Table {number}. Toxicity of replies, {part} languages"
            sections.append(
                language_table(title, estimates, languages, text, paper=paper.get("toxicity"))
            )
    return sections


def empties(results: Results) -> Section:
    """The same averages under every way to count an empty reply."""
    # a row for each policy and part
    rows = []
    for policy, score in metrics.POLICIES.items():
        estimates = results.estimates(partial(metrics.toxicity, empty=score))
        for part, languages in PARTS.items():
            means, _ = average(estimates, languages)
            rows.append([f"{policy}, {part}", *cells(means).values()])
    text = (
        "The paper does not say how it counts empty replies. A model whose replies are often empty "
        "looks harmless in some of these rows."
    )
    columns = ["an empty reply counts", *results.replies]
    return Section("What an empty reply counts as", text, columns, rows)


def safety(results: Results) -> Section:
    """Which replies are clean and in the prompt's language, as desired, and what the others are."""
    # 1) {category: {model: mean over languages (1 + W,)}}
    means = {}
    for category in metrics.SAFETY:
        means[category], _ = average(results.shares(category), results.languages)

    # 2) a bar of the estimates for each model, and a row with the intervals
    bars = {}
    for model in results.replies:
        bars[model] = {category: float(means[category][model][0]) for category in means}
    columns = {category: cells(means[category], ".1%") for category in means}
    return Section(
        "Effective safety",
        f"Share of replies in each category, mean over {len(results.languages)} languages; a reply "
        f"is toxic if its score is {metrics.TOXIC} or more.",
        *grid(columns, results.replies),
        notes=["unclear: too short or too mixed for the language detector, or without a score"],
        figure=figures.stacked_bars("Effective safety", bars, metrics.SAFETY),
    )


def several_samples(results: Results, samples: int) -> list[Section]:
    """Two measures of the worst reply, if several replies were sampled for each prompt."""
    # the worst of one reply is that reply
    if samples == 1:
        return []
    return [
        language_table(
            "Expected maximum toxicity",
            results.estimates(metrics.worst),
            results.languages,
            "Mean over prompts of the highest score among a prompt's samples.",
        ),
        language_table(
            "Toxicity probability",
            results.estimates(metrics.ever_toxic),
            results.languages,
            f"Share of prompts with at least one sample of {metrics.TOXIC} or more.",
        ),
    ]


# ---- languages, knowledge, perplexity ----


def response_languages(results: Results, fewer: int) -> list[Section]:
    """In which languages each model replies.  [paper Figures 4 and 5, §5.1]"""
    # 1) {model: {language of the prompts: {category: share}}}
    shares = for_all(
        lambda language, replies: metrics.language_shares(replies, language, fewer),
        results.replies,
    )

    # 2) the categories in an order that is the same for both figures
    seen = set()
    for by_language in shares.values():
        seen.update(*by_language.values())
    order = [name for name in ("self", "empty", "unclear", "others") if name in seen]
    order += sorted(seen.difference(order))

    # 3) a figure for the tuned languages, and one for the others
    sections = []
    for number, (part, languages) in enumerate(PARTS.items(), start=4):
        rows = []
        panels = ""
        for model, by_language in shares.items():
            # a chart for each model
            bars = {code: by_language[code] for code in languages if code in by_language}
            panels += figures.stacked_bars(model, bars, order)
            # one table for all models
            for language, parts in bars.items():
                cells_of_row = [f"{parts.get(name, 0):.1%}" for name in order]
                rows.append([f"{model}, {language}", *cells_of_row])
        if rows:
            title = f"Figure {number}. Languages of the replies, {part} languages"
            notes = [categories_note(fewer)]
            sections.append(Section(title, "", ["", *order], rows, notes, panels))
    return sections


def categories_note(fewer: int) -> str:
    return (
        "self: the prompt's language; empty: the paper's NaN; others: languages with fewer than "
        f"{fewer} replies to the prompts of a language; unclear: the detector abstained, which the "
        "paper's never does"
    )


def knowledge(results: Results, paper: dict) -> list[Section]:
    """Accuracy on multilingual MMLU, in two readings of the answers.  [paper Table 5]"""
    if not any(results.answers.values()):
        return []
    # the paper gives percentages
    theirs = for_all(lambda language, percent: percent / 100, paper.get("mmlu", {}))
    chance = [f"chance: {CHANCE:.0%}, if every answer is a letter"]
    table = partial(language_table, languages=NAMES, form=".1%")
    return [
        table(
            "Table 5. Geography, the answer in the reply",
            results.accuracy("generated"),
            notes=chance,
            paper=theirs,
        ),
        table(
            "Table 5, in another reading: the most likely letter",
            results.accuracy("likeliest"),
            notes=chance,
        ),
        table("Replies without an answer", results.accuracy("no answer")),
    ]


def perplexities(results: Results) -> list[Section]:
    """The perplexity of clean text of each language."""
    columns = for_all(lambda language, value: f"{value:,.2f}", results.perplexity)
    # not measured with --perplexity 0
    known = set().union(*columns.values())
    if not known:
        return []
    languages = [language for language in NAMES if language in known]
    text = "Per token, over all sentences of a language together."
    return [Section("Perplexity of clean sentences", text, *grid(columns, languages))]
