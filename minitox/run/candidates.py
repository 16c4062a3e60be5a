"""The models that are compared: the base, and every folder that train.py made of it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from minitox.errors import InputError
from minitox.lm import checkpoint
from minitox.lm.config import Config, read_config
from minitox.lm.text import Tokenizer

ORDER = (
    "base",
    "full",
    "per-language",
    "multilingual",
    "random",
)  # the paper's, then the control, then the others by name


@dataclass
class Candidate:
    """A model folder that was found usable; its weights are read when a reply is asked for."""

    name: str
    folder: Path
    config: Config
    tokenizer: Tokenizer
    fingerprint: str
    device: torch.device
    dtype: torch.dtype
    spread: bool = False  # over several processes

    @property
    def identity(self) -> dict:
        """What the replies depend on besides a run's own settings."""
        return {"model": self.fingerprint, "device": self.device.type, "dtype": str(self.dtype)}

    @cached_property
    def model(self):
        return checkpoint.load(self.folder, self.device, self.dtype, self.spread)


def find(args) -> dict[str, Path]:
    """The folders that --models asks for, by name; by default the base and all of OUT/models."""
    made = args.out / "models"
    tuned = {
        path.parent.name: path.parent
        for path in made.glob("*/config.json")
        if not path.parent.name.endswith(".partial")
    }
    known = {"base": args.model, **tuned}
    asked = {}
    for item in args.models or sorted(
        known, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)
    ):
        name, _, folder = item.partition("=")
        if not folder and name not in known:
            raise InputError(
                f"--models {name}: {made / name} is no model folder; run train.py first, or give {name}=DIR"
            )
        if not name or Path(name).name != name or name.startswith("."):
            raise InputError(f"--models {item}: {name!r} cannot name a folder of results")
        asked[name] = Path(folder) if folder else known[name]
    return asked


def open_one(
    name: str, folder: Path, device: torch.device, dtype: torch.dtype, spread: bool = False
) -> Candidate:
    """A model folder, if it can be used; InputError says why not."""
    config = read_config(folder)
    return Candidate(
        name,
        folder,
        config,
        Tokenizer(folder, config),
        checkpoint.fingerprint(folder),
        device,
        dtype,
        spread,
    )


def open_all(folders: dict[str, Path], *how) -> tuple[list[Candidate], dict[str, str]]:
    """The models that can be used, opened as `open_one` does, and for each that cannot, why."""
    found, failed = [], {}
    for name, folder in folders.items():
        try:
            found.append(open_one(name, folder, *how))
        except InputError as error:
            failed[name] = str(error)
    return found, failed
