"""The config.json of a text classifier; whatever the two encoders do not implement is refused."""

from dataclasses import dataclass, replace
from pathlib import Path

from minitox.errors import InputError
from minitox.files import is_kind, read_json
from minitox.lm.config import number

FULL = "full_attention"  # a layer in which a token sees the whole text
LOCAL = "sliding_attention"  # a layer in which a token sees a window
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
    head_dim: int  # H
    max_position_embeddings: int
    problem_type: str | None  # classes or labels; None: not known
    labels: list[str]  # names of the outputs
    toxic: int  # index of the output that means toxic
    norm_eps: float = 1e-5

    # XLM-R
    type_vocab_size: int = 0
    first_position: int = 0  # of a text: the position embeddings before it belong to pads

    # ModernBERT
    layer_types: tuple[str, ...] = ()  # FULL or LOCAL
    local_attention: int = 0  # tokens in the window of a LOCAL layer
    full_rope: Rope | None = None
    local_rope: Rope | None = None
    classifier_pooling: str = "cls"  # the first token, or "mean": all tokens
    norm_bias: bool = True
    attention_bias: bool = True
    mlp_bias: bool = True
    classifier_bias: bool = True

    # lm.text and lm.checkpoint read these, which a classifier does not have
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()


def read_config(folder: Path) -> EncoderConfig:
    """Read `folder`/config.json; InputError names what is missing, malformed or not implemented."""
    path = Path(folder) / "config.json"
    raw = read_json(path)

    # 1) refuse what is not implemented
    family = read_family(raw, path)
    for key, value in IMPLEMENTED[family].items():
        one_of(raw, key, path, value)

    # 2) the width of a head, which RoPE divides into pairs
    hidden = number(raw, "hidden_size", path)
    heads = number(raw, "num_attention_heads", path)
    head_dim, rest = divmod(hidden, heads)
    if rest or head_dim % 2:
        raise InputError(
            f"{path}: hidden_size {hidden} cannot be divided into {heads} heads of an even width"
        )

    # 3) what both families have
    labels, toxic = read_labels(raw.get("id2label"), path)
    kinds = (None, "single_label_classification", "multi_label_classification")
    config = EncoderConfig(
        model_type=family,
        vocab_size=number(raw, "vocab_size", path),
        hidden_size=hidden,
        intermediate_size=number(raw, "intermediate_size", path),
        num_hidden_layers=number(raw, "num_hidden_layers", path),
        head_dim=head_dim,
        max_position_embeddings=number(raw, "max_position_embeddings", path),
        problem_type=one_of(raw, "problem_type", path, *kinds),
        labels=labels,
        toxic=toxic,
    )

    # 4) what one family has
    if family == "xlm-roberta":
        return with_xlm_roberta(config, raw, path)
    return with_modernbert(config, raw, path)


def read_family(raw: dict, path: Path) -> str:
    """The model_type, if the folder contains a text classifier of a family that is implemented."""
    family = str(raw.get("model_type"))
    names = raw.get("architectures") or []
    is_classifier = is_kind(names, [str]) and all("ForSequenceClassification" in n for n in names)
    if family not in IMPLEMENTED or not is_classifier:
        raise InputError(
            f"{path}: {family!r} {names} is not supported; "
            f"a scorer is a {' or '.join(IMPLEMENTED)}, ForSequenceClassification"
        )
    return family


def with_xlm_roberta(config: EncoderConfig, raw: dict, path: Path) -> EncoderConfig:
    """Add what XLM-R alone has; defaults are those of transformers."""
    return replace(
        config,
        norm_eps=number(raw, "layer_norm_eps", path, float, 1e-12),
        type_vocab_size=number(raw, "type_vocab_size", path, default=2),
        first_position=number(raw, "pad_token_id", path, default=1) + 1,
    )


