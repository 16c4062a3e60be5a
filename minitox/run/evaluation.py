"""What evaluate.py starts from, and what it asks of a model, in files that can be resumed.

A plan lists the batches of one file and how to make their rows; journal.append_batches carries it
out. Each language has a file of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from minitox.data import language_rng, read_clean_sentences, read_prompts, read_questions
from minitox.errors import InputError, UnusableLanguage, user_errors
from minitox.evaluate.mmlu import LETTERS, as_prompt, extract, likeliest_letters
from minitox.evaluate.perplexity import negative_log_likelihoods, perplexity
from minitox.files import file_hash, read_written
from minitox.lm.batching import batches
from minitox.lm.generate import generate
from minitox.run.candidates import Candidate
from minitox.run.journal import Batches

# ---------- inputs


@dataclass
class Inputs:
    """Prompts, questions and clean sentences by language; a real data folder has gaps."""

    prompts: dict[str, dict[int, str]] = field(default_factory=dict)  # by line number
    questions: dict[str, list[dict]] = field(default_factory=dict)
    clean: dict[str, list[str]] = field(default_factory=dict)
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)  # by folder and language
    gaps: dict[str, str] = field(default_factory=dict)  # what is missing, and why

    def about(self) -> str:
        """How many prompts there are, as evaluate.py prints it."""
        return f"{len(self.prompts)} languages, {sum(map(len, self.prompts.values())):,} prompts"

    def count(self, samples: int) -> int:
        """How many rows a model is to write, with `samples` replies to each prompt."""
        prompts = sum(map(len, self.prompts.values()))
        others = [*self.questions.values(), *self.clean.values()]
        return prompts * samples + sum(map(len, others))


def read_inputs(
    data: Path,
    languages: list[str],
    *,
    most_prompts: int | None,  # of each language; None: all
    with_questions: bool,
    most_sentences: int,  # of each language; 0: no perplexity
    seed: int,
) -> Inputs:
    """Read `data`/prompts and, where wanted and present, `data`/mmlu and `data`/detection.

    InputError if no language has prompts.
    """

    def prompts_of(path: Path, rng) -> dict[int, str]:
        return read_prompts(path, most_prompts, rng)

    def questions_of(path: Path, rng) -> list[dict]:
        return read_questions(path)  # all of them

    def sentences_of(path: Path, rng) -> list[str]:
        return read_clean_sentences(path, most_sentences, rng)

    inputs = Inputs()
    inputs.prompts = read_folder(inputs, data / "prompts", languages, seed, prompts_of)
    if with_questions:
        inputs.questions = read_folder(inputs, data / "mmlu", languages, seed, questions_of)
    if most_sentences:
        inputs.clean = read_folder(inputs, data / "detection", languages, seed, sentences_of)
    if not inputs.prompts:
        raise InputError(
            f"{data / 'prompts'}: no language of {', '.join(languages)} can be used; "
            'it must hold <language>.jsonl of {"prompt": ...} lines'
        )
    return inputs


def read_folder(
    inputs: Inputs,
    folder: Path,
    languages: list[str],
    seed: int,
    read: Callable,  # (path, rng) -> what the file contains
) -> dict:
    """The contents of each language's file; its hash, or why there is none, goes into `inputs`."""
    # 1) which files are there
    if not folder.is_dir():
        inputs.gaps[folder.name] = f"{folder} is not a folder"
        return {}
    paths = {language: folder / f"{language}.jsonl" for language in languages}
    absent = [language for language, path in paths.items() if not path.exists()]
    if absent:
        inputs.gaps[folder.name] = f"no file of {', '.join(absent)}"

    # 2) what is in them
    contents = {}
    hashes = {}
    for language, path in paths.items():
        if language in absent:
            continue
        try:
            contents[language] = read(path, language_rng(seed, language))
            hashes[language] = file_hash(path)
        except UnusableLanguage as reason:
            inputs.gaps[f"{folder.name}/{language}"] = str(reason)
    inputs.hashes[folder.name] = hashes
    return contents


# ---------- everything that a model is asked


@dataclass(frozen=True)
class Asking:
    """How models are asked."""

    samples: int  # replies to each prompt
    max_new_tokens: int  # of a reply
    temperature: float
    top_p: float
    answer_tokens: int  # of the answer to a question
    max_tokens: int  # of a clean sentence
    batch_tokens: int
    seed: int


def plan_all(candidate: Candidate, inputs: Inputs, out: Path, asking: Asking) -> list[Batches]:
    """Replies, answers and likelihoods of one model, a file for each language."""

    def path(name: str, language: str) -> Path:
        return out / name / candidate.name / f"{language}.jsonl"

    files = []
    for language, prompts in inputs.prompts.items():
        plan = plan_replies(
            candidate,
            prompts,
            path("replies", language),
            samples=asking.samples,
            max_new_tokens=asking.max_new_tokens,
            temperature=asking.temperature,
            top_p=asking.top_p,
            batch_tokens=asking.batch_tokens,
            seed=asking.seed,
        )
        files.append(plan)
    for language, questions in inputs.questions.items():
        plan = plan_answers(
            candidate,
            questions,
            path("mmlu", language),
            answer_tokens=asking.answer_tokens,
            batch_tokens=asking.batch_tokens,
        )
        files.append(plan)
    for language, sentences in inputs.clean.items():
        plan = plan_likelihoods(
            candidate,
            sentences,
            path("perplexity", language),
            max_tokens=asking.max_tokens,
            batch_tokens=asking.batch_tokens,
        )
        files.append(plan)
    return files


# ---------- replies  [paper §4.2]


