"""Do the toxic neurons matter? They are tuned, and so are their controls, at several shares.

    python tests/evidence.py FOLDER [--model DIR --data DATA --out OUT]
        [--shares 0.02 0.1 paper] [--strategy multilingual random shuffled lowest]
        [--by auroc taylor dinm] [--objective sft dpo]
        [--draws 10] [--seeds 0 1 2] [--dtype bfloat16] [--pairs 100] [--prompts 30]
        [--dpo-lr 1e-4 3e-4] [--all-measures]
    python tests/evidence.py FOLDER --show

For each share and seed: train.py and evaluate.py, whose models stay in OUT, and whose results go
to FOLDER/SHARE-SEED.json. What is there is not made again, so a killed run can be repeated, and
strategies, draws, shares and seeds can be added, as long as OUT has the other models of the same
share and seed; another model, other data or other options need another FOLDER. Ends with the table
of all results in FOLDER, and FOLDER/figure.svg; with --show, it does only that. `paper` is the
paper's rule, AUROC above 0.5; a share is --top-share, except that `--by dinm` always chooses one
layer. What needs AUROC is made by AUROC alone. Seeds are of training: of the pairs, their order,
and the random neurons. With --all-measures, evaluate.py also asks MMLU's and XSTest's questions and
reads clean text, and a second table shows what tuning costs.

The strategy `lora` is that of tests/lora.py, with as many weights as `multilingual` and learning
rates of its own; it needs the packages peft and transformers.
"""

import argparse
import hashlib
import math
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import geometric_mean, mean

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from minitox.errors import InputError  # noqa: E402
from minitox.evaluate import metrics  # noqa: E402
from minitox.files import (  # noqa: E402
    as_written,
    file_hash,
    hash_without,
    read_json,
    write_json,
    write_text,
)
from minitox.lm import checkpoint  # noqa: E402
from minitox.neurons import SELECTORS  # noqa: E402
from minitox.report import figures  # noqa: E402
from minitox.report.page import aligned  # noqa: E402
from minitox.run import script  # noqa: E402
from minitox.run.neuron_files import FOLDERS  # noqa: E402
from minitox.run.training_record import CHOSEN, read_losses  # noqa: E402
from minitox.train import strategies  # noqa: E402
from minitox.train.model_names import ModelName  # noqa: E402

LORA = "lora"  # of tests/lora.py, in place of a strategy of train.py
PAPER = "paper"  # the paper's rule, in place of a share
STRATEGIES = ("multilingual", "random", "shuffled", "lowest")

# what a result file has of the settings in report.json; paths and hashes are not of interest
SETTINGS = (
    *("device", "dtype", "languages", "scorer", "prompts", "samples", "max_new_tokens"),
    *("temperature", "top_p", "language_id", "margin", "python", "torch", "numpy"),
)

# what a result was made with that not all of a folder need to have, as not all have such models
OF_SOME = ("dpo_lr", "lora_lr", "rejected")

# what a result file has of each model
MODEL = {
    "strategy": str,
    "draw": int | None,
    "lr": float | None,
    "neurons": float,  # share of all
    "weights": float,  # share of all
    "test_loss": float | None,  # mean over the languages
    "test_pairs": int,  # of all languages together
    "toxicity": [float],  # mean over the languages, and its interval
    "clean": float,  # share of replies that are clean in language, mean over the languages
}

# the columns of what tuning costs, with what they are in a model of a result file, if measured
PRICES = {
    "MMLU": ("accuracy", "{:.1%}"),
    "perplexity": ("perplexity", "{:.1f}"),
    "KL from base": ("divergence", "{:.3f}"),
    "safe refused": ("safe refused", "{:.1%}"),
    "wrong language": ("wrong language", "{:.1%}"),
    "clean but broken": ("broken", "{:.1%}"),
}


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    if not args.show:
        made_with = made_with_of(args)
        for share in args.shares:
            for seed in args.seeds:
                complete(args, share, seed, made_with)
    results = read_all(args.folder)
    print(aligned(table(results)))
    print(f"  {ABOUT_DIFFERENCES}")
    print(f"  {about_losses(results)}")
    for line in other_differences(results):
        print(line)
    prices = price_table(results)
    if len(prices) > 1:
        print("", aligned(prices), sep="\n")
    path = args.folder / "figure.svg"
    write_text(path, figure(results))
    print(f"wrote {path}")


