"""detect.py as its user meets it: what it finds, what it prints, how it fails, how it goes on."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import WORDS, error_of, write_jsonl, write_model

from minitox import neurons
from minitox.lm.config import read_config

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import detect  # noqa: E402


def sentences(rng, count: int, word: str | None = None) -> list[str]:
    """Random everyday words; `word` stands somewhere in each."""
    texts = [list(rng.choice(WORDS, size=rng.integers(4, 9))) for _ in range(count)]
    for text in texts:
        text.insert(rng.integers(1, len(text)), word or rng.choice(WORDS))
    return [" ".join(text) for text in texts]


def write_detection(data: Path, language: str, seed: int = 0, count: int = 30) -> None:
    rng = np.random.default_rng(seed)
    rows = [{"text": text, "toxicity": 0.9} for text in sentences(rng, count, "ox")]
    rows += [{"text": text, "toxicity": 0.1} for text in sentences(rng, count)]
    rows += [{"text": text, "toxicity": 0.3} for text in sentences(rng, 5)]  # between, and not used
    write_jsonl(data / "detection" / f"{language}.jsonl", rows)


@pytest.fixture
def setup(tmp_path):
    """Arguments of a small run: two languages."""
    write_model(tmp_path / "model")
    for seed, language in enumerate(("de", "en")):
        write_detection(tmp_path / "data", language, seed)
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


def found(setup, language: str):
    path = Path(setup[5]) / "neurons" / f"{language}.safetensors"
    return read_neurons(path, neurons.module_rows(read_config(Path(setup[1]))))


def fails(setup, capsys, *more) -> str:
    """Run as a user would; the one line that says what is wrong."""
    error = error_of(detect.main, [*setup, *more], capsys)
    assert error.count("\n") == 1 and error.startswith("error: ")
    return error


def test_a_planted_neuron_is_the_top_neuron_of_its_module(setup):
    """One row of gate_proj is made to answer the word that only toxic sentences have."""
    folder = Path(setup[1])
    word = detect.Tokenizer(folder, read_config(folder)).encode("an ox")[
        -1
    ]  # the x, which no other word has
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][word] *= (
        20  # else the untrained attention drowns what the word is
    )
    weights["model.layers.0.mlp.gate_proj.weight"][17] = weights["model.embed_tokens.weight"][word]
    save_file(weights, folder / "model.safetensors")
    detect.main(setup)
    for language in ("de", "en"):
        gate = found(setup, language)[0]["model.layers.0.mlp.gate_proj"]
        assert gate.argmax() == 17 and gate[17] > 0.95


def test_what_it_prints_is_what_it_wrote(setup, capsys):
    detect.main(setup)
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for language in ("de", "en"):
        auroc, info = found(setup, language)
        count = neurons.count(neurons.select(auroc))
        assert any(
            line.startswith(f"{language} 30 + 30 0 {count:,} {count / 256:.1%} ")
            for line in printed
        )
        assert info["toxic"] == info["clean"] == 30
        assert 0 <= info["band"][0] < info["band"][1] <= 1
    a, b = (neurons.select(found(setup, language)[0]) for language in ("de", "en"))
    assert f"de {neurons.count(a):,} {neurons.overlap(a, b)[0]:,}" in printed
    assert not list((Path(setup[5]) / "neurons").glob("*.partial"))


def test_the_same_command_again_computes_nothing_and_prints_the_same_tables(
    setup, capsys, monkeypatch
):
    detect.main(setup)
    tables = capsys.readouterr().out.split("Table 2")[1]
    monkeypatch.setattr(detect.checkpoint, "load", None)  # nothing to load for
    detect.main(setup)
    assert capsys.readouterr().out.split("Table 2")[1] == tables


def test_responses_that_a_kill_left_beside_a_finished_language_are_removed(setup):
    detect.main(setup)
    left = Path(setup[5]) / "neurons" / "de.partial"
    left.mkdir()
    (left / "000000.f16").write_bytes(b"left")
    detect.main(setup)
    assert not left.exists() and found(setup, "de")


def test_long_sentences_are_cut_and_counted(setup, capsys):
    detect.main([*setup, "--max-tokens", "5"])
    assert found(setup, "de")[1]["cut"] > 30


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_matched_lengths_and_both_poolings(setup, pool):
    detect.main([*setup, "--match-length", "--pool", pool])
    info = found(setup, "de")[1]
    assert info["length_auroc"] == 0.5 and info["toxic"] == info["clean"] <= 30


def test_at_most_so_many_sentences_of_a_class_the_same_ones_for_a_seed(setup, tmp_path):
    detect.main([*setup, "--sentences", "10", "--seed", "3"])
    first = found(setup, "de")
    assert first[1]["toxic"] == first[1]["clean"] == 10
    setup[5] = str(tmp_path / "again")
    detect.main([*setup, "--sentences", "10", "--seed", "3"])
    assert all(
        np.array_equal(first[0][name], values) for name, values in found(setup, "de")[0].items()
    )


@pytest.mark.parametrize(
    "rows, reason",
    [
        ([{"text": "soup", "toxicity": 0.9}], "no clean sentence"),
        ([{"text": "soup", "toxicity": 0.1}], "no toxic sentence"),
        ([], "no toxic sentence"),
        (None, "does not exist"),
    ],
)
def test_a_language_that_cannot_be_used_is_named_and_the_others_go_on(setup, capsys, rows, reason):
    path = Path(setup[3]) / "detection" / "de.jsonl"
    path.unlink() if rows is None else write_jsonl(path, rows)
    detect.main(setup)
    printed = capsys.readouterr().out
    assert "skipped de: " in printed and reason in printed
    assert found(setup, "en") and not (Path(setup[5]) / "neurons" / "de.safetensors").exists()
    assert "no language of de can be used" in fails(setup[:-1], capsys, "de")


@pytest.mark.parametrize(
    "line, message",
    [
        (b'{"text": "soup", "toxicity": 0.9', "de.jsonl:3: not valid JSON"),
        (b'["soup", 0.9]', "de.jsonl:3: expected a JSON object, found list"),
        (b'{"toxicity": 0.9}', "de.jsonl:3: field 'text' is missing"),
        (b'{"text": "soup"}', "de.jsonl:3: field 'toxicity' is missing"),
        (b'{"text": 7, "toxicity": 0.9}', "de.jsonl:3: field 'text' must be text, not int"),
        (b'{"text": "  ", "toxicity": 0.9}', "de.jsonl:3: field 'text' is empty"),
        (
            b'{"text": "\\ud800", "toxicity": 0.9}',
            "de.jsonl:3: field 'text' holds half a surrogate pair",
        ),
        (
            b'{"text": "soup", "toxicity": NaN}',
            "de.jsonl:3: field 'toxicity' must be a number from 0 to 1, not nan",
        ),
        (
            b'{"text": "soup", "toxicity": "0.9"}',
            "de.jsonl:3: field 'toxicity' must be a number from 0 to 1, not '0.9'",
        ),
        (b'{"text": "soup", "toxicity": 1.1}', "de.jsonl:3: field 'toxicity' must be"),
        (b'{"text": "soup", "toxicity": true}', "de.jsonl:3: field 'toxicity' must be"),
        (b"\xff\xfe", "de.jsonl:3: not valid UTF-8"),
        (b"", "de.jsonl:3: not valid JSON"),
    ],
)
def test_a_broken_line_names_file_line_and_field_and_nothing_is_written(
    setup, capsys, line, message
):
    path = Path(setup[3]) / "detection" / "de.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[2:]]))
    assert message in fails(setup, capsys)
    assert not Path(setup[5]).exists()


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_is_no_model_is_named_and_nothing_is_written(setup, capsys, missing):
    (Path(setup[1]) / missing).unlink()
    assert missing in fails(setup, capsys)
    assert not Path(setup[5]).exists()


@pytest.mark.parametrize(
    "change, named",
    [
        (["--pool", "mean"], "pool was 'max', this one's is 'mean'"),
        (["--max-tokens", "7"], "max_tokens was 128"),
        (["--dtype", "bfloat16"], "dtype was 'torch.float32'"),
    ],
)
def test_results_of_another_setting_are_not_mixed(setup, capsys, change, named):
    detect.main(setup)
    capsys.readouterr()
    assert named in fails(setup, capsys, *change)


def test_results_of_another_model_or_other_sentences_are_not_mixed(setup, capsys):
    detect.main(setup)
    write_detection(Path(setup[3]), "de", seed=9)
    assert "made from other sentences" in fails(setup, capsys)
    write_model(Path(setup[1]), seed=1)
    assert "its model was" in fails(setup, capsys)


def test_a_sentence_of_special_tokens_alone_is_told_and_not_pooled(setup, capsys):
    path = Path(setup[1]) / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    token = tokenizer["model"]["vocab"]["x"]
    tokenizer["added_tokens"].append(
        {
            "id": token,
            "content": "x",
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
    )
    path.write_text(json.dumps(tokenizer))
    write_jsonl(
        Path(setup[3]) / "detection" / "de.jsonl",
        [{"text": "x", "toxicity": 0.9}, {"text": "the soup", "toxicity": 0.1}],
    )
    assert "special ones alone, of 1 of the sentences" in fails(setup, capsys)


def test_weights_that_overflow_name_the_module(setup, capsys):
    weights = load_file(Path(setup[1]) / "model.safetensors")
    weights["model.layers.1.mlp.gate_proj.weight"][3] = torch.inf
    save_file(weights, Path(setup[1]) / "model.safetensors")
    assert "model.layers.1.mlp.gate_proj: the responses are not finite" in fails(setup, capsys)
    write_model(Path(setup[1]))
    detect.main(setup)  # what failed left nothing behind that is in the way


def test_a_limit_beyond_the_models_positions_is_refused(setup, capsys):
    write_model(Path(setup[1]), max_position_embeddings=8)
    assert "does not fit the model's 8 positions" in fails(setup, capsys)
    detect.main([*setup, "--max-tokens", "7"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--languages", "de,xx"], "'xx' is not one of ar, cs"),
        (["--sentences", "0"], "invalid positive int value"),
        (["--device", "gpu9"], "--device gpu9"),
    ],
)
def test_wrong_arguments_say_what_is_right(setup, capsys, arguments, message):
    assert message in error_of(detect.main, [*setup, *arguments], capsys)
