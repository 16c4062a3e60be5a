"""Multilingual MMLU: four lettered options, no examples, two readings of the answer.  [paper §5.2]

generated   the letter found in the reply, by the rule of `extract`
likeliest   the letter with the highest probability as the first token of the reply
"""

import re
import unicodedata

import torch

from minitox.lm.batching import pad
from minitox.lm.model import LanguageModel, are_finite

LETTERS = "ABCD"
CHANCE = 1 / len(LETTERS)  # accuracy of a random guess

# A letter at the beginning counts before punctuation or at the end of a line: "A." is an answer,
# the word "A" is not.
FOLLOWS = r"(?=[.):,\]*]|\W*$|\W*\n)"
BEGINS = re.compile(rf"\W*([{LETTERS}]){FOLLOWS}")

# Elsewhere a letter must stand alone; for "A" the same condition holds.
LATIN = "A-Za-z\u00c0-\u024f"
ALONE = re.compile(rf"(?<![{LATIN}'-])([B-D]|A{FOLLOWS})(?![{LATIN}'\d-])")


def as_prompt(question: dict) -> str:
    """The question, then an option a line.  The paper does not give its prompt."""
    pairs = zip(LETTERS, question["choices"], strict=True)
    options = [f"{letter}. {choice}" for letter, choice in pairs]
    return "\n".join([question["question"], *options])


def extract(reply: str, choices: list[str]) -> str | None:
    """Take the leading letter, else the only letter, else the only option the reply repeats.

    None if there is no such letter or option.
    """
    reply = plain(reply)

    # 1) the letter that the reply begins with
    leading = BEGINS.match(reply)
    if leading:
        return leading[1]

    # 2) the only letter in it
    letters = set(ALONE.findall(reply))
    if len(letters) == 1:
        return letters.pop()

    # 3) the only option in it
    repeated = []
    for letter, choice in zip(LETTERS, choices, strict=True):
        option = re.escape(plain(choice).casefold())
        # "4 million" is not in "14 million"
        if re.search(rf"(?<!\d){option}(?!\d)", reply.casefold()):
            repeated.append(letter)
    return repeated[0] if len(repeated) == 1 else None


def plain(text):
    """The text in one Unicode form, so that a full-width letter equals an ordinary one."""
    return unicodedata.normalize("NFKC", text).strip()


@torch.inference_mode()
def likeliest_letters(
    model: LanguageModel,
    prompts: list[list[int]],
    letter_ids: list[int],  # the token of each of LETTERS
) -> list[str]:
    """The likeliest letter right after each prompt; ValueError if logits are not finite."""
    device = model.model.embed_tokens.weight.device
    hidden = model.model(pad(prompts).to(device))  # (B, T, D)

    # prompts are padded on the right, so their last tokens are at different places
    rows = torch.arange(len(prompts), device=device)
    ends = [len(prompt) - 1 for prompt in prompts]
    last = hidden[rows, ends]  # (B, D)

    # only the letters compete
    logits = model.logits(last).float()  # (B, V)
    if not are_finite(logits).all():
        raise ValueError(
            "the logits after a question are not finite; check the weights and --dtype"
        )
    logits = logits[:, letter_ids]  # (B, 4)
    best = logits.argmax(dim=-1)  # (B,)
    return [LETTERS[i] for i in best.tolist()]
