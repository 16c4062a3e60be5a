"""A patch: small, exact in both directions, and of no use to another model."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import write_model

from minitox import delta
from minitox.errors import InputError
from minitox.lm import checkpoint
from minitox.run import cli

ROWS = {"model.layers.1.mlp.gate_proj.weight": [3, 7], "model.norm.weight": [0, 31]}


@pytest.fixture
def tuned(folder, tmp_path):
    """The model of `folder` with two rows and two single weights changed."""

    def make(dtype=torch.float32):
        model = checkpoint.load(folder, dtype=dtype)
        for name, rows in ROWS.items():
            model.get_parameter(name)[rows] += 0.1
        model.model.layers[0].mlp.up_proj.weight[
            0, 0
        ] *= -0.0  # from a number to a zero with a sign
        checkpoint.save(model, tmp_path / "tuned", source=folder)
        return tmp_path / "tuned"

    return make


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_applied_and_undone_to_the_bit(folder, tuned, tmp_path, dtype):
    made, patch = tuned(dtype), tmp_path / "patch.safetensors"
    delta.write(folder, made, patch)
    assert delta.toggle(folder, patch, tmp_path / "applied") == "tuned"
    assert delta.toggle(tmp_path / "applied", patch, tmp_path / "undone") == "base"
    assert delta.toggle(tmp_path / "undone", patch, tmp_path / "again") == "tuned"
    assert (tmp_path / "applied" / "model.safetensors").read_bytes() == (
        made / "model.safetensors"
    ).read_bytes()
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        made / "model.safetensors"
    ).read_bytes()
    base = checkpoint.load(folder, dtype=dtype).state_dict()
    assert all(
        torch.equal(weight, base[name])
        for name, weight in load_file(tmp_path / "undone" / "model.safetensors").items()
    )


def test_it_holds_the_changed_rows_and_no_others(folder, tuned, tmp_path):
    size = delta.write(folder, tuned(), tmp_path / "patch.safetensors")
    tensors = load_file(tmp_path / "patch.safetensors")
    found = {
        name.removesuffix(" rows"): rows.tolist()
        for name, rows in tensors.items()
        if name.endswith(" rows")
    }
    assert found == ROWS | {"model.layers.0.mlp.up_proj.weight": [0]}
    assert size == (tmp_path / "patch.safetensors").stat().st_size < 3_000


def test_it_applies_to_a_base_that_is_sharded_another_way(folder, tuned, tmp_path):
    made = tuned()
    delta.write(folder, made, tmp_path / "patch.safetensors")
    checkpoint.save(
        checkpoint.load(folder), tmp_path / "sharded", source=folder, shard_bytes=10_000
    )
    assert (
        delta.toggle(tmp_path / "sharded", tmp_path / "patch.safetensors", tmp_path / "applied")
        == "tuned"
    )


def test_another_model_a_broken_patch_and_an_existing_folder_are_refused(folder, tuned, tmp_path):
    patch = tmp_path / "patch.safetensors"
    delta.write(folder, tuned(), patch)
    write_model(tmp_path / "other", seed=9)
    with pytest.raises(InputError, match="between two other models"):
        delta.toggle(tmp_path / "other", patch, tmp_path / "out")
    with pytest.raises(InputError, match="exists already"):
        delta.toggle(folder, patch, tmp_path / "other")
    with pytest.raises(InputError, match="not a patch"):
        delta.toggle(folder, folder / "model.safetensors", tmp_path / "out")
    with checkpoint.open_safetensors(patch) as file:
        metadata = file.metadata()
    for spoil in (
        {"model.norm.weight bits": torch.ones(2, dtype=torch.int32)},
        {"model.norm.weight rows": torch.tensor([0, 99], dtype=torch.int32)},
        {"nothing rows": torch.tensor([0])},
    ):
        save_file(load_file(patch) | spoil, tmp_path / "broken.safetensors", metadata=metadata)
        with pytest.raises(InputError, match="broken"):
            delta.toggle(folder, tmp_path / "broken.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists() and set(json.loads(metadata["delta"])) == {
        "base",
        "tuned",
        "dtype",
    }


def test_the_command(folder, tuned, tmp_path, capsys):
    delta.write(folder, tuned(), tmp_path / "patch.safetensors")
    command = [str(folder), str(tmp_path / "patch.safetensors"), str(tmp_path / "out")]
    delta.main(command)
    assert "the tuned model" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: delta.main(command))
    assert stop.value.code == 2 and "exists already" in capsys.readouterr().err
