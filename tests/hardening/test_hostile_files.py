"""Spoilt files of every kind: a script works, or prints one line that explains why not.

It neither crashes nor hangs, and it writes only to its own files.
"""

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from random import Random

import fuzz
import pytest
import torch
from finite import not_finite
from kinds import KINDS, Kind
from mutate import spoil
from mutate_json import WILD, dumped, spoilt_json
from mutate_model import MEANINGS
from safetensors.torch import load, save_file
from tiny import error_of, write_model

import detect
from minitox.errors import InputError
from minitox.files import as_written
from minitox.lm import checkpoint

EXAMPLE = '{"a": [1, {"b": "c"}], "d": null}'


# The fuzzer


@pytest.fixture(scope="module")
def fuzzed(fuzzer):
    """The fuzzer's report on each kind."""
    printed, errors = fuzzer.communicate()
    reports = ("\n" + printed).split("\nkind ")[1:]
    by_kind = dict(report.split(None, 1) for report in reports)
    assert set(by_kind) == set(KINDS), errors
    return by_kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoilt_file_is_read_or_refused_in_one_line(kind, fuzzed):
    assert " 0 wrong" in fuzzed[kind], fuzzed[kind]


def write_beside(argv):
    (Path.cwd() / "beside").touch()


def write_inside(argv):
    Path("out").mkdir()
    (Path("out") / "result").touch()


def write_not_finite(argv):
    write_inside(argv)
    Path("out/report.json").write_text('{"perplexity": NaN}')


def print_two_lines(argv):
    os.write(2, b"error: a\nb\n")
    os._exit(2)


def write_too_large(argv):
    write_inside(argv)
    save_file({"auroc": torch.tensor([0.5, 1e38]) * 10}, "out/de.safetensors")


def raising(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    "main, expected",
    [
        (raising(KeyError("x")), "KeyError: 'x'"),
        (raising(InputError("a" * 10**6)), None),
        (raising(InputError("a\nb\x1b")), None),
        (raising(OSError("a\nb")), None),
        (raising(MemoryError()), None),
        (print_two_lines, "no single printable line"),
        (lambda argv: time.sleep(99), "hangs"),
        (lambda argv: bytearray(2**33), None),
        (lambda argv: print("\ud800"), None),
        (lambda argv: os.kill(os.getpid(), signal.SIGTERM), "signal 15"),
        (lambda argv: print("a", file=sys.stderr), "prints 'a' to stderr"),
        (lambda argv: sys.exit(3), "nothing on stderr"),
        (write_beside, "writes to work/beside"),
        (write_inside, None),
        (write_not_finite, "accepts and writes NaN to report.json"),
        (write_too_large, "accepts and writes inf of auroc to de.safetensors"),
    ],
)
def test_the_fuzzer_reports_what_goes_wrong_and_nothing_else(main, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "WALL", 2)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "given.txt").write_text("soup")
    kind = Kind(main, "", ("given.txt",))
    wrong = fuzz.run_mutant(kind, "made up", tmp_path, seed=0, number=0)[2]
    if expected is None:
        assert wrong is None
    else:
        assert expected in wrong


def test_the_fuzzer_reports_too_much_memory(tmp_path):
    assert fuzz.complaint(fuzz.Outcome(0, "", 1.0, 999)) is None
    assert fuzz.complaint(fuzz.Outcome(0, "", 1.0, 1_001)) == "needs more than 1 GB"
    (tmp_path / "work").mkdir()
    used = [
        fuzz.Fork(tmp_path / "work", lambda size=size: len(b"x" * size)).wait().megabytes
        for size in (1, 300_000_000)
    ]
    assert used[1] > used[0] + 250


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("a.json", '{"a": [1.5, -0.0, 1e308], "b": "NaN", "c": null}', None),
        ("a.json", '{"a": [1.5, Infinity]}', "Infinity"),
        ("a.json", '{"a": 1e999}', "1e999"),
        ("a.json", "{", "what is not json"),
        ("a.jsonl", '{"a": 1}\n{"a": -Infinity}\n', "-Infinity"),
        ("a.md", "| nan, as in banana |", "nan"),
        ("a.html", "<td>-inf</td>", "-inf"),
        ("a.html", "the paper's NaN; infinite, nano, inf.json, x.nan", None),
        ("a.txt", "nan", None),
    ],
)
def test_numbers_that_are_not_finite_are_noticed_in_every_kind_of_result(
    name, text, expected, tmp_path
):
    path = tmp_path / name
    path.write_text(text)
    number = not_finite(path)
    assert number is None if expected is None else number.startswith(expected)


