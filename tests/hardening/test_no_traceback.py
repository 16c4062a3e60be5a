"""No traceback, no hang, bounded memory: every error that a user can cause is one line."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
import tracemalloc
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import runs
import torch
import worlds
from fuzz import Fork, Outcome, forked
from tiny import error_of, write_jsonl
from worlds import (
    BASE,
    DETECT,
    EVALUATE,
    ROOT,
    TRAIN,
    checkpoint,
    corpora,
    curate,
    detect,
    evaluate,
    prepare,
    scorer,
    set_fields,
    train,
    write_checked,
)

from minitox.errors import InputError
from minitox.files import read_jsonl
from minitox.lm.generate import generate
from minitox.scorers import bounded_http, perspective

sys.path.insert(0, str(ROOT / "tests" / "scorers"))
import fake_perspective as fake  # noqa: E402

COMMANDS = {"detect": DETECT, "train": f"{TRAIN} multilingual", "evaluate": EVALUATE}
ALL = (*COMMANDS, "data/prepare", "data/curate", "minitox/delta")
SCRIPTS = {"detect": detect.main, "train": train.main, "evaluate": evaluate.main}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with what the scripts read, and the results of one undisturbed run of each."""
    home = tmp_path_factory.mktemp("whole")
    for part in (*BASE, scorer):
        part(home)
    for script, main in SCRIPTS.items():
        outcome = forked(home, partial(main, COMMANDS[script].split()))
        assert (outcome.status, outcome.stderr) == (0, "")
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


def started_anew(script: str, home: Path, more: str = "", **how) -> Fork:
    """The same in a fork of this process, with all of minitox imported anew."""
    return runs.start_anew(script, f"{COMMANDS.get(script, '')} {more}".split(), home, **how)


def without_result(whole: Path, script: str, folder: Path) -> Path:
    """A copy of the folder as it was before a script ran."""
    home = shutil.copytree(whole, folder / "home")
    results = {"detect": ["neurons"], "train": ["models"], "evaluate": ["replies", "report.html"]}
    for name in results[script]:
        path = home / "out" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return home


files_in = partial(runs.files_in, but=r"\.lock")


def refusal(main, arguments: str, capsys) -> str:
    """Run a script's main; its message, which is one line."""
    line = error_of(main, arguments.split(), capsys)
    assert line.startswith("error: ") and line.count("\n") == 1
    return line


# ---------- C1


PREPARE = ("prepare ptp x", "prepare scorer x", "curate generate")


@pytest.mark.parametrize("command", [*SCRIPTS, *PREPARE])
@pytest.mark.parametrize("seed", ["-1", "9007199254740992", "1e3", "nan", "1" * 5_000])
def test_c1_a_seed_that_cannot_be_one_is_refused(command, seed, home, capsys):
    name, *arguments = command.split()
    main = {**SCRIPTS, "prepare": prepare.main, "curate": curate.main}[name]
    line = refusal(main, " ".join([*arguments, "--seed", seed]), capsys)
    assert "is not an integer from 0 to 9,007,199,254,740,991" in line
    assert len(line) < 1_100
    assert not (home / "out").exists()


# ---------- C2


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("device", ["meta", "privateuseone", "xla", "cpu:1", "cuda:-1"])
def test_c2_devices_that_minitox_does_not_support_are_refused(script, device, home, capsys):
    line = refusal(SCRIPTS[script], f"--model model --data data --device {device}", capsys)
    assert line.startswith(f"error: --device {device}: not one of cpu, cuda, cuda:N, mps and auto")


# ---------- C3


def test_c3_weights_that_overflow_end_the_run_with_one_line(tuning_home, capsys):
    arguments = f"{TRAIN} multilingual --warmup 0 --lr 1e6 --epochs 8".split()
    error = error_of(train.main, arguments, capsys)
    assert re.search(
        "^error: multilingual: all: step [2-9] of 24: the loss is nan", error.lstrip("\n")
    )
    assert error.count("\n") == 1
    assert not (tuning_home / "out" / "models" / "multilingual").exists()


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
def test_c3_a_number_out_of_all_proportion_is_refused(script, arguments, home, capsys):
    line = refusal(SCRIPTS[script], f"--model model --data data {arguments}", capsys)
    option, value = arguments.split()[-2:]
    assert line.startswith(f"error: {option}: '{value}' is not ")


