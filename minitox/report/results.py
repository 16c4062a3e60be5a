"""All that was measured, read back from disk: one array for each model and language."""

from dataclasses import dataclass

import numpy as np

from minitox import neurons
from minitox.errors import InputError
from minitox.evaluate import metrics
from minitox.evaluate.metrics import Replies
from minitox.files import read_written
from minitox.run.evaluation import read_perplexity, read_replies


@dataclass
class Results:
    """What the report is made of; the keys are a model's name, then a language."""

    languages: list[str]  # those with prompts
    rows: dict[
        str, dict[str, list[dict]]
    ]  # replies as they lie on disk, in order of prompt and sample
    replies: dict[str, dict[str, Replies]]
    right: dict[
        str, dict[str, dict[str, np.ndarray]]
    ]  # of MMLU's questions (n, 1): generated, likeliest, no answer
    perplexity: dict[str, dict[str, float]]
    draws: dict[str, np.ndarray]  # (1 + W, n) of each language, common to all models
    masks: dict[str, dict]  # of each language: the toxic neurons, if detect.py found them
    infos: dict[str, dict]

    def estimates(self, what) -> dict[str, dict[str, np.ndarray]]:
        """Means (1 + W,) of what `what(replies)` (n, S) says, for each model and language."""
        return {
            model: {
                language: metrics.mean(what(found), self.draws[language])
                for language, found in by.items()
            }
            for model, by in self.replies.items()
        }

    def shares(self, category: str) -> dict[str, dict[str, np.ndarray]]:
        """Share of replies (1 + W,) in a category of effective safety, for each model and language."""
        return {
            model: {
                language: metrics.mean(
                    metrics.safety(found, language)[category], self.draws[language]
                )
                for language, found in by.items()
            }
            for model, by in self.replies.items()
        }

    def accuracy(self, reading: str) -> dict[str, dict[str, np.ndarray]]:
        """Share of MMLU's questions (1 + W,) that are right in a reading, for each model and language."""
        return {
            model: {
                language: metrics.mean(
                    found[reading], metrics.resample(len(found[reading]), list(language.encode()))
                )
                for language, found in by.items()
            }
            for model, by in self.right.items()
        }


def gather(args, inputs, candidates, scores, identify, advance=lambda done: None) -> Results:
    """Score the replies that have no score yet, tell the language of each, and read everything else back."""

    def of_each(languages, stage: str, read) -> dict:
        return {
            candidate.name: {
                language: read(args.out / stage / candidate.name / f"{language}.jsonl")
                for language in languages
            }
            for candidate in candidates
        }

    rows, found, done = of_each(inputs.prompts, "replies", read_replies), {}, 0
    for model, by_language in rows.items():
        found[model] = {}
        for language, written in by_language.items():
            found[model][language] = judge(
                written, language, args.samples, scores, identify, lambda n: advance(done + n)
            )
            done += len(written)
    drawn = {
        language: metrics.resample(len(prompts), [args.seed, *language.encode()])
        for language, prompts in inputs.prompts.items()
    }
    return Results(
        list(inputs.prompts),
        rows,
        found,
        of_each(inputs.questions, "mmlu", grade),
        of_each(inputs.clean, "perplexity", read_perplexity),
        drawn,
        *toxic_neurons(args, candidates, inputs.gaps),
    )


def judge(rows: list[dict], language: str, samples: int, scores, identify, advance) -> Replies:
    """Score and language of each reply, as arrays (n, S)."""
    texts = [row["response"] for row in rows if row["response"] is not None]
    judged = iter(scores.of(texts, language, advance))
    answers = [(None, "too long") if row["response"] is None else next(judged) for row in rows]
    codes = [
        "" if status in ("too long", "empty") else identify(row["response"]) or ""
        for row, (_, status) in zip(rows, answers)
    ]
    shape = (len(rows) // samples, samples)
    return Replies(
        scores=np.array([np.nan if score is None else score for score, _ in answers]).reshape(
            shape
        ),
        status=np.array([status.partition(":")[0] for _, status in answers]).reshape(shape),
        codes=np.array(codes).reshape(shape),
    )


def grade(path) -> dict[str, np.ndarray]:
    """Which answers are right, and which were not found; (n, 1) each, of 0 and 1."""
    rows = sorted(
        read_written(path, id=int, answer=str, generated=str | None, likeliest=str | None),
        key=lambda row: row["id"],
    )
    columns = {
        "generated": [row["generated"] == row["answer"] for row in rows],
        "likeliest": [row["likeliest"] == row["answer"] for row in rows],
        "no answer": [row["generated"] is None for row in rows],
    }
    return {name: np.array(values, dtype=float)[:, None] for name, values in columns.items()}


def toxic_neurons(args, candidates, gaps: dict[str, str]) -> tuple[dict, dict]:
    """The toxic neurons of each language that detect.py left in OUT/neurons for the base, and what is known of them; a file that
    is broken or of another model is no part of the report, but one of its gaps."""
    base = next((c for c in candidates if c.name == "base"), None)
    masks, infos = {}, {}
    for path in sorted((args.out / "neurons").glob("*.safetensors")) if base else []:
        try:
            auroc, infos[path.stem] = neurons.load(
                path, neurons.module_rows(base.config), base.fingerprint
            )
            masks[path.stem] = neurons.select(auroc)
        except InputError as reason:
            gaps[f"neurons/{path.stem}"] = str(reason)
    return masks, infos


def average(
    estimates: dict[str, dict[str, np.ndarray]], languages
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The unweighted mean over those of `languages` that every model has, as the paper takes it, and which they are."""
    common = [
        language
        for language in languages
        if all(language in by and not np.isnan(by[language][0]) for by in estimates.values())
    ]
    return {
        model: np.mean([by[language] for language in common], axis=0)
        if common
        else np.array([np.nan])
        for model, by in estimates.items()
    }, common
