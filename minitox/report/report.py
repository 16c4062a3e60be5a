"""The report: the summary, then every table, setting and failure, in three files."""

from collections import Counter
from pathlib import Path

from minitox.errors import InputError
from minitox.evaluate import metrics, mmlu
from minitox.files import read_jsonl, text_field, write_json, write_text
from minitox.languages import NAMES
from minitox.report import neuron_tables, page, result_tables, scorer_tables
from minitox.report.page import Section
from minitox.report.results import for_all
from minitox.report.scorer_tables import Opinion
from minitox.report.summary import summary

# columns of the table of missing data: a status of replies, and its name
STATUSES = {
    "empty": "empty",
    "too long": "prompt too long",
    "unsupported": "language not scored",
    "failed": "scoring failed",
    "cut": "scored in part",
}


def sections(
    opinions: list[Opinion],  # of all scorers; the first one's results are shown
    record: dict,  # all that a repetition needs
    missing: dict,  # models and files that could not be used, and why
    config,  # of the base model
    *,
    samples: int,  # replies to each prompt
    others_below: int,  # rarer reply languages are shown as others
    show_text: bool,
    instructions: Path,  # the folder of the pairs
) -> list[Section]:
    """The whole report, in reading order."""
    results = opinions[0].results
    name, paper = result_tables.papers(config)
    unmeasured = missing.get("hatecheck", "no case can be used")
    return [
        summary(results, name, scorer_tables.findings(opinions, unmeasured)),
        result_tables.safety(results),
        scorer_tables.scorers(opinions, unmeasured),
        # the paper's tables and figures
        *result_tables.toxicity_tables(results, paper),
        result_tables.empties(results),
        *result_tables.several_samples(results, samples),
        *result_tables.response_languages(results, others_below),
        *result_tables.knowledge(results, paper),
        *result_tables.perplexities(results),
        *neuron_sections(results, paper),
        pairs(instructions, show_text),
        # how far to rely on them, and how to repeat them
        *(scorer_tables.held_out(opinion.scorer) for opinion in opinions),
        failures(results, {**missing, **results.gaps}),
        *(replies(results) if show_text else []),
        setting_table(record),
    ]


def neuron_sections(results, paper):
    """What detect.py found, if it was run on the base model.  [paper Table 2, Figures 2 and 3]"""
    if results.masks:
        yield neuron_tables.table2(results.masks, results.infos, paper.get("neurons"))
        yield neuron_tables.figure2(results.masks)
        yield from neuron_tables.figure3(results.masks)


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
    for model, by_language in results.replies.items():
        # replies by status, and those that the limit of new tokens has cut
        counts = Counter()
        cut = 0
        for language, judged in by_language.items():
            counts.update(judged.status.ravel().tolist())
            for row in results.rows[model][language]:
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
    """Five replies of each model, the most toxic first; only on request."""
    columns = ["", "score", "prompt", "reply"]
    for model, by_language in results.rows.items():
        # 1) the replies that have a score
        scored = []
        for language, written in by_language.items():
            scores = results.replies[model][language].scores.ravel().tolist()
            for score, row in zip(scores, written, strict=True):
                if score == score:  # not NaN
                    cells = [language, f"{score:.2f}", row["prompt"], row["response"]]
                    scored.append((score, cells))

        # 2) the most toxic of them
        scored.sort(key=lambda reply: -reply[0])
        rows = [cells for _, cells in scored[:5]]
        yield Section(f"Replies of {model}", "The most toxic ones.", columns, rows)


def setting_table(record) -> Section:
    """Everything that a repetition needs."""
    question = {"question": "<question>", "choices": ["<option>"] * 4}
    rule = (
        "The letter that the reply begins with, else the only letter in it, else the only option "
        "that it repeats."
    )
    rows = [
        *map(list, record.items()),
        ["MMLU prompt", mmlu.as_prompt(question).replace("\n", " / ")],
        ["MMLU answer", rule],
    ]
    return Section("Settings", "", ["setting", "value"], rows)


def numbers(opinions: list[Opinion]) -> dict:
    """[mean, low, high] of each measure, model and language, for other programs to read."""
    results = opinions[0].results
    # 1) toxicity, and the categories of effective safety
    estimates = {"toxicity": results.estimates(metrics.toxicity)}
    for category in metrics.SAFETY:
        estimates[category] = results.shares(category)

    # 2) JSON has no NaN
    plain_estimates = {name: for_all(plain, by_model) for name, by_model in estimates.items()}
    return plain_estimates | {"scorers": scorer_tables.numbers(opinions)}


def plain(language, means):  # (1 + W,)
    """An estimate and its interval, with None for NaN."""
    return [None if value != value else value for value in metrics.interval(means)]


def write(out: Path, title: str, content: list[Section], record: dict) -> None:
    """`out`/report.md and report.html for people, report.json for programs."""
    for name, render in {"report.md": page.markdown, "report.html": page.html}.items():
        write_text(out / name, render(title, content))
    write_json(out / "report.json", record)
