"""How fast minitox is, as ratios to its peers measured in the same run.

    python tests/benchmark.py [--model DIR] [--data DIR] [--sentences N]     # needs transformers and scikit-learn

Absolute times depend on the machine and on what else it does; the ratios much less. Runs alternate, and medians are shown.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from minitox.detect.activations import POOL, pooled_responses  # noqa: E402
from minitox.detect.auroc import auroc  # noqa: E402
from minitox.detect.sentences import read_labelled  # noqa: E402
from minitox.files import read_jsonl  # noqa: E402
from minitox.lm import checkpoint  # noqa: E402
from minitox.lm.generate import generate  # noqa: E402
from minitox.lm.text import Tokenizer, batches  # noqa: E402
from minitox.neurons import module_rows  # noqa: E402
from minitox.train import finetune  # noqa: E402
from minitox.train.pairs import Pair  # noqa: E402
from minitox.train.strategies import Stage, weight_rows  # noqa: E402


def alternate(runs: dict, repeats: int) -> dict[str, float]:
    """Median seconds of each function, called in turn."""
    times = {name: [] for name in runs}
    for _ in range(repeats):
        for name, function in runs.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def hooked_transformers(folder: Path, dtype: torch.dtype, with_logits: bool):
    """The peer: transformers, a forward hook on every MLP projection that pools at once."""
    from transformers import AutoModel, AutoModelForCausalLM
    model = (AutoModelForCausalLM if with_logits else AutoModel).from_pretrained(folder, dtype=dtype).eval()
    mask, pooled = [None], []

    def hook(module, inputs, output):
        pooled.append(output.masked_fill(~mask[0].unsqueeze(-1), -torch.inf).amax(dim=1))
    for name, module in model.named_modules():
        if name.endswith(("gate_proj", "up_proj", "down_proj")):
            module.register_forward_hook(hook)

    @torch.inference_mode()
    def run(groups):
        for group in groups:
            longest = max(map(len, group))
            ids = torch.tensor([[0] * (longest - len(row)) + row for row in group])  # padded on the left, as ml-aura does
            mask[0] = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in group]).bool()
            model(input_ids=ids, attention_mask=mask[0].long(), use_cache=False)
            torch.cat(pooled, dim=1).half().numpy()
            pooled.clear()
    return run


def benchmark_recording(args) -> None:
    dtype = getattr(torch, args.dtype)
    model = checkpoint.load(args.model, dtype=dtype)
    tokenizer = Tokenizer(args.model, model.config)
    toxic, clean = read_labelled(args.data / "detection" / "en.jsonl", 0.5, 0.2)
    texts = [text for pair in zip(toxic, clean) for text in pair][:args.sentences]
    ids = [tokenizer.sentence(text)[:129] for text in texts]
    plan = [[ids[i] for i in group] for group in batches([len(row) for row in ids], 1_024)]
    def cut(rows, size):
        return [rows[i:i + size] for i in range(0, len(rows), size)]
    causal, bare = hooked_transformers(args.model, dtype, True), hooked_transformers(args.model, dtype, False)

    def ours():
        for group in plan:
            pooled_responses(model, group, tokenizer.special_ids, POOL["max"])
    ours()  # warm up
    seconds = alternate({
        "minitox": ours,
        "transformers, 128 as they come (ml-aura's way)": lambda: causal(cut(ids, 128)),
        "transformers, 32 as they come": lambda: causal(cut(ids, 32)),
        "transformers, 32 sorted by length, no logits": lambda: bare(cut(sorted(ids, key=len), 32)),
    }, args.repeats)
    tokens = sum(map(len, ids))
    print(f"recording {len(ids)} sentences, {tokens:,} tokens, {torch.get_num_threads()} threads, {args.dtype}, max pooling")
    for name, value in seconds.items():
        print(f"  {name:48}{tokens / value:>8,.0f} tokens/s   minitox is {value / seconds['minitox']:.2f} x")


def benchmark_auroc(args) -> None:
    from sklearn.metrics import roc_auc_score
    rng = np.random.default_rng(0)
    toxic = rng.permutation(np.repeat([True, False], 5_000))
    print("AUROC at N = 10,000, one thread")
    for name, mean in (("all positive, as max pooling gives", 1.5), ("around zero, as mean pooling gives", 0.0)):
        responses = (mean + 0.3 * rng.standard_normal((64, 10_000))).astype(np.float16)
        assert np.abs(auroc(responses[:4], toxic) - [roc_auc_score(toxic, row) for row in responses[:4]]).max() < 1e-12
        seconds = alternate({"minitox": lambda: auroc(responses, toxic),
                             "scikit-learn": lambda: [roc_auc_score(toxic, row) for row in responses[:16]]}, args.repeats + 4)
        ours, theirs = seconds["minitox"] / 64, seconds["scikit-learn"] / 16
        print(f"  {name:45}{1e6 * ours:>6.0f} against {1e6 * theirs:,.0f} microseconds a neuron: {theirs / ours:.0f} x")


def benchmark_generation(args) -> None:
    """Greedy replies to prompts of mixed length, none of which ends early, at the peer's batch of 32."""
    from transformers import AutoModelForCausalLM
    dtype, new = getattr(torch, args.dtype), args.new_tokens
    model, peer = checkpoint.load(args.model, dtype=dtype), AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype).eval()
    tokenizer = Tokenizer(args.model, model.config)
    files = [args.data / "prompts" / f"{language}.jsonl" for language in args.languages]
    each = 32 // len(files)
    prompts = [tokenizer.prompt(row["prompt"]) for path in files for _, (_, row) in zip(range(each), read_jsonl(path))]
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in prompts])  # padded on the left, as transformers asks for
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts])

    @torch.inference_mode()
    def theirs():
        peer.generate(ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False)
    seconds = alternate({"minitox": lambda: generate(model, prompts, new, set()), "transformers' generate": theirs}, args.repeats)
    print(f"generation, {len(prompts)} prompts of {min(map(len, prompts))} to {longest} tokens, {new} new ones each, {args.dtype}")
    for name, value in seconds.items():
        print(f"  {name:48}{len(prompts) * new / value:>8,.1f} tokens/s   minitox is {value / seconds['minitox']:.2f} x")


