"""The transformer: Llama, Qwen2, Qwen3 and Cohere (Aya), told apart by a handful of lines.

Attribute names are the checkpoint's keys, so loading needs no table. Padding goes on the right: attention is causal, so a
real token never sees a pad, and no padding mask exists.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint as recomputed

from minitox.errors import InputError
from minitox.lm.config import Config


def norm(config: Config):
    """Llama's and Qwen's x / rms(x) * weight; Cohere's (x - mean(x)) / std(x) * weight, which has no bias."""
    if config.is_cohere:
        return nn.LayerNorm(config.hidden_size, config.norm_eps, bias=False)
    return nn.RMSNorm(config.hidden_size, config.norm_eps)


def rope_angles(config: Config, tokens: int, device):  # -> cos, sin: (T, H/2) float32
    """The angle by which pair i of a head is turned at each position."""
    frequency = 1 / config.rope_theta ** (
        torch.arange(0, config.head_dim, 2, device=device, dtype=torch.float32) / config.head_dim
    )
    if (
        config.rope_scaling is not None
    ):  # Llama-3.1: long wavelengths are stretched, short ones kept, those between blended
        scaling = config.rope_scaling
        turns = (
            scaling["original_max_position_embeddings"] * frequency / (2 * math.pi)
        )  # within the original context
        keep = (turns - scaling["low_freq_factor"]) / (
            scaling["high_freq_factor"] - scaling["low_freq_factor"]
        )
        keep = keep.clamp(0, 1)
        frequency = keep * frequency + (1 - keep) * frequency / scaling["factor"]
    angle = torch.outer(torch.arange(tokens, device=device, dtype=torch.float32), frequency)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin, interleaved: bool):  # (B, T, heads, H) -> the same
    """Turn each pair of a head. Llama pairs i with i + H/2, as Hugging Face stores it; Cohere pairs 2i with 2i + 1."""
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else x.chunk(2, dim=-1)
    cos, sin = (
        cos.unsqueeze(-2),
        sin.unsqueeze(-2),
    )  # (T, 1, H/2), or (B, T, 1, H/2) where rows stand at different positions
    turned = a * cos - b * sin, a * sin + b * cos
    return torch.stack(turned, dim=-1).flatten(-2) if interleaved else torch.cat(turned, dim=-1)


def causal(q, k, v):  # (B, heads, T, H) -> the same
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


class Attention(nn.Module):
    """Causal attention in which several query heads share one key-value head."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        queries, keys = (
            config.num_attention_heads * config.head_dim,
            config.num_key_value_heads * config.head_dim,
        )
        bias = config.model_type == "qwen2"
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)
        if config.model_type == "qwen3":  # one norm for all heads, over the width of a head
            self.q_norm = nn.RMSNorm(config.head_dim, config.norm_eps)
            self.k_norm = nn.RMSNorm(config.head_dim, config.norm_eps)

    def forward(self, x, cos, sin, attend=causal):  # (B, T, D) -> (B, T, D)
        B, T, _ = x.shape
        q, k, v = (
            project(x).view(B, T, -1, self.config.head_dim)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        # each (B, T, heads, H); keys and values may have fewer heads than queries
        if self.config.model_type == "qwen3":
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = (rotate(y, cos, sin, interleaved=self.config.is_cohere) for y in (q, k))
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))  # (B, heads, T, H)
        y = attend(q, k, v)  # (B, heads, T, H)
        return self.o_proj(y.transpose(1, 2).reshape(B, T, -1))  # heads side by side again


class MLP(nn.Module):
    """gate = x @ W_gate.T;  up = x @ W_up.T;  down = (silu(gate) * up) @ W_down.T

    These three are where neurons live: gate[..., r] is the response of neuron r of gate_proj, to one token.  [paper §3.1]
    """

    def __init__(self, config: Config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x, record=None):  # (B, T, D) -> (B, T, D)
        gate, up = self.gate_proj(x), self.up_proj(x)  # (B, T, M)
        down = self.down_proj(F.silu(gate) * up)
        if record is not None:
            record("gate_proj", gate)
            record("up_proj", up)
            record("down_proj", down)
        return down


class Block(nn.Module):
    """Attention, then the MLP; in Cohere both read the same normed input, side by side."""

    def __init__(self, config: Config):
        super().__init__()
        self.input_layernorm = norm(config)
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        if not config.is_cohere:
            self.post_attention_layernorm = norm(config)
        self.parallel = config.is_cohere

    def forward(self, x, cos, sin, record=None, attend=causal):  # (B, T, D) -> (B, T, D)
        y = self.input_layernorm(x)
        if self.parallel:
            return x + self.self_attn(y, cos, sin, attend) + self.mlp(y, record)
        x = x + self.self_attn(y, cos, sin, attend)
        return x + self.mlp(self.post_attention_layernorm(x), record)


class Transformer(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        # uninitialised: nn.Embedding's own draw, on the meta device, imports 800 modules
        self.embed_tokens = nn.Embedding.from_pretrained(
            torch.empty(config.vocab_size, config.hidden_size), freeze=False
        )
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = norm(config)
        self.recompute = False  # in training: keep no activations inside a layer, run it again in the backward pass

    def forward(self, ids, record=None, cache=None):  # (B, T) -> (B, T, D)
        """Hidden states of every token; `record(layer, projection, output)` sees each MLP output (B, T, R) as it is made.

        With a cache (generate.py), `ids` go on where the texts in it end.
        """
        check_length(self.config, ids.shape[1])
        x = self.embed_tokens(ids)
        angles = (
            rope_angles(self.config, ids.shape[1], ids.device) if cache is None else cache.angles()
        )
        cos, sin = (angle.to(x.dtype) for angle in angles)
        for i, layer in enumerate(self.layers):
            seen = None if record is None else partial(record, i)
            attend = causal if cache is None else partial(cache.attend, i)
            if self.recompute:
                x = recomputed(layer, x, cos, sin, seen, use_reentrant=False)
            else:
                x = layer(x, cos, sin, seen, attend)
        return self.norm(x)


class LanguageModel(nn.Module):
    """Token ids to next-token logits."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.model = Transformer(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, ids):  # (B, T) -> (B, T, V)
        return self.logits(self.model(ids))

    def logits(self, hidden):  # (..., D) -> (..., V)
        """Scores of every token of the vocabulary; apart, because detection never needs them."""
        head = self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head
        logits = F.linear(hidden, head.weight)
        return logits * self.config.logit_scale if self.config.is_cohere else logits


def check_length(config: Config, tokens: int) -> None:
    """Refuse a text that the model has no positions for."""
    if tokens > config.max_position_embeddings:
        raise InputError(
            f"a text of {tokens} tokens does not fit the model's {config.max_position_embeddings} positions"
        )
    if config.sliding_window is not None and tokens > config.sliding_window:
        raise InputError(
            f"a text of {tokens} tokens is longer than the sliding window of {config.sliding_window}, "
            "and windowed attention is not implemented"
        )
