"""Classifiers that transformers saves have the same scores here: real shapes, random weights."""

import pytest
import torch

from minitox.scorers import encoder

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SHAPE = dict(
    vocab_size=500,
    hidden_size=96,
    intermediate_size=160,
    num_hidden_layers=6,
    num_attention_heads=6,
)
XLM_ROBERTA = dict(**SHAPE, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)
MMBERT = dict(
    **SHAPE,
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
# the defaults of ModernBERT: two thetas, the first token is pooled
MODERN_BERT = {**SHAPE, "num_hidden_layers": 4, "pad_token_id": 3}
ALL_BIASES = dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), True)
CASES = {
    "xlm-roberta": transformers.XLMRobertaConfig(**XLM_ROBERTA),
    "detoxify": transformers.XLMRobertaConfig(**XLM_ROBERTA, num_labels=16),
    "mmbert": transformers.ModernBertConfig(**MMBERT),
    "modernbert": transformers.ModernBertConfig(**MODERN_BERT),
    "biases": transformers.ModernBertConfig(**MODERN_BERT, local_attention=32, **ALL_BIASES),
}
LENGTHS = torch.tensor([300, 3, 129, 64, 200])


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_logits_equal_those_of_transformers(name, tmp_path):
    # 1) a random classifier, saved by transformers
    config = CASES[name]
    config.id2label = {i: f"label {i}" if i else "toxic" for i in range(config.num_labels)}
    generator = torch.Generator().manual_seed(0)
    peer = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    for key, weight in peer.named_parameters():
        mean = float(weight.dim() == 1 and key.endswith("weight"))
        weight.copy_(mean + 0.15 * torch.randn(weight.shape, generator=generator))
    peer.save_pretrained(tmp_path, max_shard_size="300KB" if name == "biases" else "1GB")

    # 2) the logits of random texts of different lengths
    real = torch.arange(int(LENGTHS.max())) < LENGTHS[:, None]  # (B, T)
    ids = torch.randint(4, 500, real.shape, generator=generator)
    ids = ids.masked_fill(~real, config.pad_token_id)
    expected = peer(ids, attention_mask=real.long()).logits
    ours = encoder.load(tmp_path)(ids, real)
    assert expected.std(dim=0).min() > 1e-2  # the texts differ, so the comparison means something
    difference = (ours - expected).abs().max().item()
    print(f"{name}: {difference:.1e} of {expected.abs().max():.1f}")
    assert difference <= 1e-4