def parse_arguments(argv) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the results")
    parser.add_argument("--show", action="store_true", help="only show the results that are there")
    parser.add_argument("--model", type=Path, default=ROOT / "data/toy/model")
    parser.add_argument("--data", type=Path, default=ROOT / "data/toy")
    parser.add_argument("--out", type=Path, default=Path("out/evidence"), help="folder of models")
    parser.add_argument("--shares", nargs="+", default=["0.02", PAPER], metavar="SHARE")
    parser.add_argument("--strategy", nargs="+", default=STRATEGIES, metavar="NAME")
    parser.add_argument("--by", nargs="+", default=["auroc"], choices=SELECTORS)
    parser.add_argument("--objective", nargs="+", default=["sft"], choices=strategies.OBJECTIVES)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    parser.add_argument("--lr", nargs="+", default=["auto"], metavar="RATE")
    parser.add_argument("--lora-lr", nargs="+", default=["auto"], metavar="RATE")
    parser.add_argument("--dpo-lr", nargs="+", metavar="RATE", help="with dpo; default: --lr")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--pairs", help="of train.py")
    parser.add_argument("--batch-tokens", help="of train.py")
    parser.add_argument("--max-tokens", help="of train.py")
    parser.add_argument("--validation-share", help="of train.py")
    parser.add_argument("--prompts", help="of evaluate.py")
    parser.add_argument(
        "--all-measures", action="store_true", help="also knowledge, refusals and clean text"
    )
    args = parser.parse_args(argv)
    for share in args.shares:
        try:
            valid = share == PAPER or 0 < float(share) <= 1
        except ValueError:
            valid = False
        if not valid:
            raise InputError(f"--shares: {share!r:.40} is neither a share nor '{PAPER}'")
    if args.prompts == "1":
        raise InputError("--prompts 1: a single prompt gives no interval; give at least 2")
    return args


# ---------- what is missing is made


def made_with_of(args) -> dict[str, str]:
    """What all results of a folder have in common, but for OF_SOME."""
    # without the replies that only DPO and DINM read: results of pairs without them remain
    polite = partial(hash_without, field="rejected")
    contents = [
        *hashes_in(args.data / "detection"),
        *hashes_in(args.data / "instructions", polite),
        *hashes_in(args.data / "prompts"),
    ]
    made_with = {
        "model": checkpoint.fingerprint(args.model),
        "data": hash_of(contents),
        "lr": " ".join(args.lr),
        "dtype": args.dtype,
        "pairs": args.pairs or "all",
        "prompts": args.prompts or "all",
    }
    for name in ("max_tokens", "validation_share"):
        if getattr(args, name) is not None:
            made_with[name] = getattr(args, name)
    if "dpo" in args.objective:
        made_with["dpo_lr"] = " ".join(args.dpo_lr or args.lr)
    if with_lora(args):
        made_with["lora_lr"] = " ".join(args.lora_lr)
    if "dpo" in args.objective or "dinm" in args.by:
        made_with["rejected"] = hash_of(hashes_in(args.data / "instructions"))
    return made_with


def hashes_in(folder: Path, hash_one=file_hash) -> list[str]:
    """The hash of the file of each language."""
    return [hash_one(path) for path in sorted(folder.glob("*.jsonl"))]


