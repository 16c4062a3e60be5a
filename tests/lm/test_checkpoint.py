"""A checkpoint loads whole and exactly, or not at all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import write_model

from minitox.errors import InputError
from minitox.lm import checkpoint

IDS = torch.arange(3, 20)[None]


def edit_weights(folder, edit) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize("shard_bytes", [10**9, 5_000])
def test_a_saved_folder_loads_back_with_identical_logits(folder, tmp_path, shard_bytes):
    model = checkpoint.load(folder)
    checkpoint.save(model, tmp_path / "saved", source=folder, shard_bytes=shard_bytes)
    assert (tmp_path / "saved" / "model.safetensors.index.json").exists() == (shard_bytes == 5_000)
    assert (tmp_path / "saved" / "tokenizer.json").read_bytes() == (
        folder / "tokenizer.json"
    ).read_bytes()
    assert torch.equal(checkpoint.load(tmp_path / "saved")(IDS), model(IDS))
    assert checkpoint.fingerprint(tmp_path / "saved") == checkpoint.fingerprint(folder)


def test_saving_replaces_a_folder_whole(folder, tmp_path):
    model = checkpoint.load(folder)
    checkpoint.save(model, tmp_path / "saved", source=folder, shard_bytes=5_000)
    checkpoint.save(model, tmp_path / "saved", source=folder)
    assert [path.name for path in (tmp_path / "saved").glob("*.safetensors*")] == [
        "model.safetensors"
    ]


def test_the_fingerprint_sees_one_changed_weight(folder):
    before = checkpoint.fingerprint(folder)
    edit_weights(
        folder,
        lambda weights: weights["model.norm.weight"].mul_(torch.tensor([1.0] * 31 + [1.0001])),
    )
    assert checkpoint.fingerprint(folder) != before


def test_weights_are_loaded_in_the_dtype_that_is_asked_for(folder):
    assert {
        weight.dtype for weight in checkpoint.load(folder, dtype=torch.bfloat16).parameters()
    } == {torch.bfloat16}


def test_a_tied_head_may_be_stored_if_it_is_the_embedding(folder):
    logits = checkpoint.load(folder)(IDS)
    edit_weights(
        folder,
        lambda weights: weights.update(
            {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}
        ),
    )
    assert torch.equal(checkpoint.load(folder)(IDS), logits)
    edit_weights(folder, lambda weights: weights["lm_head.weight"].add_(1))
    with pytest.raises(InputError, match="the two differ"):
        checkpoint.load(folder)


def extra(weights):
    weights["model.layers.2.mlp.gate_proj.weight"] = torch.zeros(48, 32)


@pytest.mark.parametrize(
    "edit, message",
    [
        (
            lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"),
            "tensor model.layers.1.mlp.up_proj.weight is missing",
        ),
        (extra, "model.layers.2.mlp.gate_proj.weight is no part of a llama of 2 layers"),
        (
            lambda weights: weights.update({"model.norm.weight": torch.ones(31)}),
            r"model.norm.weight has shape \[31\], .* \[32\]",
        ),
        (
            lambda weights: weights.update({"model.norm.weight": torch.ones(32, dtype=torch.int8)}),
            "dtype I8",
        ),
    ],
)
def test_a_wrong_tensor_is_named(folder, edit, message):
    edit_weights(folder, edit)
    with pytest.raises(InputError, match=message):
        checkpoint.load(folder)


@pytest.mark.parametrize("content", [b"", b"not a tensor in sight", b"\xff" * 64, "half"])
def test_a_file_that_is_not_safetensors_is_named(folder, content):
    path = folder / "model.safetensors"
    path.write_bytes(
        path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content
    )
    with pytest.raises(InputError, match="model.safetensors: not a whole safetensors file"):
        checkpoint.load(folder)


def test_a_folder_without_weights_is_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        InputError, match="no model.safetensors and no model.safetensors.index.json"
    ):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "shard, message",
    [
        ("../model.safetensors", "may not point outside"),
        ("/etc/passwd", "may not point outside"),
        ("..", "may not point outside"),
        ("gone.safetensors", "gone.safetensors: no such file"),
    ],
)
def test_an_index_stays_in_its_folder(folder, shard, message):
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    names = load_file(folder / "a.safetensors")
    index = {"weight_map": {name: shard for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=message):
        checkpoint.load(folder)


def test_loading_takes_little_more_memory_than_the_weights(tmp_path):
    """Peak resident memory while loading bfloat16 weights as float32, which needs both kinds of one tensor at a time."""
    shape = dict(hidden_size=512, intermediate_size=2048, num_hidden_layers=16, vocab_size=4096)
    model = write_model(tmp_path, **shape)
    weights = {name: weight.bfloat16() for name, weight in model.state_dict().items()}
    checkpoint.save_weights(weights, tmp_path, shard_bytes=10**9)
    measure = """
import sys, torch
from minitox.lm import checkpoint
def kilobytes(field):
    return int(next(line for line in open("/proc/self/status") if line.startswith(field)).split()[1])
before = kilobytes("VmRSS")
model = checkpoint.load(sys.argv[1], dtype=torch.float32)
print((kilobytes("VmHWM") - before) * 1024 / sum(weight.nbytes for weight in model.parameters()))
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc to measure memory")
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(
        [sys.executable, "-c", measure, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    assert float(result.stdout) <= 1.1