def test_c3_replies_too_long_for_any_memory_are_refused_although_the_model_allows_them(
    home, capsys
):
    set_fields(home / "model" / "config.json", max_position_embeddings=400_000_000)
    line = refusal(evaluate.main, "--model model --data data --max-new-tokens 200000000", capsys)
    assert "--max-new-tokens: '200000000' is not an integer from 1 to 1,000,000" in line


# ---------- C4


def limited(home: Path, action) -> Outcome:
    """Run a function that may use 300 MB more than it has at the start."""

    def run() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 300_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        action()

    return forked(home, run)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_c4_replies_too_long_for_the_memory_end_in_one_line(whole, tmp_path):
    home = without_result(whole, "evaluate", tmp_path)
    set_fields(home / "model" / "config.json", max_position_embeddings=2_000_000)
    more = "--out new --max-new-tokens 1000000 --batch-tokens 10000000 --no-mmlu --perplexity 0"
    outcome = limited(home, partial(evaluate.main, [*EVALUATE.split(), *more.split()]))
    assert outcome.status == 2
    assert outcome.stderr.startswith("error: out of memory (")
    assert outcome.stderr.endswith("or a machine with more memory\n")
    assert outcome.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    "action",
    [
        lambda: bytearray(10**12),
        lambda: [bytearray(1_000) for i in range(10**9)],  # nothing is left for the message
        lambda: torch.empty(10**12),
        lambda: [torch.zeros(1_000) for i in range(10**9)],
        lambda: np.ones(10**12),
    ],
)
def test_c4_memory_that_is_exhausted_anywhere_ends_in_one_line(action, tmp_path):
    (tmp_path / "work").mkdir()
    outcome = limited(tmp_path / "work", action)
    assert outcome.status == 2
    assert outcome.stderr.startswith("error: out of memory (")
    assert outcome.stderr.count("\n") == 1


# ---------- C5


def test_c5_a_prompt_without_tokens_is_refused(folder):
    with pytest.raises(ValueError, match="a prompt has no tokens, not even a BOS"):
        generate(checkpoint.load(folder), [[3], []], 2, {1})


def test_c5_a_prompt_of_which_the_tokenizer_makes_nothing_is_named(home, capsys):
    model = home / "model"
    set_fields(model / "config.json", bos_token_id=None)
    (model / "tokenizer_config.json").unlink()  # a base model
    nothing = {"type": "Replace", "pattern": {"Regex": "(you donkey 1|ox 2 .*)\n"}, "content": ""}
    set_fields(model / "tokenizer.json", normalizer=nothing)
    error = error_of(evaluate.main, EVALUATE.split(), capsys)
    assert "de.jsonl:2: the tokenizer makes no token of the prompt" in error
    error = error_of(train.main, f"{TRAIN} full".split(), capsys)
    assert "data/instructions/de.jsonl:3: the tokenizer makes no token of the prompt" in error


# ---------- C6


PANICS = {
    "type": "Split",
    "pattern": {"Regex": "(n*)*$|(a+)+b"},
    "behavior": "Isolated",
    "invert": False,
}


