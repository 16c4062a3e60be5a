"""What people would use instead: LoRA of the package peft, on the very pairs of train.py.

    python tests/lora.py OUT --model DIR --data DATA --share 0.29
        [--lr 1e-4 3e-4 1e-3 3e-3] [--languages en,de] [--pairs 100] [--dtype bfloat16]

Adapters on gate_proj, up_proj and down_proj of every layer, of the rank that gives them the share
of the model's weights nearest to --share; alpha is the rank, so that their product is added as it
is. The model that is tuned is that of transformers; pairs, their order, loss, optimizer, schedule
and clipping are those of train.py --strategy full. It is tuned at several learning rates, and the
one of lowest validation loss is merged into the model and written to OUT, which evaluate.py reads
as --models lora=OUT. Needs peft and transformers. After a kill, rerun the same command: rates that
were tried are not tried again.
"""

import sys
from dataclasses import dataclass, field, fields, make_dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks import peers  # noqa: E402
from minitox import locks, neurons  # noqa: E402
from minitox.errors import InputError, NotFinite, user_errors  # noqa: E402
from minitox.files import (  # noqa: E402
    FORMAT,
    as_written,
    read_tensors,
    versions,
    write_json,
    write_tensors,
)
from minitox.lm import checkpoint  # noqa: E402
from minitox.lm.config import Config, read_config  # noqa: E402
from minitox.lm.model import LanguageModel  # noqa: E402
from minitox.run import outputs, overlap_check, script, training  # noqa: E402
from minitox.run.device import describe, identity, open_device  # noqa: E402
from minitox.run.progress import Progress  # noqa: E402
from minitox.run.rates import without_rate  # noqa: E402
from minitox.run.settings import Settings, TrainSettings, option, parse  # noqa: E402
from minitox.run.tokenizer import open_tokenizer  # noqa: E402
from minitox.run.training_inputs import read_neurons_and_pairs, recorded_split  # noqa: E402
from minitox.run.training_record import check_files, file_hashes  # noqa: E402
from minitox.run.tuning import Procedure  # noqa: E402
from minitox.train.loss import add_gradients, sft  # noqa: E402
from minitox.train.optim import MaskedAdamW  # noqa: E402
from minitox.train.pairs import Pair, PairChoice, Pairs  # noqa: E402
from minitox.train.strategies import Stage, count_weights  # noqa: E402
from minitox.train.tune import Hyperparameters, tune  # noqa: E402

DESCRIPTION = "Tune adapters of peft's LoRA on the pairs of train.py, and merge them."
RATES = [1e-4, 3e-4, 1e-3, 3e-3]  # what --lr auto means

# the settings that are those of train.py
SHARED = (
    *("pairs", "validation_share", "max_tokens", "epochs", "rates", "schedule", "warmup"),
    *("batch_size", "batch_tokens", "weight_decay", "max_grad_norm", "allow_overlap"),
)
FIXED = {"reference": False, "activation_checkpointing": False}  # likewise, with one value


def as_in_training(setting) -> tuple:
    """A field of train.py's settings, for another class."""
    return setting.name, setting.type, field(default=setting.default, metadata=setting.metadata)


Shared = make_dataclass(
    "Shared",
    [as_in_training(setting) for setting in fields(TrainSettings) if setting.name in SHARED],
    bases=(Settings,),
    frozen=True,
)


@dataclass(frozen=True)
class LoraSettings(Shared):
    """Settings of lora.py."""

    out: Path = option(Path("lora"), "folder of the merged model", flag="out", type=Path)
    share: float = option(0.1, "share of the model's weights that the adapters have", "tuning")

    def resolved(self, device_type: str, config: Config):
        """As of train.py: also limits the length of a pair to what the model can read."""
        rates = self.rates if "auto" in self.rates else sorted(self.rates)
        longest = min(self.max_tokens, config.longest)
        return replace(super().resolved(device_type, config), rates=rates, max_tokens=longest)


