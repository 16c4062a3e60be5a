"""Spoilt files of every kind: a script works or says in one line why not, and neither crashes, hangs nor touches what is not its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import fuzz
import pytest
from mutate import WILD, dumped, spoil, spoilt_json
from tiny import error_of, write_model
from worlds import KINDS

import detect
from minitox.errors import InputError
from minitox.files import as_written
from minitox.lm import checkpoint

FUZZ, EXAMPLE = Path(__file__).with_name("fuzz.py"), '{"a": [1, {"b": "c"}], "d": null}'


@pytest.fixture(scope="module")
def fuzzed():
    """What the fuzzer says of each kind, and the complaints beneath it; in a process of its own, for it forks."""
    done = subprocess.run(
        [sys.executable, FUZZ, "--mutants", "12", "--seed", "3"], capture_output=True, text=True
    )
    parts = [part.split(None, 1) for part in ("\n" + done.stdout).split("\nkind ")[1:]]
    assert {name for name, _ in parts} == set(KINDS), done.stderr
    return dict(parts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoilt_file_is_read_or_refused_in_one_line(kind, fuzzed):
    assert " 0 wrong" in fuzzed[kind], fuzzed[kind]


def beside(argv):
    (Path.cwd() / "beside").touch()


def inside(argv):
    Path("out").mkdir()
    (Path("out") / "found").touch()


def raising(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    "main, says",
    [
        (raising(KeyError("x")), "KeyError: 'x'"),
        (raising(InputError("a" * 10**6)), None),
        (raising(InputError("a\nb\x1b")), None),
        (raising(OSError("a\nb")), "no single printable line"),
        (lambda argv: time.sleep(99), "hangs"),
        (lambda argv: bytearray(2**33), "MemoryError"),
        (lambda argv: print("\ud800"), "UnicodeEncodeError"),
        (lambda argv: os.kill(os.getpid(), signal.SIGTERM), "signal 15"),
        (lambda argv: print("a", file=sys.stderr), "says"),
        (lambda argv: sys.exit(3), "nothing said"),
        (beside, "writes to work/beside"),
        (inside, None),
    ],
)
def test_the_fuzzer_sees_what_goes_wrong_and_nothing_else(main, says, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "WALL", 2)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "given.txt").write_text("soup")
    wrong = fuzz.mutant(fuzz.Kind(main, "", ("given.txt",)), "made up", tmp_path, seed=0, number=0)[
        2
    ]
    assert wrong is None if says is None else says in wrong


def test_the_same_seed_spoils_the_same_way(tmp_path):
    found = []
    for seed in (1, 1, 2):
        (tmp_path / "x.json").write_text(EXAMPLE)
        found.append((spoil(tmp_path / "x.json", Random(seed)), (tmp_path / "x.json").read_bytes()))
    assert found[0] == found[1] != found[2]


def test_every_wild_value_gets_into_some_mutant():
    seen = "".join(spoilt_json(EXAMPLE, Random(seed))[1] for seed in range(2_000))
    assert all(
        dumped(value, True) in seen
        for value in WILD
        if not isinstance(value, float) or value == value
    )


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
    write_model(tmp_path / "model")
    (tmp_path / "escape").mkdir()
    shutil.move(
        tmp_path / "model" / "model.safetensors", tmp_path / "escape"
    )  # what it would find there
    name = name.format(tmp_path) if isinstance(name, str) else name
    names = checkpoint.tensor_names(tmp_path / "escape" / "model.safetensors")
    (tmp_path / "model" / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(names, name)})
    )
    with pytest.raises(InputError, match="may not point outside its folder|no such file"):
        checkpoint.load(tmp_path / "model")


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
def test_a_config_that_claims_a_giant_is_refused_at_once(changes, tmp_path, capsys):
    write_model(tmp_path / "model")
    path, start = tmp_path / "model" / "config.json", time.process_time()
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    said = error_of(
        detect.main,
        ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--device", "cpu"],
        capsys,
    )
    assert (
        said.count("\n") == 1
        and str(tmp_path / "model") in said
        and time.process_time() - start < 30
    )


@pytest.mark.parametrize(
    "shape, ends", [([2**40, 2**20], 2**62), ([2**31], 2**33), ([300, 32], 10**18)]
)
def test_a_header_that_claims_more_than_the_file_holds_is_refused(shape, ends, tmp_path):
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


def test_what_a_message_quotes_of_a_file_neither_floods_nor_commands_the_terminal():
    assert (
        str(InputError("en.jsonl:3: é世\x1b[2J\u202e\nb\ud800; delete it"))
        == "en.jsonl:3: é世\\x1b[2J\\u202e\\nb\\ud800; delete it"
    )
    said = str(InputError("de.jsonl:7: field " + "x" * 10**6 + "; delete it"))
    assert (
        said.startswith("de.jsonl:7: field x")
        and said.endswith("x; delete it")
        and len(said) < 1_000
    )


@pytest.mark.parametrize(
    "row, wrong",
    [
        ({}, None),
        ({"id": None}, "id"),
        ({"id": True}, "id"),
        ({"id": 2**60}, "id"),
        ({"id": 1.0}, "id"),
        ({"said": None}, None),
        ({"said": 3}, "said"),
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
def test_what_minitox_wrote_is_checked_when_it_is_read_back(row, wrong, tmp_path):
    row = {
        "id": 1,
        "said": "x",
        "losses": [[]],
        "band": [0.1, 0.2],
        "by": {"de": {"pairs": 1}},
        "stopped": False,
    } | row
    kinds = {
        "id": int,
        "said": str | None,
        "losses": [[float]],
        "band": [float, float],
        "by": {str: {"pairs": int}},
        "stopped": bool,
    }
    if wrong is None:
        assert as_written("rows.jsonl:1", row, **kinds) == row
    else:
        with pytest.raises(InputError, match=f"rows.jsonl:1: '{wrong}' is not as minitox wrote it"):
            as_written("rows.jsonl:1", row, **kinds)
        with pytest.raises(InputError, match=f"rows.jsonl:1: '{wrong}'"):
            as_written(
                "rows.jsonl:1",
                {field: value for field, value in row.items() if field != wrong},
                **kinds,
            )


def test_responses_that_were_cut_short_are_recorded_anew_and_change_nothing(tmp_path):
    """As after a crash of the whole machine, which may leave a file with a name and no content."""
    kind, found = KINDS["responses"], []
    folder = fuzz.world(kind, tmp_path)
    for size in (None, 0, 100):
        fuzz.restore(folder / "base", folder / "work")
        for path in (
            (folder / "work").glob("out/neurons/*.partial/*.f16") if size is not None else ()
        ):
            os.truncate(path, size)
        assert fuzz.forked(folder / "work", lambda: kind.main(kind.arguments.split())).status == 0
        found.append(
            {
                path.name: path.read_bytes()
                for path in (folder / "work").glob("out/neurons/*.safetensors")
            }
        )
    assert found[0] == found[1] == found[2] and len(found[0]) == 2


def test_weights_that_are_a_pickle_are_not_opened(tmp_path):
    write_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(InputError, match="minitox reads safetensors weights only"):
        checkpoint.load(tmp_path / "model")


def test_nothing_here_unpickles_or_executes_what_it_reads():
    root = FUZZ.parents[2]
    sources = [*root.glob("*.py"), *(root / "minitox").rglob("*.py"), *(root / "data").glob("*.py")]
    assert len(sources) > 30
    for path in sources:
        assert not re.search(
            r"pickle|torch\.load|marshal|\bexec\(|(?<!\.)\beval\(", path.read_text()
        ), path
