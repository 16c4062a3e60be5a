"""What benchmark.py times: minitox and its peers on the same work, each in a process of its own.

Everything that benchmark.py measures inside minitox is called from `device_of`, `our_model`,
`our_responses`, `training_step` and `our_replies`.
"""

import json
import os
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from benchmarks import peers
from benchmarks.costs import SHAPES, as_config, flops, seen
from benchmarks.waits import waits_of
from minitox.data import read_labelled
from minitox.detect.responses import POOL, pooled_responses
from minitox.files import read_json, read_jsonl
from minitox.lm import checkpoint
from minitox.lm.batching import batches
from minitox.lm.config import Config
from minitox.lm.generate import generate
from minitox.lm.model import LanguageModel
from minitox.lm.text import Tokenizer
from minitox.neurons import module_rows
from minitox.run.device import fastest_dtype, find_device, open_device
from minitox.run.recording import as_stored
from minitox.run.settings import DetectSettings, EvaluateSettings, TrainSettings
from minitox.run.tuning import Procedure, Tuning
from minitox.train.pairs import Pair
from minitox.train.strategies import weight_rows
from minitox.train.tune import Hyperparameters

PRODUCT = "a matrix product"
OURS = "minitox"
EVERY_WEIGHT = f"{OURS}, every weight"
HOOKS = {  # sentences in a batch, whether sorted by length, whether logits are computed
    "transformers, hooks, 128 as they come, logits": (128, False, True),  # as ml-aura does
    "transformers, hooks, 32 as they come, logits": (32, False, True),
    "transformers, hooks, 32 by length, no logits": (32, True, False),
}
FULL = "transformers, AdamW, every weight"
LORA = "transformers, peft's LoRA"
WAITS = "waits"
GENERATE = "transformers' generate"
MOST_TOKENS = 129  # of a sentence
SETTINGS = {"detect": DetectSettings, "train": TrainSettings, "generate": EvaluateSettings}


@dataclass(frozen=True)
class Work:
    """One contender's work."""

    run: Callable  # the function to time
    tokens: int
    operations: float  # that the work needs
    what: str  # a description


def contend(args) -> None:
    """Build one contender, warm it up, time it, and print the results as the last line."""
    config = as_config(raw_config(args))
    device, dtype = device_of(args, config)
    torch.manual_seed(0)  # for random weights of transformers
    if args.contender == WAITS:
        print(json.dumps(count_waits(our_model(args, config, device, dtype))))
        return
    work = build(args, config, device, dtype)
    wait = getattr(torch, device.type).synchronize
    is_product = args.contender == PRODUCT
    times = []
    for _ in range(1 + (20 if is_product else args.calls)):
        wait()
        begin = time.perf_counter()
        work.run()
        wait()
        times.append(time.perf_counter() - begin)
    what = f"{work.what}; {device.type}, {str(dtype).removeprefix('torch.')}"
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated()
    else:
        import resource  # Windows has no such module

        memory = 1_000 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        what += f", {torch.get_num_threads()} threads"
    figures = {
        "seconds": min(times[1:]) if is_product else statistics.median(times[1:]),
        "memory": memory,
        "tokens": work.tokens,
        "operations": work.operations,
        "what": what,
    }
    print(json.dumps(figures))


def build(args, config: Config, device, dtype) -> Work:
    if args.contender == PRODUCT:
        return product(device, dtype)
    if args.command == "detect":
        return detect(args, config, device, dtype)
    if args.command == "train":
        return train(args, config, device, dtype)
    return write_replies(args, config, device, dtype)


def raw_config(args) -> dict:
    """The content of the config.json of the model, or of the named shape."""
    raw = SHAPES[args.shape] if args.shape else read_json(args.model / "config.json")
    if not args.layers:
        return raw
    fewer = {"num_hidden_layers": args.layers}
    if "layer_types" in raw:  # one for each layer
        fewer["layer_types"] = raw["layer_types"][: args.layers]
    return raw | fewer


# Calls of minitox


def device_of(args, config: Config) -> tuple[torch.device, torch.dtype]:
    """Choose device and dtype as the scripts do, and replace `auto` in --batch-tokens.

    Peers do not keep freed memory, as the scripts do.
    """
    if args.contender and OURS not in args.contender:
        device = find_device(args.device)
        name = fastest_dtype(device, config) if args.dtype == "auto" else args.dtype
        dtype = getattr(torch, name)
    else:
        device, dtype = open_device(args.device, args.dtype, config)
    if args.batch_tokens == "auto":
        args.batch_tokens = SETTINGS[args.command]().resolved(device.type, config).batch_tokens
    return device, dtype


