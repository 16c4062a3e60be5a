"""Load and save models as Hugging Face folders, one tensor at a time.

Every tensor must be present with the expected name, shape and dtype; nothing is skipped.
"""

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
BESIDES_WEIGHTS = (  # copied from a model's source folder
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def load(
    folder: Path, device="cpu", dtype: torch.dtype | None = None, spread: bool = False
) -> LanguageModel:
    """The model of a folder, on `device`, in `dtype` or else in the dtype of config.json.

    With `spread`, the layers are sharded over all processes. InputError names the first tensor that
    is missing, unexpected or of the wrong shape.
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
    """The file of each tensor of a folder: model.safetensors, or the shards named by an index."""
    # 1) a single file
    single = folder / "model.safetensors"
    if single.exists():
        return dict.fromkeys(tensor_names(single), single)
    # 2) an index, whose shards must be files of the same folder
    index = folder / "model.safetensors.index.json"
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
                f"{index}: shard {shard!r} is not a file name; "
                "an index may not point outside its folder"
            )
    # 3) index and shards must agree on the place of every tensor
    stored = {shard: set(tensor_names(folder / shard)) for shard in sorted(set(shards.values()))}
    for name, shard in shards.items():
        if name not in stored[shard]:
            raise InputError(
                f"{folder / shard}: tensor {name} is missing, but the index names this file for it"
            )
    for shard, names in stored.items():
        for name in names:
            if shards.get(name) != shard:
                raise InputError(f"{folder / shard}: tensor {name} is not in the index")
    return {name: folder / shard for name, shard in shards.items()}


def tensor_names(path: Path) -> list[str]:
    """The names of all tensors of a safetensors file."""
    with open_safetensors(path) as file:
        return list(file.keys())


@contextmanager
def open_safetensors(path: Path):
    """Open a safetensors file; InputError if it is missing or broken."""
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (SafetensorError, OSError, UnicodeError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({error})") from None


@contextmanager
def fitting(path: Path):
    """Turn a mismatch of names or shapes with the tensors of a file into an InputError."""
    try:
        yield
    except (LookupError, RuntimeError):
        raise InputError(f"{path} is broken: its tensors do not fit this model") from None


def read_tensor(path: Path, name: str) -> torch.Tensor:
    """One tensor; the file is closed again, which frees the memory mapped for it."""
    with open_safetensors(path) as file:
        return file.get_tensor(name)


def check_names_and_shapes(
    folder: Path, config: Config, model: LanguageModel, files: dict[str, Path]
) -> None:
    """Compare the tensors of a folder with those of the model before any is read."""
    expected = {name: list(weight.shape) for name, weight in model.state_dict().items()}
    for name in expected:
        if name not in files:
            raise InputError(f"{folder}: tensor {name} is missing")
    for name, path in files.items():
        if name.endswith("rotary_emb.inv_freq"):
            continue  # in old checkpoints; computed from config.json instead
        with open_safetensors(path) as file:
            stored = file.get_slice(name)
            shape = stored.get_shape()
            dtype = stored.get_dtype()
        if name == "lm_head.weight" and config.tie_word_embeddings:
            check_tied_head(folder, files)
        elif name not in expected:
            raise InputError(
                f"{path}: tensor {name} is no part of a {config.model_type} "
                f"of {config.num_hidden_layers} layers"
            )
        elif shape != expected[name]:
            raise InputError(
                f"{path}: tensor {name} has shape {shape}, "
                f"but config.json asks for {expected[name]}"
            )
        if dtype not in DTYPES:
            raise InputError(
                f"{path}: tensor {name} has dtype {dtype}; only {', '.join(DTYPES)} are supported"
            )


def check_tied_head(folder: Path, files: dict[str, Path]) -> None:
    """Raise InputError if a stored head differs from the embedding that it is tied to."""
    head = read_tensor(files["lm_head.weight"], "lm_head.weight")
    embedding = read_tensor(files["model.embed_tokens.weight"], "model.embed_tokens.weight")
    if not torch.equal(head, embedding):
        raise InputError(
            f"{folder}: config.json ties lm_head.weight to the embedding, but the two differ; "
            "set tie_word_embeddings to false"
        )


def save(model: LanguageModel, folder: Path, source: Path, shard_bytes: int = 5 * 10**9) -> None:
    """Write `model` as a folder that transformers can open.

    Config and tokenizer are copied from `source`, the folder that the model was loaded from. An
    existing folder is replaced, and an incomplete one never appears. If the model is sharded, all
    processes must call this.
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
    """Write model.safetensors, or files of at most `shard_bytes` and their index."""
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
        weight_map = {}
        for file, names in zip(file_names, shards, strict=True):
            weight_map.update(dict.fromkeys(names, file))
        total = sum(weight.nbytes for weight in weights.values())
        if distributed.FIRST:
            write_json(
                folder / "model.safetensors.index.json",
                {"metadata": {"total_size": total}, "weight_map": weight_map},
            )
    for file, names in zip(file_names, shards, strict=True):
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
    """SHA-256 of config and weights; neither shards nor the spelling of config.json matter."""
    folder = Path(folder)
    digest = hashlib.sha256(repr(read_config(folder)).encode())
    for name, path in sorted(weight_files(folder).items()):
        weight = read_tensor(path, name)
        digest.update(json.dumps([name, str(weight.dtype), list(weight.shape)]).encode())
        digest.update(raw(weight))
    return digest.hexdigest()


def raw(weight: torch.Tensor):
    """The bytes of a tensor, in which 0 and -0 differ."""
    return weight.contiguous().view(-1).view(torch.uint8).numpy()


def side_by_side(base: Path, tuned: Path):
    """Yield (name, weight of `base`, weight of `tuned`) of two folders of one model, by name.

    Both weights have the dtype of `tuned`.
    """
    before = weight_files(base)
    after = weight_files(tuned)
    for name in sorted(after):
        tuned_weight = read_tensor(after[name], name)
        base_weight = read_tensor(before[name], name).to(tuned_weight.dtype)
        yield name, base_weight, tuned_weight
