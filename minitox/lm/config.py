"""What config.json says about a model, in both dialects of Hugging Face; what minitox does not implement is refused."""

from dataclasses import dataclass
from pathlib import Path

from minitox.errors import InputError
from minitox.files import read_json

FAMILIES = ("llama", "qwen2", "qwen3", "cohere")
MUST_BE_OFF = ("attention_bias", "mlp_bias", "use_qk_norm", "rope_interleaved")


@dataclass(frozen=True)
class Config:
    """The shape of a model; field names are config.json's own."""

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
    rope_scaling: (
        dict | None
    )  # Llama-3.1's: factor, low_freq_factor, high_freq_factor, original_max_position_embeddings
    tie_word_embeddings: bool
    logit_scale: float
    sliding_window: int | None  # longer texts are refused
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    dtype: str

    @property
    def is_cohere(self) -> bool:
        return self.model_type == "cohere"

    @property
    def longest(self) -> int:
        """Tokens of the longest text that the model can read."""
        return min(
            self.max_position_embeddings, self.sliding_window or self.max_position_embeddings
        )


def read_config(folder: Path) -> Config:
    """Read `folder`/config.json; InputError names the first thing that is missing, malformed or not implemented."""
    path = Path(folder) / "config.json"
    raw = read_json(path)
    refuse_unsupported(raw, path)
    heads = number(raw, "num_attention_heads", path)
    hidden = number(raw, "hidden_size", path)
    rope = raw.get("rope_parameters") or {}
    eos = raw.get("eos_token_id")
    cohere = raw["model_type"] == "cohere"
    config = Config(
        model_type=raw["model_type"],
        vocab_size=number(raw, "vocab_size", path),
        hidden_size=hidden,
        intermediate_size=number(raw, "intermediate_size", path),
        num_hidden_layers=number(raw, "num_hidden_layers", path, most=1_000),
        num_attention_heads=heads,
        num_key_value_heads=number(raw, "num_key_value_heads", path, default=heads),
        head_dim=number(
            raw, "head_dim", path, default=hidden // heads
        ),  # Qwen3: not hidden_size / heads
        max_position_embeddings=number(raw, "max_position_embeddings", path),
        norm_eps=number(
            raw,
            "layer_norm_eps" if cohere else "rms_norm_eps",
            path,
            kind=float,
            default=1e-5 if cohere else 1e-6,
        ),
        rope_theta=number(
            rope if "rope_theta" in rope else raw, "rope_theta", path, kind=float, default=10_000.0
        ),
        rope_scaling=read_rope_scaling(rope or raw.get("rope_scaling") or {}, path),
        tie_word_embeddings=bool(
            raw.get("tie_word_embeddings", cohere)
        ),  # the families' own defaults
        logit_scale=number(raw, "logit_scale", path, kind=float, default=0.0625) if cohere else 1.0,
        sliding_window=read_sliding_window(raw, path),
        bos_token_id=raw.get("bos_token_id"),
        eos_token_ids=tuple(eos if isinstance(eos, list) else [] if eos is None else [eos]),
        dtype=raw.get("dtype") or raw.get("torch_dtype") or "float32",
    )
    check_consistent(config, path)
    return config


def refuse_unsupported(raw: dict, path: Path) -> None:
    """Name what a model needs that the hand-written transformer lacks."""
    if raw.get("model_type") not in FAMILIES:
        raise InputError(
            f"{path}: model_type {raw.get('model_type')!r} is not supported; minitox reads {', '.join(FAMILIES)}"
        )
    if raw.get("hidden_act", "silu") != "silu":
        raise InputError(f"{path}: hidden_act {raw['hidden_act']!r} is not supported, only 'silu'")
    if raw.get("quantization_config") is not None:
        raise InputError(
            f"{path}: quantized weights (quantization_config) are not supported; use the unquantized model"
        )
    for key in MUST_BE_OFF:
        if raw.get(key):
            raise InputError(f"{path}: {key} is not supported")
    if raw.get("partial_rotary_factor", 1) != 1:
        raise InputError(
            f"{path}: partial_rotary_factor {raw['partial_rotary_factor']!r} is not supported"
        )
    for key in ("rope_parameters", "rope_scaling"):
        if not isinstance(raw.get(key) or {}, dict):
            raise InputError(f"{path}: {key} must be an object or null")


def read_rope_scaling(rope: dict, path: Path) -> dict | None:
    """The four numbers of Llama-3.1's scaling, None for plain RoPE."""
    kind = rope.get("rope_type", rope.get("type", "default"))  # "type" is the older spelling
    if kind == "default":
        return None
    if kind != "llama3":
        raise InputError(
            f"{path}: rope_type {kind!r} is not supported, only 'default' and 'llama3'"
        )
    keys = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    return {key: number(rope, key, path, kind=float) for key in keys}


def read_sliding_window(raw: dict, path: Path) -> int | None:
    """The window some layer attends within, None if every layer attends to the whole text."""
    by_layer = raw.get("layer_types")
    slides = (
        raw.get("use_sliding_window", False)
        or isinstance(by_layer, list)
        and "sliding_attention" in by_layer
    )
    return (
        number(raw, "sliding_window", path)
        if slides and raw.get("sliding_window") is not None
        else None
    )


def number(raw: dict, key: str, path: Path, kind=int, default=None, most=2**28):
    """A positive number of config.json."""
    value = raw.get(key)
    value = default if value is None else value
    if value is None:
        raise InputError(f"{path}: {key} is missing")
    right_kind = isinstance(value, (int, float) if kind is float else int) and not isinstance(
        value, bool
    )
    if not right_kind or not 0 < value <= (most if kind is int else 1e30):  # nor is NaN
        raise InputError(
            f"{path}: {key} must be a positive {'number' if kind is float else 'integer'}, not {value!r}"
        )
    return kind(value)


def check_consistent(config: Config, path: Path) -> None:
    """Refuse shapes that fit no model."""
    if config.num_attention_heads % config.num_key_value_heads:
        raise InputError(
            f"{path}: num_attention_heads {config.num_attention_heads} is not a multiple of "
            f"num_key_value_heads {config.num_key_value_heads}"
        )
    if config.num_attention_heads * config.head_dim > 2**28:
        raise InputError(
            f"{path}: no model has {config.num_attention_heads} heads of width {config.head_dim}"
        )
    if config.head_dim % 2:
        raise InputError(f"{path}: head_dim {config.head_dim} is odd, and RoPE turns pairs")
    for token in (config.bos_token_id, *config.eos_token_ids):
        if token is not None and not (type(token) is int and 0 <= token < config.vocab_size):
            raise InputError(
                f"{path}: bos_token_id or eos_token_id {token!r} is not below vocab_size {config.vocab_size}"
            )
    if config.dtype not in ("float32", "bfloat16", "float16"):
        raise InputError(f"{path}: dtype {config.dtype!r} is not supported")
