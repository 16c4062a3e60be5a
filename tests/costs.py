"""Operations of every stage, counted by a formula, and what the paper's experiment therefore costs: `benchmark.py cost`.

Of T tokens, of which n are predicted, with P pairs of a query and a key that it attends to, in matrix products alone:

    forward    L (2 T (weights of attention and MLP) + 4 heads head_dim P) + 2 n D V
    full       3 forward: the gradients of inputs and of weights are a forward each
    rows       2 forward - what stands before the first tuned row of layer 0 + 2 T L (weights of the MLP) (share of rows tuned)

The experiment: 9 x 10,000 sentences; 3 strategies x 9,000 pairs, once; 16 x 1,000 prompts x 4 models. GPU-hours are operations / rate,
the rate that `benchmark.py` shows as TFLOP/s. Bytes, with weights in bfloat16:

    weights        2 each
    tuning         14 a tuned weight: 12 of optimizer state and a gradient of 2; 16 where only some rows of a matrix are tuned
    cache          4 L (key heads) head_dim a token, keys and values
    responses      2 neurons sentences, for one language at a time; a neuron file 4 neurons
    checkpoint     14 a tuned weight, in the first process's memory too, and twice on disk while one replaces another; of per-language
                   2 a weight tuned for any language and 12 for the present one

Not counted: activations, perplexity, questions, unseen pairs, AUROC (`benchmark.py detect` has its microseconds a neuron), reading and
hashing weights. The default lengths of texts are RTP-LX prompts and benign completions in SmolLM2's tokens, means over languages. They
depend on the tokenizer: SmolLM2's takes 17 tokens a sentence in English and 63 in Hindi; and on the corpus: tweets have about twice
as many. Replies are taken to run to evaluate.py's limit.
"""

import json
import tempfile
from pathlib import Path

from minitox.errors import InputError
from minitox.lm.config import Config, read_config
from minitox.neurons import module_rows
from minitox.report.training_tables import memory as as_text
from minitox.run import cli
from minitox.train import strategies


def shape(
    model_type: str,
    hidden: int,
    intermediate: int,
    layers: int,
    heads: int,
    keys: int,
    vocab: int,
    **more,
) -> dict:
    """A config.json."""
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
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


SHAPES = {
    "llama-3.1-8b": llama3(4_096, 14_336, 32, 32, 8),
    "llama-3.1-70b": llama3(8_192, 28_672, 80, 64, 8),
    "llama-3.2-1b": llama3(2_048, 8_192, 16, 32, 8, tied=True, factor=32.0),
    "aya-23-8b": shape(
        "cohere",
        4_096,
        14_336,
        32,
        32,
        8,
        256_000,
        layer_norm_eps=1e-5,
        logit_scale=0.0625,
        tie_word_embeddings=True,
    ),
    "smollm2-135m": shape(
        "llama",
        576,
        1_536,
        30,
        9,
        3,
        49_152,
        rms_norm_eps=1e-5,
        rope_theta=100_000.0,
        tie_word_embeddings=True,
    ),
}


def as_config(raw: dict) -> Config:
    """A config.json as every model's is read."""
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
    """Operations of a forward pass and, if something is `tuned`, of the backward pass: "full", or this share of the MLP's rows."""
    D, M, L, heads = (
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.num_attention_heads,
    )
    attention = 2 * tokens * 2 * D * config.head_dim * (heads + config.num_key_value_heads)
    mlp, attend = 2 * tokens * 3 * D * M, 4 * heads * config.head_dim * pairs
    forward = L * (attention + mlp + attend) + 2 * predicted * D * config.vocab_size
    if tuned is None:
        return forward
    if tuned == "full":
        return 3 * forward
    inputs = (
        forward + L * attend - (attention + 2 * attend + mlp * 2 / 3)
    )  # attention has two; layer 0 gets no further than gate and up
    return forward + inputs + L * mlp * tuned


