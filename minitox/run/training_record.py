"""run.json of a tuned model: which neurons were chosen, with which settings, and comparisons."""

import hashlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from minitox import neurons
from minitox.data import pairs_hash
from minitox.errors import InputError
from minitox.files import as_written, check_format, file_hash, hashes_of_languages, read_json
from minitox.lm import checkpoint
from minitox.lm.config import Config
from minitox.neurons import SELECTORS, NeuronMask
from minitox.run.settings import types_of_training
from minitox.train.strategies import DRAWN, OBJECTIVES, ORDERED, SCALED, count_weights

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

# strategies that choose no neurons; the models of lora are those of tests/lora.py
WITHOUT_NEURONS = ("full", "lora")

# of each language, on its validation pairs or its test pairs
LOSSES = {str: {"pairs": int, "before": float | None, "after": float | None}}
# likewise of a model that was tuned with DPO, as train.dpo.preferences gives it
NUMBERS = {"margin": float | None, "accuracy": float | None, "reply_loss": float | None}
PREFERENCES = {"validation": {str: NUMBERS}, "test": {str: NUMBERS}}


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


def choices(by: str) -> dict[str, type]:
    """The settings that choose neurons by a selector, and their types."""
    types = types_of_training("choice")
    if by == "auroc":
        return types
    if by == "dinm":  # its size is fixed
        return {"by": str}
    return {"by": str, "top_share": types["top_share"]}


def objective_of(settings: dict) -> str | None:
    """The objective of a model, which its settings name unless it is the default.

    None if it is not tuned.
    """
    return None if settings["strategy"] in SCALED else settings.get("objective", "sft")


def pairs_of(settings: dict) -> dict[str, str]:
    """The hash of each language's pairs that a model was tuned on; none if it is not tuned."""
    return settings["data"] if objective_of(settings) else {}


def hashes_of_pairs(folder: Path, languages: Iterable[str]) -> dict[str, dict]:
    """{objective: {language: hash}} of the files of instructions/, None for one that is absent."""
    hashes = {}
    for objective in OBJECTIVES:
        hash_of = partial(pairs_hash, objective=objective)
        hashes[objective] = hashes_of_languages(folder, languages, hash_of)
    return hashes


def dependencies(strategy: str, objective: str | None = None, by: str = "auroc") -> dict:
    """The settings that the weights of a strategy's model depend on, and their types.

    `by`: what its neurons were chosen by.
    """
    types = {"model": str, "device": str, "dtype": str, "languages": [str]}
    if strategy not in WITHOUT_NEURONS:
        types |= {"neurons": {str: str}} | choices(by)
    if strategy in SCALED:
        return types | types_of_training("scaling")
    types |= {"data": {str: str}} | types_of_training("tuning")
    if strategy == "lora":
        del types["rates"]  # adapters have rates of their own
    return types | (types_of_training("preference") if objective == "dpo" else {})


def depends_on(settings: dict) -> dict:
    """`dependencies` of the model that has these settings in its run.json."""
    by = settings.get("by", "auroc")
    types = dependencies(settings["strategy"], objective_of(settings), by)
    if "split" in settings and "data" in types:
        types["split"] = {str: str}
    return types | ({"order": [str]} if "order" in settings else {})


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
    kinds = depends_on(settings)
    if "rates" in kinds:
        # not among those that two models must have in common
        kinds["lr"] = float
    as_written(path, settings, **kinds)
    if settings.get("objective", "sft") not in OBJECTIVES:
        raise InputError(
            f"{path}: 'objective' is {settings['objective']!r:.20}, which is none; put it back"
        )
    if (settings["draw"] is not None) != (settings["strategy"] in DRAWN):
        raise InputError(f"{path}: 'draw' does not fit 'strategy'; put the file back")
    if "order" in settings and not is_order(settings):
        raise InputError(
            f"{path}: 'order' does not fit 'strategy' and 'languages'; put the file back"
        )
    if settings.get("by", "auroc") not in SELECTORS:
        raise InputError(
            f"{path}: 'by' is {settings['by']!r:.20}, which is no selector; put it back"
        )
    share = settings.get("top_share")
    if share is not None and not 0 < share <= 1:
        raise InputError(f"{path}: 'top_share' is {share:g}, which is no share; put the file back")
    check_counts(path, record["chosen"], settings["strategy"])
    as_written(path, record, validation=LOSSES, stages=[{"name": str}])
    for name, kinds in {"test": LOSSES, "preferences": PREFERENCES}.items():
        if name in record:
            as_written(path, record, **{name: kinds})
    check_stages(path, record)
    return record


