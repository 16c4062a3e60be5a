"""How good the scorers are: how well they separate labelled cases, and whether they agree."""

from dataclasses import dataclass

import numpy as np

from minitox.evaluate import metrics
from minitox.report import scorer_quality
from minitox.report.page import Section
from minitox.report.result_tables import cells, grid
from minitox.report.results import Results, average
from minitox.run.evaluation_inputs import MOST_CASES
from minitox.run.judging import answer_all

LEAST_AUC = 0.7  # below it, the report warns; 0.5 is chance
WHY = {  # why a case has no score, by its status
    "unsupported": "the scorer does not know the language",
    "empty": "nothing in them is visible",
    "failed": "scoring failed",
}


@dataclass
class Opinion:
    """How one scorer scores the replies, and cases whose labels are known."""

    scorer: object
    results: Results
    aucs: dict[str, tuple[float, float, float]]  # by language: AUC, low, high; NaN if unknown
    unscored: dict[str, str]  # by language: how many cases have no score, and why; "" if all have

    def known(self) -> dict[str, float]:
        """The AUCs that are known, by language."""
        return {language: auc for language, (auc, *_) in self.aucs.items() if not np.isnan(auc)}


# ---- labelled cases ----


def measure(scores, cases: dict, advance) -> tuple[dict, dict]:
    """Score the cases: `aucs` and `unscored` of an Opinion.

    `scores` gives the score of each text; `cases` are {language: [(text, whether hateful)]};
    `advance` is called with the number of scored cases.
    """
    # 1) the scores of all languages
    texts = [text for labelled in cases.values() for text, _ in labelled]
    languages = [language for language, labelled in cases.items() for _ in labelled]
    answers = iter(answer_all(texts, languages, scores, advance))

    aucs = {}
    unscored = {}
    for language, labelled in cases.items():
        # 2) the AUC of the cases that have a score
        of_cases = [next(answers) for _ in labelled]
        values = np.array([np.nan if score is None else score for score, _ in of_cases])
        hateful = np.array([label for _, label in labelled])
        known = ~np.isnan(values)
        counts = [int(np.sum(known & hateful)), int(np.sum(known & ~hateful))]
        auc = scorer_quality.auc(values[known], hateful[known])
        bounds = scorer_quality.auc_interval(auc, *counts) if all(counts) else (np.nan, np.nan)
        aucs[language] = (auc, *bounds)

        # 3) why others have none
        statuses = {status.partition(":")[0] for score, status in of_cases if score is None}
        reasons = [WHY[status] for status in sorted(statuses)]
        missing = len(values) - sum(counts)
        unscored[language] = f"{missing:,} cases: {', '.join(reasons)}" if missing else ""
    return aucs, unscored


def findings(opinions: list[Opinion], unmeasured: str) -> tuple[list[str], list[str]]:
    """A sentence on how far to rely on each scorer: warnings of weak ones, and those on others.

    `unmeasured` says why there may be no cases.
    """
    warnings = []
    others = []
    for opinion in opinions:
        is_weak = any(auc < LEAST_AUC for auc in opinion.known().values())
        sentences = warnings if is_weak else others
        sentences.append(finding(opinion, unmeasured))
    return warnings, others


def finding(opinion, unmeasured) -> str:
    name = opinion.scorer.name
    known = opinion.known()
    if not known:
        why = "it has no score of them" if opinion.aucs else unmeasured
        return f"How well {name} separates hateful from harmless cases was not measured: {why}."
    # languages of the report may have no cases
    count = len(known.keys() & opinion.results.languages)
    of_all = len(opinion.results.languages)
    measured = f" Measured in {count} of {of_all} languages." if count < of_all else ""
    weak = {language: auc for language, auc in known.items() if auc < LEAST_AUC}
    if weak:
        listed = ", ".join(f"{language} ({auc:.2f})" for language, auc in weak.items())
        return (
            f"{name} separates hateful from harmless cases poorly (AUC below {LEAST_AUC}) in: "
            f"{listed}. Do not rely on its scores in these languages; 0.5 is chance.{measured}"
        )
    lowest = min(known, key=known.get)
    return (
        f"{name} separates hateful from harmless cases with an AUC of {known[lowest]:.2f} at worst "
        f"({lowest}), {np.mean(list(known.values())):.2f} on average.{measured}"
    )


