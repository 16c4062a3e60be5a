"""Each model at its own learning rate: one, or the best of several.

With several rates a plan is tried at each, as OUT/models/NAME@RATE. When all of them have a result,
the model of lowest validation loss becomes OUT/models/NAME; the others stay. A rate at which the
loss does not remain finite leaves NAME@RATE.failed.json, and the other rates go on.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from minitox import neurons
from minitox.errors import InputError, NotFinite
from minitox.files import FORMAT, as_written, check_format, read_json, versions, write_json
from minitox.lm import checkpoint
from minitox.lm.config import Config
from minitox.run import distributed, outputs
from minitox.run.training_record import check_files, read_choosing_losses
from minitox.train.pairs import Pairs
from minitox.train.plans import Plan
from minitox.train.strategies import count_weights
from minitox.train.tune import Hyperparameters, automatic_rate

ADVICE = "try a lower --lr or --dtype float32, with another --out"


@dataclass(frozen=True)
class Trial:
    """A plan at one learning rate."""

    plan: Plan
    rates: list[float]  # all rates that the plan is tried at
    lr: float | None  # of this trial; None if nothing is tuned, or as the first model's will be
    made_with: dict  # what the model depends on, except the rate

    @property
    def name(self) -> str:
        """The name of the model's folder."""
        return self.plan.model_name.at_rate(self.lr) if len(self.rates) > 1 else self.plan.name

    @property
    def settings(self) -> dict:
        """What the model depends on, as run.json has it."""
        return self.made_with if self.lr is None else self.made_with | {"lr": self.lr}


def rates_of(
    plans: list[Plan],
    rates: list[float] | str,  # of --lr
    config: Config,
    model: Path,  # folder of the base model
) -> dict[str, list[float]]:
    """The learning rates that each plan is tried at; none if it tunes nothing.

    InputError if "auto" finds nothing but zeros in the MLP of the base model.
    """
    tried_at = {plan.name: [] for plan in plans}
    tuned = [plan for plan in plans if plan.scale is None]
    if rates != "auto" or not tuned:
        return tried_at | {plan.name: rates for plan in tuned}

    names = [f"{module}.weight" for module in neurons.module_rows(config)]
    rms = distributed.on_first(lambda: checkpoint.root_mean_square(model, names))
    if rms == 0:
        raise InputError(f"{model}: every weight of its MLP is 0; give --lr a learning rate")
    for plan in tuned:
        share = count_weights(config, plan.mask) / count_weights(config, None)
        tried_at[plan.name] = [automatic_rate(config.hidden_size, share, rms, plan.objective)]
    return tried_at


# What is to be done


def unfinished(
    models: Path,  # folder of all models
    plans: list[Plan],
    rates: dict[str, list[float]],  # of each plan
    made_with: dict[str, dict],  # likewise: what its model depends on, except the rate
    pairs: dict[str, Pairs],
) -> list[Trial]:
    """What has no result yet: a trial for each rate of every plan that has no model.

    InputError if a result was made with other values, or was changed, or if nothing can choose
    among several rates.
    """
    outputs.lock(models.parent)
    distributed.check_same(made_with)
    todo = []
    for plan in plans:
        if len(rates[plan.name]) > 1 and not any(pairs[code].validation for code in plan.languages):
            raise InputError(
                f"--lr: no validation pairs can choose among several rates of {plan.name}; "
                "give one rate, or a higher --validation-share"
            )
        trials = trials_of(models, plan, rates[plan.name], made_with[plan.name])
        if not has_model(models, trials):
            todo += [trial for trial in trials if not has_result(models, trial)]
            choose(models, trials[0])
    return todo


def trials_of(models: Path, plan: Plan, rates: list[float], made_with: dict) -> list[Trial]:
    """A plan at each of its rates; a later draw or order is made at the rate of the first."""
    if len(rates) > 1 and plan.name != plan.model_name.first_name:
        return [Trial(plan, [], rate_of_first(models, plan), made_with)]
    return [Trial(plan, rates, lr, made_with) for lr in rates or [None]]


def is_tried(plan: Plan, rates: list[float]) -> bool:
    """Whether a plan is tried at several rates, rather than made at that of the first."""
    return len(rates) > 1 and plan.name == plan.model_name.first_name


def rate_of_first(models: Path, plan: Plan) -> float | None:
    """The rate that was chosen with the first order and draw of a plan; None if none is yet."""
    folder = models / plan.model_name.first_name
    return distributed.on_first(lambda: chosen_rate(folder) if folder.exists() else None)


def has_model(models: Path, trials: list[Trial]) -> bool:
    """Whether the model of a plan is there; InputError if it was made with other values."""
    settings = trials[0].settings
    is_known = len(trials) == 1 and trials[0].lr is not None

    def recorded(folder: Path) -> dict:
        values = outputs.read_record(folder).get("settings")
        # any of several rates may be the one that was chosen
        return values if is_known or not isinstance(values, dict) else without_rate(values)

    folder = models / trials[0].plan.name
    return is_whole(folder, settings if is_known else without_rate(settings), recorded)


