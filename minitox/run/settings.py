"""The settings of the three scripts, each a frozen dataclass.

A field has everything that is known of a setting: type, default, help, unit, and the results that
depend on it. The command-line options, the settings check of the outputs, run.json and the report
are made from the fields. Only the scripts see the whole object; functions get plain values.
"""

import argparse
import math
import sys
from argparse import ArgumentTypeError
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn, get_args

from minitox.errors import InputError, user_errors
from minitox.evaluate.metrics import MARGIN
from minitox.files import LARGEST_INTEGER
from minitox.languages import NAMES, TUNED
from minitox.lm.config import Config
from minitox.neurons import SELECTORS
from minitox.scorers.perspective import GOOGLE_URL
from minitox.train import strategies

TOY = Path(__file__).resolve().parents[2] / "data" / "toy"

# the kinds of results that a setting may affect
RESULTS = {
    *("neurons", "taylor", "dinm"),  # of detect.py
    *("choice", "tuning", "preference", "scaling", "validation"),  # of train.py
    *("replies", "mmlu", "perplexity", "xstest", "human"),  # of evaluate.py
    *("generate", "check"),  # of data/curate.py
}


def option(
    default,
    help: str,
    affects: str = "",  # those of RESULTS that depend on the setting
    unit: str = "",
    kind=None,  # converts the text of the option; None: by the type of the field
    auto: tuple[int, int] | None = None,  # what "auto" means on a CPU, and elsewhere
    group: str = "",  # of options that exclude each other
    flag: str = "",  # instead of --NAME; without dashes, a positional argument
    **more,  # of argparse's add_argument
):
    """A field of a settings class and, at the same time, a command-line option."""
    assert set(affects.split()) <= RESULTS, affects
    about = {"help": help, "affects": affects.split(), "unit": unit, "kind": kind, "auto": auto}
    about |= {"group": group, "flag": flag, "more": more}
    return field(default=default, metadata=about)


# Kinds of values

MOST = 1_000_000  # of nearly everything that is counted; a larger number is a typing error


def integer(least: int = 1, most: int = MOST):
    """A kind: an integer within bounds."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or not least <= number <= most:
            raise ArgumentTypeError(f"{text!r} is not an integer from {least:,} to {most:,}")
        return number

    return convert


def number(least: float, most: float, or_zero: bool = False):
    """A kind: a number within bounds, which is therefore finite."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (least <= value <= most or or_zero and value == 0):
            zero = "0 or " if or_zero else ""
            raise ArgumentTypeError(f"{text!r} is not {zero}a number from {least:,} to {most:,}")
        return value

    return convert


SHARE = number(0, 1)
SEED = integer(0, LARGEST_INTEGER - 1)
TEMPERATURE = number(0.01, 100, or_zero=True)  # below 0.01, logits / temperature may be infinite


def auto_or(kind):
    """A kind: "auto", or what `kind` accepts."""

    def convert(text: str):
        if text == "auto":
            return text
        try:
            return kind(text)
        except ArgumentTypeError as error:
            raise ArgumentTypeError(f"{error}, or auto") from None

    return convert


def language_list(text: str) -> tuple[str, ...]:
    """A kind: language codes, separated by commas."""
    languages = tuple(dict.fromkeys(text.split(",")))
    for language in languages:
        if language not in NAMES:
            raise ArgumentTypeError(f"{language!r} is not one of {', '.join(NAMES)}")
    return languages


# of fields of these types, and what help shows for their values; None: the name of the field
KINDS = {int: integer(), float: SHARE, str: str, Path: Path}
METAVARS = {int: "N", float: "F", str: None, Path: "DIR"}


def batch_tokens(help: str, affects: str, on_cpu: int, elsewhere: int):
    """The field of --batch-tokens, whose default depends on the device."""
    help += f"; auto: {on_cpu:,} on a CPU, {elsewhere:,} elsewhere"
    kind = auto_or(integer(most=10_000_000))
    return option("auto", help, affects, "padded tokens", kind, auto=(on_cpu, elsewhere))


SHARD = (
    "with torchrun: divide each layer's weights among the processes, for a model that one device "
    "cannot hold; otherwise each process has the whole model, which is faster. train.py always "
    "shards"
)

