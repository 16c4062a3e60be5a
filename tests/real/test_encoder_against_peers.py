"""Classifiers that transformers makes and saves score the same here: the shapes of real ones, drawn at random."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, ModernBertConfig, XLMRobertaConfig

from minitox.scorers import encoder

SHAPE = dict(
    vocab_size=500,
    hidden_size=96,
    intermediate_size=160,
    num_hidden_layers=6,
    num_attention_heads=6,
)
ALL_BIASES = dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), True)
LENGTHS = torch.tensor([300, 3, 129, 64, 200])
MMBERT = dict(
    global_rope_theta=160_000.0,
    local_rope_theta=160_000.0,
    pad_token_id=0,
    bos_token_id=2,
    eos_token_id=1,
    cls_token_id=1,
    sep_token_id=1,
    classifier_pooling="mean",
    num_labels=7,
)
CASES = {
    "xlm-roberta": XLMRobertaConfig(
        **SHAPE, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5
    ),
    "detoxify": XLMRobertaConfig(
        **SHAPE, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, num_labels=16
    ),
    "mmbert": ModernBertConfig(**SHAPE, **MMBERT),
    "modernbert": ModernBertConfig(
        **SHAPE | dict(num_hidden_layers=4), pad_token_id=3
    ),  # its own defaults: two thetas, first token
    "biases": ModernBertConfig(
        **SHAPE | dict(num_hidden_layers=4), pad_token_id=3, local_attention=32, **ALL_BIASES
    ),
}


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_logits_equal_those_of_transformers(name, tmp_path):
    config, generator = CASES[name], torch.Generator().manual_seed(0)
    config.id2label = {i: f"label {i}" if i else "toxic" for i in range(config.num_labels)}
    peer = AutoModelForSequenceClassification.from_config(config).eval()
    for key, weight in peer.named_parameters():
        weight.copy_(
            float(weight.dim() == 1 and key.endswith("weight"))
            + 0.15 * torch.randn(weight.shape, generator=generator)
        )
    peer.save_pretrained(tmp_path, max_shard_size="300KB" if name == "biases" else "1GB")
    real = torch.arange(int(LENGTHS.max())) < LENGTHS[:, None]
    ids = torch.randint(4, 500, real.shape, generator=generator).masked_fill(
        ~real, config.pad_token_id
    )
    expected, ours = peer(ids, attention_mask=real.long()).logits, encoder.load(tmp_path)(ids, real)
    assert expected.std(dim=0).min() > 1e-2  # or the comparison says nothing
    difference = (ours - expected).abs().max().item()
    print(f"{name}: {difference:.1e} of {expected.abs().max():.1f}")
    assert difference <= 1e-4
