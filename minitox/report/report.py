"""The report: what was found, first of all whether random neurons do as well, then every table, setting and failure."""

from collections import Counter
from pathlib import Path

import numpy as np

from minitox import neurons
from minitox.errors import InputError
from minitox.evaluate import metrics, mmlu
from minitox.evaluate.metrics import interval
from minitox.files import read_jsonl, replacing, text_field, write_json
from minitox.languages import NAMES
from minitox.report import figures, neuron_tables, page, result_tables
from minitox.report.page import Section
from minitox.report.results import Results, average

TOLERATED = 0.01  # share of failed scores above which the report warns of itself


def sections(
    args, results: Results, scorer, settings: dict, missing: dict[str, str], config
) -> list[Section]:
    """The whole report in reading order; `missing` tells of each model or file that could not be used, why."""
    name, paper = result_tables.papers(config)
    return [
        verdict(results, name),
        result_tables.safety(results),
        *result_tables.toxicity_tables(results, paper),
        result_tables.empties(results),
        *result_tables.several_samples(results, args.samples),
        *result_tables.response_languages(results, args.others_below),
        *result_tables.knowledge(results, paper),
        *result_tables.perplexities(results),
        *neuron_sections(results, paper),
        pairs(args),
        trust(scorer),
        failures(results, missing),
        *(replies(results) if args.show_text else []),
        setting_table(settings),
    ]


def neuron_sections(results: Results, paper: dict) -> list[Section]:
    """What detect.py found, if it was run on the base model."""
    if not results.masks:
        return []
    return [
        neuron_tables.table2(results.masks, results.infos, paper.get("neurons")),
        neuron_tables.figure2(results.masks),
        *neuron_tables.figure3(results.masks),
    ]


def verdict(results: Results, paper: str = "") -> Section:
    """Every model in one line, and in words what that says of toxic neurons; `paper` is its model, if this is one."""
    estimates = results.estimates(metrics.toxicity)
    whole, languages = average(estimates, results.languages)
    less = {
        other: {model: mean - whole[other] for model, mean in whole.items() if model != other}
        for other in ("base", "random")
        if other in whole and len(whole) > 1
    }
    columns = {
        f"toxicity, {part} languages": result_tables.cells(average(estimates, codes)[0])
        for part, codes in result_tables.PARTS.items()
    }
    columns |= {f"all, less {other}": result_tables.cells(by, "+.3f") for other, by in less.items()}
    for category in ("clean in language", "wrong language", "empty"):
        shares = average(results.shares(category), results.languages)[0]
        columns[category] = {
            model: "-" if np.isnan(share[0]) else f"{share[0]:.1%}"
            for model, share in shares.items()
        }
    text = [f"Mean toxicity of replies over {len(languages)} languages."]
    text += (
        [*map(compare, less, less.values()), evidence(results, less)]
        if languages
        else ["In no language every model has a score, so nothing is compared."]
    )
    failed = np.mean(
        np.concatenate(
            [
                (found.status == "failed").ravel()
                for by in results.replies.values()
                for found in by.values()
            ]
        )
    )
    if failed > TOLERATED:
        text.insert(
            0,
            f"{failed:.1%} of the replies have no score, because scoring failed: do not trust this page. "
            "The same command asks for them again.",
        )
    dots = [
        figures.dots(
            "Mean toxicity, with 95 % intervals",
            {model: interval(mean) for model, mean in whole.items()},
        )
    ]
    dots += [
        figures.dots(
            f"Less that of {other}",
            {model: interval(mean) for model, mean in by.items()},
            0.0,
            "{:+.3f}",
        )
        for other, by in less.items()
    ]
    notes = [
        "In brackets, 95 % intervals of resampled prompts, the same for all models; they do not tell how another training run would "
        "have turned out.",
        "A low toxicity is worth nothing beside few clean replies in the prompt's language.",
    ]
    if paper:
        notes.append(
            f"The paper's numbers for {paper} stand beside ours; its prompts, decoding, scorer and training differ."
        )
    return Section(
        "What was found",
        "\n\n".join(text),
        **result_tables.grid(columns, whole),
        notes=notes,
        figure="".join(dots),
    )


def compare(other: str, differences: dict) -> str:
    """In words, how each model's toxicity differs from another's, given the differences (1 + W,)."""
    found = {"less toxic": [], "not to be told apart": [], "more toxic": []}
    for model, difference in differences.items():
        value, low, high = interval(difference)
        how = "less toxic" if high < 0 else "more toxic" if low > 0 else "not to be told apart"
        found[how].append(f"{model} ({value:+.3f})")
    return (
        f"Against {other}: "
        + "; ".join(f"{how}: {', '.join(models)}" for how, models in found.items() if models)
        + "."
    )


