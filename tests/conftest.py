"""Shared by all tests: the project on the path, one thread, and a folder with a tiny model."""

import contextlib
import io
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tiny import write_model  # noqa: E402

collect_ignore = [
    "exercises",  # they fail until somebody solves them; test_exercises.py checks them
    "hardening",  # it takes minutes; python -m pytest tests/hardening
]

torch.set_num_threads(1)  # the models are so small that a second thread does not help


@pytest.fixture
def folder(tmp_path):
    """A folder with a tiny random model."""
    write_model(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory):
    """The printed output of README's first command, by script, and the folder that it writes."""
    import detect
    import evaluate
    import train

    out = tmp_path_factory.mktemp("toy") / "out"
    printed = {}
    for script in (detect, train, evaluate):
        with contextlib.redirect_stdout(io.StringIO()) as text:
            script.main(["--out", str(out)])
        printed[script.__name__] = text.getvalue()
    return printed, out
