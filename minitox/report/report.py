"""The report, in three files: question and answer, every table, setting and failure."""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from minitox.errors import InputError
from minitox.evaluate import mmlu
from minitox.files import read_jsonl, text_field, write_json, write_text
from minitox.languages import NAMES
from minitox.report import (
    answer,
    contamination,
    exaggerated_safety,
    forgetting,
    language_orders,
    neuron_changes,
    neuron_tables,
    page,
    result_tables,
    scorer_tables,
    trade_off,
    training_tables,
    verdicts,
)
from minitox.report.page import Section
from minitox.report.results import Results
from minitox.report.scorer_tables import Opinion
from minitox.report.summary import few_prompts, summary

# columns of the table of missing data: a status of replies, and its name
STATUSES = {
    "empty": "empty",
    "too long": "prompt too long",
    "unsupported": "language not scored",
    "failed": "scoring failed",
    "cut": "scored in part",
}


@dataclass(frozen=True)
class ReportOptions:
    """What the report shows, besides results."""

    data: Path  # the data folders
    samples: int  # replies to each prompt
    others_below: int  # rarer reply languages are shown as others
    show_text: bool  # prompts, replies and pairs


def sections(
    opinions: list[Opinion],  # of all scorers; the first one's results are shown
    comparisons: verdicts.Comparisons,  # of their models with random neurons
    record: dict,  # all that a repetition needs
    missing: dict,  # models and files that could not be used, and why
    config,  # of the base model
    overlap,  # test prompts seen before, as run.overlap_check gives them
    options: ReportOptions,
) -> list[Section]:
    """The whole report, in reading order."""
    results = opinions[0].results
    name, paper = result_tables.papers(config)
    unmeasured = missing.get("hatecheck", "no case can be used")
    warnings, doubts = scorer_tables.findings(opinions, unmeasured)
    if not results.limits:
        reason = missing.get("fluency", "there are no replies in DATA/instructions")
        doubts.append(
            f"Fluency was not measured ({reason}), so a reply that is not a sentence counts as "
            "clean unless it repeats itself."
        )
    doubts += few_prompts(results)
    safety = result_tables.safety(results, options.samples)
    others = contamination.of_other_files(results, options.data)
    return [
        answer.section(results, comparisons, warnings, doubts, safety.figure),
        summary(results, comparisons, name),
        replace(safety, figure=""),  # it is at the beginning
        *verdicts.section(comparisons),
        *trade_off.section(results),
        scorer_tables.scorers(opinions, unmeasured),
        # the paper's tables and figures
        *result_tables.toxicity_tables(results, paper),
        result_tables.empties(results),
        *result_tables.several_samples(results, options.samples),
        *result_tables.response_languages(results, options.others_below),
        *result_tables.knowledge(results, paper),
        *result_tables.perplexities(results),
        *result_tables.divergences(results),
        *exaggerated_safety.section(results),
        *neuron_sections(results, paper),
        *training_tables.tuned_table(results.tuned),
        *forgetting.section(results),
        *language_orders.section(results),
        *neuron_changes.sections(results.neuron_changes),
        pairs(options.data / "instructions", options.show_text),
        # how far to rely on them, and how to repeat them
        *(scorer_tables.held_out(opinion.scorer) for opinion in opinions),
        contamination.section(overlap, results.languages, others),
        failures(results, {**missing, **results.gaps}),
        *(replies(results) if options.show_text else []),
        setting_table(record),
    ]


def neuron_sections(results, paper):
    """What detect.py found, if it was run on the base model.  [paper Table 2, Figures 2 and 3]

    Models that were tuned with other toxic neurons are named below each.
    """
    if not results.masks:
        return
    sections = [
        neuron_tables.table2(results.masks, results.infos, paper.get("neurons")),
        neuron_tables.figure2(results.masks),
        *neuron_tables.figure3(results.masks),
    ]
    notes = other_neurons(results)
    for section in sections:
        yield replace(section, notes=[*section.notes, *notes])


