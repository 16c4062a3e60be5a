"""Messages are true, and say a thing once."""

import shutil

import pytest
import worlds
from tiny import error_of

import train

# ---------- D1


@pytest.fixture
def tuned(tmp_path, monkeypatch):
    """The folder of a tuned model."""
    for part in (*worlds.BASE, worlds.neurons):
        part(tmp_path)
    monkeypatch.chdir(tmp_path)
    worlds.run(train.main, f"{worlds.TRAIN} multilingual")
    return tmp_path / "out" / "models" / "multilingual"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_d1_a_model_without_its_files_is_not_called_bit_identical(tuned, capsys, name):
    capsys.readouterr()
    kept = (tuned / name).read_bytes()
    (tuned / name).unlink()
    error = error_of(train.main, f"{worlds.TRAIN} multilingual".split(), capsys)
    assert f"out/models/multilingual/{name} is missing; put it back, or delete" in error
    (tuned / name).write_bytes(kept)
    worlds.run(train.main, f"{worlds.TRAIN} multilingual")
    assert "bit-identical" in capsys.readouterr().out


def test_d1_a_model_with_other_weights_is_not_called_bit_identical(tuned, capsys):
    shutil.copy(tuned.parents[2] / "model" / "model.safetensors", tuned)
    error = error_of(train.main, f"{worlds.TRAIN} multilingual".split(), capsys)
    assert "multilingual/model.safetensors is not the file that train.py wrote; put it" in error


# ---------- D2


def test_d2_a_missing_record_is_called_missing(tuned, capsys):
    (tuned / "run.json").unlink()
    error = error_of(train.main, f"{worlds.TRAIN} multilingual".split(), capsys)
    assert "multilingual/run.json is missing, so nothing is known of the results there; " in error
    assert "choose another --out, or delete out/models/multilingual" in error


# ---------- D3


# ---------- D4


# ---------- D5


# ---------- D6
