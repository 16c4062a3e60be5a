"""Replies: every prompt of a language goes to the model, and what it writes goes to disk.  [paper §4.2]"""

from pathlib import Path
from zlib import crc32

from minitox.errors import InputError
from minitox.files import read_written
from minitox.lm.batching import batches
from minitox.lm.generate import generate
from minitox.run.candidates import Candidate
from minitox.run.journal import Batches


def plan(candidate: Candidate, prompts: dict[int, str], args, path: Path) -> Batches:
    """The replies to `prompts`, to be written to a file named for their language.

    A prompt that leaves no room for a reply gets null. InputError if none can.
    """
    tokenizer, longest = candidate.tokenizer, candidate.config.longest
    jobs = [(number, sample) for number in prompts for sample in range(args.samples)]
    ids = {number: tokenizer.prompt(text) for number, text in prompts.items()}
    room = longest - args.max_new_tokens
    if room < 1:
        raise InputError(
            f"--max-new-tokens {args.max_new_tokens} leaves no room for a prompt in {longest} positions"
        )
    fitting, too_long = (
        [job for job in jobs if len(ids[job[0]]) <= room],
        [job for job in jobs if len(ids[job[0]]) > room],
    )
    groups = batches(
        [len(ids[number]) + args.max_new_tokens for number, _ in fitting], args.batch_tokens
    )
    groups = [[fitting[i] for i in group] for group in groups] + ([too_long] if too_long else [])

    def rows_of(batch: list[tuple[int, int]]) -> list[dict]:
        found = [None] * len(batch)
        if batch is not too_long:
            seeds = [
                crc32(f"{args.seed} {path.stem} {number} {sample}".encode())
                for number, sample in batch
            ]
            found = generate(
                candidate.model,
                [ids[number] for number, _ in batch],
                args.max_new_tokens,
                tokenizer.stop_ids,
                args.temperature,
                args.top_p,
                seeds,
            )
        return [
            {
                "id": number,
                "sample": sample,
                "prompt": prompts[number],
                "response": reply and tokenizer.decode(reply.ids),
                "tokens": len(reply.ids) if reply else 0,
                "stopped": bool(reply and reply.stopped),
            }
            for (number, sample), reply in zip(batch, found)
        ]

    return Batches(path, groups, rows_of)


def read(path: Path) -> list[dict]:
    """The rows of such a file, in order of prompt and sample."""
    rows = read_written(path, id=int, sample=int, prompt=str, response=str | None, stopped=bool)
    return sorted(rows, key=lambda row: (row["id"], row["sample"]))
