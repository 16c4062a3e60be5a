"""Operation counts of every stage, and the cost of the paper's experiment: `benchmark.py cost`.

With T tokens, n of them predicted, and P pairs of a query and a key that it attends to, the
operations in matrix products are

    forward    L (2 T (weights of attention and MLP) + 4 heads head_dim P) + 2 n D V
    full       3 forward: gradients of the inputs and of the weights cost one forward each
    rows       2 forward - (what comes before the first tuned row of layer 0)
               + 2 T L (weights of the MLP) (share of rows tuned)

The experiment: 9 x 10,000 sentences; 3 strategies x 9,000 pairs, one epoch; 16 x 1,000 prompts
x 4 models. GPU-hours are operations / rate; `benchmark.py` shows the rate as TFLOP/s. Bytes, with
weights in bfloat16:

    weights        2 a weight
    tuning         14 a tuned weight: 12 of optimizer state and 2 of gradient;
                   16 where only some rows of a matrix are tuned
    cache          4 L (key heads) head_dim a token, for keys and values
    responses      2 neurons sentences, for one language at a time
    neuron file    4 neurons
    checkpoint     14 a tuned weight, also in the first process's memory, and twice on disk while
                   a new checkpoint replaces the old one; for per-language, 2 a weight tuned for
                   any language and 12 a weight tuned for the current one

Not counted: activations, perplexity, questions, validation pairs, AUROC (`benchmark.py detect`
shows its microseconds a neuron), reading and hashing weights.

The default text lengths are means over languages, in SmolLM2's tokens, of RTP-LX prompts and
benign completions. They depend on the tokenizer (SmolLM2's needs 17 tokens a sentence in English
and 63 in Hindi) and on the corpus (tweets have about twice as many tokens). Replies are assumed to
reach evaluate.py's limit.
"""

import json
import tempfile
from pathlib import Path

from minitox.errors import InputError
from minitox.lm.config import Config, read_config
from minitox.neurons import module_rows
from minitox.report.training_tables import memory as as_text
from minitox.train.strategies import count_weights


def shape(
    model_type: str,
    hidden: int,
    intermediate: int,
    layers: int,
    heads: int,
    key_heads: int,
    vocab: int,
    **more,
) -> dict:
    """The content of a config.json."""
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "vocab_size": vocab,
        "dtype": "bfloat16",
        "max_position_embeddings": 8_192,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        **more,
    }


def llama3(*sizes: int, tied: bool = False, factor: float = 8.0) -> dict:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8_192,
    }
    return shape(
        "llama",
        *sizes,
        128_256,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
        rope_parameters=rope,
        max_position_embeddings=131_072,
    )


AYA = {"layer_norm_eps": 1e-5, "rope_theta": 10_000.0, "logit_scale": 0.0625}
AYA |= {"tie_word_embeddings": True}
SMOLLM2 = {"rms_norm_eps": 1e-5, "rope_theta": 100_000.0, "tie_word_embeddings": True}
SHAPES = {
    "llama-3.1-8b": llama3(4_096, 14_336, 32, 32, 8),
    "llama-3.1-70b": llama3(8_192, 28_672, 80, 64, 8),
    "llama-3.2-1b": llama3(2_048, 8_192, 16, 32, 8, tied=True, factor=32.0),
    "aya-23-8b": shape("cohere", 4_096, 14_336, 32, 32, 8, 256_000, **AYA),
    "smollm2-135m": shape("llama", 576, 1_536, 30, 9, 3, 49_152, **SMOLLM2),
}