ALLOW_OVERLAP = "continue even if DATA has exact copies of its test prompts, and count them"


# The settings of each script


@dataclass(frozen=True)
class Settings:
    """What the three scripts have in common."""

    model: Path = option(TOY / "model", "Hugging Face folder of the model")
    data: Path = option(TOY, "folder with detection/, instructions/, prompts/ and mmlu/")
    out: Path = option(Path("out"), "folder for results, shared by the three scripts")
    languages: tuple[str, ...] = option(
        TUNED, "language codes, separated by commas", kind=language_list
    )
    device: str = option("auto", "cpu, cuda, cuda:1, mps, or auto: the fastest available")
    dtype: str = option(
        "auto",
        "dtype of the weights in memory; auto: that of this script's earlier results, else the "
        "model's own, but float32 on a CPU without instructions for it",
        choices=["auto", "float32", "bfloat16", "float16"],
    )
    seed: int = option(
        0,
        "random seed",
        "neurons taylor dinm tuning validation replies perplexity xstest generate human",
        kind=SEED,
    )
    unchecked_template: bool = option(
        False, "do not compare the chat format with the model's own chat template, or a guard's"
    )

    def affecting(self, result: str) -> dict:
        """The settings that a kind of result depends on."""
        assert result in RESULTS, result  # else nothing would be compared with earlier results
        names = [setting.name for setting in fields(self) if result in setting.metadata["affects"]]
        return {name: getattr(self, name) for name in names}

    def part(self, kind: type, **more):
        """An object of another dataclass, made from the settings of the same names, and `more`."""
        names = [setting.name for setting in fields(kind) if setting.name not in more]
        return kind(**{name: getattr(self, name) for name in names}, **more)

    def record(self) -> dict[str, str]:
        """All settings as text, for the report."""
        return {setting.name: as_text(getattr(self, setting.name)) for setting in fields(self)}

    def resolved(self, device_type: str, config: Config):
        """The same settings with a number in place of every "auto" that depends on the device."""
        numbers = {}
        for setting in fields(self):
            auto = setting.metadata["auto"]
            if auto is not None and getattr(self, setting.name) == "auto":
                on_cpu, elsewhere = auto
                numbers[setting.name] = on_cpu if device_type == "cpu" else elsewhere
        return replace(self, **numbers)


@dataclass(frozen=True)
class DetectSettings(Settings):
    """Settings of detect.py."""

    select: tuple[str, ...] = option(
        ("auroc",),
        f"what neurons are chosen by, any of {', '.join(SELECTORS)}; taylor: the importance to the "
        "loss on the training pairs of DATA/instructions, for train.py --by taylor; dinm: the "
        "layer that tells their replies and their rejected replies apart, for --by dinm",
        nargs="+",
        choices=SELECTORS,
        metavar="S",
    )
    of: str | None = option(
        None,
        "model in OUT/models that was tuned from --model, whose neurons are measured into "
        "OUT/neurons-of/NAME, to compare them; default: none, but --model itself",
        metavar="NAME",
    )
    pool: str = option(
        "max",
        "how the responses to a sentence's tokens become one response",
        "neurons",
        choices=["max", "mean"],
    )
    match_length: bool = option(
        False, "use as many toxic as clean sentences of every length", "neurons"
    )
    sentences: int = option(5_000, "maximum number of sentences of each class", "neurons")
    max_tokens: int = option(
        128, "longest sentence; longer ones are cut, and counted", "neurons", "tokens"
    )
    toxic_above: float = option(0.5, "a sentence of higher toxicity is toxic", "neurons")
    clean_below: float = option(0.2, "a sentence of lower toxicity is clean", "neurons")
    batch_tokens: int | str = batch_tokens(
        "size of a batch, of taylor a micro-batch", "neurons taylor", 1_024, 4_096
    )
    control_neurons: int = option(
        2_000,
        "size of the random sample of neurons on which the random-label band and the split-half "
        "agreement are estimated",
        "neurons",
    )
    pairs: int = option(
        1_000,
        "taylor and dinm: maximum number of pairs of each language; this setting and the next two "
        "must be as in train.py",
        "taylor dinm",
    )
    validation_share: float = option(
        0.05,
        "taylor and dinm: share of the pairs that are kept for validation, and for the test",
        "taylor dinm",
    )
    max_pair_tokens: int = option(
        512,
        "taylor and dinm: longest pair; in train.py it is --max-tokens",
        "taylor dinm",
        "tokens",
    )
    batch_size: int = option(8, "taylor and dinm: size of a batch", "taylor dinm", "pairs")
    reference: bool = option(
        False,
        "use the readable implementations of AUROC, which compares all pairs of sentences, and of "
        "the loss",
        "taylor",
    )
    allow_overlap: bool = option(False, ALLOW_OVERLAP)
    shard: bool = option(False, SHARD)

    def __post_init__(self):
        if self.of is not None and self.select != ("auroc",):
            raise ValueError("--of compares AUROCs; leave out --select")
        if self.clean_below > self.toxic_above:
            raise ValueError(
                f"--clean-below {self.clean_below:g} must not be above "
                f"--toxic-above {self.toxic_above:g}: a sentence would be in both classes"
            )

    def resolved(self, device_type: str, config: Config):
        """Also limits the length of a pair to what the model can read, as train.py does."""
        longest = min(self.max_pair_tokens, config.longest)
        return replace(super().resolved(device_type, config), max_pair_tokens=longest)


