"""Mistral and Cohere2 as transformers has them, and what an absent key means in all families."""

import json

import pytest
import torch

from minitox.lm import checkpoint
from minitox.lm.config import FAMILIES, read_config
from minitox.lm.generate import generate

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SHAPE = dict(
    vocab_size=300,
    hidden_size=64,
    intermediate_size=96,
    num_attention_heads=8,
    num_key_value_heads=2,
    num_hidden_layers=8,
    max_position_embeddings=256,
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=2,
)
CASES = {
    "mistral": transformers.MistralConfig(**SHAPE, head_dim=16, sliding_window=128),
    "cohere2": transformers.Cohere2Config(**SHAPE, logit_scale=1.0, sliding_window=128),
}


def write_random(folder, name):
    """A random model in the spelling of older folders, as transformers opens it."""
    peer = transformers.AutoModelForCausalLM.from_config(CASES[name]).eval()
    generator = torch.Generator().manual_seed(0)
    for weight in peer.parameters():
        mean = float(weight.dim() == 1)
        weight.copy_(mean + 0.2 * torch.randn(weight.shape, generator=generator))
    peer.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    if name == "cohere2":
        del config["layer_types"]
        config["sliding_window_pattern"] = 4
    path.write_text(json.dumps(config))
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval(), generator


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_logits_and_greedy_replies_equal_those_of_transformers(name, tmp_path):
    peer, generator = write_random(tmp_path, name)
    ours = checkpoint.load(tmp_path)
    ids = torch.randint(3, 300, (3, 128), generator=generator)  # as long as the window
    expected = peer(ids).logits
    difference = (ours(ids) - expected).abs().max().item()
    print(f"{name}: {difference:.1e} of {expected.abs().max():.1f}")
    assert difference <= 1e-4

    prompts = [row[: 9 + 20 * i].tolist() for i, row in enumerate(ids)]
    replies = generate(ours, prompts, 30, {1})
    for prompt, reply in zip(prompts, replies, strict=True):
        whole = torch.tensor([prompt])
        output = peer.generate(
            whole, attention_mask=torch.ones_like(whole), max_new_tokens=30, do_sample=False
        )
        theirs = output[0, len(prompt) :].tolist()
        assert reply.ids == (theirs[:-1] if theirs[-1] == 1 else theirs)


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_a_text_longer_than_the_window_would_differ_and_is_refused(name, tmp_path):
    peer, generator = write_random(tmp_path, name)
    ids = torch.randint(3, 300, (1, 129), generator=generator)
    expected = peer(ids).logits
    with pytest.raises(ValueError, match="longer than the sliding window of 128"):
        checkpoint.load(tmp_path)(ids)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"sliding_window": 256}))
    without_window = checkpoint.load(tmp_path)(ids)
    assert (without_window - expected).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_and_windows_that_are_absent_are_those_of_transformers(family, tmp_path):
    raw = SHAPE | {"hidden_size": 512, "num_attention_heads": 64, "rope_theta": 10_000.0}
    del raw["num_key_value_heads"]
    theirs = transformers.AutoConfig.for_model(family, **raw, use_sliding_window=True)
    (tmp_path / "config.json").write_text(
        json.dumps(raw | {"model_type": family, "use_sliding_window": True})
    )
    ours = read_config(tmp_path)
    assert ours.num_key_value_heads == theirs.num_key_value_heads
    assert ours.head_dim == getattr(theirs, "head_dim", 512 // 64)
    assert ours.sliding_window == getattr(theirs, "sliding_window", None)
