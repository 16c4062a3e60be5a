"""Two families of text classifiers: XLM-R and ModernBERT (mmBERT).

Module names are the checkpoint's keys, so loading needs no table of names. Attention is not causal,
so pads must be masked: `real` is True where `ids` holds a token of the text.
"""

import torch
import torch.nn.functional as F
from torch.nn import Embedding, Identity, LayerNorm, Linear, Module, ModuleDict, ModuleList

from minitox.lm.model import rope_angles, rotate
from minitox.scorers.encoder_config import FULL, LOCAL


def tree(**modules):
    return ModuleDict(modules)


def table(rows, width):
    """An embedding without random values, since its values are read from a file."""
    return Embedding.from_pretrained(torch.empty(rows, width))


def norm(c):
    return LayerNorm(c.hidden_size, c.norm_eps, bias=c.norm_bias)


def attend(q, k, v, seen):  # (B, T, heads, H) each, (B, 1, 1 or T, T) -> (B, T, D)
    by_head = [x.transpose(1, 2) for x in (q, k, v)]  # (B, heads, T, H) each
    mixed = F.scaled_dot_product_attention(*by_head, attn_mask=seen)
    return mixed.transpose(1, 2).flatten(2)


# ---- XLM-R ----


class XLMRoberta(Module):
    """Learned positions, a norm after each sum, and a head that reads the first token."""

    def __init__(self, c):
        super().__init__()
        self.config = c
        D = c.hidden_size
        layers = ModuleList(xlm_layer(c) for _ in range(c.num_hidden_layers))
        self.roberta = tree(
            embeddings=tree(
                word_embeddings=table(c.vocab_size, D),
                position_embeddings=table(c.max_position_embeddings, D),
                token_type_embeddings=table(c.type_vocab_size, D),
                LayerNorm=norm(c),
            ),
            encoder=tree(layer=layers),
        )
        self.classifier = tree(
            dense=Linear(D, D),
            out_proj=Linear(D, len(c.labels)),
        )

    def forward(self, ids, real):  # (B, T), (B, T) -> (B, outputs)
        # 1) the sum of three embeddings; every token is of type 0
        embed = self.roberta.embeddings
        first = self.config.first_position
        positions = embed.position_embeddings.weight[first : first + ids.shape[1]]  # (T, D)
        x = embed.word_embeddings(ids) + positions  # (B, T, D)
        x = embed.LayerNorm(x + embed.token_type_embeddings.weight[0])

        # 2) the layers
        seen = real[:, None, None]  # (B, 1, 1, T)
        heads = (-1, self.config.head_dim)
        for layer in self.roberta.encoder.layer:
            projections = layer.attention["self"]
            q = projections.query(x).unflatten(-1, heads)  # (B, T, heads, H)
            k = projections.key(x).unflatten(-1, heads)
            v = projections.value(x).unflatten(-1, heads)
            x = add(layer.attention.output, x, attend(q, k, v, seen))
            inner = F.gelu(layer.intermediate.dense(x))  # (B, T, M)
            x = add(layer.output, x, inner)  # (B, T, D)

        # 3) the head
        pooled = self.classifier.dense(x[:, 0]).tanh()  # (B, D)
        return self.classifier.out_proj(pooled)


def xlm_layer(c):
    D = c.hidden_size
    M = c.intermediate_size
    return tree(
        attention=tree(
            self=tree(
                query=Linear(D, D),
                key=Linear(D, D),
                value=Linear(D, D),
            ),
            output=tree(
                dense=Linear(D, D),
                LayerNorm=norm(c),
            ),
        ),
        intermediate=tree(dense=Linear(D, M)),
        output=tree(
            dense=Linear(M, D),
            LayerNorm=norm(c),
        ),
    )


def add(output, x, y):  # (B, T, D), (B, T, D or M) -> (B, T, D)
    """Project what attention or MLP has computed, add it to what it has read, norm the sum."""
    return output.LayerNorm(x + output.dense(y))


# ---- ModernBERT ----


class ModernBERT(Module):
    """RoPE, a norm before each sum, and layers that see near tokens only."""

    def __init__(self, c):
        super().__init__()
        self.config = c
        D = c.hidden_size
        self.model = tree(
            embeddings=tree(
                tok_embeddings=table(c.vocab_size, D),
                norm=norm(c),
            ),
            layers=ModuleList(modernbert_layer(c, i) for i in range(c.num_hidden_layers)),
            final_norm=norm(c),
        )
        self.head = tree(
            dense=Linear(D, D, c.classifier_bias),
            norm=norm(c),
        )
        self.classifier = Linear(D, len(c.labels))

    def forward(self, ids, real):  # (B, T), (B, T) -> (B, outputs)
        c = self.config
        embed = self.model.embeddings
        x = embed.norm(embed.tok_embeddings(ids))  # (B, T, D)

        # 1) what a token sees, and the angles of its position, in each kind of layer
        seen = {
            FULL: real[:, None, None],  # (B, 1, 1, T)
            LOCAL: window(real, c.local_attention // 2),  # (B, 1, T, T)
        }
        angles = {}
        for kind, rope in c.ropes.items():
            cos, sin = rope_angles(rope, ids.shape[1], ids.device)  # (T, H/2) each
            angles[kind] = (cos.to(x.dtype), sin.to(x.dtype))

        # 2) the layers
        for layer, kind in zip(self.model.layers, c.layer_types, strict=True):
            qkv = layer.attn.Wqkv(layer.attn_norm(x))  # (B, T, 3 D)
            qkv = qkv.unflatten(-1, (3, -1, c.head_dim))
            q, k, v = qkv.unbind(2)  # (B, T, heads, H) each
            q = rotate(q, *angles[kind], interleaved=False)
            k = rotate(k, *angles[kind], interleaved=False)
            x = x + layer.attn.Wo(attend(q, k, v, seen[kind]))
            inner = layer.mlp.Wi(layer.mlp_norm(x))  # (B, T, 2 M)
            gate, up = inner.chunk(2, dim=-1)
            x = x + layer.mlp.Wo(F.gelu(gate) * up)
        x = self.model.final_norm(x)

        # 3) the head reads the first token, or the mean of all
        pooled = x[:, 0]  # (B, D)
        if c.classifier_pooling == "mean":
            total = (x * real[..., None]).sum(1)
            pooled = total / real.sum(1, keepdim=True)
        pooled = F.gelu(self.head.dense(pooled))
        return self.classifier(self.head.norm(pooled))


def modernbert_layer(c, i):
    D = c.hidden_size
    M = c.intermediate_size
    return tree(
        # the first layer reads the embeddings, which are already normed
        attn_norm=norm(c) if i else Identity(),
        attn=tree(
            Wqkv=Linear(D, 3 * D, c.attention_bias),
            Wo=Linear(D, D, c.attention_bias),
        ),
        mlp_norm=norm(c),
        mlp=tree(
            Wi=Linear(D, 2 * M, c.mlp_bias),  # gate and up in one matrix
            Wo=Linear(M, D, c.mlp_bias),
        ),
    )


def window(real, most):  # (B, T) -> (B, 1, T, T)
    """What a token sees in a local layer: real tokens at most `most` places before or after it."""
    at = torch.arange(real.shape[1], device=real.device)
    distance = (at[:, None] - at).abs()  # (T, T)
    near = distance <= most
    # a pad sees at least itself, because the softmax of nothing is NaN
    return real[:, None, None] & near | (distance == 0)
