"""How fast minitox is, as ratios to its peers measured in the same run.

    python tests/benchmark.py [--model DIR] [--data DIR] [--sentences N]     # needs transformers and scikit-learn

Absolute times depend on the machine and on what else it does; the ratios much less. Runs alternate, and medians are shown.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from minitox.detect.activations import POOL, pooled_responses  # noqa: E402
from minitox.detect.auroc import auroc  # noqa: E402
from minitox.detect.sentences import read_labelled  # noqa: E402
from minitox.lm import checkpoint  # noqa: E402
from minitox.lm.text import Tokenizer, batches  # noqa: E402


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "data" / "toy" / "model")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "toy")
    parser.add_argument("--sentences", type=int, default=256)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    benchmark_auroc(args)
    benchmark_recording(args)


if __name__ == "__main__":
    main()
