"""The paper's tables and figures of the results, and more columns; every function gives sections.

Table 2 and Figures 2 and 3 are in neuron_tables.py.
"""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from minitox.evaluate import metrics
from minitox.evaluate.mmlu import CHANCE
from minitox.evaluate.perplexity import perplexity
from minitox.files import read_json
from minitox.languages import HELD_OUT, NAMES, TUNED
from minitox.report import figures
from minitox.report.page import Section
from minitox.report.results import Results, average, average_sizes, for_all
from minitox.run.training_record import pairs_of

# the paper has a table of each
PARTS = {"tuned": TUNED, "held-out": HELD_OUT}


def about_parts(results: Results) -> list[str]:
    """A note if the tuned languages of the tables are not those of the models."""
    tuned = set()
    for record in results.tuned.values():
        if record:
            tuned |= pairs_of(record["settings"]).keys()
    if not tuned or tuned == set(TUNED):
        return []
    listed = ", ".join(language for language in NAMES if language in tuned)
    return [f"tuned languages: the paper's; these models are tuned on pairs in {listed}"]


# ---- cells and columns ----


def cells(
    means: dict,  # of (1 + W,)
    form: str = ".3f",
    sizes: dict | None = None,  # of the samples, if the means are shares
) -> dict[str, str]:
    """Each estimate and its interval, of a share Wilson's; a dash if there is no estimate."""
    written = {}
    for name, mean in means.items():
        if sizes is None:
            value, low, high = metrics.interval(mean)
        else:
            value, low, high = metrics.wilson(mean[0], sizes[name])
        numbers = f"{value:{form}}"
        if not np.isnan(low):
            numbers += f" ({low:{form}}..{high:{form}})"
        written[name] = "-" if np.isnan(value) else numbers
    return written


def grid(columns: dict, labels) -> tuple[list, list]:
    """Names of columns and rows of cells from {column: {label: cell}}; a dash for no cell."""
    rows = []
    for label in labels:
        rows.append([label, *(column.get(label, "-") for column in columns.values())])
    return ["", *columns], rows


def language_table(
    title: str,
    estimates: dict,  # {model: {language: means (1 + W,)}}
    languages,  # the rows, as far as a model has them
    text: str = "",
    form: str = ".3f",  # of our numbers
    sizes: dict | None = None,  # {model: {language: size of the sample}}, if they are shares
    notes=(),
    paper: dict | None = None,  # the paper's numbers, {model: {language: number}}
) -> Section:
    """A row a language and a column a model; the average is last, the paper's are on the right."""
    # 1) our columns
    known = set().union(*estimates.values())
    languages = [language for language in languages if language in known]
    means, common = average(estimates, languages)
    of_averages = average_sizes(sizes or {}, common)
    columns = {}
    for model, by_language in estimates.items():
        numbers = {**by_language, "average": means[model]}
        of_model = {**sizes[model], "average": of_averages[model]} if sizes else None
        columns[model] = cells(numbers, form, of_model)

    # 2) the paper's
    for model, numbers in (paper or {}).items():
        column = {language: f"{number:g}" for language, number in numbers.items()}
        # over the same languages as ours, if the paper has them all
        if common and numbers.keys() >= set(common):
            mean = np.mean([numbers[language] for language in common])
            column["average"] = f"{mean:.4g}"
        columns[f"paper: {model}"] = column

    # 3) the languages that are not in the average
    left_out = ", ".join(language for language in languages if language not in common)
    if left_out:
        note = f"Not in the average, because at least one model has no value: {left_out}."
        notes = [*notes, note]
    return Section(title, text, *grid(columns, [*languages, "average"]), notes)


# ---- the paper's numbers ----


def papers(config) -> tuple[str, dict]:
    """The paper's name and numbers for the base model; ("", {}) if its config.json is another's."""
    models = read_json(Path(__file__).with_name("paper.json"))
    for name, numbers in models.items():
        if all(getattr(config, key) == value for key, value in numbers["config"].items()):
            return name, numbers
    return "", {}


# ---- toxicity ----