def with_modernbert(config: EncoderConfig, raw: dict, path: Path) -> EncoderConfig:
    """Add what ModernBERT alone has; defaults are those of transformers."""
    full_theta, local_theta = read_rope_thetas(raw, path)
    return replace(
        config,
        norm_eps=number(raw, "norm_eps", path, float, 1e-5),
        layer_types=read_layer_types(raw, config.num_hidden_layers, path),
        local_attention=number(raw, "local_attention", path, default=128),
        full_rope=Rope(config.head_dim, full_theta),
        local_rope=Rope(config.head_dim, local_theta),
        classifier_pooling=one_of(raw, "classifier_pooling", path, "cls", "mean"),
        norm_bias=one_of(raw, "norm_bias", path, False, True),
        attention_bias=one_of(raw, "attention_bias", path, False, True),
        mlp_bias=one_of(raw, "mlp_bias", path, False, True),
        classifier_bias=one_of(raw, "classifier_bias", path, False, True),
    )


def one_of(raw: dict, key: str, path: Path, *implemented):
    """The value of a setting, of which only some are implemented; the first is the default."""
    value = raw.get(key, implemented[0])
    if value not in implemented:
        raise InputError(
            f"{path}: {key} {value!r} is not supported, only {' and '.join(map(repr, implemented))}"
        )
    return value


def read_layer_types(raw: dict, layers: int, path: Path) -> tuple[str, ...]:
    """FULL or LOCAL for each layer."""
    # an older setting, which layer_types replaces
    every = number(raw, "global_attn_every_n_layers", path, default=3)
    by_rule = [LOCAL if i % every else FULL for i in range(layers)]

    layer_types = raw.get("layer_types") or by_rule
    well_formed = is_kind(layer_types, [str]) and set(layer_types) <= {FULL, LOCAL}
    if not well_formed or len(layer_types) != layers:
        raise InputError(
            f"{path}: layer_types must list {FULL} or {LOCAL} for each of the {layers} layers"
        )
    return tuple(layer_types)


def read_rope_thetas(raw: dict, path: Path) -> tuple[float, float]:
    """RoPE's theta in FULL and in LOCAL layers."""
    # 1) older settings; null, unlike an absent key, means the same theta as in FULL layers
    full_theta = number(raw, "global_rope_theta", path, float, 160_000.0)
    default = full_theta if "local_rope_theta" in raw else 10_000.0
    local_theta = number(raw, "local_rope_theta", path, float, default)

    # 2) rope_parameters replaces them: an object or null for each kind of layer
    rope = raw.get("rope_parameters") or {}
    if not is_kind(rope, {str: dict | None}) or not set(rope) <= {FULL, LOCAL}:
        raise InputError(f"{path}: rope_parameters may have {FULL} and {LOCAL} only")
    full = rope.get(FULL) or {}
    local = rope.get(LOCAL) or {}
    for layer in (full, local):
        one_of(layer, "rope_type", path, "default")
    return (
        number(full, "rope_theta", path, float, full_theta),
        number(local, "rope_theta", path, float, local_theta),
    )


def read_labels(names, path: Path) -> tuple[list[str], int]:
    """The names of the outputs, and the index of the one that means toxic."""
    if not isinstance(names, dict) or set(names) != set(map(str, range(len(names)))):
        raise InputError(
            f'{path}: id2label must name the outputs "0", "1" and so on, one of them "toxic"'
        )
    labels = [str(names[str(i)]) for i in range(len(names))]
    toxic = [i for i, label in enumerate(labels) if label.casefold() in ("toxic", "toxicity")]

    # without that name: the only output, or the unnamed one of two whose other one is clean
    unclean = [i for i, label in enumerate(labels) if label.casefold() not in CLEAN]
    if len(labels) == 1:
        toxic = unclean
    elif len(labels) == 2 and len(unclean) == 1 and labels[unclean[0]].startswith("LABEL_"):
        toxic = unclean

    if len(toxic) != 1:
        raise InputError(
            f'{path}: id2label must name one output "toxic"; it names {", ".join(labels[:20])}'
        )
    return labels, toxic[0]