# ---- the sections ----


def scorers(opinions: list[Opinion], unmeasured: str) -> Section:
    """A column for each scorer: its AUCs, the models' mean toxicity, and whether scorers agree."""
    first = opinions[0]
    columns = {}
    notes = []
    for opinion in opinions:
        name = opinion.scorer.name
        columns[name] = auc_cells(opinion)
        for language, reason in opinion.unscored.items():
            if reason:
                notes.append(f"{name}, {language}: no score of {reason}.")
    labels = [f"AUC, {language}" for language in first.aucs]
    note = f"AUC: not measured: {unmeasured}."
    if labels:
        note = (
            "AUC: the probability that a hateful case of DATA/hatecheck gets a higher score than a "
            f"harmless one, of at most {MOST_CASES} cases of each class and language. The "
            "intervals take the cases to be independent; they are too narrow where cases share a "
            "template."
        )
    notes.insert(0, note)

    # several scorers beside each other
    if len(opinions) > 1:
        means, languages = mean_toxicity(opinions)
        for (name, model), cell in cells(means).items():
            columns[name][f"toxicity, {model}"] = cell
        labels += [f"toxicity, {model}" for model in first.results.shown]
        notes.append(f"Toxicity: mean over the {len(languages)} languages that all scorers know.")
        rows = [f"{measure} with {first.scorer.name}" for measure in ("rank correlation", "kappa")]
        columns[first.scorer.name] |= dict.fromkeys(rows, "")
        for opinion in opinions[1:]:
            values = agreement(first.results, opinion.results)
            for row, value in zip(rows, values, strict=True):
                if not np.isnan(value):
                    columns[opinion.scorer.name][row] = f"{value:.2f}"
        labels += rows
        notes.append(
            "Rank correlation: Spearman's, over all replies of all models; a dash if a scorer "
            f"gives all of them the same score. Kappa: Cohen's, of scores from {metrics.TOXIC} on "
            "against lower ones; a dash if both scorers call every reply the same."
        )
    return Section("Scorers", "", *grid(columns, labels), notes)


def auc_cells(opinion) -> dict[str, str]:
    """The AUC of each language, with its interval."""
    written = {}
    for language in opinion.known():
        auc, low, high = opinion.aucs[language]
        written[f"AUC, {language}"] = f"{auc:.2f} ({low:.2f}..{high:.2f})"
    return written


def mean_toxicity(opinions) -> tuple[dict, list]:
    """{(scorer, model): mean (1 + W,)}, over the same languages for all, and which these are."""
    estimates = {}
    for opinion in opinions:
        for model, by_language in opinion.results.estimates(metrics.toxicity).items():
            estimates[opinion.scorer.name, model] = by_language
    return average(estimates, opinions[0].results.languages)


def agreement(one: Results, other: Results) -> tuple[float, float]:
    """Rank correlation and kappa over the replies that both scorers have scored."""
    a, b = all_scores(one), all_scores(other)
    known = ~np.isnan(a) & ~np.isnan(b)
    if not known.any():
        return np.nan, np.nan
    a, b = a[known], b[known]
    verdicts = a >= metrics.TOXIC, b >= metrics.TOXIC
    return scorer_quality.rank_correlation(a, b), scorer_quality.kappa(*verdicts)


def all_scores(results):  # -> (replies of all models and languages,)
    scores = []
    for by_language in results.replies.values():
        scores += [replies.scores.ravel() for replies in by_language.values()]
    return np.concatenate(scores)


def held_out(scorer) -> Section:
    """How well the scorer does on sentences that it has not learned from."""
    text = f"{scorer.name}: {scorer.about}"
    rows = [
        [
            language,
            f"{measured['auc']:.3f}",
            f"{measured['correlation']:.3f}",
            f"{measured['calibration']:.3f}",
            f"{measured['rows']:,}",
        ]
        for language, measured in getattr(scorer, "held_out", {}).items()
    ]
    if not rows:
        note = "The accuracy of the scorer in these languages was not measured here."
        return Section(f"The scorer {scorer.name}", text, notes=[note])
    columns = ["", "AUC", "correlation", "calibration error", "rows"]
    note = (
        "Measured on held-out sentences of the scorer's own data; the replies of a model may be "
        "toxic in other words."
    )
    return Section(f"The scorer {scorer.name}", text, columns, rows, [note])
