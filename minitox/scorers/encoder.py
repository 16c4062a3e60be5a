"""A local scorer: text classifiers of two families, XLM-R and ModernBERT (mmBERT), read from a Hugging Face folder.

Module names are the checkpoint's keys, so loading needs no table. Attention looks both ways, so pads are masked by `real` (B, T).
"""

from functools import partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch.nn import Embedding, Identity, LayerNorm, Linear, Module, ModuleList
from torch.nn import ModuleDict as Tree

from minitox.errors import InputError
from minitox.files import file_hash, is_kind, read_json
from minitox.lm.batching import batches, pad
from minitox.lm.checkpoint import check_names_and_shapes, read_tensor, weight_files
from minitox.lm.config import number
from minitox.lm.model import rope_angles, rotate
from minitox.lm.text import Tokenizer

MOST_TOKENS = 512  # of a text; longer ones are cut
BATCH_TOKENS, CHUNK = (
    4_096,
    256,
)  # padded tokens of a batch; texts that are sorted by length together
CLEAN = ("neutral", "not-toxic", "not_toxic", "non-toxic", "non_toxic", "clean", "normal", "ok")
FULL, LOCAL = "full_attention", "sliding_attention"
# What is read of config.json. A number: its default, None if it must be there. A list: all that is implemented, the default first.
SHARED = {
    "vocab_size": None,
    "hidden_size": None,
    "intermediate_size": None,
    "num_hidden_layers": None,
    "num_attention_heads": None,
    "max_position_embeddings": None,
    "quantization_config": [None],
    "problem_type": [None, "single_label_classification", "multi_label_classification"],
}
FAMILIES = {
    "xlm-roberta": {
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
        "pad_token_id": 1,
        "hidden_act": ["gelu"],
        "position_embedding_type": ["absolute"],
        "is_decoder": [False],
    },
    "modernbert": {
        "norm_eps": 1e-5,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160_000.0,
        "local_rope_theta": 10_000.0,
        "rope_scaling": [None],
        "hidden_activation": ["gelu"],
        "classifier_activation": ["gelu"],
        "classifier_pooling": ["cls", "mean"],
        "norm_bias": [False, True],
        "attention_bias": [False, True],
        "mlp_bias": [False, True],
        "classifier_bias": [False, True],
    },
}


def read_config(folder: Path) -> SimpleNamespace:
    """Read `folder`/config.json; InputError names the first thing that is missing, malformed or not implemented."""
    path = Path(folder) / "config.json"
    raw = read_json(path)
    family, heads = str(raw.get("model_type")), raw.get("architectures") or []
    if (
        family not in FAMILIES
        or not is_kind(heads, [str])
        or not all("ForSequenceClassification" in head for head in heads)
    ):
        raise InputError(
            f"{path}: {family!r} {heads} is not supported; a scorer is a {' or '.join(FAMILIES)}, ForSequenceClassification"
        )
    c = SimpleNamespace(
        model_type=family, tie_word_embeddings=False, bos_token_id=None, eos_token_ids=()
    )  # lm asks for these
    for key, known in (SHARED | FAMILIES[family]).items():
        value = (
            raw.get(key, known[0])
            if isinstance(known, list)
            else number(raw, key, path, type(known or 0), known)
        )
        if isinstance(known, list) and value not in known:
            raise InputError(
                f"{path}: {key} {value!r} is not supported, only {' and '.join(map(repr, known))}"
            )
        setattr(c, key, value)
    c.head_dim, rest = divmod(c.hidden_size, c.num_attention_heads)
    if rest or c.head_dim % 2:
        raise InputError(
            f"{path}: hidden_size {c.hidden_size} makes no {c.num_attention_heads} heads of an even width"
        )
    c.first_position = c.pad_token_id + 1 if family == "xlm-roberta" else 0
    if family == "modernbert":
        read_layer_types(raw, c, path)
    c.labels, c.toxic = read_labels(raw.get("id2label"), path)
    return c


def read_layer_types(raw: dict, c: SimpleNamespace, path: Path) -> None:
    """Which layers see only near tokens, and each kind's RoPE: from layer_types and rope_parameters, or from older keys."""
    by_rule = [
        LOCAL if i % c.global_attn_every_n_layers else FULL for i in range(c.num_hidden_layers)
    ]
    c.layer_types, rope = raw.get("layer_types") or by_rule, raw.get("rope_parameters") or {}
    fits = (
        is_kind(c.layer_types, [str] * len(by_rule))
        and is_kind(rope, {str: dict | None})
        and {*c.layer_types, *rope} <= {FULL, LOCAL}
    )
    if not fits or any(
        (one or {}).get("rope_type", "default") != "default" for one in rope.values()
    ):
        raise InputError(
            f"{path}: layer_types and rope_parameters may say {FULL} and {LOCAL}, of rope_type 'default', no more"
        )
    null = "local_rope_theta" in raw and raw["local_rope_theta"] is None  # no theta of its own
    older = {FULL: c.global_rope_theta, LOCAL: c.global_rope_theta if null else c.local_rope_theta}
    c.theta = {
        kind: number(rope.get(kind) or {}, "rope_theta", path, float, older[kind]) for kind in older
    }


