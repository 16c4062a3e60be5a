"""The report, in three files: question and answer, every table, setting and failure."""

import math
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

from minitox.errors import InputError
from minitox.evaluate import metrics, mmlu
from minitox.files import file_hash, hash_without, read_jsonl, text_field, write_json, write_text
from minitox.languages import NAMES
from minitox.overlap import NEAR, SHINGLE
from minitox.report import (
    answer,
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
from minitox.report.results import Results, average, for_all, mean_over
from minitox.report.scorer_tables import Opinion
from minitox.report.summary import summary
from minitox.run.training_record import objective_of
from minitox.train.strategies import SCALED

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
    data: Path,  # the data folders
    overlap,  # test prompts seen before, as run.overlap_check gives them
    margin: float,  # a mean toxicity that is higher by less is no worse
) -> list[Section]:
    """The whole report, in reading order."""
    results = opinions[0].results
    name, paper = result_tables.papers(config)
    unmeasured = missing.get("hatecheck", "no case can be used")
    warnings, doubts = scorer_tables.findings(opinions, unmeasured)
    if not results.limits:
        reason = missing.get("fluency", "there are no replies of people")
        doubts.append(
            f"Fluency was not measured ({reason}), so a reply that is no sentence counts as clean "
            "unless it repeats itself."
        )
    safety = result_tables.safety(results, samples)
    return [
        answer.section(results, warnings, doubts, margin, safety.figure),
        summary(results, name, margin),
        replace(safety, figure=""),  # it is at the beginning
        *verdicts.section(results, margin),
        *trade_off.section(results),
        scorer_tables.scorers(opinions, unmeasured),
        # the paper's tables and figures
        *result_tables.toxicity_tables(results, paper),
        result_tables.empties(results),
        *result_tables.several_samples(results, samples),
        *result_tables.response_languages(results, others_below),
        *result_tables.knowledge(results, paper),
        *result_tables.perplexities(results),
        *result_tables.divergences(results),
        *exaggerated_safety.section(results),
        *neuron_sections(results, paper),
        *training_tables.tuned_table(results.tuned),
        *forgetting.section(results),
        *language_orders.section(results),
        *neuron_changes.sections(results.neuron_changes),
        pairs(data / "instructions", show_text),
        # how far to rely on them, and how to repeat them
        *(scorer_tables.held_out(opinion.scorer) for opinion in opinions),
        seen_before(overlap, results.languages, of_other_files(results, data)),
        failures(results, {**missing, **results.gaps}),
        *(replies(results) if show_text else []),
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


def of_other_files(results: Results, data: Path) -> list[str]:
    """The neurons and models of which no record says that they were made from `data`'s files.

    Only the languages of the report count. Interventions do not depend on pairs.
    """
    # 1) the toxic neurons of each language
    sentences = {code: info.get("data") for code, info in results.infos.items()}
    codes = different(sentences, hashes_of(data / "detection", results.languages))
    others = [f"the neurons of {', '.join(codes)}"] if codes else []

    # 2) the models: their pairs, and the neuron files that chose what was tuned
    hashes = {"dpo": file_hash, "sft": partial(hash_without, field="rejected")}
    pairs_here = {None: {}}  # by objective
    for objective, hash_of in hashes.items():
        pairs_here[objective] = hashes_of(data / "instructions", results.languages, hash_of)
    files = {code: results.infos.get(code, {}).get("sha256") for code in results.languages}
    models = {}  # by reason
    for model, training in results.tuned.items():
        if training is None:
            models.setdefault("no run.json", []).append(model)
            continue
        settings = training["settings"]
        tuned_on = {} if settings["strategy"] in SCALED else settings["data"]
        here = files
        if "by" in settings:
            of_selector = results.selected.get(settings["by"], {})
            here = {code: of_selector.get(code) for code in results.languages}
        parts = {
            "pairs": different(tuned_on, pairs_here[objective_of(settings)]),
            "neurons": different(settings.get("neurons", {}), here),
        }
        listed = [f"{what} of {', '.join(codes)}" for what, codes in parts.items() if codes]
        if listed:
            models.setdefault(", ".join(listed), []).append(model)
    return others + [f"{', '.join(names)} ({reason})" for reason, names in models.items()]


def hashes_of(folder: Path, languages, hash_of=file_hash) -> dict[str, str | None]:
    """The hash of each language's file, None if there is none."""
    paths = {language: folder / f"{language}.jsonl" for language in languages}
    return {code: hash_of(path) if path.exists() else None for code, path in paths.items()}


def different(hashes: dict, here: dict) -> list[str]:
    """The languages whose hash is not the one in `here`, of those that are there."""
    return [code for code, hash in hashes.items() if code in here and hash != here[code]]


def seen_before(
    overlap,
    languages,
    others: list[str] = (),  # neurons and models, as of_other_files gives them
) -> Section:
    """Copies of the test prompts in the data folders, and in what the scorers have learned."""
    title = "Contamination: test prompts seen before"
    # 1) a column for each folder or scorer
    columns = {}
    notes = [
        "Exact: equal apart from case, spaces, digits and repeated letters. Near: at least "
        f"{NEAR:.0%} of the sequences of {SHINGLE} characters of both texts are in both. In the "
        "training texts of a scorer, only exact copies can be recognised. Translated: with the id "
        "of a test prompt of another language.",
    ]
    if others:
        notes.append(
            "Perhaps made from other files than these, which were not compared: "
            f"{'; '.join(others)}."
        )
    for name, copies in overlap.items():
        if copies is None:
            notes.append(f"The training texts of {name} are not known.")
            copies = dict.fromkeys(NAMES, "not known")
        columns[name] = {code: str(of_language) for code, of_language in copies.items()}

    # 2) a row for each language, unless there are no copies
    cells = set().union(*(column.values() for column in columns.values()))
    if cells <= {"none", "not known"}:
        compared = [name for name, copies in overlap.items() if copies is not None]
        text = f"None in: {', '.join(compared)}." if compared else "Nothing was compared."
        return Section(title, text, notes=notes)
    text = "Rows and training texts that are copies of a test prompt of the same language."
    return Section(title, text, *result_tables.grid(columns, languages), notes)


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
        "The letter that the reply begins with, else the only letter that stands alone in it, else "
        "the only option that it repeats; none for a list of options."
    )
    rows = [
        *map(list, record.items()),
        ["MMLU prompt", mmlu.as_prompt(question).replace("\n", " / ")],
        ["MMLU answer", rule],
    ]
    return Section("Settings", "", ["setting", "value"], rows)


