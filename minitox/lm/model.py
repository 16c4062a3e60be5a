"""The transformer: Llama, Mistral, Qwen2, Qwen3 and Cohere (Aya), which differ in a few lines.

In this order: norm, rotary position embedding, attention, MLP (where the neurons are), block,
transformer, language model. Letters for shapes are explained in minitox/__init__.py.

Attribute names are the checkpoint's keys, so loading needs no table of names. Sequences are padded
on the right: attention is causal, so a real token never sees a pad and no padding mask is needed.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from minitox.lm.config import Config

# === Norm ===


def norm(config):
    """LayerNorm without a bias in Cohere, RMSNorm in the other families."""
    if config.is_cohere:
        # (x - mean(x)) / std(x) * weight
        return nn.LayerNorm(config.hidden_size, config.norm_eps, bias=False)
    # x / rms(x) * weight
    return nn.RMSNorm(config.hidden_size, config.norm_eps)


# === Rotary position embedding (RoPE) ===
#
# The H numbers of a query or key form H/2 pairs (a, b). At position t, pair i is rotated by the
# angle t * frequency[i]:
#
#     (a, b)  ->  (a cos - b sin, a sin + b cos)
#
# The product of a query and a key then depends on their distance, not on their positions.
#
# Two pairings are in use, and the wrong one gives wrong logits without any error:
#
#     half-split   (Llama, Qwen)   [a0 a1 a2 a3 b0 b1 b2 b3]   pair i is x[i],  x[i + H/2]
#     interleaved  (Cohere)        [a0 b0 a1 b1 a2 b2 a3 b3]   pair i is x[2i], x[2i + 1]
#
# Meta's own Llama checkpoints are interleaved. Hugging Face reordered the rows of q_proj and k_proj
# to make them half-split, and minitox reads the Hugging Face checkpoints.


def rope_angles(config, tokens: int, device):  # -> cos, sin: (T, H/2)
    """Cosine and sine, in float32, of the angle by which each pair is rotated at each position."""
    # 1) the frequency of pair i is theta^(-2i / H) radians a token
    even = torch.arange(0, config.head_dim, 2, device=device, dtype=torch.float32)  # 2i: (H/2,)
    frequency = 1 / config.rope_theta ** (even / config.head_dim)  # (H/2,)
    if config.rope_scaling is not None:
        frequency = scale_frequency(frequency, config.rope_scaling)
    # 2) the angle is position times frequency
    position = torch.arange(tokens, device=device, dtype=torch.float32)  # (T,)
    angle = torch.outer(position, frequency)  # (T, H/2)
    return angle.cos(), angle.sin()


def scale_frequency(frequency, scaling):  # (H/2,) -> (H/2,)
    """Llama-3.1's frequencies for texts longer than the context of its first training phase.

    Fast pairs encode small distances and are unchanged. Slow pairs would reach angles that do not
    occur within this original context, so their frequency is divided by `factor`.
    """
    # 1) rotations of each pair within the original context
    turns = scaling["original_max_position_embeddings"] * frequency / (2 * math.pi)
    # 2) 1 for fast pairs, 0 for slow pairs, linear in between
    low = scaling["low_freq_factor"]
    high = scaling["high_freq_factor"]
    keep = (turns - low) / (high - low)
    keep = keep.clamp(0, 1)
    # 3) a blend of the original and the divided frequency
    divided = (1 - keep) * frequency / scaling["factor"]
    return keep * frequency + divided


def rotate(
    x,  # (B, T, heads, H)
    cos,  # (T, H/2), or (B, T, H/2) if the sequences of a batch are at different positions
    sin,  # like cos
    interleaved: bool,
):  # -> (B, T, heads, H)
    """Rotate each pair of a head by the angle of its position."""
    # 1) split the pairs: (B, T, heads, H/2) each
    if interleaved:
        a = x[..., 0::2]
        b = x[..., 1::2]
    else:
        a, b = x.chunk(2, dim=-1)
    # 2) the angle is the same for all heads: (T, 1, H/2) or (B, T, 1, H/2)
    cos = cos.unsqueeze(-2)
    sin = sin.unsqueeze(-2)
    # 3) rotate, and put the pairs back where they were
    rotated = [
        a * cos - b * sin,
        a * sin + b * cos,
    ]
    if interleaved:
        return torch.stack(rotated, dim=-1).flatten(-2)
    return torch.cat(rotated, dim=-1)


# === Attention ===


def causal_attention(
    q,  # (B, query heads, T, H)
    k,  # (B, key heads, T, H)
    v,  # (B, key heads, T, H)
):  # -> (B, query heads, T, H)
    """softmax(q @ k.T / sqrt(H)) @ v in each head, where a token sees itself and earlier tokens."""
    if written_out_is_faster(q):
        return attention_by_definition(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def attention_by_definition(
    q,  # (B, query heads, T, H)
    k,  # (B, key heads, T, H)
    v,  # (B, key heads, T, H)
):  # -> (B, query heads, T, H)
    """What `causal_attention` computes, written out."""
    T, H = q.shape[2:]
    # 1) query heads side by side share a key head and a value head
    q = q.unflatten(1, (k.shape[1], -1))  # (B, key heads, query heads / key heads, T, H)
    k = k.unsqueeze(2)  # (B, key heads, 1, T, H)
    v = v.unsqueeze(2)  # (B, key heads, 1, T, H)
    # 2) how well each query fits each key; later tokens are not seen
    scores = q @ k.transpose(-1, -2) / math.sqrt(H)  # (..., T, T)
    later = torch.full((T, T), -math.inf, dtype=q.dtype, device=q.device).triu(1)
    # 3) the mean of the values, weighted by the scores
    p = (scores + later).softmax(dim=-1)
    return (p @ v).flatten(1, 2)


def written_out_is_faster(q):  # (B, query heads, T, H)
    """Whether the backward pass of the written-out attention is faster than PyTorch's own."""
    return (
        q.requires_grad
        and q.dtype == torch.bfloat16
        and q.device.type == "cpu"
        and q.shape[2] <= 512  # tokens; the scores of longer texts take too much memory
    )


