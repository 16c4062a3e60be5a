"""The scorers that --scorer names."""

from dataclasses import dataclass
from pathlib import Path

from minitox.errors import InputError
from minitox.run.progress import wait
from minitox.scorers.encoder import Encoder
from minitox.scorers.guard import Guard
from minitox.scorers.perspective import GOOGLE_URL, Perspective
from minitox.scorers.scores import Scorer
from minitox.scorers.surrogate import Surrogate


@dataclass(frozen=True)
class ScorerOptions:
    """The settings of the scorers that have any."""

    perspective_url: str = GOOGLE_URL
    per_minute: float = 60  # requests to it
    unchecked_template: bool = False  # of a guard


def open_scorers(
    names: tuple[str, ...] | None,  # None: the default scorer alone
    *how,  # data, device, dtype and options
) -> list[Scorer]:
    """Open several scorers; InputError if two of them are the same."""
    scorers = {}
    for name in names or (None,):
        scorer = open_scorer(name, *how)
        if scorer.name in scorers:
            raise InputError(f"--scorer {name}: {scorer.name} is named twice; name it once")
        scorers[scorer.name] = scorer
    return list(scorers.values())


def open_scorer(
    scorer: str | None,  # None: the surrogate in `data`
    data: Path,
    device,
    dtype,
    options: ScorerOptions,
) -> Scorer:
    """Open surrogate:FILE, encoder:DIR, guard:DIR or perspective."""
    default = f"surrogate:{data / 'scorer.safetensors'}"
    kind, _, path = (scorer or default).partition(":")

    # 1) a service on the network, which takes no path
    if kind == "perspective" and not path:
        return Perspective(options.perspective_url, options.per_minute, sleep=wait)

    # 2) a classifier or a guard, which run on `device`
    if kind == "encoder" and path:
        return Encoder(Path(path), device, dtype)
    if kind == "guard" and path:
        return Guard(Path(path), device, dtype, options.unchecked_template)

    # 3) a linear model on character n-grams
    if kind != "surrogate" or not path:
        raise InputError(
            f"--scorer {scorer}: choose surrogate:FILE, encoder:DIR, guard:DIR or perspective"
        )
    if not Path(path).exists():
        raise InputError(
            f"{path}: no such file; create it with: "
            f"python data/prepare.py scorer {data / 'detection'} --out {path}"
        )
    return Surrogate(Path(path))
