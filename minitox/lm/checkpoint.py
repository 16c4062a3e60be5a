"""A Hugging Face folder in, a Hugging Face folder out: strict about every tensor, one tensor in memory at a time."""

import hashlib
import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from minitox.errors import InputError
from minitox.files import read_json, replacing, write_json
from minitox.lm.config import Config, read_config
from minitox.lm.model import LanguageModel
from minitox.run import distributed

DTYPES = ("F32", "F16", "BF16")  # as safetensors spells them
BESIDES_WEIGHTS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def load(
    folder: Path, device="cpu", dtype: torch.dtype | None = None, spread: bool = False
) -> LanguageModel:
    """Build the model of a folder, its weights on `device` in `dtype` (the folder's own by default); with `spread`, each
    process of several holds a share of every layer.

    Every tensor must be there, of the right shape, and no other; InputError names the first that is not.
    """
    folder, device = Path(folder), torch.device(device)
    config = read_config(folder)
    with torch.device("meta"):  # shapes only; memory is taken tensor by tensor below
        model = (
            LanguageModel(config).to(dtype or getattr(torch, config.dtype)).requires_grad_(False)
        )
    files = weight_files(folder)
    check_names_and_shapes(folder, config, model, files)
    if spread and distributed.WORLD > 1:
        distributed.spread(model, device)
        model.to_empty(device=device)
    for name, weight in list(model.named_parameters()):
        stored = distributed.part(read_tensor(files[name], name), weight)
        if weight.is_meta:
            parent, leaf = name.rsplit(".", 1)
            stored = stored.to(device, weight.dtype, copy=True)  # a copy lets go of the mapped file
            setattr(model.get_submodule(parent), leaf, nn.Parameter(stored, requires_grad=False))
        else:
            distributed.local(weight).copy_(stored)
    return model.eval()


def weight_files(folder: Path) -> dict[str, Path]:
    """The file that holds each tensor of a folder: one model.safetensors, or the shards that an index names."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return dict.fromkeys(tensor_names(single), single)
    if not index.exists():
        raise InputError(
            f"{folder}: no model.safetensors and no model.safetensors.index.json; "
            "minitox reads safetensors weights only"
        )
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise InputError(f"{index}: weight_map is missing or empty")
    for shard in shards.values():
        if not isinstance(shard, str) or Path(shard).name != shard or shard in ("", ".."):
            raise InputError(
                f"{index}: shard {shard!r} is not a file name; an index may not point outside its folder"
            )
    held = {shard: set(tensor_names(folder / shard)) for shard in sorted(set(shards.values()))}
    for name, shard in shards.items():
        if name not in held[shard]:
            raise InputError(
                f"{folder / shard}: tensor {name} is missing, though the index puts it there"
            )
    for shard, names in held.items():
        for name in names - {name for name in shards if shards[name] == shard}:
            raise InputError(f"{folder / shard}: tensor {name} is not in the index")
    return {name: folder / shard for name, shard in shards.items()}


def tensor_names(path: Path) -> list[str]:
    with open_safetensors(path) as file:
        return list(file.keys())


@contextmanager
def open_safetensors(path: Path):
    """safetensors' own reader, with errors that name the file."""
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (SafetensorError, OSError, UnicodeError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({error})") from None


@contextmanager
def fitting(path: Path):
    """What the tensors of a file are put into has their names and shapes; InputError otherwise."""
    try:
        yield
    except (LookupError, RuntimeError):
        raise InputError(
            f"{path} is broken: it does not fit the model that it was made for"
        ) from None


def read_tensor(path: Path, name: str) -> torch.Tensor:
    """One tensor. The file is opened for it alone, so that the pages mapped for earlier ones are given back."""
    with open_safetensors(path) as file:
        return file.get_tensor(name)


def check_names_and_shapes(
    folder: Path, config: Config, model: LanguageModel, files: dict[str, Path]
) -> None:
    """Compare a checkpoint with the model before anything is read."""
    expected = {name: list(weight.shape) for name, weight in model.state_dict().items()}
    for name in expected:
        if name not in files:
            raise InputError(f"{folder}: tensor {name} is missing")
    for name, path in files.items():
        if name.endswith(
            "rotary_emb.inv_freq"
        ):  # old checkpoints store what config.json already says
            continue
        with open_safetensors(path) as file:
            shape, dtype = file.get_slice(name).get_shape(), file.get_slice(name).get_dtype()
        if name == "lm_head.weight" and config.tie_word_embeddings:
            check_tied_head(folder, files)
        elif name not in expected:
            raise InputError(
                f"{path}: tensor {name} is no part of a {config.model_type} of {config.num_hidden_layers} layers"
            )
        elif shape != expected[name]:
            raise InputError(
                f"{path}: tensor {name} has shape {shape}, config.json asks for {expected[name]}"
            )
        if dtype not in DTYPES:
            raise InputError(
                f"{path}: tensor {name} has dtype {dtype}; only {', '.join(DTYPES)} are supported"
            )


def check_tied_head(folder: Path, files: dict[str, Path]) -> None:
    """A head that config.json calls tied may be stored, if it is the embedding."""
    names = "lm_head.weight", "model.embed_tokens.weight"
    head, embedding = (read_tensor(files[name], name) for name in names)
    if not torch.equal(head, embedding):
        raise InputError(
            f"{folder}: config.json ties lm_head.weight to the embedding, but the two differ; "
            "set tie_word_embeddings to false"
        )


def save(model: LanguageModel, folder: Path, source: Path, shard_bytes: int = 5 * 10**9) -> None:
    """Write `model` as a folder that transformers opens; config and tokenizer are those of `source`, the folder it came from.

    The folder appears whole or not at all; one of the same name is replaced. A model that is spread takes all processes.
    """
    folder, source = Path(folder), Path(source)
    temporary = folder.with_name(f".{folder.name}.partial")
    weights = model.state_dict()
    if distributed.FIRST:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name in BESIDES_WEIGHTS:
            if (source / name).exists():
                shutil.copyfile(source / name, temporary / name)
        config = read_json(source / "config.json")
        config["torch_dtype" if "torch_dtype" in config else "dtype"] = str(
            next(iter(weights.values())).dtype
        ).removeprefix("torch.")
        write_json(temporary / "config.json", config)
    save_weights(weights, temporary, shard_bytes)
    if distributed.FIRST:
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)