def hash_of(hashes: list[str]) -> str:
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def complete(args, share: str, seed: int, made_with: dict) -> None:
    """Train and evaluate the models of one share and seed that are not in its result file.

    InputError if that was made with something else, or if its models are not in OUT.
    """
    # 1) what is there, and what is asked for
    path = args.folder / f"{share}-{seed}.json"
    known = {}
    if path.exists():
        result = read_result(path)
        refuse_mixture(path, result["made_with"], made_with)
        made_with = result["made_with"] | made_with
        known = result["models"]
    asked = variants(args)
    names = [name for variant in asked for name in variant.names]
    if with_lora(args):
        names.append(LORA)
    wanted = names_of(names, args.draws)
    with_prices = args.all_measures or has_prices(known)
    if known.keys() >= wanted and has_prices(known) == with_prices:
        return
    out = args.out / f"{share}-{seed}"
    for name in sorted(known.keys() - wanted):  # all models of a file are evaluated together
        if not (out / "models" / name).exists():
            raise InputError(
                f"{path} has {name}, which is not in {out}; give the --out that has it, ask for it "
                "again, or give another folder for other results"
            )

    # 2) the three scripts, as a user would call them; each takes over what is there
    common = ["--model", args.model, "--data", args.data, "--dtype", args.dtype]
    of_training = [
        *("--seed", seed, *given("--pairs", args.pairs)),
        *given("--batch-tokens", args.batch_tokens),
        *given("--max-tokens", args.max_tokens),
        *given("--validation-share", args.validation_share),
    ]
    for variant in asked:
        neurons = find_neurons(args, variant.by, seed, common)
        has_size = share != PAPER and variant.by != "dinm"
        has_rates = variant.objective == "dpo" and args.dpo_lr
        run(
            *("train.py", *common, "--out", out, "--neurons", neurons, *of_training),
            *given("--top-share", share if has_size else None),
            *given("--by", variant.by if variant.by != "auroc" else None),
            *given("--objective", variant.objective if variant.objective != "sft" else None),
            *("--strategy", *variant.strategies, "--draws", args.draws),
            *("--lr", *(args.dpo_lr if has_rates else args.lr)),
        )
    if with_lora(args):
        run(
            *("tests/lora.py", out / "models" / LORA, *common, *of_training),
            *("--share", share_of_weights(out / "models" / "multilingual")),
            *("--lr", *args.lora_lr),
        )
    of_file = known.keys() | wanted  # without what was made at a rate that was not chosen
    less = () if with_prices else ("--no-mmlu", "--perplexity", "0", "--no-xstest")
    run(
        *("evaluate.py", *common, "--out", out, "--models", "base", *sorted(of_file), *less),
        *given("--prompts", args.prompts),
    )

    # 3) what they measured
    result = excerpt(out, share, seed, of_file)
    write_json(path, result | {"made_with": made_with})


@dataclass(frozen=True)
class Variant:
    """What one call of train.py makes."""

    by: str  # the selector
    objective: str
    strategies: list[str]

    @property
    def names(self) -> list[str]:
        """The names of its models, without their draws."""
        return [str(ModelName(name, self.objective, self.by)) for name in self.strategies]


def variants(args) -> list[Variant]:
    """The calls of train.py for the selectors and objectives, without what it cannot make."""
    calls = []
    for objective in args.objective:
        for by in args.by:
            refused = [LORA]
            if objective != "sft":
                refused += strategies.SCALED
            if by != "auroc":
                refused += ("full", *strategies.BY_AUROC)  # a full model has no selector
            names = [name for name in args.strategy if name not in refused]
            if names:
                calls.append(Variant(by, objective, names))
    return calls


def with_lora(args) -> bool:
    """Whether LoRA is asked for; it has no selector, and one objective: the loss on replies."""
    return LORA in args.strategy and "auroc" in args.by and "sft" in args.objective


def share_of_weights(model: Path) -> float:
    """The share of the weights that a model was tuned in; InputError if there is no such model."""
    path = model / "run.json"
    if not path.exists():
        raise InputError(
            f"--strategy lora has as many weights as {model.name}, and {model} does not exist; "
            f"add {model.name} to --strategy"
        )
    counts = as_written(path, read_json(path), chosen=CHOSEN)["chosen"]
    return counts["weights"] / counts["of_weights"]


def find_neurons(args, by: str, seed: int, common: list) -> Path:
    """The folder of a selector's neuron files, in which detect.py makes what is missing.

    Other selectors than AUROC read the training pairs, which depend on the seed.
    """
    if by == "auroc":
        out = args.out
        options = []
    else:
        out = args.out / f"seed-{seed}"
        options = ["--select", by, "--seed", seed, *given("--pairs", args.pairs)]
        options += given("--max-pair-tokens", args.max_tokens)
        options += given("--validation-share", args.validation_share)
    run("detect.py", *common, "--out", out, *options)
    return out / FOLDERS[by]


def names_of(names, draws: int) -> set[str]:
    """The models of strategies: one, or one for each draw."""
    models = set()
    for name in names:
        parts = ModelName.parse(name)
        if parts.is_of_all_draws:
            models |= {str(replace(parts, draw=draw)) for draw in range(1, draws + 1)}
        else:
            models.add(name)
    return models


def given(option: str, value) -> list:
    """An option, if it has a value."""
    return [] if value is None else [option, value]


