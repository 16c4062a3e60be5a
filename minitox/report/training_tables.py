"""What train.py prints: the pairs, what each strategy will change, and the results."""

from minitox import neurons
from minitox.files import as_written, read_json
from minitox.report.page import Section
from minitox.train.strategies import count_weights


def pairs_table(pairs: dict) -> Section:
    """How many pairs each language has, and how many tokens are in them."""
    columns = ["", "pairs", "validation", "too long", "their tokens", "tokens", "of replies"]
    rows = []
    for language, of_language in pairs.items():
        counts = [
            # to train on, and for validation
            len(of_language.train),
            len(of_language.validation),
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
    plans: list,  # as strategies.Plan
    stages: dict,  # {plan: [stage]}, as run.training.costs gives them
    toxic: dict | None,  # the neurons that are toxic in any language
    config,  # of the base model
) -> Section:
    """What every strategy will change, stage by stage, before anything is tuned."""
    # 1) what there is to change
    total = count_weights(config, None)
    text = f"The model has {total:,} weights."
    if toxic:
        text = (
            f"The model has {total:,} weights and {neurons.size(toxic):,} neurons. "
            f"{neurons.count(toxic):,} neurons are toxic in at least one language."
        )

    # 2) a row for each stage; a plan that scales rows and tunes nothing has no stage
    columns = ["neurons", "toxic", "weights", "of model", "optimizer", "pairs", "steps"]
    rows = []
    for plan in plans:
        for stage, mask in zip(stages[plan.name] or [None], plan.masks, strict=True):
            # scaling rows needs no optimizer
            name = ""
            cost = ["scaled, not tuned", "", ""]
            if stage:
                name = stage["name"]
                state = memory(stage["optimizer_bytes"])
                cost = [state, f"{stage['pairs']:,}", f"{stage['steps']:,}"]
            weights = count_weights(config, mask)
            share = f"{weights / total:.1%}"
            sizes = [*neuron_cells(mask, toxic), f"{weights:,}", share]
            rows.append([plan.name, name, *sizes, *cost])
    return Section("What will be tuned", text, ["", "stage", *columns], rows)


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
    return as_written(
        path,
        read_json(path),
        proof={"frozen_weights": int, "tuned_weights": int, "changed": float},
        validation={str: {"pairs": int, "before": float | None, "after": float | None}},
    )


def result_table(results: dict) -> Section:
    """What is frozen and what has changed in each model, from its run.json."""
    columns = ["", "frozen weights", "", "tuned weights", "changed", "validation loss"]
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
            mean_losses(result["validation"]),
        ]
        rows.append(row)
    notes = [
        "frozen weights: their SHA-256, which run.json records, equals that of the base model's",
        "changed: share of the tuned weights that differ from the base model's",
        "validation loss: per reply token, mean over languages, before -> after",
    ]
    return Section("Results", "", columns, rows, notes)


def mean_losses(by_language) -> str:
    """The validation loss before and after, mean over the languages that have validation pairs."""
    # a mean loss is null where there are no validation pairs
    measured = [row for row in by_language.values() if None not in row.values()]
    if not measured:
        return "-"
    before = sum(row["before"] for row in measured) / len(measured)
    after = sum(row["after"] for row in measured) / len(measured)
    return f"{before:.3f} -> {after:.3f}"


def memory(count: int) -> str:
    """Bytes in the largest unit of which there is at least one."""
    if count < 1_000:
        return f"{count} B"
    # a unit for every three digits
    power = min(3, (len(str(count)) - 1) // 3)
    return f"{count / 1_000**power:,.1f} {' kMG'[power]}B"
