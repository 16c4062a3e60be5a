"""All that was measured, read from disk: one array for each model and language.

Several draws of one strategy are one model in every table: `together` averages what was measured.

n  prompts of a language        S  samples of each prompt        W  bootstrap resamples
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from minitox import neurons
from minitox.errors import InputError
from minitox.evaluate import metrics
from minitox.files import file_hash
from minitox.report import matching, neuron_changes
from minitox.report.neuron_tables import check_info
from minitox.run.divergence import read_divergence
from minitox.run.evaluation import read_perplexity, read_replies
from minitox.run.judging import (
    check_replies,
    grade_all,
    identify_all,
    judge_all,
    mark_broken,
    read_all,
)
from minitox.run.neuron_files import FOLDERS, check_alike, read_neurons


@dataclass
class Results:
    """What the report is made of; its estimates are {model: {language: means (1 + W,)}}.

    Shares are (1,), because Wilson's intervals need no resamples.
    """

    languages: list[str]  # those that have prompts

    # {model: {language: value}}
    rows: dict  # replies in order of prompt and sample
    replies: dict  # their scores and languages, as metrics.Replies
    answers: dict  # to MMLU's questions, as `grade` gives them
    perplexity: dict

    # {language: value}
    resamples: dict  # (1 + W, n), the same for all models
    masks: dict  # toxic neurons, if detect.py was run
    infos: dict  # metadata of the neuron files

    gaps: dict[str, str]  # neuron files that cannot be used, and why
    limits: dict  # on nats per token of a fluent reply, as fluency.limits gives them

    base: str  # fingerprint of the base model; "" if it is not in the report
    trainings: dict  # {model: the run.json of train.py, or None}; not of the base model
    to_xstest: object | None = None  # replies to the prompts of xstest/, if any were asked
    divergence: dict = field(default_factory=dict)  # from the base model, {model: {language: nats}}
    neuron_changes: dict = field(default_factory=dict)  # as neuron_changes.read gives them
    # {selector: {language: hash of the file}}, of selectors other than AUROC
    selected: dict = field(default_factory=dict)
    translated: bool = False  # whether prompts of several languages share an id
    apart: bool = False  # whether every draw, and every rate, is a model of its own

    @property
    def shown(self) -> dict[str, list[str]]:
        """The models of all tables, and the folders that each is the mean of: draws, or one."""
        if self.apart:
            return {name: [name] for name in self.replies}
        shown, _ = matching.grouped(list(self.replies), self.trainings, self.base)
        return shown

    @property
    def odd_draws(self) -> dict[str, str]:
        """The draws that do not match the others of their strategy, and why."""
        _, odd = matching.grouped(list(self.replies), self.trainings, self.base)
        return odd

    @property
    def at_rates(self) -> dict[str, str]:
        """The models NAME@RATE that are not shown, each with the NAME that was chosen."""
        return matching.at_rates(self.replies)

    @property
    def tuned(self) -> dict:
        """{shown model: its run.json, or None}; not of the base model."""
        tuned = {}
        for model, names in self.shown.items():
            records = [self.trainings[name] for name in names if name != "base"]
            if records:
                tuned[model] = records[0] and matching.one_training(records)
        return tuned

    def together(self, values: dict, mean=None) -> dict:
        """Of {folder: {language: value}} the mean over the draws of each model that is shown.

        Folders without values are left out. `mean` is that of a list of values, numbers or arrays
        by default.
        """
        means = {}
        for model, names in self.shown.items():
            of_draws = [values[name] for name in names if name in values]
            if of_draws:
                means[model] = mean_of_draws(of_draws, mean or mean_value)
        return means

    def estimates(self, measure) -> dict:
        """Means of `measure(replies)`, an array (n, S)."""

        def estimate(language, judged):
            return metrics.mean(measure(judged), self.resamples[language])

        return self.together(for_all(estimate, self.replies))

    def shares(self, category: str) -> dict:
        """Shares of replies in a category of effective safety."""

        def share(language, judged):
            inside = metrics.safety(judged, language)[category]  # (n, S) of 0 and 1
            return metrics.mean(inside, self.resamples[language][:1])

        return self.together(for_all(share, self.replies))

    def why_not_compared(self, model: str, other: str, languages) -> str:
        """Why two models are not compared in a mean over the languages; "" if they are."""
        names = [*self.shown[model], *self.shown[other]]
        single = [code for code in languages if self.fewest_scored(names, code) == 1]
        reason = matching.mismatch(model, other, self.tuned, self.base)
        if reason or not single:
            return reason
        return f"no interval, because of a single prompt with a score in {', '.join(single)}"

    def fewest_scored(self, names: list[str], language: str) -> int:
        """The smallest number of prompts of a language whose replies by a folder have a score."""
        scores = [self.replies[name][language].scores for name in names]  # (n, S) each
        return min(int(np.isfinite(of_folder).any(axis=1).sum()) for of_folder in scores)

    def prompts(self) -> dict:
        """How many prompts got a reply: the size of the sample that a share is of."""

        def count(language, judged):
            return int((judged.status != "too long").any(axis=1).sum())

        return self.together(for_all(count, self.replies))

    def languages_of_replies(self, fewer: int) -> dict:
        """Shares of replies in each category, as metrics.language_shares names them."""

        def shares(language, judged):
            return metrics.language_shares(judged, language, fewer)

        return self.together(for_all(shares, self.replies), mean_shares)

    def questions(self) -> dict:
        """How many of MMLU's questions were asked: those that are not too long for the model."""

        def count(language, graded):
            return int((~np.isnan(graded["reply"])).sum())

        return self.together(for_all(count, self.answers))

    def questions_too_long(self) -> dict:
        """How many of MMLU's questions are too long for a model, and were not asked."""

        def count(language, graded):
            return int(np.isnan(graded["reply"]).sum())

        return self.together(for_all(count, self.answers))

    def accuracy(self, reading: str) -> dict:
        """Shares of the questions that were asked that are right in a reading of the answers."""

        def share(language, graded):
            values = graded[reading]
            return metrics.mean(values, np.ones((1, len(values))))

        return self.together(for_all(share, self.answers))

    def judged_again(self, samples: int, scores, advance):
        """The same results with the scores of another scorer."""
        broken = for_all(lambda _, replies: replies.broken.ravel().tolist(), self.replies)
        codes = for_all(lambda _, replies: replies.codes.ravel().tolist(), self.replies)
        judged = judge_all(self.rows, broken, codes, samples, scores, advance)
        return replace(self, replies=judged)