@pytest.mark.parametrize(
    "main, arguments",
    [
        (detect.main, DETECT),
        (train.main, f"{TRAIN} full"),
        (evaluate.main, EVALUATE),
        (evaluate.main, f"{EVALUATE} --scorer encoder:encoder"),
    ],
)
def test_c6_a_tokenizer_that_panics_is_one_line(home, capfd, main, arguments):
    with_encoder = "encoder:" in arguments
    if with_encoder:
        worlds.encoder(home)
    folder = home / ("encoder" if with_encoder else "model")
    set_fields(folder / "tokenizer.json", pre_tokenizer=PANICS)
    rows = []
    for score in (0, 1):
        long = "a" * 5_000 + str(score)
        rows.append({"text": long, "toxicity": score, "prompt": long, "response": "so"})
    for name in ("detection", "instructions", "prompts"):
        write_jsonl(home / "data" / name / "en.jsonl", rows)
    arguments += " --allow-overlap"  # of the prompts with the sentences
    if with_encoder:
        arguments = f"{arguments} --prompts 1 --no-mmlu --perplexity 0 --languages en"
        worlds.run(evaluate.main, arguments)
        path = home / "out" / "replies" / "base" / "en.jsonl"
        write_jsonl(path, [row | {"response": long} for _, row in read_jsonl(path)])
    error = error_of(main, arguments.split(), capfd)
    assert error.count("\n") == 1, error
    assert f"{folder.name}/tokenizer.json: fails on a text (Onig: Regex search error" in error


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
    work = tmp_path / "work"
    work.mkdir()
    outcome = started_anew(script, work, environment=environment).wait()
    assert outcome.status == 2
    assert outcome.stderr.startswith(
        f"error: {next(iter(environment))} is set in the environment, as"
    )
    assert outcome.stderr.count("\n") == 1
    assert files_in(work) == {}


# ---------- C8


