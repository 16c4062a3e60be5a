"""The transformer computes what transformers computes."""

import json
import shutil

import pytest
import torch
from tiny import GOLDEN, write_model

from minitox.errors import InputError
from minitox.lm import checkpoint

FAMILIES = ["llama3", "qwen2", "qwen3", "cohere"]


def golden_difference(folder, golden) -> float:
    model = checkpoint.load(folder)
    with torch.no_grad():
        logits = model(torch.tensor(golden["ids"]))
    return (logits[:, ::3, ::4] - torch.tensor(golden["logits"])).abs().max().item()


@pytest.mark.parametrize("family", FAMILIES + [f"{family}-sharded" for family in FAMILIES])
def test_logits_equal_those_of_transformers(family):
    golden = json.loads((GOLDEN / family / "golden.json").read_text())
    assert golden_difference(GOLDEN / family, golden) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_old_spelling_of_a_config_means_the_same(family, tmp_path):
    shutil.copytree(GOLDEN / family, tmp_path / family)
    config = json.loads((tmp_path / family / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"], config["torch_dtype"] = rope.pop("rope_theta"), config.pop("dtype")
    kind = rope.pop("rope_type")
    config["rope_scaling"] = {"type": kind, **rope} if kind != "default" else None
    config["eos_token_id"] = [1, 2]
    (tmp_path / family / "config.json").write_text(json.dumps(config))
    assert (
        golden_difference(
            tmp_path / family, json.loads((GOLDEN / family / "golden.json").read_text())
        )
        < 1e-4
    )


@pytest.mark.parametrize(
    "change",
    [
        {
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0}
        },  # without the llama3 scaling
        {"rms_norm_eps": 0.1},
        {"num_key_value_heads": 4, "head_dim": 4},
    ],
)
def test_a_wrong_config_does_not_pass_the_golden_test(change, tmp_path):
    shutil.copytree(GOLDEN / "llama3", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, **change}))
    golden = json.loads((GOLDEN / "llama3" / "golden.json").read_text())
    try:
        assert golden_difference(tmp_path / "model", golden) > 1e-3
    except InputError as error:
        assert "shape" in str(error)


def test_padding_on_the_right_changes_nothing(tmp_path):
    """Attention is causal, so a real token never sees a pad, and no mask is needed."""
    model = write_model(tmp_path)
    ids = torch.randint(3, 300, (1, 9))
    padded = torch.cat([ids, torch.zeros(1, 20, dtype=torch.long)], dim=1)
    assert torch.allclose(model(ids), model(padded)[:, :9], atol=1e-5)


def test_recording_does_not_change_the_hidden_states_and_sees_every_module(tmp_path):
    model, seen = write_model(tmp_path), []
    ids = torch.randint(3, 300, (2, 7))
    recorded = model.model(
        ids, record=lambda layer, name, output: seen.append((layer, name, tuple(output.shape)))
    )
    assert torch.equal(recorded, model.model(ids))
    assert seen == [
        (layer, name, (2, 7, width))
        for layer in (0, 1)
        for name, width in (("gate_proj", 48), ("up_proj", 48), ("down_proj", 32))
    ]


def test_texts_that_do_not_fit_are_refused(tmp_path):
    model = write_model(tmp_path / "short", max_position_embeddings=8)
    with pytest.raises(ValueError, match="8 positions"):
        model(torch.zeros(1, 9, dtype=torch.long))
    model = write_model(
        tmp_path / "window", model_type="qwen2", use_sliding_window=True, sliding_window=8
    )
    with pytest.raises(ValueError, match="sliding window of 8"):
        model(torch.zeros(1, 9, dtype=torch.long))
