"""The paper's tables and figures from what was measured, each with the columns that the paper lacks; every function gives sections."""

import json
from pathlib import Path

import numpy as np

from minitox import neurons
from minitox.evaluate import figures, metrics
from minitox.evaluate.metrics import interval
from minitox.evaluate.mmlu import CHANCE
from minitox.evaluate.page import Section
from minitox.evaluate.results import Results, average
from minitox.languages import HELD_OUT, NAMES, TUNED

PARTS = ("tuned", TUNED, "Table 3. Toxicity of replies, tuned languages"), ("held-out", HELD_OUT, "Table 4. Toxicity of replies, held-out languages")


def cell(means, form: str = ".3f") -> str:
    """An estimate and its interval, a dash if there is none."""
    value, low, high = interval(means)
    return "-" if np.isnan(value) else f"{value:{form}} ({low:{form}}..{high:{form}})"


def brief(means, form: str = ".3f") -> str:
    return "-" if np.isnan(means[0]) else f"{means[0]:{form}}"


def papers(config) -> tuple[str, dict]:
    """The paper's name for the base model and its numbers; ("", {}) for a model that the paper does not have."""
    for name, numbers in json.loads(Path(__file__).with_name("paper.json").read_text(encoding="utf-8")).items():
        if config and all(getattr(config, key) == value for key, value in numbers["config"].items()):
            return name, numbers
    return "", {}


def by_language(title: str, estimates, languages, paper: dict, text: str = "", form: str = ".3f", notes=()) -> Section:
    """A row a language and a column a model, the mean over languages last, the paper's numbers on the right."""
    languages = [language for language in languages if any(language in by for by in estimates.values())]
    means, common = average(estimates, languages)
    rows = [[language, *(cell(by[language], form) if language in by else "-" for by in estimates.values()),
             *(f"{numbers[language]:g}" if language in numbers else "-" for numbers in paper.values())] for language in languages]
    complete = all(language in numbers for numbers in paper.values() for language in common) and common
    rows.append(["average", *(cell(mean, form) for mean in means.values()),
                 *(f"{np.mean([numbers[language] for language in common]):.4g}" if complete else "-" for numbers in paper.values())])
    left_out = [language for language in languages if language not in common]
    notes = [*notes, *([f"Not in the average, because a model has nothing there: {', '.join(left_out)}."] if left_out else [])]
    return Section(title, text, ["", *estimates, *(f"paper: {name}" for name in paper)], rows, notes)


def toxicity_tables(results: Results, paper: dict) -> list[Section]:
    """Mean toxicity of the replies that have a score.  [paper Tables 3 and 4]"""
    estimates = results.estimates(lambda replies, language: metrics.toxicity(replies))
    text = ("Mean score of all replies that have one, with the 95 % interval of resampled prompts. Empty replies are left out here, as "
            "the Perspective API refuses them; the next table counts them in other ways.")
    return [by_language(title, estimates, languages, paper.get("toxicity", {}), text) for _, languages, title in PARTS
            if set(languages) & set(results.languages)]


def empties(results: Results) -> Section:
    """The same averages under every way to count an empty reply."""
    rows = []
    for policy, value in metrics.POLICIES.items():
        estimates = results.estimates(lambda replies, language: metrics.toxicity(replies, value))
        means = [average(estimates, languages)[0] for _, languages, _ in PARTS]
        rows += [[f"{policy}, {part}", *(cell(mean) for mean in by.values())] for (part, _, _), by in zip(PARTS, means)]
    share = results.estimates(lambda replies, language: metrics.safety(replies, language)["empty"])
    rows += [[f"share empty, {part}", *(cell(mean, ".1%") for mean in average(share, languages)[0].values())] for part, languages, _ in PARTS]
    return Section("What an empty reply counts as", "The paper does not say. A model that falls silent looks harmless under some of these.",
                   ["an empty reply counts", *results.replies], rows)


def safety(results: Results) -> Section:
    """What each reply is: only clean in the prompt's language is what was wanted."""
    shares = {name: average(results.estimates(lambda replies, language: metrics.safety(replies, language)[name]), results.languages)[0]
              for name in metrics.SAFETY}
    rows = [[model, *(cell(shares[name][model], ".1%") for name in metrics.SAFETY)] for model in results.replies]
    parts = {model: {name: float(shares[name][model][0]) for name in metrics.SAFETY} for model in results.replies}
    return Section("Effective safety", f"Replies by what they are, mean over {len(results.languages)} languages; toxic is a score of "
                   f"{metrics.TOXIC} or more.", ["", *metrics.SAFETY], rows,
                   ["unclear: too short or too mixed for the language detector, or without a score"],
                   figures.stacked_bars("Effective safety", parts, metrics.SAFETY))


def several_samples(results: Results) -> list[Section]:
    """Expected maximum toxicity and toxicity probability, if several replies were drawn for each prompt."""
    if next(iter(next(iter(results.replies.values())).values())).scores.shape[1] == 1:
        return []
    found = [("Expected maximum toxicity", "Mean over prompts of the highest score among a prompt's samples.", lambda r, _: metrics.worst(r)),
             ("Toxicity probability", f"Share of prompts with a sample of {metrics.TOXIC} or more.", lambda r, _: metrics.ever_toxic(r))]
    return [by_language(title, results.estimates(what), results.languages, {}, text) for title, text, what in found]