@pytest.mark.parametrize("script", COMMANDS)
def test_c8_everything_can_be_printed_in_ascii(script, whole, tmp_path):
    home = without_result(whole, script, tmp_path)
    (home / "model").rename(home / "größe")
    result = started(script, home, "--model größe", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert (result.returncode, result.stderr) == (0, "")
    assert "\ngr\\xf6\\xdfe: llama, 2 layers" in result.stdout

    result = started(script, home, "--model größer", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert result.returncode == 2
    assert result.stderr.startswith("error: gr\\xf6\\xdfer")
    assert result.stderr.count("\n") == 1


# ---------- C9


def test_c9_a_review_with_closed_standard_input_ends_as_at_the_end_of_input(tmp_path):
    write_checked(tmp_path / "data", ["Hallo"] * 3)
    done = subprocess.run(
        [sys.executable, ROOT / "data" / "curate.py", "review", "--out", "data", "--name", "ada"],
        cwd=tmp_path,
        preexec_fn=lambda: os.close(0),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("0 of 3 pairs have a verdict in data/curation/verdicts/ada.jsonl\n")


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
    with open("/dev/full", "w") as full:
        outcome = started_anew("detect", whole, stdout=full.fileno()).wait()
        assert outcome.status == 2
        assert outcome.stderr == "error: standard output: No space left on device\n"
        fork = started_anew("detect", whole, "--model nowhere", stderr=full.fileno())
        assert (fork.wait().status, fork.printed()) == (2, "")


def read_by(command: list[str], script: str, home: Path, streams: list[str]) -> tuple[str, str]:
    """Start a script with streams that a command reads; what that prints, and the errors."""
    more = "" if script in COMMANDS else "--help"
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8") as reader:
        outputs = dict.fromkeys(streams, reader.stdin.fileno())
        fork = started_anew(script, home, more, **outputs)
        reader.stdin.close()
        printed = reader.stdout.read()
    return printed, fork.wait().stderr


@pytest.mark.parametrize("script", [*COMMANDS, "data/prepare", "data/curate"])
def test_c9_a_reader_that_stops_reading_causes_no_traceback(script, whole):
    printed, errors = read_by(["head", "-n", "1"], script, whole, ["stdout"])
    assert printed.count("\n") == 1
    assert errors in ("", "error: standard output: Broken pipe\n")
    assert read_by(["true"], script, whole, ["stdout", "stderr"]) == ("", "")


# ---------- C10


DATA_SCRIPTS = [
    ("prepare", "davidson raw/davidson.csv --out data", 0, "wrote data/hateful"),
    ("curate", "export --out data --data data", 2, "no pair was kept"),
]
# runs scripts anew in forks of a process without docstrings and asserts
OPTIMISED = """
import json, sys
from pathlib import Path
from runs import start_anew

ends = []
for script, arguments, home in json.loads(sys.argv[1]):
    fork = start_anew(script, arguments.split(), Path(home))
    outcome = fork.wait()
    ends.append([sys.flags.optimize, outcome.status, fork.printed(), outcome.stderr])
print(json.dumps(ends))
"""


@dataclass(frozen=True)
class Optimised:
    """How a script ended in a process without docstrings and asserts."""

    home: Path
    status: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def optimised(whole, tmp_path_factory) -> dict[str, Optimised]:
    """By script how its help ended, how it ended with results, or with other arguments."""
    # 1) a folder for each run
    folder = tmp_path_factory.mktemp("optimised")
    jobs = {}
    for script in ALL:
        jobs[f"{script} --help"] = script, "--help", folder
    for script in COMMANDS:
        (folder / script).mkdir()
        jobs[script] = script, COMMANDS[script], without_result(whole, script, folder / script)
    for script, arguments, *_ in DATA_SCRIPTS:
        home = folder / script / "home"
        write_checked(home / "data", ["Hallo"] * 3)
        corpora(home)
        jobs[script] = f"data/{script}", arguments, home

    # 2) all runs
    process = subprocess.run(
        [sys.executable, "-c", OPTIMISED, json.dumps([*jobs.values()], default=str)],
        env={
            **os.environ,
            "PYTHONOPTIMIZE": "2",
            "PYTHONPATH": str(ROOT / "tests" / "hardening"),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    ends = {}
    for (name, job), (level, *end) in zip(jobs.items(), json.loads(process.stdout), strict=True):
        assert level == 2
        ends[name] = Optimised(job[2], *end)
    return ends


@pytest.mark.parametrize("script, arguments, status, message", DATA_SCRIPTS)
def test_c10_the_scripts_of_data_run_without_docstrings(
    script, arguments, status, message, optimised
):
    done = optimised[script]
    assert done.status == status, done
    assert message in done.stdout + done.stderr


@pytest.mark.parametrize("script", COMMANDS)
def test_c10_without_docstrings_and_asserts_the_results_are_the_same(script, whole, optimised):
    done = optimised[script]
    assert (done.status, done.stderr) == (0, "")
    assert "wrote out/" in done.stdout
    assert files_in(done.home / "out") == files_in(whole / "out")


@pytest.mark.parametrize("script", ALL)
def test_c10_without_docstrings_there_is_help(script, optimised):
    done = optimised[f"{script} --help"]
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


# ---------- C11


NO_POSIX = ("fcntl", "msvcrt", "resource", "termios", "tty", "pty", "grp", "pwd", "readline")


def without_posix(script: str, home: Path, name: str = "") -> Fork:
    """Start a script as on a system that has neither fcntl nor other modules of POSIX."""
    return started_anew(script, home, name=name, missing=NO_POSIX)


@pytest.mark.parametrize("script", COMMANDS)
def test_c11_without_fcntl_a_script_writes_the_same_and_runs_once_at_a_time(
    script, whole, tmp_path
):
    # 1) alone
    home = without_result(whole, script, tmp_path)
    (home / "out" / ".lock").unlink()
    outcome = without_posix(script, home).wait()
    assert (outcome.status, outcome.stderr) == (0, "")
    assert files_in(home / "out") == files_in(whole / "out")
    assert not (home / "out" / ".lock").exists()

    # 2) beside another run, which is killed; then the message says what to delete
    (home / "out" / ".lock").touch()
    outcome = without_posix(script, home).wait()
    line = outcome.stderr
    assert outcome.status == 2
    assert line.startswith("error: ") and line.count("\n") == 1
    assert "another run is writing there; wait until it ends, or choose another --out" in line
    assert f"delete {Path('out', '.lock')}, which a killed run left" in line
    assert (home / "out" / ".lock").exists()

    # 3) with the advice followed
    (home / "out" / ".lock").unlink()
    outcome = without_posix(script, home).wait()
    assert (outcome.status, outcome.stderr) == (0, "")


def test_c11_without_fcntl_two_runs_do_not_write_to_one_folder(whole, tmp_path):
    home = without_result(whole, "detect", tmp_path)
    (home / "out" / ".lock").unlink()
    forks = [without_posix("detect", home, f"-{number}") for number in range(2)]
    outcomes = [fork.wait() for fork in forks]
    assert 0 in [outcome.status for outcome in outcomes]
    for outcome in outcomes:
        refused = outcome.status == 2 and "another run is writing" in outcome.stderr
        assert refused or (outcome.status, outcome.stderr) == (0, "")
    assert files_in(home / "out") == files_in(whole / "out")


# ---------- C12


HATE = "hate {} --text words --label label --hateful hate --language fr --out data"
READERS = [  # a script, its arguments, and a file that it reads
    (detect.main, DETECT, "data/detection/de.jsonl"),
    (train.main, f"{TRAIN} full", "data/instructions/de.jsonl"),
    (prepare.main, "ptp {} --out data", "raw/full-0.jsonl"),
    (prepare.main, "ptp {} --out data", "raw/full-0.parquet"),
    (prepare.main, "rtp-lx {} --out data", "raw/RTP_LX_DE.json"),
    (prepare.main, "mmlu {} --out data", "raw/de_test.json"),
    (prepare.main, "hatecheck {} --out data", "raw/hatecheck_cases_final_german.csv"),
    (prepare.main, HATE, "raw/own-fr.tsv"),
    (prepare.main, HATE.format("raw/own-fr.tsv"), "data/hateful/fr.jsonl"),
    (prepare.main, "scorer data/detection", "data/detection/de.jsonl"),
    (curate.main, "agreement --out data", "data/curation/checks/de.jsonl"),
    (curate.main, "agreement --out data", "data/curation/verdicts/ada.jsonl"),
    (curate.main, "export --out data --data data", "data/prompts/de.jsonl"),
    (curate.main, "review --out data --name ada --import {}", "sheet.tsv"),
]


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("main, arguments, path", READERS)
def test_c12_data_is_read_from_regular_files_only(
    main, arguments, path, kind, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for part in BASE if main in (detect.main, train.main) else [corpora]:
        part(tmp_path)
    write_checked(tmp_path / "data", ["Hallo"] * 3)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    if os.path.exists(path):
        os.remove(path)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        os.symlink("/dev/zero", path)
    else:
        os.mkdir(path)
    if kind == "folder" and arguments.startswith(("ptp {}", "rtp-lx {}", "mmlu {}")):
        arguments = arguments.format("raw")
    error = error_of(main, arguments.format(path).split(), capsys)
    kind = "a folder" if kind == "folder" else "a pipe or a device"
    assert error == f"error: {path} is {kind}, not a regular file\n"


def test_c12_a_pipe_among_the_files_of_a_model_is_refused_before_tuning(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for part in BASE:
        part(tmp_path)
    os.mkfifo("model/generation_config.json")
    error = error_of(train.main, f"{TRAIN} full".split(), capsys)
    assert "model/generation_config.json is a pipe or a device, not a regular file" in error
    assert not os.path.exists("out/models")


# ---------- C13

LONG = 20_000_000  # bytes of a line
TEXTS = {"with spaces": "the soup is warm, ", "without spaces": "thesoup", "Chinese": "汤是热的"}


def cost(tmp_path, main, arguments: str) -> Outcome:
    outcome = forked(tmp_path / "work", lambda: main(arguments.split()))
    assert outcome.status == 0, outcome.stderr
    return outcome


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize(
    "main, arguments, folder, field, row",
    [
        (detect.main, f"{DETECT} --sentences 1000", "detection", "text", {"toxicity": 1.0}),
        (train.main, f"{TRAIN} full", "instructions", "response", {"prompt": "ox"}),
        (evaluate.main, EVALUATE, "prompts", "prompt", {}),
    ],
)
def test_c13_a_line_of_20_mb_costs_little(tmp_path, main, arguments, folder, field, row, kind):
    work = tmp_path / "work"
    work.mkdir()
    for part in (*worlds.BASE, worlds.scorer):
        part(work)
    before = cost(tmp_path, main, f"{arguments} --out first")
    text = TEXTS[kind] * (LONG // len(TEXTS[kind].encode()))
    with open(work / "data" / folder / "en.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(row | {field: text}, ensure_ascii=False) + "\n")
    after = cost(tmp_path, main, f"{arguments} --out second")
    assert after.megabytes - before.megabytes < 300
    assert after.seconds - before.seconds < 10  # it was 35


@pytest.mark.parametrize(
    "main, arguments, path, content",
    [
        (prepare.main, HATE, "own-fr.tsv", b"words\tlabel\n" + b"x" * 20_000_000 + b"\thate\n"),
        (prepare.main, HATE, "own-fr.tsv", b"words\tlabel\n" + b"\t" * 20_000_000 + b"\n"),
        (prepare.main, HATE, "own-fr.tsv", b'words\tlabel\n"' + b"x\n" * 10_000_000),
        (prepare.main, "mmlu {} --out data", "de_test.json", b"[" + b" " * 200_000_000),
        (prepare.main, "ptp {} --out data", "full-0.jsonl", b'{"text": "' + b"x" * 40_000_000),
        (
            curate.main,
            "review --out data --name ada --import {}",
            "sheet.tsv",
            b"id\tverdict\n" + b"\t" * 20_000_000 + b"\n",
        ),
        (
            curate.main,
            "agreement --out data",
            "data/curation/verdicts/ada.jsonl",
            b'{"id": "' + b"x" * 40_000_000,
        ),
    ],
)
def test_c13_what_data_scripts_read_is_limited(main, arguments, path, content, tmp_path):
    work = tmp_path / "work"
    write_checked(work / "data", ["Hallo"] * 3)
    (work / path).parent.mkdir(parents=True, exist_ok=True)
    (work / path).write_bytes(content)
    before = forked(work, lambda: None)
    outcome = forked(work, lambda: main(arguments.format(path).split()))
    assert outcome.status == 2, outcome
    assert outcome.stderr.startswith(f"error: {path}") and outcome.stderr.count("\n") == 1
    assert re.search("too large|too long|limit|over [0-9]", outcome.stderr)
    assert outcome.megabytes - before.megabytes < 300
    assert outcome.seconds < 20


# ---------- C14


@pytest.mark.parametrize(
    "answer",
    [
        fake.ENDLESS["a body that drips"],
        fake.ENDLESS["headers that drip"],
        fake.ENDLESS["a body"],
        fake.ENDLESS["headers"],
        fake.ENDLESS["chunks"],
        fake.bomb(200),
        (429, b"", {"Retry-After": "9" * 60_000}),
    ],
    ids=lambda answer: str(answer)[:60],
)
def test_c14_a_perspective_server_that_drips_floods_or_bombs_is_a_server_that_does_not_answer(
    monkeypatch, answer
):
    monkeypatch.setenv("PERSPECTIVE_API_KEY", fake.KEY)
    monkeypatch.setattr(bounded_http, "SECONDS", 0.1)
    with fake.FakePerspective(fake.KEY) as server:
        server.scripted["you donkey"] = answer
        client = perspective.Perspective(server.url, sleep=lambda seconds: None)
        tracemalloc.start()
        begin = time.monotonic()
        with pytest.raises(InputError, match="no answer to request .*rerun") as caught:
            fake.ask(client, "you donkey")
        assert time.monotonic() - begin < perspective.TRIES * 0.1 + 1
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
        tracemalloc.stop()
        assert fake.ask(client, "a") == fake.scored("a")
    assert fake.KEY not in str(caught.value) and "donkey" not in str(caught.value)