class Attention(nn.Module):
    """Causal attention, in which several query heads share one key head and one value head."""

    def __init__(self, config, layer):
        super().__init__()
        self.config = config
        D = config.hidden_size
        H = config.head_dim
        query_width = config.num_attention_heads * H
        key_width = config.num_key_value_heads * H
        bias = config.model_type == "qwen2"
        self.q_proj = nn.Linear(D, query_width, bias=bias)
        self.k_proj = nn.Linear(D, key_width, bias=bias)
        self.v_proj = nn.Linear(D, key_width, bias=bias)
        self.o_proj = nn.Linear(query_width, D, bias=False)
        if config.model_type == "qwen3":
            # over the width of a head, with one weight (H,) for all heads
            self.q_norm = nn.RMSNorm(H, config.norm_eps)
            self.k_norm = nn.RMSNorm(H, config.norm_eps)
        # in some layers of Cohere2, queries and keys have no positions
        self.rope = layer not in config.layers_without_rope

    def forward(
        self,
        x,  # (B, T, D)
        cos,  # (T, H/2), or (B, T, H/2) with a cache
        sin,  # like cos
        attend=causal_attention,  # with a cache: its attention to all tokens so far
    ):  # -> (B, T, D)
        """Mix information between the tokens of a sequence."""
        B, T, _ = x.shape
        H = self.config.head_dim
        # 1) project to queries, keys and values, and split the heads
        q = self.q_proj(x).view(B, T, -1, H)  # (B, T, query heads, H)
        k = self.k_proj(x).view(B, T, -1, H)  # (B, T, key heads, H)
        v = self.v_proj(x).view(B, T, -1, H)  # (B, T, key heads, H)
        if self.config.model_type == "qwen3":
            q = self.q_norm(q)
            k = self.k_norm(k)
        # 2) encode the positions in queries and keys
        if self.rope:
            q = rotate(q, cos, sin, self.config.is_cohere)
            k = rotate(k, cos, sin, self.config.is_cohere)
        # 3) attend, in each head separately
        q = q.transpose(1, 2)  # (B, query heads, T, H)
        k = k.transpose(1, 2)  # (B, key heads, T, H)
        v = v.transpose(1, 2)  # (B, key heads, T, H)
        y = attend(q, k, v)  # (B, query heads, T, H)
        # 4) put the heads side by side and project back
        y = y.transpose(1, 2)  # (B, T, query heads, H)
        y = y.flatten(2)  # (B, T, query heads * H)
        return self.o_proj(y)


# === MLP ===