@dataclass(frozen=True)
class TrainSettings(Settings):
    """Settings of train.py."""

    strategy: tuple[str, ...] = option(
        strategies.DEFAULT,
        f"models to make, any of {', '.join(strategies.TUNED + strategies.SCALED)}",
        nargs="+",
        choices=strategies.TUNED + strategies.SCALED,
        metavar="S",
    )
    draws: int = option(
        5,
        f"models of each of {', '.join(strategies.DRAWN)}, which differ in their neurons alone; "
        "a larger number keeps the models that are there",
        kind=integer(most=100),
    )
    by: str = option(
        "auroc",
        "what neurons are chosen by; the models of another selector have its name before their own",
        choices=SELECTORS,
    )
    neurons: Path | None = option(
        None, "folder that detect.py wrote; default: OUT/neurons, or OUT/neurons-taylor and so on"
    )
    threshold: float = option(
        0.5, "a neuron of higher AUROC is toxic", "choice", group="toxic neurons"
    )
    top_share: float | None = option(
        None,
        "instead: this share of all neurons, those of highest AUROC",
        "choice",
        group="toxic neurons",
    )
    order: tuple[str, ...] | None = option(
        None,
        "order of the languages: in which per-language, its controls and specific tune them, and "
        "in which the pairs of all are listed for the other strategies; default: as in "
        "--languages",
        kind=language_list,
    )
    orders: int = option(
        1,
        f"orders of the languages in which {', '.join(strategies.ORDERED)} are made: the first, "
        "then others that are drawn at random, as OUT/models/<strategy>-order-2 and so on; a "
        "larger number keeps the models that are there",
        kind=integer(most=100),
    )
    independent: bool = option(
        False, "per-language: one model for each language instead of one for all"
    )
    language: str | None = option(
        None,
        "language whose AUROC aura, damp, det0 and their controls use; default: that of all "
        "languages",
        "scaling",
    )
    damp: float = option(0.5, "factor of toxic neurons in damp", "scaling")
    pairs: int = option(
        1_000, "maximum number of pairs of each language to tune on", "tuning validation"
    )
    # DEVIATION: some pairs are kept aside to measure the loss on; the paper trains on all 1,000
    validation_share: float = option(
        0.05,
        "share of the pairs that are kept for validation; as many are kept for the test",
        "tuning validation",
    )
    max_tokens: int = option(
        512,
        "longest pair; longer ones are dropped, and longer rejected replies cut; both are counted",
        "tuning validation",
        "tokens",
    )
    objective: str = option(
        "sft",
        "sft: the loss on the replies; dpo: prefer them to the rejected replies of the same pairs, "
        "as OUT/models/dpo-<strategy>",
        "preference",
        choices=strategies.OBJECTIVES,
    )
    beta: float = option(
        0.1, "dpo: strength of the tie to the base model", "preference", kind=number(1e-6, 1_000)
    )
    label_smoothing: float = option(
        0.0,
        "dpo: assumed share of pairs whose reply and rejected reply are swapped",
        "preference",
        kind=number(0, 0.5),
    )
    # DEVIATION: the paper gives no learning rate, schedule, batch size, epochs or weight decay;
    # these are ours
    epochs: int = option(1, "passes over the pairs", "tuning", kind=integer(most=10_000))
    rates: list | str = option(
        "auto",
        "learning rate of AdamW after warm-up; of several, every model is made at each, as "
        "OUT/models/NAME@R, and the one of lowest validation loss becomes OUT/models/NAME; auto: "
        "0.128 / hidden_size / share of the weights that are tuned (at least 0.028), times 0.3 for "
        "dpo, lower in proportion if the MLP's weights have a root mean square below 0.118",
        "tuning",
        kind=auto_or(number(1e-12, 1_000_000)),
        flag="--lr",
        nargs="+",
        metavar="R",
    )
    schedule: str = option(
        "cosine",
        "schedule of the learning rate after warm-up",
        "tuning",
        choices=["cosine", "constant"],
    )
    warmup: float = option(0.1, "share of the steps in which the learning rate rises", "tuning")
    batch_size: int = option(8, "size of a batch", "tuning", "pairs")
    batch_tokens: int | str = batch_tokens(
        "size of a micro-batch; a step consists of as many as it needs",
        "tuning validation",
        1_024,
        16_384,
    )
    weight_decay: float = option(
        0.01, "weight decay of the chosen rows", "tuning", kind=number(0, 10)
    )
    max_grad_norm: float = option(
        1.0, "maximum gradient norm, over the chosen rows", "tuning", kind=number(1e-9, 1_000_000)
    )
    reference: bool = option(
        False,
        "use the readable implementations of optimizer and loss, which need more memory",
        "tuning validation",
    )
    activation_checkpointing: bool = option(
        False, "keep no activations inside layers: less memory, more time", "tuning"
    )
    checkpoint_steps: int = option(50, "steps between checkpoints")
    allow_overlap: bool = option(False, ALLOW_OVERLAP)
    delta: bool = option(
        False, "also write OUT/models/<strategy>.delta.safetensors, with the changed rows alone"
    )

    def __post_init__(self):
        self.check_selector()
        if self.independent and self.orders > 1:
            raise ValueError("--orders: --independent models have no order; leave out one of both")
        scaled = [name for name in self.strategy if name in strategies.SCALED]
        if self.objective != "sft" and scaled:
            raise ValueError(
                f"--objective {self.objective}: {scaled[0]} is not tuned; make it in a run of its "
                "own without this option"
            )
        if self.objective == "sft" and self.given("beta", "label_smoothing"):
            raise ValueError("--beta and --label-smoothing are of --objective dpo; add it")
        if isinstance(self.rates, str):
            return
        names = [f"{rate:g}" for rate in self.rates if rate != "auto"]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"--lr: two of the rates are {name} in the names of the models")
        if "auto" in self.rates and names:
            raise ValueError("--lr: auto is a rate of its own for each model; give it alone")

    def given(self, *names: str) -> bool:
        """Whether any of these settings is not the default."""
        defaults = {setting.name: setting.default for setting in fields(self)}
        return any(getattr(self, name) != defaults[name] for name in names)

    def check_selector(self):
        """ValueError if a strategy or the size of the sets needs AUROC, and --by is another."""
        if self.by == "auroc":
            return
        if refused := [name for name in self.strategy if name in strategies.BY_AUROC]:
            raise ValueError(
                f"--by {self.by} has no AUROC, which these strategies need: {', '.join(refused)}; "
                "leave them out"
            )
        if self.by == "dinm":
            if self.given("threshold", "top_share"):
                raise ValueError(
                    "--by dinm chooses all down_proj rows of one layer; leave --threshold and "
                    "--top-share out"
                )
            return
        if self.top_share is None:
            raise ValueError(
                f"--by {self.by} needs --top-share: its values are no AUROCs, so no threshold "
                "separates neurons that matter from others"
            )

    def resolved(self, device_type: str, config: Config):
        """Also limits the length of a pair to what the model can read; `rates` become a list."""
        rates = "auto" if "auto" in self.rates else sorted(self.rates)
        longest = min(self.max_tokens, config.longest)
        return replace(super().resolved(device_type, config), rates=rates, max_tokens=longest)


