"""How far each tuned model is from the base model on clean text, in files that can be resumed.

Both models are in memory at once, because all probabilities of the base model would need more
space than its weights after a few thousand tokens. Hidden states need less: they are kept from the
likelihoods of the same sentences.
"""

from pathlib import Path

from minitox.errors import InputError
from minitox.evaluate.divergence import divergences, mean_divergence
from minitox.run import outputs
from minitox.run.candidates import Candidate
from minitox.run.evaluation import Asking, as_sentences, of_nats, plan_nats
from minitox.run.evaluation_inputs import Inputs
from minitox.run.journal import Batches, append_batches
from minitox.run.progress import Progress


def compared(base: Candidate | None, models: list[Candidate]) -> list[Candidate]:
    """The models that are compared with the base model: those whose perplexity is measured."""
    if base is None:
        return []
    return [model for model in models if model is not base and "perplexity" in model.asked_for]


def in_failures(candidate: Candidate) -> str:
    """How the divergence of a model is named where it could not be measured."""
    return f"KL divergence of {candidate.name}"


def check_divergence(out: Path, base, models, inputs: Inputs, made_with: dict) -> None:
    """InputError if there are divergences that were measured with other settings or sentences."""
    if not inputs.clean:
        return
    for candidate in compared(base, models):
        values = candidate.identity | {"base": base.fingerprint} | made_with["perplexity"]
        folder = out / "divergence" / candidate.name
        outputs.check_settings(folder, values, inputs.hashes["detection"])


def measure_divergence(
    base: Candidate | None,
    candidate: Candidate,  # which is in memory
    inputs: Inputs,
    out: Path,
    asking: Asking,
    shard: bool,
) -> dict[str, str]:
    """Write the divergence of a model on the clean sentences.

    Returns why it cannot be compared with the base model, if it cannot.
    """
    if not inputs.clean or not compared(base, [candidate]):
        return {}
    name = in_failures(candidate)
    rows = sum(map(len, inputs.clean.values()))
    progress = Progress(rows)
    try:
        with base.loaded(), progress.task(name, rows, "rows") as show:
            files = plan_divergences(base, candidate, inputs.clean, out, asking)
            for done, file in append_batches(files, together=shard):
                show(done, f": {file.path.stem}")
    except InputError as error:
        progress.print(f"{name}: {error}")
        return {name: str(error)}
    return {}


def plan_divergences(
    base: Candidate, candidate: Candidate, clean: dict, out: Path, asking: Asking
) -> list[Batches]:
    """Tokens and divergence from the base model, in nats, of clean sentences; a file a language.

    InputError if the two models do not have the same tokens.
    """

    def nats_of(batch):
        states = [model.states_before(batch) for model in (base, candidate)]
        return divergences(base.model, candidate.model, batch, *states)

    files = []
    for language, texts in clean.items():
        path = out / "divergence" / candidate.name / f"{language}.jsonl"
        sentences = as_sentences(candidate, texts, asking)
        same = candidate.config.vocab_size == base.config.vocab_size
        if not same or sentences != as_sentences(base, texts, asking):
            raise InputError(f"{candidate.folder}: its tokens are not those of the base model")
        files.append(plan_nats(path, sentences, asking.batch_tokens, nats_of))
    return files


def read_divergence(path: Path) -> float:
    """Mean divergence per token of a file, in nats."""
    return of_nats(path, mean_divergence)