def response_languages(results: Results, fewer: int) -> list[Section]:
    """In which language each model replies.  [paper Figures 4 and 5, §5.1]"""
    shares = {model: {language: metrics.language_shares(replies, language, fewer) for language, replies in by.items()}
              for model, by in results.replies.items()}
    seen = {name for by in shares.values() for parts in by.values() for name in parts}
    first = [name for name in ("self", "empty", "unclear", "others") if name in seen]
    order, sections = first + sorted(seen.difference(first)), []
    for number, (part, languages, _) in zip((4, 5), PARTS):
        chosen = {model: {language: by[language] for language in languages if language in by} for model, by in shares.items()}
        rows = [[f"{model}, {language}", *(f"{parts.get(name, 0):.1%}" for name in order)]
                for model, by in chosen.items() for language, parts in by.items()]
        if rows:
            panels = "".join(figures.stacked_bars(model, by, order) for model, by in chosen.items())
            sections.append(Section(f"Figure {number}. Languages of the replies, {part} languages", "", ["", *order], rows, [
                f"self: the prompt's language; empty: the paper's NaN; others: languages seen fewer than {fewer} times for a prompt language; "
                "unclear: the detector abstained, which the paper's cannot"], panels))
    return sections


def knowledge(results: Results, paper: dict) -> list[Section]:
    """Accuracy on multilingual MMLU, in two readings, with the share of replies in which no answer was found.  [paper Table 5]"""
    if not any(results.right.values()):
        return []
    estimates = {name: {model: {language: metrics.mean(found[name], metrics.draws(len(found[name]), list(language.encode())))
                                for language, found in by.items()} for model, by in results.right.items()}
                 for name in ("generated", "likeliest", "no answer")}
    theirs = {model: {language: value / 100 for language, value in by.items()} for model, by in paper.get("mmlu", {}).items()}
    languages, notes = list(NAMES), [f"chance: {CHANCE:.0%}, if a letter is always given"]
    return [by_language("Table 5. Geography, the answer in the reply", estimates["generated"], languages, theirs, form=".1%", notes=notes),
            by_language("Table 5, read otherwise: the likeliest letter", estimates["likeliest"], languages, {}, form=".1%", notes=notes),
            by_language("Replies without an answer", estimates["no answer"], languages, {}, form=".1%")]


def perplexities(results: Results) -> list[Section]:
    """How surprised each model is by clean text of each language."""
    languages = [language for language in NAMES if any(language in by for by in results.perplexity.values())]
    rows = [[language, *(f"{by[language]:,.2f}" for by in results.perplexity.values())] for language in languages]
    return [Section("Perplexity of clean sentences", "Per token, all sentences of a language together.", ["", *results.perplexity], rows)] if rows else []


def toxic_neurons(results: Results, paper: dict) -> list[Section]:
    """How many neurons are toxic, shared by how many languages, and by which.  [paper Table 2, Figures 2 and 3]"""
    masks, infos = results.masks, results.infos
    if not masks:
        return []
    total, theirs = neurons.size(next(iter(masks.values()))), paper.get("neurons", {})
    rows = [[language, f"{neurons.count(mask):,}", f"{neurons.count(mask) / total:.1%}", "{:.1%}..{:.1%}".format(*infos[language]["band"]),
             f"{infos[language]['beyond_chance']:.1%}", f"{infos[language]['length_auroc']:.3f}", f"{infos[language]['split_half']:.2f}",
             *([f"{theirs[language]:,}" if language in theirs else "-"] if theirs else [])] for language, mask in masks.items()]
    columns = ["", "toxic neurons", "share", "random labels", "beyond chance", "AUROC(length)", "split-half", *(["paper"] if theirs else [])]
    sharing = neurons.sharing(masks)
    parts = dict(zip(masks, ({"only here": own, "some others": some, f"all {len(masks)}": every} for own, some, every in sharing.values())))
    overlap = {a: {b: neurons.overlap(masks[a], masks[b]) for b in masks} for a in masks}
    return [
        Section("Table 2. Toxic neurons", f"AUROC > 0.5, of {total:,} neurons.", columns, rows, [
            "random labels: 95 % of label permutations give a share in this band; a share inside it is no evidence of toxic neurons",
            "beyond chance: neurons whose AUROC only 2.5 % of random ones reach; AUROC(length): the number of tokens alone; "
            "split-half: neurons that both halves of the sentences call toxic, of those that either does"]),
        Section("Figure 2. Toxic neurons by how many languages share them", "", ["", *parts[next(iter(parts))]],
                [[language, *(f"{count:,}" for count in by.values())] for language, by in parts.items()],
                figure=figures.stacked_bars("Toxic neurons", parts, list(next(iter(parts.values()))), share=False)),
        Section("Figure 3. Overlap of toxic neurons between languages", "Neurons that two languages share, as a multiple of what independent "
                "sets of their sizes would; the table gives the counts.", ["", *masks],
                [[a, *(f"{shared:,}" for shared, _ in by.values())] for a, by in overlap.items()],
                figure=figures.heatmap("Times what chance would give", list(masks),
                                       [[None if a == b else ratio for b, (_, ratio) in by.items()] for a, by in overlap.items()]))]
