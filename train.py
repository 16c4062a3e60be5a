"""Step 2: tune only the toxic neurons on polite replies, and prove that the rest is unchanged.

    python train.py                                         # the toy, after detect.py
    python train.py --model DIR --data DIR --out DIR        # your own

Reads OUT/neurons, which detect.py wrote, and DATA/instructions. Each strategy becomes a model
folder OUT/models/<strategy> that transformers opens, too; one that draws random neurons becomes
several, <strategy>-1 and so on, and one in several orders of the languages (--orders) becomes
<strategy>-order-2 and so on. With several learning rates, it is the best of them. If it is killed,
rerun the same command to resume.  [paper §3.3]

With --by taylor, OUT/neurons-taylor of detect.py --select taylor takes the place of OUT/neurons,
and the models are OUT/models/taylor-<strategy>. With --objective dpo, which prefers the replies to
the rejected ones, they are OUT/models/dpo-<strategy>.
"""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

from minitox import delta, neurons
from minitox.errors import InputError, user_errors
from minitox.files import FORMAT, file_hash, versions, write_json
from minitox.lm import checkpoint
from minitox.lm.config import Config, read_config
from minitox.neurons import NeuronAUROC, NeuronMask
from minitox.report import page, training_tables
from minitox.run import distributed, overlap_check, rates, script, sharding, training
from minitox.run.device import describe, identity, open_device
from minitox.run.neuron_files import FOLDERS, check_alike, read_importance, read_neurons
from minitox.run.progress import Progress
from minitox.run.rates import Trial
from minitox.run.settings import TrainSettings, parse
from minitox.run.tokenizer import open_tokenizer
from minitox.run.training import Losses
from minitox.run.training_inputs import check_pairs, read_neurons_and_pairs, recorded_split
from minitox.run.training_record import choices, chosen, file_hashes
from minitox.run.tuning import Procedure
from minitox.train import strategies
from minitox.train.interventions import COMBINED, combine
from minitox.train.pairs import PairChoice, Pairs
from minitox.train.plans import Choice, Plan, scaling_plans, tuning_plans
from minitox.train.strategies import weight_rows
from minitox.train.tune import Hyperparameters

DESCRIPTION = "Tune only the toxic neurons on polite replies, and prove that the rest is unchanged."


def main(argv: list[str] | None = None):
    settings = parse(TrainSettings, DESCRIPTION, argv)
    config = read_config(settings.model)
    models = settings.out / "models"
    device, dtype = open_device(settings.device, settings.dtype, config, models)
    training.check_dtype(dtype)
    settings = settings.resolved(device.type, config)
    hyper = settings.part(Hyperparameters, lr=math.nan)  # each model has its own rate
    procedure = settings.part(Procedure)

    # 1) for each language: the AUROC of every neuron, and the pairs to tune on
    tokenizer = open_tokenizer(settings.model, config, settings.out, settings.unchecked_template)
    pair_choice = settings.part(PairChoice)
    languages = settings.languages
    folder = settings.neurons or settings.out / FOLDERS[settings.by]
    files, pairs = read_neurons_and_pairs(
        languages, settings.order, settings.strategy, folder, settings.data, tokenizer, pair_choice
    )
    overlap_check.check(settings.data, ["instructions"], pairs, settings.allow_overlap)
    fingerprint = checkpoint.fingerprint(settings.model)
    aurocs, shuffled = read_values(settings.by, files, config, fingerprint, pairs, pair_choice)

    # 2) which neurons each strategy tunes, on whose pairs
    choice = settings.part(Choice)
    masks = {language: choice.toxic_neurons(auroc) for language, auroc in aurocs.items()}
    combined = combined_aurocs(aurocs, shuffled, settings.language)
    plans = make_plans(settings.strategy, masks, pairs, combined, choice, settings.objective)
    costs = training.costs(plans, config, dtype, pairs, hyper, procedure.reference)

    # 3) the models that no earlier run has made
    base = identity(fingerprint, device, dtype)
    made_with = settings_of_models(plans, base, files, pairs, settings)
    tried_at = rates.rates_of(plans, settings.rates, config, settings.model)
    todo = rates.unfinished(models, plans, tried_at, made_with, pairs)
    print(f"{settings.model}: {describe(config, device, dtype, tokenizer.checked)}")
    print_plans(plans, costs, tried_at, pairs, masks, config)

    # 4) tune, and prove that nothing else has changed
    load = sharding.loader(settings.model, device, dtype, shard=True)
    if todo:
        pairs, before = training.before_tuning(load(), pairs, procedure, settings.model)
    steps = {plan.name: sum(cost["steps"] for cost in costs[plan.name]) for plan in plans}
    progress = Progress(sum(steps[trial.plan.name] for trial in todo))
    for trial, at_rate in rates.in_turn(models, todo, hyper):
        plan = trial.plan
        with (
            rates.attempt(models, trial) as step,
            progress.task(trial.name, steps[plan.name], "steps", settings.checkpoint_steps) as show,
        ):
            model = None  # so that the one before is not in memory beside the next
            model = load()
            losses = training.make_model(model, plan, pairs, at_rate, procedure, step.work, show)
            after = training.after_tuning(model, pairs, procedure)
            sharding.save(model, step.unfinished, settings.model)
            between = training.losses_after_stages(plan, step.work)
            record = make_record(trial, losses, pairs, before, between, after, masks, config)
            step.write(write_record, record, settings.model, weight_rows(model, plan.mask))

    # 5) results
    print_results(models, plans, tried_at, settings.model if settings.delta else None)


