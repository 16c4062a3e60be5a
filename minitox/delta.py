"""A tuned model as a patch of its base model: the rows that changed, and nothing else.

    python -m minitox.delta MODEL PATCH OUT

makes the tuned model if MODEL is the base, and the base if it is the tuned model. A patch contains
base XOR tuned, bit by bit, so applying it twice undoes it without any loss, in the tuned model's
dtype: a base of another dtype comes back rounded, and the command says so. Without one of the two
models a patch reveals nothing.
"""

import hashlib
from pathlib import Path

import torch

from minitox import locks
from minitox.errors import InputError
from minitox.files import as_written, fitting, read_tensors, write_tensors
from minitox.lm import checkpoint
from minitox.lm.config import read_config
from minitox.lm.model import LanguageModel
from minitox.run import script
from minitox.run.settings import Parser

INTEGER = {"float32": torch.int32, "bfloat16": torch.int16, "float16": torch.int16}


def write(base: Path, tuned: Path, path: Path) -> int:
    """Write the patch between two folders, both in the tuned model's dtype; returns its bytes."""
    tensors = {}
    base_hash = hashlib.sha256()
    tuned_hash = hashlib.sha256()
    for name, old, new in checkpoint.side_by_side(base, tuned):
        add_to(base_hash, name, old)
        add_to(tuned_hash, name, new)
        bits = integers(old) ^ integers(new)
        rows = bits.view(len(bits), -1).any(dim=1).nonzero().squeeze(1)
        if len(rows):
            tensors[f"{name} rows"] = rows.to(torch.int32)
            tensors[f"{name} bits"] = bits[rows]
    about = {
        "base": base_hash.hexdigest(),
        "tuned": tuned_hash.hexdigest(),
        "dtype": read_config(tuned).dtype,
        "base_dtype": read_config(base).dtype,
        "base_fingerprint": checkpoint.fingerprint(base),
        "tuned_fingerprint": checkpoint.fingerprint(tuned),
    }
    write_tensors(path, tensors, "delta", about)
    return path.stat().st_size


def toggle(folder: Path, path: Path, out: Path) -> str:
    """Write the other model of a patch into the new folder `out`; returns which one it is.

    InputError if the patch is broken or was made for another model, or if `out` exists or another
    process writes to it.
    """
    # 1) read the patch
    refuse_existing(out)
    tensors, about = read_tensors(path, "delta", "patch")
    names = ("base", "tuned", "dtype", "base_dtype", "base_fingerprint", "tuned_fingerprint")
    as_written(path, about, **dict.fromkeys(names, str))
    if about["dtype"] not in INTEGER:
        raise InputError(f"{path} is broken: its dtype is {about['dtype']!r}")
    dtype = getattr(torch, about["dtype"])

    # 2) which of its two models is this?
    model = checkpoint.load(folder, dtype=dtype)
    before = weights_hash(model)
    if before == about["base"]:
        other = "tuned"
    elif before == about["tuned"]:
        other = "base"
    else:
        raise InputError(f"{path} is a patch between two other models than {folder}")

    # 3) apply it, and check that it leads to the other model
    apply(model, tensors, path)
    if weights_hash(model) != about[other]:
        raise InputError(f"{path} is broken: it does not lead to the model it was made from")
    locks.acquire(out.with_name(f".{out.name}.lock"), "choose another folder")
    refuse_existing(out)
    checkpoint.save(model, out, source=folder)

    # 4) is it the model that the patch was made from, to the bit?
    model_name = f"the {other} model"
    if checkpoint.fingerprint(out) == about[f"{other}_fingerprint"]:
        return model_name
    if other == "base" and about["dtype"] != about["base_dtype"]:
        return (
            f"{model_name} in {about['dtype']}: not {model_name} itself, "
            f"which is in {about['base_dtype']}"
        )
    return f"{model_name}'s weights: not {model_name} itself, whose other files are different"


def refuse_existing(out: Path):
    """InputError if a folder is there already."""
    if out.exists() or out.is_symlink():
        raise InputError(f"{out} exists already; choose another folder")


def apply(model: LanguageModel, tensors, path: Path):
    """XOR the patched rows into the weights, in place."""
    weights = model.state_dict()
    with fitting(path):
        for key, rows in tensors.items():
            if key.endswith(" rows"):
                name = key.removesuffix(" rows")
                integers(weights[name])[rows.long()] ^= tensors[f"{name} bits"]


def integers(weight):
    """The same bits as integers, sharing memory."""
    return weight.view(INTEGER[str(weight.dtype).removeprefix("torch.")])


def add_to(digest, name: str, weight):
    digest.update(name.encode())
    digest.update(checkpoint.raw(weight))


def weights_hash(model: LanguageModel) -> str:
    """SHA-256 of a model's weights, in the dtype they have in memory."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        add_to(digest, name, weight)
    return digest.hexdigest()


def main(argv: list[str] | None = None):
    parser = Parser(
        prog="python -m minitox.delta", description="Apply a patch to its base model, or undo it."
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="folder of the base model, or of the tuned one")
    add("patch", type=Path, metavar="PATCH", help="file that train.py --delta wrote")
    add("out", type=Path, metavar="OUT", help="new folder for the other model")
    args = parser.parse_args(argv)
    model = toggle(args.model, args.patch, args.out)
    print(f"wrote {args.out}, {model}")


if __name__ == "__main__":
    script.run(main)
