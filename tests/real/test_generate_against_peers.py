"""Greedy replies of a real model are those of transformers, token for token."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from minitox.files import read_jsonl
from minitox.lm import checkpoint, text
from minitox.lm.generate import generate

LANGUAGES = ("en", "de", "zh", "ar", "hi", "ru", "ja", "ko")
MOST, TIE = 64, 1e-4  # tokens of a reply; logits this close may fall either way


@pytest.fixture(scope="module")
def replies(real):
    """32 prompts in eight languages, our replies to all of them at once, and the peer's to each alone."""
    folder = real / "models" / "smollm2-135m-instruct"
    torch.set_num_threads(torch.multiprocessing.cpu_count())
    model = checkpoint.load(folder, dtype=torch.float32)
    tokenizer = text.Tokenizer(folder, model.config)
    prompts = [
        tokenizer.prompt(row["prompt"])
        for language in LANGUAGES
        for _, (_, row) in zip(
            range(4), read_jsonl(real / "data" / "prompts" / f"{language}.jsonl")
        )
    ]
    ours = [reply.ids for reply in generate(model, prompts, MOST, set(model.config.eos_token_ids))]
    peer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    theirs = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        found = peer.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=MOST, do_sample=False
        )[0, len(prompt) :].tolist()
        theirs.append(found[:-1] if found[-1] in model.config.eos_token_ids else found)
    return model, prompts, ours, theirs


def test_greedy_replies_equal_those_of_transformers(replies):
    """A reply may part only where the two best logits are a tie, and then anything may follow."""
    model, prompts, ours, theirs = replies
    parted = 0
    for prompt, a, b in zip(prompts, ours, theirs):
        if a != b:
            same = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            with torch.inference_mode():
                best = model(torch.tensor([prompt + a[:same]]))[0, -1].topk(2).values
            assert best[0] - best[1] <= TIE, (same, best)
            parted += 1
    print(
        f"{len(prompts) - parted} of {len(prompts)} replies are identical, {sum(map(len, ours)):,} tokens"
    )
    assert len(prompts) == 32 and parted <= 2 and sum(map(len, ours)) > 1_000