def as_config(raw: dict) -> Config:
    """Read a config.json with this content in the same way as any model's."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(raw))
        return read_config(Path(folder))


def flops(
    config: Config,
    tokens: float,
    pairs: float,
    predicted: float = 0,
    tuned: str | float | None = None,
) -> float:
    """Operations of a forward pass and, if `tuned` is given, of the backward pass.

    `tuned` is "full" for every weight, or the share of the MLP's rows that are tuned.
    """
    D = config.hidden_size
    heads = config.num_attention_heads
    layers = config.num_hidden_layers
    # 1) one layer: the products with weights, then queries with keys and weights with values
    attention = 2 * tokens * 2 * D * config.head_dim * (heads + config.num_key_value_heads)
    mlp = 2 * tokens * 3 * D * config.intermediate_size
    attend = 4 * heads * config.head_dim * pairs
    # 2) the forward pass
    forward = layers * (attention + mlp + attend) + 2 * predicted * D * config.vocab_size
    if tuned is None:
        return forward
    # 3) the backward pass
    if tuned == "full":
        return 3 * forward
    # Both factors of q @ k and of p @ v have a gradient, so `attend` counts twice. In layer 0 the
    # gradients of inputs stop at the outputs of gate and up.
    inputs = forward + layers * attend - (attention + 2 * attend + mlp * 2 / 3)
    return forward + inputs + layers * mlp * tuned


def seen(lengths, start: int = 0) -> int:
    """Pairs of a token and one up to it, in texts of these lengths.

    With `start`, only the pairs of the tokens after the first `start` count.
    """
    return sum((n * (n + 1) - start * (start + 1)) // 2 for n in lengths)


def table(args) -> tuple[str, list[list[str]]]:
    """The title and the rows of the experiment's costs, a column for each shape."""
    if len(args.rate) not in (1, 3):
        raise InputError(
            "--rate takes one number, or three for detect, train and evaluate, "
            f"not {len(args.rate)}"
        )
    rates = args.rate * (3 // len(args.rate))
    by_script = dict(zip(("detect", "train", "evaluate"), rates, strict=True))
    columns = {name: column(as_config(SHAPES[name]), args, by_script) for name in args.shape}
    rows = [["", *columns]]
    for key in next(iter(columns.values())):
        rows.append([key, *(values[key] for values in columns.values())])
    return title(args, rates), rows


def title(args, rates: list[float]) -> str:
    rate = f"{rates[0]:g}, {rates[1]:g} and {rates[2]:g} TFLOP/s in detect, train and evaluate"
    if args.rate == [100.0]:
        rate = (
            "100 TFLOP/s sustained, which is a unit and not a measurement: measure the rate "
            "with `detect`, `train` and `generate`, and pass it with --rate"
        )
    prompt, reply = args.pair_tokens
    return (
        f"The paper's experiment; hours at {rate}. Mean tokens: "
        f"sentence {args.sentence_tokens:g}, pair {prompt:g} + {reply:g}, "
        f"prompt {args.prompt_tokens:g}, reply {args.reply_tokens:g}; "
        f"rows tuned: per-language {args.per_language_share:.0%}, "
        f"multilingual {args.multilingual_share:.0%}; bfloat16"
    )


def column(config: Config, args, rates: dict[str, float]) -> dict[str, str]:
    """Every cell of the table for one shape, by the row's name."""
    # 1) how many weights each strategy tunes
    weights = count_weights(config, None)
    neurons = sum(module_rows(config).values())
    mlp = 3 * config.hidden_size * config.intermediate_size * config.num_hidden_layers
    shares = {
        "full": "full",
        "per-language": args.per_language_share,
        "multilingual": args.multilingual_share,
    }
    tuned = {}
    for name, share in shares.items():
        tuned[name] = weights if share == "full" else round(share * mlp)
    # 2) time
    work = operations(config, args, shares)
    hours = {name: count / rates[name.split()[0]] / 1e12 / 3_600 for name, count in work.items()}
    cells = {"weights": f"{weights:,}", "neurons": f"{neurons:,}"}
    for name, count in work.items():
        cells[f"{name}, 10^15 operations"] = f"{count / 1e15:,.0f}"
    for name, count in hours.items():
        cells[f"{name}, GPU-hours"] = f"{count:.2f}"
    cells["all, GPU-hours"] = f"{sum(hours.values()):.2f}"
    # 3) memory
    cells["detect, memory"] = as_text(2 * weights)
    for name, share in shares.items():
        bytes_a_weight = 14 if share in ("full", 1) else 16
        cells[f"train {name}, memory"] = as_text(2 * weights + tuned[name] * bytes_a_weight)
    cache = 4 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    cells["evaluate, memory, with 65,536 tokens"] = as_text(2 * weights + 65_536 * cache)
    # 4) disk
    cells["responses of one language, disk"] = as_text(2 * neurons * 10_000)
    cells["nine neuron files, disk"] = as_text(9 * 4 * neurons)
    # when per-language tunes its last language, rows of all languages have been tuned
    tuned_so_far = tuned | {"per-language": tuned["multilingual"]}
    for name, count in tuned.items():
        cells[f"checkpoint of {name}, disk"] = as_text(2 * tuned_so_far[name] + 12 * count)
    cells["base and three models, disk"] = as_text(4 * 2 * weights)
    return cells


def operations(config: Config, args, shares: dict) -> dict[str, float]:
    """Operations of each stage of the paper's experiment."""

    def of(texts: int, length: float, predicted: float = 0, share=None) -> float:
        return texts * flops(config, length, length * (length + 1) / 2, predicted, share)

    prompt, reply = args.pair_tokens
    work = {"detect": of(9 * 10_000, args.sentence_tokens)}
    for name, share in shares.items():
        work[f"train {name}"] = of(9 * 1_000, prompt + reply, reply, share)
    work["evaluate"] = of(4 * 16 * 1_000, args.prompt_tokens + args.reply_tokens, args.reply_tokens)
    return work
