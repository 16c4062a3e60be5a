"""What train.py prints: the pairs, what each strategy will change, and the results."""

import json
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from itertools import chain

from minitox import neurons
from minitox.files import as_written, read_json
from minitox.report.matching import strategy_of
from minitox.report.page import Section
from minitox.run.settings import as_text
from minitox.run.training_record import LOSSES, PREFERENCES, depends_on, objective_of
from minitox.train.strategies import count_weights

# settings that are hashes of files, and the columns that show where they differ
FILES = {"model": "base", "data": "pair files", "neurons": "neuron files"}
HASHES = FILES | {"split": "split"}


def pairs_table(pairs: dict) -> Section:
    """How many pairs each language has, and how many tokens are in them."""
    columns = ["", "pairs", "validation", "test", "too long"]
    columns += ["their tokens", "tokens", "of replies"]
    rows = []
    for language, of_language in pairs.items():
        counts = [
            # to train on, for validation, and for the test
            len(of_language.train),
            len(of_language.validation),
            len(of_language.test),
            # pairs longer than --max-tokens
            of_language.dropped,
            of_language.dropped_tokens,
            # the pairs to train on: all tokens, and those that have a loss
            sum(len(pair.ids) for pair in of_language.train),
            sum(pair.reply_tokens for pair in of_language.train),
        ]
        cells = dict(zip(columns[1:], map("{:,}".format, counts), strict=True))
        if not of_language.dropped_whole:
            cells["their tokens"] = f"over {cells['their tokens']}"
        rows.append([language, *cells.values()])
    return Section("Instruction pairs", "", columns, rows)


def plan_table(
    plans: list,  # as train.plans.Plan
    stages: dict,  # {plan: [stage]}, as run.training.costs gives them
    rates: dict,  # {plan: [learning rate]}
    toxic: dict | None,  # the neurons that are toxic in any language
    config,  # of the base model
) -> Section:
    """What every strategy will change, stage by stage, before anything is tuned."""
    # 1) what there is to change
    total = count_weights(config, None)
    by = plans[0].by
    kind = "toxic" if by == "auroc" else f"chosen by {by}"
    text = f"The model has {total:,} weights."
    if toxic:
        text = (
            f"The model has {total:,} weights and {neurons.size(toxic):,} neurons. "
            f"{neurons.count(toxic):,} neurons are {kind} in at least one language."
        )

    # 2) a row for each stage; a plan that scales rows and tunes nothing has no stage. Draws have
    #    as many neurons of each module, so the first stands for all
    draws = Counter(plan.model_name.common_name for plan in plans if plan.draw is not None)
    notes = [f"{model}: {count} draws; {kind} is of the first" for model, count in draws.items()]
    columns = ["neurons", kind, "weights", "of model", "optimizer", "pairs", "steps"]
    columns += ["learning rate"]
    rows = []
    for plan in plans:
        if plan.draw not in (None, 1):
            continue
        for stage, mask in zip(stages[plan.name] or [None], plan.masks, strict=True):
            # scaling rows needs no optimizer
            name = ""
            cost = ["scaled, not tuned", "", "", ""]
            if stage:
                name = stage["name"]
                state = memory(stage["optimizer_bytes"])
                cost = [state, f"{stage['pairs']:,}", f"{stage['steps']:,}"]
                cost += [", ".join(map(shown_rate, rates[plan.name]))]
            weights = count_weights(config, mask)
            share = f"{weights / total:.1%}"
            sizes = [*neuron_cells(mask, toxic), f"{weights:,}", share]
            rows.append([plan.model_name.common_name, name, *sizes, *cost])
    return Section("What will be tuned", text, ["", "stage", *columns], rows, notes)


def neuron_cells(mask, toxic) -> list[str]:
    """How many neurons are chosen, and which share of them is toxic."""
    # every weight, also those that belong to no neuron
    if mask is None:
        return ["all", "-"]

    count = neurons.count(mask)
    shared, _ = neurons.overlap(mask, toxic)
    return [f"{count:,}", f"{shared / max(1, count):.0%}"]


def read_result(path) -> dict:
    """A model's run.json; InputError if a field of `result_table` is not as train.py wrote it."""
    record = as_written(
        path,
        read_json(path),
        settings=dict,
        proof={"frozen_weights": int, "tuned_weights": int, "changed": float},
        validation=LOSSES,
        test=LOSSES,
    )
    if "preferences" in record:
        as_written(path, record, preferences=PREFERENCES)
    # what is not tuned has no learning rate
    as_written(path, {"lr": None} | record["settings"], lr=float | None)
    return record


