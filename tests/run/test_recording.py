"""Recording: responses on disk, the same bytes after a kill, read back a few neurons at a time."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import write_model

from minitox.detect.auroc import auroc_by_definition, aurocs
from minitox.detect.responses import POOL, pooled_responses
from minitox.errors import InputError
from minitox.files import remove_leftovers
from minitox.neurons import by_module, module_rows
from minitox.run import recording
from minitox.run.recording import Recording, as_stored, rank, record, write_batch

SENTENCES = [[0, 5, 6, 7], [0, 9], [0, 40, 41, 42, 43, 44, 45, 46], [0, 5, 8], [0, 100, 101, 102]]
NEURONS = 2 * (48 + 48 + 32)  # of the tiny model


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


def record_to(folder: Path, model, **more) -> Recording:
    """Record SENTENCES, in several batches."""
    return record(model, SENTENCES, {0}, POOL["max"], 9, folder, **more)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stored(model, sentences, special_ids, pool: str):  # -> (K, N) float16
    """All responses in one batch, as they are stored."""
    return as_stored(pooled_responses(model, sentences, special_ids, POOL[pool]))


# ---------- a batch


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_responses_are_stored_neuron_by_neuron_in_float16(model, pool):
    pooled = pooled_responses(model, SENTENCES, {0, 1}, POOL[pool])  # (N, K)
    responses = as_stored(pooled)
    assert responses.dtype == np.float16
    assert responses.shape == (NEURONS, 5)
    assert responses.flags.c_contiguous
    # float16 has 11 significant bits
    assert np.allclose(responses, pooled.T, rtol=1e-3, atol=1e-5)


def test_responses_too_large_for_float16_keep_their_sign(model):
    model.model.layers[0].mlp.gate_proj.weight.mul_(1e6)
    responses = by_module(stored(model, SENTENCES, {0}, "max"), module_rows(model.config))
    gate = responses["model.layers.0.mlp.gate_proj"]
    assert np.isfinite(gate).all()
    assert gate.max() == 65504
    assert gate.min() == -65504


def full_disk(descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_named_in_the_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="000000.f16.*No space left"):
        write_batch(tmp_path / "000000.f16", np.zeros((3, 2), np.float16))


# ---------- a recording


def test_a_recording_is_read_back_a_few_neurons_at_a_time(model, tmp_path, monkeypatch):
    made = record_to(tmp_path / "responses", model)
    assert len(made.batches) > 2
    assert made.neurons == NEURONS
    assert made.missing() == []
    assert sorted(made.order) == list(range(5))

    monkeypatch.setattr(recording, "READ_AT_ONCE", 2 * 5 * 100)
    parts = list(made.read(range(20, 256)))
    assert list(map(len, parts)) == [100, 100, 36]
    expected = stored(model, [SENTENCES[i] for i in made.order], {0}, "max")
    assert np.allclose(np.concatenate(parts), expected[20:], rtol=2e-3, atol=1e-4)


def test_progress_is_the_number_of_tokens_recorded_so_far(model, tmp_path):
    shown = []
    made = record_to(tmp_path / "responses", model, show=shown.append)
    tokens = [sum(len(SENTENCES[i]) for i in batch) for batch in made.batches]
    assert shown == np.cumsum(tokens).tolist()


@pytest.mark.parametrize("kept", [(), (0,), (1, 2)])
def test_a_killed_recording_resumes_and_ends_with_the_same_bytes(model, tmp_path, kept):
    """A kill leaves any batches, as some processes are ahead, and temporary files."""
    made = record_to(tmp_path / "whole", model)
    whole = files_in(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    killed = Recording(tmp_path / "killed", made.batches, made.neurons)
    lost = [number for number in range(len(made.batches)) if number not in kept]
    for number in lost:
        path = killed.file(number)
        path.rename(path.with_name(f".{path.name}.abcd1234.partial"))
    assert killed.missing() == lost
    remove_leftovers(tmp_path)

    # no batch that was finished is computed again
    shown = []
    record_to(tmp_path / "killed", model, show=shown.append)
    tokens = [sum(len(SENTENCES[i]) for i in batch) for batch in made.batches]
    assert len(shown) == len(lost)
    assert shown[0] == sum(tokens[number] for number in (*kept, lost[0]))
    assert shown[-1] == sum(tokens)
    assert files_in(tmp_path / "killed") == whole


def test_a_batch_of_the_wrong_size_is_recorded_again(model, tmp_path):
    made = record_to(tmp_path, model)
    whole = made.file(1).read_bytes()
    made.file(1).write_bytes(whole[:-2])
    assert made.missing() == [1]
    record_to(tmp_path, model)
    assert made.file(1).read_bytes() == whole


def test_a_response_that_is_not_finite_is_an_error_of_the_user(model, tmp_path):
    model.model.layers[1].mlp.up_proj.weight[7, 3] = torch.nan
    message = "model.layers.1.mlp.up_proj: the responses are not finite"
    with pytest.raises(InputError, match=message):
        record_to(tmp_path, model)


def test_a_disk_that_is_full_stops_the_recording(model, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="00000..f16.*No space left"):
        record_to(tmp_path, model)


# ---------- ranking


@pytest.fixture
def noise(tmp_path) -> tuple[Recording, np.ndarray]:
    """A recording of random responses of 300 neurons to 40 sentences, and the responses."""
    rng = np.random.default_rng(0)
    responses = rng.integers(-5, 5, (300, 40)).astype(np.float16)
    made = Recording(tmp_path / "noise", [list(range(0, 25)), list(range(25, 40))], 300)
    for number, batch in enumerate(made.batches):
        write_batch(made.file(number), np.ascontiguousarray(responses[:, batch]))
    return made, responses


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("neurons_at_once", [1, 7, 128, 1000])
def test_all_neurons_are_ranked_and_the_sample_is_read_with_them(
    noise, reference, neurons_at_once, monkeypatch
):
    made, responses = noise
    rng = np.random.default_rng(1)
    labels = np.stack([rng.permutation(np.arange(40) < toxic) for toxic in (15, 15, 8)])
    sample = np.array([0, 6, 7, 8, 130, 299])
    monkeypatch.setattr(recording, "READ_AT_ONCE", 2 * 40 * neurons_at_once)
    ranked, sampled = rank(made, labels, sample, reference)
    for toxic, of_labels in zip(labels, ranked, strict=True):
        assert np.array_equal(of_labels, auroc_by_definition(responses, toxic))
    assert np.array_equal(sampled, responses[sample])


def test_several_processes_rank_a_range_of_neurons_each(noise, monkeypatch):
    made, responses = noise
    labels = np.stack([np.arange(40) < 15, np.arange(40) % 3 == 0])
    sample = np.array([0, 99, 100, 250])
    parts = []
    monkeypatch.setattr(recording.distributed, "WORLD", 3)
    monkeypatch.setattr(recording.distributed, "gather", lambda part: [part])
    for number in range(3):
        monkeypatch.setattr(recording.distributed, "RANK", number)
        parts.append(rank(made, labels, sample))
    assert [ranked.shape for ranked, _ in parts] == [(2, 100)] * 3
    assert [len(sampled) for _, sampled in parts] == [2, 1, 1]
    ranked = np.concatenate([part[0] for part in parts], axis=1)
    assert np.array_equal(ranked, aurocs(responses, labels))
    assert np.array_equal(np.concatenate([part[1] for part in parts]), responses[sample])


def test_the_reference_ranks_by_the_definition_alone(noise, monkeypatch):
    made, responses = noise
    toxic = np.arange(40) < 15
    monkeypatch.setattr(recording, "aurocs", None)
    ranked, _ = rank(made, toxic[None], np.array([0]), reference=True)
    assert np.array_equal(ranked[0], auroc_by_definition(responses, toxic))