def main(argv: list[str] | None = None) -> None:
    settings = parse(LoraSettings, DESCRIPTION, argv)
    check_packages()
    config = read_config(settings.model)
    device, dtype = open_device(settings.device, settings.dtype, config)
    training.check_dtype(dtype)
    settings = settings.resolved(device.type, config)
    rates = RATES if "auto" in settings.rates else settings.rates

    # 1) the pairs of train.py, and adapters with the share of the weights
    tokenizer = open_tokenizer(settings.model, config, None, settings.unchecked_template)
    pairs = read_pairs(settings, tokenizer)
    check_validation(pairs, rates)
    rank = rank_of(config, settings.share)
    base = identity(checkpoint.fingerprint(settings.model), device, dtype)
    made_with = depend_on(settings, base, pairs, rank)
    print(f"{settings.model}: {describe(config, device, dtype, tokenizer.checked)}")
    print(about(config, rank, settings.share), flush=True)
    locks.acquire(settings.out.with_name(f".{settings.out.name}.lock"))
    if outputs.is_done(settings.out, made_with, recorded):
        check_files(settings.out)
        print(f"{settings.out} is there")
        return

    # 2) tune them at every rate
    with outputs.step(settings.out, made_with) as step:
        peft_model = with_adapters(settings.model, rank, device, dtype, settings.seed)
        peer = Peer(peft_model, config)
        procedure = Procedure(settings.batch_tokens)
        before = training.losses_aside(peer, pairs, procedure, settings.model)
        tried = {}
        for lr in rates:
            hyper = settings.part(Hyperparameters, lr=lr)
            trial = step.work / f"{lr:g}.safetensors"
            tried[lr] = try_rate(peft_model, peer, pairs, hyper, procedure, trial)
            print(f"rate {lr:g}: {outcome(tried[lr])}", flush=True)

        # 3) the best of them is merged, and measured as train.py does its models
        best = best_of(tried)
        print(at_the_end(best, rates), end="", flush=True)
        put(peft_model, read_trial(step.work / f"{best:g}.safetensors")[0])
        model = merged(peft_model, settings.model, device, dtype)
        after = training.losses_aside(model, pairs, procedure)
        record = make_record(made_with | {"lr": best}, pairs, before, after, tried, config, rank)
        checkpoint.save(model, step.unfinished, settings.model)
        record["files"] = file_hashes(step.unfinished)
        write_json(step.unfinished / "run.json", record)
    print(f"wrote {settings.out}, learning rate {best:g}")


def check_packages() -> None:
    """InputError if peft or transformers is missing."""
    try:
        import peft  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"LoRA needs the packages peft and transformers ({error}); "
            "python -m pip install peft transformers"
        ) from None


# ---------- what is tuned


def read_pairs(settings: LoraSettings, tokenizer) -> dict[str, Pairs]:
    """The pairs that train.py --strategy full reads."""
    choice = settings.part(PairChoice, objective="sft")
    no_neurons = Path()
    _, pairs = read_neurons_and_pairs(
        settings.languages, None, ("full",), no_neurons, settings.data, tokenizer, choice
    )
    overlap_check.check(settings.data, ["instructions"], pairs, settings.allow_overlap)
    return pairs


def check_validation(pairs: dict[str, Pairs], rates: list[float]) -> None:
    """InputError if nothing can choose among several rates."""
    if len(rates) > 1 and not any(of_language.validation for of_language in pairs.values()):
        raise InputError(
            "--lr: no validation pairs can choose among several rates; give one rate, or a higher "
            "--validation-share"
        )


def weights_of_rank_1(config: Config) -> int:
    """How many weights adapters of rank 1 have: a column and a row for each matrix."""
    with torch.device("meta"):  # shapes only, no memory
        model = LanguageModel(config)
    weights = 0
    for name in neurons.module_rows(config):
        weights += sum(model.get_submodule(name).weight.shape)
    return weights


