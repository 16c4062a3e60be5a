"""Messages are true, and say a thing once."""

import shutil
import sys
from pathlib import Path

import pytest
import worlds
from tiny import error_of
from worlds import (
    DETECT,
    EVALUATE,
    checkpoint,
    curate,
    detect,
    evaluate,
    prepare,
    train,
    write_checked,
)

from minitox import delta, files
from minitox.errors import InputError
from minitox.run import script

# ---------- D1


@pytest.fixture
def tuned(tuning_home):
    """The folder of a tuned model."""
    worlds.run(train.main, f"{worlds.TRAIN} multilingual")
    return tuning_home / "out" / "models" / "multilingual"


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


@pytest.mark.parametrize("source", ["model/model.safetensors", "chat_template.jinja"])
def test_d1_a_model_with_other_files_is_not_compared(tuned, capsys, source):
    """Its results would be the base model's, or replies in another chat format."""
    worlds.scorer(tuned.parents[2])
    Path("chat_template.jinja").write_text(worlds.TEMPLATE + " ")
    evaluation = EVALUATE.replace("--models base", "--models base multilingual")
    evaluate.main(evaluation.split())
    assert "left out multilingual" not in capsys.readouterr().out
    shutil.rmtree("out/replies")
    shutil.copy(source, tuned)
    error = error_of(evaluate.main, evaluation.split(), capsys)
    name = Path(source).name
    assert f"the report is without multilingual: out/models/multilingual/{name} is not " in error
    assert error_of(train.main, f"{worlds.TRAIN} multilingual".split(), capsys)


def test_d1_a_model_without_its_config_is_named_among_those_left_out(home, capsys):
    shutil.copytree("model", "out/models/full")
    (home / "out" / "models" / "full" / "config.json").unlink()
    worlds.run(evaluate.main, EVALUATE.replace("--models base", ""))
    reason = "left out full: out/models/full/config.json: no such file"
    assert reason in capsys.readouterr().out
    assert "config.json: no such file" in (home / "out" / "report.md").read_text("utf-8")


# ---------- D2


def test_d2_a_missing_record_is_called_missing(tuned, capsys):
    (tuned / "run.json").unlink()
    error = error_of(train.main, f"{worlds.TRAIN} multilingual".split(), capsys)
    assert "multilingual/run.json is missing, so nothing is known of the results there; " in error
    assert "choose another --out, or delete out/models/multilingual" in error


def test_d2_weights_that_may_not_be_read_are_not_called_missing(folder, monkeypatch):
    open_input = files.open_input

    def refuse_weights(path):
        if path.suffix == ".safetensors":
            raise PermissionError(13, "Permission denied", str(path))
        return open_input(path)

    monkeypatch.setattr(files, "open_input", refuse_weights)
    with pytest.raises(InputError, match=r"model.safetensors: cannot be read \(Permission denied"):
        checkpoint.load(folder)
    with pytest.raises(InputError, match=r"de.safetensors: cannot be read \(Permission denied"):
        files.read_tensors(folder / "de.safetensors", "detect", "neuron file")


# ---------- D3


@pytest.mark.parametrize(
    "table, message",
    [
        ("id\tverdict\nde-0\tkeep\nde-0\ttoxic\n", "3: de-0 is 'toxic' here and 'keep' in a line"),
        ("id\tverdict\tverdict\nde-0\tkeep\ttoxic\n", "1: there are 2 columns with the name"),
    ],
)
def test_d3_a_sheet_with_two_verdicts_on_a_pair_is_not_imported(table, message, tmp_path, capsys):
    write_checked(tmp_path, ["Hallo"])
    sheet = tmp_path / "sheet.tsv"
    sheet.write_text(table)
    arguments = ["review", "--out", str(tmp_path), "--name", "ada", "--import", str(sheet)]
    error = error_of(curate.main, arguments, capsys)
    assert error.startswith(f"error: {sheet}:{message}")
    assert error.endswith("no verdict was imported\n")
    assert not (tmp_path / "curation" / "verdicts" / "ada.jsonl").exists()


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a-en.csv", "text,label,text\na,1,b\n", "there are 2 columns with the name 'text'"),
        ("a-en.json", '[{"text": "a", "label": 1, "text": "b"}]', "the key 'text' occurs twice"),
        ("a-en.jsonl", '{"text": "a", "label": 1, "text": "b"}', "the key 'text' occurs twice"),
    ],
)
def test_d3_a_corpus_with_a_column_twice_is_refused(name, content, message, tmp_path, capsys):
    path = tmp_path / name
    path.write_text(content)
    columns = "--text text --label label --hateful 1".split()
    error = error_of(prepare.main, ["hate", str(path), *columns, "--out", str(tmp_path)], capsys)
    assert error.startswith(f"error: {path}")
    assert message in error
    assert not (tmp_path / "hateful").exists()