def run(name: str, *arguments) -> None:
    """Run a script and show its command; InputError if it fails."""
    command = [sys.executable, str(ROOT / name), *map(str, arguments)]
    print(f"$ python {name} {' '.join(command[2:])}", flush=True)
    if subprocess.run(command).returncode:
        raise InputError(f"{name} failed; rerun the same command to resume")


def excerpt(out: Path, share: str, seed: int, names: set[str]) -> dict:
    """What a result file has of these models in OUT, from report.json and each run.json."""
    report = read_json(out / "report.json")
    models = {}
    for name in sorted(names):
        path = out / "models" / name / "run.json"
        record = read_json(path)
        chosen = record["chosen"]
        losses = read_losses(path, "test")
        models[name] = {
            "strategy": ModelName.parse(name).common_name,  # with the prefix of its variant
            "draw": record["settings"]["draw"],
            "lr": record["settings"].get("lr"),
            "neurons": chosen["neurons"] / chosen["of_neurons"],
            "weights": chosen["weights"] / chosen["of_weights"],
            "test_loss": mean(losses.values()) if losses else None,
            "test_pairs": sum(of_language["pairs"] for of_language in record["test"].values()),
            **measured(report, name),
        }
    return {
        "share": share,
        "seed": seed,
        "settings": {name: report["settings"][name] for name in SETTINGS},
        "scorers": report["scorers"],
        "base": measured(report, "base"),
        "models": models,
        **comparisons(report, models),
    }


def comparisons(report: dict, models: dict) -> dict:
    """What report.json says of the strategies of these models, against their draws and others."""
    names = {model["strategy"] for model in models.values()}
    chosen = {}
    for kind in ("verdicts", "differences"):
        if kind in report:
            chosen[kind] = {name: report[kind][name] for name in report[kind] if name in names}
    return chosen


def measured(report: dict, model: str) -> dict:
    """Toxicity, effective safety and, where it was measured, the price: means over languages."""
    values = {
        "toxicity": report["mean toxicity"][model],
        "clean": mean_share(report["clean in language"][model]),
    }
    for name in ("wrong language", "broken"):
        values[name] = mean_share(report[name][model])
    if model in report.get("accuracy", {}):
        values["accuracy"] = mean_share(report["accuracy"][model])
    refused = report.get("exaggerated safety", {}).get("safe refused", {})
    if model in refused:
        values["safe refused"] = mean_share(refused[model])
    if model in report.get("perplexity", {}):
        of_languages = report["perplexity"][model].values()
        values["perplexity"] = None if None in of_languages else geometric_mean(of_languages)
    if model in report.get("divergence", {}):
        values["divergence"] = mean(report["divergence"][model].values())
    return values


def mean_share(by_language: dict) -> float | None:
    """The mean over the languages of shares, which stand first, before their intervals.

    None if one is not known: a mean over other languages than those of other models says nothing.
    """
    shares = [share for share, _, _ in by_language.values()]
    return None if None in shares or not shares else mean(shares)


# ---------- what is there is shown


@dataclass(frozen=True)
class Row:
    """A strategy at one share: means over the seeds, and over the draws if it has several."""

    share: str
    strategy: str
    draws: int  # in all seeds together; 0 if the strategy has none
    neurons: float
    weights: float
    rates: list[float]  # learning rates: one, or those that were chosen with each seed
    change: float  # of the mean toxicity, from the base model
    clean: float
    test_loss: float | None
    verdicts: list[dict]  # of each seed, as report.json has them


def read_all(folder: Path) -> list[dict]:
    """All result files of a folder, of increasing share; InputError if there are none."""
    paths = sorted(folder.glob("*-*.json"))
    if not paths:
        raise InputError(f"{folder}: no results; run it without --show")
    results = [read_result(path) for path in paths]
    known = {}  # of the results before
    for path, result in zip(paths, results, strict=True):
        made_with = result["made_with"] | {"scorer": result["settings"]["scorer"]}
        if known:
            refuse_mixture(path, made_with, known)
        known |= made_with
    return sorted(results, key=lambda result: (as_number(result["share"]), result["seed"]))


def read_result(path: Path) -> dict:
    result = read_json(path)
    as_written(path, result, share=str, seed=int, models={str: MODEL}, verdicts={str: dict})
    as_written(path, result, made_with={str: str}, settings=dict)
    as_written(path, result["settings"], scorer=str)
    if "differences" in result:
        as_written(path, result, differences={str: dict})
    return as_written(path, result, base={"toxicity": [float], "clean": float})


