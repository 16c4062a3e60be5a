"""Files in and out: errors name the line, writes are whole or absent, tensors keep metadata."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from minitox import files
from minitox.errors import InputError
from minitox.files import (
    FORMAT,
    as_arrays,
    as_written,
    file_hash,
    fitting,
    is_finite,
    is_kind,
    name_in_errors,
    open_input,
    parse,
    read_bytes,
    read_json,
    read_jsonl,
    read_tensors,
    read_written,
    remove_leftovers,
    replacing,
    text_field,
    versions,
    write_json,
    write_jsonl,
    write_tensors,
)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


# ---------- reading


def test_what_cannot_be_the_name_of_a_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be the name of a file: embedded null"):
        open_input(tmp_path / "\0")


@pytest.mark.parametrize("read", [read_json, file_hash, lambda path: list(read_jsonl(path))])
def test_only_regular_files_are_read(tmp_path, read):
    with pytest.raises(InputError, match="is a folder, not a regular file"):
        read(tmp_path)
    with pytest.raises(InputError, match="null is a pipe or a device, not a regular file"):
        read(os.devnull)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no such pipes")
def test_a_pipe_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    with pytest.raises(InputError, match="pipe is a pipe or a device"):
        open_input(tmp_path / "pipe")


def test_what_is_read_is_bounded(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "soup"}\n{"text": "' + b"a" * 50 + b'"}\n')
    assert read_bytes(path) == path.read_bytes()
    monkeypatch.setattr(files, "MOST_BYTES", 30)
    with pytest.raises(InputError, match="rows.jsonl is too large: over 30 bytes"):
        read_bytes(path)
    monkeypatch.setattr(files, "MOST_LINE", 30)
    with pytest.raises(InputError, match="rows.jsonl:2: the line is too long: over 30 bytes"):
        list(read_jsonl(path))


# ---------- JSON


@pytest.mark.parametrize(
    "end, numbers",
    [
        (b"", [1]),
        (b'{"a": 2}', [1, 2]),
        (b'{"a": 2}\r', [1, 2]),
        (b'{"a": 2, "b', [1]),
        (b"\xff", [1]),
    ],
)
def test_a_torn_last_line_is_skipped_on_request_and_stays_in_the_file(tmp_path, end, numbers):
    path = tmp_path / "rows.jsonl"
    content = b'{"a": 1}\n' + end
    path.write_bytes(content)
    assert [row["a"] for _, row in read_jsonl(path, skip_torn=True)] == numbers
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b'{"a": 1}\r{"a": 2}\r', b'{"a": 1}\n{"a": 2}\r{"a": 3}'])
def test_lines_of_old_macs_are_no_torn_line(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match="its lines end with CR alone"):
        list(read_jsonl(path, skip_torn=True))


def test_a_broken_line_is_no_torn_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a\n{"a": 2}\n')
    with pytest.raises(InputError, match="rows.jsonl:1: not valid JSON"):
        list(read_jsonl(path, skip_torn=True))


@pytest.mark.parametrize("text", [b'{"a": 1, "b": 2, "a": 3}', b'{"b": [{"a": 1, "a": 1}]}'])
def test_a_key_that_occurs_twice_is_refused(text):
    with pytest.raises(InputError, match="x.json: not valid JSON .the key 'a' occurs twice"):
        parse("x.json", text)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused(number):
    text = f'{{"a": [1.5, {number}]}}'.encode()
    with pytest.raises(
        InputError, match=f"x.json: not valid JSON .{number} is not a finite number"
    ):
        parse("x.json", text)
    assert parse("x.json", b'{"a": [1.5, 1e300, -0.0]}') == {"a": [1.5, 1e300, 0.0]}


def test_lines_come_with_their_place_in_the_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    # U+2028 ends no line
    path.write_bytes('{"a": "é"}\r\n{"a": "\u2028"}\n{"a": 3}'.encode())
    rows = list(read_jsonl(path))
    assert [row["a"] for _, row in rows] == ["é", "\u2028", 3]
    assert [where for where, _ in rows] == [f"{path}:{number}" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    "line, message",
    [
        (b'{"text": "soup"', "rows.jsonl:2: not valid JSON"),
        (b"", "rows.jsonl:2: not valid JSON"),
        (b"[" * 10**5, "rows.jsonl:2: not valid JSON"),  # deeper than Python's stack
        (b'["soup"]', "rows.jsonl:2: expected a JSON object, found list"),
        (b"null", "rows.jsonl:2: expected a JSON object, found NoneType"),
        (b'{"text": "\xff"}', r"rows.jsonl:2: not valid UTF-8 \(byte 10\)"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    (tmp_path / "rows.jsonl").write_bytes(b"{}\n" + line + b"\n")
    with pytest.raises(InputError, match=message):
        list(read_jsonl(tmp_path / "rows.jsonl"))


def test_an_object_is_written_and_read_again(tmp_path):
    path = tmp_path / "run.json"
    value = {"model": "größer", "settings": [1, 0.5, None], "half": "\ud800"}
    write_json(path, value)
    assert read_json(path) == value
    assert '\n  "model": "größer",\n' in path.read_text()
    with pytest.raises(InputError, match="other.json: no such file"):
        read_json(tmp_path / "other.json")


def test_rows_are_written_as_lines_and_half_a_character_as_an_escape(tmp_path):
    rows = [{"text": "größer\n"}, {"text": "\ud800"}]
    write_jsonl(tmp_path / "en.jsonl", rows)
    lines = (tmp_path / "en.jsonl").read_bytes().splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert lines[0] == '{"text": "größer\\n"}'.encode()
    assert os.listdir(tmp_path) == ["en.jsonl"]


@pytest.mark.parametrize(
    "row, message",
    [
        ({}, "rows.jsonl:7: field 'text' is missing"),
        ({"text": 7}, "rows.jsonl:7: field 'text' must be text, not int"),
        ({"text": " \n"}, "rows.jsonl:7: field 'text' is empty"),
        ({"text": "a\ud800"}, "rows.jsonl:7: field 'text' contains half a surrogate pair"),
    ],
)
def test_a_field_that_is_no_text_is_named(row, message):
    with pytest.raises(InputError, match=message):
        text_field("rows.jsonl:7", row, "text")


def test_text_is_returned_as_it_is():
    assert text_field("rows.jsonl:7", {"text": " soup 😀\n"}, "text") == " soup 😀\n"


# ---------- JSON that minitox wrote


@pytest.mark.parametrize(
    "value, kind, expected",
    [
        (3, int, True),
        (3, float, False),
        (3.0, float, True),
        (3, int | float, True),
        (None, str | None, True),
        (True, int, False),  # although Python's bool is an int
        (True, bool, True),
        (2**53, int, False),  # not exact in every reader of JSON
        (2**53 - 1, int, True),
        ([1, 2], [int], True),
        ([], [int], True),
        ([1, "a"], [int], False),
        ([0.5, 0.6], [float, float], True),
        ([0.5], [float, float], False),
        ([0.5, None], [float, float], False),
        ("ab", [str], False),
        ({"a": 1}, {"a": int}, True),
        ({"a": 1, "b": None}, {"a": int}, True),
        ({"b": 1}, {"a": int}, False),
        ({"x": "1", "y": "2"}, {str: str}, True),
        ({"x": "1", "y": 2}, {str: str}, False),
        ([], {str: str}, False),
        ({"de": {"pairs": 3}}, {str: {"pairs": int}}, True),
        ({"de": {"pairs": "3"}}, {str: {"pairs": int}}, False),
    ],
)
def test_the_kind_of_a_value(value, kind, expected):
    assert is_kind(value, kind) == expected


def test_a_file_that_someone_edited_is_refused(tmp_path):
    path = tmp_path / "en.jsonl"
    path.write_text('{"id": 1, "response": null}\n{"id": "2", "response": "soup"}\n')
    kinds = {"id": int, "response": str | None}
    with pytest.raises(InputError, match="en.jsonl:2: 'id' is not as minitox wrote it; delete"):
        read_written(path, **kinds)
    path.write_text('{"id": 1, "response": null}\n')
    assert read_written(path, **kinds) == [{"id": 1, "response": None}]
    with pytest.raises(InputError, match="run.json: 'seed' is not as minitox wrote it"):
        as_written("run.json", {"pool": "max"}, seed=int)


# ---------- writes are whole or absent


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "result"
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert contents(path.parent) == {}

    for text in ("first", "second"):
        with replacing(path) as temporary:
            temporary.write_text(text)
        assert path.read_text() == text

    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert contents(path.parent) == {"result": "second"}


@pytest.fixture
def private_umask():
    """New files may be read by their group, and not by others."""
    before = os.umask(0o027)
    yield
    os.umask(before)


def write_some_tensors(path: Path):
    write_tensors(path, {"a": torch.ones(2)}, "test", {})


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
@pytest.mark.parametrize("write", [write_some_tensors, lambda path: write_json(path, {})])
def test_a_written_file_has_the_permissions_that_open_gives(tmp_path, private_umask, write):
    path = tmp_path / "deep" / "result"
    write(path)
    (tmp_path / "opened").touch()
    assert path.stat().st_mode == (tmp_path / "opened").stat().st_mode
    assert path.stat().st_mode & 0o777 == 0o640
    for mode in (0o600, 0o664):  # those of a file that is written again
        path.chmod(mode)
        write(path)
        assert path.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_file_in_the_place_of_a_link_has_the_permissions_of_a_new_one(tmp_path, private_umask):
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "elsewhere").chmod(0o666)
    (tmp_path / "result").symlink_to("elsewhere")
    write_json(tmp_path / "result", {})
    assert (tmp_path / "result").stat().st_mode & 0o777 == 0o640


def test_two_writers_of_a_file_have_a_temporary_file_each(tmp_path):
    path = tmp_path / "result"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert contents(tmp_path) == {"result": "first"}  # the block that ended last


def test_a_link_at_a_result_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "result").symlink_to("elsewhere")
    write_json(tmp_path / "result", {})
    assert contents(tmp_path) == {"elsewhere": "kept", "result": "{}\n"}
    assert not (tmp_path / "result").is_symlink()


def test_leftovers_of_killed_runs_are_removed_and_nothing_else(tmp_path):
    for name in (".a.json.abcd1234.partial", "deep/.b.x0_9zzzz.partial"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".model.abcd1234.partial").mkdir()
    (tmp_path / ".model.abcd1234.partial" / "config.json").touch()
    (tmp_path / "elsewhere").mkdir()
    too_deep = tmp_path / "1" / "2" / "3" / "4" / ".c.abcd1234.partial"
    too_deep.parent.mkdir(parents=True)
    for path in (too_deep, too_deep.parents[1] / too_deep.name):
        path.touch()
    (tmp_path / ".link.abcd1234.partial").symlink_to("elsewhere")
    kept = ["de.partial", ".lock", ".x.partial", "a.abcd1234.partial", "elsewhere"]
    for name in kept[:-1]:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "1", "deep"])
    assert not list((tmp_path / "deep").iterdir())
    assert list(tmp_path.glob("1/**/.*")) == [too_deep]


def test_the_files_of_another_run_in_a_folder_with_its_own_lock_stay(tmp_path):
    """A run in the folder above it might remove what a running train.py is about to rename."""
    (tmp_path / "out" / "models").mkdir(parents=True)
    (tmp_path / ".lock").touch()
    (tmp_path / "out" / ".lock").touch()
    running = tmp_path / "out" / "models" / ".run.json.abcd1234.partial"
    running.touch()
    remove_leftovers(tmp_path)
    assert running.exists()
    remove_leftovers(tmp_path / "out")
    assert not running.exists()


def test_a_write_error_names_the_file(tmp_path):
    with pytest.raises(OSError, match="de.jsonl: .*No space left"):
        with name_in_errors(tmp_path / "de.jsonl"):
            raise OSError(28, "No space left on device")
    # an error that names a file is not changed
    with pytest.raises(FileNotFoundError) as error, name_in_errors(tmp_path / "de.jsonl"):
        open(tmp_path / "other.jsonl")
    assert error.value.filename == str(tmp_path / "other.jsonl")


# ---------- tensors


def test_tensors_and_their_metadata_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "deep" / "patch.safetensors"
    tensors = {"a": torch.arange(6).view(2, 3), "b": np.array([0.5, -0.0], dtype=np.float16)}
    about = {"base": "größer", "rows": [1, 2]}
    write_tensors(path, tensors, "delta", about)
    read, read_about = read_tensors(path, "delta", "patch")
    assert read_about == about | {"format": FORMAT}
    assert torch.equal(read["a"], tensors["a"])
    arrays = as_arrays(path, read)
    assert arrays["b"].dtype == np.float16
    assert arrays["b"].tobytes() == tensors["b"].tobytes()
    arrays["a"][0, 0] = 9
    assert read["a"][0, 0] == 9  # shared memory
    assert [file.name for file in path.parent.iterdir()] == ["patch.safetensors"]


def test_a_file_that_is_not_of_the_kind_is_named(tmp_path):
    path = tmp_path / "patch.safetensors"
    with pytest.raises(InputError, match="patch.safetensors: no such file"):
        read_tensors(path, "delta", "patch")
    write_tensors(path, {"a": torch.ones(2)}, "detect", {})
    with pytest.raises(InputError, match="not a patch .its metadata lacks 'delta'"):
        read_tensors(path, "delta", "patch")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="patch.safetensors: not a patch"):
        read_tensors(path, "delta", "patch")
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="patch.safetensors is a folder"):
        read_tensors(path, "delta", "patch")


def test_tensors_that_do_not_fit_a_model_name_their_file():
    layer = torch.nn.Linear(2, 3)
    with pytest.raises(InputError, match="scorer is broken: it does not fit the model"):
        with fitting(Path("scorer")):
            layer.load_state_dict({"weight": torch.ones(2, 2)})
    with pytest.raises(InputError, match="scorer is broken"):
        with fitting(Path("scorer")):
            layer.state_dict()["other"]


# ---------- identity


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "de.jsonl").write_bytes(b"soup\n")
    assert file_hash(tmp_path / "de.jsonl") == hashlib.sha256(b"soup\n").hexdigest()


def test_versions_are_recorded_as_text():
    assert versions().keys() == {"python", "torch", "numpy"}
    assert json.loads(json.dumps(versions())) == versions()
    assert versions()["numpy"] == np.__version__


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_tensor_is_finite_if_every_value_is(dtype):
    tensor = torch.arange(-8, 8).view(4, 4).to(dtype)
    assert is_finite(tensor)
    for value in (float("nan"), float("inf"), -float("inf")):
        spoilt = tensor.clone()
        spoilt[2, 1] = value
        assert not is_finite(spoilt)
    assert is_finite(tensor[:0])
    assert is_finite(tensor.to(torch.int32))
    assert is_finite(torch.tensor(1e5), torch.float32)
    assert not is_finite(torch.tensor(1e5), torch.float16)


def test_tensors_that_are_not_finite_or_of_another_format_are_not_read(tmp_path):
    path = tmp_path / "patch.safetensors"
    write_tensors(path, {"a": torch.tensor([1.0, float("nan")])}, "delta", {})
    with pytest.raises(InputError, match="patch.safetensors is broken: a contains NaN or infinity"):
        read_tensors(path, "delta", "patch")
    write_tensors(path, {"a": torch.ones(2)}, "delta", {"format": FORMAT + 1})
    message = f"another version of minitox .format {FORMAT + 1}, here {FORMAT}.; make the patch"
    with pytest.raises(InputError, match=message):
        read_tensors(path, "delta", "patch")
