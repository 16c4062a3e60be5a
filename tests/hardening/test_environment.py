"""Odd environments: a command works as ever, or prints one line that explains why not.

Each command runs as a user starts it, and changes nothing but its own files. By default each
environment is tried with one command; all with all:

    LONG=1 python -m pytest tests/hardening/test_environment.py -rP
"""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import fuzz
import pytest
from commands import COMMANDS
from fuzz import Outcome, forked
from runs import files_in
from worlds import ROOT

LONG = bool(os.environ.get("LONG"))
SECONDS = 60  # for a command, with the start of Python
NAMES = ("detect", "train", "evaluate", "delta", "ptp", "generate", "check", "review", "export")
# run a script or, after -m, a module, as Python does; `before` is put in front
START = """
import os, runpy, sys
{before}
del sys.argv[0]
if sys.argv[0] == "-m":
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
HIDE = "sys.modules.update(fcntl=None, termios=None, tty=None)"
# the limit is for what the command needs besides its packages; OpenBLAS, which ends the process
# without an exception, allocates its memory at the first product, and torch imports hundreds of
# modules at the first backward pass
LITTLE = """
import resource, numpy, torch, tokenizers, safetensors, requests
numpy.ones((500, 500)) @ numpy.ones((500, 500))
torch.ones(1, requires_grad=True).clone().backward(torch.ones(1))
pages = int(open("/proc/self/statm").read().split()[0])
most = pages * resource.getpagesize() + {megabytes} * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
"""
ACCEPTED = (0,)
EITHER = (0, 2)


@dataclass(frozen=True)
class Environment:
    """What is odd, and the exit statuses that are right."""

    statuses: tuple[int, ...] = ACCEPTED
    variables: dict[str, str | None] = field(default_factory=dict)  # None: not set
    streams: str = ""  # redirections of a shell
    before: str = ""  # Python code before the command
    folder: str = ""  # instead of out/
    exact: bool = True  # whether results have the same bytes


ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def left_over(statuses, *values: str) -> Environment:
    """Variables of torchrun, without torchrun."""
    return Environment(statuses, dict(zip(TORCHRUN, values, strict=False)))


ENVIRONMENTS = {
    "standard input is closed": Environment(streams="<&-"),
    "standard output is closed": Environment(streams=">&-"),
    "standard error is closed": Environment(streams="2>&-"),
    "all streams are closed": Environment(streams="<&- >&- 2>&-"),
    "ASCII output": Environment(variables={"PYTHONIOENCODING": "ascii"}, folder="ö/out"),
    "the C locale": Environment(variables=ASCII, folder="ö/out"),
    "LANG=C": Environment(variables={"LANG": "C", "LC_ALL": None}, folder="ö/out"),
    "RANK=1": left_over(EITHER, "1"),
    "WORLD_SIZE=abc": left_over(EITHER, "0", "abc"),
    "RANK=0 WORLD_SIZE=1": left_over(EITHER, "0", "1"),
    "RANK=0 WORLD_SIZE=3": left_over(EITHER, "0", "3"),
    "RANK=5 WORLD_SIZE=3": left_over(EITHER, "5", "3", "x", "127.0.0.1", "1"),
    "RANK=-1": left_over(EITHER, "-1", "2", "-1", "nowhere.invalid", "99999999"),
    "WORLD_SIZE=2 is empty": left_over(EITHER, "", "", ""),
    "no docstrings": Environment(variables={"PYTHONOPTIMIZE": "2"}),
    "no HOME": Environment(variables={"HOME": None}),
    "HOME cannot be written": Environment(variables={"HOME": "/proc", "XDG_CACHE_HOME": "/proc"}),
    "TMPDIR does not exist": Environment(variables={"TMPDIR": "/proc/nowhere"}),
    "no fcntl, no terminal": Environment(before=HIDE),
    # without room for its buffers, the library of matrix products rounds differently
    "20 MB of memory": Environment(EITHER, before=LITTLE.format(megabytes=20), exact=False),
    "300 MB of memory": Environment(EITHER, before=LITTLE.format(megabytes=300)),
}


def chosen() -> list[tuple[str, str]]:
    """The pairs of an environment and a command to try."""
    if LONG:
        return [(environment, name) for environment in ENVIRONMENTS for name in NAMES]
    return [
        (environment, NAMES[number % len(NAMES)]) for number, environment in enumerate(ENVIRONMENTS)
    ]


@dataclass(frozen=True)
class Case:
    """How a command ended in an environment."""

    outcome: Outcome
    wrong: str | None  # with its files
    results: dict[str, bytes]


def run(environment: Environment, name: str, base: Path, home: Path) -> Case:
    """Run a command in an environment, in a copy of a folder."""
    # 1) the folder
    command = COMMANDS[name]
    # without fcntl the lock of an earlier run would look like that of a running one
    work = shutil.copytree(base, home / "work", ignore=shutil.ignore_patterns("*.lock", ".lock"))
    out = command.out
    arguments = f"{command.arguments} {command.one}".split()
    if environment.folder and out == "out":
        out = environment.folder
        arguments = [out if argument == "out" else argument for argument in arguments]
        (work / out).parent.mkdir()
        if (work / "out").exists():
            shutil.move(work / "out", work / out)
        arguments = [argument.replace("out/", f"{out}/") for argument in arguments]
    # 2) the command
    words = command.program.split()
    module = words[0] == "-m"
    program = words if module else [str(ROOT / command.program)]
    line = [sys.executable, *program, *arguments]
    if environment.before:
        line[1:1] = ["-c", START.replace("{before}", environment.before)]
    line = ["sh", "-c", f'exec "$@" {environment.streams}', "sh", *line]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT) if module else ""}
    for key in ("HOME", "TMPDIR"):
        variables[key] = str(home / key)
        (home / key).mkdir()
    variables |= environment.variables
    variables = {key: value for key, value in variables.items() if value is not None}
    # 3) run it
    before = fuzz.states(home)
    begin = time.monotonic()
    try:
        process = subprocess.run(
            line,
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=variables,
            timeout=SECONDS,
        )
        status = process.returncode
        stderr = process.stderr.decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        status = -9
        stderr = ""
    outcome = Outcome(status, stderr, time.monotonic() - begin, 0)
    # 4) what it left
    changed = fuzz.changes(before, fuzz.states(home))
    wrong = fuzz.wrong_files(changed, home, work / out, status == 0)
    results = files_in(work / out) if (work / out).is_dir() else {}
    return Case(outcome, wrong, results)


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    """The folder of each command."""
    root = tmp_path_factory.mktemp("worlds")
    return {name: fuzz.make_world(COMMANDS[name], root) / "base" for _, name in chosen()}


@pytest.fixture(scope="module")
def expected(bases, tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """The results of each command without anything odd."""
    results = {}
    for name, base in bases.items():
        command = COMMANDS[name]
        work = shutil.copytree(base, tmp_path_factory.mktemp("expected") / "work")
        outcome = forked(work, command.action(command.one))
        assert outcome.status == 0, outcome
        results[name] = files_in(work / command.out)
    return results


@pytest.fixture(scope="module")
def cases(bases, tmp_path_factory) -> dict[tuple[str, str], Case]:
    """All cases; two at a time, because Python takes long to start."""

    def one(pair: tuple[str, str]) -> Case:
        environment, name = pair
        home = root / f"{list(ENVIRONMENTS).index(environment)}-{name}"
        home.mkdir()
        return run(ENVIRONMENTS[environment], name, bases[name], home)

    root = tmp_path_factory.mktemp("environments")
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(chosen(), pool.map(one, chosen()), strict=True))


@pytest.mark.parametrize("environment, name", chosen())
def test_in_an_odd_environment_a_command_works_or_is_refused_in_one_line(
    environment, name, cases, expected
):
    case = cases[environment, name]
    odd = ENVIRONMENTS[environment]
    if "2>&-" in odd.streams:
        assert case.outcome.status in odd.statuses, case.outcome
    else:
        assert fuzz.complaint(case.outcome) is None, case.outcome
    assert case.wrong is None
    assert case.outcome.status in odd.statuses, case.outcome
    if case.outcome.status == 0:
        assert case.results.keys() == expected[name].keys()
        for file, content in expected[name].items():
            if odd.folder and file.startswith("report."):
                continue  # it shows the name of the folder
            assert case.results[file] == content or not odd.exact, file
    print(f"{environment}, {name}: status {case.outcome.status}, {case.outcome.seconds:.1f} s")