def read_labels(names, path: Path) -> tuple[list[str], int]:
    """The outputs' names, and which means toxic: by its name, or as the nameless one beside a clean one, or as the only one."""
    if not isinstance(names, dict) or set(names) != set(map(str, range(len(names)))):
        raise InputError(
            f'{path}: id2label must name the outputs "0", "1" and so on, one of them "toxic"'
        )
    labels = [str(names[str(i)]) for i in range(len(names))]
    toxic = [i for i, label in enumerate(labels) if label.casefold() in ("toxic", "toxicity")]
    unclean = [i for i, label in enumerate(labels) if label.casefold() not in CLEAN]
    if (
        len(labels) == 1
        or len(labels) == 2
        and len(unclean) == 1
        and labels[unclean[0]].startswith("LABEL_")
    ):
        toxic = unclean
    if len(toxic) != 1:
        raise InputError(
            f'{path}: id2label must name one output "toxic", and names {", ".join(labels[:20])}'
        )
    return labels, toxic[0]


def table(rows: int, width: int) -> Embedding:
    return Embedding.from_pretrained(
        torch.empty(rows, width)
    )  # not drawn at random, for it is read from a file


def attend(q, k, v, seen):  # (B, T, heads, H) each, (B, 1, 1 or T, T) -> (B, T, D)
    q, k, v = (y.transpose(1, 2) for y in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)


class XLMRoberta(Module):
    """Learned positions, a norm after each sum, and a head that reads the first token."""

    def __init__(self, c):
        super().__init__()
        D, M, norm = (
            c.hidden_size,
            c.intermediate_size,
            partial(LayerNorm, c.hidden_size, c.layer_norm_eps),
        )

        def layer():
            return Tree(
                {
                    "attention": Tree(
                        {
                            "self": Tree(
                                {"query": Linear(D, D), "key": Linear(D, D), "value": Linear(D, D)}
                            ),
                            "output": Tree({"dense": Linear(D, D), "LayerNorm": norm()}),
                        }
                    ),
                    "intermediate": Tree({"dense": Linear(D, M)}),
                    "output": Tree({"dense": Linear(M, D), "LayerNorm": norm()}),
                }
            )

        embeddings = Tree(
            {
                "word_embeddings": table(c.vocab_size, D),
                "position_embeddings": table(c.max_position_embeddings, D),
                "token_type_embeddings": table(c.type_vocab_size, D),
                "LayerNorm": norm(),
            }
        )
        layers = ModuleList(layer() for _ in range(c.num_hidden_layers))
        self.config, self.roberta = (
            c,
            Tree({"embeddings": embeddings, "encoder": Tree({"layer": layers})}),
        )
        self.classifier = Tree({"dense": Linear(D, D), "out_proj": Linear(D, len(c.labels))})

    def forward(self, ids, real):  # (B, T), (B, T) -> (B, outputs)
        inputs, first = self.roberta.embeddings, self.config.first_position
        x = (
            inputs.word_embeddings(ids)
            + inputs.position_embeddings.weight[first : first + ids.shape[1]]
        )
        x = inputs.LayerNorm(x + inputs.token_type_embeddings.weight[0])  # (B, T, D)
        for layer in self.roberta.encoder.layer:
            q, k, v = (
                project(x).unflatten(-1, (-1, self.config.head_dim))
                for project in layer.attention["self"].values()
            )
            x = layer.attention.output.LayerNorm(
                x + layer.attention.output.dense(attend(q, k, v, real[:, None, None]))
            )
            x = layer.output.LayerNorm(x + layer.output.dense(F.gelu(layer.intermediate.dense(x))))
        return self.classifier.out_proj(self.classifier.dense(x[:, 0]).tanh())