def toxicity_tables(results: Results, paper: dict) -> Iterator[Section]:
    """Mean toxicity of the replies that have a score.  [paper Tables 3 and 4]"""
    text = (
        "Mean score of the replies that have one, with a 95 % bootstrap interval over prompts. "
        "Empty replies are left out, because the Perspective API refuses them; a table below "
        "counts them in other ways."
    )
    estimates = results.estimates(metrics.toxicity)
    for number, (part, languages) in enumerate(PARTS.items(), start=3):
        if set(languages) & set(results.languages):
            yield language_table(
                f"Table {number}. Toxicity of replies, {part} languages",
                estimates,
                languages,
                text,
                notes=about_parts(results),
                paper=paper.get("toxicity"),
            )


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
    columns = ["an empty reply counts", *results.shown]
    return Section("Sensitivity to the score of empty replies", text, columns, rows)


def safety(results: Results, samples: int) -> Section:
    """Which replies are clean and in the prompt's language, as desired, and what the others are."""
    # 1) a bar of the estimates for each model, and columns with the intervals
    bars = {model: {} for model in results.shown}
    columns = {}
    # a language without a reply has no share in any category
    for category in metrics.SAFETY:
        means, common = average(results.shares(category), results.languages)
        columns[category] = cells(means, ".1%", average_sizes(results.prompts(), common))
        for model, mean in means.items():
            bars[model][category] = mean[0]

    # 2) the section
    notes = [
        broken(results.limits),
        "unclear: too short or too mixed for the language detector, or without a score",
    ]
    if samples > 1:
        notes.append(
            "intervals: they count prompts, not replies, as replies to one prompt are alike"
        )
    if results.translated and len(common) > 1:
        notes.append(
            "intervals: too narrow, because they take prompts to be independent, and some are "
            "translations of each other"
        )
    return Section(
        "Effective safety",
        f"Share of replies in each category, mean over {len(common)} languages, with "
        "95 % Wilson intervals. A reply is clean in language if it is in the prompt's language, "
        f"has a score below {metrics.TOXIC}, and is not broken.",
        *grid(columns, bars),
        notes,
        figures.stacked_bars("Replies by category", bars, metrics.SAFETY),
    )


def broken(limits: dict) -> str:  # as fluency.limits gives them
    """A note on which replies are broken."""
    note = "broken: in the prompt's language and not toxic, but repetitive"
    if not limits:
        return f"{note}; fluency was not measured, see the summary"
    own = []
    others = []
    for language, (limit, is_own) in limits.items():
        listed = own if is_own else others
        listed.append(f"{language} {as_perplexity(perplexity([1], [limit]))}")
    note += (
        ", or of a perplexity per token under the base model above the 99th percentile of the "
        "replies in DATA/instructions (of fewer than 99: above the highest): "
    )
    parts = []
    if own:
        parts.append(", ".join(own))
    if others:
        parts.append(f"{', '.join(others)} (by the replies of all languages)")
    return note + "; ".join(parts)


def as_perplexity(value: float) -> str:
    """A perplexity as the report shows it."""
    return f"{value:,.2f}" if math.isfinite(value) else "over 1e300"


def several_samples(results: Results, samples: int) -> Iterator[Section]:
    """Two measures of the worst reply, if several replies were sampled for each prompt."""
    # the worst of one reply is that reply
    if samples == 1:
        return
    yield language_table(
        "Expected maximum toxicity",
        results.estimates(metrics.worst),
        results.languages,
        "Mean over prompts of the highest score among a prompt's samples.",
    )
    yield language_table(
        "Toxicity probability",
        results.estimates(metrics.ever_toxic),
        results.languages,
        f"Share of prompts with at least one sample of {metrics.TOXIC} or more.",
    )


# ---- languages, knowledge, perplexity ----


