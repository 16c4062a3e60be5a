"""How likely the base model finds the replies of all models, and of people, in resumable files."""

import math
from functools import partial
from pathlib import Path

from minitox.errors import InputError
from minitox.evaluate.perplexity import negative_log_likelihoods
from minitox.files import read_written
from minitox.lm.batching import batches
from minitox.run import distributed, outputs
from minitox.run.candidates import Candidate
from minitox.run.evaluation import Asking, as_sentences, read_replies, shortened, with_nats
from minitox.run.evaluation_inputs import Inputs
from minitox.run.journal import Batches, append_batches
from minitox.run.progress import Progress
from minitox.scorers.scores import text_hash


def check_fluency(out: Path, base, models, inputs: Inputs, made_with: dict) -> None:
    """InputError if there is something that the base model read with other settings."""
    if base is None or not inputs.human:
        return
    # 1) the human-written replies
    by_base = {"base": base.fingerprint} | made_with["human"]
    values = base.identity | by_base
    outputs.check_settings(out / "human" / "base", values, inputs.hashes["instructions"])

    # 2) those of the models
    for candidate in models:
        for kind, folder, languages in judged_of(candidate, inputs):
            if languages:
                values = candidate.identity | by_base | made_with[kind]
                outputs.check_settings(out / folder / candidate.name, values)


def judged_of(candidate: Candidate, inputs: Inputs) -> list[tuple[str, str, dict]]:
    """The kinds of replies that a model writes, the folder of their fluency, and the languages."""
    kinds = [("replies", "fluency", inputs.prompts)]
    if "xstest" in candidate.asked_for:
        kinds.append(("xstest", "xstest_fluency", inputs.xstest))
    return kinds


def measure_fluency(base, models, inputs, out: Path, asking: Asking, shard: bool) -> dict[str, str]:
    """Write how likely the base model finds every reply, if there are human-written replies.

    Returns why they cannot be read; then only repetition counts.
    """
    if base is None or not inputs.human or not models:
        return {}
    rows = inputs.count_fluency(asking.samples, models)
    progress = Progress(rows)
    try:
        with base.loaded(), progress.task("fluency", rows, "replies") as show:
            files = plan_all_fluency(base, models, inputs, out, asking)
            for done, file in append_batches(files, together=shard):
                show(done, f": {file.path.parent.name}, {file.path.stem}")
    except InputError as error:
        progress.print(f"fluency: {error}")
        return {"fluency": str(error)}
    return {}


def plan_all_fluency(base, models, inputs: Inputs, out: Path, asking: Asking) -> list[Batches]:
    """How likely the base model finds all replies, of people and of `models`; a file a language.

    The replies must have been written.
    """
    # 1) the human-written replies
    files = []
    for language, replies in inputs.human.items():
        path = out / "human" / "base" / f"{language}.jsonl"
        files.append(plan_fluency(base, numbered(replies), path, asking))

    # 2) those of the models, as they were written
    for candidate in models:
        for kind, folder, languages in judged_of(candidate, inputs):
            for language in languages:
                name = f"{candidate.name}/{language}.jsonl"
                rows = distributed.on_first(partial(read_replies, out / kind / name))
                files.append(plan_fluency(base, by_key(rows), out / folder / name, asking))
    return files


def numbered(replies: list[str]) -> dict:
    """Replies of people by key."""
    return {(i, 0): reply for i, reply in enumerate(replies, 1)}


def by_key(rows: list[dict]) -> dict:
    """Replies of a model by prompt and sample; "" if a prompt was too long for a reply."""
    return {(row["id"], row["sample"]): row["response"] or "" for row in rows}


def plan_fluency(base: Candidate, replies: dict, path: Path, asking: Asking) -> Batches:
    """Tokens and nats of each reply, as a sentence of its own, under the base model.

    The prompt is left out: after a rude prompt, a rude reply is likelier than what people write.
    """
    keys = list(replies)  # prompt and sample
    sentences = as_sentences(base, replies.values(), asking)

    def nats_of(batch):
        return negative_log_likelihoods(base.model, batch)

    def rows_of(indices):
        # 1) what the base model makes of a batch
        prompts = [keys[i][0] for i in indices]
        where = f"{path.stem}, replies {shortened(prompts)}: "
        read = with_nats([sentences[i] for i in indices], where, nats_of)

        # 2) a row for each reply; the hash of its text shows later whether it has changed
        rows = []
        for i, numbers in zip(indices, read, strict=True):
            prompt, sample = keys[i]
            text = text_hash(replies[keys[i]])
            rows.append({"id": prompt, "sample": sample, "text": text} | numbers)
        return rows

    lengths = list(map(len, sentences))
    return Batches(path, batches(lengths, asking.batch_tokens), rows_of)


def read_fluency(path: Path, replies: dict) -> list[float]:
    """Nats per token of each of the `replies`; NaN for one of less than two tokens.

    InputError if the file is not about these replies.
    """
    rows = read_written(path, id=int, sample=int, text=str, tokens=int, nats=float)
    rows.sort(key=lambda row: (row["id"], row["sample"]))

    # 1) every reply, as it is now
    written = [(row["id"], row["sample"], row["text"]) for row in rows]
    expected = [(*key, text_hash(reply)) for key, reply in replies.items()]
    if written != expected:
        raise InputError(
            f"{path}: a reply is missing, is there twice, or has changed; "
            "delete the file to make it again"
        )
    # 2) without the number of its tokens
    nats = []
    for row in rows:
        per_token = row["nats"] / row["tokens"] if row["tokens"] > 0 else math.nan
        nats.append(per_token)
    return nats
