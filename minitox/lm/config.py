"""A model's config.json, in the older and the newer spelling of transformers.

Whatever minitox does not implement is an InputError, so that no model runs with wrong results.
"""

from dataclasses import dataclass, field
from pathlib import Path

from minitox.errors import user_errors
from minitox.files import is_kind, read_json

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "cohere", "cohere2")
# the same in all families, those of text classifiers included
SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "max_position_embeddings",
)
ROPE = ("rope_parameters", "rope_scaling")  # the newer spelling, and the older one
LLAMA31_SCALING = (
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
)
FULL = "full_attention"  # a layer in which a token sees all earlier tokens
SLIDING = "sliding_attention"  # a layer in which a token sees a window
# what transformers takes for a key that is absent; null is another value
DEFAULTS = {
    "mistral": {"num_key_value_heads": 8, "sliding_window": 4_096},
    "qwen2": {"num_key_value_heads": 32, "sliding_window": 4_096},
    "qwen3": {"num_key_value_heads": 32, "head_dim": 128, "sliding_window": 4_096},
    "cohere2": {"sliding_window": 4_096},
}
# settings of Cohere2 of which transformers, too, implements one value, the default
COHERE2 = {
    "use_parallel_block": True,
    "use_gated_activation": True,
    "position_embedding_type": "rope_gptj",
    "rotary_pct": 1,
}


@dataclass(frozen=True)
class Config:
    """The architecture of a model; field names are those of config.json."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    norm_eps: float
    rope_theta: float
    rope_scaling: dict | None  # Llama-3.1's, with the keys LLAMA31_SCALING
    tie_word_embeddings: bool
    logit_scale: float
    sliding_window: int | None  # the maximum length, because windowed attention is missing
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    dtype: str
    # Cohere2's layers with full attention; not in the repr, which fingerprints of models hash
    layers_without_rope: frozenset[int] = field(default=frozenset(), repr=False)

    @property
    def is_cohere(self) -> bool:
        return self.model_type in ("cohere", "cohere2")

    @property
    def longest(self) -> int:
        """Maximum number of tokens of a sequence."""
        positions = self.max_position_embeddings
        return min(positions, self.sliding_window or positions)


def as_config(raw):
    """The config of a language model; ValueError names what is missing or malformed."""
    refuse_unsupported(raw)
    raw = DEFAULTS.get(raw["model_type"], {}) | raw
    sizes = {key: number(raw, key) for key in SIZES}
    heads = sizes["num_attention_heads"]

    # the families' own keys and defaults
    cohere = raw["model_type"] in ("cohere", "cohere2")
    if cohere:
        norm_eps = number(raw, "layer_norm_eps", float, 1e-5)
        logit_scale = number(raw, "logit_scale", float, 0.0625)
    else:
        norm_eps = number(raw, "rms_norm_eps", float, 1e-6)
        logit_scale = 1.0

    # newer folders keep all of RoPE in rope_parameters
    rope = raw.get("rope_parameters") or {}
    theta = rope if "rope_theta" in rope else raw
    # versions of transformers disagree on that of Cohere
    default_theta = None if raw["model_type"] == "cohere" else 10_000.0

    # one EOS, several, or none
    eos = raw.get("eos_token_id")
    if not isinstance(eos, list):
        eos = [] if eos is None else [eos]

    # Cohere2's layers with full attention have no RoPE
    layers = number(raw, "num_hidden_layers", most=1_000)
    layer_types = read_layer_types(raw, layers)
    without_rope = []
    if raw["model_type"] == "cohere2":
        without_rope = [i for i, kind in enumerate(layer_types) if kind == FULL]

    # a Qwen3 that sets none, not even the default, is refused
    head_dim = None if raw["model_type"] == "qwen3" else sizes["hidden_size"] // heads

    config = Config(
        **sizes,
        model_type=raw["model_type"],
        num_hidden_layers=layers,
        num_key_value_heads=number(raw, "num_key_value_heads", default=heads),
        head_dim=number(raw, "head_dim", default=head_dim),
        norm_eps=norm_eps,
        rope_theta=number(theta, "rope_theta", float, default_theta),
        rope_scaling=read_rope_scaling(raw),
        tie_word_embeddings=bool(raw.get("tie_word_embeddings", cohere)),
        logit_scale=logit_scale,
        sliding_window=read_sliding_window(raw, layer_types),
        bos_token_id=raw.get("bos_token_id"),
        eos_token_ids=tuple(eos),
        dtype=raw.get("dtype") or raw.get("torch_dtype") or "float32",
        layers_without_rope=frozenset(without_rope),
    )
    check_consistent(config)
    return config


def read_config(folder: Path, parse=as_config) -> Config:
    """Read config.json of `folder`; `parse` makes the config of the object in it.

    InputError names the first key that is missing, malformed or not supported.
    """
    path = Path(folder) / "config.json"
    with user_errors(f"{path}: "):
        return parse(read_json(path))


def refuse_unsupported(raw):
    """Raise ValueError for anything that minitox's transformer does not implement."""
    # 1) the family and its activation function
    family = raw.get("model_type")
    if family not in FAMILIES:
        raise ValueError(
            f"model_type {family!r} is not supported; minitox reads {', '.join(FAMILIES)}"
        )
    one_of(raw, "hidden_act", "silu")

    # 2) variants of weights and attention
    if raw.get("quantization_config") is not None:
        raise ValueError(
            "quantized weights (quantization_config) are not supported; use the unquantized model"
        )
    for key in ("attention_bias", "mlp_bias", "use_qk_norm", "rope_interleaved"):
        if raw.get(key):
            raise ValueError(f"{key} is not supported")
    if family == "cohere2":
        for key, value in COHERE2.items():
            one_of(raw, key, value)

    # 3) variants of RoPE
    one_of(raw, "partial_rotary_factor", 1)
    for key in ROPE:
        rope = raw.get(key) or {}
        if not isinstance(rope, dict):
            raise ValueError(f"{key} must be an object or null")
        if any(isinstance(value, dict) for value in rope.values()):
            raise ValueError(f"{key} of each type of layer are not supported")