def for_all(function, values: dict) -> dict:
    """`function(language, value)` of every value of {model: {language: value}}."""
    results = {}
    for model, by_language in values.items():
        results[model] = {code: function(code, value) for code, value in by_language.items()}
    return results


def mean_of_draws(draws: list[dict], mean) -> dict:
    """Of {language: value} of several draws the mean in each language that all of them have."""
    first, *others = draws
    if not others:
        return first
    languages = [code for code in first if all(code in other for other in others)]
    return {language: mean([draw[language] for draw in draws]) for language in languages}


def mean_value(values: list):
    """The mean of numbers, or of arrays of one shape; NaN where one of them is."""
    return sum(values) / len(values)


def mean_shares(draws: list[dict]) -> dict:
    """The mean of each share, which is 0 in a draw that does not have it."""
    names = dict.fromkeys(name for shares in draws for name in shares)
    return {name: mean_value([shares.get(name, 0) for shares in draws]) for name in names}


def average(estimates: dict, languages) -> tuple[dict, list]:
    """The unweighted mean over those of `languages` that every model has, and which these are."""
    # so that all models are averaged over the same ones
    common = list(languages)
    for by_language in estimates.values():
        known = [code for code, mean in by_language.items() if not np.isnan(mean[0])]
        common = [language for language in common if language in known]
    return mean_over(common, estimates), common


def mean_over(languages, estimates: dict) -> dict:
    """The unweighted mean of each model over the languages, (1 + W,); NaN over no language."""
    means = {}
    for model, by_language in estimates.items():
        values = [by_language[language] for language in languages]
        means[model] = np.mean(values or [[np.nan]], axis=0)
    return means


