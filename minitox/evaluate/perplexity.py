"""Perplexity: how surprised a model is by clean text, exp(mean negative log-likelihood of a token), nothing left out."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F

from minitox.files import read_written
from minitox.lm.batching import batches, pad
from minitox.lm.model import LanguageModel
from minitox.run.candidates import Candidate
from minitox.run.journal import Batches

AT_ONCE = 2**23  # logits


def plan(candidate: Candidate, sentences: list[str], args, path: Path) -> Batches:
    """Each sentence's tokens and negative log-likelihood, in nats, to be written to a file.

    Sentences are cut at --max-tokens, or at the longest text that the model can read.
    """
    tokenizer = candidate.tokenizer
    start = (
        0 if tokenizer.bos_id is None else 1
    )  # without a BOS, the first token has nothing to be predicted from
    most = min(start + args.max_tokens, candidate.config.longest)
    ids = [tokenizer.sentence(sentence)[:most] for sentence in sentences]

    def rows_of(batch: list[int]) -> list[dict]:
        nats = negative_log_likelihoods(candidate.model, [ids[i] for i in batch])
        return [
            {"id": i + 1, "tokens": len(ids[i]) - 1, "nats": nat} for i, nat in zip(batch, nats)
        ]

    return Batches(path, batches([len(row) for row in ids], args.batch_tokens), rows_of)


@torch.inference_mode()
def negative_log_likelihoods(model: LanguageModel, sentences: list[list[int]]) -> list[float]:
    """-log p of each sentence's tokens, given those before them; the first token is given."""
    device = model.model.embed_tokens.weight.device
    ids = pad(sentences).to(device)
    hidden = model.model(ids)[:, :-1]  # (B, T - 1, D)
    sizes = torch.tensor([len(sentence) - 1 for sentence in sentences], device=device)
    real = torch.arange(hidden.shape[1], device=device) < sizes.unsqueeze(1)
    size = max(1, AT_ONCE // model.config.vocab_size)
    losses = [
        F.cross_entropy(model.logits(part).float(), target, reduction="none")
        for part, target in zip(hidden[real].split(size), ids[:, 1:][real].split(size))
    ]
    return [part.sum().item() for part in torch.cat(losses).cpu().double().split(sizes.tolist())]


def read(path: Path) -> float:
    """The perplexity per token of all sentences together of such a file."""
    rows = read_written(path, tokens=int, nats=float)
    return math.exp(
        min(700, sum(row["nats"] for row in rows) / max(1, sum(row["tokens"] for row in rows)))
    )
