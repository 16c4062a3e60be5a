"""A Hugging Face folder in, a Hugging Face folder out; one tensor in memory at a time.

Loading is strict: every tensor must be there, with the right shape, and nothing else.
"""

import hashlib
import json
import math
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file

from minitox.errors import InputError
from minitox.files import (
    check_regular,
    is_finite,
    open_safetensors,
    read_json,
    replacing,
    temporary_path,
    write_json,
)
from minitox.lm.config import read_config
from minitox.lm.model import LanguageModel
from minitox.lm.text import text_identity

DTYPES = ("F32", "F16", "BF16")  # as safetensors writes them
# in old checkpoints; config.json says the same
NOT_READ = ("rotary_emb.inv_freq", "embeddings.position_ids")
BESIDES_WEIGHTS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)
FILES = ("config.json", "model.safetensors.index.json", *BESIDES_WEIGHTS)
SHARD_BYTES = 5 * 10**9


# Load


def language_model(folder: Path) -> LanguageModel:
    return LanguageModel(read_config(folder))


def load(folder: Path, device="cpu", dtype=None, build=language_model) -> LanguageModel:
    """The model of a folder, on `device` in `dtype` (default: the folder's own).

    `build` makes the model of a folder, whatever its weights.
    InputError names the first tensor that is missing, has a wrong shape, or does not belong there,
    or that is not finite in `dtype`.
    """
    model, files = without_weights(folder, dtype, build)
    weights = {}
    for name, weight in model.named_parameters():
        stored = read_tensor(files[name], name)
        weights[name] = stored.to(device, weight.dtype, copy=True)  # this releases the mapped file
        check_finite(files[name], name, weights[name], weight.dtype)
    model.load_state_dict(weights, assign=True)
    return model.eval()


def without_weights(
    folder: Path, dtype=None, build=language_model
) -> tuple[LanguageModel, dict[str, Path]]:
    """The model of a folder on the meta device, and the file of each tensor, both checked."""
    folder = Path(folder)
    check_links(folder)
    with torch.device("meta"):  # shapes only, no memory
        model = build(folder)
    model = model.to(dtype or getattr(torch, model.config.dtype)).requires_grad_(False)
    files = weight_files(folder)
    check_names_and_shapes(folder, model, files)
    return model, files


def weight_files(folder: Path) -> dict[str, Path]:
    """The file of each tensor: model.safetensors, or the shards named by an index."""
    single = folder / "model.safetensors"
    if single.exists():
        return dict.fromkeys(tensor_names(single), single)
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        raise InputError(
            f"{folder}: no model.safetensors and no model.safetensors.index.json; "
            "minitox reads safetensors weights only"
        )
    return {name: folder / shard for name, shard in read_index(index).items()}


def read_index(index):
    """The shard of each tensor; InputError if the index and the shards disagree."""
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise InputError(f"{index}: weight_map is missing or empty")

    # 1) no shard outside the folder
    for shard in shards.values():
        if not isinstance(shard, str) or Path(shard).name != shard or shard in ("", ".."):
            raise InputError(
                f"{index}: shard {shard!r} is not a file name; "
                "an index may not point outside its folder"
            )

    # 2) the same tensors in the index and in the shards
    stored = set()
    for shard in sorted(set(shards.values())):
        stored |= {(name, shard) for name in tensor_names(index.parent / shard)}
    for name, shard in sorted(shards.items() - stored):
        raise InputError(
            f"{index.parent / shard}: tensor {name} is missing, though the index puts it there"
        )
    for name, shard in sorted(stored - shards.items()):
        raise InputError(f"{index.parent / shard}: tensor {name} is not in the index")
    return shards


def tensor_names(path: Path) -> list[str]:
    with open_safetensors(path) as file:
        return list(file.keys())


def read_tensor(path: Path, name: str) -> torch.Tensor:
    """One tensor; the file is opened for it alone, which releases the pages of earlier tensors."""
    with open_safetensors(path) as file:
        return file.get_tensor(name)


def check_names_and_shapes(folder, model, files):
    """InputError if the files do not have the model's tensors; nothing is read yet."""
    config = model.config
    expected = {name: list(weight.shape) for name, weight in model.state_dict().items()}
    for name in expected:
        if name not in files:
            raise InputError(f"{folder}: tensor {name} is missing")
    for name, path in files.items():
        if name.endswith(NOT_READ):
            continue
        with open_safetensors(path) as file:
            stored = file.get_slice(name)
            shape = stored.get_shape()
            dtype = stored.get_dtype()
        if name == "lm_head.weight" and config.tie_word_embeddings:
            check_tied_head(folder, files)
        elif name not in expected:
            raise InputError(
                f"{path}: tensor {name} does not belong to a {config.model_type} "
                f"of {config.num_hidden_layers} layers"
            )
        elif shape != expected[name]:
            raise InputError(
                f"{path}: tensor {name} has shape {shape}, config.json asks for {expected[name]}"
            )
        if dtype not in DTYPES:
            raise InputError(
                f"{path}: tensor {name} has dtype {dtype}; only {', '.join(DTYPES)} are supported"
            )


def check_tied_head(folder, files):
    """InputError if a head that config.json calls tied is stored and is not the embedding."""
    names = ("lm_head.weight", "model.embed_tokens.weight")
    head, embedding = (read_tensor(files[name], name) for name in names)
    if not torch.equal(head, embedding):
        raise InputError(
            f"{folder}: config.json ties lm_head.weight to the embedding, but the two differ; "
            "set tie_word_embeddings to false"
        )


def check_finite(path: Path, name: str, tensor, dtype):
    """InputError if a weight contains NaN or infinity, or would in the dtype it is used in."""
    if not is_finite(tensor, dtype):
        raise InputError(
            f"{path}: tensor {name} contains NaN or infinity in {dtype}; "
            "the weights are broken, or need another --dtype"
        )