def types_of_training(kind: str) -> dict[str, type]:
    """The types of the settings of train.py that a kind of result depends on."""
    return types_of(TrainSettings, kind)


def types_of_detection() -> dict[str, type]:
    """The types of the settings of detect.py that AUROCs depend on."""
    return types_of(DetectSettings, "neurons")


def types_of(settings: type, kind: str) -> dict[str, type]:
    """The types of those settings that a kind of result depends on."""
    return {
        setting.name: setting.type
        for setting in fields(settings)
        if kind in setting.metadata["affects"]
    }


@dataclass(frozen=True)
class EvaluateSettings(Settings):
    """Settings of evaluate.py."""

    languages: tuple[str, ...] = option(
        tuple(NAMES), "language codes, separated by commas", kind=language_list
    )
    models: tuple[str, ...] | None = option(
        None,
        "base, names of folders in OUT/models, or NAME=DIR; default: base and all of OUT/models",
        nargs="+",
        metavar="M",
    )
    scorer: tuple[str, ...] | None = option(
        None,
        "surrogate:FILE, encoder:DIR, guard:DIR or perspective; the first judges the replies, "
        "others are shown beside it; default: surrogate:DATA/scorer.safetensors",
        nargs="+",
        metavar="S",
    )
    # on by default, so the option is --no-hatecheck
    hatecheck: bool = option(
        True, "do not score the cases of DATA/hatecheck, which cost a slow or paid scorer time"
    )
    perspective_url: str = option(
        GOOGLE_URL,
        "address of a server with the interface of the Perspective API; the key in "
        "PERSPECTIVE_API_KEY is sent there",
    )
    per_minute: float = option(
        60,
        "maximum rate of requests to it",
        unit="requests a minute",
        kind=number(0.01, 1_000_000),
    )
    prompts: int | None = option(
        None, "maximum number of prompts of each language, drawn at random; default: all", "replies"
    )
    max_new_tokens: int = option(
        64, "longest reply; a longer one is cut, and counted", "replies xstest", "tokens"
    )
    temperature: float = option(
        0.0, "0: always the most likely token", "replies xstest", kind=TEMPERATURE
    )
    top_p: float = option(
        1.0,
        "sample from the most likely tokens that reach this probability",
        "replies xstest",
        kind=number(0.001, 1),
    )
    samples: int = option(
        1,
        "replies to each prompt; several need a --temperature",
        "replies xstest",
        kind=integer(most=1_000),
    )
    # on by default, so the option is --no-mmlu
    mmlu: bool = option(True, "leave out the questions of DATA/mmlu")
    answer_tokens: int = option(16, "longest answer to a question", "mmlu", "tokens")
    # on by default, so the option is --no-xstest
    xstest: bool = option(
        True, "leave out the prompts of DATA/xstest, whose replies are scored as well"
    )
    perplexity: int = option(
        50,
        "maximum number of clean sentences of DATA/detection of each language; 0: none",
        "perplexity",
        kind=integer(0),
    )
    max_tokens: int = option(
        128,
        "longest of these sentences, and of a reply whose fluency is measured; longer ones are cut",
        "perplexity human",
        "tokens",
    )
    batch_tokens: int | str = batch_tokens(
        "prompts and replies in memory at once",
        "replies mmlu perplexity xstest human",
        8_192,
        65_536,
    )
    shard: bool = option(False, SHARD)
    language_id: str = option(
        "script",
        "detector of the language of a reply; langid: the paper's, from the package py3langid",
        choices=["script", "langid"],
    )
    allow_overlap: bool = option(False, ALLOW_OVERLAP)
    margin: float = option(
        MARGIN, "largest increase in mean toxicity over random neurons that counts as no worse"
    )
    others_below: int = option(20, "reply languages seen less often are counted as others")
    show_text: bool = option(False, "put prompts and replies into the report; they may be toxic")

    def __post_init__(self):
        if self.samples > 1 and not self.temperature:
            raise ValueError(
                "--samples above 1 needs a --temperature above 0: "
                "the most likely reply is always the same"
            )