def our_model(args, config: Config, device, dtype) -> LanguageModel:
    """The model of the folder, or a random one created on the device."""
    if not args.random:
        return checkpoint.load(args.model, device, dtype)
    with torch.device("meta"):
        model = LanguageModel(config).to(dtype).requires_grad_(False)
    model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for weight in model.parameters():
        if weight.dim() == 1:
            weight.fill_(1)
        else:
            weight.normal_(0, 0.02, generator=generator)
    return model.eval()


def our_responses(model: LanguageModel, group: list[list[int]], special: set[int]):
    """Max-pooled responses of every neuron to the sentences of a batch, as they are stored."""
    return as_stored(pooled_responses(model, group, special, POOL["max"]))


def training_step(
    model: LanguageModel, mask: dict | None, batch: list[Pair], lr: float, batch_tokens: int
) -> Callable:
    """A function that runs one training step on the rows of `mask` (None: on every weight)."""
    hyper = Hyperparameters(
        epochs=10**9,
        batch_size=len(batch),
        lr=lr,
        warmup=0,
        schedule="constant",
        weight_decay=0.01,
        max_grad_norm=1.0,
        seed=0,
    )
    weights = dict(model.named_parameters())
    tuning = Tuning(model, weights, weight_rows(model, mask), 0.01, Procedure(batch_tokens))
    losses = tuning.__enter__().steps(batch, hyper, stage=0, start=0)
    return lambda: next(losses)


def our_replies(model: LanguageModel, prompts: list[list[int]], new: int) -> Callable:
    """A function that writes replies of `new` tokens, with no token that ends a reply early."""
    return lambda: generate(model, prompts, new, set())


