"""Responses: one number a neuron and sentence, the same whatever else is in the batch, safe against a kill."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import write_model

from minitox.detect.responses import (
    POOL,
    batch_file,
    pooled_responses,
    read_responses,
    record,
    write_batch,
)
from minitox.errors import InputError
from minitox.lm.batching import batches
from minitox.neurons import by_module, module_rows

SENTENCES = [[0, 5, 6, 7], [0, 9], [0, 40, 41, 42, 43, 44, 45, 46], [0, 5, 8], [0, 100, 101, 102]]


def reference(model, ids, pool):
    """The definition: one sentence at a time, with every output kept, and pooled in float64."""
    outputs = []
    model.model(
        torch.tensor([ids]),
        record=lambda layer, name, output: outputs.append(output[0, 1:].double()),
    )  # without the BOS
    return torch.cat(
        [output.amax(0) if pool == "max" else output.mean(0) for output in outputs]
    ).numpy()


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_batched_equals_one_sentence_at_a_time(tmp_path, pool):
    model = write_model(tmp_path)
    responses = pooled_responses(model, SENTENCES, {0, 1}, POOL[pool])
    assert responses.dtype == np.float16 and responses.shape == (2 * (48 + 48 + 32), 5)
    for i, ids in enumerate(SENTENCES):
        assert np.allclose(
            responses[:, i], reference(model, ids, pool), rtol=1e-3, atol=1e-5
        )  # float16 keeps 11 bits


def test_special_tokens_are_not_pooled(tmp_path):
    model = write_model(tmp_path)
    with_eos = [ids + [1] for ids in SENTENCES]  # the last token is read by none of the others
    for pool in POOL.values():
        assert np.allclose(
            pooled_responses(model, with_eos, {0, 1}, pool),
            pooled_responses(model, SENTENCES, {0, 1}, pool),
            atol=1e-3,
        )
        assert not np.allclose(
            pooled_responses(model, with_eos, {0}, pool),
            pooled_responses(model, SENTENCES, {0}, pool),
            atol=1e-1,
        )


def test_special_tokens_inside_some_sentences_are_not_pooled_either(tmp_path):
    model, sentences = write_model(tmp_path), [[0, 5, 1, 7, 8], [0, 9, 10, 1], [0, 4, 5, 6, 7, 8]]
    for pool, over in ((POOL["max"], np.max), (POOL["mean"], np.mean)):
        for responses, ids in zip(pooled_responses(model, sentences, {0, 1}, pool).T, sentences):
            outputs = []
            model.model(
                torch.tensor([ids]),
                record=lambda layer, name, output: outputs.append(output[0].numpy()),
            )
            text = [i for i, token in enumerate(ids) if token > 1]
            assert np.allclose(
                responses,
                np.concatenate([over(output[text], axis=0) for output in outputs]),
                rtol=1e-3,
                atol=1e-4,
            )


def test_a_response_that_is_not_finite_names_its_module(tmp_path):
    model = write_model(tmp_path)
    model.model.layers[1].mlp.up_proj.weight[7, 3] = torch.nan
    with pytest.raises(
        InputError, match="model.layers.1.mlp.up_proj: the responses are not finite"
    ):
        pooled_responses(model, SENTENCES, {0}, POOL["max"])


def test_responses_too_large_for_float16_keep_their_sign(tmp_path):
    model = write_model(tmp_path)
    model.model.layers[0].mlp.gate_proj.weight.mul_(1e6)
    gate = by_module(
        pooled_responses(model, SENTENCES, {0}, POOL["max"]), module_rows(model.config)
    )["model.layers.0.mlp.gate_proj"]
    assert np.isfinite(gate).all() and gate.max() == 65504 and gate.min() == -65504


def test_what_is_written_is_read_back_a_few_neurons_at_a_time(tmp_path):
    model, plan = write_model(tmp_path), batches([len(ids) for ids in SENTENCES], tokens=9)
    assert len(plan) > 2
    *_, done = record(model, SENTENCES, plan, {0}, POOL["max"], tmp_path / "responses")
    assert done == list(range(len(plan)))
    chunks = list(read_responses(tmp_path / "responses", plan, range(20, 256), memory=2 * 5 * 100))
    assert list(map(len, chunks)) == [100, 100, 36]
    expected = pooled_responses(
        model, [SENTENCES[i] for batch in plan for i in batch], {0}, POOL["max"]
    )
    assert np.allclose(np.concatenate(chunks), expected[20:], rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("kept", [(), (0,), (1, 2)])
def test_a_killed_recording_goes_on_and_ends_with_the_same_bytes(tmp_path, kept):
    """A kill leaves any batches, for processes run ahead of each other, and half of one under a temporary name."""
    model, plan = write_model(tmp_path), batches([len(ids) for ids in SENTENCES], tokens=9)
    list(record(model, SENTENCES, plan, {0}, POOL["max"], tmp_path / "whole"))
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    for number in set(range(len(plan))) - set(kept):
        path = batch_file(tmp_path / "killed", number)
        path.rename(path.with_name(f".{path.name}.partial"))
    made = [
        set(done) for done in record(model, SENTENCES, plan, {0}, POOL["max"], tmp_path / "killed")
    ]
    assert len(made) == len(plan) - len(kept) and made[0] > set(
        kept
    )  # nothing that was finished is computed again
    assert {path.name: path.read_bytes() for path in (tmp_path / "killed").iterdir()} == whole


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_called_so(tmp_path):
    (tmp_path / ".000000.f16.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="000000.f16.*No space left"):
        write_batch(tmp_path / "000000.f16", np.zeros((3, 2), np.float16))