def rank_of(config: Config, share: float) -> int:
    """The rank at which adapters have the share of the model's weights nearest to this one.

    InputError if that is no low rank.
    """
    rank = max(1, round(share * count_weights(config, None) / weights_of_rank_1(config)))
    highest = min(config.hidden_size, config.intermediate_size)
    if rank >= highest:
        raise InputError(
            f"--share {share:g} needs adapters of rank {rank:,}, and the matrices have rank "
            f"{highest:,}; give a smaller share"
        )
    return rank


def about(config: Config, rank: int, share: float) -> str:
    """The rank, and the number of weights beside the one that was asked for."""
    total = count_weights(config, None)
    weights = rank * weights_of_rank_1(config)
    return (
        f"adapters of rank {rank:,}: {weights:,} weights, {weights / total:.3%} of all {total:,}; "
        f"--share {share:.3%} is {round(share * total):,}"
    )


def with_adapters(folder: Path, rank: int, device, dtype, seed: int):
    """The model of transformers with adapters that change nothing yet, in float32."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
    torch.manual_seed(seed)
    return peers.with_lora(model, rank).eval()


class Peer:
    """A model of transformers, with the methods by which minitox's losses call one of its own."""

    def __init__(self, peft_model, config: Config):
        self.peer = peft_model.get_base_model()
        self.config = config
        self.model = Layers(self.peer.model)
        # of Cohere's models
        self.logit_scale = getattr(self.peer.config, "logit_scale", None) or 1

    def logits(self, states):  # (n, D) -> (n, V)
        return self.peer.lm_head(states) * self.logit_scale


class Layers:
    """The same without the head."""

    def __init__(self, layers):
        self.layers = layers
        self.embed_tokens = layers.embed_tokens

    def __call__(self, ids):  # (B, T) -> (B, T, D)
        # padding is on the right, where no token attends to it
        return self.layers(input_ids=ids, use_cache=False).last_hidden_state


def adapters(peft_model) -> dict[str, torch.nn.Parameter]:
    """The weights that are tuned."""
    return {name: weight for name, weight in peft_model.named_parameters() if weight.requires_grad}


@torch.no_grad()
def put(peft_model, values: dict) -> None:
    """Give the adapters these values."""
    for name, weight in adapters(peft_model).items():
        weight.copy_(values[name])


# ---------- tuning


def try_rate(
    peft_model, peer: Peer, pairs: dict[str, Pairs], hyper, procedure: Procedure, path: Path
) -> dict:
    """Tune the adapters from the start and write them, unless a killed run has.

    Returns the losses of the steps and on validation pairs, or why it failed.
    """
    start = path.with_name("start.safetensors")
    if not start.exists():
        write_trial(start, peft_model, {"losses": [], "validation": {}, "failed": ""})
    if path.exists():
        return read_trial(path)[1]
    put(peft_model, read_trial(start)[0])
    trial = {"losses": [], "validation": {}, "failed": ""}
    examples = training.examples_of(Stage("all", None, list(pairs)), pairs)
    steps = hyper.steps(len(examples))
    try:
        with Progress(steps).task(f"rate {hyper.lr:g}", steps, "steps") as show:
            for loss in losses_of_steps(peft_model, peer, examples, hyper, procedure):
                trial["losses"].append(loss)
                show(len(trial["losses"]), f", loss {loss:.3f}")
        aside = training.losses_aside(peer, pairs, procedure, parts=("validation",))
        trial["validation"] = aside["validation"]
    except NotFinite as error:
        trial["failed"] = str(error)
        put(peft_model, read_trial(start)[0])  # numbers that can be written
    write_trial(path, peft_model, trial)
    return trial


def losses_of_steps(peft_model, peer: Peer, examples: list[Pair], hyper, procedure: Procedure):
    """The loop of train.py on the adapters; yields the loss of each step. NotFinite as there."""
    weights = adapters(peft_model)
    every_row = {}
    for name, weight in weights.items():
        every_row[name] = torch.ones(len(weight), dtype=torch.bool, device=weight.device)
    optimizer = MaskedAdamW(weights, every_row, decay=hyper.weight_decay)
    objective = sft(reference=False)
    add = partial(
        add_gradients, peer, objective=objective, micro_batch_tokens=procedure.batch_tokens
    )
    with user_errors():
        yield from tune(optimizer, examples, hyper, add)


