"""No lost line: writers exclude each other, and readers never write."""

import shutil

import pytest
import worlds
from tiny import error_of, write_model
from worlds import DETECT, TRAIN, checkpoint, detect, train

from minitox.errors import InputError
from minitox.files import TEMPORARY

# ---------- B1


# ---------- B2


# ---------- B3


# ---------- B4

SECRET = "a secret soup"
SIDE_FILES = ("tokenizer_config.json", "generation_config.json", "tokenizer.json", "config.json")


@pytest.mark.parametrize("name", SIDE_FILES)
def test_b4_a_file_outside_the_models_folder_is_not_published(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    for part in worlds.BASE:
        part(tmp_path)
    path = tmp_path / "model" / name
    elsewhere = tmp_path / "elsewhere.json"
    content = path.read_text() if path.exists() else f'{{"secret": "{SECRET}"}}'
    elsewhere.write_text(content)
    path.unlink(missing_ok=True)
    path.symlink_to(elsewhere)
    for main, arguments in ((train.main, f"{TRAIN} full"), (detect.main, DETECT)):
        error = error_of(main, arguments.split(), capsys)
        assert f"model/{name} is a link to {elsewhere}, outside the model's folder" in error
    with pytest.raises(InputError, match="outside the model's folder"):
        checkpoint.load(tmp_path / "model")
    assert not (tmp_path / "out" / "models").exists()


def test_b4_a_link_to_no_file_is_not_taken_for_a_missing_file(folder):
    (folder / "chat_template.jinja").symlink_to("nowhere.jinja")
    with pytest.raises(InputError, match="nowhere.jinja, which does not exist"):
        checkpoint.fingerprint(folder)


def test_b4_links_within_the_folder_and_into_hugging_faces_cache_are_copied(folder, tmp_path):
    model = checkpoint.load(folder)
    (folder / "tokenizer.json").rename(folder / "first.json")
    (folder / "tokenizer.json").symlink_to("first.json")
    hub = tmp_path / "models--a--b"
    (hub / "blobs").mkdir(parents=True)
    snapshot = hub / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for number, name in enumerate(("config.json", "tokenizer.json", "model.safetensors")):
        shutil.copyfile(folder / name, hub / "blobs" / str(number))
        (snapshot / name).symlink_to(f"../../blobs/{number}")
    for source in (folder, snapshot):
        checkpoint.save(model, tmp_path / "saved", source=source)
        saved = tmp_path / "saved" / "tokenizer.json"
        assert not saved.is_symlink()
        assert saved.read_bytes() == (folder / "first.json").read_bytes()
        assert checkpoint.fingerprint(source) == checkpoint.fingerprint(tmp_path / "saved")


def test_b4_a_model_does_not_follow_links_in_the_place_of_its_folder(folder, tmp_path):
    model = checkpoint.load(folder)
    elsewhere = tmp_path / "elsewhere"
    write_model(elsewhere)
    before = {path.name: path.read_bytes() for path in elsewhere.iterdir()}
    out = tmp_path / "models"
    out.mkdir()
    (out / "x").symlink_to(elsewhere)
    (out / ".x.partial").symlink_to(elsewhere)  # the temporary name of earlier versions
    checkpoint.save(model, out / "x", source=folder)
    assert (out / "x" / "config.json").exists() and not (out / "x").is_symlink()
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == before


def test_b4_the_temporary_folder_of_a_model_has_a_name_of_its_own(folder, tmp_path, monkeypatch):
    model = checkpoint.load(folder)
    names = []

    def fail(weights, temporary, *how) -> None:
        names.append(temporary.name)
        raise OSError("no space")

    monkeypatch.setattr(checkpoint, "save_weights", fail)
    for _ in range(2):
        with pytest.raises(OSError):
            checkpoint.save(model, tmp_path / "out" / "x", source=folder)
    assert len(set(names)) == 2
    assert all(TEMPORARY.fullmatch(name) for name in names)
    assert not list((tmp_path / "out").iterdir())
