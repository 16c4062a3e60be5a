"""Which scorer --scorer names."""

from pathlib import Path

from minitox.errors import InputError
from minitox.run import cli
from minitox.scorers.encoder import Encoder
from minitox.scorers.perspective import Perspective
from minitox.scorers.surrogate import Surrogate


def open_scorer(args, device, dtype):
    """The scorer that --scorer names."""
    kind, _, path = (args.scorer or f"surrogate:{args.data / 'scorer.safetensors'}").partition(":")
    if kind == "perspective" and not path:
        return Perspective(args.perspective_url, args.per_minute, sleep=cli.wait)
    if kind == "encoder" and path:
        return Encoder(Path(path), device, dtype)
    if kind != "surrogate" or not path:
        raise InputError(
            f"--scorer {args.scorer}: choose surrogate:FILE, encoder:DIR or perspective"
        )
    if not Path(path).exists():
        raise InputError(
            f"{path}: no such file; python data/prepare.py scorer {args.data / 'detection'} --out {path} makes one"
        )
    return Surrogate(Path(path))