def result_table(results: dict) -> Section:
    """What is frozen and what has changed in each model, from its run.json."""
    columns = ["", "frozen weights", "", "tuned weights", "changed", "learning rate", "test loss"]
    preferred = any("preferences" in result for result in results.values())
    if preferred:
        columns += ["reward margin", "accuracy", "loss on replies"]
    rows = []
    for name, result in results.items():
        proof = result["proof"]
        frozen = proof["frozen_weights"]
        row = [
            name,
            f"{frozen:,}",
            # train.py has compared the hashes
            "bit-identical" if frozen else "",
            f"{proof['tuned_weights']:,}",
            f"{proof['changed']:.1%}",
            shown_rate(result["settings"].get("lr")),
            mean_losses(result["test"]),
        ]
        if preferred:
            row += preference_cells(result.get("preferences"))
        rows.append(row)
    notes = [
        "frozen weights: their SHA-256, which run.json records, equals that of the base model's",
        "changed: share of the tuned weights that differ from the base model's",
        "test loss: per reply token, on pairs used for no choice, mean over languages, "
        "before -> after",
    ]
    if preferred:
        notes[-1] += "; with DPO: per pair, of its own loss"
        notes.append(
            "reward margin, accuracy, loss on replies: on the same pairs, after tuning; beta times "
            "(log p/q of the reply - log p/q of the rejected reply), of the tuned model p and the "
            "base model q; share of pairs where it is positive; cross-entropy per reply token"
        )
    notes += too_high(got_worse(results))
    return Section("Results", "", columns, rows, notes)


def preference_cells(preferences: dict | None) -> list[str]:
    """Margin, accuracy and loss on replies of the test pairs, mean over languages."""
    of_test = preferences["test"].values() if preferences else ()
    measured = [of_language for of_language in of_test if None not in of_language.values()]
    if not measured:
        return ["-", "-", "-"]
    forms = {"margin": ".3f", "accuracy": ".1%", "reply_loss": ".3f"}
    cells = []
    for name, form in forms.items():
        mean = sum(of_language[name] for of_language in measured) / len(measured)
        cells.append(f"{mean:{form}}")
    return cells


def rate_table(tried: dict, results: dict) -> Iterator[Section]:
    """The validation loss of each model at several learning rates; nothing if none was tried.

    `tried`: {model: {rate: loss, or why it failed, or None}}, as run.rates.results_of gives them.
    `results`: {model: its run.json}.
    """
    rates = sorted({rate for of_model in tried.values() for rate in of_model})
    rows = []
    notes = ["validation loss: per reply token, mean over the languages tuned on; *: chosen"]
    for model, of_model in tried.items():
        chosen = results[model]["settings"]["lr"]
        cells = []
        for rate in rates:
            result = of_model[rate]
            if isinstance(result, float):
                cells.append(f"{result:.3f}" + "*" * (rate == chosen))
            elif result is None:
                cells.append("-")
            else:
                cells.append("failed")
                notes.append(f"{model} at {shown_rate(rate)}: {result}")
        rows.append([model, *cells])
    if rows:
        columns = ["", *map(shown_rate, rates)]
        yield Section("Validation loss by learning rate", "", columns, rows, notes)


def shown_rate(rate: float | None) -> str:
    """A learning rate as in the name of a folder; "-" of a model without one."""
    return "-" if rate is None else f"{rate:g}"


