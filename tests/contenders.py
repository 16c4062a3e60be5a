"""What benchmark.py times: minitox and its peers at the same work, each built and run in a process of its own."""

import argparse
import json
import os
import re
import resource
import statistics
import time

import numpy as np
import torch
from costs import SHAPES, as_config, flops, seen

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
from minitox.run import cli
from minitox.train import finetune, strategies
from minitox.train.pairs import Pair

PRODUCT, OURS = "a matrix product", "minitox"
HOOKS = {
    "transformers, hooks, 128 as they come, logits": (128, False, True),  # ml-aura's way
    "transformers, hooks, 32 as they come, logits": (32, False, True),
    "transformers, hooks, 32 by length, no logits": (32, True, False),
}
FULL, GENERATE = "transformers, AdamW, every weight", "transformers' generate"


def contend(args) -> None:
    """Build one contender, warm it up, time it, and print what was found as the last line."""
    config = as_config(raw_config(args))
    device, dtype = device_of(args, config)
    torch.manual_seed(0)  # of transformers' random weights
    build = (
        product
        if args.contender == PRODUCT
        else {"detect": detect, "train": train, "generate": write_replies}[args.command]
    )
    run, tokens, operations, what = build(args, config, device, dtype)
    wait = getattr(torch, device.type).synchronize
    times = []
    for _ in range(1 + (20 if args.contender == PRODUCT else args.calls)):
        wait()
        begin = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - begin)
    seconds = (min if args.contender == PRODUCT else statistics.median)(times[1:])
    on_gpu = device.type == "cuda"
    memory = (
        torch.cuda.max_memory_allocated()
        if on_gpu
        else 1_000 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    what += f"; {device.type}, {str(dtype).removeprefix('torch.')}" + (
        "" if on_gpu else f", {torch.get_num_threads()} threads"
    )
    print(
        json.dumps(
            {
                "seconds": seconds,
                "memory": memory,
                "tokens": tokens,
                "operations": operations,
                "what": what,
            }
        )
    )


def device_of(args, config: Config):  # -> device, dtype
    """As the scripts choose them, and --batch-tokens."""
    return cli.prepare_device(
        args,
        config,
        {"detect": (1_024, 16_384), "train": (512, 16_384), "generate": (8_192, 65_536)}[
            args.command
        ],
    )


def raw_config(args) -> dict:
    raw = SHAPES[args.shape] if args.shape else read_json(args.model / "config.json")
    return {**raw, "num_hidden_layers": args.layers} if args.layers else raw


def our_model(args, config: Config, device, dtype) -> LanguageModel:
    """The folder's, or a random one made where it will be."""
    if not args.random:
        return checkpoint.load(args.model, device, dtype)
    with torch.device("meta"):
        model = LanguageModel(config).to(dtype).requires_grad_(False)
    model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for weight in model.parameters():
        weight.fill_(1) if weight.dim() == 1 else weight.normal_(0, 0.02, generator=generator)
    return model.eval()


def their_model(args, device, dtype, logits: bool = True):
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    kind = AutoModelForCausalLM if logits else AutoModel
    if not args.random:
        return kind.from_pretrained(args.model, dtype=dtype).to(device).eval()
    with torch.device(device):
        return kind.from_config(AutoConfig.for_model(**raw_config(args)), dtype=dtype).eval()


def random_texts(config: Config, count: int, mean: float, most: int) -> list[list[int]]:
    """Token ids of texts whose lengths scatter as those of real ones do."""
    rng = np.random.default_rng(0)
    lengths = rng.gamma(2, mean / 2, count).clip(4, most).astype(int)
    return [rng.integers(3, config.vocab_size, length).tolist() for length in lengths]


def padded_left(
    rows: list[list[int]], device
):  # -> ids and mask (B, T), as transformers and ml-aura want them
    longest = max(map(len, rows))
    ids, mask = (
        [[0] * (longest - len(row)) + row for row in values]
        for values in (rows, [[1] * len(row) for row in rows])
    )
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


# Each of the following returns a function to time, its tokens, the operations that they need, and what it does.


def product(args, config: Config, device, dtype):
    size = 2_048 if device.type == "cpu" else 8_192
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return lambda: a @ b, size, 2 * size**3, ""


def detect(args, config: Config, device, dtype):
    if args.random:
        ids, special = random_texts(config, args.sentences, args.mean_tokens, 129), {0}
    else:
        tokenizer = Tokenizer(args.model, config)
        toxic, clean = read_labelled(args.data / "detection" / f"{args.language}.jsonl", 0.5, 0.2)
        ids = [tokenizer.sentence(text)[:129] for pair in zip(toxic, clean) for text in pair][
            : args.sentences
        ]
        special = tokenizer.special_ids
    lengths = [len(row) for row in ids]
    tokens, what = (
        sum(lengths),
        f"responses to {len(ids)} sentences, {sum(lengths):,} tokens, max pooling",
    )
    if args.contender == OURS:
        model = our_model(args, config, device, dtype)
        groups = [[ids[i] for i in group] for group in batches(lengths, args.batch_tokens)]

        def run(group):
            return pooled_responses(model, group, special, POOL["max"])
    else:
        size, by_length, logits = HOOKS[args.contender]
        rows, run = (
            sorted(ids, key=len) if by_length else ids,
            hooked(their_model(args, device, dtype, logits), device),
        )
        groups = [rows[i : i + size] for i in range(0, len(rows), size)]
    return (
        lambda: [run(group) for group in groups],
        tokens,
        flops(config, tokens, seen(lengths)),
        what,
    )


def hooked(model, device):
    """A forward hook on every MLP projection of a transformers model, that pools at once."""
    mask, pooled = [None], []

    def hook(module, inputs, output):
        pooled.append(output.masked_fill(~mask[0].unsqueeze(-1), -torch.inf).amax(dim=1))

    for name, module in model.named_modules():
        if name.endswith(("gate_proj", "up_proj", "down_proj")):
            module.register_forward_hook(hook)

    @torch.inference_mode()
    def run(group):
        ids, attention = padded_left(group, device)
        mask[0] = attention.bool()
        model(input_ids=ids, attention_mask=attention, use_cache=False)
        torch.cat(pooled, dim=1).half().cpu().numpy()
        pooled.clear()

    return run


def train(args, config: Config, device, dtype):
    """One step, with loss on 60 % of the tokens."""
    generator, start = torch.Generator().manual_seed(0), round(0.4 * args.tokens)
    ids = torch.randint(3, config.vocab_size, (args.pairs, args.tokens), generator=generator)
    share = tuned_by(args.contender)
    step = (their_step if args.contender == FULL else our_step)(
        args, config, device, dtype, ids, start, share
    )
    read = [args.tokens - 1] * args.pairs  # the last token is predicted and not read
    operations = flops(config, sum(read), seen(read), args.pairs * (args.tokens - start), share)
    what = f"one step on {args.pairs} pairs of {args.tokens} tokens, loss on 60 % of them{', recomputing' * args.recompute}"
    return step, ids.numel(), operations, what


def share_label(share: float) -> str:
    return f"{OURS}, {share:.0%} of the MLP's rows"


def tuned_by(label: str) -> str | float:
    """The inverse of `share_label`."""
    share = re.search(r"(\d+)% of", label)
    return int(share[1]) / 100 if share else "full"


def their_step(args, config: Config, device, dtype, ids, start: int, share):
    model = their_model(args, device, dtype).train()
    if args.recompute:
        model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    ids = ids.to(device)
    labels = torch.where(torch.arange(ids.shape[1], device=device) < start, -100, ids)

    def step():
        model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def our_step(args, config: Config, device, dtype, ids, start: int, share):
    model, rng, mask = our_model(args, config, device, dtype), np.random.default_rng(0), None
    if share != "full":
        mask = {
            name: rng.permutation(rows) < round(share * rows)
            for name, rows in module_rows(config).items()
        }
    model.model.activation_checkpointing = args.recompute
    settings = argparse.Namespace(
        optimizer="rows", weight_decay=0.01, clip=1.0, batch_tokens=args.batch_tokens
    )
    optimizer = finetune.make_optimizer(
        model, strategies.Stage("all", mask, []), strategies.weight_rows(model, mask), settings
    )
    batch = [Pair(row, start, "") for row in ids.tolist()]
    return lambda: finetune.train_step(model, optimizer, batch, 1e-5, settings, "")


def write_replies(args, config: Config, device, dtype):
    """Greedy replies to prompts of mixed length, none of which ends early."""
    if args.random:
        prompts = random_texts(config, args.prompts, args.mean_tokens, 512)
    else:
        tokenizer, each = Tokenizer(args.model, config), -(-args.prompts // len(args.languages))
        files = [args.data / "prompts" / f"{language}.jsonl" for language in args.languages]
        texts = [
            row["prompt"] for path in files for _, (_, row) in zip(range(each), read_jsonl(path))
        ]
        prompts = [tokenizer.prompt(text) for text in texts[: args.prompts]]
    new, lengths = args.new_tokens, [len(row) for row in prompts]
    what = f"{len(prompts)} prompts of {min(lengths)} to {max(lengths)} tokens at once, {new} new ones each"
    figures = len(prompts) * new, operations_of_replies(config, prompts, new), what
    if args.contender == OURS:
        model = our_model(args, config, device, dtype)
        return lambda: generate(model, prompts, new, set()), *figures
    model, (ids, mask) = their_model(args, device, dtype), padded_left(prompts, device)
    theirs = torch.inference_mode()(model.generate)
    return lambda: theirs(
        ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False
    ), *figures


def operations_of_replies(config: Config, prompts: list[list[int]], new: int) -> float:
    """What all prompts begin with need be read but once; the last new token is not read."""
    lengths = [len(row) for row in prompts]
    shared = min(len(os.path.commonprefix(prompts)), min(lengths) - 1)
    tokens = shared + sum(length - shared + new - 1 for length in lengths)
    pairs = seen([shared]) + seen([length + new - 1 for length in lengths], shared)
    return flops(config, tokens, pairs, len(prompts) * new)
