"""A checkpoint loads completely and exactly, or not at all."""

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
from minitox.lm.config import read_config

IDS = torch.arange(3, 20)[None]


def edit_weights(folder, edit) -> None:
    """Let `edit` change the dictionary of a folder's weights."""
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize("shard_bytes", [10**9, 5_000])
def test_a_saved_folder_loads_back_with_identical_logits(folder, tmp_path, shard_bytes):
    model = checkpoint.load(folder)
    saved = tmp_path / "saved"
    checkpoint.save(model, saved, source=folder, shard_bytes=shard_bytes)
    assert (saved / "model.safetensors.index.json").exists() == (shard_bytes == 5_000)
    tokenizer = (folder / "tokenizer.json").read_bytes()
    assert (saved / "tokenizer.json").read_bytes() == tokenizer
    assert torch.equal(checkpoint.load(saved)(IDS), model(IDS))
    assert checkpoint.fingerprint(saved) == checkpoint.fingerprint(folder)


def test_saving_replaces_a_whole_folder(folder, tmp_path):
    model = checkpoint.load(folder)
    saved = tmp_path / "saved"
    checkpoint.save(model, saved, source=folder, shard_bytes=5_000)
    checkpoint.save(model, saved, source=folder)
    names = [path.name for path in saved.glob("*.safetensors*")]
    assert names == ["model.safetensors"]


def test_the_fingerprint_sees_one_changed_weight(folder):
    before = checkpoint.fingerprint(folder)
    factor = torch.tensor([1.0] * 31 + [1.0001])
    edit_weights(folder, lambda weights: weights["model.norm.weight"].mul_(factor))
    assert checkpoint.fingerprint(folder) != before


def test_the_fingerprint_sees_which_layers_of_cohere2_have_rope(tmp_path):
    sliding, full = "sliding_attention", "full_attention"
    prints = set()
    for layer_types in ([sliding, full], [full, sliding], [sliding, sliding]):
        write_model(tmp_path, model_type="cohere2", layer_types=layer_types, sliding_window=64)
        prints.add(checkpoint.fingerprint(tmp_path))
    assert len(prints) == 3


def test_the_fingerprint_of_the_other_families_does_not_have_what_cohere2_alone_has(folder):
    """Otherwise results from before Cohere2 would no longer be of this model."""
    assert "layers_without_rope" not in repr(read_config(folder))


def test_weights_are_loaded_in_the_dtype_that_is_asked_for(folder):
    model = checkpoint.load(folder, dtype=torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


def store_head(weights):
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()


def test_a_tied_head_may_be_stored_if_it_is_the_embedding(folder):
    logits = checkpoint.load(folder)(IDS)
    edit_weights(folder, store_head)
    assert torch.equal(checkpoint.load(folder)(IDS), logits)
    edit_weights(folder, lambda weights: weights["lm_head.weight"].add_(1))
    with pytest.raises(InputError, match="the two differ"):
        checkpoint.load(folder)


def remove(weights):
    del weights["model.layers.1.mlp.up_proj.weight"]


def add(weights):
    weights["model.layers.2.mlp.gate_proj.weight"] = torch.zeros(48, 32)


def shorten(weights):
    weights["model.norm.weight"] = torch.ones(31)


def quantize(weights):
    weights["model.norm.weight"] = torch.ones(32, dtype=torch.int8)


@pytest.mark.parametrize(
    "edit, message",
    [
        (remove, "tensor model.layers.1.mlp.up_proj.weight is missing"),
        (add, "model.layers.2.mlp.gate_proj.weight does not belong to a llama of 2 layers"),
        (shorten, r"model.norm.weight has shape \[31\], .* \[32\]"),
        (quantize, "dtype I8"),
    ],
)
def test_a_wrong_tensor_is_named(folder, edit, message):
    edit_weights(folder, edit)
    with pytest.raises(InputError, match=message):
        checkpoint.load(folder)


@pytest.mark.parametrize("content", [b"", b"not a tensor in sight", b"\xff" * 64, "half"])
def test_a_file_that_is_not_safetensors_is_named(folder, content):
    path = folder / "model.safetensors"
    if content == "half":
        whole = path.read_bytes()
        content = whole[: len(whole) // 2]
    path.write_bytes(content)
    with pytest.raises(InputError, match="model.safetensors: not a whole safetensors file"):
        checkpoint.load(folder)


def test_a_folder_without_weights_is_named(folder):
    (folder / "model.safetensors").unlink()
    message = "no model.safetensors and no model.safetensors.index.json"
    with pytest.raises(InputError, match=message):
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
    index = {"weight_map": dict.fromkeys(names, shard)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=message):
        checkpoint.load(folder)


MEASURE = """
import sys, torch
from minitox.lm import checkpoint

def kilobytes(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1])

before = kilobytes("VmRSS")
model = checkpoint.load(sys.argv[1], dtype=torch.float32)
peak = kilobytes("VmHWM") - before
print(peak * 1024 / sum(weight.nbytes for weight in model.parameters()))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to measure memory")
def test_loading_takes_little_more_memory_than_the_weights(tmp_path):
    """bfloat16 weights loaded as float32 need both dtypes of one tensor at a time."""
    shape = {
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 16,
        "vocab_size": 4096,
    }
    model = write_model(tmp_path, **shape)
    weights = {name: weight.bfloat16() for name, weight in model.state_dict().items()}
    checkpoint.save_weights(weights, tmp_path, shard_bytes=10**9)
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert float(result.stdout) <= 1.1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, -1])
def test_a_weight_that_is_not_finite_is_named(folder, value, place):
    name = "model.layers.1.mlp.up_proj.weight"

    def edit(weights):
        weights[name].view(-1)[place] = value

    edit_weights(folder, edit)
    message = f"model.safetensors: tensor {name} contains NaN or infinity in torch.float32"
    with pytest.raises(InputError, match=message):
        checkpoint.load(folder)


def test_a_weight_that_another_dtype_cannot_hold_is_named(folder):
    edit_weights(folder, lambda weights: weights["model.norm.weight"].fill_(65_519.0))
    checkpoint.load(folder, dtype=torch.float16)  # rounded to the largest number of float16
    edit_weights(folder, lambda weights: weights["model.norm.weight"].fill_(65_520.0))
    checkpoint.load(folder, dtype=torch.bfloat16)
    with pytest.raises(InputError, match="norm.weight contains NaN or infinity in torch.float16"):
        checkpoint.load(folder, dtype=torch.float16)


# ---------- size of weights


MLP = ["model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.down_proj.weight"]


def test_the_root_mean_square_of_some_weights_has_three_digits(tmp_path):
    model = write_model(tmp_path / "model")
    values = torch.cat([model.get_parameter(name).double().flatten() for name in MLP])
    rms = checkpoint.root_mean_square(tmp_path / "model", MLP)
    assert rms == pytest.approx(values.square().mean().sqrt().item(), rel=5e-3)
    assert rms == float(f"{rms:.3g}")


def test_weights_that_are_missing_or_not_finite_have_no_root_mean_square(folder):
    edit_weights(folder, lambda weights: weights[MLP[0]].view(-1)[0].fill_(float("nan")))
    with pytest.raises(InputError, match=f"tensor {MLP[0]} contains NaN or infinity"):
        checkpoint.root_mean_square(folder, MLP)
    edit_weights(folder, lambda weights: weights.pop(MLP[1]))
    with pytest.raises(InputError, match=f"tensor {MLP[1]} is missing"):
        checkpoint.root_mean_square(folder, MLP)
