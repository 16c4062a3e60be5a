"""What the scripts share: common arguments, the choice of device, progress on a terminal, and mistakes told in one line."""

import argparse
import os
import sys
import time
from pathlib import Path

import torch

from minitox.errors import InputError
from minitox.languages import NAMES, TUNED
from minitox.lm.config import Config
from minitox.run import distributed

TOY = Path(__file__).resolve().parents[2] / "data" / "toy"
SMALL = 256  # hidden_size up to which a second thread costs more than it brings


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one and the text does not tell it."""

    def _get_help_string(self, action):
        told = action.default is None or action.default is False or "default" in action.help
        return action.help if told else super()._get_help_string(action)


def common_arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the arguments that detect, train and evaluate have in common."""
    parser = argparse.ArgumentParser(description=description, formatter_class=Help)
    parser.add_argument(
        "--model", type=Path, default=TOY / "model", help="Hugging Face folder of the model"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=TOY,
        help="folder with detection/, instructions/, prompts/ and mmlu/",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out"),
        help="folder for results, shared by the three scripts",
    )
    parser.add_argument(
        "--languages",
        type=language_list,
        default=",".join(TUNED),
        help="codes, separated by commas",
    )
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto: the fastest there is"
    )
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=["auto", "float32", "bfloat16", "float16"],
        help="of the weights in memory; auto: float32 on a CPU, else the model's own",
    )
    parser.add_argument("--seed", type=int, default=0, help="of every random choice")
    return parser


def add_spread(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--spread",
        action="store_true",
        help="with torchrun: divide every layer's weights among the processes, for a "
        "model that one device cannot hold; else each has all of it, which is faster. train.py always divides them",
    )


def language_list(value: str) -> list[str]:
    languages = list(dict.fromkeys(value.split(",")))
    for language in languages:
        if language not in NAMES:
            raise argparse.ArgumentTypeError(f"{language!r} is not one of {', '.join(NAMES)}")
    return languages


def positive(kind, or_zero: bool = False):
    """An argparse type: a number above 0, or not below it."""

    def convert(value: str):
        number = kind(value)
        if not (number > 0 or or_zero and number == 0):
            raise ValueError
        return number

    convert.__name__ = f"{'not negative' if or_zero else 'positive'} {kind.__name__}"  # argparse names it in its message
    return convert


def share(value: str) -> float:
    """An argparse type: a number from 0 to 1."""
    number = float(value)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{value} is not between 0 and 1")
    return number


def auto_or(kind):
    """An argparse type: "auto", or what `kind` accepts."""

    def convert(value: str):
        return value if value == "auto" else kind(value)

    convert.__name__ = kind.__name__
    return convert


def prepare_device(
    args: argparse.Namespace, config: Config, tokens: tuple[int, int]
) -> tuple[torch.device, torch.dtype]:
    """The device and dtype that --device and --dtype ask for, and ready for them: the threads of a CPU, a process's own GPU, and
    what --batch-tokens auto means, the first of `tokens` on a CPU, the second elsewhere."""
    name = args.device
    if name == "auto":
        name = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    if name.startswith("cuda") and distributed.WORLD > 1:
        if name != "cuda":
            raise InputError(
                f"--device {name}: each process takes a GPU of its own; leave out the number"
            )
        name = f"cuda:{distributed.LOCAL_RANK}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: {str(error).splitlines()[0]}") from None
    if device.type == "cpu" and config.hidden_size <= SMALL:
        torch.set_num_threads(1)
    elif distributed.WORLD > 1:  # torchrun allows one each
        torch.set_num_threads(max(1, os.cpu_count() // distributed.LOCAL_WORLD))
    if device.index is not None and device.type == "cuda":
        torch.cuda.set_device(device)
    if args.batch_tokens == "auto":
        args.batch_tokens = tokens[device.type != "cpu"]
    default = "float32" if device.type == "cpu" else config.dtype
    return device, getattr(torch, default if args.dtype == "auto" else args.dtype)


class Progress:
    """A line that is rewritten on a terminal, with the time left; silent elsewhere."""

    def __init__(self, total: int):
        self.total, self.start, self.first = total, time.monotonic(), None

    def show(self, label: str, done: int) -> None:
        if not sys.stderr.isatty() or not distributed.FIRST:
            return
        self.first = (
            done if self.first is None else self.first
        )  # what an earlier run did took no time of this one
        spent, left = time.monotonic() - self.start, self.total - done
        eta = f"{duration(spent / (done - self.first) * left)} left" if done > self.first else ""
        print(
            f"\r{label} {done / self.total:4.0%} {eta}\033[K", end="", file=sys.stderr, flush=True
        )

    def clear(self) -> None:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def wait(seconds: float) -> None:
    """Sleep, and say so if it takes long."""
    if seconds > 30:
        print(f"waiting {duration(seconds)} for the server", file=sys.stderr, flush=True)
    time.sleep(seconds)


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min"
        if hours
        else f"{minutes} min {seconds:02d} s"
        if minutes
        else f"{seconds} s"
    )


def run(main) -> None:
    """Run a script's main: a mistake in the input is one line and exit status 2, an interrupt one line and 130."""
    start = "\n" if sys.stderr.isatty() else ""  # where a line of progress may stand
    try:
        with distributed.processes():
            main()
    except (InputError, OSError) as error:
        print(f"{start}error: {error}", file=sys.stderr)
        sys.exit(2)
    except torch.OutOfMemoryError as error:
        print(
            f"{start}error: {str(error).splitlines()[0]}; try a smaller --batch-tokens",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{start}interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
