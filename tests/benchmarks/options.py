"""The options of benchmark.py's commands."""

import argparse
from pathlib import Path

from benchmarks import costs
from minitox.run import settings
from minitox.train import strategies

TIMED = ("detect", "train", "generate")  # the commands that time contenders
COMMANDS = (*TIMED, "device", "scale", "prepare", "line", "cost")
COUNT = settings.integer()
AMOUNT = settings.number(1e-9, 1e9)


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """The options; `argv` itself is kept in them, to start contenders with the same ones."""
    parser = argparse.ArgumentParser(description="Compare the speed of minitox with its peers'.")
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {}
    for name in COMMANDS:
        parsers[name] = commands.add_parser(name, formatter_class=settings.Help)
        parsers[name].add_argument(
            "--markdown", action="store_true", help="print tables in Markdown"
        )
    for name in (*TIMED, "scale"):
        add_model_options(parsers[name])
    for name in TIMED:
        add_contender_options(parsers[name])
    add_detect_options(parsers["detect"])
    add_train_options(parsers["train"])
    add_generate_options(parsers["generate"])
    add_device_options(parsers["device"])
    add_scale_options(parsers["scale"])
    add_line_options(parsers["line"])
    add_cost_options(parsers["cost"])
    args = parser.parse_args(argv)
    args.argv = list(argv)
    if args.command in TIMED and (args.shape or args.layers) and not args.random:
        parser.error("--shape and --layers need --random: there are no weights of that shape")
    return args


def add_model_options(parser) -> None:
    add = parser.add_argument
    add(
        "--model",
        type=Path,
        default=settings.TOY / "model",
        help="Hugging Face folder of the model",
    )
    folders = "folder with detection/, instructions/ and prompts/"
    add("--data", type=Path, default=settings.TOY, help=folders)
    add("--device", default="auto", help="as in the scripts")
    dtypes = ["auto", "float32", "bfloat16", "float16"]
    add("--dtype", default="auto", choices=dtypes, help="as in the scripts")
    rounds = "rounds; each round runs every contender once"
    add("--repeats", type=COUNT, default=3, metavar="N", help=rounds)


def add_contender_options(parser) -> None:
    add = parser.add_argument
    add("--shape", choices=costs.SHAPES, help="in place of the model's shape; needs --random")
    random = "use random weights, created on the device, and random token ids"
    add("--random", action="store_true", help=random)
    layers = "in place of the shape's number of layers; needs --random"
    add("--layers", type=COUNT, metavar="N", help=layers)
    calls = "timed calls in each process, after one warm-up call"
    add("--calls", type=COUNT, default=3, metavar="N", help=calls)
    add(
        "--batch-tokens",
        type=settings.auto_or(COUNT),
        default="auto",
        metavar="N",
        help="as in the scripts",
    )
    add("--contender", help=argparse.SUPPRESS)


def add_detect_options(parser) -> None:
    add = parser.add_argument
    mean = "mean length of a random text"
    add("--mean-tokens", type=AMOUNT, default=36, metavar="F", help=mean)
    add("--sentences", type=COUNT, default=256, metavar="N")
    add("--language", default="en", help="language of the sentences")


def add_train_options(parser) -> None:
    add = parser.add_argument
    shares = "shares of the MLP's rows to tune, in whole percents"
    add("--shares", nargs="*", type=settings.SHARE, default=[0.8, 0.1], metavar="F", help=shares)
    add("--pairs", type=COUNT, default=4, metavar="N")
    add("--tokens", type=COUNT, default=128, metavar="N", help="length of a pair")
    checkpointing = "recompute the activations inside layers, in minitox and in the peer"
    add("--activation-checkpointing", action="store_true", help=checkpointing)


def add_generate_options(parser) -> None:
    add = parser.add_argument
    mean = "mean length of a random prompt"
    add("--mean-tokens", type=AMOUNT, default=68, metavar="F", help=mean)
    add("--prompts", type=COUNT, default=32, metavar="N", help="prompts in the batch")
    add("--new-tokens", type=COUNT, default=64, metavar="N")
    languages = "en,de,zh,ar,hi,ru,ja,ko"
    add("--languages", type=settings.language_list, default=languages, help="of the prompts")


def add_device_options(parser) -> None:
    add = parser.add_argument
    add("--device", default="auto", help="as in the scripts")
    out = "folder of device.json, device.md and the toy's results"
    add("--out", type=Path, default=Path("out/device"), metavar="DIR", help=out)
    add("--minutes", type=AMOUNT, default=9, metavar="F", help="after which nothing is started")
    add("--quick", action="store_true", help="a trial with little work, for any machine")


def add_scale_options(parser) -> None:
    add = parser.add_argument
    add("--processes", nargs="+", type=COUNT, default=[1, 2], metavar="N")
    baseline = "another checkout: time its three scripts and this one's, with one process each"
    add("--baseline", type=Path, metavar="DIR", help=baseline)
    add("--languages", type=settings.language_list, default="en,zh", help="as in the scripts")
    add(
        "--strategy",
        nargs="+",
        choices=strategies.TUNED,
        default=["multilingual"],
        metavar="S",
        help="strategies of train.py",
    )


def add_line_options(parser) -> None:
    parser.add_argument(
        "--model",
        type=Path,
        default=settings.TOY / "model",
        help="Hugging Face folder of the model",
    )


def add_cost_options(parser) -> None:
    add = parser.add_argument
    shapes = ["llama-3.1-8b", "aya-23-8b", "llama-3.1-70b"]
    add("--shape", nargs="+", choices=costs.SHAPES, default=shapes)
    rate = "achieved rate: one number, or three for detect, train and evaluate"
    add("--rate", nargs="+", type=AMOUNT, default=[100.0], metavar="TFLOPS", help=rate)
    add("--sentence-tokens", type=AMOUNT, default=36, metavar="F")
    pair = "of the prompt and of the reply"
    add("--pair-tokens", nargs=2, type=AMOUNT, default=[65, 78], metavar="F", help=pair)
    add("--prompt-tokens", type=AMOUNT, default=68, metavar="F")
    add("--reply-tokens", type=AMOUNT, default=64, metavar="F")
    mean = "share of all neurons; 0.35 is the mean of the paper's Table 2"
    add("--per-language-share", type=settings.SHARE, default=0.35, metavar="F", help=mean)
    bound = "share of all neurons; the paper does not state it, and 1 is an upper bound"
    add("--multilingual-share", type=settings.SHARE, default=1.0, metavar="F", help=bound)