@pytest.mark.parametrize("name", MEANINGS)
def test_a_file_of_a_model_with_another_meaning_is_still_well_formed(name, tmp_path):
    write_model(tmp_path)
    for other in ("chat_template.jinja", "tokenizer_config.json"):
        (tmp_path / other).write_text("{}")
    data = (tmp_path / name).read_bytes()
    spoilt = [MEANINGS[name](data, Random(seed)) for seed in range(40)]
    assert len({content for _, content in spoilt}) > 20
    for what, content in spoilt:
        assert content != data, what
        if name.endswith(".json"):
            assert isinstance(json.loads(content), dict)
        elif name.endswith(".safetensors"):
            assert load(content)


def test_the_same_seed_spoils_the_same_way(tmp_path):
    path = tmp_path / "x.json"
    results = []
    for seed in (1, 1, 2):
        path.write_text(EXAMPLE)
        how = spoil(path, Random(seed))
        results.append((how, path.read_bytes()))
    assert results[0] == results[1] != results[2]


def test_every_wild_value_gets_into_some_mutant():
    spoilt = "".join(spoilt_json(EXAMPLE, Random(seed))[1] for seed in range(2_000))
    for value in WILD:
        is_nan = isinstance(value, float) and value != value
        assert is_nan or dumped(value, True) in spoilt


# Models


@pytest.mark.parametrize(
    "name",
    [
        "../escape/model.safetensors",
        "/{}/escape/model.safetensors",
        "a/../../escape/model.safetensors",
        "..",
        "",
        "./model.safetensors",
        "escape\\..\\model.safetensors",
        3,
        None,
        ["model.safetensors"],
    ],
)
def test_an_index_cannot_leave_its_folder(name, tmp_path):
    folder = tmp_path / "model"
    write_model(folder)
    escape = tmp_path / "escape"
    escape.mkdir()
    shutil.move(folder / "model.safetensors", escape)  # the index would find this file there
    if isinstance(name, str):
        name = name.format(tmp_path)
    names = checkpoint.tensor_names(escape / "model.safetensors")
    index = {"weight_map": dict.fromkeys(names, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="may not point outside its folder|no such file"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 10**12},
        {"num_hidden_layers": 10**9},
        {"vocab_size": 10**11},
        {"intermediate_size": 10**400},
        {"hidden_size": 2**28, "vocab_size": 2**28},
        {"head_dim": 2**28, "num_attention_heads": 2**28},
        {"max_position_embeddings": 2**28, "num_hidden_layers": 1_000},
    ],
)
def test_a_config_with_huge_sizes_is_refused_at_once(changes, tmp_path, capsys):
    folder = tmp_path / "model"
    write_model(folder)
    start = time.process_time()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    arguments = ["--model", str(folder), "--out", str(tmp_path / "out"), "--device", "cpu"]
    message = error_of(detect.main, arguments, capsys)
    assert message.count("\n") == 1 and str(folder) in message
    assert time.process_time() - start < 30


