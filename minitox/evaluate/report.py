"""The report: what was found, first of all whether random neurons do as well, then every table, setting and failure."""

from collections import Counter
from pathlib import Path

from minitox.evaluate import figures, metrics, mmlu, tables
from minitox.evaluate.metrics import interval
from minitox.evaluate.page import Section
from minitox.evaluate.results import Results, average
from minitox.files import read_jsonl, text_field
from minitox.languages import NAMES


def sections(args, results: Results, scorer, settings: dict, gaps: dict[str, str], failed: dict[str, str], config) -> list[Section]:
    """The whole report in reading order."""
    name, paper = tables.papers(config)
    found = [verdict(results), tables.safety(results), *tables.toxicity_tables(results, paper), tables.empties(results),
             *tables.several_samples(results), *tables.response_languages(results, args.others_below),
             *tables.knowledge(results, paper), *tables.perplexities(results), *tables.toxic_neurons(results, paper), pairs(args),
             trust(scorer), failures(results, gaps, failed), *(replies(results) if args.show_text else []), setting_table(settings)]
    if name:
        found[0].notes.append(f"The paper's numbers for {name} stand beside ours; its scorer, prompts, decoding and training differ.")
    return found


def verdict(results: Results) -> Section:
    """Every model in one line, and in words what that says of toxic neurons."""
    estimates = results.estimates(lambda replies, language: metrics.toxicity(replies))
    clean = average(results.estimates(lambda replies, language: metrics.safety(replies, language)["clean in language"]), results.languages)[0]
    (tuned, _), (held_out, _) = (average(estimates, languages) for _, languages, _ in tables.PARTS)
    whole, _ = average(estimates, results.languages)
    rows, text = [], []
    for model in results.replies:
        differences = [tables.cell(whole[model] - whole[other], "+.3f") if other in whole and other != model else "-" for other in ("base", "random")]
        rows.append([model, tables.cell(tuned[model]), tables.cell(held_out[model]), *differences, tables.cell(clean[model], ".1%")])
    for other, model in [("base", model) for model in whole if model != "base"] + [("random", "per-language"), ("random", "multilingual")]:
        if other in whole and model in whole:
            text.append(compare(model, other, whole[model] - whole[other]))
    if "random" not in whole:
        text.append("There is no model of random neurons to compare with, so nothing here says that the toxic ones matter.")
    dots = figures.dots("Mean toxicity of replies, with 95 % intervals", {model: interval(mean) for model, mean in whole.items()})
    return Section("What was found", f"Mean toxicity over {len(results.languages)} languages. " + " ".join(text), [
        "", "toxicity, tuned languages", "held-out languages", "all, less base", "all, less random", "clean in language"], rows, [
        "In brackets, 95 % intervals of resampled prompts, the same for all models; they do not tell how another training run would "
        "have turned out.", "A low toxicity is worth nothing without the last column: a reply may be empty, or in the wrong language."], dots)


def compare(model: str, other: str, difference) -> str:
    """One sentence on the difference (1 + W,) of two models' toxicity."""
    value, low, high = interval(difference)
    if value != value:
        return f"{model} and {other} have no languages in common."
    how = "is less toxic than" if high < 0 else "is more toxic than" if low > 0 else "cannot be told from"
    sentence = f"{model} {how} {other} ({value:+.3f}, {low:+.3f}..{high:+.3f})."
    if other == "random" and not high < 0:
        sentence += " Random neurons do as well: these results are no evidence that the toxic ones matter."
    return sentence


def pairs(args) -> Section:
    """Examples of what was tuned on.  [paper Table 1]"""
    rows, counts = [], Counter()
    for language in NAMES:
        path = args.data / "instructions" / f"{language}.jsonl"
        for where, row in read_jsonl(path) if path.exists() else ():
            if not counts[language] and args.show_text:
                rows.append([language, text_field(where, row, "prompt"), text_field(where, row, "response")])
            counts[language] += 1
    if args.show_text:
        return Section("Table 1. Instruction pairs", "The first of each language.", ["", "prompt", "reply"], rows)
    return Section("Table 1. Instruction pairs", "Their text is shown with --show-text.", ["", "pairs"], [[language, f"{n:,}"] for language, n in counts.items()])


def trust(scorer) -> Section:
    """How far the scores can be relied on."""
    held_out = getattr(scorer, "held_out", {})
    rows = [[language, f"{found['auc']:.3f}", f"{found['correlation']:.3f}", f"{found['calibration']:.3f}", f"{found['rows']:,}"]
            for language, found in held_out.items()]
    return Section("The scorer", f"{scorer.name}: {scorer.about}", ["", "AUC", "correlation", "calibration error", "rows"] if rows else (), rows,
                   ["on sentences that it had not seen"] if rows else ["how well it does in these languages was not measured here"])


def failures(results: Results, gaps: dict[str, str], failed: dict[str, str]) -> Section:
    """What could not be loaded, read, answered or scored."""
    rows = []
    for model, by_language in results.replies.items():
        statuses = sum((Counter(found.status.ravel().tolist()) for found in by_language.values()), Counter())
        cut = sum(not row["stopped"] for written in results.rows[model].values() for row in written if row["response"] is not None)
        rows.append([model, f"{statuses.total():,}", *(f"{statuses[name]:,}" for name in ("empty", "too long", "unsupported", "failed", "cut")), f"{cut:,}"])
    notes = [f"{name}: {reason}" for name, reason in {**failed, **gaps}.items()]
    return Section("What is missing", "", ["", "replies", "empty", "prompt too long", "language not scored", "scoring failed", "scored in part",
                                           "ended by the limit"], rows, notes)


def replies(results: Results, most: int = 5) -> list[Section]:
    """Some replies of each model, the most toxic first; only on request."""
    found = []
    for model, by_language in results.rows.items():
        scored = [(score, language, row) for language, written in by_language.items()
                  for score, row in zip(results.replies[model][language].scores.ravel(), written) if score == score]
        scored.sort(key=lambda item: -item[0])
        found.append(Section(f"Replies of {model}", "", ["", "score", "prompt", "reply"], [
            [language, f"{score:.2f}", row["prompt"], row["response"]] for score, language, row in scored[:most]]))
    return found


def setting_table(settings: dict) -> Section:
    """Everything that a repetition needs."""
    question = mmlu.ask({"question": "<question>", "choices": ["<option>"] * 4}).replace("\n", " / ")
    rows = [[key, str(value)] for key, value in settings.items()] + [["MMLU prompt", question], ["MMLU answer", mmlu.extract.__doc__.split("\n")[0]]]
    return Section("Settings", "", ["setting", "value"], rows)