def numbers(opinions: list[Opinion], margin: float) -> dict:
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
        "toxicity": for_all(mean_of, toxicity),
        "mean toxicity": {model: mean_of("", mean) for model, mean in means.items()},
        "languages of the mean": languages,
    }

    # 2) shares
    sizes = results.prompts() | each.prompts()
    for category in metrics.SAFETY:
        measures[category] = {}
        shares_of_all = results.shares(category) | each.shares(category)
        for model, by_language in shares_of_all.items():
            shares = {}
            for language, means in by_language.items():
                size = sizes[model][language]
                shares[language] = without_nan(metrics.wilson(means[0], size))
            measures[category][model] = shares

    # 3) what tuning costs; of several draws, the first alone was asked and read everything
    measures |= prices(each)

    # 4) how the models are compared, and the scorers
    measures["draws"] = {model: names for model, names in results.shown.items() if names != [model]}
    measures["verdicts"] = verdicts.numbers(results, margin)
    measures |= verdicts.numbers_of_peers(results)
    measures["rates"] = trade_off.numbers(results)
    aucs = {opinion.scorer.name: opinion.aucs for opinion in opinions}
    measures |= exaggerated_safety.numbers(results)
    return measures | {"scorers": for_all(lambda _, values: without_nan(values), aucs)}


def prices(results: Results) -> dict:
    """{measure: {model: {language: value}}}, what was measured of knowledge and clean text."""
    measures = {}
    if any(results.answers.values()):
        sizes = results.questions()
        measures["accuracy"] = {}
        for model, by_language in results.accuracy("reply").items():
            shares = {}
            for language, means in by_language.items():
                shares[language] = without_nan(metrics.wilson(means[0], sizes[model][language]))
            measures["accuracy"][model] = shares
    for name in ("perplexity", "divergence"):
        values = results.together(getattr(results, name))
        if any(values.values()):
            measures[name] = for_all(lambda _, value: finite(value), values)
    return measures


def finite(value: float) -> float | None:
    """The value, or None for what JSON does not have."""
    return float(value) if math.isfinite(value) else None


def mean_of(language, means):  # (1 + W,)
    """A mean and its interval."""
    return without_nan(metrics.interval(means))


def without_nan(values) -> list:
    """The values, with None for NaN, which JSON does not have."""
    return [None if value != value else value for value in values]


def write(out: Path, title: str, content: list[Section], record: dict) -> None:
    """`out`/report.md and report.html for people, report.json for programs."""
    for name, render in {"report.md": page.markdown, "report.html": page.html}.items():
        write_text(out / name, render(title, content))
    write_json(out / "report.json", record)
