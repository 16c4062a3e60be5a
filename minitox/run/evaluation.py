"""What evaluate.py asks of a model, in files that can be resumed.

A plan lists the batches of one file and how to make their rows; journal.append_batches carries it
out. Each language has a file of its own.
"""

from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from minitox.errors import InputError, user_errors
from minitox.evaluate.mmlu import LETTERS, as_prompt, likeliest_letter
from minitox.evaluate.perplexity import negative_log_likelihoods, perplexity
from minitox.files import read_written
from minitox.lm.batching import batches
from minitox.lm.generate import Reply, generate
from minitox.run.candidates import Candidate
from minitox.run.evaluation_inputs import Inputs
from minitox.run.journal import Batches, Joint

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
    plans = {
        "replies": (plan_replies, inputs.prompts),
        "mmlu": (plan_answers, inputs.questions),
        "perplexity": (plan_likelihoods, inputs.clean),
        "xstest": (plan_replies, texts_of(inputs.xstest)),
    }
    files = []
    for name in candidate.asked_for:
        plan, contents = plans[name]
        for language, items in contents.items():
            path = out / name / candidate.name / f"{language}.jsonl"
            files.append(plan(candidate, items, path, asking))
    return files


def texts_of(xstest: dict) -> dict:
    """{language: {line number: prompt}} of the prompts of xstest/, without their labels."""
    texts = {}
    for language, prompts in xstest.items():
        texts[language] = {number: text for number, (text, _) in prompts.items()}
    return texts


@dataclass(frozen=True)
class Generation:
    """One call of `generate`, on prompts of one language or of several.

    A step takes about as long for a few sequences as for many, so languages share a call.
    """

    candidate: Candidate
    limit: int  # of new tokens
    batch_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    compared: tuple[int, ...] = ()  # tokens whose logits are kept

    def fits(self, inputs: list[tuple[list[int], int]]) -> bool:
        """Whether prompts (ids, seed) with their replies are at most `batch_tokens`, padded."""
        longest = max((len(ids) for ids, _ in inputs), default=0)
        return len(inputs) * (longest + self.limit) <= self.batch_tokens

    def __call__(self, inputs: list[tuple[list[int], int]], names: list[str]) -> list[Reply]:
        """A reply to each (ids, seed); an InputError begins with `names`."""
        if not inputs:
            return []
        prompts, seeds = zip(*inputs, strict=True)
        with user_errors(f"{'; '.join(names)}: "):
            return generate(
                self.candidate.model,
                list(prompts),
                self.limit,
                self.candidate.tokenizer.stop_ids,
                self.temperature,
                self.top_p,
                list(seeds),
                list(self.compared),
            )


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
    lengths = {number: len(ids[number]) + limit for number in prompts}
    fitting = []
    too_long = []
    for number in prompts:
        jobs = fitting if lengths[number] <= longest else too_long
        jobs.extend((number, sample) for sample in range(asking.samples))

    # 2) batches of the jobs (number, sample); prompts that are too long are in one of their own
    plan = []
    for batch in batches([lengths[number] for number, _ in fitting], asking.batch_tokens):
        plan.append([fitting[i] for i in batch])
    if too_long:
        plan.append(too_long)

    # 3) what is asked, and the rows of the replies
    def inputs_of(jobs):
        # a seed for each reply, so that it does not depend on the others of its batch
        inputs = []
        for number, sample in jobs:
            if lengths[number] <= longest:
                seed = crc32(f"{asking.seed} {path.stem} {number} {sample}".encode())
                inputs.append((ids[number], seed))
        return inputs

    def rows_of(jobs, replies):
        rows = []
        for (number, sample), reply in zip(jobs, replies or [None] * len(jobs), strict=True):
            row = {"id": number, "sample": sample, "prompt": prompts[number]}
            row["response"] = None if reply is None else tokenizer.decode(reply.ids)
            row["tokens"] = 0 if reply is None else len(reply.ids)
            row["stopped"] = reply is not None and reply.stopped
            rows.append(row)
        return rows

    def name_of(jobs):
        return f"{path.stem}, prompts {shortened([number for number, _ in jobs])}"

    call = Generation(candidate, limit, asking.batch_tokens, asking.temperature, asking.top_p)
    return Joint(path, plan, rows_of, inputs_of, name_of, call)


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
    """Reply and likeliest letter for each of `questions`; null where a question is too long."""
    tokenizer = candidate.tokenizer
    limit = asking.answer_tokens
    longest = candidate.config.longest
    with user_errors(
        f"{tokenizer.path}: ", ", so the likeliest answer cannot be read; use --no-mmlu"
    ):
        letter_ids = tokenizer.first_tokens(LETTERS)
    prompts = [tokenizer.prompt(as_prompt(question), longest) for question in questions]
    check_tokens(path, dict(enumerate(prompts, 1)))
    lengths = [len(prompt) + limit for prompt in prompts]

    # 1) ask the questions that leave room for an answer
    def asked(indices):
        return [i for i in indices if lengths[i] <= longest]

    def inputs_of(indices):
        return [(prompts[i], 0) for i in asked(indices)]

    # 2) the rows of all
    def rows_of(indices, replies):
        rows = {}
        for i in indices:
            answer = questions[i]["answer"]
            rows[i] = {"id": i + 1, "answer": answer, "likeliest": None, "reply": None}
        for i, reply in zip(asked(indices), replies, strict=True):
            rows[i]["likeliest"] = likeliest_letter(reply.first)
            rows[i]["reply"] = tokenizer.decode(reply.ids)
        return list(rows.values())

    def name_of(indices):
        return f"{path.stem}, questions {shortened([i + 1 for i in asked(indices)])}"

    call = Generation(candidate, limit, asking.batch_tokens, compared=tuple(letter_ids))
    plan = batches(lengths, asking.batch_tokens)
    return Joint(path, plan, rows_of, inputs_of, name_of, call)


