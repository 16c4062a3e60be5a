"""A full disk, a limit on file sizes, an unwritable folder, and two runs in one folder.

Each gives an error message of one line, and no result is lost.
"""

import os
import resource
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
from fuzz import Outcome, forked
from runs import ARGUMENTS, MAINS, Small, files_in, small_runs, start

from minitox.run.outputs import lock


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_runs(tmp_path_factory.mktemp("small"))


@pytest.fixture
def tmpfs(tmp_path):
    """A function that mounts a disk of its own at a folder, or changes its options."""
    if os.geteuid() != 0:
        pytest.skip("mounts need root")
    mounted = []

    def mount(folder: Path, options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if folder in mounted:
            command = ["mount", "-o", f"remount,{options}", str(folder)]
        process = subprocess.run(command, capture_output=True, text=True)
        if process.returncode and not mounted:
            pytest.skip(f"may not mount: {process.stderr.strip()}")
        assert process.returncode == 0, process.stderr
        mounted.append(folder)

    yield mount
    for folder in set(mounted):
        subprocess.run(["umount", str(folder)], check=True)


def assert_refused(outcome: Outcome, *parts: str) -> None:
    """Assert exit status 2 and an error message of one line that contains these parts."""
    message = outcome.stderr
    assert outcome.status == 2, outcome
    assert message.startswith("error: "), outcome
    assert message.count("\n") == 1 and message.endswith("\n"), outcome
    assert all(part in message for part in parts), message


def finished(out: Path, run: Small) -> set[str]:
    """The files that already are as they will be at the end."""
    return {name for name, content in files_in(out).items() if run.expected.get(name) == content}


# A full disk


@pytest.mark.parametrize("script, step", [("detect", 4), ("train", 48), ("evaluate", 12)])
def test_a_full_disk_is_reported_in_one_line_and_with_more_space_the_same_command_resumes(
    script, step, small, tmp_path, tmpfs
):
    run = small[script]
    out = run.begin(tmp_path / "disk" / "work") / "out"
    # 1) move the folder to a disk of its own
    files = [(path, path.read_bytes()) for path in out.rglob("*") if path.is_file()]
    tmpfs(out, "size=64m")
    for path, content in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    disk = os.statvfs(out)
    size = (disk.f_blocks - disk.f_bfree) * disk.f_frsize // 1024  # KiB in use
    # 2) run until the disk is large enough
    refused = 0
    before = set()
    while True:
        tmpfs(out, f"size={size + 4}k")
        outcome = forked(out.parent, run.main)
        after = finished(out, run)
        assert before <= after, before - after
        if outcome.status == 0:
            break
        assert_refused(outcome, "No space left on device", "out/")
        size += step
        before = after
        refused += 1
    assert files_in(out) == run.expected
    print(f"{script}: refused {refused} times on a disk that grew by {step} KiB each time")
    assert refused > 3


# A limit on the size of files


def run_limited(run: Small, size: int) -> None:
    """Run a script in a process that can write no file of more than `size` bytes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # its output does not go to a file
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    run.main()


@pytest.mark.parametrize(
    "script, limits",
    [
        ("detect", {400: "out/neurons/run.json", 1_000: "out/neurons/de.partial/000000.f16"}),
        (
            "train",
            {
                400: "out/models/per-language.partial/run.json",
                20_000: "checkpoint.safetensors",
                100_000: "model.safetensors",
            },
        ),
        (
            "evaluate",
            {
                400: "out/replies/base/run.json",
                700: "out/scores/surrogate-",
                20_000: "out/report.html",
            },
        ),
    ],
)
def test_a_limit_on_file_sizes_is_reported_in_one_line_and_without_it_the_same_command_resumes(
    script, limits, small, tmp_path
):
    run = small[script]
    work = run.begin(tmp_path / "limit" / "work")
    before = set()
    for limit, name in limits.items():
        outcome = forked(work, partial(run_limited, run, limit))
        after = finished(work / "out", run)
        assert_refused(outcome, name)
        assert before <= after, before - after
        before = after
    outcome = forked(work, run.main)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert files_in(work / "out") == run.expected


# A folder that cannot be written


@pytest.mark.parametrize("script", MAINS)
def test_a_read_only_disk_is_reported_in_one_line(script, small, tmp_path, tmpfs):
    run = small[script]
    work = run.begin(tmp_path / "work")
    tmpfs(work, "size=64m")
    subprocess.run(["cp", "-r", f"{run.base}/.", str(work)], check=True)
    tmpfs(work, "ro")
    assert_refused(forked(work, run.main), "Read-only file system", "out")


def test_the_error_for_an_unwritable_folder_does_not_claim_that_another_run_has_the_lock(tmp_path):
    out = tmp_path / "work" / "out"
    out.mkdir(parents=True)
    out.chmod(0o555)

    def action() -> None:
        if os.geteuid() == 0:
            os.setuid(65_534)  # root may write anywhere
        lock(Path("out"))

    assert_refused(forked(tmp_path / "work", action), "Permission denied: 'out/.lock'")


@pytest.mark.parametrize("script", MAINS)
@pytest.mark.parametrize("out", ["model/config.json", "model/config.json/out", "/proc/out"])
def test_an_out_that_cannot_be_a_folder_is_reported_in_one_line(script, out, small, tmp_path):
    run = small[script]
    work = run.begin(tmp_path / "work")
    (work / "out").rename(work / "before")
    arguments = ARGUMENTS[script].replace("--out out", f"--out {out}")
    if script == "train":
        arguments += " --neurons before/neurons"
    elif script == "evaluate":
        arguments += " --models base"
    before = files_in(work)
    assert_refused(forked(work, lambda: MAINS[script](arguments.split())), out)
    assert files_in(work) == before


# Two runs in one folder


@pytest.mark.parametrize("script", ["detect", "train", "evaluate"])
def test_a_second_run_in_the_same_folder_is_refused_until_the_first_has_ended(
    script, small, tmp_path
):
    run = small[script]
    work = run.begin(tmp_path / "work")
    first = start(script, ARGUMENTS[script], work)
    first.send(signal.SIGSTOP)  # it keeps the lock as long as this test needs
    before = files_in(work / "out")
    assert_refused(forked(work, run.main), "out: another run is writing there")
    assert files_in(work / "out") == before
    first.send(signal.SIGCONT)
    assert first.wait().status == 0 and files_in(work / "out") == run.expected
    assert forked(work, run.main).status == 0  # it has nothing to do


def test_a_killed_run_releases_its_lock(small, tmp_path):
    run = small["detect"]
    work = run.begin(tmp_path / "work")
    first = start("detect", ARGUMENTS["detect"], work)
    first.send(signal.SIGSTOP)
    assert_refused(forked(work, run.main), "out: another run is writing there")
    first.send(signal.SIGKILL)
    assert first.wait().status == -signal.SIGKILL
    assert forked(work, run.main).status == 0
    assert files_in(work / "out") == run.expected