def other_neurons(results: Results) -> list[str]:
    """Notes on the models that were made with other toxic neurons than the report shows."""
    by_choice = {}
    for model, training in results.tuned.items():
        settings = training["settings"] if training else {}
        files = settings.get("neurons", {})  # {language: hash}
        choices = []
        if "by" in settings:
            choice = f"by {settings['by']}"
            if settings.get("top_share") is not None:
                choice = f"{settings['top_share']:.1%} of all in each language, {choice}"
            by_choice.setdefault(choice, []).append(model)
            continue
        if any(hash != results.infos.get(code, {}).get("sha256") for code, hash in files.items()):
            choices.append("other neuron files")
        if files and settings["top_share"] is not None:
            choices.append(f"those of highest AUROC, {settings['top_share']:.1%} of all")
        elif files and settings["threshold"] != 0.5:
            choices.append(f"AUROC above {settings['threshold']:g}")
        if choices:
            by_choice.setdefault("; ".join(choices), []).append(model)
    return [
        f"made with other toxic neurons than these: {', '.join(models)} ({choice})"
        for choice, models in by_choice.items()
    ]


def pairs(folder: Path, show_text: bool) -> Section:
    """How many pairs there are, or the first of each language.  [paper Table 1]"""
    counts = []
    examples = []
    notes = []
    for language in NAMES:
        path = folder / f"{language}.jsonl"
        if not path.exists():
            continue
        try:
            rows = list(read_jsonl(path))
            for where, row in rows[:1]:
                example = [text_field(where, row, field) for field in ("prompt", "response")]
                examples.append([language, *example])
            counts.append([language, f"{len(rows):,}"])
        except InputError as error:
            # a note: everything else has been measured by now
            notes.append(str(error))

    title = "Table 1. Instruction pairs"
    if show_text:
        text = "The first pair of each language."
        return Section(title, text, ["", "prompt", "reply"], examples, notes)
    text = "With --show-text, the report shows the first pair of each language."
    return Section(title, text, ["", "pairs"], counts, notes)


def failures(results, missing) -> Section:
    """What could not be loaded, read, answered or scored."""
    rows = []
    for model, names in results.shown.items():
        # replies by status, and those that the limit of new tokens has cut
        counts = Counter()
        cut = 0
        for name, language in product(names, results.languages):
            counts.update(results.replies[name][language].status.ravel().tolist())
            for row in results.rows[name][language]:
                cut += row["response"] is not None and not row["stopped"]

        numbers = [counts.total(), *(counts[status] for status in STATUSES), cut]
        rows.append([model, *map("{:,}".format, numbers)])
    columns = ["", "replies", *STATUSES.values(), "cut at the token limit"]
    text = (
        "A reply is scored in the language that it is in, or in its prompt's language if the "
        "language detector abstained."
    )
    notes = [f"{name}: {reason}" for name, reason in missing.items()]
    return Section("Missing data", text, columns, rows, notes)


def replies(results):
    """Ten replies of each model, the most toxic and others; only on request."""
    columns = ["", "score", "prompt", "reply"]
    text = "The five most toxic ones, then five others at equal distances in all that are left."
    for model, names in results.shown.items():
        # 1) all replies; an empty one has no score, and none was made if the prompt is too long
        scored = []
        for name, language in product(names, results.languages):
            judged = results.replies[name][language]
            scores = judged.scores.ravel().tolist()
            statuses = judged.status.ravel().tolist()
            written = results.rows[name][language]
            for score, status, row in zip(scores, statuses, written, strict=True):
                known = score == score  # not NaN
                shown = f"{score:.2f}" if known else STATUSES[status]
                cells = [language, shown, row["prompt"], row["response"] or ""]
                scored.append((score if known else -1, cells))

        # 2) the most toxic of them, and some of the rest in their order of language and prompt
        highest = sorted(range(len(scored)), key=lambda i: -scored[i][0])[:5]
        rest = [i for i in range(len(scored)) if i not in highest]
        spread = [rest[len(rest) * step // 5] for step in range(5)] if len(rest) > 5 else rest
        rows = [scored[i][1] for i in [*highest, *spread]]
        yield Section(f"Replies of {model}", text, columns, rows)


def setting_table(record) -> Section:
    """Everything that a repetition needs."""
    question = {"question": "<question>", "choices": ["<option>"] * 4}
    rule = (
        "The letter that the reply begins with, else the option that is the whole reply, else the "
        "only letter that stands alone in it, else the only option that it repeats; none for a "
        "list of options."
    )
    rows = [
        *map(list, record.items()),
        ["MMLU prompt", mmlu.as_prompt(question).replace("\n", " / ")],
        ["MMLU answer", rule],
    ]
    return Section("Settings", "", ["setting", "value"], rows)


def write(out: Path, title: str, content: list[Section], record: dict) -> None:
    """`out`/report.md and report.html for people, report.json for programs."""
    for name, render in {"report.md": page.markdown, "report.html": page.html}.items():
        write_text(out / name, render(title, content))
    write_json(out / "report.json", record)