class MLP(nn.Module):
    """The gated MLP, where the neurons are.  [paper §3.1]

        gate = x @ W_gate.T                    (B, T, M)
        up   = x @ W_up.T                      (B, T, M)
        down = (silu(gate) * up) @ W_down.T    (B, T, D)

    A neuron is one row of W_gate, W_up or W_down, that is, one of the 2M + D outputs of a token:
    gate[..., r] is the response of neuron r of gate_proj.
    """

    def __init__(self, config):
        super().__init__()
        D = config.hidden_size
        M = config.intermediate_size
        self.gate_proj = nn.Linear(D, M, bias=False)
        self.up_proj = nn.Linear(D, M, bias=False)
        self.down_proj = nn.Linear(M, D, bias=False)

    def forward(
        self,
        x,  # (B, T, D)
        record=None,  # record(projection, output) is called with each of the three outputs
    ):  # -> (B, T, D)
        """Transform each token separately."""
        gate = self.gate_proj(x)  # (B, T, M)
        up = self.up_proj(x)  # (B, T, M)
        down = self.down_proj(F.silu(gate) * up)  # (B, T, D)
        if record is not None:
            record("gate_proj", gate)
            record("up_proj", up)
            record("down_proj", down)
        return down


# === Block ===


class Block(nn.Module):
    """Attention, then the MLP; in Cohere both read the same normed input in parallel."""

    def __init__(self, config, layer):
        super().__init__()
        self.input_layernorm = norm(config)
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.parallel = config.is_cohere
        if not self.parallel:
            self.post_attention_layernorm = norm(config)

    def forward(
        self,
        x,  # (B, T, D), the residual stream
        cos,  # (T, H/2), or (B, T, H/2) with a cache
        sin,  # like cos
        record=None,  # record(projection, output) is called with each MLP output
        attend=causal_attention,
    ):  # -> (B, T, D)
        """Add the outputs of attention and MLP to the residual stream."""
        y = self.input_layernorm(x)
        x = x + self.self_attn(y, cos, sin, attend)
        if not self.parallel:
            y = self.post_attention_layernorm(x)
        return x + self.mlp(y, record)


# === Transformer ===


class Transformer(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        # uninitialized, because nn.Embedding draws random weights, and drawing on the meta device
        # imports 800 modules
        weight = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding.from_pretrained(weight, freeze=False)
        blocks = [Block(config, layer) for layer in range(config.num_hidden_layers)]
        self.layers = nn.ModuleList(blocks)
        self.norm = norm(config)
        # in training: store only the input of each layer and compute its activations again in the
        # backward pass, which saves memory and takes time
        self.activation_checkpointing = False

    def forward(
        self,
        ids,  # (B, T)
        record=None,  # record(layer, projection, output) is called with each MLP output (B, T, R)
        cache=None,  # see generate.py: `ids` continue the cached sequences
    ):  # -> (B, T, D)
        """Hidden states of every token. ValueError if the sequences are too long for the model."""
        check_length(self.config, ids.shape[1])
        x = self.embed_tokens(ids)  # (B, T, D)

        # angles are computed in float32 and used in the model's dtype
        if cache is None:
            cos, sin = rope_angles(self.config, ids.shape[1], ids.device)  # (T, H/2)
        else:
            cos, sin = cache.angles()  # (B, T, H/2)
        cos = cos.to(x.dtype)
        sin = sin.to(x.dtype)

        for i, layer in enumerate(self.layers):
            record_layer = None if record is None else partial(record, i)
            attend = causal_attention if cache is None else partial(cache.attend, i)
            if self.activation_checkpointing:
                layer = partial(checkpoint, layer, use_reentrant=False)
            x = layer(x, cos, sin, record_layer, attend)
        return self.norm(x)


def check_length(config, tokens):
    """Raise ValueError for a sequence that is too long for the model."""
    if tokens > config.max_position_embeddings:
        raise ValueError(
            f"a text of {tokens} tokens does not fit "
            f"the model's {config.max_position_embeddings} positions"
        )
    if config.sliding_window is not None and tokens > config.sliding_window:
        raise ValueError(
            f"a text of {tokens} tokens is longer than the sliding window of "
            f"{config.sliding_window}, and windowed attention is not implemented"
        )


# === Language model ===


def are_finite(logits):  # (..., V) -> (...) bool
    """Whether all logits of a token are finite: if one is not, neither is their sum."""
    # in float32, because the sum of finite float16 numbers may be beyond float16
    return logits.sum(dim=-1, dtype=torch.float32).isfinite()


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
        """Logits of hidden states; a method of its own because detection needs no logits."""
        head = self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head
        logits = F.linear(hidden, head.weight)
        if self.config.is_cohere:
            logits = logits * self.config.logit_scale
        return logits