def count_waits(model: LanguageModel) -> dict[str, dict]:
    """How often each stage waits for the GPU, as `waits_of` gives it."""
    new = 16
    texts = random_texts(model.config, 8, 36, MOST_TOKENS)
    pairs = [Pair(row, len(row) // 2, "") for row in texts]
    stages = {
        "a batch of detection": lambda: our_responses(model, texts, {0}),
        f"replies of {new} tokens": our_replies(model, texts, new),
        "a training step": training_step(model, random_mask(model.config, 0.1), pairs, 1e-5, 4_096),
    }
    return {name: waits_of(run) for name, run in stages.items()}


# The work


def random_texts(config: Config, count: int, mean: float, most: int) -> list[list[int]]:
    """Token ids of texts whose lengths vary as those of real texts do."""
    rng = np.random.default_rng(0)
    lengths = rng.gamma(2, mean / 2, count).clip(4, most).astype(int)
    return [rng.integers(3, config.vocab_size, length).tolist() for length in lengths]


def product(device, dtype) -> Work:
    size = 2_048 if device.type == "cpu" else 8_192
    a = torch.randn(size, size, device=device, dtype=dtype)
    b = torch.randn(size, size, device=device, dtype=dtype)
    return Work(lambda: a @ b, size, 2 * size**3, "")


def detect(args, config: Config, device, dtype) -> Work:
    """Responses to sentences."""
    ids, special = sentences_of(args, config)
    lengths = [len(row) for row in ids]
    tokens = sum(lengths)
    if args.contender == OURS:
        model = our_model(args, config, device, dtype)
        groups = []
        for group in batches(lengths, args.batch_tokens):
            groups.append([ids[i] for i in group])

        def respond(group):
            return our_responses(model, group, special)
    else:
        size, by_length, logits = HOOKS[args.contender]
        rows = sorted(ids, key=len) if by_length else ids
        groups = [rows[i : i + size] for i in range(0, len(rows), size)]
        respond = peers.hooked(peers.load(args, raw_config(args), device, dtype, logits), device)
    return Work(
        lambda: [respond(group) for group in groups],
        tokens,
        flops(config, tokens, seen(lengths)),
        f"responses to {len(ids)} sentences, {tokens:,} tokens, max pooling",
    )


def sentences_of(args, config: Config) -> tuple[list[list[int]], set[int]]:
    """Token ids of the sentences, toxic and clean in turn, and the ids of special tokens."""
    if args.random:
        return random_texts(config, args.sentences, args.mean_tokens, MOST_TOKENS), {0}
    tokenizer = Tokenizer(args.model, config)
    toxic, clean, _ = read_labelled(args.data / "detection" / f"{args.language}.jsonl", 0.5, 0.2)
    ids = []
    for pair in zip(toxic, clean, strict=False):
        ids += [tokenizer.sentence(text)[:MOST_TOKENS] for text in pair]
    return ids[: args.sentences], tokenizer.special_ids


def train(args, config: Config, device, dtype) -> Work:
    """One step, with loss on 60 % of the tokens."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, config.vocab_size, (args.pairs, args.tokens), generator=generator)
    start = round(0.4 * args.tokens)  # of the reply
    share = tuned_by(args.contender)
    if OURS not in args.contender:
        model = peers.load(args, raw_config(args), device, dtype)
        if LORA in args.contender:
            model = peers.with_lora(model, rank_of(config, share))
        step = peers.training_step(model, ids.to(device), start, args.activation_checkpointing)
    else:
        model = our_model(args, config, device, dtype)
        model.model.activation_checkpointing = args.activation_checkpointing
        batch = [Pair(row, start, "") for row in ids.tolist()]
        step = training_step(model, random_mask(config, share), batch, 1e-5, args.batch_tokens)
    read = [args.tokens - 1] * args.pairs  # the last token is predicted but not read
    what = f"one step on {args.pairs} pairs of {args.tokens} tokens, loss on 60 % of them"
    if args.activation_checkpointing:
        what += ", activation checkpointing"
    predicted = args.pairs * (args.tokens - start)
    operations = flops(config, sum(read), seen(read), predicted, share)
    if LORA in args.contender:
        # adapters have products of their own in the forward pass, and for gradients of inputs
        operations += 2 * (operations - flops(config, sum(read), seen(read), predicted, 0.0))
    return Work(step, ids.numel(), operations, what)


def share_label(share: float) -> str:
    return f"{OURS}, {share:.0%} of the MLP's rows"


def lora_label(share: float) -> str:
    return f"{LORA}, as many weights as {share:.0%} of the MLP's rows"


def rank_of(config: Config, share: float) -> int:
    """The rank at which LoRA on the MLP has as many weights as a share of the MLP's rows."""
    D = config.hidden_size
    M = config.intermediate_size
    return round(share * D * M / (D + M))


def tuned_by(label: str) -> str | float:
    """The share of rows in a label: the inverse of `share_label` and `lora_label`."""
    share = re.search(r"(\d+)% of", label)
    return int(share[1]) / 100 if share else "full"


def random_mask(config: Config, share: str | float) -> dict | None:
    """A random choice of this share of each module's rows; None for every weight."""
    if share == "full":
        return None
    rng = np.random.default_rng(0)
    return {
        name: rng.permutation(rows) < round(share * rows)
        for name, rows in module_rows(config).items()
    }


def write_replies(args, config: Config, device, dtype) -> Work:
    """Greedy replies to prompts of different lengths; no reply ends early."""
    prompts = prompts_of(args, config)
    new = args.new_tokens
    if args.contender == OURS:
        run = our_replies(our_model(args, config, device, dtype), prompts, new)
    else:
        model = peers.load(args, raw_config(args), device, dtype)
        run = peers.replies(model, prompts, new, device)
    lengths = [len(row) for row in prompts]
    what = (
        f"{len(prompts)} prompts of {min(lengths)} to {max(lengths)} tokens at once, "
        f"{new} new ones each"
    )
    return Work(run, len(prompts) * new, operations_of_replies(config, prompts, new), what)


def prompts_of(args, config: Config) -> list[list[int]]:
    """Token ids of the prompts, about as many from each language."""
    if args.random:
        return random_texts(config, args.prompts, args.mean_tokens, 512)
    tokenizer = Tokenizer(args.model, config)
    per_language = -(-args.prompts // len(args.languages))  # rounded up
    texts = []
    for language in args.languages:
        rows = read_jsonl(args.data / "prompts" / f"{language}.jsonl")
        texts += [row["prompt"] for _, row in islice(rows, per_language)]
    return [tokenizer.prompt(text) for text in texts[: args.prompts]]


def operations_of_replies(config: Config, prompts: list[list[int]], new: int) -> float:
    """Operations that replies need: their prompts' common beginning is read only once."""
    lengths = [len(row) for row in prompts]
    shared = min(len(os.path.commonprefix(prompts)), min(lengths) - 1)
    # the last new token is not read
    tokens = shared + sum(length - shared + new - 1 for length in lengths)
    pairs = seen([shared]) + seen([length + new - 1 for length in lengths], shared)
    return flops(config, tokens, pairs, len(prompts) * new)
