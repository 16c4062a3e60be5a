"""A patch: small, exact in both directions, and useless for any other model."""

import contextlib
import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import error_of, write_model

from minitox import delta, locks
from minitox.errors import InputError
from minitox.lm import checkpoint

ROWS = {"model.layers.1.mlp.gate_proj.weight": [3, 7], "model.norm.weight": [0, 31]}


@pytest.fixture
def tuned(folder, tmp_path):
    """The model of `folder` with two rows, two single weights and one bit changed."""

    def make(dtype=torch.float32):
        model = checkpoint.load(folder, dtype=dtype)
        for name, rows in ROWS.items():
            model.get_parameter(name)[rows] += 0.1
        # from a number to a zero with a sign
        model.model.layers[0].mlp.up_proj.weight[0, 0] *= -0.0
        checkpoint.save(model, tmp_path / "tuned", source=folder)
        return tmp_path / "tuned"

    return make


@pytest.fixture
def patch(folder, tuned, tmp_path):
    """A patch between the two models in float32."""
    path = tmp_path / "patch.safetensors"
    delta.write(folder, tuned(), path)
    return path


def weight_bytes(folder) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "dtype, expected",
    [
        (torch.float32, "the base model"),
        (
            torch.bfloat16,
            "the base model in bfloat16: not the base model itself, which is in float32",
        ),
    ],
)
def test_it_is_applied_and_undone_to_the_bit(folder, tuned, tmp_path, dtype, expected):
    made = tuned(dtype)
    patch = tmp_path / "patch.safetensors"
    delta.write(folder, made, patch)
    assert delta.toggle(folder, patch, tmp_path / "applied") == "the tuned model"
    undone = delta.toggle(tmp_path / "applied", patch, tmp_path / "undone")
    assert undone == expected
    same = checkpoint.fingerprint(tmp_path / "undone") == checkpoint.fingerprint(folder)
    assert same == (dtype == torch.float32)
    assert delta.toggle(tmp_path / "undone", patch, tmp_path / "again") == "the tuned model"
    assert weight_bytes(tmp_path / "applied") == weight_bytes(made)
    assert weight_bytes(tmp_path / "again") == weight_bytes(made)
    base = checkpoint.load(folder, dtype=dtype).state_dict()
    for name, weight in load_file(tmp_path / "undone" / "model.safetensors").items():
        assert torch.equal(weight, base[name])


def test_it_contains_the_changed_rows_alone(folder, tuned, tmp_path):
    path = tmp_path / "patch.safetensors"
    size = delta.write(folder, tuned(), path)
    rows = {}
    for name, tensor in load_file(path).items():
        if name.endswith(" rows"):
            rows[name.removesuffix(" rows")] = tensor.tolist()
    assert rows == ROWS | {"model.layers.0.mlp.up_proj.weight": [0]}
    assert size == path.stat().st_size < 3_000


def test_it_applies_to_a_base_that_is_sharded_another_way(folder, patch, tmp_path):
    sharded = tmp_path / "sharded"
    checkpoint.save(checkpoint.load(folder), sharded, source=folder, shard_bytes=10_000)
    assert len(list(sharded.glob("*.safetensors"))) > 1
    assert delta.toggle(sharded, patch, tmp_path / "applied") == "the tuned model"


def test_another_model_is_refused(patch, tmp_path):
    write_model(tmp_path / "other", seed=9)
    with pytest.raises(InputError, match="between two other models"):
        delta.toggle(tmp_path / "other", patch, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_base_with_another_config_comes_back_with_a_word(folder, patch, tmp_path):
    delta.toggle(folder, patch, tmp_path / "applied")
    config = tmp_path / "applied" / "config.json"
    config.write_text(config.read_text().replace("10000.0", "20000.0"))
    undone = delta.toggle(tmp_path / "applied", patch, tmp_path / "undone")
    assert undone.startswith("the base model's weights: not the base model itself")


def test_an_existing_folder_is_not_overwritten(folder, patch, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists already"):
        delta.toggle(folder, patch, tmp_path / "out")


def test_a_file_that_is_not_a_patch_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="not a patch"):
        delta.toggle(folder, folder / "model.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"model.norm.weight bits": torch.ones(2, dtype=torch.int32)},
        {"model.norm.weight rows": torch.tensor([0, 99], dtype=torch.int32)},
        {"nothing rows": torch.tensor([0])},
    ],
    ids=["bits of another model", "rows outside the matrix", "rows of an unknown weight"],
)
def test_a_broken_patch_is_refused(folder, patch, tmp_path, change):
    with checkpoint.open_safetensors(patch) as file:
        metadata = file.metadata()
    broken = tmp_path / "broken.safetensors"
    save_file(load_file(patch) | change, broken, metadata=metadata)
    with pytest.raises(InputError, match="broken"):
        delta.toggle(folder, broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", ["int64", "__all__"])
def test_a_patch_of_an_unknown_dtype_is_refused(folder, patch, tmp_path, dtype):
    with checkpoint.open_safetensors(patch) as file:
        about = json.loads(file.metadata()["delta"])
    broken = tmp_path / "broken.safetensors"
    metadata = {"delta": json.dumps(about | {"dtype": dtype})}
    save_file(load_file(patch), broken, metadata=metadata)
    with pytest.raises(InputError, match=f"is broken: its dtype is '{dtype}'"):
        delta.toggle(folder, broken, tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_second_process_that_writes_to_the_folder_is_refused(folder, patch, tmp_path):
    out = tmp_path / "out"
    locks.acquire(out.with_name(".out.lock"))
    process = os.fork()
    if process == 0:
        with contextlib.suppress(InputError):
            delta.toggle(folder, patch, out)
            os._exit(0)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 3
    assert not out.exists()
    assert delta.toggle(folder, patch, out) == "the tuned model"


def test_the_command(folder, patch, tmp_path, capsys):
    arguments = [str(folder), str(patch), str(tmp_path / "out")]
    delta.main(arguments)
    assert "the tuned model" in capsys.readouterr().out
    assert "exists already" in error_of(delta.main, arguments, capsys)
