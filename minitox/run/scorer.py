"""The scorers that --scorer names."""

from pathlib import Path

from minitox.errors import InputError
from minitox.run.progress import wait
from minitox.scorers.encoder import Encoder
from minitox.scorers.perspective import Perspective
from minitox.scorers.scores import Scorer
from minitox.scorers.surrogate import Surrogate


def open_scorers(
    names: tuple[str, ...] | None,  # None: the default scorer alone
    *where,  # data, device and dtype
    **perspective,
) -> list[Scorer]:
    """Open several scorers; InputError if two of them are the same."""
    scorers = {}
    for name in names or (None,):
        scorer = open_scorer(name, *where, **perspective)
        if scorer.name in scorers:
            raise InputError(f"--scorer {name}: {scorer.name} is named twice; name it once")
        scorers[scorer.name] = scorer
    return list(scorers.values())


def open_scorer(
    scorer: str | None,  # None: the surrogate in `data`
    data: Path,
    device,
    dtype,
    *,
    perspective_url: str,
    per_minute: float,  # requests to it
) -> Scorer:
    """Open surrogate:FILE, encoder:DIR or perspective."""
    default = f"surrogate:{data / 'scorer.safetensors'}"
    kind, _, path = (scorer or default).partition(":")

    # 1) a service on the network, which takes no path
    if kind == "perspective" and not path:
        return Perspective(perspective_url, per_minute, sleep=wait)

    # 2) a classifier, the only scorer that runs on `device`
    if kind == "encoder" and path:
        return Encoder(Path(path), device, dtype)

    # 3) a linear model on character n-grams
    if kind != "surrogate" or not path:
        raise InputError(f"--scorer {scorer}: choose surrogate:FILE, encoder:DIR or perspective")
    if not Path(path).exists():
        raise InputError(
            f"{path}: no such file; create it with: "
            f"python data/prepare.py scorer {data / 'detection'} --out {path}"
        )
    return Surrogate(Path(path))