@pytest.mark.parametrize(
    "shape, ends", [([2**40, 2**20], 2**62), ([2**31], 2**33), ([300, 32], 10**18)]
)
def test_a_header_that_describes_more_than_the_file_contains_is_refused(shape, ends, tmp_path):
    write_model(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["model.embed_tokens.weight"] |= {"shape": shape, "data_offsets": [0, ends]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    with pytest.raises(InputError, match="model.safetensors: not a whole safetensors file"):
        checkpoint.load(tmp_path / "model")


def test_weights_in_a_pickle_are_not_opened(tmp_path):
    write_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(InputError, match="minitox reads safetensors weights only"):
        checkpoint.load(tmp_path / "model")


def test_no_source_file_unpickles_or_executes_what_it_reads():
    root = Path(__file__).resolve().parents[2]
    sources = [*root.glob("*.py"), *(root / "minitox").rglob("*.py"), *(root / "data").glob("*.py")]
    assert len(sources) > 30
    unsafe = re.compile(r"pickle|torch\.load|marshal|\bexec\(|(?<!\.)\beval\(")
    for path in sources:
        assert not unsafe.search(path.read_text()), path


# Messages


def test_text_that_a_message_quotes_from_a_file_is_cut_and_has_no_control_characters():
    error = InputError("en.jsonl:3: é世\x1b[2J\u202e\nb\ud800; delete it")
    assert str(error) == "en.jsonl:3: é世\\x1b[2J\\u202e\\nb\\ud800; delete it"
    message = str(InputError("de.jsonl:7: field " + "x" * 10**6 + "; delete it"))
    assert message.startswith("de.jsonl:7: field x")
    assert message.endswith("x; delete it")
    assert len(message) < 1_000


# Files that minitox wrote

ROW = {
    "id": 1,
    "text": "x",
    "losses": [[]],
    "band": [0.1, 0.2],
    "by": {"de": {"pairs": 1}},
    "stopped": False,
}
ROW_KINDS = {
    "id": int,
    "text": str | None,
    "losses": [[float]],
    "band": [float, float],
    "by": {str: {"pairs": int}},
    "stopped": bool,
}


@pytest.mark.parametrize(
    "row, wrong",
    [
        ({}, None),
        ({"id": None}, "id"),
        ({"id": True}, "id"),
        ({"id": 2**60}, "id"),
        ({"id": 1.0}, "id"),
        ({"text": None}, None),
        ({"text": 3}, "text"),
        ({"losses": []}, None),
        ({"losses": [[0.5], []]}, None),
        ({"losses": [0.5]}, "losses"),
        ({"losses": {}}, "losses"),
        ({"band": [0.5]}, "band"),
        ({"band": [0.5, 1]}, "band"),
        ({"by": {}}, None),
        ({"by": {"de": {"pairs": 1, "more": None}}}, None),
        ({"by": {"de": {}}}, "by"),
        ({"by": {"de": 1}}, "by"),
        ({"stopped": 1}, "stopped"),
    ],
)
def test_what_minitox_wrote_is_checked_when_it_is_read_again(row, wrong):
    row = ROW | row
    if wrong is None:
        assert as_written("rows.jsonl:1", row, **ROW_KINDS) == row
        return
    with pytest.raises(InputError, match=f"rows.jsonl:1: '{wrong}' is not as minitox wrote it"):
        as_written("rows.jsonl:1", row, **ROW_KINDS)
    del row[wrong]
    with pytest.raises(InputError, match=f"rows.jsonl:1: '{wrong}'"):
        as_written("rows.jsonl:1", row, **ROW_KINDS)


def test_truncated_files_of_responses_are_recorded_again_with_the_same_result(tmp_path):
    """A crash of the whole machine may leave a file that has a name but no content."""
    kind = KINDS["responses"]
    folder = fuzz.make_world(kind, tmp_path)
    work = folder / "work"
    results = []
    for size in (None, 0, 100):
        fuzz.restore(folder / "base", work)
        if size is not None:
            for path in work.glob("out/neurons/*.partial/*.f16"):
                os.truncate(path, size)
        assert fuzz.forked(work, lambda: kind.main(kind.arguments.split())).status == 0
        paths = work.glob("out/neurons/*.safetensors")
        results.append({path.name: path.read_bytes() for path in paths})
    assert results[0] == results[1] == results[2] and len(results[0]) == 2