def tuned_table(trainings: dict) -> Iterator[Section]:
    """Which neurons each model of a report was made with, and how; nothing without such models.

    `trainings`: {model: its run.json, or None}.
    """
    # 1) the settings that are the same for all models that have them, and the others
    known = {model: training for model, training in trainings.items() if training}
    settings = {model: readable(training["settings"]) for model, training in known.items()}
    objectives = {model: objective_of(training["settings"]) for model, training in known.items()}
    if set(objectives.values()) - {None, "sft"}:
        for model, objective in objectives.items():
            settings[model]["objective"] = objective or "-"
    same = {}
    different = []
    for name in dict.fromkeys(chain.from_iterable(settings.values())):
        values = {of_model[name] for of_model in settings.values() if name in of_model}
        if len(values) == 1:
            # a hash means nothing where there is no other one
            if name not in HASHES.values():
                same[name] = values.pop()
        elif name != "strategy" or any(own["strategy"] != model for model, own in settings.items()):
            different.append(name)

    # 2) a row for each model
    columns = ["", "neurons", "of all", "toxic", "weights", "of model", *different]
    rows = []
    for model in trainings:
        if model in known:
            sizes = size_cells(known[model]["chosen"])
            cells = [*sizes, *(settings[model].get(name, "-") for name in different)]
        else:
            cells = ["not known"] + ["-"] * (len(columns) - 2)
        rows.append([model, *cells])
    notes = [
        "toxic: share of these neurons that are toxic in at least one language, by the choice that "
        "the model was made with",
    ]
    if any("by" in training["settings"] for training in known.values()):
        notes.append("by: what the neurons were chosen by; toxic is then the share chosen by it")
    if same:
        notes.append(
            "the same for all that depend on it: " + "; ".join(map(" ".join, same.items()))
        )
    if set(FILES.values()) & set(different):
        notes.append(f"{', '.join(FILES.values())}: the first digits of a hash of the files")
    if "split" in different:
        notes.append(
            "split: the first digits of a hash of the pairs for training, validation and test"
        )
    for models in same_neurons(known):
        notes.append(f"exactly the same neurons: {', '.join(models)}")
    for model, training in known.items():
        if "draws" in training:
            notes.append(f"{model}: {training['draws']} draws; the counts are their means")
    if rows:
        yield Section("Tuned models", "", columns, rows, notes)


def same_neurons(trainings: dict) -> list[list[str]]:
    """The models that were made with one choice of neurons, if several were."""
    by_choice = {}
    for model, training in trainings.items():
        # the whole model is no choice
        if training["chosen"]["sha256"]:
            by_choice.setdefault(training["chosen"]["sha256"], []).append(model)
    return [models for models in by_choice.values() if len(models) > 1]


def size_cells(counts: dict) -> list[str]:
    """How much of the model was chosen, and which share of the neurons is toxic."""
    toxic = counts["toxic"]
    return [
        f"{counts['neurons']:,}",
        f"{counts['neurons'] / counts['of_neurons']:.1%}",
        "-" if toxic is None else f"{toxic / counts['neurons']:.1%}",
        f"{counts['weights']:,}",
        f"{counts['weights'] / counts['of_weights']:.1%}",
    ]


def readable(settings: dict) -> dict[str, str]:
    """The settings that a model depends on as text, of HASHES the first digits of a hash."""
    texts = {}
    for name in ["strategy", *depends_on(settings)]:
        if name in HASHES:
            hashes = json.dumps(settings[name], sort_keys=True)
            texts[HASHES[name]] = sha256(hashes.encode()).hexdigest()[:8]
        else:
            texts[name] = as_text(settings[name])
    texts["strategy"] = strategy_of(settings)
    if "lr" in settings:
        texts["lr"] = shown_rate(settings["lr"])
    return texts


def mean_losses(by_language) -> str:
    """The loss before and after, mean over the languages that have pairs for it."""
    means = before_and_after(by_language)
    return "{:.3f} -> {:.3f}".format(*means) if means else "-"


def before_and_after(by_language: dict) -> tuple[float, float] | None:
    """The two means; None without pairs."""
    # a mean loss is null where there are no such pairs
    measured = [row for row in by_language.values() if None not in row.values()]
    if not measured:
        return None
    before = sum(row["before"] for row in measured) / len(measured)
    after = sum(row["after"] for row in measured) / len(measured)
    return before, after


def got_worse(trainings: dict) -> dict[str, float]:
    """{model: learning rate} of the tuned models whose test loss is higher than before tuning.

    `trainings`: {model: its run.json, or None}.
    """
    worse = {}
    for model, record in trainings.items():
        lr = record and record["settings"].get("lr")
        means = lr and before_and_after(record.get("test", {}))
        if means and means[1] > means[0]:
            worse[model] = lr
    return worse


def too_high(worse: dict[str, float]) -> list[str]:
    """A sentence on the models that `got_worse` gives, and rates to try; nothing without them."""
    if not worse:
        return []
    lowest = min(worse.values())
    lower = " ".join(f"{lowest / factor:.1e}" for factor in (64, 16, 4))
    return [
        f"The test loss of {', '.join(worse)} is higher than before tuning: the learning rate is "
        f"too high for this model. Try lower ones in another --out, as with --lr {lower}"
    ]


def memory(count: int) -> str:
    """Bytes in the largest unit of which there is at least one."""
    if count < 1_000:
        return f"{count} B"
    # a unit for every three digits
    power = min(3, (len(str(count)) - 1) // 3)
    return f"{count / 1_000**power:,.1f} {' kMG'[power]}B"
