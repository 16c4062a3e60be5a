"""A model's config.json, in the older and the newer spelling of transformers.

Whatever minitox does not implement is an InputError, so that no model runs with wrong results.
"""

from dataclasses import dataclass
from pathlib import Path

from minitox.errors import InputError
from minitox.files import read_json

FAMILIES = ("llama", "qwen2", "qwen3", "cohere")
LLAMA31_SCALING = (
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
)
MUST_BE_OFF = ("attention_bias", "mlp_bias", "use_qk_norm", "rope_interleaved")


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

    @property
    def is_cohere(self) -> bool:
        return self.model_type == "cohere"

    @property
    def longest(self) -> int:
        """Maximum number of tokens of a sequence."""
        if self.sliding_window is None:
            return self.max_position_embeddings
        return min(self.max_position_embeddings, self.sliding_window)


def read_config(folder: Path) -> Config:
    """Read config.json of `folder`.

    InputError names the first key that is missing, malformed or not supported.
    """
    path = Path(folder) / "config.json"
    raw = read_json(path)
    refuse_unsupported(raw, path)
    heads = number(raw, "num_attention_heads", path)
    hidden = number(raw, "hidden_size", path)

    # the families' own keys and defaults
    if raw["model_type"] == "cohere":
        norm_eps = number(raw, "layer_norm_eps", path, kind=float, default=1e-5)
        logit_scale = number(raw, "logit_scale", path, kind=float, default=0.0625)
        tied = True
    else:
        norm_eps = number(raw, "rms_norm_eps", path, kind=float, default=1e-6)
        logit_scale = 1.0
        tied = False

    # newer folders keep all of RoPE in rope_parameters
    rope = raw.get("rope_parameters") or {}
    theta = rope if "rope_theta" in rope else raw
    scaling = rope or raw.get("rope_scaling") or {}

    # one EOS, several, or none
    eos = raw.get("eos_token_id")
    if eos is None:
        eos = []
    elif not isinstance(eos, list):
        eos = [eos]

    config = Config(
        model_type=raw["model_type"],
        vocab_size=number(raw, "vocab_size", path),
        hidden_size=hidden,
        intermediate_size=number(raw, "intermediate_size", path),
        num_hidden_layers=number(raw, "num_hidden_layers", path, most=1_000),
        num_attention_heads=heads,
        num_key_value_heads=number(raw, "num_key_value_heads", path, default=heads),
        head_dim=number(raw, "head_dim", path, default=hidden // heads),  # Qwen3 sets another
        max_position_embeddings=number(raw, "max_position_embeddings", path),
        norm_eps=norm_eps,
        rope_theta=number(theta, "rope_theta", path, kind=float, default=10_000.0),
        rope_scaling=read_rope_scaling(scaling, path),
        tie_word_embeddings=bool(raw.get("tie_word_embeddings", tied)),
        logit_scale=logit_scale,
        sliding_window=read_sliding_window(raw, path),
        bos_token_id=raw.get("bos_token_id"),
        eos_token_ids=tuple(eos),
        dtype=raw.get("dtype") or raw.get("torch_dtype") or "float32",
    )
    check_consistent(config, path)
    return config


def refuse_unsupported(raw: dict, path: Path) -> None:
    """Raise InputError for anything that minitox's transformer does not implement."""
    # 1) the family and its activation function
    family = raw.get("model_type")
    if family not in FAMILIES:
        raise InputError(
            f"{path}: model_type {family!r} is not supported; minitox reads {', '.join(FAMILIES)}"
        )
    if raw.get("hidden_act", "silu") != "silu":
        raise InputError(f"{path}: hidden_act {raw['hidden_act']!r} is not supported, only 'silu'")
    # 2) variants of weights and attention
    if raw.get("quantization_config") is not None:
        raise InputError(
            f"{path}: quantized weights (quantization_config) are not supported; "
            "use the unquantized model"
        )
    for key in MUST_BE_OFF:
        if raw.get(key):
            raise InputError(f"{path}: {key} is not supported")
    # 3) variants of RoPE
    rotary = raw.get("partial_rotary_factor", 1)
    if rotary != 1:
        raise InputError(f"{path}: partial_rotary_factor {rotary!r} is not supported")
    for key in ("rope_parameters", "rope_scaling"):
        if not isinstance(raw.get(key) or {}, dict):
            raise InputError(f"{path}: {key} must be an object or null")


def read_rope_scaling(rope: dict, path: Path) -> dict | None:
    """The four numbers of Llama-3.1's scaling; None for plain RoPE."""
    kind = rope.get("rope_type", rope.get("type", "default"))  # "type" is the older spelling
    if kind == "default":
        return None
    if kind != "llama3":
        raise InputError(
            f"{path}: rope_type {kind!r} is not supported, only 'default' and 'llama3'"
        )
    return {key: number(rope, key, path, kind=float) for key in LLAMA31_SCALING}


def read_sliding_window(raw: dict, path: Path) -> int | None:
    """The window of a model with windowed attention in any layer; None without one."""
    layer_types = raw.get("layer_types")
    windowed = raw.get("use_sliding_window", False)
    if isinstance(layer_types, list):
        windowed = windowed or "sliding_attention" in layer_types
    if not windowed or raw.get("sliding_window") is None:
        return None
    return number(raw, "sliding_window", path)


def number(raw: dict, key: str, path: Path, kind=int, default=None, most=2**28):
    """A positive number of config.json; InputError if it is missing or not such a number."""
    value = raw.get(key)
    if value is None:
        value = default
    if value is None:
        raise InputError(f"{path}: {key} is missing")

    # an integer is also valid as a float; a bool, which Python counts as an integer, is not valid
    if kind is float:
        name = "number"
        most = 1e30
        valid = isinstance(value, int | float)
    else:
        name = "integer"
        valid = isinstance(value, int)
    valid = valid and not isinstance(value, bool)
    if not valid or not 0 < value <= most:  # false for NaN too
        raise InputError(f"{path}: {key} must be a positive {name}, not {value!r}")
    return kind(value)


def check_consistent(config: Config, path: Path) -> None:
    """Raise InputError if the numbers of a config contradict each other."""
    # heads
    heads = config.num_attention_heads
    if heads % config.num_key_value_heads:
        raise InputError(
            f"{path}: num_attention_heads {heads} is not a multiple of "
            f"num_key_value_heads {config.num_key_value_heads}"
        )
    if heads * config.head_dim > 2**28:
        raise InputError(f"{path}: {heads} heads of width {config.head_dim} are too many")
    if config.head_dim % 2:
        raise InputError(f"{path}: head_dim {config.head_dim} is odd, but RoPE rotates pairs")
    # special tokens
    for token in (config.bos_token_id, *config.eos_token_ids):
        if token is None:
            continue
        if type(token) is not int or not 0 <= token < config.vocab_size:
            raise InputError(
                f"{path}: bos_token_id or eos_token_id {token!r} "
                f"is not below vocab_size {config.vocab_size}"
            )
    # dtype
    if config.dtype not in ("float32", "bfloat16", "float16"):
        raise InputError(f"{path}: dtype {config.dtype!r} is not supported")