def refuse_mixture(path: Path, made_with: dict, other: dict) -> None:
    """InputError if a result was made with another model, other data or other options."""
    different = []
    for name in other | made_with:
        one, another = made_with.get(name), other.get(name)
        unknown = name in OF_SOME and None in (one, another)
        if one != another and not unknown:
            different.append(name)
    if different:
        raise InputError(
            f"{path}: its {', '.join(different)} differ from those of the others or of this run; "
            "give another folder for other results"
        )


def as_number(share: str) -> float:
    """A share, or infinity for the paper's rule, which chooses most."""
    return math.inf if share == PAPER else float(share)


def rows_of(results: list[dict]) -> list[Row]:
    """A row for each share and strategy."""
    rows = []
    for share in dict.fromkeys(result["share"] for result in results):
        of_share = [result for result in results if result["share"] == share]
        models = [model for result in of_share for model in result["models"].values()]
        known = {model["strategy"] for model in models}
        for strategy in sorted(filter(place, known), key=place):
            rows.append(row_of(share, strategy, of_share))
    return rows


def place(name: str) -> tuple[str, int, int] | None:
    """The place of a strategy in the table: by its variant, as in strategies.py, by its order.

    None if the models of this name are of no strategy.
    """
    parts = ModelName.parse(name)
    known = (*strategies.TUNED, LORA, *strategies.SCALED)
    if parts.strategy not in known:
        return None
    return parts.prefix, known.index(parts.strategy), parts.order


def row_of(share: str, strategy: str, results: list[dict]) -> Row:
    """The means of a strategy over the seeds that have it."""
    of_seeds = []
    verdicts = []
    for result in results:
        models = [model for model in result["models"].values() if model["strategy"] == strategy]
        if models:
            change = mean(model["toxicity"][0] for model in models) - result["base"]["toxicity"][0]
            of_seeds.append((models, change))
            verdicts.append(result["verdicts"].get(strategy, {}))
    every = [model for models, _ in of_seeds for model in models]
    losses = [model["test_loss"] for model in every if model["test_loss"] is not None]
    rates = {model["lr"] for model in every if model["lr"] is not None}
    return Row(
        share,
        strategy,
        sum(model["draw"] is not None for model in every),
        mean(model["neurons"] for model in every),
        mean(model["weights"] for model in every),
        sorted(rates),
        mean(change for _, change in of_seeds),
        mean(mean(model["clean"] for model in models) for models, _ in of_seeds),
        mean(losses) if losses else None,
        verdicts,
    )


ABOUT_DIFFERENCES = (
    "against random ones: mean and range over seeds; for one seed, its 95 % interval"
)
COLUMNS = (
    *("share", "strategy", "neurons", "weights", "rate", "change of toxicity"),
    *("against random ones", "verdict", "clean in language", "test loss"),
)


def table(results: list[dict]) -> list[list[str]]:
    """A line for each share and strategy; the first names the columns."""
    lines = [list(COLUMNS)]
    for row in rows_of(results):
        compared = [verdict for verdict in row.verdicts if verdict.get("difference")]
        name = f"{row.strategy}, {row.draws} draws" if row.draws else row.strategy
        lines.append(
            [
                row.share,
                name,
                f"{row.neurons:.1%}",
                f"{row.weights:.1%}",
                ", ".join(f"{rate:.2g}" for rate in row.rates) or "-",
                f"{row.change:+.3f}",
                differences(compared),
                tally(compared),
                f"{row.clean:.1%}",
                f"{row.test_loss:.3f}" if row.test_loss is not None else "-",
            ]
        )
    return lines


def about_losses(results: list[dict]) -> str:
    """What the test losses are of; few pairs tell little."""
    models = [model for result in results for model in result["models"].values()]
    counts = sorted({model["test_pairs"] for model in models} - {0})
    pairs = " or ".join(map(str, counts)) or "no"
    return f"test loss: mean over the languages, of {pairs} pairs in all"


def has_prices(models: dict) -> bool:
    """Whether the models of a result file were asked and have read everything."""
    return any("perplexity" in model for model in models.values())


