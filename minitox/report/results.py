"""All that was measured, read from disk: one array for each model and language.

n  prompts of a language        S  samples of each prompt        W  bootstrap resamples
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minitox import neurons
from minitox.errors import InputError
from minitox.evaluate import metrics, mmlu
from minitox.files import file_hash, read_written
from minitox.report.neuron_tables import check_info
from minitox.run.evaluation import read_answers, read_perplexity, read_replies
from minitox.run.neuron_files import read_neurons


@dataclass
class Results:
    """What the report is made of; its estimates are {model: {language: means (1 + W,)}}."""

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

    base: str  # fingerprint of the base model; "" if it is not in the report
    trainings: dict  # {model: the run.json of train.py, or None}; not of the base model

    def estimates(self, measure) -> dict:
        """Means of `measure(replies)`, an array (n, S)."""

        def estimate(language, judged):
            return metrics.mean(measure(judged), self.resamples[language])

        return for_all(estimate, self.replies)

    def shares(self, category: str) -> dict:
        """Shares of replies in a category of effective safety."""

        def share(language, judged):
            inside = metrics.safety(judged, language)[category]  # (n, S) of 0 and 1
            return metrics.mean(inside, self.resamples[language])

        return for_all(share, self.replies)

    def accuracy(self, reading: str) -> dict:
        """Shares of MMLU's questions that are right in a reading of the answers."""

        def share(language, graded):
            right = graded[reading]  # (questions, 1) of 0 and 1
            return metrics.mean(right, metrics.resample(len(right), list(language.encode())))

        return for_all(share, self.answers)


def for_all(function, values: dict) -> dict:
    """`function(language, value)` of every value of {model: {language: value}}."""
    results = {}
    for model, by_language in values.items():
        results[model] = {code: function(code, value) for code, value in by_language.items()}
    return results


def average(estimates: dict, languages) -> tuple[dict, list]:
    """The unweighted mean over those of `languages` that every model has, and which these are."""
    # 1) the languages that all models have, so that all are averaged over the same ones
    common = list(languages)
    for by_language in estimates.values():
        known = [code for code, mean in by_language.items() if not np.isnan(mean[0])]
        common = [language for language in common if language in known]

    # 2) the mean of each model, (1 + W,); NaN over no language
    means = {}
    for model, by_language in estimates.items():
        values = [by_language[language] for language in common]
        means[model] = np.mean(values or [[np.nan]], axis=0)
    return means, common


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
    base = models.get("base")
    trainings = {name: model.training for name, model in models.items() if name != "base"}
    resamples = {}
    for language, prompts in inputs.prompts.items():
        resamples[language] = metrics.resample(len(prompts), [seed, *language.encode()])
    return Results(
        list(inputs.prompts),
        rows,
        judge_all(rows, samples, scores, identify, advance),
        grade_all(out / "mmlu", models, inputs.questions),
        read_all(out / "perplexity", models, inputs.clean, read_perplexity),
        resamples,
        *toxic_neurons(out / "neurons", base),
        base.fingerprint if base else "",
        trainings,
    )


def read_all(folder, models, languages, read):
    """What `read` gives for the file of each model and language."""
    results = {}
    for model in models:
        results[model] = {code: read(folder / model / f"{code}.jsonl") for code in languages}
    return results


def check_replies(path: Path, rows: list[dict], prompts: dict[int, str], samples: int):
    """InputError if the rows are not the replies to the prompts, each prompt `samples` times."""
    written = [(row["id"], row["sample"], row["prompt"]) for row in rows]
    asked = [(i, sample, prompts[i]) for i in sorted(prompts) for sample in range(samples)]
    if written != asked:
        raise InputError(
            f"{path}: a reply is missing, is there twice, or is to another prompt; "
            "delete the file to make it again"
        )


def judge_all(
    rows,  # the replies of each model and language
    samples,
    scores,
    identify,
    advance,
):
    """Score, status and language of all replies."""
    done = 0
    judged = {}
    for model, by_language in rows.items():
        judged[model] = {}
        for language, written in by_language.items():
            # a prompt that was too long for the model has no reply
            texts = [row["response"] for row in written if row["response"] is not None]
            answers = scores.of(
                texts,
                language,
                lambda count, before=done: advance(before + count),
            )
            judged[model][language] = judge(written, iter(answers), samples, identify)
            done += len(written)
    return judged


def judge(
    rows,
    answers,  # score and status of each reply that there is
    samples,
    identify,
):
    """Score, status and language of each reply, as arrays (n, S)."""
    # 1) what is known of each row
    judged = []
    for row in rows:
        reply = row["response"]
        score, status = (None, "too long") if reply is None else next(answers)
        score = np.nan if score is None else score
        status = status.partition(":")[0]  # without the reason of a failure
        code = None if status in ("too long", "empty") else identify(reply)
        judged.append((score, status, code or ""))

    # 2) as arrays: (n * S,) -> (n, S)
    columns = zip(*judged, strict=True)
    return metrics.Replies(*(np.array(column).reshape(-1, samples) for column in columns))


def grade_all(folder, models, questions):
    """What `grade` gives for the file of each model and language."""
    answers = {}
    for model in models:
        answers[model] = {}
        for language, asked in questions.items():
            rows = read_answers(folder / model / f"{language}.jsonl", asked)
            answers[model][language] = grade(rows, asked)
    return answers


def grade(rows, questions):
    """Which answers are right, and which are absent; (questions, 1) each, of 0 and 1."""
    columns = {"reply": [], "likeliest": [], "no answer": []}
    for row, question in zip(rows, questions, strict=True):
        # the letter is extracted here, so that another rule needs no new replies
        text = row["reply"]
        letter = None if text is None else mmlu.extract(text, question["choices"])
        columns["reply"].append(letter == row["answer"])
        columns["likeliest"].append(row["likeliest"] == row["answer"])
        columns["no answer"].append(letter is None)
    return {name: np.array(column, dtype=float)[:, None] for name, column in columns.items()}


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
            infos[language] = check_info(str(path), info) | {"sha256": file_hash(path)}
            masks[language] = neurons.select(auroc)
        except InputError as reason:
            gaps[f"neurons/{language}"] = str(reason)
    return masks, infos, gaps