def write_trial(path: Path, peft_model, trial: dict) -> None:
    values = {name: weight.detach().cpu() for name, weight in adapters(peft_model).items()}
    write_tensors(path, values, "lora", trial)


def read_trial(path: Path) -> tuple[dict, dict]:
    """The adapters of a trial, and what is known of it."""
    values, trial = read_tensors(path, "lora", "trial")
    kinds = {"losses": [float], "validation": {str: float | None}, "failed": str}
    return values, as_written(path, trial, **kinds)


def validation_loss(trial: dict) -> float | None:
    """The mean over the languages, which chooses a rate; None without validation pairs."""
    losses = [loss for loss in trial["validation"].values() if loss is not None]
    return mean(losses) if losses else None


def outcome(trial: dict) -> str:
    """The validation loss in words, or why there is none."""
    loss = validation_loss(trial)
    if trial["failed"] or loss is None:
        return trial["failed"] or "no validation pairs"
    return f"validation loss {loss:.4f}"


def best_of(tried: dict[float, dict]) -> float:
    """The rate of lowest validation loss, of equal ones the lowest; InputError if all failed."""
    usable = [lr for lr, trial in tried.items() if not trial["failed"]]
    if not usable:
        reasons = "; ".join(f"{lr:g}: {trial['failed']}" for lr, trial in tried.items())
        raise InputError(f"LoRA failed at every learning rate: {reasons}; try a lower --lr")
    if len(usable) == 1:
        return usable[0]
    return min(usable, key=lambda lr: (validation_loss(tried[lr]), lr))


def at_the_end(best: float, rates: list[float]) -> str:
    """A warning if a rate outside those that were tried may be better."""
    for end, word in ((min(rates), "lower"), (max(rates), "higher")):
        if best == end and len(rates) > 1:
            return f"{best:g} is at the end of the rates: try a {word} one as well (--lr)\n"
    return ""


# ---------- the result


@torch.no_grad()
def merged(peft_model, folder: Path, device, dtype) -> LanguageModel:
    """minitox's model of the folder, with the MLP's weights that peft has merged."""
    weights = peft_model.merge_and_unload().state_dict()
    model = checkpoint.load(folder, device, dtype)
    for name in neurons.module_rows(model.config):
        model.get_submodule(name).weight.copy_(weights[f"{name}.weight"])
    return model


def depend_on(settings: LoraSettings, base: dict, pairs: dict[str, Pairs], rank: int) -> dict:
    """All that the model depends on, except the rate that is chosen."""
    return {
        **base,
        "strategy": "lora",
        "draw": None,
        "languages": list(pairs),
        "data": {language: of_language.data_hash for language, of_language in pairs.items()},
        **recorded_split(pairs),
        "rank": rank,
        **settings.affecting("tuning"),
        **settings.affecting("validation"),
        **FIXED,
    }


def recorded(folder: Path) -> dict:
    """What an earlier result was made with, except its rate."""
    return without_rate(outputs.read_record(folder)["settings"])


def make_record(
    settings: dict,
    pairs: dict[str, Pairs],
    before: dict[str, dict],  # as `losses_aside` gives them
    after: dict[str, dict],
    tried: dict[float, dict],
    config: Config,
    rank: int,
) -> dict:
    """run.json, with what train.py records of a model except the proof: every MLP row changes."""
    rows = sum(neurons.module_rows(config).values())
    return {
        "format": FORMAT,
        "settings": settings,
        "versions": versions(),
        "chosen": {
            "neurons": rows,
            "of_neurons": rows,
            "weights": rank * weights_of_rank_1(config),
            "of_weights": count_weights(config, None),
            "toxic": None,
            "sha256": None,
        },
        **training.recorded_losses(pairs, before, after),
        "stages": [{"name": "all", "losses": tried[settings["lr"]]["losses"]}],
        "rates": {f"{lr:g}": trial["failed"] or trial["validation"] for lr, trial in tried.items()},
    }


if __name__ == "__main__":
    script.run(main)
