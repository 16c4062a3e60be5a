"""run.json of a tuned model: which neurons were chosen, with which settings, and comparisons."""

import hashlib
from pathlib import Path

import numpy as np

from minitox import neurons
from minitox.errors import InputError
from minitox.files import as_written, check_format, read_json
from minitox.lm.config import Config
from minitox.neurons import NeuronMask
from minitox.run.settings import types_of_training
from minitox.train.strategies import DRAWN, SCALED, count_weights

# as `chosen` gives it
CHOSEN = {
    "neurons": int,
    "of_neurons": int,
    "weights": int,
    "of_weights": int,
    "toxic": int | None,
    "sha256": str | None,
}
# settings that change the rounding of the weights and nothing else
ROUNDING = {"batch_tokens", "reference", "activation_checkpointing"}

# of each language, on its validation pairs or its test pairs
LOSSES = {str: {"pairs": int, "before": float | None, "after": float | None}}


def chosen(
    mask: NeuronMask | None,  # None: every weight
    toxic: dict[str, NeuronMask],  # the toxic neurons of each language
    config: Config,
) -> dict:
    """How many neurons and weights a mask chooses, and how many of the neurons are toxic.

    A mask of None depends on no toxic neurons, so they are not counted.
    """
    size = sum(neurons.module_rows(config).values())
    weights = count_weights(config, None)
    if mask is None:
        return {
            "neurons": size,
            "of_neurons": size,
            "weights": weights,
            "of_weights": weights,
            "toxic": None,
            "sha256": None,
        }
    shared, _ = neurons.overlap(mask, neurons.union(list(toxic.values())))
    return {
        "neurons": neurons.count(mask),
        "of_neurons": size,
        "weights": count_weights(config, mask),
        "of_weights": weights,
        "toxic": shared,
        "sha256": hash_of(mask),
    }


def hash_of(mask: NeuronMask) -> str:
    """SHA-256 of a mask: of the name and the bits of every module."""
    digest = hashlib.sha256()
    for name, rows in mask.items():
        digest.update(name.encode())
        digest.update(np.packbits(rows).tobytes())
    return digest.hexdigest()


def dependencies(strategy: str) -> dict:
    """The settings that the weights of a strategy's model depend on, and their types."""
    types = {"model": str, "device": str, "dtype": str, "languages": [str]}
    if strategy != "full":
        types |= {"neurons": {str: str}} | types_of_training("choice")
    if strategy in SCALED:
        return types | types_of_training("scaling")
    return types | {"data": {str: str}} | types_of_training("tuning")


def read_training(folder: Path) -> dict:
    """The run.json of a tuned model.

    InputError if another version of minitox wrote it, or if someone changed what the report needs.
    """
    path = folder / "run.json"
    record = read_json(path)
    advice = "tune the model again, or delete the file; then nothing is compared with the model"
    check_format(path, record, advice)
    as_written(path, record, settings={"strategy": str, "draw": int | None}, chosen=CHOSEN)
    settings = record["settings"]
    kinds = dependencies(settings["strategy"])
    if "rates" in kinds:
        # not among those that two models must have in common
        kinds["lr"] = float
    as_written(path, settings, **kinds)
    if (settings["draw"] is not None) != (settings["strategy"] in DRAWN):
        raise InputError(f"{path}: 'draw' does not fit 'strategy'; put the file back")
    share = settings.get("top_share")
    if share is not None and not 0 < share <= 1:
        raise InputError(f"{path}: 'top_share' is {share:g}, which is no share; put the file back")
    check_counts(path, record["chosen"], settings["strategy"])
    as_written(path, record, validation=LOSSES, stages=[{"name": str}])
    check_stages(path, record)
    return record


def check_stages(path: Path, record: dict) -> None:
    """InputError if the losses after a stage are not of the languages with validation pairs."""
    has_pairs = {}
    for language, of_language in record["validation"].items():
        has_pairs[language] = of_language["before"] is not None
    for stage in record["stages"]:
        if "validation" not in stage:
            continue
        losses = as_written(path, stage, validation={str: float | None})["validation"]
        known = {code: loss is not None for code, loss in losses.items()}
        if known != has_pairs:
            raise InputError(
                f"{path}: the losses after the stage {stage['name']!r:.20} are not of the "
                "languages in 'validation'; put the file back"
            )


def read_losses(path: Path, part: str) -> dict[str, float]:
    """The losses of a tuned model on "validation" or "test" pairs, by language.

    Without the languages that have no such pairs. InputError if the record was changed.
    """
    return losses_of(as_written(path, read_json(path), **{part: LOSSES})[part])


def losses_of(measured: dict) -> dict[str, float]:
    """The losses after training, by language, of LOSSES; without languages that have no pairs."""
    losses = {language: of_language["after"] for language, of_language in measured.items()}
    return {language: loss for language, loss in losses.items() if loss is not None}


def check_counts(path: Path, counts: dict, strategy: str) -> None:
    """InputError if a part is larger than the whole, or if the toxic neurons are not counted."""
    toxic = counts["toxic"]
    valid = strategy == "full" if toxic is None else 0 <= toxic <= counts["neurons"]
    for part in ("neurons", "weights"):
        valid = valid and 0 < counts[part] <= counts[f"of_{part}"]
    if not valid:
        raise InputError(f"{path}: the counts of 'chosen' do not fit together; put the file back")


def differences(ours: dict, theirs: dict) -> list[str]:
    """The settings in which two models differ, of those that both depend on.

    The strategy is not one of them, nor are settings that change rounding alone.
    """
    shared = dependencies(theirs["strategy"]).keys() - ROUNDING
    names = [name for name in dependencies(ours["strategy"]) if name in shared]
    return [name for name in names if ours[name] != theirs[name]]