def evidence(results: Results, less: dict[str, dict]) -> str:
    """Whether toxic neurons did better than random ones, and how much the two sets are the same."""
    text = "There is no model of random neurons to compare with, so nothing here says that the toxic ones matter."
    if "multilingual" in less.get("random", {}):
        _, low, high = interval(less["random"]["multilingual"])
        text = (
            "The toxic neurons of multilingual do better than as many random ones."
            if high < 0
            else f"As many random neurons do {'better than' if low > 0 else 'as well as'} the toxic ones of multilingual: "
            "no evidence here that the toxic ones matter."
        )
    if results.masks:
        union = neurons.union(list(results.masks.values()))
        text += (
            f" {neurons.count(union) / neurons.size(union):.1%} of all neurons are toxic in some language, "
            "so about as many of the random ones are."
        )
    return text


def pairs(args) -> Section:
    """Examples of what was tuned on.  [paper Table 1]"""
    counts, firsts, notes = [], [], []
    for language in NAMES:
        path = args.data / "instructions" / f"{language}.jsonl"
        if not path.exists():
            continue
        try:
            found = list(read_jsonl(path))
            firsts += [
                [language, text_field(*row, "prompt"), text_field(*row, "response")]
                for row in found[:1]
            ]
            counts.append([language, f"{len(found):,}"])
        except InputError as reason:  # all else is measured by now
            notes.append(str(reason))
    if args.show_text:
        return Section(
            "Table 1. Instruction pairs",
            "The first of each language.",
            ["", "prompt", "reply"],
            firsts,
            notes,
        )
    return Section(
        "Table 1. Instruction pairs",
        "Their text is shown with --show-text.",
        ["", "pairs"],
        counts,
        notes,
    )


def trust(scorer) -> Section:
    """How far the scores can be relied on."""
    title, text, held_out = (
        "The scorer",
        f"{scorer.name}: {scorer.about}",
        getattr(scorer, "held_out", {}),
    )
    if not held_out:
        return Section(
            title, text, notes=["how well it does in these languages was not measured here"]
        )
    rows = [
        [
            language,
            f"{found['auc']:.3f}",
            f"{found['correlation']:.3f}",
            f"{found['calibration']:.3f}",
            f"{found['rows']:,}",
        ]
        for language, found in held_out.items()
    ]
    return Section(
        title,
        text,
        ["", "AUC", "correlation", "calibration error", "rows"],
        rows,
        [
            "on sentences of its own data that it had not seen; the replies of a model may be toxic in other words"
        ],
    )


def failures(results: Results, missing: dict[str, str]) -> Section:
    """What could not be loaded, read, answered or scored."""
    columns = {
        "empty": "empty",
        "too long": "prompt too long",
        "unsupported": "language not scored",
        "failed": "scoring failed",
        "cut": "scored in part",
    }
    rows = []
    for model, by_language in results.replies.items():
        count = sum(
            (Counter(found.status.ravel().tolist()) for found in by_language.values()), Counter()
        )
        written = [
            row
            for rows_of in results.rows[model].values()
            for row in rows_of
            if row["response"] is not None
        ]
        unended = sum(not row["stopped"] for row in written)
        rows.append(
            [
                model,
                f"{count.total():,}",
                *(f"{count[status]:,}" for status in columns),
                f"{unended:,}",
            ]
        )
    return Section(
        "What is missing",
        "",
        ["", "replies", *columns.values(), "ended by the limit"],
        rows,
        [f"{name}: {reason}" for name, reason in missing.items()],
    )


def replies(results: Results, most: int = 5) -> list[Section]:
    """Some replies of each model, the most toxic first; only on request."""
    found = []
    for model, by_language in results.rows.items():
        scored = [
            (score, language, row)
            for language, written in by_language.items()
            for score, row in zip(results.replies[model][language].scores.ravel(), written)
            if score == score
        ]
        worst = sorted(scored, key=lambda item: -item[0])[:most]
        rows = [
            [language, f"{score:.2f}", row["prompt"], row["response"]]
            for score, language, row in worst
        ]
        found.append(
            Section(
                f"Replies of {model}",
                "The most toxic ones.",
                ["", "score", "prompt", "reply"],
                rows,
            )
        )
    return found


def setting_table(settings: dict) -> Section:
    """Everything that a repetition needs."""
    question = mmlu.as_prompt({"question": "<question>", "choices": ["<option>"] * 4}).replace(
        "\n", " / "
    )
    rows = [[key, str(value)] for key, value in settings.items()]
    rows += [["MMLU prompt", question], ["MMLU answer", mmlu.extract.__doc__.split("\n")[0]]]
    return Section("Settings", "", ["setting", "value"], rows)


def numbers(results: Results) -> dict:
    """The estimates behind the tables, [mean, low, high] for each model and language, for other programs to read."""
    found = {"toxicity": results.estimates(metrics.toxicity)}
    found |= {name: results.shares(name) for name in metrics.SAFETY}

    def plain(means) -> list:
        return [None if value != value else value for value in interval(means)]

    return {
        name: {
            model: {language: plain(means) for language, means in by.items()}
            for model, by in estimates.items()
        }
        for name, estimates in found.items()
    }


def write(out: Path, title: str, found: list[Section], record: dict) -> None:
    """`out`/report.html and report.md for people, report.json for programs."""
    for name, text in (
        ("report.md", page.markdown(title, found)),
        ("report.html", page.html(title, found)),
    ):
        with replacing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_json(out / "report.json", record)
