"""The models that are compared: the base, and every folder that train.py made of it."""

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from minitox.errors import InputError
from minitox.evaluate.perplexity import states_before
from minitox.lm import checkpoint
from minitox.lm.config import Config, read_config
from minitox.lm.text import Tokenizer
from minitox.run import sharding
from minitox.run.device import identity
from minitox.run.tokenizer import open_tokenizer
from minitox.run.training_record import check_files, read_training
from minitox.train.model_names import ModelName

# order in the report: the paper's models, then the control, then the others by name
ORDER = ("base", "full", "per-language", "multilingual", "random")

KEPT = 2**27  # numbers in the hidden states that are kept of a model


@dataclass
class Candidate:
    """A usable model folder. Its weights are read when `model` is first used."""

    name: str
    folder: Path
    config: Config
    tokenizer: Tokenizer
    fingerprint: str
    device: torch.device
    dtype: torch.dtype
    shard: bool = False  # among the processes
    training: dict | None = None  # the run.json that train.py left, if there is one
    weights = None  # the LanguageModel, while it is in memory
    kept: dict = field(default_factory=dict)  # hidden states of batches of sentences

    @property
    def identity(self) -> dict:
        """What its replies depend on besides the settings of the run."""
        return identity(self.fingerprint, self.device, self.dtype)

    @property
    def asked_for(self) -> tuple[str, ...]:
        """The kinds of results that it is asked for: of draws after the first, replies alone.

        Verdicts need the toxicity of several draws; the other kinds are dear to measure.
        """
        draw = ModelName.parse(self.name).draw
        if draw and draw > 1:
            return ("replies",)
        return "replies", "mmlu", "perplexity", "xstest"

    @property
    def model(self):
        """The model itself, which stays in memory until a `with loaded()` block ends."""
        if self.weights is None:
            self.weights = sharding.load(self.folder, self.device, self.dtype, self.shard)
        return self.weights

    @torch.inference_mode()
    def states_before(self, sentences: list[list[int]]):  # -> (n, D), (n,)
        """`perplexity.states_before`, kept for the next call while there is room."""
        batch = tuple(map(tuple, sentences))
        if batch in self.kept:
            return self.kept[batch]
        states = states_before(self.model, sentences)
        kept = sum(hidden.numel() for hidden, _ in self.kept.values())
        if kept + states[0].numel() <= KEPT:
            self.kept[batch] = states
        return states

    @contextmanager
    def loaded(self):
        """A block in which `model` may be used; its end releases the memory."""
        try:
            yield
        finally:
            self.weights = None


def place(name: str) -> tuple:
    """Where a model stands among others: as in ORDER, then by strategy, draw and rate.

    Models with a prefix come last, in the same order; later orders of languages follow the first.
    """
    parts = ModelName.parse(name)
    strategy = parts.strategy
    known = ORDER.index(strategy) if strategy in ORDER else len(ORDER)
    return parts.prefix, known, strategy, parts.order, parts.draw or 0, parts.rate or "", name


def find(models: list[str] | None, base: Path, out: Path) -> dict[str, Path]:
    """The folders of `models` by name: base, names in `out`/models, or NAME=DIR.

    None means the base and all models in `out`/models; a strategy with several draws means all of
    its draws there. InputError names a folder that is missing.
    """
    # 1) the models that have a name already
    tuned = out / "models"
    known = {"base": base}
    for folder in tuned.glob("[!.]*"):
        if folder.name.endswith(".partial") or not folder.is_dir():
            continue
        if any(folder.iterdir()):  # a missing config.json is reported when the model is opened
            if folder.name in known and folder != base:
                raise InputError(f"{folder} has the name of the base model; rename the folder")
            known[folder.name] = folder

    # 2) those that are asked for
    folders = {}
    asked = []
    for item in models or sorted(known, key=place):
        draws = draws_of(item, known) if ModelName.parse(item).is_of_all_draws else []
        asked += sorted(draws, key=place) or [item]
    for item in asked:
        name, _, folder = item.partition("=")
        if not folder and name not in known:
            raise InputError(
                f"--models {name}: {tuned / name} is no model folder; "
                f"run train.py first, or give {name}=DIR"
            )
        # results are written to a folder of this name
        if not name or Path(name).name != name or name.startswith("."):
            raise InputError(f"--models {item}: {name!r} cannot name a folder of results")
        path = Path(folder) if folder else known[name]
        if ModelName.parse(name).is_of_all_draws:
            raise InputError(
                f"{path}: {name} is the name of several draws together; name it {name}-1, or "
                "delete the folder if an earlier version of minitox made it"
            )
        if name in folders:
            raise InputError(f"--models: {name} occurs twice, as {folders[name]} and as {path}")
        folders[name] = path
    return folders


def draws_of(common_name: str, names: Iterable[str]) -> list[str]:
    """Those of the names that are draws of this one, each at the only or the chosen rate."""
    draws = []
    for name in names:
        parts = ModelName.parse(name)
        if parts.common_name == common_name and parts.rate is None:
            draws.append(name)
    return draws


def open_one(
    name: str,
    folder: Path,
    device,
    dtype,
    shard: bool = False,
    out: Path | None = None,  # this and `unchecked` as in `open_tokenizer`
    unchecked: bool = False,
) -> Candidate:
    """The model of a folder; InputError if it cannot be used.

    A model with the run.json of train.py must consist of the files that train.py wrote.
    """
    record = None
    if name != "base" and (folder / "run.json").exists():
        record = read_training(folder)
        check_files(folder)
    config = read_config(folder)
    tokenizer = open_tokenizer(folder, config, out, unchecked, name)
    fingerprint = checkpoint.fingerprint(folder)
    return Candidate(name, folder, config, tokenizer, fingerprint, device, dtype, shard, record)


def open_all(folders: dict[str, Path], open_model: Callable) -> tuple[list[Candidate], dict]:
    """The models that can be used, and the reason for each that cannot.

    `open_model(name, folder)` is `open_one` with the settings of the run.
    """
    usable = []
    failed = {}
    for name, folder in folders.items():
        try:
            usable.append(open_model(name, folder))
        except (InputError, OSError) as error:
            failed[name] = str(error)
    return usable, failed


def open_base(
    usable: list[Candidate], uses: list[str], folder: Path, open_model: Callable
) -> tuple[Candidate | None, dict[str, str]]:
    """The base model, for `uses` such as fluency, even if it is not among the others.

    `open_model` as in `open_all`. None if there are no uses, or if it cannot be used; then also the
    reason for each use.
    """
    if not uses:
        return None, {}
    for candidate in usable:
        if candidate.folder == folder:
            return candidate, {}
    try:
        return open_model("base", folder), {}
    except (InputError, OSError) as error:
        return None, dict.fromkeys(uses, str(error))
