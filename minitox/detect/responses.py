"""The plain loop: run every sentence, pool each neuron's output over its tokens, and keep nothing else.

Responses go to files of float16, one a batch, neuron by neuron: (K, B). At the paper's scale that is 10,000 sentences x 1,048,576
neurons = 21 GB a language, read back a few neurons at a time. A run that was killed finds the files, and makes the others.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from minitox.errors import InputError
from minitox.files import replacing
from minitox.lm.batching import on_device, pad
from minitox.lm.model import LanguageModel
from minitox.neurons import module_rows
from minitox.run import distributed


def pool_max(output, keep, first: int, full: int):  # (B, T, R), (B, T) bool -> (B, R)
    """The largest output over a sentence's tokens."""
    parts = []
    if first < full:  # tokens that count in every sentence need no mask, hence no copy
        parts.append(output[:, first:full].amax(dim=1))
    if full < output.shape[1]:
        parts.append(
            output[:, full:].masked_fill(~keep[:, full:].unsqueeze(-1), -torch.inf).amax(dim=1)
        )
    return torch.stack(parts).amax(dim=0)


def pool_mean(output, keep, first: int, full: int):  # (B, T, R), (B, T) bool -> (B, R)
    """The mean output over a sentence's tokens."""
    share = keep / keep.sum(dim=1, keepdim=True)
    return torch.einsum("bt,btr->br", share.to(output.dtype), output)


# DEVIATION: the paper does not say how it pools; max is ml-aura's only choice, mean does not grow with the text's length
POOL = {"max": pool_max, "mean": pool_mean}


@torch.inference_mode()
def pooled_responses(
    model: LanguageModel, sentences: list[list[int]], special_ids: set[int], pool
):  # -> (K, B) float16
    """Every neuron's response to each sentence; special tokens and padding are not pooled.  [paper §3.1]

    InputError names the first module whose output is not finite.
    """
    device = model.model.embed_tokens.weight.device
    ids = pad(sentences)
    keep = torch.arange(ids.shape[1]) < torch.tensor([[len(sentence)] for sentence in sentences])
    keep &= ~torch.isin(ids, torch.tensor(sorted(special_ids)))
    first, full = columns(keep)
    ids, keep, responses = on_device(ids, device), on_device(keep, device), []
    model.model(
        ids,
        record=lambda layer, projection, output: responses.append(pool(output, keep, first, full)),
    )
    check_finite(responses, model)
    pooled = torch.cat(responses, dim=1)  # (B, K)
    limit = torch.finfo(
        torch.float16
    ).max  # beyond it a response counts as this large, which keeps the order
    found = pooled.clamp(-limit, limit).to(torch.float16).t().contiguous()
    return (
        torch.empty(found.shape, dtype=found.dtype, pin_memory=device.type == "cuda")
        .copy_(found)
        .numpy()
    )


def columns(keep) -> tuple[int, int]:  # (B, T) bool
    """Where text begins, and up to where every sentence has some: BOS before the one, padding from the other on."""
    first = int(keep.any(dim=0).int().argmax())
    return first, first + int(keep[:, first:].all(dim=0).int().cumprod(dim=0).sum())


def check_finite(responses, model: LanguageModel) -> None:
    finite = torch.stack([response.isfinite().all() for response in responses]).tolist()
    for name, is_finite in zip(module_rows(model.config), finite):
        if not is_finite:
            raise InputError(
                f"{name}: the responses are not finite; the weights or --dtype are at fault"
            )


def record(
    model: LanguageModel,
    sentences: list[list[int]],
    batches: list[list[int]],
    special_ids: set[int],
    pool,
    folder: Path,
):
    """Write the responses of the batches that `folder` does not hold yet, dealt to the processes; yield which are done.

    A batch is written while the model reads the next one.
    """
    sizes, rows = (
        {path: path.stat().st_size for path in folder.glob("*.f16")},
        sum(module_rows(model.config).values()),
    )
    missing = distributed.broadcast(
        [
            i
            for i, batch in enumerate(batches)
            if sizes.get(batch_file(folder, i)) != 2 * rows * len(batch)
        ]
    )
    done = [i for i in range(len(batches)) if i not in set(missing)]
    with ThreadPoolExecutor(1) as writer:
        written = None
        for turn, i in enumerate(distributed.deal(missing)):
            responses = pooled_responses(
                model, [sentences[j] for j in batches[-1 if i is None else i]], special_ids, pool
            )
            if written is not None:
                written.result()
            if i is not None:
                written = writer.submit(write_batch, batch_file(folder, i), responses)
            done += missing[
                turn * distributed.WORLD : (turn + 1) * distributed.WORLD
            ]  # the others are about as far
            yield done
        if written is not None:
            written.result()
    distributed.gather(None)  # before anybody reads, all have written


def batch_file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.f16"


def write_batch(path: Path, responses) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(responses)  # tofile says of a full disk only how much it wrote


def read_responses(folder: Path, batches: list[list[int]], neurons: range, memory: int = 2**27):
    """Yield responses (R, N) float16 of the neurons in turn; sentences in the order of `batches`."""
    total = sum(map(len, batches))
    step = max(1, memory // (2 * total))
    for start in range(neurons.start, neurons.stop, step):
        rows = min(step, neurons.stop - start)
        yield np.concatenate(
            [
                np.fromfile(
                    batch_file(folder, i),
                    np.float16,
                    rows * len(batch),
                    offset=2 * start * len(batch),
                ).reshape(rows, len(batch))
                for i, batch in enumerate(batches)
            ],
            axis=1,
        )
