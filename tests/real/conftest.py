"""Checks on a real model and real data, against transformers and scikit-learn.

The environment variable MINITOX_REAL names the folder that has them:

    models/smollm2-135m-instruct/   SmolLM2-135M-Instruct as a Hugging Face folder
    models/hub-style/               the same model with older keys in config.json, in two shards
    data/                           detection/, instructions/, prompts/, large/ and raw/

    MINITOX_REAL=path/to/folder python -m pytest tests/real

Without it, and without these two packages, the tests are skipped.
"""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "data"))


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder with the real model and the real data."""
    name = os.environ.get("MINITOX_REAL")
    if not name:
        pytest.skip("MINITOX_REAL is not set to a folder with a real model and real data")
    folder = Path(name)
    if not (folder / "models").is_dir():
        pytest.skip(f"MINITOX_REAL: {folder} has no folder models/")
    return folder


@pytest.fixture(params=["smollm2-135m-instruct", "hub-style"])
def folder(real, request) -> Path:
    """The folder of the real model, in both layouts."""
    return real / "models" / request.param
