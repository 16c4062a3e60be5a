"""Write the golden files: tiny random models, and the logits that transformers computes for them.

    python tests/golden/make.py mistral cohere2  # or without names: all

Needs transformers. It was run once for each model, and its output is committed.

Random weights, norms and biases have a wide spread, so that a wrong epsilon, rotation, bias or
scale changes the logits visibly.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from transformers import (
    Cohere2Config,
    CohereConfig,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    Qwen2Config,
    Qwen3Config,
    XLMRobertaConfig,
)

HERE = Path(__file__).resolve().parent
SHAPE = dict(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=2,
)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=100.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
CASES = {
    "llama3": LlamaConfig(**SHAPE, rope_parameters=LLAMA3, tie_word_embeddings=False),
    "qwen2": Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SHAPE, head_dim=6, tie_word_embeddings=False),
    "cohere": CohereConfig(**SHAPE, logit_scale=0.125, tie_word_embeddings=True),
    "mistral": MistralConfig(**SHAPE, head_dim=6, sliding_window=None, tie_word_embeddings=False),
    # one layer with a window, which is longer than the texts, and one without RoPE
    "cohere2": Cohere2Config(
        **SHAPE,
        logit_scale=0.125,
        sliding_window=32,
        layer_types=["sliding_attention", "full_attention"],
        tie_word_embeddings=True,
    ),
}
ENCODER = {key: SHAPE[key] for key in SHAPE if key != "num_key_value_heads"} | dict(
    id2label={0: "neutral", 1: "toxic"}, label2id={"neutral": 0, "toxic": 1}
)
ROPE = {
    "full_attention": dict(rope_type="default", rope_theta=100.0),
    "sliding_attention": dict(rope_type="default", rope_theta=7.0),
}
BIASES = dict(norm_bias=True, attention_bias=True, mlp_bias=True, classifier_bias=True)
CLASSIFIERS = {
    "xlm-roberta": XLMRobertaConfig(
        **ENCODER | dict(pad_token_id=1, eos_token_id=2), type_vocab_size=1, layer_norm_eps=1e-5
    ),
    "modernbert": ModernBertConfig(
        **ENCODER | dict(num_hidden_layers=5),
        **BIASES,
        cls_token_id=0,
        sep_token_id=1,
        local_attention=6,
        global_attn_every_n_layers=2,
        rope_parameters=ROPE,
        classifier_pooling="mean",
    ),
}
LENGTHS = (24, 9, 17)  # of sentences, padded on the right


def random_model(name: str, auto, config) -> tuple:
    """A random model of a class of transformers, and the generator of its random numbers."""
    generator = torch.Generator().manual_seed(sum(name.encode()))
    model = auto.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            mean = 1.0 if weight.dim() == 1 else 0.0
            weight.copy_(mean + 0.4 * torch.randn(weight.shape, generator=generator))
    return model, generator


def make(name: str, config, shard_size: str) -> None:
    """A language model, and every fourth logit of every third token of two texts."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model, generator = random_model(name, transformers.AutoModelForCausalLM, config)
    model.save_pretrained(folder, max_shard_size=shard_size)
    (folder / "generation_config.json").unlink(missing_ok=True)
    ids = torch.randint(3, config.vocab_size, (2, 24), generator=generator)
    with torch.no_grad():
        logits = model(ids).logits  # (2, 24, V)
    rounded = []
    for sentence in logits:
        rows = [row[::4].tolist() for row in sentence[::3]]
        rounded.append([list(map(round_logit, row)) for row in rows])
    write_golden(folder, {"ids": ids.tolist(), "logits": rounded})


def round_logit(logit: float) -> float:
    return round(logit, 5)


def make_classifier(name: str, config) -> None:
    """A classifier, and its logits for sentences of different lengths."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model, generator = random_model(name, transformers.AutoModelForSequenceClassification, config)
    model.save_pretrained(folder)
    ids = torch.randint(3, config.vocab_size, (len(LENGTHS), max(LENGTHS)), generator=generator)
    real = torch.arange(ids.shape[1]) < torch.tensor(LENGTHS)[:, None]
    ids[~real] = config.pad_token_id
    with torch.no_grad():
        logits = model(ids, attention_mask=real.long()).logits
    golden = {"ids": ids.tolist(), "lengths": LENGTHS, "logits": logits.tolist()}
    write_golden(folder, golden)


def write_golden(folder: Path, golden: dict) -> None:
    golden = {"transformers": transformers.__version__, **golden}
    (folder / "golden.json").write_text(json.dumps(golden))


def main() -> None:
    names = sys.argv[1:] or [*CASES, *CLASSIFIERS]
    for name in names:
        if name in CLASSIFIERS:
            make_classifier(name, CLASSIFIERS[name])
        else:
            make(name, CASES[name], "1GB")
            make(f"{name}-sharded", CASES[name], "6KB")


if __name__ == "__main__":
    main()
