"""Neuron files, which detect.py writes: every neuron's AUROC, and controls; or its importance.

A file has two tensors for each module, the AUROCs with the true labels and, under a name that
begins with SHUFFLED, those with shuffled labels. The other controls are in its metadata. A file of
another selector has one tensor for each module, and the selector in its metadata.
"""

import math
from pathlib import Path

import numpy as np

from minitox.errors import InputError
from minitox.files import as_arrays, read_tensors, write_tensors
from minitox.neurons import NeuronAUROC
from minitox.run import outputs
from minitox.run.settings import types_of_detection

# how AUROCs are measured, besides the sentences: what files that are compared have in common
MEASURED = (*types_of_detection(), "device", "dtype")
SHUFFLED = "shuffled."
# in OUT, by selector
FOLDERS = {"auroc": "neurons", "taylor": "neurons-taylor", "dinm": "neurons-dinm"}


def write_neurons(path: Path, auroc: NeuronAUROC, shuffled: NeuronAUROC, about: dict):
    """Write AUROCs with true and with shuffled labels, and `about`, how they were computed."""
    both = auroc | named_shuffled(shuffled)
    tensors = {name: values.astype(np.float32) for name, values in both.items()}
    check_modules(path, tensors, {name: len(values) for name, values in both.items()})
    write_tensors(path, tensors, "detect", about)


def read_neurons(
    path: Path, rows: dict[str, int], fingerprint: str | None = None, shuffled: bool = False
) -> tuple[NeuronAUROC, dict]:
    """AUROCs and `about`, of a model with these modules and, if given, this fingerprint.

    `shuffled`: the AUROCs with shuffled labels. InputError if the file is missing or broken, or was
    made from another model or language, or by a version of minitox that did not shuffle labels.
    """
    both, about = read_file(path, "auroc")
    if not any(name.startswith(SHUFFLED) for name in both):
        raise InputError(
            f"{path} has no AUROCs with shuffled labels, so an older version of minitox wrote it; "
            "delete it, and run detect.py"
        )
    check_modules(path, both, rows | named_shuffled(rows))
    check_source(path, about, fingerprint)
    prefix = SHUFFLED if shuffled else ""
    return {name: both[prefix + name] for name in rows}, about


def write_importance(path: Path, importance: dict[str, np.ndarray], about: dict):
    """Write the importance of every neuron, and `about`, how it was computed."""
    write_tensors(path, importance, "detect", about)


def read_importance(
    path: Path, rows: dict[str, int], selector: str, fingerprint: str | None = None
) -> tuple[dict[str, np.ndarray], dict]:
    """What a selector gave every neuron, (R,) of each module, and `about`; as `read_neurons`."""
    values, about = read_file(path, selector)
    check_modules(path, values, rows, most=math.inf)
    check_source(path, about, fingerprint)
    return {name: values[name] for name in rows}, about  # in the model's order


def read_file(path: Path, selector: str) -> tuple[dict[str, np.ndarray], dict]:
    """All tensors of a neuron file; InputError if it is missing, or another selector's."""
    if not path.exists():
        run = "detect.py" if selector == "auroc" else f"detect.py --select {selector}"
        raise InputError(f"{path}: no such file; run {run} first")
    tensors, about = read_tensors(path, "detect", "neuron file")
    other = about.get("selector", "auroc")
    if other != selector:
        raise InputError(
            f"{path} was made with --select {other!s:.20}, not {selector}; "
            "check --by and --neurons of train.py"
        )
    return as_arrays(path, tensors), about


def check_source(path: Path, about: dict, fingerprint: str | None):
    """InputError if a file was made from another language, or another model if one is given."""
    if about.get("language") != path.stem:
        raise InputError(
            f"{path} was made from sentences of {about.get('language')!r:.20}; "
            "give it back its name, or run detect.py"
        )
    if fingerprint is not None and about.get("model") != fingerprint:
        raise InputError(f"{path} was made from another model; run detect.py on this one")


def check_alike(path: Path, about: dict, others: dict[str, dict]):
    """InputError if a file was made in another way than those of other languages, `about` each."""
    for language, other in others.items():
        if different := differences(about, other):
            raise InputError(
                f"{path} was made with another {different[0]} than the file of {language}, so "
                "their AUROCs cannot be compared; run detect.py for both with the same settings"
            )


def differences(ours: dict, theirs: dict, more: tuple[str, ...] = ()) -> list[str]:
    """In which of MEASURED, and of some more, two neuron files differ."""
    return [name for name in (*MEASURED, *more) if ours.get(name) != theirs.get(name)]


def named_shuffled(by_module: dict) -> dict:
    """The same values under the names of the tensors with shuffled labels."""
    return {SHUFFLED + name: values for name, values in by_module.items()}


def check_modules(path: Path, auroc: NeuronAUROC, rows: dict[str, int], most: float = 1.0):
    """InputError if the values do not fit the modules of a model, or are not in [0, most]."""
    for name, count in rows.items():
        if name not in auroc:
            raise InputError(f"{path}: module {name} is missing, the model has {count} rows there")
        values = auroc[name]
        if values.shape != (count,):
            raise InputError(
                f"{path}: module {name} has shape {list(values.shape)}, "
                f"the model has {count} rows there"
            )
        if not ((values >= 0) & (values <= most)).all():  # NaN is not in the range either
            kind = "AUROC values outside [0, 1]" if most == 1 else "negative values"
            raise InputError(f"{path} is broken: {name} contains {kind}")
    if extra := auroc.keys() - rows.keys():
        raise InputError(f"{path}: the model has no module {min(extra)}")


def unfinished(
    files: dict[str, Path],
    hashes: dict[str, dict[str, str]],  # of what each language's file is made from
    made_with: dict,  # the model and the settings
    read,  # a file -> its values, and how they were computed
) -> list[str]:
    """The languages without a neuron file; InputError if one was made from anything else."""
    todo = []
    for language, path in files.items():
        settings = made_with | hashes[language]

        def recorded(path: Path, names=tuple(settings)) -> dict:
            _, about = read(path)
            return {name: about.get(name) for name in names}

        if not outputs.is_done(path, settings, recorded):
            todo.append(language)
    return todo