def read_values(
    by: str,  # the selector
    files: dict[str, Path],
    config: Config,
    fingerprint: str,
    pairs: dict[str, Pairs],
    pair_choice: PairChoice,
) -> tuple[dict, dict]:
    """Every neuron's AUROC in each language, with true labels, and the same with shuffled ones.

    Of another selector its values, and nothing with shuffled labels. InputError if a file is of
    another model or selector, if the files were made in different ways, or from other training
    pairs than these.
    """
    rows = neurons.module_rows(config)
    values = {}
    shuffled = {}
    infos = {}
    for language, path in files.items():
        if by == "auroc":
            values[language], about = read_neurons(path, rows, fingerprint)
            check_alike(path, about, infos)
            infos[language] = about
            shuffled[language], _ = read_neurons(path, rows, fingerprint, shuffled=True)
        else:
            values[language], about = read_importance(path, rows, by, fingerprint)
            check_pairs(path, about, pairs[language], pair_choice)
    return values, shuffled


def make_plans(
    names: tuple[str, ...],
    masks: dict[str, NeuronMask],  # by language: its toxic neurons
    pairs: dict[str, Pairs],  # by language, in the order of tuning
    combined: dict[str, NeuronAUROC],  # as `combined_aurocs` gives it
    choice: Choice,
    objective: str,  # of those that are tuned
) -> list[Plan]:
    """The models of all strategies, in order; InputError if one chooses no neuron."""
    plans = []
    languages = list(masks or pairs)
    with user_errors(
        "--strategy ",
        "; check --threshold, --top-share, --damp, --languages and --orders, "
        "or leave the strategy out",
    ):
        for name in names:
            if name in strategies.SCALED:
                auroc = combined[strategies.intervention(name)]
                plans += scaling_plans(name, auroc, choice)
            else:
                highest = combined.get(name)
                tuned = tuning_plans(name, masks, languages, choice, highest)
                plans += [replace(plan, objective=objective) for plan in tuned]
    return plans


def combined_aurocs(
    aurocs: dict[str, NeuronAUROC],  # by language; none if no strategy needs neurons
    shuffled: dict[str, NeuronAUROC],  # with shuffled labels; none of another selector
    language: str | None,  # whose AUROC interventions scale by; None: of all together
) -> dict[str, NeuronAUROC]:
    """One AUROC for each neuron, by the strategies that choose by it or scale by it."""
    if not aurocs:
        return {}
    of_all = list(aurocs.values())
    combined = {"lowest": neurons.highest(of_all)}
    if not shuffled:  # another selector than AUROC, by which nothing is scaled
        return combined
    combined["shuffled"] = neurons.highest(list(shuffled.values()))
    if language is None:
        return combined | {method: combine(method, of_all) for method in COMBINED}
    if language not in aurocs:
        raise InputError(
            f"--language {language} is not one of {', '.join(aurocs)}, the usable ones"
        )
    return combined | dict.fromkeys(COMBINED, aurocs[language])