def save_weights(weights: dict[str, torch.Tensor], folder: Path, shard_bytes: int) -> None:
    """One model.safetensors, or shards of at most `shard_bytes` and their index, written by the first process."""
    shards, size = [[]], 0
    for name, weight in weights.items():
        if shards[-1] and size + weight.nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += weight.nbytes
    if len(shards) == 1:
        file_names = ["model.safetensors"]
    else:
        file_names = [
            f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)
        ]
        weight_map = {name: file for file, names in zip(file_names, shards) for name in names}
        total = sum(weight.nbytes for weight in weights.values())
        if distributed.FIRST:
            write_json(
                folder / "model.safetensors.index.json",
                {"metadata": {"total_size": total}, "weight_map": weight_map},
            )
    for file, names in zip(file_names, shards):
        tensors = {
            name: distributed.whole(distributed.local(weights[name]), weights[name])
            .cpu()
            .contiguous()
            for name in names
        }
        if distributed.FIRST:
            with replacing(folder / file) as temporary:
                save_file(tensors, temporary, metadata={"format": "pt"})


def fingerprint(folder: Path) -> str:
    """SHA-256 of a model: its config and every weight, however the folder is sharded or spelled."""
    folder = Path(folder)
    digest = hashlib.sha256(repr(read_config(folder)).encode())
    for name, path in sorted(weight_files(folder).items()):
        weight = read_tensor(path, name)
        digest.update(json.dumps([name, str(weight.dtype), list(weight.shape)]).encode())
        digest.update(raw(weight))
    return digest.hexdigest()


def raw(weight: torch.Tensor):
    """A tensor's bytes, in which 0 and -0 differ."""
    return weight.contiguous().view(-1).view(torch.uint8).numpy()


def side_by_side(base: Path, tuned: Path):
    """Yield (name, base's weight, tuned's weight) of two folders of one model, both in the tuned one's dtype, in order of name."""
    before, after = weight_files(base), weight_files(tuned)
    for name in sorted(after):
        weight = read_tensor(after[name], name)
        yield name, read_tensor(before[name], name).to(weight.dtype), weight
