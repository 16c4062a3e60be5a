"""No lost line: writers exclude each other, and readers never write."""

import os
import shutil
import sys
from functools import partial
from pathlib import Path
from random import Random

import pytest
import worlds
from tiny import TOY, error_of, write_jsonl, write_model
from worlds import DETECT, TRAIN, checkpoint, curate, detect, prepare, train

from minitox.errors import InputError
from minitox.files import TEMPORARY
from minitox.run import script

TRIALS = int(os.environ.get("TRIALS", 3))  # of two writers at once


def states_of(folder: Path) -> dict[str, tuple]:
    """Content and time of modification of every file and folder, except locks."""
    states = {}
    for path in sorted(folder.rglob("*")):
        if not path.name.endswith(".lock"):
            content = path.read_bytes() if path.is_file() else None
            states[str(path.relative_to(folder))] = (content, path.stat().st_mtime_ns)
    return states


# ---------- B1


def run_at_once(main, runs: list[list[str]], printed: Path) -> list[tuple[int, str]]:
    """Run a script in several processes that start together; status and output of each."""
    start, end = os.pipe()
    processes = []
    for number, arguments in enumerate(runs):
        process = os.fork()
        if process == 0:
            os.close(end)
            os.read(start, 1)  # returns when this process's parent closes the other end
            run_and_exit(partial(main, arguments), printed / f"{number}.txt")
        processes.append(process)
    os.close(end)
    os.close(start)
    outcomes = []
    for number, process in enumerate(processes):
        _, status = os.waitpid(process, 0)
        text = (printed / f"{number}.txt").read_text()
        outcomes.append((os.waitstatus_to_exitcode(status), text))
    return outcomes


