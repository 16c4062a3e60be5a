"""Several processes: the same files as one makes, whole although each holds a part, and an end for all when one fails."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import TOY

from minitox.files import read_json
from minitox.run import distributed

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import detect  # noqa: E402
import evaluate  # noqa: E402
import train  # noqa: E402

LANGUAGES = ["--languages", "en,zh"]
TUNE = [
    *LANGUAGES,
    "--pairs",
    "32",
    "--epochs",
    "2",
    "--checkpoint-steps",
    "2",
]  # every step has a piece for both processes


def command(processes: int, script, arguments: list[str]) -> list[str]:
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        str(script),
        *arguments,
    ]


def torchrun(processes: int, script, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command(processes, script, arguments),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env=environment,
    )


def files_in(folder: Path) -> dict:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What a single process makes of the toy, in two languages."""
    out = tmp_path_factory.mktemp("alone")
    detect.main(["--out", str(out), *LANGUAGES])
    train.main(["--out", str(out), *TUNE])
    return out


def with_neurons_of(alone: Path, out: Path) -> Path:
    shutil.copytree(alone / "neurons", out / "neurons")
    return out


@pytest.mark.parametrize("processes, more", [(2, []), (4, []), (2, ["--spread"])])
def test_detect_writes_the_same_bytes_with_any_number_of_processes(
    processes, more, alone, tmp_path
):
    result = torchrun(processes, "detect.py", "--out", str(tmp_path / "out"), *LANGUAGES, *more)
    assert result.returncode == 0, result.stderr
    assert files_in(tmp_path / "out" / "neurons") == files_in(alone / "neurons")
    assert result.stdout.count("Table 2.") == 1  # one process prints


def assert_same_models(ours: Path, theirs: Path, names, base: Path = TOY / "model") -> None:
    """Frozen rows equal to the bit, tuned rows to a millionth of their length."""
    before = load_file(base / "model.safetensors")
    for name in names:
        proofs = [read_json(folder / name / "run.json")["proof"] for folder in (ours, theirs)]
        assert proofs[0] == proofs[1]
        a, b = (load_file(folder / name / "model.safetensors") for folder in (ours, theirs))
        for weight in before:
            rows, other = (
                a[weight].flatten(1) if a[weight].dim() > 1 else a[weight][None],
                b[weight].view_as(a[weight]),
            )
            difference = (rows - other.reshape(rows.shape)).norm(dim=1)
            frozen = (a[weight] == before[weight]).reshape(len(rows), -1).all(dim=1)
            assert not difference[frozen].any(), (name, weight)
            assert (difference <= 1e-6 * rows.norm(dim=1)).all(), (
                name,
                weight,
                (difference / rows.norm(dim=1)).max(),
            )