# Save


def save(
    model: LanguageModel,
    folder: Path,
    source: Path,  # the folder that the model came from, whose config and tokenizer are copied
    shard_bytes: int = SHARD_BYTES,
    whole=lambda weight: weight,  # makes a sharded weight whole
) -> None:
    """Write a model as a folder that transformers opens.

    The folder appears whole or not at all; an existing one of this name is replaced.
    """
    folder = Path(folder)
    source = Path(source)
    weights = model.state_dict()
    check_links(source)
    with new_folder(folder) as temporary:
        # 1) tokenizer and config, with the dtype of these weights
        copy_beside_weights(source, temporary)
        write_config(source, temporary, weights)
        # 2) weights
        save_weights(weights, temporary, shard_bytes, whole)


@contextmanager
def new_folder(folder: Path):
    """Yield a temporary folder, which replaces `folder` if the block succeeds.

    Its name is new, and a link in the place of `folder` is removed, not followed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(folder)
    temporary.mkdir()
    try:
        yield temporary
        if folder.is_symlink():
            folder.unlink()
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def copy_beside_weights(source: Path, folder: Path):
    """Copy the tokenizer and what else a model's folder has besides config and weights."""
    for name in BESIDES_WEIGHTS:
        if (source / name).exists():
            check_regular(source / name)
            shutil.copyfile(source / name, folder / name)


def write_config(source: Path, folder: Path, weights: dict):
    """Write the config.json of `source`, with the dtype of these weights."""
    config = read_json(source / "config.json")
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    dtype = next(iter(weights.values())).dtype
    config[key] = str(dtype).removeprefix("torch.")
    write_json(folder / "config.json", config)


def save_weights(
    weights: dict,
    folder: Path,
    shard_bytes: int = SHARD_BYTES,
    whole=lambda weight: weight,
) -> None:
    """Write one model.safetensors, or shards of at most `shard_bytes` and their index."""
    # 1) the names in each shard, which may be one weight that is larger
    shards = [[]]
    size = 0
    for name, weight in weights.items():
        size += weight.nbytes
        if shards[-1] and size > shard_bytes:
            shards.append([])
            size = weight.nbytes
        shards[-1].append(name)

    # 2) the files
    weight_map = {}
    for i, names in enumerate(shards, start=1):
        file_name = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        if len(shards) == 1:
            file_name = "model.safetensors"
        weight_map |= dict.fromkeys(names, file_name)
        tensors = {name: whole(weights[name]).cpu().contiguous() for name in names}
        with replacing(folder / file_name) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})
    if len(shards) > 1:
        total = sum(weight.nbytes for weight in weights.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(folder / "model.safetensors.index.json", index)


# Links


def is_part(path: Path) -> bool:
    """Whether a file of a model's folder is one of those that make the model."""
    return path.name in FILES or path.suffix == ".safetensors"


def check_links(folder: Path):
    """InputError if a link in a model's folder leads out of it, or a side file is no regular file.

    What a link leads to would get into the tuned models that users publish. The cache of Hugging
    Face consists of links from models--NAME/snapshots/HASH into models--NAME/blobs.
    """
    inside = [folder.resolve()]
    if inside[0].parent.name == "snapshots":
        inside.append(inside[0].parents[1] / "blobs")
    for path in sorted(filter(is_part, folder.glob("*"))):
        if not path.is_symlink():
            if path.name in BESIDES_WEIGHTS:  # they are copied, after all the tuning
                check_regular(path)
            continue
        target = Path(os.path.realpath(path))
        if not target.exists():
            raise InputError(f"{path} is a link to {target}, which does not exist")
        if not any(target.is_relative_to(place) for place in inside):
            raise InputError(
                f"{path} is a link to {target}, outside the model's folder; "
                "copy the file into the folder"
            )


# Compare


def fingerprint(folder: Path) -> str:
    """SHA-256 of a model: config, tokenizer, chat template and every weight.

    It does not depend on how the folder is sharded or its files are laid out.
    """
    folder = Path(folder)
    check_links(folder)
    config = read_config(folder)
    digest = hashlib.sha256(repr(config).encode())
    if config.layers_without_rope:
        digest.update(json.dumps(sorted(config.layers_without_rope)).encode())
    digest.update(text_identity(folder).encode())
    for name, path in sorted(weight_files(folder).items()):
        weight = read_tensor(path, name)
        about = [name, str(weight.dtype), list(weight.shape)]
        digest.update(json.dumps(about).encode())
        digest.update(raw(weight))
    return digest.hexdigest()


def raw(weight):
    """A tensor's bytes, in which 0 and -0 differ."""
    return weight.contiguous().view(-1).view(torch.uint8).numpy()


def root_mean_square(folder: Path, names) -> float:
    """Of the weights with these names; three digits, on which every machine agrees.

    InputError as for `load`, of these weights alone if one is not finite.
    """
    _, files = without_weights(folder)
    squares = 0.0
    count = 0
    for name in names:
        weight = read_tensor(files[name], name)
        check_finite(files[name], name, weight, weight.dtype)
        squares += weight.float().square().sum(dtype=torch.float64).item()
        count += weight.numel()
    return float(f"{math.sqrt(squares / count):.3g}")


def side_by_side(base: Path, tuned: Path):
    """Yield (name, base's weight, tuned's weight), both in the tuned model's dtype, by name."""
    before = weight_files(base)
    after = weight_files(tuned)
    for name in sorted(after):
        weight = read_tensor(after[name], name)
        yield name, read_tensor(before[name], name).to(weight.dtype), weight
