"""train.py as its user meets it: what it makes, what it prints and proves, how it fails, how it goes on."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import error_of, write_jsonl, write_model, write_neurons, write_pairs

from minitox import delta, neurons
from minitox.lm import checkpoint
from minitox.train import optim

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import train  # noqa: E402


@pytest.fixture
def setup(tmp_path):
    """Arguments of a small run: two languages, whose neurons are known."""
    write_model(tmp_path / "model")
    for seed, language in enumerate(("de", "en")):
        write_pairs(tmp_path / "data" / "instructions" / f"{language}.jsonl", 20, seed)
        write_neurons(
            tmp_path / "out" / "neurons" / f"{language}.safetensors", tmp_path / "model", seed
        )
    return [
        "--model",
        str(tmp_path / "model"),
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
        "--languages",
        "de,en",
    ]


def models(setup) -> Path:
    return Path(setup[5]) / "models"


def run_of(setup, name: str) -> dict:
    return json.loads((models(setup) / name / "run.json").read_text())


def everything_in(folder: Path) -> dict:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def fails(setup, capsys, *more) -> str:
    """Run as a user would; the one line that says what is wrong."""
    error = error_of(train.main, [*setup, *more], capsys)
    assert error.count("\n") == 1 and error.startswith("error: ")
    return error


def test_the_default_makes_the_paper_s_three_and_two_controls(setup, capsys):
    train.main(setup)
    printed = capsys.readouterr().out
    names = ["full", "per-language", "multilingual", "random", "aura"]
    assert sorted(path.name for path in models(setup).iterdir()) == sorted(names)
    for name in names:
        assert (models(setup) / name / "tokenizer.json").exists()
        assert checkpoint.load(models(setup) / name)
        found = run_of(setup, name)
        proof, rows = (
            found["proof"],
            sum(weight.numel() for weight in checkpoint.load(models(setup) / name).parameters()),
        )
        assert proof["frozen_weights"] + proof["tuned_weights"] == rows and proof["changed"] > 0.9
        assert f"{proof['tuned_weights']:,}" in printed and set(found["unseen"]) == {"de", "en"}
    assert run_of(setup, "full")["proof"]["frozen_weights"] == 0
    assert [stage["name"] for stage in run_of(setup, "per-language")["stages"]] == ["de", "en"]


def test_what_is_frozen_is_what_no_mask_chose(setup):
    train.main([*setup, "--strategy", "per-language", "--threshold", "0.8"])
    base, tuned = (
        load_file(folder / "model.safetensors")
        for folder in (Path(setup[1]), models(setup) / "per-language")
    )
    masks = [
        neurons.select(
            read_neurons(
                Path(setup[5]) / "neurons" / f"{language}.safetensors",
                neurons.module_rows(train.read_config(Path(setup[1]))),
            )[0],
            0.8,
        )
        for language in ("de", "en")
    ]
    union = neurons.union(masks)
    for name in base:
        moved = (base[name] != tuned[name]).reshape(len(base[name]), -1).any(dim=1).numpy()
        assert np.array_equal(
            moved, union.get(name.removesuffix(".weight"), np.zeros(len(moved), dtype=bool))
        )


def test_the_proof_notices_a_single_frozen_weight_that_moved(setup, monkeypatch):
    """An optimizer that lets decay touch one row it should not."""
    honest = optim.RowAdamW.step

    def careless(self, lr, scale=1.0):
        honest(self, lr, scale)
        name = next(name for name, rows in self.rows.items() if rows is not None)
        frozen = min(set(range(len(self.weights[name]))) - set(self.rows[name].tolist()))
        self.weights[name].data[frozen, 0] *= 1 - 1e-6

    monkeypatch.setattr(optim.RowAdamW, "step", careless)
    with pytest.raises(RuntimeError, match="frozen rows of .* differ from those of"):
        train.main([*setup, "--strategy", "multilingual"])
    assert not (models(setup) / "multilingual").exists()


def test_the_same_command_again_computes_nothing_and_prints_the_same_table(
    setup, capsys, monkeypatch
):
    train.main(setup)
    before, table = (
        everything_in(models(setup)),
        capsys.readouterr().out.split("What became of it")[1],
    )
    monkeypatch.setattr(train.finetune, "tune", None)
    train.main(setup)
    assert (
        everything_in(models(setup)) == before
        and capsys.readouterr().out.split("What became of it")[1] == table
    )


def test_strategies_run_alone_are_the_ones_run_together(setup):
    train.main(setup)
    together = everything_in(models(setup))
    for name in ("full", "aura", "multilingual"):
        train.shutil.rmtree(models(setup) / name)
        train.main([*setup, "--strategy", name])
    assert everything_in(models(setup)) == together


def test_rows_and_masked_train_the_same_model(setup, tmp_path):
    train.main([*setup, "--strategy", "multilingual"])
    rows = load_file(models(setup) / "multilingual" / "model.safetensors")
    setup[5] = str(tmp_path / "masked")
    train.main(
        [
            *setup,
            "--strategy",
            "multilingual",
            "--optimizer",
            "masked",
            "--neurons",
            str(tmp_path / "out" / "neurons"),
        ]
    )
    masked = load_file(models(setup) / "multilingual" / "model.safetensors")
    assert all(torch.allclose(rows[name], masked[name], atol=1e-4) for name in rows)


def test_the_patch_leads_from_the_base_to_the_model(setup, tmp_path):
    train.main([*setup, "--strategy", "multilingual", "--threshold", "0.9", "--delta"])
    patch = models(setup) / "multilingual.delta.safetensors"
    assert patch.stat().st_size < (Path(setup[1]) / "model.safetensors").stat().st_size / 2
    delta.toggle(Path(setup[1]), patch, tmp_path / "applied")
    assert (tmp_path / "applied" / "model.safetensors").read_bytes() == (
        models(setup) / "multilingual" / "model.safetensors"
    ).read_bytes()


def test_the_order_of_languages_is_the_one_asked_for(setup, capsys):
    train.main([*setup, "--strategy", "per-language", "--order", "en,de"])
    assert [stage["name"] for stage in run_of(setup, "per-language")["stages"]] == ["en", "de"]
    assert "--order leaves out de" in fails(setup, capsys, "--order", "en")


def test_one_model_for_each_language(setup):
    train.main([*setup, "--strategy", "per-language", "--independent"])
    assert sorted(path.name for path in models(setup).iterdir()) == [
        "per-language-de",
        "per-language-en",
    ]


@pytest.mark.parametrize(
    "missing, consequence",
    [
        (
            "out/neurons/de.safetensors",
            "no neuron counts as toxic in it, and its pairs are not used",
        ),
        (
            "data/instructions/de.jsonl",
            "its neurons are not tuned, unless another language has them too",
        ),
    ],
)
def test_a_language_with_neurons_or_pairs_alone_is_named_and_skipped(
    setup, tmp_path, capsys, missing, consequence
):
    (tmp_path / missing).unlink()
    train.main([*setup, "--strategy", "multilingual"])
    printed = capsys.readouterr().out
    assert f"skipped de: {tmp_path / missing} does not exist" in printed and consequence in printed
    assert run_of(setup, "multilingual")["settings"]["languages"] == ["en"]
    assert "nothing to do" in fails([*setup[:-1], "de"], capsys)


def test_full_needs_no_neurons_and_interventions_no_pairs(setup, tmp_path):
    train.shutil.rmtree(tmp_path / "data")
    train.main([*setup, "--strategy", "aura", "damp", "det0"])
    assert run_of(setup, "aura")["unseen"] == {} and run_of(setup, "aura")["settings"][
        "languages"
    ] == ["de", "en"]
    train.shutil.rmtree(tmp_path / "out" / "neurons")
    write_pairs(tmp_path / "data" / "instructions" / "de.jsonl", 20)
    train.main([*setup, "--strategy", "full"])


def test_long_pairs_are_dropped_and_counted(setup, tmp_path, capsys):
    write_jsonl(
        tmp_path / "data" / "instructions" / "de.jsonl",
        [{"prompt": "ox", "response": "soup"}] * 3 + [{"prompt": "ox", "response": "green " * 90}],
    )
    train.main(
        [*setup, "--strategy", "multilingual"]
    )  # the limit of 512 is more than the model's 64 positions
    words = capsys.readouterr().out.split("\nde ")[1].split("\n")[0].split()
    assert words[0:3] == ["3", "0", "1"] and int(words[3]) > 64


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda auroc: auroc.pop("model.layers.1.mlp.up_proj"),
            "module model.layers.1.mlp.up_proj is missing",
        ),
        (
            lambda auroc: auroc.update(
                {"model.layers.1.mlp.up_proj": np.zeros(47, dtype=np.float32)}
            ),
            "model.layers.1.mlp.up_proj has shape [47]",
        ),
    ],
)
def test_neurons_that_do_not_fit_the_model_are_refused(setup, capsys, change, message):
    path = Path(setup[5]) / "neurons" / "de.safetensors"
    auroc, info = read_neurons(path, neurons.module_rows(train.read_config(Path(setup[1]))))
    change(auroc)
    write_neurons(path, auroc, info)
    assert message in fails(setup, capsys)


def test_neurons_of_another_model_are_refused(setup, capsys):
    write_model(Path(setup[1]), seed=5)
    assert "de.safetensors was found in another model than this one" in fails(setup, capsys)
    assert not models(setup).exists()


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"prompt": "ox", "response": ""}', "de.jsonl:21: field 'response' is empty"),
        ('{"prompt": "ox"}', "de.jsonl:21: field 'response' is missing"),
        ('{"prompt"', "de.jsonl:21: not valid JSON"),
    ],
)
def test_a_broken_pair_names_file_line_and_field_and_nothing_is_written(
    setup, tmp_path, capsys, line, message
):
    with open(tmp_path / "data" / "instructions" / "de.jsonl", "a") as file:
        file.write(line + "\n")
    assert message in fails(setup, capsys)
    assert not models(setup).exists()


def test_an_empty_selection_is_an_error_before_anything_is_trained(setup, capsys):
    assert "--strategy per-language: no neuron is chosen" in fails(
        setup, capsys, "--threshold", "1"
    )
    assert not models(setup).exists()


def test_a_language_without_a_neuron_is_shown_and_left_out(setup, capsys):
    path = Path(setup[5]) / "neurons" / "de.safetensors"
    auroc, info = read_neurons(path, neurons.module_rows(train.read_config(Path(setup[1]))))
    write_neurons(path, {name: values * 0 for name, values in auroc.items()}, info)
    train.main([*setup, "--strategy", "per-language"])
    assert "per-language de 0 0% 0 " in " ".join(capsys.readouterr().out.split())
    assert [len(stage["losses"]) for stage in run_of(setup, "per-language")["stages"]] == [0, 3]


@pytest.mark.parametrize(
    "change, named",
    [
        (["--lr", "0.5"], "lr was 0.004"),
        (["--seed", "1"], "seed was 0"),
        (["--threshold", "0.6"], "threshold was 0.5"),
        (["--dtype", "bfloat16"], "dtype was"),
    ],
)
def test_results_of_another_setting_are_not_mixed(setup, capsys, change, named):
    train.main([*setup, "--strategy", "multilingual"])
    before = everything_in(models(setup))
    assert named in fails(setup, capsys, "--strategy", "multilingual", *change)
    assert everything_in(models(setup)) == before


def test_results_of_other_pairs_or_neurons_are_not_mixed(setup, tmp_path, capsys):
    train.main([*setup, "--strategy", "multilingual"])
    write_pairs(tmp_path / "data" / "instructions" / "de.jsonl", 21)
    assert "its data was" in fails(setup, capsys, "--strategy", "multilingual")
    write_pairs(tmp_path / "data" / "instructions" / "de.jsonl", 20)
    write_neurons(tmp_path / "out" / "neurons" / "de.safetensors", tmp_path / "model", seed=7)
    assert "its neurons was" in fails(setup, capsys, "--strategy", "multilingual")


def test_scaling_neurons_down_needs_no_pairs(setup, tmp_path, capsys):
    train.main([*setup, "--strategy", "aura"])
    expected = run_of(setup, "aura")["proof"]
    shutil.rmtree(models(setup))
    (
        tmp_path / "data" / "instructions" / "de.jsonl"
    ).unlink()  # no pairs of the one language, and of the other only such as are too long
    train.main([*setup, "--strategy", "aura", "--max-tokens", "4"])
    assert run_of(setup, "aura")["proof"] == expected
    train.main([*setup, "--strategy", "det0", "--language", "de"])
    assert "skipped" not in capsys.readouterr().out


def test_a_loss_that_explodes_says_where(setup, capsys):
    error = fails(setup, capsys, "--strategy", "multilingual", "--lr", "1e30", "--warmup", "0")
    assert "step 2 of 5 (all): the loss is " in error and ".jsonl:" in error


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--strategy", "ful"], "invalid choice: 'ful'"),
        (["--threshold", "0.6", "--top-share", "0.1"], "not allowed with argument"),
        (["--unseen", "1.5"], "1.5 is not between 0 and 1"),
        (["--lr", "0"], "invalid positive float value"),
        (["--dtype", "float16"], "gradients vanish in float16"),
        (["--language", "fr"], "--language fr is not one of de, en"),
    ],
)
def test_wrong_arguments_say_what_is_right(setup, capsys, arguments, message):
    assert message in error_of(train.main, [*setup, *arguments], capsys)
