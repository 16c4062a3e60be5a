"""Messages are true, and say a thing once."""

import shutil

import pytest
import worlds
from tiny import error_of
from worlds import EVALUATE, checkpoint, evaluate

from minitox.errors import InputError


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """A folder with a small model, data and a scorer, in which the scripts run."""
    for part in (*worlds.BASE, worlds.scorer):
        part(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---------- D1


def test_d1_a_model_without_its_config_is_named_among_those_left_out(scripts, capsys):
    shutil.copytree("model", "out/models/full")
    (scripts / "out" / "models" / "full" / "config.json").unlink()
    worlds.run(evaluate.main, EVALUATE.replace("--models base", ""))
    reason = "left out full: out/models/full/config.json: no such file"
    assert reason in capsys.readouterr().out
    assert "config.json: no such file" in (scripts / "out" / "report.md").read_text("utf-8")


# ---------- D2


def test_d2_weights_that_may_not_be_read_are_not_called_missing(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(checkpoint, "open_input", refuse)
    with pytest.raises(InputError, match=r"model.safetensors: cannot be read \(Permission denied"):
        checkpoint.load(folder)


# ---------- D3


@pytest.mark.parametrize("names", ["x=model x=other", "x=other base x=model", "base base=other"])
def test_d3_a_model_name_that_occurs_twice_is_refused(scripts, names, capsys):
    shutil.copytree("model", "other")
    error = error_of(evaluate.main, EVALUATE.replace("base", names).split(), capsys)
    name = names.partition(" ")[0].partition("=")[0]
    assert f"--models: {name} occurs twice, as " in error and error.count("\n") == 1


# ---------- D4


# ---------- D5


# ---------- D6
