"""How fast minitox is, compared with its peers in the same run.

    python tests/benchmark.py detect | train | generate
        [--model DIR --data DATA | --shape NAME --random [--layers N]]
    python tests/benchmark.py device [--quick]      # everything for an accelerator, in 9 minutes
    python tests/benchmark.py scale                 # whole scripts with 1 and 2 processes
    python tests/benchmark.py scale --baseline DIR  # whole scripts of another checkout and these
    python tests/benchmark.py prepare               # data/prepare.py on 500 MB
    python tests/benchmark.py line [--model DIR]    # what a line of 20 MB adds to a script
    python tests/benchmark.py cost [--rate TFLOPS]  # computed cost of the paper's experiment

Absolute times depend on the machine and its load, ratios much less. Contenders run in turn, each
in a process of its own, so that its peak memory is measured alone: torch.cuda.max_memory_allocated
on CUDA, otherwise the largest resident set. Tables show medians. Peers (transformers,
peft, scikit-learn) are left out if they are not installed. "of peak" is the rate of the operations
that the task needs, as a share of the rate of one large square matrix product in the same run, on
the same device, in the same dtype. Padding, logits that are not needed, and what
--activation-checkpointing computes again do not count as needed operations.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import costs, device, scale  # noqa: E402
from benchmarks.compare import compare, show  # noqa: E402
from benchmarks.contenders import (  # noqa: E402
    EVERY_WEIGHT,
    FULL,
    GENERATE,
    HOOKS,
    OURS,
    contend,
    lora_label,
    share_label,
)
from benchmarks.options import TIMED, parse_arguments  # noqa: E402
from benchmarks.ranking import compare_auroc  # noqa: E402
from minitox.run import script  # noqa: E402


def main(argv=None) -> None:
    args = parse_arguments(sys.argv[1:] if argv is None else argv)
    if args.command in TIMED and args.contender:
        contend(args)
    elif args.command == "detect":
        compare(args, [OURS, *HOOKS], to_first=False)
        show(args, *compare_auroc(rounds=args.repeats + 4))
    elif args.command == "train":
        ours = [EVERY_WEIGHT, *map(share_label, args.shares)]
        compare(args, [FULL, *ours, *map(lora_label, args.shares)], to_first=True)
    elif args.command == "generate":
        compare(args, [OURS, GENERATE], to_first=False)
    elif args.command == "device":
        device.measure(args)
    elif args.command == "scale":
        show(args, *scale.scale(args))
    elif args.command == "line":
        show(args, *scale.line(args))
    elif args.command == "prepare":
        scale.prepare()
    else:
        show(args, *costs.table(args), with_hardware=False)


if __name__ == "__main__":
    script.run(main)
