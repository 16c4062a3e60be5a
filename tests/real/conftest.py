"""Checks on a real model and real data, against transformers and scikit-learn; they are skipped where these are not installed.

MINITOX_REAL is a folder with models/smollm2-135m-instruct, models/hub-style (the same, old config keys, sharded) and data/.
"""

import os
from pathlib import Path

import pytest

REAL = Path(os.environ.get("MINITOX_REAL", Path.home() / ".cache" / "minitox-real"))

try:
    import sklearn  # noqa: F401
    import transformers  # noqa: F401
except ImportError:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def real():
    if not (REAL / "models").is_dir():
        pytest.skip(f"no real model in {REAL}")
    return REAL


@pytest.fixture(params=["smollm2-135m-instruct", "hub-style"])
def folder(real, request):
    return real / "models" / request.param
