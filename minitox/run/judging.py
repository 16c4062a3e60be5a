"""What is known of every reply and answer: broken or not, its language, its score, right or wrong.

n  prompts of a language        S  samples of each prompt
"""

from pathlib import Path

import numpy as np

from minitox.errors import InputError
from minitox.evaluate import fluency, metrics, mmlu
from minitox.run.evaluation import read_answers
from minitox.run.fluency import by_key, numbered, read_fluency


def mark_broken(rows: dict, out: Path, human: dict, folder: str = "fluency") -> tuple[dict, dict]:
    """Whether each reply is broken, {model: {language: [bool]}}, and the limits on fluency.

    `human[language]` are replies that people wrote; without any, only repetition counts. `folder`
    of `out` has the likelihoods of the replies.
    """
    # 1) the limits, in the languages of the prompts
    nats_of_people = {}
    for language, replies in human.items():
        nats = read_fluency(out / "human" / "base" / f"{language}.jsonl", numbered(replies))
        nats_of_people[language] = [value for value in nats if not np.isnan(value)]
    limits = fluency.limits(nats_of_people, next(iter(rows.values()), {}))

    # 2) a reply is broken if it repeats itself, or is above the limit
    broken = {}
    for model, by_language in rows.items():
        broken[model] = {}
        for language, written in by_language.items():
            nats = [np.nan] * len(written)
            limit, _ = limits.get(language, (np.inf, False))
            if limits:
                path = out / folder / model / f"{language}.jsonl"
                nats = read_fluency(path, by_key(written))
            repetitive = [fluency.is_repetitive(row["response"] or "") for row in written]
            unlikely = [value > limit for value in nats]
            broken[model][language] = np.logical_or(unlikely, repetitive).tolist()
    return broken, limits


def identify_all(rows: list[dict], identify) -> list[str]:
    """The language of each reply; "" if there is no reply, or if the detector abstains."""
    codes = []
    for row in rows:
        text = row["response"]
        code = None if text is None else identify(text)
        codes.append(code or "")
    return codes


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
    rows: dict,  # the replies of each model and language
    broken: dict,  # whether each is, as mark_broken gives it
    codes: dict,  # its language, as identify_all gives it
    samples: int,
    scores,
    advance,
) -> dict:
    """Score, status and language of all replies, as metrics.Replies."""
    # 1) all replies, each in its language, or in the prompt's if that is not known
    texts = []
    languages = []
    for model, by_language in rows.items():
        for language, written in by_language.items():
            for row, code in zip(written, codes[model][language], strict=True):
                if row["response"] is not None:  # a prompt that was too long has no reply
                    texts.append(row["response"])
                    languages.append(code or language)

    # 2) the scores, and what is known of each reply in the order of the rows
    answers = iter(answer_all(texts, languages, scores, advance))
    judged = {}
    for model, by_language in rows.items():
        judged[model] = {}
        for language, written in by_language.items():
            known = broken[model][language], codes[model][language]
            judged[model][language] = judge(written, *known, answers, samples)
    return judged


def answer_all(texts, languages, scores, advance) -> list:
    """Score and status of each text, in its language."""
    # 1) the texts of each language
    places = {}
    for place, language in enumerate(languages):
        places.setdefault(language, []).append(place)

    # 2) one language after the other
    answers = {}
    for language, chosen in places.items():
        part = [texts[place] for place in chosen]
        before = len(answers)
        of_part = scores.of(part, language, lambda done, before=before: advance(before + done))
        answers |= zip(chosen, of_part, strict=True)
    return [answers[place] for place in range(len(texts))]


def judge(
    rows: list[dict],
    broken: list[bool],  # of each row, and so
    codes: list[str],
    answers,  # an iterator: score and status of each reply that there is
    samples: int,
) -> metrics.Replies:
    """Score, status and language of each reply, and whether it is broken, as arrays (n, S)."""
    # 1) the score and status of each row
    scores = []
    statuses = []
    for row in rows:
        score, status = None, "too long"
        if row["response"] is not None:
            score, status = next(answers)
        scores.append(np.nan if score is None else score)
        statuses.append(status.partition(":")[0])  # without the reason of a failure

    # 2) as arrays: (n * S,) -> (n, S)
    columns = scores, statuses, broken, codes
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
    """Which answers are right, and which are absent; (questions, 1) each, of 0 and 1.

    NaN for a question that is too long for the model.
    """
    columns = {"reply": [], "likeliest": [], "no answer": []}
    for row, question in zip(rows, questions, strict=True):
        if row["reply"] is None:
            for column in columns.values():
                column.append(np.nan)
            continue
        # the letter is extracted here, so that another rule needs no new replies
        letter = mmlu.extract(row["reply"], question["choices"])
        columns["reply"].append(letter == row["answer"])
        columns["likeliest"].append(row["likeliest"] == row["answer"])
        columns["no answer"].append(letter is None)
    return {name: np.array(column, dtype=float)[:, None] for name, column in columns.items()}