def read_rope_scaling(raw):
    """The four numbers of Llama-3.1's scaling; None for plain RoPE.

    ValueError if rope_parameters and rope_scaling contradict each other.
    """
    given = [raw[key] for key in ROPE if raw.get(key)]
    scalings = [scaling_of(rope) for rope in given]
    if scalings[1:] and scalings[0] != scalings[1]:
        raise ValueError(f"{' and '.join(ROPE)} contradict each other")
    return scalings[0] if scalings else None


def scaling_of(rope):
    """The four numbers of Llama-3.1's scaling; None for plain RoPE."""
    key = "rope_type" if "rope_type" in rope else "type"  # the older spelling
    if one_of(rope, key, "default", "llama3") == "default":
        return None
    return {key: number(rope, key, float) for key in LLAMA31_SCALING}


def read_layer_types(raw, layers):
    """FULL or SLIDING for each layer of Cohere2; of other families, what config.json lists."""
    layer_types = raw.get("layer_types")
    if raw["model_type"] != "cohere2":
        return layer_types
    if layer_types is None:
        # the older spelling: every fourth layer has full attention
        every = number(raw, "sliding_window_pattern", default=4)
        layer_types = [SLIDING if i % every else FULL for i in range(1, layers + 1)]
    well_formed = is_kind(layer_types, [str]) and set(layer_types) <= {FULL, SLIDING}
    if not well_formed or len(layer_types) != layers:
        raise ValueError(f"layer_types must list {FULL} or {SLIDING} for each of {layers} layers")
    return layer_types


def read_sliding_window(raw, layer_types):
    """The window of a model with windowed attention in any layer; None without one."""
    family = raw["model_type"]
    windowed = raw.get("use_sliding_window", False)
    if isinstance(layer_types, list):
        windowed = windowed or SLIDING in layer_types
    if family == "mistral":
        windowed = raw["sliding_window"] is not None
    # Cohere2 must have one: without it, transformers gives no layer RoPE
    if not windowed or raw.get("sliding_window") is None and family != "cohere2":
        return None
    return number(raw, "sliding_window")


def one_of(raw: dict, key: str, *implemented):
    """The value of a setting, of which only some are implemented; the first is the default."""
    value = raw.get(key, implemented[0])
    if value not in implemented:
        raise ValueError(
            f"{key} {value!r} is not supported, only {' and '.join(map(repr, implemented))}"
        )
    return value


def number(raw: dict, key: str, kind=int, default=None, most=2**28):
    """A positive number of config.json; ValueError if it is missing or not such a number."""
    value = raw.get(key)
    if value is None:
        value = default
    if value is None:
        raise ValueError(f"{key} is missing")

    # an integer is also valid as a float
    name = "integer"
    kinds = int
    if kind is float:
        name = "number"
        kinds = int | float
        most = 1e30
    if not is_kind(value, kinds) or not 0 < value <= most:  # false for NaN too
        raise ValueError(f"{key} must be a positive {name}, not {value!r}")
    return kind(value)


def check_consistent(config):
    """Raise ValueError if the numbers of a config contradict each other."""
    # heads
    heads = config.num_attention_heads
    if heads % config.num_key_value_heads:
        raise ValueError(
            f"num_attention_heads {heads} is not a multiple of "
            f"num_key_value_heads {config.num_key_value_heads}"
        )
    if heads * config.head_dim > 2**28:
        raise ValueError(f"{heads} heads of width {config.head_dim} are too many")
    if config.head_dim % 2:
        raise ValueError(f"head_dim {config.head_dim} is odd, but RoPE rotates pairs")

    # special tokens
    tokens = [*config.eos_token_ids]
    if config.bos_token_id is not None:
        tokens.append(config.bos_token_id)
    for token in tokens:
        if type(token) is not int or not 0 <= token < config.vocab_size:
            raise ValueError(
                f"bos_token_id or eos_token_id {token!r} is not below vocab_size "
                f"{config.vocab_size}"
            )

    # dtype
    if config.dtype not in ("float32", "bfloat16", "float16"):
        raise ValueError(f"dtype {config.dtype!r} is not supported")
