"""Results on disk: locked, never mixed, whole or absent, whenever the run is killed."""

import os
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import torch

from minitox.errors import InputError
from minitox.files import FORMAT, read_json, replacing, write_json
from minitox.run import distributed, outputs
from minitox.run.outputs import check_settings, holds_results, is_done, lock, open_results, step

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def in_a_fork(function: Callable) -> int:
    """Call the function in a forked process; its exit status, 3 after an InputError."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            function()
            status = 0
        except InputError as error:
            print(error, file=sys.stderr)
            status = 3
        finally:
            os._exit(status)
    _, ended = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(ended)


def files_in(folder: Path) -> dict[str, bytes]:
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = path.read_bytes()
    return files


# ---------- lock


@needs_fork
def test_a_second_run_in_the_same_folder_is_refused(tmp_path, capfd):
    out = tmp_path / "out"
    lock(out)
    lock(out)  # the process that holds the lock may ask again
    assert in_a_fork(lambda: lock(out)) == 3
    message = capfd.readouterr().err
    assert f"{out}: another run is writing there; wait until it ends, or choose another" in message


@needs_fork
def test_the_lock_ends_with_the_process(tmp_path):
    assert in_a_fork(lambda: lock(tmp_path)) == 0
    lock(tmp_path)


def test_a_process_that_does_not_write_needs_no_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "FIRST", False)
    lock(tmp_path / "out")
    check_settings(tmp_path / "out", {"seed": 0})
    assert not (tmp_path / "out").exists()


# ---------- the settings check


def test_results_of_a_run_are_never_mixed_with_those_of_another(tmp_path):
    check_settings(tmp_path, {"pool": "max", "seed": 0})
    record = read_json(tmp_path / "run.json")
    assert record["settings"] == {"pool": "max", "seed": 0}
    assert set(record["versions"]) == {"python", "torch", "numpy"}

    # there are no results yet, so nothing can be mixed
    check_settings(tmp_path, {"pool": "mean", "seed": 0})
    (tmp_path / "de").write_text("a result")
    check_settings(tmp_path, {"pool": "mean", "seed": 0})
    with pytest.raises(InputError, match="its seed was 0, this run's is 1; choose another --out"):
        check_settings(tmp_path, {"pool": "mean", "seed": 1})

    write_json(tmp_path / "run.json", record | {"settings": "gone"})
    with pytest.raises(InputError, match="its pool was not recorded"):
        check_settings(tmp_path, {"pool": "mean", "seed": 0})
    (tmp_path / "run.json").unlink()
    with pytest.raises(InputError, match="run.json is missing, so nothing is known of the results"):
        check_settings(tmp_path, {"pool": "mean", "seed": 0})


def test_results_of_another_format_are_refused_and_of_another_version_of_torch_named(
    tmp_path, capsys
):
    check_settings(tmp_path, {"seed": 0})
    (tmp_path / "de").write_text("a result")
    record = read_json(tmp_path / "run.json")
    check_settings(tmp_path, {"seed": 0})
    assert capsys.readouterr().out == ""

    older = record | {"versions": record["versions"] | {"torch": "1.0"}}
    write_json(tmp_path / "run.json", older)
    outputs.print_once.cache_clear()
    for _ in range(2):
        check_settings(tmp_path, {"seed": 0}, {"en": "b"})
    line = f"earlier results were made with torch 1.0, not {torch.__version__}\n"
    assert capsys.readouterr().out == line
    assert read_json(tmp_path / "run.json") == older | {"data": {"en": "b"}}

    for other in ({}, {"format": FORMAT + 1}):
        without = {name: value for name, value in record.items() if name != "format"}
        write_json(tmp_path / "run.json", without | other)
        with pytest.raises(InputError, match=f"another version of minitox .*, here {FORMAT}"):
            check_settings(tmp_path, {"seed": 0})


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"pool": "max", "model": "b2"}, "its model was different; choose another --out"),
        ({"pool": "max", "model": "a1", "seed": 0}, "its seed was not recorded, this run's is 0"),
        ({"pool": "max"}, "its model was different"),
        ({"pool": "max", "model": "a1", "train": "c3"}, "its train was different"),
        ({"model": "a1"}, "its pool was 'max', this run's is None"),
    ],
)
def test_the_setting_that_differs_is_named_and_hashes_are_not_shown(tmp_path, settings, message):
    check_settings(tmp_path, {"pool": "max", "model": "a1"})
    (tmp_path / "de").write_text("a result")
    with pytest.raises(InputError, match=message):
        check_settings(tmp_path, settings)


def test_a_setting_of_none_is_not_a_missing_one(tmp_path):
    check_settings(tmp_path, {"prompts": None})
    check_settings(tmp_path, {"prompts": None})
    (tmp_path / "de").write_text("a result")
    with pytest.raises(InputError, match="its prompts was None"):
        check_settings(tmp_path, {})


def test_a_language_may_be_added_to_a_run_but_not_changed(tmp_path):
    check_settings(tmp_path, {"seed": 0}, {"de": "a"})
    (tmp_path / "de.jsonl").write_text("{}\n")
    check_settings(tmp_path, {"seed": 0}, {"en": "b"})
    check_settings(tmp_path, {"seed": 0}, {"de": "a"})
    assert read_json(tmp_path / "run.json")["data"] == {"de": "a", "en": "b"}
    with pytest.raises(InputError, match="was made from other en data"):
        check_settings(tmp_path, {"seed": 0}, {"de": "a", "en": "c"})
    with pytest.raises(InputError, match="its seed was 0, this run's is 1"):
        check_settings(tmp_path, {"seed": 1}, {"de": "a"})


def test_a_record_that_someone_edited_is_refused(tmp_path):
    check_settings(tmp_path, {"seed": 0})
    record = read_json(tmp_path / "run.json")
    write_json(tmp_path / "run.json", record | {"data": ["de"]})
    (tmp_path / "de").write_text("a result")
    with pytest.raises(InputError, match="run.json: 'data' is not as minitox wrote it"):
        check_settings(tmp_path, {"seed": 0}, {"de": "a"})


def test_an_empty_file_and_the_record_of_a_run_are_no_results(tmp_path):
    assert not holds_results(tmp_path / "nowhere")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "de.jsonl").touch()
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / ".run.json.abcd1234.partial").write_text("{")
    assert not holds_results(tmp_path)
    (tmp_path / "deep" / "de.jsonl").write_text("{}")
    assert holds_results(tmp_path)


# ---------- a result that is whole or absent

PARTS = 3  # that a step computes before it writes the result


def make_parts(work: Path, log: int) -> None:
    """Compute and keep the parts that are not there yet; a byte of `log` for each."""
    for number in range(PARTS):
        part = work / f"{number}.part"
        if part.exists():
            continue
        os.write(log, b".")
        with replacing(part) as temporary:
            temporary.write_text(f"part {number}")


def write_file(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_folder(path: Path, text: str) -> None:
    for name in ("model", "run.json"):
        write_file(path / name, text)


def run(out: Path, write: Callable, log: int) -> None:
    """A script with one step."""
    folder = open_results(out, "results", {"seed": 0}, {})
    result = folder / "de"
    if is_done(result, {"data": "a1"}, lambda path: {"data": "a1"}):
        return
    with step(result, {"data": "a1"}) as current:
        make_parts(current.work, log)
        parts = [path.read_text() for path in sorted(current.work.glob("*.part"))]
        current.write(write, ", ".join(parts))


CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod"}


def die_before_change(number: int) -> None:
    """End this process, as a kill does, before its change of the disk of this number, from 0."""
    changes = iter(range(number))

    def watch(event: str, values: tuple) -> None:
        writes = event == "open" and isinstance(values[2], int)
        writes = writes and values[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in CHANGES) and next(changes, None) is None:
            os._exit(9)

    sys.addaudithook(watch)


def result_in(out: Path) -> dict[str, bytes]:
    """The file or the files of the result."""
    files = {}
    for name, content in files_in(out).items():
        if name == "results/de" or name.startswith("results/de/"):
            files[name] = content
    return files


@needs_fork
@pytest.mark.parametrize("write", [write_file, write_folder])
def test_a_kill_at_any_moment_costs_one_part_and_ends_with_the_same_bytes(tmp_path, write):
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    run(tmp_path / "whole", write, log)
    expected = files_in(tmp_path / "whole")
    assert b"part 0, part 1, part 2" in expected.values()
    assert not list(tmp_path.rglob("*.partial"))

    def killed_run(out: Path, number: int) -> None:
        die_before_change(number)
        run(out, write, log)

    kills = 0
    for number in count():
        os.ftruncate(log, 0)
        out = tmp_path / str(number)
        status = in_a_fork(partial(killed_run, out, number))
        if status == 0:  # there are fewer changes
            break
        assert status == 9
        kills += 1

        # 1) the result is whole or absent
        done = (out / "results" / "de").exists()
        assert result_in(out) == (result_in(tmp_path / "whole") if done else {})

        # 2) the rerun computes what is not kept: the parts of no finished result
        kept = len(list(out.glob("results/de.partial/[0-9].part")))
        before = os.fstat(log).st_size
        run(out, write, log)
        after = os.fstat(log).st_size
        assert after - before == (0 if done else PARTS - kept)
        assert after <= PARTS + 1

        # 3) and ends with the same bytes
        assert files_in(out) == expected
        assert not list(out.rglob("*.partial"))
    assert kills > 20
    os.close(log)


def test_an_error_keeps_the_work_and_leaves_no_result(tmp_path):
    result = tmp_path / "results" / "de"
    with pytest.raises(InputError):
        with step(result, {"data": "a1"}) as current:
            (current.work / "0.part").write_text("part 0")
            current.write(write_file, "whole")
            raise InputError("a response is not finite")
    assert not result.exists()
    with step(result, {"data": "a1"}) as current:
        assert (current.work / "0.part").read_text() == "part 0"
        current.write(write_file, "whole")
    assert files_in(tmp_path) == {"results/de": b"whole"}


def test_the_work_of_a_killed_run_with_other_settings_is_not_used(tmp_path):
    work = tmp_path / "de.partial"
    check_settings(work, {"pool": "max"})
    (work / "0.part").write_text("part 0")
    message = "de.partial contains results of another run: its pool was 'max'"
    with pytest.raises(InputError, match=message):
        with step(tmp_path / "de", {"pool": "mean"}):
            pytest.fail("the work is of another run")


def test_a_result_that_is_done_is_checked_and_its_leftovers_are_removed(tmp_path):
    result = tmp_path / "de.safetensors"

    def made_with(path: Path) -> dict:
        assert path == result
        return {"data": "a1", "damp": 0.5}

    assert not is_done(result, {"data": "a1", "damp": 0.5}, made_with)
    result.write_text("result")
    (tmp_path / "de.partial").mkdir()
    (tmp_path / "de.partial" / "0.part").touch()
    with pytest.raises(InputError, match="de.safetensors contains .* its damp was 0.5, this run"):
        is_done(result, {"data": "a1", "damp": 0.3}, made_with)
    assert is_done(result, {"data": "a1", "damp": 0.5}, made_with)
    assert files_in(tmp_path) == {"de.safetensors": b"result"}
    assert not (tmp_path / "de.partial").exists()


def test_the_first_process_alone_writes(tmp_path, monkeypatch):
    calls = []
    distributed.once(lambda: calls.append("first"))
    monkeypatch.setattr(distributed, "FIRST", False)
    distributed.once(lambda: calls.append("other"))
    with step(tmp_path / "de", {"seed": 0}) as current:
        current.write(write_file, "whole")
    assert calls == ["first"]
    assert list(tmp_path.iterdir()) == []