def seen(lengths, start: int = 0) -> int:
    """Pairs of a token and one up to it, in texts of these lengths; with `start`, of the tokens after the first `start` alone."""
    return sum((n * (n + 1) - start * (start + 1)) // 2 for n in lengths)


def table(args) -> tuple[str, list[list[str]]]:
    """The title and rows of the experiment, a column for each shape."""
    if len(args.rate) not in (1, 3):
        raise InputError(
            f"--rate takes one number or three, of detect, train and evaluate, not {len(args.rate)}"
        )
    rates = args.rate * (3 // len(args.rate))
    columns = {
        name: column(
            as_config(SHAPES[name]), args, dict(zip(("detect", "train", "evaluate"), rates))
        )
        for name in args.shape
    }
    rows = [["", *columns]] + [
        [key, *(values[key] for values in columns.values())] for key in next(iter(columns.values()))
    ]
    told = (
        f"{rates[0]:g}, {rates[1]:g} and {rates[2]:g} TFLOP/s in detect, train and evaluate"
        if args.rate != [100.0]
        else "100 TFLOP/s sustained, which is a unit and no measurement: measure with `detect`, `train` and `generate`, and give --rate"
    )
    return (
        f"The paper's experiment; hours at {told}. Mean tokens: sentence {args.sentence_tokens:g}, pair {args.pair_tokens[0]:g} + "
        f"{args.pair_tokens[1]:g}, prompt {args.prompt_tokens:g}, reply {args.reply_tokens:g}; rows tuned: per-language "
        f"{args.per_language_share:.0%}, multilingual {args.multilingual_share:.0%}; bfloat16"
    ), rows


def column(config: Config, args, rates: dict[str, float]) -> dict[str, str]:
    """Every line of the table, for one shape."""
    weights, neurons = strategies.count_weights(config, None), sum(module_rows(config).values())
    mlp = 3 * config.hidden_size * config.intermediate_size * config.num_hidden_layers
    shares = {
        "full": "full",
        "per-language": args.per_language_share,
        "multilingual": args.multilingual_share,
    }
    tuned = {
        name: weights if share == "full" else round(share * mlp) for name, share in shares.items()
    }
    ever = {"per-language": tuned["multilingual"]}  # by the last language, what any of them tuned
    work = operations(config, args, shares)
    hours = {name: count / rates[name.split()[0]] / 1e12 / 3_600 for name, count in work.items()}
    memory = {
        name: 2 * weights + tuned[name] * (14 if share in ("full", 1) else 16)
        for name, share in shares.items()
    }
    cache = 4 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return {
        "weights": f"{weights:,}",
        "neurons": f"{neurons:,}",
        **{f"{name}, 10^15 operations": f"{count / 1e15:,.0f}" for name, count in work.items()},
        **{f"{name}, GPU-hours": f"{count:.2f}" for name, count in hours.items()},
        "all, GPU-hours": f"{sum(hours.values()):.2f}",
        "detect, memory": as_text(2 * weights),
        **{f"train {name}, memory": as_text(count) for name, count in memory.items()},
        "evaluate, memory, with 65,536 tokens": as_text(2 * weights + 65_536 * cache),
        "responses of one language, disk": as_text(2 * neurons * 10_000),
        "nine neuron files, disk": as_text(9 * 4 * neurons),
        **{
            f"checkpoint of {name}, disk": as_text(2 * ever.get(name, count) + 12 * count)
            for name, count in tuned.items()
        },
        "base and three models, disk": as_text(4 * 2 * weights),
    }


def operations(config: Config, args, shares: dict) -> dict[str, float]:
    """Of each stage of the paper's experiment."""

    def of(texts: int, length: float, predicted: float = 0, share=None) -> float:
        return texts * flops(config, length, length * (length + 1) / 2, predicted, share)

    prompt, reply = args.pair_tokens
    return {
        "detect": of(9 * 10_000, args.sentence_tokens),
        **{
            f"train {name}": of(9 * 1_000, prompt + reply, reply, share)
            for name, share in shares.items()
        },
        "evaluate": of(4 * 16 * 1_000, args.prompt_tokens + args.reply_tokens, args.reply_tokens),
    }


def add_arguments(parser) -> None:
    add, tokens = parser.add_argument, cli.positive(float)
    add(
        "--shape", nargs="+", choices=SHAPES, default=["llama-3.1-8b", "aya-23-8b", "llama-3.1-70b"]
    )
    add(
        "--rate",
        nargs="+",
        type=tokens,
        default=[100.0],
        metavar="TFLOPS",
        help="achieved: one for all, or of detect, train and evaluate",
    )
    add("--sentence-tokens", type=tokens, default=36, metavar="F")
    add(
        "--pair-tokens",
        nargs=2,
        type=tokens,
        default=[65, 78],
        metavar="F",
        help="of the prompt and of the reply",
    )
    add("--prompt-tokens", type=tokens, default=68, metavar="F")
    add("--reply-tokens", type=tokens, default=64, metavar="F")
    add(
        "--per-language-share",
        type=cli.share,
        default=0.35,
        metavar="F",
        help="of all neurons: the mean of the paper's Table 2",
    )
    add(
        "--multilingual-share",
        type=cli.share,
        default=1.0,
        metavar="F",
        help="of all neurons: an upper bound, as the paper does not say",
    )
