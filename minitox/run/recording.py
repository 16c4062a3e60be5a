"""The loop over all batches of sentences, and ranking: files, several processes, threads.

The responses of a batch of B sentences go to a file of float16, neuron by neuron: (K, B). At the
paper's scale that is 10,000 sentences x 1,048,576 neurons = 21 GB per language; ranking reads back
a few neurons at a time. A rerun after a kill finds the files, and computes the missing ones.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from minitox.detect.auroc import auroc_by_definition, aurocs
from minitox.detect.responses import pooled_responses
from minitox.errors import InputError, user_errors
from minitox.files import is_finite, replacing
from minitox.lm.batching import batches
from minitox.lm.model import LanguageModel
from minitox.neurons import module_rows
from minitox.run import distributed

READ_AT_ONCE = 2**27  # bytes of responses
RANK_AT_ONCE = 64  # neurons that a thread ranks


@dataclass(frozen=True)
class Recording:
    """Every neuron's response to every sentence, in the files of a folder."""

    folder: Path
    batches: list[list[int]]  # indices of sentences, in the order in which they are stored
    neurons: int  # K

    @property
    def order(self):  # (N,)
        """Indices of the sentences, in the order in which they are stored."""
        return np.concatenate(self.batches)

    def file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.f16"

    def missing(self) -> list[int]:
        """The batches that have no file of the right size."""
        sizes = {path: path.stat().st_size for path in self.folder.glob("*.f16")}
        missing = []
        for number, batch in enumerate(self.batches):
            if sizes.get(self.file(number)) != 2 * self.neurons * len(batch):
                missing.append(number)
        return missing

    def read(self, neurons: range) -> Iterator[np.ndarray]:
        """Yield responses (R, N) float16 of some neurons at a time, in rising order.

        InputError if one is not finite: detect.py does not write such a file.
        """
        sentences = sum(map(len, self.batches))
        step = max(1, READ_AT_ONCE // (2 * sentences))
        for start in range(neurons.start, neurons.stop, step):
            rows = min(step, neurons.stop - start)
            responses = self.read_rows(start, rows)
            if not is_finite(torch.from_numpy(responses)):
                raise InputError(f"{self.folder} is broken: it contains NaN or infinity; delete it")
            yield responses

    def read_rows(self, start: int, rows: int):  # (R, N)
        """The responses of `rows` neurons from `start` on."""
        columns = []
        for number, batch in enumerate(self.batches):
            width = len(batch)
            offset = 2 * start * width
            values = np.fromfile(self.file(number), np.float16, rows * width, offset=offset)
            columns.append(values.reshape(rows, width))
        return np.concatenate(columns, axis=1)


def record(
    model: LanguageModel,
    sentences: list[list[int]],  # token ids
    special_ids: set[int],
    pool,  # pool_max or pool_mean
    batch_tokens: int,
    folder: Path,
    show=lambda tokens: None,  # called with the tokens done so far
) -> Recording:
    """Record every neuron's response to every sentence; for all processes to call.

    A batch is written while the model reads the next one. InputError if a response is not finite.
    """
    # 1) the batches that no earlier run has recorded
    groups = batches([len(ids) for ids in sentences], batch_tokens)
    recording = Recording(folder, groups, sum(module_rows(model.config).values()))
    missing = distributed.broadcast(recording.missing())
    tokens = []  # of each batch
    for group in groups:
        tokens.append(sum(len(sentences[i]) for i in group))
    done = sum(tokens) - sum(tokens[number] for number in missing)

    # 2) compute this process's share of them, and write each one in a thread
    with ThreadPoolExecutor(1) as writer:
        written = None
        for turn, number in enumerate(distributed.deal(missing)):
            # a process without a batch repeats one, to take part in the others' forward pass
            group = groups[-1 if number is None else number]
            with user_errors():
                pooled = pooled_responses(model, [sentences[i] for i in group], special_ids, pool)
            responses = as_stored(pooled)
            if written is not None:
                written.result()
            if number is not None:
                written = writer.submit(write_batch, recording.file(number), responses)
            first = turn * distributed.WORLD  # the other processes are about as far
            done += sum(tokens[i] for i in missing[first : first + distributed.WORLD])
            show(done)
        if written is not None:
            written.result()
    distributed.barrier()  # before any process reads, all have written
    return recording


def as_stored(pooled):  # (B, K) -> (K, B) float16
    """Responses as they are stored; larger ones than float16 has count as its largest."""
    limit = torch.finfo(torch.float16).max
    stored = pooled.clamp(-limit, limit).to(torch.float16).t().contiguous()
    if stored.is_cuda:
        on_cpu = torch.empty(stored.shape, dtype=stored.dtype, pin_memory=True)
        stored = on_cpu.copy_(stored)
    return stored.cpu().numpy()


def write_batch(path: Path, responses):
    with replacing(path) as temporary:
        temporary.write_bytes(responses)  # tofile's error about a full disk does not say so


def rank(
    recording: Recording,
    labels,  # (labellings, N) bool: those to compute AUROCs for, in the order of the recording
    sample,  # (S,) rising indices of neurons
    reference: bool = False,  # by the definition of AUROC
) -> tuple[np.ndarray, np.ndarray]:  # -> (labellings, K), (S, N)
    """AUROCs of all neurons, and the responses of a sample; each process ranks some neurons."""
    first = recording.neurons * distributed.RANK // distributed.WORLD
    last = recording.neurons * (distributed.RANK + 1) // distributed.WORLD
    of_rows = []
    sampled = []
    for responses in recording.read(range(first, last)):
        of_rows.append(aurocs_of(responses, labels, reference))
        here = sample[(first <= sample) & (sample < first + len(responses))]
        sampled.append(responses[here - first])
        first += len(responses)
    parts = distributed.gather((of_rows, sampled))
    all_aurocs = chain.from_iterable(part[0] for part in parts)
    all_sampled = chain.from_iterable(part[1] for part in parts)
    return np.concatenate(list(all_aurocs), axis=1), np.concatenate(list(all_sampled))


def aurocs_of(responses, labels, reference: bool):
    """AUROCs of each neuron (labellings, R), by as many threads as torch uses."""
    if reference:
        return np.stack([auroc_by_definition(responses, toxic) for toxic in labels])
    starts = range(0, len(responses), RANK_AT_ONCE)
    parts = [responses[start : start + RANK_AT_ONCE] for start in starts]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # sorting releases Python's lock
        ranked = pool.map(lambda part: aurocs(part, labels), parts)
        return np.concatenate(list(ranked), axis=1)
