"""detect.py --of: the neurons of a tuned model, beside those of its base model."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_detect import Home, write_detection
from tiny import training_of, write_jsonl, write_model

import detect
import evaluate
from minitox import neurons
from minitox.errors import InputError
from minitox.files import FORMAT, write_json
from minitox.lm import checkpoint
from minitox.lm.config import read_config
from minitox.run import training_record
from minitox.run.tuned_neurons import FOLDER, TUNED_ROWS, read_tuned_rows

ROWS = {"model.layers.0.mlp.gate_proj": [3, 5], "model.layers.1.mlp.down_proj": [0]}


@pytest.fixture
def home(tmp_path) -> Home:
    """A base model whose neurons were measured, and `multilingual`, with three other rows."""
    write_model(tmp_path / "model")
    for seed, language in enumerate(("de", "en")):
        write_detection(tmp_path / "data", language, seed)
    home = Home(tmp_path)
    home.run()
    tune(home, "multilingual")
    return home


def tune(home: Home, name: str, **settings) -> None:
    """Write OUT/models/NAME as train.py does: ROWS are changed."""
    folder = home.out / "models" / name
    shutil.copytree(home.model, folder)
    weights = load_file(folder / "model.safetensors")
    for module, rows in ROWS.items():
        weights[f"{module}.weight"][rows] *= -1.0
    save_file(weights, folder / "model.safetensors")
    settings = {"model": checkpoint.fingerprint(home.model), "lr": 0.004} | settings
    record = training_of("multilingual", **settings)
    write_json(folder / "run.json", record | {"files": training_record.file_hashes(folder)})


def measured(home: Home, name: str = "multilingual"):
    return home.out / FOLDER / name


def test_it_measures_the_tuned_model_and_leaves_the_base_models_files_alone(home):
    before = {path: path.read_bytes() for path in (home.out / "neurons").iterdir()}
    home.run("--of", "multilingual")
    assert {path: path.read_bytes() for path in (home.out / "neurons").iterdir()} == before
    for language in ("de", "en"):
        auroc, about = home.read(language)
        path = measured(home) / f"{language}.safetensors"
        tensors = load_file(path)
        # a row of the opposite sign; max pooling makes the AUROC another one
        assert (
            tensors["model.layers.0.mlp.gate_proj"][3] != auroc["model.layers.0.mlp.gate_proj"][3]
        )
        # the first layer's other rows have the same inputs as before
        same = tensors["model.layers.0.mlp.up_proj"].numpy()
        assert np.array_equal(same, auroc["model.layers.0.mlp.up_proj"])
        assert about["model"] == checkpoint.fingerprint(home.model)


def test_the_result_is_that_of_the_tuned_model_as_a_model_of_its_own(home):
    home.run("--of", "multilingual")
    arguments = [
        "--data",
        str(home.data),
        "--languages",
        "de,en",
        "--out",
        str(home.path / "other"),
    ]
    detect.main(["--model", str(home.out / "models" / "multilingual"), *arguments])
    for language in ("de", "en"):
        expected = (home.path / "other" / "neurons" / f"{language}.safetensors").read_bytes()
        assert (measured(home) / f"{language}.safetensors").read_bytes() == expected


def test_the_mask_has_exactly_the_rows_that_were_tuned(home):
    home.run("--of", "multilingual")
    rows = neurons.module_rows(read_config(home.model))
    about = {"base": checkpoint.fingerprint(home.model)}
    mask = read_tuned_rows(measured(home) / TUNED_ROWS, rows, about)
    chosen = {name: np.flatnonzero(of).tolist() for name, of in mask.items() if of.any()}
    assert chosen == ROWS
    assert mask.keys() == rows.keys()


def test_a_rerun_measures_nothing_again(home, monkeypatch):
    home.run("--of", "multilingual")
    monkeypatch.setattr(detect, "record", None)
    home.run("--of", "multilingual")


@pytest.mark.parametrize("name", ["full", "../models/multilingual", ""])
def test_a_model_that_is_not_there_is_named(home, capsys, name):
    assert f"--of {name}: " in home.error(capsys, "--of", name)
    assert not (home.out / FOLDER).exists()


def test_a_model_that_was_tuned_from_another_base_is_refused(home, capsys):
    tune(home, "other", model="another model")
    message = home.error(capsys, "--of", "other")
    assert "other was not made from" in message and "give its base as --model" in message


def test_a_model_that_has_changed_since_is_refused(home, capsys):
    (home.out / "models" / "multilingual" / "extra.safetensors").write_bytes(b"")
    assert "extra.safetensors is not from train.py" in home.error(capsys, "--of", "multilingual")


@pytest.mark.parametrize(
    "more, setting",
    [("--pool mean", "pool"), ("--sentences 20", "sentences"), ("--seed 1", "seed")],
)
def test_other_settings_than_the_base_models_are_refused_before_anything_is_measured(
    home, capsys, more, setting
):
    message = home.error(capsys, "--of", "multilingual", *more.split())
    assert f"de.safetensors was made with another {setting}" in message
    assert not list(home.out.glob(f"{FOLDER}/*/*.safetensors"))


def test_other_sentences_than_the_base_models_are_refused(home, capsys):
    write_detection(home.data, "en", seed=5)
    message = home.error(capsys, "--of", "multilingual")
    assert "en.safetensors was made with another data" in message


def test_the_base_models_neurons_come_first(home, capsys):
    shutil.rmtree(home.out / "neurons")
    message = home.error(capsys, "--of", "multilingual")
    assert "de.safetensors: no such file; run detect.py first" in message


@pytest.mark.parametrize(
    "change",
    [
        lambda mask: {"x": torch.zeros(2, dtype=torch.bool)},
        lambda mask: mask | {"x": torch.zeros(2, dtype=torch.bool)},
        lambda mask: {name: of.float() for name, of in mask.items()},
        lambda mask: {name: of[:-1] for name, of in mask.items()},
    ],
)
def test_a_mask_that_is_not_as_written_is_refused(home, change):
    home.run("--of", "multilingual")
    path = measured(home) / TUNED_ROWS
    mask = change(load_file(path))
    save_file(mask, path, metadata={"tuned": json.dumps({"format": FORMAT})})
    rows = neurons.module_rows(read_config(home.model))
    with pytest.raises(InputError, match="tuned-rows.safetensors does not fit the model"):
        read_tuned_rows(path, rows, {})


# ---------- in the report


def report_of(home: Home, monkeypatch, *more) -> str:
    from test_evaluate import Length

    monkeypatch.setattr(evaluate, "open_scorers", lambda *_, **__: [Length()])
    write_jsonl(home.data / "prompts" / "en.jsonl", [{"prompt": "soup"}])
    folders = ["--model", home.model, "--data", home.data, "--out", home.out]
    limits = ["--languages", "en", "--max-new-tokens", "2", "--perplexity", "0", "--no-hatecheck"]
    evaluate.main([*map(str, folders), *limits, *more])
    return (home.out / "report.md").read_text("utf-8")


def test_the_report_compares_them(home, monkeypatch):
    assert "before and after tuning" not in report_of(home, monkeypatch)
    home.run("--of", "multilingual")
    report = report_of(home, monkeypatch)
    section = report.split("## AUROC of the neurons before and after tuning\n")[1].split("\n## ")[0]
    cells = [row.split("|")[1:-1] for row in section.splitlines() if row.startswith("| multi")]
    tuned, frozen = [[cell.strip() for cell in row] for row in cells]
    assert tuned[:2] == ["multilingual, tuned", "3"]
    assert frozen[:2] == ["multilingual, frozen", "253"]

    # the means, from the files
    rows = neurons.module_rows(read_config(home.model))
    means = []
    for language in ("de", "en"):
        auroc, _ = home.read(language)
        means.append(np.mean([auroc[name][row] for name, of in ROWS.items() for row in of]))
    assert float(tuned[2]) == pytest.approx(np.mean(means), abs=6e-4)
    assert sum(rows.values()) == 256


def test_files_of_other_sentences_are_left_out_with_the_reason(home, monkeypatch):
    home.run("--of", "multilingual")
    shutil.rmtree(home.out / "neurons")
    write_detection(home.data, "en", seed=5)
    home.run()
    report = report_of(home, monkeypatch)
    section = report.split("before and after tuning, by language\n")[1].split("\n## ")[0]
    assert "multilingual, tuned, de" in section and "tuned, en" not in section
    reason = "neurons-of/multilingual/en: "
    assert reason in report
    assert "AUROCs were measured with another data" in report


def test_a_model_that_was_tuned_again_is_left_out_with_the_reason(home, monkeypatch):
    home.run("--of", "multilingual")
    shutil.rmtree(home.out / "models" / "multilingual")
    monkeypatch.setitem(ROWS, "model.layers.0.mlp.up_proj", [1])
    tune(home, "multilingual")
    report = report_of(home, monkeypatch)
    assert "before and after tuning" not in report
    assert "was made from another model" in report