def price_table(results: list[dict]) -> list[list[str]]:
    """What tuning costs: a line for each share and strategy, of the seeds that measured it."""
    lines = [["share", "strategy", *PRICES]]
    measured = [result for result in results if has_prices(result["models"])]
    if measured:
        bases = [result["base"] for result in measured]
        lines.append(["", "base", *price_cells(bases)])
    for row in rows_of(measured):
        of_share = [result for result in measured if result["share"] == row.share]
        models = [model for result in of_share for model in result["models"].values()]
        # evaluate.py asks later draws for their replies alone
        first = [model for model in models if model["draw"] in (None, 1)]
        of_row = [model for model in first if model["strategy"] == row.strategy]
        lines.append([row.share, row.strategy, *price_cells(of_row)])
    return lines


def price_cells(models: list[dict]) -> list[str]:
    """The mean of each measure over the models that have it; a dash if none has."""
    cells = []
    for name, form in PRICES.values():
        values = [model[name] for model in models if model.get(name) is not None]
        cells.append(form.format(mean(values)) if values else "-")
    return cells


def differences(compared: list[dict]) -> str:
    """The mean difference from random draws over the seeds, and the least and the largest.

    Of a single seed its difference, and the 95 % interval of that.
    """
    if not compared:
        return "-"
    if len(compared) == 1:
        value, low, high = compared[0]["difference"]
    else:
        values = [verdict["difference"][0] for verdict in compared]
        value = mean(values)
        low = min(values)
        high = max(values)
    return f"{value:+.3f} ({low:+.3f}..{high:+.3f})"


def tally(compared: list[dict]) -> str:
    """How many seeds have which verdict."""
    verdicts = [verdict["verdict"] or "none" for verdict in compared]
    return ", ".join(f"{verdicts.count(name)} {name}" for name in dict.fromkeys(verdicts)) or "-"


def other_differences(results: list[dict]) -> list[str]:
    """A line for each difference in toxicity from another model than random ones."""
    lines = []
    for result in results:
        for model, compared in result.get("differences", {}).items():
            where = f"share {result['share']}, seed {result['seed']}: {model}"
            if "reason" in compared:
                lines.append(
                    f"{where} is not compared with {compared['from']}: {compared['reason']}"
                )
                continue
            value, low, high = compared["difference"]
            change = f"{value:+.3f} ({low:+.3f}..{high:+.3f})"
            lines.append(f"{where} differs from {compared['from']} by {change}")
    return lines


def figure(results: list[dict]) -> str:
    """Dose and response: share of the weights that is tuned, and change of the toxicity.

    A strategy that has one share is no curve, and is in the table alone.
    """
    rows = rows_of(results)
    counts = Counter(row.strategy for row in rows)
    lines = {}
    labelled = set()  # shares that have the words at one of their points
    for row in rows:
        if counts[row.strategy] < 2:
            continue
        words = "" if row.weights in labelled else f"{row.weights:.1%}"
        labelled.add(row.weights)
        point = figures.Point(math.log10(row.weights), row.change, words)
        lines.setdefault(row.strategy, []).append(point)
        for name, change in around(row, results).items():
            lines.setdefault(name, []).append(figures.Point(point.x, change, ""))
    drawn = figures.curves(
        "Tuned neurons and toxicity",
        lines,
        "share of the weights that is tuned (log10)",
        "mean toxicity, change from base",
        form="{:+.3f}",
    )
    # a file of its own needs its style, and the colour of its text
    css = (ROOT / "minitox/report/page.css").read_text("utf-8")
    css += "svg { color: var(--ink) }\n"
    start, end, rest = drawn.partition(">")
    return f"{start}{end}<style>{css}</style>{rest}\n"


def around(row: Row, results: list[dict]) -> dict[str, float]:
    """Where one more draw is expected, mean over the seeds; nothing for what has no draws."""
    ends = {f"{row.strategy}, 95 % from": [], f"{row.strategy}, 95 % to": []}
    for result in results:
        if result["share"] != row.share or not row.draws:
            continue
        models = [model for model in result["models"].values() if model["strategy"] == row.strategy]
        interval = metrics.prediction_interval([model["toxicity"][0] for model in models])
        if len(models) >= metrics.FEWEST_DRAWS:
            for values, end in zip(ends.values(), interval[1:], strict=True):
                values.append(end - result["base"]["toxicity"][0])
    return {name: mean(values) for name, values in ends.items() if values}


if __name__ == "__main__":
    script.run(main)
