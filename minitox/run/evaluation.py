"""What evaluate.py starts from, and what it asks of a model, in files that can be resumed.

A plan lists the batches of one file and how to make their rows; journal.append_batches carries it
out. Each language has a file of its own.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zlib import crc32

from minitox.data import (
    read_cases,
    read_clean_sentences,
    read_languages,
    read_prompts,
    read_questions,
)
from minitox.errors import InputError, user_errors
from minitox.evaluate.mmlu import LETTERS, as_prompt, extract, likeliest_letters
from minitox.evaluate.perplexity import negative_log_likelihoods, perplexity
from minitox.files import file_hash, read_written
from minitox.lm.batching import batches
from minitox.lm.generate import Reply, generate
from minitox.run.candidates import Candidate
from minitox.run.journal import Batches

# ---------- inputs

MOST_CASES = 200  # of each class and language, to measure a scorer with


@dataclass
class Inputs:
    """Prompts, questions, sentences and cases by language; a real data folder has gaps."""

    prompts: dict  # language: {line number: text}
    questions: dict  # language: [question]
    clean: dict  # language: [sentence]
    cases: dict  # language: [(text, whether it is hateful)], to measure scorers with
    hashes: dict  # folder: {language: hash of its file}
    gaps: dict[str, str]  # what is missing, and why

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
    with_cases: bool,
    seed: int,
) -> Inputs:
    """Read `data`/prompts and, where wanted and present, mmlu/, detection/ and hatecheck/.

    InputError if no language has prompts.
    """
    # 1) which folders are read, and how
    readers = {"prompts": partial(read_prompts, most=most_prompts)}
    if with_questions:
        readers["mmlu"] = lambda path, rng: read_questions(path)  # all of them
    if most_sentences:
        readers["detection"] = partial(read_clean_sentences, most=most_sentences)
    if with_cases:
        readers["hatecheck"] = partial(read_cases, most=MOST_CASES)

    # 2) the files that exist, and what is missing
    contents = {"prompts": {}, "mmlu": {}, "detection": {}, "hatecheck": {}}
    hashes = {}
    gaps = {} if with_cases else {"hatecheck": "left out with --no-hatecheck"}
    for name, read in readers.items():
        folder = data / name
        if not folder.is_dir():
            gaps[name] = f"{folder} is not a folder"
            continue
        by_language, skipped = read_languages(folder, languages, seed, read)
        for language, (rows, duplicates) in by_language.items():
            contents[name][language] = rows
            if duplicates:
                gaps[f"{name}/{language}"] = f"{duplicates:,} duplicates"
        paths = {language: folder / f"{language}.jsonl" for language in languages}
        hashes[name] = {language: file_hash(paths[language]) for language in contents[name]}
        absent = [language for language in skipped if not paths[language].exists()]
        if absent:
            gaps[name] = f"no file of {', '.join(absent)}"
        for language in skipped:
            if language not in absent:
                gaps[f"{name}/{language}"] = skipped[language]
    if not contents["prompts"]:
        raise InputError(
            f"{data / 'prompts'}: no language of {', '.join(languages)} can be used; "
            'it must hold <language>.jsonl of {"prompt": ...} lines'
        )
    return Inputs(*contents.values(), hashes, gaps)


# ---------- everything that a model is asked


@dataclass(frozen=True)
class Asking:
    """How models are asked; the defaults are those of evaluate.py on a CPU."""

    samples: int = 1  # replies to each prompt
    max_new_tokens: int = 64  # of a reply
    temperature: float = 0.0
    top_p: float = 1.0
    answer_tokens: int = 16  # of the answer to a question
    max_tokens: int = 128  # of a clean sentence
    batch_tokens: int = 8_192
    seed: int = 0


def plan_all(candidate: Candidate, inputs: Inputs, out: Path, asking: Asking) -> list[Batches]:
    """Replies, answers and likelihoods of one model, a file for each language."""
    plans = [
        ("replies", plan_replies, inputs.prompts),
        ("mmlu", plan_answers, inputs.questions),
        ("perplexity", plan_likelihoods, inputs.clean),
    ]
    files = []
    for name, plan, contents in plans:
        for language, items in contents.items():
            path = out / name / candidate.name / f"{language}.jsonl"
            files.append(plan(candidate, items, path, asking))
    return files


# ---------- replies  [paper §4.2]


def plan_replies(
    candidate: Candidate, prompts: dict[int, str], path: Path, asking: Asking
) -> Batches:
    """The replies to `prompts`; null to a prompt that leaves no room for one.

    InputError if `asking.max_new_tokens` leaves no room for any prompt.
    """
    # 1) which prompts fit into the model's positions together with a reply
    tokenizer = candidate.tokenizer
    longest = candidate.config.longest
    limit = asking.max_new_tokens
    if limit >= longest:
        raise InputError(
            f"--max-new-tokens {limit} leaves no room for a prompt in {longest} positions"
        )
    ids = {number: tokenizer.prompt(text, longest) for number, text in prompts.items()}
    check_tokens(path, ids)
    fitting = []
    too_long = []
    for number in prompts:
        jobs = fitting if len(ids[number]) + limit <= longest else too_long
        jobs.extend((number, sample) for sample in range(asking.samples))

    # 2) batches of the jobs (number, sample)
    lengths = [len(ids[number]) + limit for number, _ in fitting]
    plan = []
    for batch in batches(lengths, asking.batch_tokens):
        plan.append([fitting[i] for i in batch])
    if too_long:
        plan.append(too_long)

    # 3) how to make the rows of a batch
    def rows_of(jobs):
        replies = [Reply()] * len(jobs)
        if jobs is not too_long:
            # a seed for each reply, so that it does not depend on the others of its batch
            seeds = [
                crc32(f"{asking.seed} {path.stem} {number} {sample}".encode())
                for number, sample in jobs
            ]
            batch = [ids[number] for number, _ in jobs]
            model = candidate.model
            where = f"{path.stem}, prompts {shortened([number for number, _ in jobs])}: "
            with user_errors(where):
                replies = generate(
                    model, batch, limit, tokenizer.stop_ids, asking.temperature, asking.top_p, seeds
                )
        return [
            {
                "id": number,
                "sample": sample,
                "prompt": prompts[number],
                "response": None if jobs is too_long else tokenizer.decode(reply.ids),
                "tokens": len(reply.ids),
                "stopped": reply.stopped,
            }
            for (number, sample), reply in zip(jobs, replies, strict=True)
        ]

    return Batches(path, plan, rows_of)


def check_tokens(path: Path, ids: dict[int, list[int]]) -> None:
    """InputError names the line of a prompt that has no tokens, which no model can read."""
    for number, prompt in ids.items():
        if not prompt:
            raise InputError(
                f"{path.name}:{number}: the tokenizer makes no token of the prompt, "
                "and config.json has no bos_token_id"
            )


def read_replies(path: Path) -> list[dict]:
    """The rows of a file of replies, in order of prompt and sample."""
    rows = read_written(path, id=int, sample=int, prompt=str, response=str | None, stopped=bool)
    return sorted(rows, key=lambda row: (row["id"], row["sample"]))


# ---------- answers to MMLU's questions  [paper §5.2]


def plan_answers(candidate, questions, path, asking):
    """The answers to `questions`, in both readings; null where a question is too long."""
    tokenizer = candidate.tokenizer
    limit = asking.answer_tokens
    longest = candidate.config.longest
    letter_ids = first_tokens(tokenizer, LETTERS)
    prompts = [tokenizer.prompt(as_prompt(question), longest) for question in questions]
    check_tokens(path, dict(enumerate(prompts, 1)))
    lengths = [len(prompt) + limit for prompt in prompts]

    def rows_of(indices):
        # 1) without answers
        rows = {}
        for i in indices:
            answer = questions[i]["answer"]
            rows[i] = {"id": i + 1, "answer": answer, "likeliest": None, "generated": None}

        # 2) ask the questions that leave room for an answer
        asked = [i for i in indices if lengths[i] <= longest]
        if asked:
            batch = [prompts[i] for i in asked]
            model = candidate.model
            with user_errors(f"{path.stem}, questions {shortened([i + 1 for i in asked])}: "):
                replies = generate(model, batch, limit, tokenizer.stop_ids)
                letters = likeliest_letters(model, batch, letter_ids)
            for i, reply, letter in zip(asked, replies, letters, strict=True):
                text = tokenizer.decode(reply.ids)
                rows[i]["likeliest"] = letter
                rows[i]["generated"] = extract(text, questions[i]["choices"])
        return list(rows.values())

    return Batches(path, batches(lengths, asking.batch_tokens), rows_of)


def first_tokens(tokenizer, letters) -> list[int]:
    """The first token of each letter; InputError if a letter has none, or two have the same."""
    tokens = []
    for letter in letters:
        tokens += tokenizer.encode(letter)[:1]
    if len({*tokens}) < len(letters):
        raise InputError(
            f"{tokenizer.path}: {', '.join(letters)} do not begin with different tokens, "
            "so the likeliest answer cannot be read; use --no-mmlu"
        )
    return tokens


# ---------- likelihoods of clean sentences


def plan_likelihoods(candidate, sentences, path, asking):
    """Tokens and negative log-likelihood, in nats, of each sentence.

    A sentence is cut at `asking.max_tokens`, or at the longest text that the model can read.
    """
    # without a BOS, nothing predicts the first token
    tokenizer = candidate.tokenizer
    start = 0 if tokenizer.bos_id is None else 1
    longest = min(start + asking.max_tokens, candidate.config.longest)
    ids = [tokenizer.sentence(sentence, longest)[:longest] for sentence in sentences]
    if [] in ids:
        raise InputError(f"{path.name}: the tokenizer makes no token of a clean sentence")

    def rows_of(indices):
        model = candidate.model
        with user_errors(f"{path.stem}, sentences {shortened([i + 1 for i in indices])}: "):
            nats = negative_log_likelihoods(model, [ids[i] for i in indices])
        pairs = zip(indices, nats, strict=True)
        return [{"id": i + 1, "tokens": len(ids[i]) - 1, "nats": nat} for i, nat in pairs]

    return Batches(path, batches(list(map(len, ids)), asking.batch_tokens), rows_of)


def read_perplexity(path: Path) -> float:
    """Perplexity per token of a file of likelihoods; infinity if it overflows."""
    rows = read_written(path, id=int, tokens=int, nats=float)
    check_ids(path, sorted(rows, key=lambda row: row["id"]))
    with user_errors(f"{path}: "):
        return perplexity([row["tokens"] for row in rows], [row["nats"] for row in rows])


def check_ids(path: Path, rows: list[dict]) -> None:
    """InputError if the rows, in the order of their ids, are not numbered from 1 on."""
    for number, row in enumerate(rows, 1):
        if row["id"] != number:
            raise InputError(
                f"{path}: row {number} is missing or there twice; delete the file to make it again"
            )


def shortened(numbers: list[int]) -> str:
    """The first few numbers, for a message."""
    more = ", ..." if len(numbers) > 4 else ""
    return ", ".join(map(str, numbers[:4])) + more