def is_order(settings: dict) -> bool:
    """Whether a later order is one of the languages, and of a strategy that has several."""
    is_permutation = sorted(settings["order"]) == sorted(settings["languages"])
    return is_permutation and settings["strategy"] in ORDERED


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


def read_choosing_losses(path: Path) -> dict[str, float]:
    """`choosing_losses` of a tuned model; InputError if its record was changed."""
    record = as_written(path, read_json(path), validation=LOSSES)
    if "preferences" in record:
        as_written(path, record, preferences=PREFERENCES)
    return choosing_losses(record)


def choosing_losses(record: dict) -> dict[str, float]:
    """By language, the loss on the replies of validation pairs, which chooses a learning rate.

    DPO's own loss would choose the highest: it falls with any rate, while replies break.
    """
    if "preferences" not in record:
        return losses_of(record["validation"])
    measured = record["preferences"]["validation"]
    losses = {language: numbers["reply_loss"] for language, numbers in measured.items()}
    return {language: loss for language, loss in losses.items() if loss is not None}


def losses_of(measured: dict) -> dict[str, float]:
    """The losses after training, by language, of LOSSES; without languages that have no pairs."""
    losses = {language: of_language["after"] for language, of_language in measured.items()}
    return {language: loss for language, loss in losses.items() if loss is not None}


def check_counts(path: Path, counts: dict, strategy: str) -> None:
    """InputError if a part is larger than the whole, or if the toxic neurons are not counted."""
    toxic = counts["toxic"]
    valid = strategy in WITHOUT_NEURONS if toxic is None else 0 <= toxic <= counts["neurons"]
    for part in ("neurons", "weights"):
        valid = valid and 0 < counts[part] <= counts[f"of_{part}"]
    if not valid:
        raise InputError(f"{path}: the counts of 'chosen' do not fit together; put the file back")


def differences(ours: dict, theirs: dict) -> list[str]:
    """The settings in which two models differ, of those that both depend on.

    The strategy and the selector are none of them, nor are settings that change rounding alone.
    """
    shared = depends_on(theirs).keys() - ROUNDING - {"by", "split"}
    if ours.get("by") != theirs.get("by"):
        shared -= {"neurons"}  # each selector has files of its own
    names = [name for name in depends_on(ours) if name in shared]
    different = [name for name in names if ours[name] != theirs[name]]
    # named only if no other setting explains it; versions that ignored ids have not recorded it
    if not different and "data" in names and ours.get("split") != theirs.get("split"):
        different.append("split")
    return different


def file_hashes(folder: Path) -> dict[str, str]:
    """The hash of every file of a model but run.json, which records them."""
    hashes = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != "run.json":
            hashes[path.name] = file_hash(path)
    return hashes


def check_files(folder: Path):
    """InputError if a file of a model is missing, added, or not the one that run.json describes."""
    path = folder / "run.json"
    recorded = as_written(path, read_json(path), files={str: str})["files"]
    present = {path.name for path in folder.iterdir() if checkpoint.is_part(path)}
    for name in sorted(recorded.keys() | present):
        if not (folder / name).exists():
            state = "is missing; put it back"
        elif name not in recorded:
            state = "is not from train.py; move it away"
        elif file_hash(folder / name) != recorded[name]:
            state = "is not the file that train.py wrote; put it back"
        else:
            continue
        raise InputError(f"{folder / name} {state}, or delete {folder} to make the model again")