@pytest.mark.parametrize("names", ["x=model x=other", "x=other base x=model", "base base=other"])
def test_d3_a_model_name_that_occurs_twice_is_refused(home, names, capsys):
    shutil.copytree("model", "other")
    error = error_of(evaluate.main, EVALUATE.replace("base", names).split(), capsys)
    name = names.partition(" ")[0].partition("=")[0]
    assert f"--models: {name} occurs twice, as " in error and error.count("\n") == 1


# ---------- D4


MAINS = {
    "detect": detect.main,
    "train": train.main,
    "evaluate": evaluate.main,
    "curate": curate.main,
    "prepare": prepare.main,
    "delta": delta.main,
}


@pytest.mark.parametrize(
    "command, message",
    [
        ("detect --modle x", "unrecognized option --modle; did you mean --model? --help lists all"),
        ("train --lang de", "unrecognized option --lang; did you mean --languages? --help lists"),
        ("evaluate --model-s x", "unrecognized option --model-s; did you mean --models? --help"),
        ("detect --pool min", "--pool: invalid choice: 'min' (choose from "),
        ("train --strategy half", "--strategy: invalid choice: 'half' (choose from "),
        ("detect --model", "--model: expected one argument"),
        ("detect de", "unexpected argument 'de'; --help lists all options"),
        ("curate --modle x check", "unrecognized option --modle; did you mean --model? --help"),
        ("curate chek", "step: invalid choice: 'chek' (choose from "),
        ("curate", "the following arguments are required: step"),
        ("prepare ptp x --sede 1", "unrecognized option --sede; did you mean --seed? --help lists"),
        ("prepare --seed 1 ptp x", "unrecognized option --seed; --help lists all options"),
        ("prepare ppt x", "CORPUS: invalid choice: 'ppt' (choose from "),
        ("prepare ptp", "the following arguments are required: SOURCE"),
        ("delta model patch", "the following arguments are required: OUT"),
        ("delta model patch out --ouf", "unrecognized option --ouf; "),
    ],
)
def test_d4_a_mistake_on_the_command_line_is_one_line(command, message, capsys):
    name, *arguments = command.split()
    line = error_of(MAINS[name], arguments, capsys)
    assert line.startswith(f"error: {message}")
    assert line.count("\n") == 1


# ---------- D5


def test_d5_no_control_character_of_a_name_reaches_the_terminal(home, capsys):
    (home / "model").rename(home / "\x1b[2Jmodel\u202e\x9b")
    shown = r"\x1b[2Jmodel\u202e\x9b"
    arguments = ["--model", "\x1b[2Jmodel\u202e\x9b", "--out", "out\x1b]0;x\x07"]
    capsys.readouterr()
    script.run(lambda: detect.main([*DETECT.split(), *arguments]))
    printed = capsys.readouterr()
    assert f"\n{shown}: llama, 2 layers; cpu float32" in printed.out
    assert r"wrote out\x1b]0;x\x07/neurons" in printed.out
    assert not set(printed.out + printed.err) & set("\x1b\x07\x9b\u202e\r")


def test_d5_no_control_character_reaches_the_terminal_in_a_name_of_a_model(
    home, capsys, monkeypatch
):
    shutil.copytree(home / "model", home / "a\x1b[2J")
    (home / "a\x1b[2J" / "config.json").unlink()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    models = ["--models", "base", "a\x1b[2J=a\x1b[2J"]
    try:
        script.run(lambda: evaluate.main([*EVALUATE.split(), *models]))
    except SystemExit:
        pass
    printed = capsys.readouterr()
    # progress has codes of its own
    visible = (printed.out + printed.err).replace("\r", "").replace("\x1b[K", "")
    assert r"a\x1b[2J" in visible
    assert "\x1b" not in visible


# ---------- D6


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "＝", "＋", "－", "＠", "\t=", "\r="])
def test_d6_no_cell_of_a_sheet_is_a_formula(sign, tmp_path):
    write_checked(tmp_path, [f"{sign}1+1"])
    sheet = tmp_path / "sheet.tsv"
    curate.main(["review", "--out", str(tmp_path), "--name", "ada", "--export", str(sheet)])
    cell = sheet.read_text("utf-8-sig").splitlines()[1].split("\t")[-1]
    assert cell[0] in "'\\"
    assert cell.endswith("1+1")