def run_and_exit(main, printed: Path) -> None:
    """End this process as the script ends, with its output in a file."""
    status = 1
    try:
        sys.stdout = sys.stderr = open(printed, "w")
        script.run(main)
        status = 0
    except SystemExit as stop:
        status = stop.code
    finally:
        sys.stdout.flush()
        os._exit(status)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Made-up sentences, no two of them alike."""
    rng = Random(seed)
    return [f"donkey {i} " + "".join(rng.choices("abcdefgh ", k=30)) for i in range(count)]


def ptp_world(folder: Path) -> None:
    rows = [{"text": text, "toxicity": i % 2} for i, text in enumerate(sentences(20_000))]
    write_jsonl(folder / "raw" / "ptp-de" / "full-0.jsonl", rows)


def hate_world(folder: Path) -> None:
    for name, seed in (("a-en.csv", 1), ("b-en.csv", 2)):
        lines = [f"{text},1\n" for text in sentences(20_000, seed)]
        (folder / name).write_text("text,label\n" + "".join(lines))


def scorer_world(folder: Path) -> None:
    for language in ("de", "en"):
        (folder / "detection").mkdir(exist_ok=True)
        shutil.copy(TOY / "detection" / f"{language}.jsonl", folder / "detection")


def checked_world(folder: Path) -> None:
    worlds.write_checked(folder, sentences(2_000))


HATE = "hate {}-en.csv --text text --label label --hateful 1 --out ."
WRITERS = {  # command: its script, the folder that it needs, its arguments in two runs, its result
    "ptp": (
        prepare.main,
        ptp_world,
        [f"ptp raw --out . --each 5000 --seed {seed}" for seed in range(2)],
        "detection/de.jsonl",
    ),
    "hate": (prepare.main, hate_world, [HATE.format("a"), HATE.format("b")], "hateful/en.jsonl"),
    "scorer": (
        prepare.main,
        scorer_world,
        [f"scorer detection --out scorer.safetensors --seed {seed}" for seed in range(2)],
        "scorer.safetensors",
    ),
    "export": (
        curate.main,
        checked_world,
        [f"export --data . --out . --unreviewed --seed {seed}" for seed in range(2)],
        "instructions/de.jsonl",
    ),
}


@pytest.mark.parametrize("command", WRITERS)
def test_b1_of_two_writers_at_once_one_is_refused_and_the_file_is_the_others(
    command, tmp_path, monkeypatch
):
    main, make, commands, result = WRITERS[command]
    runs = [arguments.split() for arguments in commands]
    base = tmp_path / "base"
    base.mkdir()
    make(base)

    # 1) what each run writes by itself
    alone = []
    for number, arguments in enumerate(runs):
        work = shutil.copytree(base, tmp_path / f"alone {number}")
        monkeypatch.chdir(work)
        assert run_at_once(main, [arguments], tmp_path)[0][0] == 0
        alone.append((work / result).read_bytes())
    assert alone[0] != alone[1]

    # 2) both at once
    for trial in range(TRIALS):
        work = shutil.copytree(base, tmp_path / f"trial {trial}")
        monkeypatch.chdir(work)
        outcomes = run_at_once(main, runs, tmp_path)
        assert sorted(status for status, _ in outcomes) == [0, 2], outcomes
        winner = [status for status, _ in outcomes].index(0)
        message = outcomes[1 - winner][1]
        assert message.startswith("error: .: another run is writing there; wait until it ends")
        assert message.count("\n") == 1
        assert (work / result).read_bytes() == alone[winner]
        assert not list(work.rglob("*.partial"))


# ---------- B2


ROWS = b'{"id": "de-0", "verdict": "keep"}\n{"id": "de-1", "verdict": "toxic"}'
VERDICTS = {  # content of a reviewer's file, and how many verdicts are in it
    "whole": (ROWS + b"\n", 2),
    "no end": (ROWS, 2),
    "windows": (ROWS.replace(b"\n", b"\r\n") + b"\r\n", 2),
    "torn": (ROWS[:-5], 1),
}


def write_verdicts(folder: Path, name: str, content: bytes) -> Path:
    path = folder / "curation" / "verdicts" / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(10**18, 10**18))
    return path


@pytest.mark.parametrize("name", VERDICTS)
def test_b2_agreement_and_export_change_no_file_but_their_results(name, tmp_path, capsys):
    content, count = VERDICTS[name]
    checked_world(tmp_path)
    write_verdicts(tmp_path, "ada", content)
    write_verdicts(tmp_path, "bob", ROWS + b"\n")
    before = states_of(tmp_path)
    folders = ["--data", str(tmp_path), "--out", str(tmp_path)]
    curate.main(["agreement", *folders])
    assert f"ada and bob: {count} pairs judged by both" in capsys.readouterr().out
    assert states_of(tmp_path) == before

    curate.main(["export", *folders])
    after = states_of(tmp_path)
    changed = {path for path in after if after[path] != before.get(path)}
    written = {"curation", "curation/ledger.json", "instructions", "instructions/de.jsonl"}
    assert changed == written
    assert after.keys() >= before.keys()


def test_b2_only_the_reviewer_repairs_a_torn_line_and_loses_no_other(tmp_path, capsys, monkeypatch):
    checked_world(tmp_path)
    for name, (content, count) in VERDICTS.items():
        path = write_verdicts(tmp_path, name.replace(" ", "-"), content)
        sheet = tmp_path / "sheet.tsv"
        sheet.write_text("id\tverdict\nde-7\tkeep\n")
        ada = ["review", "--out", str(tmp_path), "--name", path.stem]
        curate.main([*ada, "--export", str(tmp_path / "other.tsv")])
        assert path.read_bytes() == content
        curate.main([*ada, "--import", str(sheet)])
        lines = path.read_bytes().splitlines()
        assert lines[:-1] == ROWS.splitlines()[:count]
        assert lines[-1] == b'{"id": "de-7", "verdict": "keep"}'


@pytest.mark.parametrize("step", ["agreement", "export", "review"])
def test_b2_line_ends_of_old_macs_are_refused_and_nothing_is_deleted(step, tmp_path, capsys):
    checked_world(tmp_path)
    content = ROWS.replace(b"\n", b"\r") + b"\r"
    path = write_verdicts(tmp_path, "ada", content)
    arguments = [step, "--data", str(tmp_path), "--out", str(tmp_path), "--name", "ada"]
    error = error_of(curate.main, arguments, capsys)
    assert error == f"error: {path}: its lines end with CR alone; save it with LF line ends\n"
    assert path.read_bytes() == content
    assert not (tmp_path / "instructions").exists()


# ---------- B3


@pytest.mark.parametrize("kind", ["path", "other path", "hard link", "symbolic link"])
@pytest.mark.parametrize(
    "arguments, source",
    [
        ("scorer detection --out {}", "detection/en.jsonl"),
        ("review --name ada --out . --languages de --export {}", "curation/checks/de.jsonl"),
        ("review --name ada --out . --languages de --export {}", "curation/verdicts/bob.jsonl"),
    ],
)
def test_b3_no_command_replaces_a_file_that_it_reads(
    arguments, source, kind, tmp_path, monkeypatch, capsys
):
    scorer_world(tmp_path)
    checked_world(tmp_path)
    write_verdicts(tmp_path, "bob", ROWS)
    monkeypatch.chdir(tmp_path)
    result = source
    if kind == "other path":
        result = f"detection/../{source}"
    elif kind == "hard link":
        result = "linked"
        os.link(source, result)
    elif kind == "symbolic link":
        result = "linked"
        os.symlink(source, result)
    main = prepare.main if arguments.startswith("scorer") else curate.main
    before = states_of(tmp_path)
    error = error_of(main, arguments.format(result).split(), capsys)
    assert error == (
        f"error: {result} would replace {source}, which this command reads; "
        "choose another file or folder to write to\n"
    )
    assert states_of(tmp_path) == before


@pytest.mark.parametrize(
    "arguments, folder",
    [
        ("ptp {}", "detection"),
        ("rtp-lx {}", "prompts"),
        ("mmlu {}", "mmlu"),
        ("hate {} --text text --label label --hateful 1", "hateful"),
    ],
)
def test_b3_a_corpus_in_the_place_of_the_result_is_refused(
    arguments, folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    source = f"{folder}/de.jsonl"
    write_jsonl(tmp_path / source, [{"text": "soup", "label": 1}])
    before = states_of(tmp_path)
    error = error_of(prepare.main, [*arguments.format(source).split(), "--out", "."], capsys)
    assert f"error: {source} would replace {source}, which this command reads" in error
    assert states_of(tmp_path) == before


# ---------- B4


SECRET = "a secret soup"
SIDE_FILES = ("tokenizer_config.json", "generation_config.json", "tokenizer.json", "config.json")


@pytest.mark.parametrize("name", SIDE_FILES)
def test_b4_a_file_outside_the_models_folder_is_not_published(home, capsys, name):
    path = home / "model" / name
    elsewhere = home / "elsewhere.json"
    content = path.read_text() if path.exists() else f'{{"secret": "{SECRET}"}}'
    elsewhere.write_text(content)
    path.unlink(missing_ok=True)
    path.symlink_to(elsewhere)
    for main, arguments in ((train.main, f"{TRAIN} full"), (detect.main, DETECT)):
        error = error_of(main, arguments.split(), capsys)
        assert f"model/{name} is a link to {elsewhere}, outside the model's folder" in error
    with pytest.raises(InputError, match="outside the model's folder"):
        checkpoint.load(home / "model")
    assert not (home / "out" / "models").exists()


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