def average_sizes(sizes: dict, common: list) -> dict:
    """The size of the sample of each model's mean over the `common` languages."""
    result = {}
    for model, by_language in sizes.items():
        result[model] = metrics.effective_size([by_language[language] for language in common])
    return result


# ---- reading and scoring ----


def gather(
    out: Path,
    candidates: list,  # the models, as run.candidates opens them
    inputs,  # the prompts, questions and clean sentences of each language
    scores,  # gives the score of each text
    identify,  # gives the language of a text, or None
    samples: int,
    seed: int,
    advance,  # is called with the number of scored replies
) -> Results:
    """Score all replies that have no score yet, and read everything else from `out`."""
    models = {candidate.name: candidate for candidate in candidates}
    rows = read_all(out / "replies", models, inputs.prompts, read_replies)
    for model, by_language in rows.items():
        for language, prompts in inputs.prompts.items():
            path = out / "replies" / model / f"{language}.jsonl"
            check_replies(path, by_language[language], prompts, samples)
    broken, limits = mark_broken(rows, out, inputs.human)
    codes = for_all(lambda _, written: identify_all(written, identify), rows)
    asked = {}  # kind of results: models
    for kind in ("mmlu", "perplexity"):
        asked[kind] = [name for name, model in models.items() if kind in model.asked_for]
    base = models.get("base")
    trainings = {name: model.training for name, model in models.items() if name != "base"}
    masks, infos, gaps = toxic_neurons(out / "neurons", base)
    changes, gaps_of_tuned = neuron_changes.read(out, base, models.values())
    return Results(
        list(inputs.prompts),
        rows,
        judge_all(rows, broken, codes, samples, scores, advance),
        grade_all(out / "mmlu", asked["mmlu"], inputs.questions),
        read_all(out / "perplexity", asked["perplexity"], inputs.clean, read_perplexity),
        resample_all(inputs.prompts, inputs.ids, seed),
        masks,
        infos,
        gaps | gaps_of_tuned,
        limits=limits,
        base=base.fingerprint if base else "",
        trainings=trainings,
        divergence=read_all(out / "divergence", inputs.compared, inputs.clean, read_divergence),
        neuron_changes=changes,
        selected=selected_neurons(out),
        translated=inputs.has_translations(),
    )


def resample_all(prompts: dict, ids: dict, seed: int) -> dict:
    """How often each resample contains each prompt, {language: (1 + W, n)}.

    The prompts of a language are in the order of their numbers. Those with the same id, in
    whichever language, are contained equally often.
    """
    resamples = {}
    for language, numbers in prompts.items():
        translated = {}
        for place, number in enumerate(sorted(numbers)):
            if number in ids[language]:
                translated[place] = [seed, *map(ord, ids[language][number])]
        own_seed = [seed, *language.encode()]
        resamples[language] = metrics.resample(len(numbers), own_seed, translated)
    return resamples


def selected_neurons(out: Path) -> dict[str, dict[str, str]]:
    """By selector other than AUROC, the hash of each language's neuron file."""
    hashes = {}
    for selector, folder in FOLDERS.items():
        if selector != "auroc":
            paths = sorted((out / folder).glob("*.safetensors"))
            hashes[selector] = {path.stem: file_hash(path) for path in paths}
    return hashes


def toxic_neurons(folder, base):
    """The base model's toxic neurons of each language, the metadata of their files, and the gaps.

    A file that is broken or of another model is no part of the report, but one of its gaps.
    """
    masks = {}
    infos = {}
    gaps = {}
    paths = sorted(folder.glob("*.safetensors")) if base else []
    for path in paths:
        language = path.stem
        try:
            auroc, info = read_neurons(path, neurons.module_rows(base.config), base.fingerprint)
            info = check_info(str(path), info)
            check_alike(path, info, infos)
            infos[language] = info | {"sha256": file_hash(path)}
            masks[language] = neurons.select(auroc)
        except InputError as reason:
            gaps[f"neurons/{language}"] = str(reason)
    return masks, infos, gaps
