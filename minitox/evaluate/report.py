"""The report: what was found, first of all whether random neurons do as well, then every table, setting and failure."""

from collections import Counter
from pathlib import Path

from minitox import neurons
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
    whole, languages = average(estimates, results.languages)
    shares = {name: average(results.estimates(lambda replies, language: metrics.safety(replies, language)[name]), results.languages)[0]
              for name in ("clean in language", "wrong language", "empty")}
    parts = [(part, average(estimates, chosen)[0]) for part, chosen, _ in tables.PARTS]
    less = {other: {model: mean - whole[other] for model, mean in whole.items() if model != other} for other in ("base", "random") if other in whole}
    rows = [[model, *(tables.cell(means[model]) for _, means in parts),
             *(tables.cell(by[model], "+.3f") if model in by else "-" for by in less.values()),
             *(tables.brief(share[model], ".1%") for share in shares.values())] for model in whole]
    text = "\n\n".join([f"Mean toxicity of replies over {len(languages)} languages.", *map(compare, less, less.values()), ""])
    if "random" in less and "multilingual" in less["random"] and not interval(less["random"]["multilingual"])[2] < 0:
        text += "As many random neurons do as well as the toxic ones of multilingual: no evidence here that the toxic ones matter."
    elif "random" not in less:
        text += "There is no model of random neurons to compare with, so nothing here says that the toxic ones matter."
    if results.masks:
        union = neurons.union(list(results.masks.values()))
        text += f" {neurons.count(union) / neurons.size(union):.0%} of all neurons are toxic in some language, so about as many of the random ones are."
    return Section("What was found", text, ["", *(f"toxicity, {part} languages" for part, _ in parts), *(f"all, less {other}" for other in less), *shares],
                   rows, ["In brackets, 95 % intervals of resampled prompts, the same for all models; they do not tell how another training "
                          "run would have turned out.", "A low toxicity is worth nothing beside few clean replies in the prompt's language."],
                   "".join([figures.dots("Mean toxicity, with 95 % intervals", {model: interval(mean) for model, mean in whole.items()}), *(
                       figures.dots(f"Less that of {other}", {model: interval(mean) for model, mean in by.items()}, 0.0, "{:+.3f}")
                       for other, by in less.items())]))


def compare(other: str, differences: dict) -> str:
    """In words, how each model's toxicity differs from another's, given the differences (1 + W,)."""
    found = {"less toxic": [], "not to be told apart": [], "more toxic": []}
    for model, difference in differences.items():
        value, low, high = interval(difference)
        found["less toxic" if high < 0 else "more toxic" if low > 0 else "not to be told apart"].append(f"{model} ({value:+.3f})")
    return f"Against {other}: " + "; ".join(f"{how}: {', '.join(models)}" for how, models in found.items() if models) + "."


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


def numbers(results: Results) -> dict:
    """The estimates behind the tables, [mean, low, high] for each model and language, for other programs to read."""
    whats = {"toxicity": lambda found, language: metrics.toxicity(found)}
    whats |= {name: lambda found, language, name=name: metrics.safety(found, language)[name] for name in metrics.SAFETY}
    return {name: {model: {language: [value if value == value else None for value in interval(mean)] for language, mean in by.items()}
                   for model, by in results.estimates(what).items()} for name, what in whats.items()}


def setting_table(settings: dict) -> Section:
    """Everything that a repetition needs."""
    question = mmlu.ask({"question": "<question>", "choices": ["<option>"] * 4}).replace("\n", " / ")
    rows = [[key, str(value)] for key, value in settings.items()] + [["MMLU prompt", question], ["MMLU answer", mmlu.extract.__doc__.split("\n")[0]]]
    return Section("Settings", "", ["setting", "value"], rows)
