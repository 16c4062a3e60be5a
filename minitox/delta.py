"""A tuned model as a patch of its base: the rows that changed, and nothing else.

    python -m minitox.delta MODEL PATCH OUT

makes the tuned model of MODEL if that is the base, and the base if it is the tuned model. A patch holds the exclusive or of
their bits, base ^ tuned, so applying it twice undoes it, and no bit is lost either way; without one of the two it says nothing.
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from minitox.errors import InputError
from minitox.files import as_written, parse, replacing
from minitox.lm import checkpoint
from minitox.lm.config import read_config
from minitox.run import cli

INTEGER = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


def write(base: Path, tuned: Path, path: Path) -> int:
    """Write the patch between `tuned` and `base`, read in the same dtype; returns its size in bytes."""
    tensors, hashes = {}, (hashlib.sha256(), hashlib.sha256())
    for name, old, new in checkpoint.side_by_side(base, tuned):
        add_to(hashes[0], name, old)
        add_to(hashes[1], name, new)
        bits = integers(old) ^ integers(new)
        rows = bits.view(len(bits), -1).any(dim=1).nonzero().squeeze(1)
        if len(rows):
            tensors[f"{name} rows"], tensors[f"{name} bits"] = rows.to(torch.int32), bits[rows]
    about = {
        "base": hashes[0].hexdigest(),
        "tuned": hashes[1].hexdigest(),
        "dtype": read_config(tuned).dtype,
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"delta": json.dumps(about)})
    return path.stat().st_size


def toggle(folder: Path, path: Path, out: Path) -> str:
    """Write the other model of a patch into the new folder `out`; returns which it is, "tuned" or "base".

    InputError if the patch is broken or made for another model.
    """
    if out.exists():
        raise InputError(f"{out} exists already; choose another folder")
    with checkpoint.open_safetensors(path) as file:
        metadata, tensors = (
            file.metadata() or {},
            {name: file.get_tensor(name) for name in file.keys()},
        )
    if "delta" not in metadata:
        raise InputError(f"{path}: not a patch (its metadata lacks 'delta')")
    about = as_written(
        path, parse(path, metadata["delta"].encode()), base=str, tuned=str, dtype=str
    )
    if (dtype := getattr(torch, about["dtype"], None)) not in INTEGER:
        raise InputError(f"{path} is broken: its dtype is {about['dtype']!r}")
    model = checkpoint.load(folder, dtype=dtype)
    sides = {about["base"]: "tuned", about["tuned"]: "base"}
    if (found := weights_hash(model)) not in sides:
        raise InputError(f"{path} is a patch between two other models than {folder}")
    weights = model.state_dict()
    with checkpoint.fitting(path):
        for name in [name.removesuffix(" rows") for name in tensors if name.endswith(" rows")]:
            integers(weights[name])[tensors[f"{name} rows"].long()] ^= tensors[f"{name} bits"]
    if about[sides[found]] != weights_hash(model):
        raise InputError(f"{path} is broken: it does not lead to the model that it was made from")
    checkpoint.save(model, out, source=folder)
    return sides[found]


def integers(weight):
    """The same bits as integers, sharing memory."""
    return weight.view(INTEGER[weight.dtype])


def add_to(digest, name: str, weight) -> None:
    digest.update(name.encode())
    digest.update(checkpoint.raw(weight))


def weights_hash(model) -> str:
    """SHA-256 of a model's weights, in the dtype they have in memory."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        add_to(digest, name, weight)
    return digest.hexdigest()


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m minitox.delta", description="Apply a patch to its base model, or undo it."
    )
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="folder of the base model, or of the tuned one"
    )
    parser.add_argument("patch", type=Path, metavar="PATCH", help="what train.py --delta wrote")
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder for the other one")
    args = parser.parse_args(argv)
    side = toggle(args.model, args.patch, args.out)
    print(f"wrote {args.out}, the {side} model")


if __name__ == "__main__":
    cli.run(main)
