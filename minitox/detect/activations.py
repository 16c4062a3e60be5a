"""The plain loop: run every sentence, pool each neuron's output over its tokens, and keep nothing else.

Responses go to a file of float16, batch after batch, each batch neuron by neuron: (K, B). At the paper's scale that is 10,000
sentences x 1,048,576 neurons = 21 GB a language, read back a few neurons at a time. A run that was killed finds the file,
drops what is torn, and goes on with the next batch.
"""

import os
from pathlib import Path

import numpy as np
import torch

from minitox.files import InputError
from minitox.lm.model import LanguageModel
from minitox.lm.text import pad
from minitox.neurons import module_rows


def pool_max(output, keep, first: int, full: int):  # (B, T, R), (B, T) bool -> (B, R)
    """The largest output over a sentence's tokens."""
    parts = []
    if first < full:  # tokens that count in every sentence need no mask, hence no copy
        parts.append(output[:, first:full].amax(dim=1))
    if full < output.shape[1]:
        parts.append(output[:, full:].masked_fill(~keep[:, full:].unsqueeze(-1), -torch.inf).amax(dim=1))
    return torch.stack(parts).amax(dim=0)


def pool_mean(output, keep, first: int, full: int):  # (B, T, R), (B, T) bool -> (B, R)
    """The mean output over a sentence's tokens."""
    share = keep / keep.sum(dim=1, keepdim=True)
    return torch.einsum("bt,btr->br", share.to(output.dtype), output)


# DEVIATION: the paper does not say how it pools; max is ml-aura's only choice, mean does not grow with the text's length
POOL = {"max": pool_max, "mean": pool_mean}


@torch.inference_mode()
def pooled_responses(model: LanguageModel, sentences: list[list[int]], special_ids: set[int], pool):  # -> (K, B) float16
    """Every neuron's response to each sentence; special tokens and padding are not pooled.  [paper §3.1]

    InputError names the first module whose output is not finite.
    """
    device = model.model.embed_tokens.weight.device
    ids = pad(sentences)
    keep = torch.arange(ids.shape[1]) < torch.tensor([[len(sentence)] for sentence in sentences])
    keep &= ~torch.isin(ids, torch.tensor(sorted(special_ids)))
    first, full = columns(keep)
    ids, keep, responses = ids.to(device), keep.to(device), []
    model.model(ids, record=lambda layer, projection, output: responses.append(pool(output, keep, first, full)))
    check_finite(responses, model)
    limit = torch.finfo(torch.float16).max  # beyond it a response counts as this large, which keeps the order
    return torch.cat(responses, dim=1).clamp(-limit, limit).to(torch.float16).t().contiguous().cpu().numpy()


def columns(keep) -> tuple[int, int]:  # (B, T) bool
    """Where text begins, and up to where every sentence has some: BOS before the one, padding from the other on."""
    first = int(keep.any(dim=0).int().argmax())
    return first, first + int(keep[:, first:].all(dim=0).int().cumprod(dim=0).sum())


def check_finite(responses, model: LanguageModel) -> None:
    for name, response in zip(module_rows(model.config), responses):
        if not torch.isfinite(response).all():
            raise InputError(f"{name}: the responses are not finite; the weights or --dtype are at fault")


def record(model: LanguageModel, sentences: list[list[int]], batches: list[list[int]], special_ids: set[int], pool, path: Path):
    """Append the responses of the batches that `path` does not hold yet; yield the number of batches in it after each."""
    neurons = sum(module_rows(model.config).values())
    ends = np.cumsum([2 * neurons * len(batch) for batch in batches])  # the file's size in bytes after each batch
    with open(path, "ab") as file:
        done = int(np.searchsorted(ends, file.tell(), side="right"))
        file.truncate(ends[done - 1] if done else 0)  # a batch that was cut short is made again
        yield done
        for batch in batches[done:]:
            file.write(pooled_responses(model, [sentences[i] for i in batch], special_ids, pool))
            file.flush()
            os.fsync(file.fileno())
            done += 1
            yield done


def read_responses(path: Path, batches: list[list[int]], neurons: int, memory: int = 2**27):
    """Yield (first neuron, responses (R, N) float16) until all are read; sentences in the order of `batches`."""
    total = sum(map(len, batches))
    step = max(1, memory // (2 * total))
    with open(path, "rb") as file:
        for start in range(0, neurons, step):
            rows = min(step, neurons - start)
            responses, seen = np.empty((rows, total), dtype=np.float16), 0
            for batch in batches:
                file.seek(2 * (neurons * seen + start * len(batch)))
                block = np.fromfile(file, dtype=np.float16, count=rows * len(batch))
                responses[:, seen:seen + len(batch)] = block.reshape(rows, len(batch))
                seen += len(batch)
            yield start, responses