class ModernBERT(Module):
    """RoPE, a norm before each sum, most layers seeing only near tokens, and a head that may read the mean of all tokens."""

    def __init__(self, c):
        super().__init__()
        D, M, norm = (
            c.hidden_size,
            c.intermediate_size,
            partial(LayerNorm, c.hidden_size, c.norm_eps, bias=c.norm_bias),
        )

        def layer(i: int):
            return Tree(
                {
                    "attn_norm": norm() if i else Identity(),  # the embeddings are normed already
                    "attn": Tree(
                        {
                            "Wqkv": Linear(D, 3 * D, c.attention_bias),
                            "Wo": Linear(D, D, c.attention_bias),
                        }
                    ),
                    "mlp": Tree(
                        {"Wi": Linear(D, 2 * M, c.mlp_bias), "Wo": Linear(M, D, c.mlp_bias)}
                    ),
                    "mlp_norm": norm(),
                }
            )

        embeddings = Tree({"tok_embeddings": table(c.vocab_size, D), "norm": norm()})
        layers = ModuleList(layer(i) for i in range(c.num_hidden_layers))
        self.config, self.model = (
            c,
            Tree({"embeddings": embeddings, "layers": layers, "final_norm": norm()}),
        )
        self.head = Tree({"dense": Linear(D, D, c.classifier_bias), "norm": norm()})
        self.classifier = Linear(D, len(c.labels))

    def forward(self, ids, real):  # (B, T), (B, T) -> (B, outputs)
        c, x = (
            self.config,
            self.model.embeddings.norm(self.model.embeddings.tok_embeddings(ids)),
        )  # (B, T, D)
        everywhere, at = real[:, None, None], torch.arange(ids.shape[1], device=ids.device)
        distance = (at[:, None] - at).abs()
        near = everywhere & (distance <= c.local_attention // 2) | (
            distance == 0
        )  # a pad sees itself, or it would be NaN
        for layer, kind in zip(self.model.layers, c.layer_types):
            rope = SimpleNamespace(rope_theta=c.theta[kind], rope_scaling=None, head_dim=c.head_dim)
            cos, sin = (angle.to(x.dtype) for angle in rope_angles(rope, len(at), ids.device))
            q, k, v = (
                layer.attn.Wqkv(layer.attn_norm(x)).unflatten(-1, (3, -1, c.head_dim)).unbind(2)
            )
            q, k = rotate(q, cos, sin, interleaved=False), rotate(k, cos, sin, interleaved=False)
            x = x + layer.attn.Wo(attend(q, k, v, near if kind == LOCAL else everywhere))
            gate, up = layer.mlp.Wi(layer.mlp_norm(x)).chunk(2, dim=-1)  # (B, T, M) each
            x = x + layer.mlp.Wo(F.gelu(gate) * up)
        x = self.model.final_norm(x)
        mean = c.classifier_pooling == "mean"
        x = (x * real[..., None]).sum(1) / real.sum(1, keepdim=True) if mean else x[:, 0]  # (B, D)
        return self.classifier(self.head.norm(F.gelu(self.head.dense(x))))


def load(folder: Path, device="cpu", dtype=torch.float32) -> Module:
    """The classifier of a folder; every tensor must be there, of the right shape, and no other."""
    config, files = read_config(folder), weight_files(folder)
    with torch.device("meta"):
        model = (XLMRoberta if config.model_type == "xlm-roberta" else ModernBERT)(config)
    files.pop("roberta.embeddings.position_ids", None)  # 0, 1, 2 and so on, in older folders
    check_names_and_shapes(folder, config, model, files)
    weights = {
        name: read_tensor(files[name], name).to(device, dtype, copy=True)
        for name in model.state_dict()
    }
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


class Encoder:
    """A scorer: the probability of a classifier's toxic output."""

    def __init__(self, folder: Path, device="cpu", dtype=torch.float32):
        folder, c, self.device = Path(folder), read_config(folder), device
        most = min(MOST_TOKENS, c.max_position_embeddings - c.first_position)
        self.tokenizer = Tokenizer(
            folder, c
        ).tokenizer  # its own post-processor adds the special tokens
        if not 0 < self.tokenizer.num_special_tokens_to_add(False) < most:
            raise InputError(
                f"{folder / 'tokenizer.json'}: adds no special tokens, or leaves no room for text in {most} positions"
            )
        self.tokenizer.enable_truncation(most)
        self.model, self.output, self.languages = (
            load(folder, device, dtype),
            c.toxic,
            None,
        )  # config.json names no languages
        # two outputs exclude each other; more, if no problem_type says so, are labels apart, as in the published toxicity heads
        self.softmax = {
            None: len(c.labels) == 2,
            "single_label_classification": len(c.labels) > 1,
        }.get(c.problem_type, False)
        kind = "softmax" if self.softmax else "sigmoid"
        self.about = f"{c.model_type}, toxic is output {c.toxic} {c.labels[c.toxic]!r} of {len(c.labels)}, {kind}"
        files = [
            folder / "config.json",
            folder / "tokenizer.json",
            *sorted(set(weight_files(folder).values())),
        ]
        self.name = "encoder-" + sha256("".join(map(file_hash, files)).encode()).hexdigest()[:12]

    @torch.inference_mode()
    def score(self, texts: list[str], language: str):
        """Yield (score, "scored") of each text, "cut" if only its first tokens fitted, or (None, "failed: why")."""
        for start in range(0, len(texts), CHUNK):
            chunk = [
                text.encode("utf-8", "replace").decode() for text in texts[start : start + CHUNK]
            ]  # half a surrogate pair: "?"
            encodings, answers = self.tokenizer.encode_batch(chunk), {}
            for group in batches([len(encoding.ids) for encoding in encodings], BATCH_TOKENS):
                ids, real = (
                    pad([encodings[i].ids for i in group]),
                    pad([encodings[i].attention_mask for i in group]).bool(),
                )
                logits = (
                    self.model(ids.to(self.device), real.to(self.device)).cpu().double()
                )  # (B, outputs); MPS has no float64
                scores = (logits.softmax(-1) if self.softmax else logits.sigmoid())[
                    :, self.output
                ].tolist()
                for i, score, finite in zip(group, scores, logits.isfinite().all(-1)):
                    answer = score, "cut" if encodings[i].overflowing else "scored"
                    answers[i] = (
                        answer if finite else (None, "failed: an output is not a finite number")
                    )
            yield from map(answers.get, range(len(chunk)))
