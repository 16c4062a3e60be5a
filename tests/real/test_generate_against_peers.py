"""Greedy replies of a real model are those of transformers, token for token."""

from itertools import islice

import pytest
import torch

from minitox.files import read_jsonl
from minitox.lm import checkpoint, text
from minitox.lm.generate import generate

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

LANGUAGES = ("en", "de", "zh", "ar", "hi", "ru", "ja", "ko")
MOST = 64  # tokens of a reply
TIE = 1e-4  # with logits this close, rounding decides which token is the best


@pytest.fixture(scope="module")
def replies(real):
    """32 prompts in eight languages, our replies to all of them at once, and the peer's to each."""
    folder = real / "models" / "smollm2-135m-instruct"
    torch.set_num_threads(torch.multiprocessing.cpu_count())
    model = checkpoint.load(folder, dtype=torch.float32)
    stop = model.config.eos_token_ids

    # 1) ours, in one batch
    tokenizer = text.Tokenizer(folder, model.config)
    prompts = []
    for language in LANGUAGES:
        rows = read_jsonl(real / "data" / "prompts" / f"{language}.jsonl")
        prompts += [tokenizer.prompt(row["prompt"]) for _, row in islice(rows, 4)]
    ours = [reply.ids for reply in generate(model, prompts, MOST, set(stop))]

    # 2) the peer's, one by one
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    theirs = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)
        output = peer.generate(ids, attention_mask=mask, max_new_tokens=MOST, do_sample=False)
        reply = output[0, len(prompt) :].tolist()
        theirs.append(reply[:-1] if reply[-1] in stop else reply)
    return model, prompts, ours, theirs


def common_prefix(a: list[int], b: list[int]) -> int:
    """How many tokens two replies share before they differ."""
    length = min(len(a), len(b))
    return next((i for i in range(length) if a[i] != b[i]), length)


def test_greedy_replies_equal_those_of_transformers(replies):
    """A reply may differ only from a tie of the two best logits on."""
    model, prompts, ours, theirs = replies
    differ = 0
    for prompt, a, b in zip(prompts, ours, theirs, strict=True):
        if a == b:
            continue
        same = common_prefix(a, b)
        with torch.inference_mode():
            best = model(torch.tensor([prompt + a[:same]]))[0, -1].topk(2).values
        assert best[0] - best[1] <= TIE, (same, best)
        differ += 1
    tokens = sum(map(len, ours))
    print(f"{len(prompts) - differ} of {len(prompts)} replies are identical, {tokens:,} tokens")
    assert len(prompts) == 32
    assert differ <= 2
    assert tokens > 1_000
