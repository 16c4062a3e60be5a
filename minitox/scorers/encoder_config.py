"""The config.json of a text classifier; whatever the two encoders do not implement is refused."""

from dataclasses import dataclass

from minitox.files import is_kind
from minitox.lm.config import SIZES, number, one_of

FULL = "full_attention"  # a layer in which a token sees the whole text
LOCAL = "sliding_attention"  # a layer in which a token sees a window
BIASES = ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias")
# names of the output that means "not toxic"
CLEAN = ("neutral", "not-toxic", "not_toxic", "non-toxic", "non_toxic", "clean", "normal", "ok")
# the only implemented value of a setting, which is also its default
IMPLEMENTED = {
    "xlm-roberta": {
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "quantization_config": None,
    },
    "modernbert": {
        "hidden_activation": "gelu",
        "classifier_activation": "gelu",
        "rope_scaling": None,
        "quantization_config": None,
    },
}


@dataclass(frozen=True)
class Rope:
    """The rotary position embedding of a kind of layer, with the names that lm.model reads."""

    head_dim: int  # H
    rope_theta: float
    rope_scaling: None = None


@dataclass(frozen=True)
class EncoderConfig:
    """The shape of a classifier; field names are config.json's own where it has the field."""

    model_type: str
    vocab_size: int  # V
    hidden_size: int  # D
    intermediate_size: int  # M
    num_hidden_layers: int  # L
    num_attention_heads: int
    head_dim: int  # H
    max_position_embeddings: int
    softmax: bool  # the outputs are classes; False: labels, with a sigmoid each
    labels: list[str]  # names of the outputs
    toxic: int  # index of the output that means toxic
    norm_eps: float

    # XLM-R
    type_vocab_size: int = 0
    first_position: int = 0  # of a text: the position embeddings before it belong to pads

    # ModernBERT
    layer_types: list[str] | None = None  # FULL or LOCAL
    local_attention: int = 0  # tokens in the window of a LOCAL layer
    ropes: dict | None = None  # a Rope for FULL and one for LOCAL layers
    classifier_pooling: str = "cls"  # the first token, or "mean": all tokens
    norm_bias: bool = True
    attention_bias: bool = True
    mlp_bias: bool = True
    classifier_bias: bool = True

    # lm.checkpoint reads this
    tie_word_embeddings: bool = False


def classifier_config(raw):
    """The config of a text classifier; ValueError names what is wrong with it."""
    family = read_family(raw)
    sizes = {key: number(raw, key) for key in (*SIZES, "num_hidden_layers")}

    # 1) the width of a head, which RoPE divides into pairs
    hidden = sizes["hidden_size"]
    heads = sizes["num_attention_heads"]
    if hidden % (2 * heads):
        raise ValueError(
            f"hidden_size {hidden} cannot be divided into {heads} heads of an even width"
        )
    head_dim = hidden // heads

    # 2) the outputs; without a problem_type, two of them are classes, as in published classifiers
    labels, toxic = read_labels(raw.get("id2label"))
    kinds = (None, "single_label_classification", "multi_label_classification")
    kind = one_of(raw, "problem_type", *kinds)
    classes = len(labels) == 2 if kind is None else kind == kinds[1]

    # 3) what one family has
    if family == "xlm-roberta":
        own = read_xlm_roberta(raw)
    else:
        own = read_modernbert(raw, sizes["num_hidden_layers"], head_dim)
    return EncoderConfig(
        model_type=family,
        head_dim=head_dim,
        labels=labels,
        toxic=toxic,
        softmax=classes and len(labels) > 1,
        **sizes,
        **own,
    )


def read_family(raw):
    """The model_type, if it and its settings are implemented and the model is a classifier."""
    family = str(raw.get("model_type"))
    names = raw.get("architectures") or []
    classifier = is_kind(names, [str]) and all("ForSequenceClassification" in n for n in names)
    if family not in IMPLEMENTED or not classifier:
        raise ValueError(
            f"{family!r} {names} is not supported; "
            f"a scorer is a {' or '.join(IMPLEMENTED)}, ForSequenceClassification"
        )
    for key, value in IMPLEMENTED[family].items():
        one_of(raw, key, value)
    return family


def read_xlm_roberta(raw):
    """What XLM-R alone has; defaults are those of transformers."""
    return {
        "norm_eps": number(raw, "layer_norm_eps", float, 1e-12),
        "type_vocab_size": number(raw, "type_vocab_size", default=2),
        "first_position": number(raw, "pad_token_id", default=1) + 1,
    }


def read_modernbert(raw, layers, head_dim):
    """What ModernBERT alone has; defaults are those of transformers."""
    biases = {key: one_of(raw, key, False, True) for key in BIASES}
    return biases | {
        "norm_eps": number(raw, "norm_eps", float, 1e-5),
        "layer_types": read_layer_types(raw, layers),
        "local_attention": number(raw, "local_attention", default=128),
        "ropes": read_ropes(raw, head_dim),
        "classifier_pooling": one_of(raw, "classifier_pooling", "cls", "mean"),
    }


def read_layer_types(raw, layers):
    """FULL or LOCAL for each layer."""
    # an older setting, which layer_types replaces
    every = number(raw, "global_attn_every_n_layers", default=3)
    by_rule = [LOCAL if i % every else FULL for i in range(layers)]

    layer_types = raw.get("layer_types") or by_rule
    well_formed = is_kind(layer_types, [str]) and set(layer_types) <= {FULL, LOCAL}
    if not well_formed or len(layer_types) != layers:
        raise ValueError(f"layer_types must list {FULL} or {LOCAL} for each of the {layers} layers")
    return layer_types


def read_ropes(raw, head_dim):
    """RoPE in FULL and in LOCAL layers."""
    # 1) older settings; null, unlike an absent key, means the same theta as in FULL layers
    theta = number(raw, "global_rope_theta", float, 160_000.0)
    default = theta if "local_rope_theta" in raw else 10_000.0
    thetas = {FULL: theta, LOCAL: number(raw, "local_rope_theta", float, default)}

    # 2) rope_parameters replaces them: an object or null for each kind of layer
    parameters = raw.get("rope_parameters") or {}
    if not is_kind(parameters, {str: dict | None}) or not set(parameters) <= {FULL, LOCAL}:
        raise ValueError(f"rope_parameters may have {FULL} and {LOCAL} only")
    ropes = {}
    for kind, theta in thetas.items():
        layer = parameters.get(kind) or {}
        one_of(layer, "rope_type", "default")
        ropes[kind] = Rope(head_dim, number(layer, "rope_theta", float, theta))
    return ropes


def read_labels(names):
    """The names of the outputs, and the index of the one that means toxic."""
    if not isinstance(names, dict) or set(names) != set(map(str, range(len(names)))):
        raise ValueError('id2label must name the outputs "0", "1" and so on, one of them "toxic"')
    labels = [str(names[str(i)]) for i in range(len(names))]
    toxic = [i for i, label in enumerate(labels) if label.casefold() in ("toxic", "toxicity")]

    # without that name: the only output that may be it, if it is unnamed and any other one is clean
    unclean = [i for i, label in enumerate(labels) if label.casefold() not in CLEAN]
    if len(labels) <= 2 and len(unclean) == 1 and labels[unclean[0]].startswith("LABEL_"):
        toxic = unclean

    if len(toxic) != 1:
        raise ValueError(
            f'id2label must name one output "toxic"; it names {", ".join(labels[:20])}'
        )
    return labels, toxic[0]
