"""The neurons of a tuned model, beside those of its base model: detect.py --of NAME.

OUT/neurons-of/NAME has a neuron file of each language, as OUT/neurons has, and the rows that tuning
changed.
"""

from dataclasses import dataclass
from pathlib import Path

from minitox import neurons
from minitox.errors import InputError
from minitox.files import as_arrays, read_tensors, write_tensors
from minitox.lm import checkpoint
from minitox.neurons import NeuronMask
from minitox.run import distributed
from minitox.run.neuron_files import differences, read_neurons
from minitox.run.training_record import check_files, read_training

FOLDER = "neurons-of"
TUNED_ROWS = "tuned-rows.safetensors"


@dataclass(frozen=True)
class Source:
    """The model whose neurons are measured."""

    model: Path
    name: str  # of the folder of results in OUT
    base: Path | None = None  # the model that it was tuned from


def source(of: str | None, base: Path, out: Path) -> Source:
    """The base model, or the model `of` in `out`/models.

    InputError if that is not a model that train.py made from the base model.
    """
    if of is None:
        return Source(base, "neurons")
    folder = out / "models" / of
    if not of or Path(of).name != of or not folder.is_dir():
        raise InputError(f"--of {of}: {folder} is no model folder; run train.py first")
    made_from = read_training(folder)["settings"]["model"]
    check_files(folder)
    if made_from != checkpoint.fingerprint(base):
        raise InputError(f"--of {of}: {folder} was not made from {base}; give its base as --model")
    return Source(folder, f"{FOLDER}/{of}", base)


def prepare(
    source: Source,
    out: Path,
    made_with: dict,  # the model and the settings
    hashes: dict[str, str],  # of each language's sentences
    rows: dict[str, int],
) -> None:
    """Write which rows were tuned, if the model is a tuned one.

    InputError if the base model's neurons were measured in another way, or not at all.
    """
    if source.base is None:
        return
    # 1) two AUROCs are compared only if they were measured in the same way
    fingerprint = checkpoint.fingerprint(source.base)
    for language, hash in hashes.items():
        path = out / "neurons" / f"{language}.safetensors"
        _, about = read_neurons(path, rows, fingerprint)
        if different := differences(about, made_with | {"data": hash}, more=("data",)):
            raise InputError(
                f"{path} was made with another {different[0]}, so its AUROCs cannot be compared; "
                "give the same settings as without --of"
            )

    # 2) the rows
    path = out / source.name / TUNED_ROWS
    about = {"model": made_with["model"], "base": fingerprint}
    distributed.once(write_tuned_rows, path, source, rows, about)


def write_tuned_rows(path: Path, source: Source, rows: dict[str, int], about: dict) -> None:
    """Write a mask of the neurons whose weights differ from the base model's."""
    mask = {}
    for name, before, after in checkpoint.side_by_side(source.base, source.model):
        module = name.removesuffix(".weight")
        if module in rows:
            mask[module] = (before != after).any(dim=1)
    write_tensors(path, mask, "tuned", about)


def read_tuned_rows(path: Path, rows: dict[str, int], about: dict) -> NeuronMask:
    """The mask of the neurons that tuning changed; InputError if it is of other models."""
    if not path.exists():
        raise InputError(f"{path}: no such file; run detect.py --of {path.parent.name}")
    tensors, written = read_tensors(path, "tuned", "file of tuned rows")
    mask = as_arrays(path, tensors)
    shapes = {name: (len(values), str(values.dtype)) for name, values in mask.items()}
    if shapes != {name: (count, "bool") for name, count in rows.items()}:
        raise InputError(f"{path} does not fit the model; delete it, and run detect.py")
    if any(written.get(key) != value for key, value in about.items()):
        raise InputError(f"{path} was made from another model; delete {path.parent}")
    return {name: mask[name] for name in rows}


def read_both(folder: Path, out: Path, base, candidate, language: str) -> tuple[dict, dict]:
    """AUROCs of a language before and after tuning.

    InputError if they are of other models, or were measured in different ways.
    """
    rows = neurons.module_rows(base.config)
    name = f"{language}.safetensors"
    before, about = read_neurons(out / "neurons" / name, rows, base.fingerprint)
    after, about_after = read_neurons(folder / name, rows, candidate.fingerprint)
    if different := differences(about, about_after, more=("data",)):
        raise InputError(
            f"{folder / name}: the base model's AUROCs were measured with another {different[0]}"
        )
    return before, after
