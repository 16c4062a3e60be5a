"""A full disk, a limit on the size of files, a folder that cannot be written, two runs in one folder: one line, and nothing is lost."""

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest
from fuzz import Outcome, forked
from runs import ARGUMENTS, MAINS, Small, files_in, small_runs, start

from minitox.files import hold


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_runs(tmp_path_factory.mktemp("small"))


@pytest.fixture
def tmpfs(tmp_path):
    """A function that puts what a folder holds on a disk of its own, mounted in its place; with `free` KiB left on it."""
    if os.geteuid() != 0:
        pytest.skip("mounts need root")
    mounted = []

    def mount(folder: Path, options: str) -> None:
        command = [
            "mount",
            *(
                ["-o", f"remount,{options}"]
                if folder in mounted
                else ["-t", "tmpfs", "-o", options, "tmpfs"]
            ),
            str(folder),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode and not mounted:
            pytest.skip(f"may not mount: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        mounted.append(folder)

    yield mount
    for folder in set(mounted):
        subprocess.run(["umount", str(folder)], check=True)


def assert_refused(outcome: Outcome, *said: str) -> None:
    """It ended with status 2 and one line, which says all this."""
    assert (
        outcome.status == 2 and outcome.said.startswith("error: ") and outcome.said.count("\n") == 1
    ), outcome
    assert outcome.said.endswith("\n") and all(part in outcome.said for part in said), outcome.said


def finished(out: Path, run: Small) -> set[str]:
    """The files that are as they will be at the end."""
    return {name for name, content in files_in(out).items() if run.expected.get(name) == content}


# A full disk


@pytest.mark.parametrize("script, step", [("detect", 4), ("train", 48), ("evaluate", 12)])
def test_a_full_disk_is_told_in_one_line_and_when_it_has_grown_the_same_command_goes_on(
    script, step, small, tmp_path, tmpfs
):
    run, refused, before = small[script], 0, set()
    out = run.begin(tmp_path / "disk" / "work") / "out"
    held = [(path.relative_to(out), path.read_bytes()) for path in out.rglob("*") if path.is_file()]
    tmpfs(out, "size=64m")
    for path, content in held:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(content)
    disk = os.statvfs(out)
    size = (disk.f_blocks - disk.f_bfree) * disk.f_frsize // 1024  # KiB that what is there takes
    while True:
        tmpfs(out, f"size={size + 4}k")
        outcome, after = forked(out.parent, run.main), finished(out, run)
        assert before <= after, before - after
        if outcome.status == 0:
            break
        assert_refused(outcome, "No space left on device", "out/")
        size, before, refused = size + step, after, refused + 1
    assert files_in(out) == run.expected
    print(f"{script}: refused {refused} times on a disk that grew by {step} KiB each time")
    assert refused > 3


# A limit on the size of files


def limit_files(size: int) -> None:
    """Let this process write no longer file; what it prints goes into none."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


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
                570: "out/scores/surrogate-",
                20_000: "out/report.html",
            },
        ),
    ],
)
def test_a_limit_on_the_size_of_files_is_told_in_one_line_and_without_it_the_same_command_goes_on(
    script, limits, small, tmp_path
):
    run, before = small[script], set()
    work = run.begin(tmp_path / "limit" / "work")
    for limit, name in limits.items():
        outcome = forked(work, lambda: (limit_files(limit), run.main()))
        after = finished(work / "out", run)
        assert_refused(outcome, name)
        assert before <= after, before - after
        before = after
    outcome = forked(work, run.main)
    assert (outcome.status, outcome.said) == (0, "")
    assert files_in(work / "out") == run.expected


# A folder that cannot be written


@pytest.mark.parametrize("script", MAINS)
def test_a_read_only_disk_is_told_in_one_line(script, small, tmp_path, tmpfs):
    run = small[script]
    work = run.begin(tmp_path / "work")
    tmpfs(work, "size=64m")
    subprocess.run(["cp", "-r", f"{run.base}/.", str(work)], check=True)
    tmpfs(work, "ro")
    assert_refused(forked(work, run.main), "Read-only file system", "out")


def test_a_folder_that_others_own_is_not_said_to_be_at_work(tmp_path):
    (tmp_path / "work" / "out").mkdir(parents=True)
    (tmp_path / "work" / "out").chmod(0o555)

    def action() -> None:
        if os.geteuid() == 0:
            os.setuid(65_534)  # to root, nothing is forbidden
        hold(Path("out"))

    assert_refused(forked(tmp_path / "work", action), "Permission denied: 'out/.lock'")


@pytest.mark.parametrize("script", MAINS)
@pytest.mark.parametrize("out", ["model/config.json", "model/config.json/out", "/proc/out"])
def test_an_out_that_can_be_no_folder_is_told_in_one_line(script, out, small, tmp_path):
    run = small[script]
    work = run.begin(tmp_path / "work")
    (work / "out").rename(work / "before")
    models = {"train": " --neurons before/neurons", "evaluate": " --models base"}
    arguments = (
        (ARGUMENTS[script] + models.get(script, "")).replace("--out out", f"--out {out}").split()
    )
    before = files_in(work)
    assert_refused(forked(work, lambda: MAINS[script](arguments)), out)
    assert files_in(work) == before


# Two runs in one folder


@pytest.mark.parametrize("script", MAINS)
def test_a_second_run_in_the_same_out_is_refused_by_name_until_the_first_has_ended(
    script, small, tmp_path
):
    run = small[script]
    work = run.begin(tmp_path / "work")
    first = start(script, ARGUMENTS[script], work)
    first.send_signal(signal.SIGSTOP)  # so that it is at work as long as this takes
    before = files_in(work / "out")
    assert_refused(forked(work, run.main), "out: another run is at work there")
    assert files_in(work / "out") == before
    first.send_signal(signal.SIGCONT)
    assert first.wait() == 0 and files_in(work / "out") == run.expected
    assert forked(work, run.main).status == 0  # it has nothing to do, and may


def test_the_lock_of_a_run_that_was_killed_is_gone(small, tmp_path):
    run = small["detect"]
    work = run.begin(tmp_path / "work")
    first = start("detect", ARGUMENTS["detect"], work)
    first.send_signal(signal.SIGSTOP)
    assert_refused(forked(work, run.main), "out: another run is at work there")
    first.kill()
    assert first.wait() == -signal.SIGKILL
    assert forked(work, run.main).status == 0
    assert files_in(work / "out") == run.expected