def without_rate(settings: dict) -> dict:
    """All settings but the learning rate."""
    return {name: value for name, value in settings.items() if name != "lr"}


def has_result(models: Path, trial: Trial) -> bool:
    """Whether a trial has left its model, or a record of its failure.

    InputError if it was made with other values.
    """

    def recorded(folder: Path) -> dict:
        return outputs.read_record(folder).get("settings")

    if is_whole(models / trial.name, trial.settings, recorded):
        return True
    has_failed = outputs.is_done(
        failure_file(models, trial.name),
        trial.settings,
        lambda path: read_failure(path)["settings"],
    )
    if has_failed:
        distributed.once(remove_work, models / trial.name)
    return has_failed


def is_whole(folder: Path, settings: dict, recorded) -> bool:
    """Whether there is a model with these settings; InputError with others, or if it changed."""
    done = outputs.is_done(folder, settings, recorded)
    if done:
        distributed.once(check_files, folder)
    return done


# One after another


def in_turn(
    models: Path, todo: list[Trial], hyper: Hyperparameters
) -> Iterator[tuple[Trial, Hyperparameters]]:
    """Yield the trials, with the hyperparameters of each.

    When the next one is asked for, the best model of a plan that is complete gets the plan's name.
    """
    for trial in todo:
        if trial.lr is None and trial.plan.scale is None:
            trial = replace(trial, lr=rate_of_first(models, trial.plan))
        yield trial, replace(hyper, lr=trial.lr)
        choose(models, trial)


@contextmanager
def attempt(models: Path, trial: Trial) -> Iterator[outputs.Step]:
    """Make the model of a trial in the block, which fails if a loss is not finite.

    InputError if the plan has no other rates.
    """
    try:
        with outputs.step(models / trial.name, trial.settings) as current:
            yield current
    except NotFinite as error:
        if len(trial.rates) < 2:
            raise InputError(f"{trial.name}: {error}; {ADVICE}") from None
        print(f"{trial.name} failed: {error}")
        distributed.once(write_failure, models, trial, str(error))


def choose(models: Path, trial: Trial) -> None:
    """Give the name of the plan to its best model, if every one of several rates has a result.

    InputError if all of them have failed.
    """
    if len(trial.rates) > 1:
        distributed.on_first(lambda: rename_best(models, trial.plan, trial.rates))


def rename_best(models: Path, plan: Plan, rates: list[float]) -> None:
    """Give the name of the plan to its model of lowest validation loss; nothing if one is missing.

    InputError if every rate has failed.
    """
    results = results_of(models, plan, rates)
    if None in results.values():
        return
    losses = {lr: result for lr, result in results.items() if isinstance(result, float)}
    if not losses:
        failures = "; ".join(f"{lr:g}: {reason}" for lr, reason in results.items())
        raise InputError(f"{plan.name} failed at every learning rate: {failures}; {ADVICE}")
    # of equal ones the lowest rate
    best = min(losses, key=losses.get)
    os.replace(models / plan.model_name.at_rate(best), models / plan.name)


# Results


def results_of(models: Path, plan: Plan, rates: list[float]) -> dict[float, float | str | None]:
    """The validation loss at each rate, averaged over the languages that the plan is tuned on.

    Or the reason why it failed, or None if it has no result.
    """
    chosen = None
    if (models / plan.name).exists():
        chosen = chosen_rate(models / plan.name)
    results = {}
    for lr in rates:
        name = plan.name if lr == chosen else plan.model_name.at_rate(lr)
        failure = failure_file(models, name)
        results[lr] = None
        if (models / name).exists():
            losses = read_choosing_losses(models / name / "run.json")
            results[lr] = mean([losses[code] for code in plan.languages if code in losses])
        elif failure.exists():
            results[lr] = read_failure(failure)["failed"]
    return results


def chosen_rate(folder: Path) -> float:
    """The learning rate of a model."""
    path = folder / "run.json"
    record = as_written(path, read_json(path), settings={"lr": float})
    return record["settings"]["lr"]


def failure_file(models: Path, name: str) -> Path:
    """The file that says why a trial failed."""
    return models / f"{name}.failed.json"


def write_failure(models: Path, trial: Trial, reason: str) -> None:
    """Record why a trial failed, in place of what it could resume from."""
    record = {"format": FORMAT, "settings": trial.settings, "versions": versions()}
    write_json(failure_file(models, trial.name), record | {"failed": reason})
    remove_work(models / trial.name)


def remove_work(model: Path) -> None:
    """Remove what a trial that has failed could resume from; a kill may have left some of it."""
    shutil.rmtree(outputs.work_folder(model), ignore_errors=True)


def read_failure(path: Path) -> dict:
    """Why a trial failed, and its settings; InputError if the file was changed."""
    record = read_json(path)
    check_format(path, record, "delete it, and train.py tries again")
    return as_written(path, record, settings=dict, failed=str)