@pytest.mark.parametrize(
    "optimizer, names",
    [("rows", ["full", "per-language", "multilingual", "aura"]), ("masked", ["multilingual"])],
)
def test_train_makes_the_same_models_with_two_processes(optimizer, names, alone, tmp_path):
    out = with_neurons_of(alone, tmp_path / "out")
    result = torchrun(
        2, "train.py", "--out", str(out), *TUNE, "--optimizer", optimizer, "--strategy", *names
    )
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out" / "models").iterdir()) == sorted(names)
    assert_same_models(tmp_path / "out" / "models", alone / "models", names)
    assert result.stdout.count("What became of it") == 1


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(
    not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists(),
    reason="needs /proc to find the processes",
)
def test_when_one_process_is_killed_both_end_and_any_number_of_them_goes_on(alone, tmp_path):
    arguments = ["--strategy", "multilingual", *TUNE]
    out = with_neurons_of(alone, tmp_path / "out")
    process = subprocess.Popen(
        command(2, "train.py", ["--out", str(out), *arguments]),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    saved = out / "models" / "multilingual.partial" / "checkpoint.safetensors"
    while not saved.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    workers = children(process.pid)
    os.kill(workers[-1], signal.SIGKILL)
    assert process.wait(timeout=60) != 0 and len(workers) == 2
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert saved.exists() and not (out / "models" / "multilingual").exists()

    shutil.copytree(out, tmp_path / "one")
    train.main(["--out", str(tmp_path / "one"), *arguments])
    result = torchrun(2, "train.py", "--out", str(out), *arguments)
    assert result.returncode == 0, result.stderr
    for folder in (out, tmp_path / "one"):
        assert_same_models(folder / "models", alone / "models", ["multilingual"])


@pytest.mark.parametrize("more", [[], ["--spread"]])
def test_evaluate_writes_the_same_replies_and_report_with_two_processes(
    more, alone, tmp_path, monkeypatch
):
    arguments = [
        "--languages",
        "en,ja",
        "--prompts",
        "5",
        "--models",
        "base",
        "multilingual",
        "--batch-tokens",
        "250",
        "--perplexity",
        "9",
        "--max-new-tokens",
        "24",
        "--out",
        "out",
        "--data",
        str(TOY),
        "--model",
        str(TOY / "model"),
        *more,
    ]
    found = []
    for processes in (1, 2):
        home = tmp_path / str(processes)
        shutil.copytree(alone, home / "out")
        monkeypatch.chdir(home)
        if processes == 1:
            evaluate.main(arguments)
        else:
            run = subprocess.run(
                command(2, ROOT / "evaluate.py", arguments),
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert run.returncode == 0, run.stderr
        found.append(files_in(home / "out"))
    assert found[0].keys() == found[1].keys() and "report.html" in found[0]
    assert [name for name in found[0] if found[0][name] != found[1][name]] == []


def test_a_mistake_is_told_once_and_ends_all_processes(tmp_path):
    result = torchrun(
        2, "detect.py", "--model", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")
    )
    assert (
        result.returncode != 0
        and result.stderr.count("error: ") == 1
        and "nowhere/config.json: no such file" in result.stderr
    )
    assert not (tmp_path / "out").exists()


def test_what_stops_one_process_alone_is_told_by_that_one_and_ends_the_others(tmp_path):
    (tmp_path / "script.py").write_text("""
from minitox.run import cli, distributed
from minitox.errors import InputError
def main():
    distributed.gather(None)
    if distributed.RANK == 1:
        raise InputError("the third sentence is not finite")
    distributed.gather(None)
cli.run(main)
""")
    result = torchrun(2, tmp_path / "script.py")
    assert result.returncode != 0
    told = [
        line
        for line in result.stderr.splitlines()
        if line.startswith(("error: ", "Traceback (most"))
    ]
    assert told[0] == "error: the third sentence is not finite" and not any(
        line.startswith("error: ") for line in told[1:]
    )


def test_rows_go_to_the_process_that_holds_them_and_come_back_whole(tmp_path):
    """Five rows on three processes lie 2, 2, 1, and two rows leave one process without any."""
    (tmp_path / "script.py").write_text("""
import torch
from torch.distributed.tensor import Shard, distribute_tensor
from minitox.run import cli, distributed
def main():
    mesh = torch.distributed.init_device_mesh("cpu", (3,))
    for rows in (5, 2, 9):
        weight = distribute_tensor(torch.arange(rows * 4.0).view(rows, 4), mesh, [Shard(0)])
        mask = torch.arange(rows) % 2 == 0
        about, chosen = torch.arange(rows) * 10, weight.full_tensor()[mask] + 0.5
        assert torch.equal(distributed.local(weight), distributed.part(weight.full_tensor(), weight))
        assert torch.equal(distributed.whole(distributed.part(about, weight), weight), about)
        assert len(distributed.part(chosen, weight, mask)) == distributed.part(mask, weight).sum()
        assert torch.equal(distributed.part(chosen, weight, mask), distributed.local(weight)[distributed.part(mask, weight)] + 0.5)
        assert torch.equal(distributed.whole(distributed.part(chosen, weight, mask), weight, mask), chosen)
    assert distributed.gather(distributed.RANK) == [0, 1, 2] and distributed.broadcast(distributed.RANK) == 0
    assert distributed.deal(list("abcd")) == [["a", "d"], ["b", None], ["c", None]][distributed.RANK]
    print("all held")
cli.run(main)
""")
    result = torchrun(3, tmp_path / "script.py")
    assert result.returncode == 0 and result.stdout.count("all held") == 1, result.stderr


def test_a_single_process_has_all_and_waits_for_none():
    weight = torch.ones(3, 2)
    assert distributed.WORLD == 1 and distributed.FIRST
    assert (
        distributed.gather(5) == [5]
        and distributed.broadcast(5) == 5
        and distributed.deal([1, 2]) == [1, 2]
    )
    assert (
        distributed.local(weight) is weight
        and distributed.part(weight, weight) is weight
        and distributed.whole(weight, weight) is weight
    )