def benchmark_training(args) -> None:
    """One training step, every contender in a process of its own, so that its peak memory is its own."""
    runs = {"transformers, torch.optim.AdamW, every weight": ["transformers", "1"],
            "minitox, 80 % of the MLP's rows": ["minitox", "0.8"], "minitox, 10 %": ["minitox", "0.1"]}
    for dtype in ("float32", "bfloat16"):
        found = {name: [] for name in runs}
        for _ in range(args.repeats):
            for name, (who, share) in runs.items():
                command = [sys.executable, __file__, "--model", str(args.model), "--dtype", dtype, "--step", who, "--share", share]
                found[name].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))
        print(f"one training step on 4 x 128 tokens, loss on 60 % of them, {dtype}")
        rates = {name: statistics.median(run["rate"] for run in values) for name, values in found.items()}
        peaks = {name: statistics.median(run["peak"] for run in values) for name, values in found.items()}
        for name in runs:
            print(f"  {name:46}{rates[name]:>6,.0f} tokens/s, {rates[name] / next(iter(rates.values())):.2f} x; "
                  f"peak memory {peaks[name] / 1e6:,.0f} MB, {peaks[name] / next(iter(peaks.values())):.0%}")


def one_step(args) -> None:
    """Time steps of one contender; print the median tokens/s and the process's peak memory."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1_000, 40_000, (4, 128), generator=generator)
    step = (step_of_transformers if args.step == "transformers" else step_of_minitox)(args, ids, start=51)
    step()  # warm up
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    print(json.dumps({"rate": ids.numel() / statistics.median(times), "peak": 1_000 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def step_of_transformers(args, ids, start: int):
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    labels = torch.where(torch.arange(ids.shape[1]) < start, -100, ids)

    def step():
        model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return step


def step_of_minitox(args, ids, start: int):
    model = checkpoint.load(args.model, dtype=getattr(torch, args.dtype))
    rng = np.random.default_rng(0)
    mask = {name: rng.permutation(rows) < args.share * rows for name, rows in module_rows(model.config).items()}
    settings = argparse.Namespace(optimizer="rows", weight_decay=0.01, clip=1.0, batch_tokens=ids.numel())
    optimizer = finetune.start(model, Stage("all", mask, []), weight_rows(model, mask), settings)
    batch = [Pair(row, start, "") for row in ids.tolist()]
    return lambda: finetune.train_step(model, optimizer, batch, 1e-5, settings, "")


def benchmark_prepare(args, size: float = 500e6) -> None:
    """Speed and peak memory of data/prepare.py on made-up corpora of 500 MB, which should go through in less."""
    rng, words = np.random.default_rng(0), "the soup is warm and my garden is green you silly donkey".split()
    texts = [" ".join(rng.choice(words, rng.integers(5, 40))) for _ in range(2_000)]
    # a process's peak is at least that of the one which started it, so this is done by a small one
    launcher = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")

    def tweet(i: int) -> str:  # a fifth of them hateful, and no two the same
        return f'{i},3,0,0,3,{i % 5},"{texts[i % 2_000]} &amp; {i}"\n'

    def passage(i: int) -> str:
        meta = {"lang": ("ar", "de", "en", "ru")[i % 4]}
        return json.dumps({"text": f"{texts[i % 2_000]} {i}", "toxicity": i % 1_000 / 1_000, "meta_data": meta}) + "\n"
    for command, name, header, line in (("davidson", "labeled_data.csv", ",count,hate_speech,offensive_language,neither,class,tweet\n", tweet),
                                        ("ptp", "full.jsonl", "", passage)):
        with tempfile.TemporaryDirectory() as folder:
            path, rows = Path(folder) / name, 0
            with open(path, "w") as file:
                file.write(header)
                while file.tell() < size:
                    file.writelines(map(line, range(rows, rows + 10_000)))
                    rows += 10_000
            begin = time.perf_counter()
            run = [sys.executable, "-c", launcher, sys.executable, ROOT / "data" / "prepare.py", command, path, "--out", folder]
            peak = int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
            print(f"prepare.py {command}, {size / 1e6:,.0f} MB of {path.suffix[1:]}, {rows:,} rows: peak memory {peak / 1e3:,.0f} MB, "
                  f"{rows / (time.perf_counter() - begin):,.0f} rows/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "data" / "toy" / "model")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "toy")
    parser.add_argument("--sentences", type=int, default=256)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["auroc", "recording", "generation", "training", "prepare"], help="one of the five")
    parser.add_argument("--languages", nargs="+", default=["en", "de", "zh", "ar", "hi", "ru", "ja", "ko"],
                        help="of the prompts in the benchmark of generation")
    parser.add_argument("--new-tokens", type=int, default=64, help="in the benchmark of generation")
    parser.add_argument("--step", choices=["transformers", "minitox"], help=argparse.SUPPRESS)
    parser.add_argument("--share", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        return one_step(args)
    for name, benchmark in (("auroc", benchmark_auroc), ("recording", benchmark_recording),
                            ("generation", benchmark_generation), ("training", benchmark_training), ("prepare", benchmark_prepare)):
        if args.only in (None, name):
            benchmark(args)


if __name__ == "__main__":
    main()