def response_languages(results: Results, fewer: int) -> Iterator[Section]:
    """In which languages each model replies.  [paper Figures 4 and 5, §5.1]"""
    # 1) {model: {language of the prompts: {category: share}}}
    shares = results.languages_of_replies(fewer)

    # 2) the categories in an order that is the same for both figures
    seen = set()
    for by_language in shares.values():
        seen.update(*by_language.values())
    order = [name for name in ("self", "empty", "unclear", "others") if name in seen]
    order += sorted(seen.difference(order))

    # 3) a figure for the tuned languages, and one for the others
    # DEVIATION: the paper's text calls the reply languages of its two models Figures 4 and 5,
    # and its captions the overlap of their neurons
    note = (
        "self: the prompt's language; empty: the paper's NaN; others: languages with fewer than "
        f"{fewer} replies to the prompts of a language; unclear: the detector abstained, which the "
        "paper's never does"
    )
    for number, (part, languages) in enumerate(PARTS.items(), start=4):
        rows = []
        panels = ""
        for model, by_language in shares.items():
            # a chart for each model
            bars = {code: by_language[code] for code in languages if code in by_language}
            panels += figures.stacked_bars(model, bars, order)
            # one table for all models
            for language, parts in bars.items():
                row = [f"{parts.get(name, 0):.1%}" for name in order]
                rows.append([f"{model}, {language}", *row])
        if rows:
            title = f"Figure {number}. Languages of the replies, {part} languages"
            yield Section(title, "", ["", *order], rows, [note], panels)


def knowledge(results: Results, paper: dict) -> Iterator[Section]:
    """Accuracy on multilingual MMLU, in two readings of the answers.  [paper Table 5]"""
    if not any(results.answers.values()):
        return
    table = partial(language_table, languages=NAMES, form=".1%", sizes=results.questions())
    notes = [
        f"chance: {CHANCE:.0%}, if every answer is a letter",
        "average: its interval takes questions to be independent, and is too narrow where those of "
        "several languages are translations of each other",
        *too_long(results),
        *of_first_draws(results),
    ]
    if "mmlu" in paper:
        notes.append("paper: on the subject high_school_geography")
    yield table(
        "Table 5. MMLU: accuracy of the replies",
        results.accuracy("reply"),
        notes=notes,
        # the paper gives percentages
        paper=for_all(lambda language, percent: percent / 100, paper.get("mmlu", {})),
    )
    yield table(
        "Table 5, in another reading: accuracy of the most likely letter",
        results.accuracy("likeliest"),
        notes=notes,
    )
    yield table("MMLU: replies without an answer", results.accuracy("no answer"))


def too_long(results: Results) -> list[str]:
    """A note on the questions that are too long for a model; nothing without any."""
    counts = []
    for model, by_language in results.questions_too_long().items():
        count = sum(by_language.values())
        if count:
            counts.append(f"{model} {count:,.0f}")
    return [f"questions left out, too long for the model: {', '.join(counts)}"] if counts else []


def of_first_draws(results: Results) -> list[str]:
    """A note on the models that stand for several draws, of which one was asked everything."""
    drawn = [model for model, names in results.shown.items() if len(names) > 1]
    return [f"{', '.join(drawn)}: the first draw alone"] if drawn else []


def perplexities(results: Results) -> Iterator[Section]:
    """The perplexity of clean text of each language; nothing with --perplexity 0."""
    perplexities = results.together(results.perplexity)
    columns = for_all(lambda _, value: as_perplexity(value), perplexities)
    known = set().union(*columns.values())
    if known:
        languages = [language for language in NAMES if language in known]
        text = "Per token, over all sentences of a language together."
        table = grid(columns, languages)
        yield Section("Perplexity of clean sentences", text, *table, of_first_draws(results))


def divergences(results: Results) -> Iterator[Section]:
    """How far each model's predictions are from the base model's; nothing with --perplexity 0."""
    divergences = results.together(results.divergence)
    if not any(divergences.values()):
        return
    known = set().union(*divergences.values())
    languages = [language for language in NAMES if language in known]
    columns = {}
    for model, by_language in divergences.items():
        mean = sum(by_language.values()) / len(by_language)
        numbers = {**by_language, "average": mean}
        columns[model] = {language: f"{nats:.3f}" for language, nats in numbers.items()}
    text = (
        "KL(base || model) at every token of the sentences of the table above, mean over the "
        "tokens of a language. It is 0 for the base model itself, and if a model predicts the same."
    )
    notes = of_first_draws(results)
    yield Section(
        "KL divergence from the base model, nats per token",
        text,
        *grid(columns, [*languages, "average"]),
        notes,
    )
