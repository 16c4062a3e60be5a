"""No traceback, no hang, bounded memory: every error that a user can cause is one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import error_of
from worlds import (
    BASE,
    CURATE,
    DETECT,
    EVALUATE,
    ROOT,
    TRAIN,
    curate,
    curated,
    detect,
    evaluate,
    prepare,
    scorer,
    train,
)

COMMANDS = {"detect": DETECT, "train": f"{TRAIN} multilingual", "evaluate": EVALUATE}
ALL = (*COMMANDS, "data/prepare", "data/curate", "minitox/delta")
SCRIPTS = {"detect": detect.main, "train": train.main, "evaluate": evaluate.main}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with a tiny model and a few rows of data, which is the working directory."""
    for part in BASE:
        part(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with what the scripts read, and the results of one undisturbed run of each."""
    home = tmp_path_factory.mktemp("whole")
    for part in (*BASE, scorer):
        part(home)
    for script in COMMANDS:
        result = started(script, home)
        assert (result.returncode, result.stderr) == (0, "")
    return home


def started(
    script: str, home: Path, more: str = "", redirect: str = "", **environment: str
) -> subprocess.CompletedProcess:
    """Start a script in a folder by a shell, with `redirect` behind its arguments."""
    arguments = [sys.executable, str(ROOT / f"{script}.py"), *COMMANDS.get(script, "").split()]
    return subprocess.run(
        ["sh", "-c", f'"$@" {redirect}', "sh", *arguments, *more.split()],
        cwd=home,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=100,
    )


def without_result(whole: Path, script: str, folder: Path) -> Path:
    """A copy of the folder as it was before a script ran."""
    home = shutil.copytree(whole, folder / "home")
    results = {"detect": ["neurons"], "train": ["models"], "evaluate": ["replies", "report.html"]}
    for name in results[script]:
        path = home / "out" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return home


def files_in(out: Path) -> dict[str, bytes]:
    paths = [path for path in out.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def refusal(main, arguments: str, capsys) -> str:
    """Run a script's main; its message, which is one line."""
    line = error_of(main, arguments.split(), capsys)
    assert line.startswith("error: ") and line.count("\n") == 1
    return line


# ---------- C1

PREPARE = ("prepare ptp x", "prepare scorer x", "curate generate")


@pytest.mark.parametrize("command", [*SCRIPTS, *PREPARE])
@pytest.mark.parametrize("seed", ["-1", "9007199254740992", "1e3", "nan", "1" * 5_000])
def test_c1_a_seed_that_cannot_be_one_is_refused(command, seed, world, capsys):
    name, *arguments = command.split()
    main = {**SCRIPTS, "prepare": prepare.main, "curate": curate.main}[name]
    line = refusal(main, " ".join([*arguments, "--seed", seed]), capsys)
    assert "is not an integer from 0 to 9,007,199,254,740,991" in line
    assert len(line) < 1_100
    assert not (world / "out").exists()


# ---------- C2


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("device", ["meta", "privateuseone", "xla", "cpu:1", "cuda:-1"])
def test_c2_devices_that_minitox_does_not_support_are_refused(script, device, world, capsys):
    line = refusal(SCRIPTS[script], f"--model model --data data --device {device}", capsys)
    assert line.startswith(f"error: --device {device}: not one of cpu, cuda, cuda:N, mps and auto")


# ---------- C3


@pytest.mark.parametrize(
    "script, arguments",
    [
        ("train", "--lr 1e38"),
        ("train", "--epochs 100000000000000000000"),
        ("train", "--epochs 1e20"),
        ("train", "--weight-decay nan"),
        ("train", "--weight-decay inf"),
        ("train", "--threshold nan"),
        ("detect", "--sentences 1000000000000"),
        ("evaluate", "--temperature 1 --samples 1000000000"),
        ("evaluate", "--temperature 1 --top-p 0"),
        ("evaluate", "--temperature 1e-320"),
        ("evaluate", "--per-minute inf"),
    ],
)
def test_c3_a_number_out_of_all_proportion_is_refused(script, arguments, world, capsys):
    line = refusal(SCRIPTS[script], f"--model model --data data {arguments}", capsys)
    option, value = arguments.split()[-2:]
    assert line.startswith(f"error: {option}: '{value}' is not ")


def test_c3_replies_too_long_for_any_memory_are_refused_although_the_model_allows_them(
    world, capsys
):
    path = world / "model" / "config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(config | {"max_position_embeddings": 400_000_000}), "utf-8")
    line = refusal(evaluate.main, "--model model --data data --max-new-tokens 200000000", capsys)
    assert "--max-new-tokens: '200000000' is not an integer from 1 to 1,000,000" in line


# ---------- C4


# Runs a script that may use 300 MB more than it has after the imports
LIMITED = """
import resource, sys
import worlds
from minitox.run import script
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 300_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
name, *arguments = sys.argv[1:]
script.run(lambda: {work}(arguments))
"""


def limited(home: Path, work: str, *arguments: str) -> subprocess.CompletedProcess:
    code = LIMITED.replace("{work}", work)
    return subprocess.run(
        [sys.executable, "-c", code, "", *arguments],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "hardening"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_c4_replies_too_long_for_the_memory_end_in_one_line(whole, tmp_path):
    home = without_result(whole, "evaluate", tmp_path)
    path = home / "model" / "config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(config | {"max_position_embeddings": 2_000_000}), "utf-8")
    more = "--out new --max-new-tokens 1000000 --batch-tokens 10000000 --no-mmlu --perplexity 0"
    result = limited(home, "worlds.evaluate.main", *EVALUATE.split(), *more.split())
    assert result.returncode == 2
    assert result.stderr.startswith("error: out of memory (")
    assert result.stderr.endswith("or a machine with more memory\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    "work",
    [
        "(lambda _: bytearray(10**12))",
        "(lambda _: [bytearray(1_000) for i in range(10**9)])",  # nothing is left for the message
        "(lambda _: __import__('torch').empty(10**12))",
        "(lambda _: [__import__('torch').zeros(1_000) for i in range(10**9)])",
        "(lambda _: __import__('numpy').ones(10**12))",
    ],
)
def test_c4_memory_that_is_exhausted_anywhere_ends_in_one_line(work, tmp_path):
    result = limited(tmp_path, work)
    assert result.returncode == 2
    assert result.stderr.startswith("error: out of memory (")
    assert result.stderr.count("\n") == 1


# ---------- C5


# ---------- C6


# ---------- C7


LEFT_OVER = [
    {"RANK": "1"},
    {"RANK": "0"},
    {"WORLD_SIZE": "abc"},
    {"LOCAL_RANK": "0"},
    {"RANK": "0", "WORLD_SIZE": "3"},
    {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"},
]


@pytest.mark.parametrize("script", ALL)
def test_c7_variables_of_torchrun_without_torchrun_are_refused_in_one_line(script, tmp_path):
    environment = LEFT_OVER[list(ALL).index(script)]
    result = started(script, tmp_path, PYTHONPATH=str(ROOT), **environment)
    assert result.returncode == 2
    assert result.stderr.startswith(
        f"error: {next(iter(environment))} is set in the environment, as"
    )
    assert result.stderr.count("\n") == 1
    assert files_in(tmp_path) == {}


# ---------- C8


@pytest.mark.parametrize("script", COMMANDS)
def test_c8_everything_can_be_printed_in_ascii(script, whole, tmp_path):
    home = without_result(whole, script, tmp_path)
    (home / "model").rename(home / "größe")
    result = started(script, home, "--model größe", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("gr\\xf6\\xdfe: llama, 2 layers")

    result = started(script, home, "--model größer", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert result.returncode == 2
    assert result.stderr.startswith("error: gr\\xf6\\xdfer")
    assert result.stderr.count("\n") == 1


# ---------- C9


@pytest.mark.parametrize("script", COMMANDS)
def test_c9_with_all_streams_closed_the_results_are_the_same(script, whole, tmp_path):
    home = without_result(whole, script, tmp_path)
    result = started(script, home, redirect="<&- >&- 2>&-")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert files_in(home / "out") == files_in(whole / "out")


@pytest.mark.parametrize("redirect", ["<&-", ">&-", "2>&-"])
def test_c9_with_one_stream_closed_the_others_work(redirect, whole, tmp_path):
    home = without_result(whole, "detect", tmp_path)
    result = started("detect", home, redirect=redirect)
    assert (result.returncode, result.stderr) == (0, "")
    assert ("wrote out/neurons" in result.stdout) == (redirect != ">&-")
    result = started("detect", home, "--model nowhere", redirect=redirect)
    assert result.returncode == 2
    assert result.stderr.count("\n") == (redirect != "2>&-")


def test_c9_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    (tmp_path / "writes.py").write_text(
        "import os, sys\n"
        "from minitox.run import script\n"
        "def main():\n"
        "    with open('result', 'w') as file:\n"
        "        file.write(str(file.fileno()))\n"
        "        print('lost')\n"
        "        os.write(2, b'lost')\n"
        "        sys.stdin.read()\n"
        "script.run(main)\n"
    )
    for redirect in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        subprocess.run(
            ["sh", "-c", f'"$0" writes.py {redirect}', sys.executable],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            check=True,
        )
        assert int((tmp_path / "result").read_text()) > 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_c9_output_that_cannot_be_written_is_an_error_of_one_line(whole):
    result = started("detect", whole, redirect=">/dev/full")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: standard output: No space left on device\n"
    result = started("detect", whole, "--model nowhere", redirect="2>/dev/full")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", "")


@pytest.mark.parametrize("script", [*COMMANDS, "data/prepare", "data/curate"])
def test_c9_a_reader_that_stops_reading_causes_no_traceback(script, whole):
    more = "" if script in COMMANDS else "--help"
    result = started(script, whole, more, redirect="| head -n 1")
    assert result.stdout.count("\n") == 1
    assert result.stderr in ("", "error: standard output: Broken pipe\n")
    result = started(script, whole, more, redirect="2>&1 | true")
    assert (result.stdout, result.stderr) == ("", "")


def test_c9_a_review_without_standard_input_ends(tmp_path, monkeypatch):
    for part in (*BASE, scorer):
        part(tmp_path)
    shutil.rmtree(tmp_path / "data" / "instructions")  # export makes them
    monkeypatch.chdir(tmp_path)
    curated(tmp_path)
    result = started("data/curate", tmp_path, f"review {CURATE} --name bob", redirect="<&-")
    assert (result.returncode, result.stderr) == (0, "")
    assert "0 of " in result.stdout


# ---------- C10


@pytest.mark.parametrize("script", COMMANDS)
def test_c10_without_docstrings_and_asserts_the_results_are_the_same(script, whole, tmp_path):
    home = without_result(whole, script, tmp_path)
    result = started(script, home, PYTHONOPTIMIZE="2")
    assert (result.returncode, result.stderr) == (0, "")
    assert "wrote out/" in result.stdout
    assert files_in(home / "out") == files_in(whole / "out")


@pytest.mark.parametrize("script", ALL)
def test_c10_without_docstrings_there_is_help(script, tmp_path):
    result = started(script, tmp_path, "--help", PYTHONOPTIMIZE="2", PYTHONPATH=str(ROOT))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("usage: ")


# ---------- C11


# Runs a script as on a system that has neither fcntl nor other modules of POSIX
NO_POSIX = """
import sys
for name in ("fcntl", "msvcrt", "resource", "termios", "tty", "pty", "grp", "pwd", "readline"):
    sys.modules[name] = None
import runpy
sys.argv[:] = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def without_posix(script: str, home: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", NO_POSIX, str(ROOT / f"{script}.py"), *COMMANDS[script].split()],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("script", COMMANDS)
def test_c11_without_fcntl_a_script_writes_the_same_and_runs_once_at_a_time(
    script, whole, tmp_path
):
    # 1) alone
    home = without_result(whole, script, tmp_path)
    (home / "out" / ".lock").unlink()
    run = without_posix(script, home)
    assert run.communicate()[1] == ""
    assert run.returncode == 0
    assert files_in(home / "out") == files_in(whole / "out")
    assert not (home / "out" / ".lock").exists()

    # 2) beside another run, which is killed; then the message says what to delete
    (home / "out" / ".lock").touch()
    run = without_posix(script, home)
    line = run.communicate()[1]
    assert run.returncode == 2
    assert line.startswith("error: ") and line.count("\n") == 1
    assert "another run is writing there; wait until it ends, or choose another --out" in line
    assert f"delete {Path('out', '.lock')}, which a killed run left" in line
    assert (home / "out" / ".lock").exists()

    # 3) with the advice followed
    (home / "out" / ".lock").unlink()
    run = without_posix(script, home)
    assert run.communicate()[1] == ""
    assert run.returncode == 0


def test_c11_without_fcntl_two_runs_do_not_write_to_one_folder(whole, tmp_path):
    home = without_result(whole, "detect", tmp_path)
    (home / "out" / ".lock").unlink()
    runs = [without_posix("detect", home) for _ in range(2)]
    errors = [run.communicate()[1] for run in runs]
    statuses = [run.returncode for run in runs]
    assert 0 in statuses
    for status, line in zip(statuses, errors, strict=True):
        assert (status == 0 and line == "") or (status == 2 and "another run is writing" in line)
    assert files_in(home / "out") == files_in(whole / "out")


# ---------- C12


# ---------- C13


# ---------- C14