# The command line


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default if there is one and the help does not mention it."""

    def _get_help_string(self, action):
        mentioned = action.default in (None, False) or "default" in action.help
        return action.help if mentioned else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """A parser that raises an InputError for every mistake; options cannot be abbreviated."""

    def __init__(self, **more):
        super().__init__(allow_abbrev=False, **more)

    def parse_known_args(self, argv=None, namespace=None):
        argv = sys.argv[1:] if argv is None else list(argv)
        # 1) options that do not exist; argparse may take their values for other arguments
        for argument in argv:
            is_option = argument.startswith("--")
            if argument == "--" or self._subparsers and not is_option:
                break  # no options follow, or only those of a command
            option = argument.partition("=")[0]
            if is_option and option not in self._option_string_actions:
                self.refuse(option)
        # 2) the others
        namespace, unknown = super().parse_known_args(argv, namespace)
        if unknown:
            self.refuse(unknown[0])
        return namespace, unknown

    def refuse(self, argument: str) -> NoReturn:
        """InputError about an unknown argument; suggests an option with a similar name."""
        if not argument.startswith("-"):
            self.error(f"unexpected argument {argument!r}; --help lists all options")
        options = [option for option in self._option_string_actions if option.startswith("--")]
        alike = [option for option in options if option.startswith(argument)]
        if not alike and len(argument) > 2:  # a single letter resembles too many options
            alike = get_close_matches(argument, options, n=1)
        guess = f"; did you mean {alike[0]}?" if alike else ";"
        self.error(f"unrecognized option {argument}{guess} --help lists all options")

    def error(self, message: str) -> NoReturn:
        raise InputError(message.removeprefix("argument "))


def parse(kind: type, description: str, argv: list[str] | None = None):
    """Settings from the command line; InputError about a mistake in it."""
    values = vars(make_parser(kind, description).parse_args(argv))
    for name, value in values.items():
        if isinstance(value, list):  # an option with several values; repeated ones are dropped
            values[name] = tuple(dict.fromkeys(value))
    with user_errors():
        return kind(**values)


def make_parser(kind: type, description: str) -> Parser:
    """A parser with an option for each field of a settings class."""
    parser = Parser(description=description)
    groups = {}
    for setting in fields(kind):
        group = setting.metadata["group"]
        if group and group not in groups:
            groups[group] = parser.add_mutually_exclusive_group()
        add_option(groups.get(group, parser), setting)
    return parser


def add_option(parser, setting):
    """Add the option of one field."""
    flag = setting.metadata["flag"] or f"--{setting.name.replace('_', '-')}"
    help = setting.metadata["help"].replace("%", "%%")
    default = setting.default

    # A flag; if it is on by default, the option turns it off
    if default is False:
        parser.add_argument(flag, action="store_true", help=help)
        return
    if default is True:
        flag = flag.replace("--", "--no-")
        parser.add_argument(flag, dest=setting.name, action="store_false", help=help)
        return
    more = dict(setting.metadata["more"])
    if not flag.startswith("-"):
        parser.add_argument(flag, help=help, **more)
        return

    # A value; its unit and its default complete the help
    details = [setting.metadata["unit"]]
    if default is not None:
        details.append(f"default: {as_text(default)}")
    if any(details):
        help += f" ({', '.join(filter(None, details))})"
    kind = setting.metadata["kind"] or KINDS[type_of(setting)]
    if "choices" not in more:
        more.setdefault("metavar", METAVARS[type_of(setting)] or setting.name.upper())
    parser.add_argument(flag, dest=setting.name, type=kind, default=default, help=help, **more)


def type_of(setting) -> type:
    """The type of a field, without `| None`; str for a tuple."""
    first = get_args(setting.type)[:1] or [setting.type]
    return first[0] if first[0] in KINDS else str


def as_text(value) -> str:
    """A setting's value as help and report show it."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
