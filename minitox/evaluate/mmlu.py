"""Multilingual MMLU: four lettered options, no examples, and two ways to take the answer.  [paper §5.2]

generated   the letter found in the reply, by the rule of `extract`
likeliest   the letter with the highest probability as the reply's first token
"""

import re
import unicodedata
from pathlib import Path

import torch

from minitox.lm.batching import batches, pad
from minitox.lm.generate import generate
from minitox.run.candidates import Candidate
from minitox.run.journal import Batches

LETTERS = "ABCD"
CHANCE = 1 / len(LETTERS)
ENDS = r"(?=[.):,\]*]|\W*$|\W*\n)"  # what shows that an A is a letter and not a word: punctuation, or the end of the line
LATIN = "A-Za-z\u00c0-\u024f"


def as_prompt(row: dict) -> str:
    """The prompt: the question, then an option a line.  The paper does not give its own."""
    return "\n".join(
        [
            row["question"],
            *(f"{letter}. {choice}" for letter, choice in zip(LETTERS, row["choices"])),
        ]
    )


def extract(reply: str, choices: list[str]) -> str | None:
    """The answer in a reply: the letter it begins with, else the only letter in it, else the only option it repeats.

    A letter stands alone; an A, which many languages have as a word, also ends a line or stands before punctuation.
    """
    reply, *choices = (unicodedata.normalize("NFKC", text).strip() for text in (reply, *choices))
    if begins := re.match(rf"\W*([{LETTERS}]){ENDS}", reply):
        return begins[1]
    alone = set(re.findall(rf"(?<![{LATIN}'-])([B-D]|A{ENDS})(?![{LATIN}'\d-])", reply))
    repeated = {
        letter
        for letter, choice in zip(LETTERS, choices)
        if re.search(rf"(?<!\d){re.escape(choice.casefold())}(?!\d)", reply.casefold())
    }  # "4 million" is not in "14 million"
    return next((found.pop() for found in (alone, repeated) if len(found) == 1), None)


def plan(candidate: Candidate, questions: list[dict], args, path: Path) -> Batches:
    """The answers to all questions, to be written to a file; a question too long for the model gets none."""
    tokenizer, longest = candidate.tokenizer, candidate.config.longest
    letters = [tokenizer.encode(letter)[0] for letter in LETTERS]
    prompts = [tokenizer.prompt(as_prompt(row)) for row in questions]
    groups = batches([len(prompt) + args.answer_tokens for prompt in prompts], args.batch_tokens)

    def rows_of(batch: list[int]) -> list[dict]:
        asked = [i for i in batch if len(prompts[i]) + args.answer_tokens <= longest]
        replies = (
            generate(
                candidate.model, [prompts[i] for i in asked], args.answer_tokens, tokenizer.stop_ids
            )
            if asked
            else []
        )
        likeliest = best_of(candidate.model, [prompts[i] for i in asked], letters) if asked else []
        found = {
            i: (tokenizer.decode(reply.ids), LETTERS[best])
            for i, reply, best in zip(asked, replies, likeliest)
        }
        return [
            {
                "id": i + 1,
                "answer": questions[i]["answer"],
                "likeliest": found[i][1] if i in found else None,
                "generated": extract(found[i][0], questions[i]["choices"]) if i in found else None,
            }
            for i in batch
        ]

    return Batches(path, groups, rows_of)


@torch.inference_mode()
def best_of(model, prompts: list[list[int]], tokens: list[int]) -> list[int]:
    """Which of `tokens` is likeliest right after each prompt, as its index."""
    device = model.model.embed_tokens.weight.device
    hidden = model.model(pad(prompts).to(device))  # (B, T, D)
    last = hidden[
        torch.arange(len(prompts), device=device), [len(prompt) - 1 for prompt in prompts]
    ]
    return model.logits(last)[:, tokens].float().argmax(dim=-1).tolist()
