"""The transformer computes the same logits as transformers."""

import json
import shutil

import pytest
import torch
from tiny import GOLDEN, write_model

from minitox.errors import InputError
from minitox.lm import checkpoint
from minitox.lm import model as transformer

FAMILIES = ["llama3", "mistral", "qwen2", "qwen3", "cohere", "cohere2"]


def golden_of(family: str) -> dict:
    """Token ids and logits that transformers computed for a random model (tests/golden/make.py)."""
    return json.loads((GOLDEN / family / "golden.json").read_text())


def golden_difference(folder, golden: dict) -> float:
    """Largest difference between the logits of minitox and those of transformers."""
    model = checkpoint.load(folder)
    with torch.no_grad():
        logits = model(torch.tensor(golden["ids"]))
    difference = logits[:, ::3, ::4] - torch.tensor(golden["logits"])
    return difference.abs().max().item()


@pytest.mark.parametrize("family", FAMILIES + [f"{family}-sharded" for family in FAMILIES])
def test_logits_equal_those_of_transformers(family):
    assert golden_difference(GOLDEN / family, golden_of(family)) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_old_spelling_of_a_config_means_the_same(family, tmp_path):
    shutil.copytree(GOLDEN / family, tmp_path / family)
    path = tmp_path / family / "config.json"
    config = json.loads(path.read_text())
    # RoPE's settings were in two keys
    rope = config.pop("rope_parameters")
    kind = rope.pop("rope_type")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = {"type": kind, **rope} if kind != "default" else None
    # other keys
    config["torch_dtype"] = config.pop("dtype")
    config["eos_token_id"] = [1, 2]
    path.write_text(json.dumps(config))
    assert golden_difference(tmp_path / family, golden_of(family)) < 1e-4


WITHOUT_SCALING = {"rope_type": "default", "rope_theta": 100.0}


@pytest.mark.parametrize(
    "change",
    [
        {"rope_parameters": WITHOUT_SCALING},
        {"rms_norm_eps": 0.1},
        {"num_key_value_heads": 4, "head_dim": 4},
    ],
)
def test_a_wrong_config_does_not_pass_the_golden_test(change, tmp_path):
    shutil.copytree(GOLDEN / "llama3", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **change}))
    try:
        assert golden_difference(tmp_path / "model", golden_of("llama3")) > 1e-3
    except InputError as error:
        assert "shape" in str(error)


@pytest.mark.parametrize("kind", ["sliding_attention", "full_attention"])
def test_cohere2_with_the_same_rope_in_all_layers_does_not_pass_the_golden_test(kind, tmp_path):
    shutil.copytree(GOLDEN / "cohere2", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "layer_types": [kind, kind]}))
    assert golden_difference(tmp_path / "model", golden_of("cohere2")) > 1e-3


def test_padding_on_the_right_changes_nothing(tmp_path):
    """Attention is causal, so a real token never sees a pad, and no mask is needed."""
    model = write_model(tmp_path)
    ids = torch.randint(3, 300, (1, 9))
    padded = torch.cat([ids, torch.zeros(1, 20, dtype=torch.long)], dim=1)
    assert torch.allclose(model(ids), model(padded)[:, :9], atol=1e-5)


def test_recording_does_not_change_the_hidden_states_and_sees_every_module(tmp_path):
    model = write_model(tmp_path)
    ids = torch.randint(3, 300, (2, 7))
    recorded = []

    def record(layer, projection, output):
        recorded.append((layer, projection, tuple(output.shape)))

    hidden = model.model(ids, record=record)
    assert torch.equal(hidden, model.model(ids))
    assert recorded == [
        (0, "gate_proj", (2, 7, 48)),
        (0, "up_proj", (2, 7, 48)),
        (0, "down_proj", (2, 7, 32)),
        (1, "gate_proj", (2, 7, 48)),
        (1, "up_proj", (2, 7, 48)),
        (1, "down_proj", (2, 7, 32)),
    ]


def test_texts_that_do_not_fit_are_refused(tmp_path):
    ids = torch.zeros(1, 9, dtype=torch.long)
    model = write_model(tmp_path / "short", max_position_embeddings=8)
    with pytest.raises(ValueError, match="8 positions"):
        model(ids)
    changes = {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8}
    model = write_model(tmp_path / "window", **changes)
    with pytest.raises(ValueError, match="sliding window of 8"):
        model(ids)


# ---------- attention, written out


def queries_keys_values(key_heads: int, dtype=torch.float32, tokens: int = 7) -> list:
    """Random ones of 2 texts, 4 query heads and a head of width 8."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, heads, tokens, 8) for heads in (4, key_heads, key_heads)]
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_the_written_out_attention_and_its_gradients_are_those_of_pytorch(key_heads):
    outputs = []
    gradients = []
    for attention in (transformer.attention_by_definition, transformer.causal_attention):
        q, k, v = queries_keys_values(key_heads)
        output = attention(q, k, v)
        output.square().sum().backward()
        outputs.append(output)
        gradients += [q.grad, k.grad, v.grad]
    assert torch.allclose(*outputs, atol=1e-6)
    for ours, theirs in zip(gradients[:3], gradients[3:], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    "dtype, tokens, expected",
    [
        (torch.bfloat16, 7, True),
        (torch.bfloat16, 513, False),
        (torch.float32, 7, False),
    ],
)
def test_attention_is_written_out_where_pytorch_is_slow(dtype, tokens, expected):
    q, _, _ = queries_keys_values(2, dtype, tokens)
    assert transformer.written_out_is_faster(q) == expected
    assert not transformer.written_out_is_faster(q.detach())


def test_the_sum_of_finite_logits_may_be_beyond_float16():
    """A vocabulary of 100,000 words with a logit of 1 each: the sum is above 65,504."""
    assert transformer.are_finite(torch.ones(2, 100_000, dtype=torch.float16)).all()
    assert not transformer.are_finite(torch.tensor([1.0, float("inf")], dtype=torch.float16))