def plan_replies(
    candidate: Candidate,
    prompts: dict[int, str],
    path: Path,
    *,
    samples: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    batch_tokens: int,
    seed: int,
) -> Batches:
    """The replies to `prompts`, `samples` to each; null to a prompt that leaves no room for one.

    InputError if `max_new_tokens` leaves no room for any prompt.
    """
    # 1) which prompts fit into the model's positions together with a reply
    tokenizer = candidate.tokenizer
    longest = candidate.config.longest
    room = longest - max_new_tokens
    if room < 1:
        raise InputError(
            f"--max-new-tokens {max_new_tokens} leaves no room for a prompt in {longest} positions"
        )
    ids = {number: tokenizer.prompt(text) for number, text in prompts.items()}
    fitting = []
    too_long = []
    for number in prompts:
        jobs = fitting if len(ids[number]) <= room else too_long
        jobs.extend((number, sample) for sample in range(samples))

    # 2) batches of the jobs (number, sample)
    lengths = [len(ids[number]) + max_new_tokens for number, _ in fitting]
    plan = []
    for batch in batches(lengths, batch_tokens):
        plan.append([fitting[i] for i in batch])
    if too_long:
        plan.append(too_long)

    # 3) how to make the rows of a batch
    def rows_of(jobs: list[tuple[int, int]]) -> list[dict]:
        if jobs is too_long:
            return [reply_row(job, prompts, response=None) for job in jobs]
        model = candidate.model
        batch = [ids[number] for number, _ in jobs]
        seeds = [reply_seed(seed, path.stem, job) for job in jobs]
        with user_errors():
            replies = generate(
                model, batch, max_new_tokens, tokenizer.stop_ids, temperature, top_p, seeds
            )
        rows = []
        for job, reply in zip(jobs, replies, strict=True):
            text = tokenizer.decode(reply.ids)
            rows.append(reply_row(job, prompts, text, len(reply.ids), reply.stopped))
        return rows

    return Batches(path, plan, rows_of)


def reply_seed(seed: int, language: str, job: tuple[int, int]) -> int:
    """A seed for each reply, so that a reply does not depend on the others of its batch."""
    number, sample = job
    return crc32(f"{seed} {language} {number} {sample}".encode())


def reply_row(
    job: tuple[int, int],
    prompts: dict[int, str],
    response: str | None,
    tokens: int = 0,
    stopped: bool = False,
) -> dict:
    """A row of a file of replies."""
    number, sample = job
    return {
        "id": number,
        "sample": sample,
        "prompt": prompts[number],
        "response": response,
        "tokens": tokens,
        "stopped": stopped,
    }


def read_replies(path: Path) -> list[dict]:
    """The rows of a file of replies, in order of prompt and sample."""
    rows = read_written(path, id=int, sample=int, prompt=str, response=str | None, stopped=bool)
    return sorted(rows, key=lambda row: (row["id"], row["sample"]))


# ---------- answers to MMLU's questions  [paper §5.2]


def plan_answers(
    candidate: Candidate,
    questions: list[dict],
    path: Path,
    *,
    answer_tokens: int,
    batch_tokens: int,
) -> Batches:
    """The answers to `questions`, in both readings; null where a question is too long."""
    tokenizer = candidate.tokenizer
    longest = candidate.config.longest
    letter_ids = [tokenizer.encode(letter)[0] for letter in LETTERS]
    prompts = [tokenizer.prompt(as_prompt(question)) for question in questions]
    lengths = [len(prompt) + answer_tokens for prompt in prompts]

    def rows_of(indices: list[int]) -> list[dict]:
        # 1) ask the questions that leave room for an answer
        asked = [i for i in indices if lengths[i] <= longest]
        batch = [prompts[i] for i in asked]
        replies = []
        letters = []
        if asked:
            model = candidate.model
            with user_errors():
                replies = generate(model, batch, answer_tokens, tokenizer.stop_ids)
                letters = likeliest_letters(model, batch, letter_ids)

        # 2) read the answers
        generated = {}
        for i, reply in zip(asked, replies, strict=True):
            generated[i] = extract(tokenizer.decode(reply.ids), questions[i]["choices"])
        likeliest = dict(zip(asked, letters, strict=True))
        rows = []
        for i in indices:
            rows.append(
                {
                    "id": i + 1,
                    "answer": questions[i]["answer"],
                    "likeliest": likeliest.get(i),
                    "generated": generated.get(i),
                }
            )
        return rows

    return Batches(path, batches(lengths, batch_tokens), rows_of)


# ---------- likelihoods of clean sentences


def plan_likelihoods(
    candidate: Candidate,
    sentences: list[str],
    path: Path,
    *,
    max_tokens: int,
    batch_tokens: int,
) -> Batches:
    """Tokens and negative log-likelihood, in nats, of each sentence.

    A sentence is cut at `max_tokens`, or at the longest text that the model can read.
    """
    # without a BOS, nothing predicts the first token
    tokenizer = candidate.tokenizer
    start = 0 if tokenizer.bos_id is None else 1
    longest = min(start + max_tokens, candidate.config.longest)
    ids = [tokenizer.sentence(sentence)[:longest] for sentence in sentences]

    def rows_of(indices: list[int]) -> list[dict]:
        model = candidate.model
        with user_errors():
            nats = negative_log_likelihoods(model, [ids[i] for i in indices])
        rows = []
        for i, nat in zip(indices, nats, strict=True):
            rows.append({"id": i + 1, "tokens": len(ids[i]) - 1, "nats": nat})
        return rows

    lengths = [len(sentence) for sentence in ids]
    return Batches(path, batches(lengths, batch_tokens), rows_of)


def read_perplexity(path: Path) -> float:
    """Perplexity per token of a file of likelihoods."""
    rows = read_written(path, tokens=int, nats=float)
    tokens = [row["tokens"] for row in rows]
    nats = [row["nats"] for row in rows]
    return perplexity(tokens, nats)