def settings_of_models(
    plans: list[Plan],
    base: dict[str, str],  # model, device and dtype
    files: dict[str, Path],  # neuron files, by language
    pairs: dict[str, Pairs],
    settings: TrainSettings,
) -> dict[str, dict]:
    """All that each model depends on; a folder made with other values is not taken for it."""
    choice = settings.affecting("choice")
    tuning = settings.affecting("tuning")
    scaling = settings.affecting("scaling")
    preference = settings.affecting("preference")
    validation = settings.affecting("validation")
    neuron_hashes = {language: file_hash(path) for language, path in files.items()}
    pair_hashes = {language: of_language.data_hash for language, of_language in pairs.items()}
    split = recorded_split(pairs)
    made_with = {}
    for plan in plans:
        is_tuned = plan.scale is None
        chooses = any(mask is not None for mask in plan.masks)
        chosen_by = choice | {"by": plan.by}
        chosen_by = {name: chosen_by[name] for name in choices(plan.by)}
        method = strategies.intervention(plan.strategy)
        combined = COMBINED.get(method) if scaling["language"] is None else None
        made_with[plan.name] = {
            **base,
            "strategy": plan.strategy,
            "draw": plan.draw,
            "languages": list(files or pairs),
            **({"order": plan.languages} if plan.order > 1 else {}),
            "data": pair_hashes,  # the losses of interventions depend on them, too
            **split,
            "neurons": neuron_hashes if chooses else {},
            **(chosen_by if chooses else {}),
            **(tuning if is_tuned else scaling | {"combined": combined}),
            **(preference if plan.objective == "dpo" else {}),
            **validation,
        }
    return made_with


def print_plans(
    plans: list[Plan],
    costs: dict[str, list[dict]],
    tried_at: dict[str, list[float]],  # the learning rates of each plan
    pairs: dict[str, Pairs],
    masks: dict[str, NeuronMask],
    config: Config,
):
    """Print what will be tuned, before anything is."""
    toxic = neurons.union(list(masks.values())) if masks else None
    print("", page.terminal(training_tables.pairs_table(pairs)), "", sep="\n")
    table = training_tables.plan_table(plans, costs, tried_at, toxic, config)
    print(page.terminal(table), "", sep="\n", flush=True)


def make_record(
    trial: Trial,
    losses: Losses,
    pairs: dict[str, Pairs],
    before: dict[str, dict],  # as `before_tuning` gives them
    between: list[dict | None],  # as `losses_after_stages` gives them
    after: dict[str, dict],  # as `after_tuning` does
    toxic: dict[str, NeuronMask],  # the toxic neurons of each language
    config: Config,
) -> dict:
    """What run.json says of a model, besides the proof."""
    stages = []
    for stage, values, validation in zip(trial.plan.stages, losses, between, strict=True):
        counts = chosen(stage.mask, toxic, config)
        of_stage = {"name": stage.name, "chosen": counts, "losses": values}
        if validation is not None:
            of_stage["validation"] = validation
        stages.append(of_stage)
    return {
        "format": FORMAT,
        "settings": trial.settings,
        "versions": versions(),
        "chosen": chosen(trial.plan.mask, toxic, config),
        **after,
        **training.recorded_losses(pairs, before, after),
        "stages": stages,
    }


def write_record(folder: Path, record: dict, base: Path, rows):
    """Write run.json, with the proof that only the chosen rows differ from the base model."""
    proof = training.prove(base, folder, rows)
    record = record | {"proof": proof, "files": file_hashes(folder)}
    write_json(folder / "run.json", record)


def print_results(
    models: Path,
    plans: list[Plan],
    tried_at: dict[str, list[float]],  # the learning rates of each plan
    delta_base: Path | None,
):
    """Print the results of all models, from run.json; write patches if a base is given."""
    results = {}
    tried = {}
    for plan in plans:
        if delta_base is not None:
            path = models / f"{plan.name}.delta.safetensors"
            write = partial(delta.write, delta_base, models / plan.name, path)
            size = distributed.on_first(write)
            print(f"{path}: {training_tables.memory(size)}")
        results[plan.name] = training_tables.read_result(models / plan.name / "run.json")
        if rates.is_tried(plan, tried_at[plan.name]):
            tried[plan.name] = rates.results_of(models, plan, tried_at[plan.name])
    for section in training_tables.rate_table(tried, results):
        print("", page.terminal(section), sep="\n")
    print("", page.terminal(training_tables.result_table(results)), "", sep="\n")
    print(f"wrote {models} ({len(plans)} models)")


if __name__ == "__main__":
    script.run(main)