def read_answers(path: Path, questions: list[dict]) -> list[dict]:
    """The rows of a file of answers, in order; InputError if they are not to `questions`."""
    rows = read_written(path, id=int, answer=str, reply=str | None, likeliest=str | None)
    rows.sort(key=lambda row: row["id"])
    check_ids(path, rows)
    if [row["answer"] for row in rows] != [question["answer"] for question in questions]:
        raise InputError(
            f"{path}: an answer is missing, or is to another question; "
            "delete the file to make it again"
        )
    return rows


# ---------- likelihoods of clean sentences


def plan_likelihoods(
    candidate: Candidate, sentences: list[str], path: Path, asking: Asking
) -> Batches:
    """Tokens and negative log-likelihood, in nats, of each sentence."""
    ids = as_sentences(candidate, sentences, asking)
    if [] in ids:
        raise InputError(f"{path.name}: the tokenizer makes no token of a clean sentence")

    def nats_of(batch):
        states = candidate.states_before(batch)
        return negative_log_likelihoods(candidate.model, batch, states)

    return plan_nats(path, ids, asking.batch_tokens, nats_of)


def plan_nats(path: Path, sentences: list[list[int]], batch_tokens: int, nats_of) -> Batches:
    """Tokens and nats of each sentence; `nats_of` is called as `with_nats` calls it."""

    def rows_of(indices):
        where = f"{path.stem}, sentences {shortened([i + 1 for i in indices])}: "
        read = with_nats([sentences[i] for i in indices], where, nats_of)
        return [{"id": i + 1} | numbers for i, numbers in zip(indices, read, strict=True)]

    return Batches(path, batches(list(map(len, sentences)), batch_tokens), rows_of)


def with_nats(sentences: list[list[int]], where: str, nats_of) -> list[dict]:
    """How many tokens of each sentence are predicted, and their nats; an error begins `where`.

    `nats_of` gives the nats of sentences of several tokens: a single one predicts nothing.
    """
    several = [ids for ids in sentences if len(ids) > 1]
    nats = iter(())
    if several:
        with user_errors(where):
            nats = iter(nats_of(several))
    rows = []
    for ids in sentences:
        predicted = max(0, len(ids) - 1)
        rows.append({"tokens": predicted, "nats": next(nats) if predicted else 0.0})
    return rows


def as_sentences(candidate, texts, asking) -> list[list[int]]:
    """Token ids of each text, cut at `asking.max_tokens` or at the longest that can be read."""
    # without a BOS, nothing predicts the first token
    tokenizer = candidate.tokenizer
    start = 0 if tokenizer.bos_id is None else 1
    longest = min(start + asking.max_tokens, candidate.config.longest)
    return [tokenizer.sentence(text, longest)[:longest] for text in texts]


def read_perplexity(path: Path) -> float:
    """Perplexity per token of a file of likelihoods; infinity if it overflows."""
    return of_nats(path, perplexity)


def of_nats(path: Path, measure) -> float:
    """`measure(tokens, nats)` of the sentences of a file; InputError if one is missing or wrong."""
    rows = read_written(path, id=int, tokens=int, nats=float)
    check_ids(path, sorted(rows, key=lambda row: row["id"]))
    with user_errors(f"{path}: "):
        return measure([row["tokens"] for row in rows], [row["nats"] for row in rows])


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
