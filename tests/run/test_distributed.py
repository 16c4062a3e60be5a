"""Several processes: the same files as one process writes, and an end for all when one fails.

The tests start real processes with torchrun.
"""

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
from tuning import assert_same_models

from minitox.errors import InputError
from minitox.run import distributed, sharding

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import detect  # noqa: E402
import evaluate  # noqa: E402
import train  # noqa: E402

LANGUAGES = ["--languages", "en,zh"]
# every step has micro-batches for both processes
TUNE = [*LANGUAGES, "--pairs", "32", "--epochs", "2", "--checkpoint-steps", "2"]
TUNE += ["--batch-tokens", "512"]
MODELS = ["full", "per-language", "multilingual", "aura"]
CHILDREN = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")


def command(processes: int, script: Path | str, *arguments: str) -> list[str]:
    """The command that runs a script in several processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*torchrun, "--nproc-per-node", str(processes), str(script), *arguments]


def run(
    processes: int, script: Path | str, *arguments: str, folder: Path = ROOT
) -> subprocess.CompletedProcess:
    """Run a script in several processes, in the working directory `folder`."""
    return subprocess.run(
        command(processes, script, *arguments),
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def files_in(folder: Path) -> dict[str, bytes]:
    """The content of every file in a folder."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            contents[str(path.relative_to(folder))] = path.read_bytes()
    return contents


PREFERENCES = ["dpo-per-language", "dpo-multilingual"]
PREFER = ["--objective", "dpo", "--strategy", "per-language", "multilingual"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The output folder of a single process: neurons and models of the toy, in two languages."""
    out = tmp_path_factory.mktemp("alone")
    detect.main(["--out", str(out), *LANGUAGES])
    train.main(["--out", str(out), *TUNE, "--strategy", *MODELS])
    train.main(["--out", str(out), *TUNE, *PREFER])
    return out


@pytest.fixture
def out(alone, tmp_path):
    """An output folder with the neuron files alone."""
    shutil.copytree(alone / "neurons", tmp_path / "out" / "neurons")
    return tmp_path / "out"


# The three scripts


@pytest.mark.parametrize("processes, more", [(2, []), (4, []), (2, ["--shard"])])
def test_detect_writes_the_same_bytes_with_any_number_of_processes(
    processes, more, alone, tmp_path
):
    result = run(processes, "detect.py", "--out", str(tmp_path / "out"), *LANGUAGES, *more)
    assert result.returncode == 0, result.stderr
    assert files_in(tmp_path / "out" / "neurons") == files_in(alone / "neurons")
    assert result.stdout.count("Table 2.") == 1  # one process prints


def test_importance_is_the_same_with_two_processes_up_to_the_order_of_summation(tmp_path):
    arguments = ["--select", "taylor", *LANGUAGES]
    detect.main(["--out", str(tmp_path / "one"), *arguments])
    result = run(2, "detect.py", "--out", str(tmp_path / "two"), *arguments)
    assert result.returncode == 0, result.stderr
    for language in ("en", "zh"):
        file = f"neurons-taylor/{language}.safetensors"
        ours = load_file(tmp_path / "one" / file)
        theirs = load_file(tmp_path / "two" / file)
        for name, values in ours.items():
            torch.testing.assert_close(theirs[name], values, rtol=1e-4, atol=1e-7)
    assert result.stdout.count("Importance to the loss") == 1
    result = run(2, "detect.py", "--out", str(tmp_path / "shard"), *arguments, "--shard")
    assert "error: --shard: --select taylor and dinm need the whole model" in result.stderr
    assert not (tmp_path / "shard").exists()


def test_the_layer_of_dinm_and_its_models_are_the_same_with_two_processes(tmp_path):
    models = ["--by", "dinm", "--draws", "1", "--strategy", "multilingual", "random"]
    one = tmp_path / "one"
    two = tmp_path / "two"
    detect.main(["--out", str(one), "--select", "dinm", *LANGUAGES])
    train.main(["--out", str(one), *TUNE, "--pairs", "1000", *models])
    result = run(2, "detect.py", "--out", str(two), "--select", "dinm", *LANGUAGES)
    assert result.returncode == 0, result.stderr
    assert files_in(two / "neurons-dinm") == files_in(one / "neurons-dinm")
    assert result.stdout.count("Layer that tells replies apart") == 1
    result = run(2, "train.py", "--out", str(two), *TUNE, "--pairs", "1000", *models)
    assert result.returncode == 0, result.stderr
    names = ["dinm-multilingual", "dinm-random-1"]
    assert_same_models(two / "models", one / "models", names, TOY / "model")


@pytest.mark.parametrize(
    "more, names",
    [
        (["--strategy", *MODELS], MODELS),
        (["--strategy", "multilingual", "--reference"], ["multilingual"]),
        (PREFER, PREFERENCES),
    ],
)
def test_train_makes_the_same_models_with_two_processes(more, names, alone, out):
    result = run(2, "train.py", "--out", str(out), *TUNE, *more)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (out / "models").iterdir()) == sorted(names)
    assert_same_models(out / "models", alone / "models", names, TOY / "model")
    assert result.stdout.count("Results") == 1


@pytest.fixture(scope="module")
def readable(alone, tmp_path_factory):
    """The models of a single process by the readable implementations of DPO and AdamW."""
    out = tmp_path_factory.mktemp("readable")
    shutil.copytree(alone / "neurons", out / "neurons")
    train.main(["--out", str(out), *TUNE, *PREFER, "--reference"])
    return out / "models"


def test_the_readable_dpo_makes_the_same_models_with_two_processes(readable, out):
    result = run(2, "train.py", "--out", str(out), *TUNE, *PREFER, "--reference")
    assert result.returncode == 0, result.stderr
    assert_same_models(out / "models", readable, PREFERENCES, TOY / "model")


def test_the_readable_dpo_differs_from_the_fast_one_in_single_weights(alone, readable):
    """AdamW divides a gradient by its own size: where it is nearly 0, its rounding is a step.

    So a weight may differ by a thousandth of its way, but only one in ten thousand does; 4 of
    479,232 were measured, in rows that then differ by up to 7e-6 of their length.
    """
    base = load_file(TOY / "model" / "model.safetensors")
    for name in PREFERENCES:
        fast = load_file(alone / "models" / name / "model.safetensors")
        slow = load_file(readable / name / "model.safetensors")
        tuned = 0
        apart = 0
        for weight, before in base.items():
            way = (fast[weight] - before).abs()
            difference = (fast[weight] - slow[weight]).abs()
            assert not difference[way == 0].any()
            assert (difference <= 0.01 * way.max()).all()
            tuned += int((way > 0).sum())
            apart += int((difference > 1e-6).sum())
        assert apart <= 1e-4 * tuned


def children(pid: int) -> list[int]:
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(pid) for pid in pids]


@pytest.mark.skipif(not CHILDREN.exists(), reason="needs /proc to find the processes")
def test_when_one_process_is_killed_both_end_and_any_number_of_them_resumes(alone, out, tmp_path):
    # 1) two processes, until there is a checkpoint
    arguments = ["--strategy", "multilingual", *TUNE]
    process = subprocess.Popen(
        command(2, "train.py", "--out", str(out), *arguments),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    saved = out / "models" / "multilingual.partial" / "checkpoint.safetensors"
    while not saved.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)

    # 2) one of them is killed
    workers = children(process.pid)
    os.kill(workers[-1], signal.SIGKILL)
    assert process.wait(timeout=60) != 0
    assert len(workers) == 2
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert saved.exists()
    assert not (out / "models" / "multilingual").exists()

    # 3) one process resumes, or two do
    shutil.copytree(out, tmp_path / "one")
    train.main(["--out", str(tmp_path / "one"), *arguments])
    result = run(2, "train.py", "--out", str(out), *arguments)
    assert result.returncode == 0, result.stderr
    for folder in (out, tmp_path / "one"):
        assert_same_models(
            folder / "models", alone / "models", ["multilingual"], base=TOY / "model"
        )


@pytest.mark.parametrize("more", [[], ["--shard"]])
def test_evaluate_writes_the_same_replies_and_report_with_two_processes(
    more, alone, tmp_path, monkeypatch
):
    arguments = ["--out", "out", "--data", str(TOY), "--model", str(TOY / "model")]
    arguments += ["--models", "base", "multilingual", "--languages", "en,ja", "--prompts", "5"]
    arguments += ["--perplexity", "9", "--max-new-tokens", "24", "--batch-tokens", "250", *more]
    for name in ("one", "two"):
        shutil.copytree(alone, tmp_path / name / "out")
    # the report contains the command, so both run in a folder with the same relative paths
    monkeypatch.chdir(tmp_path / "one")
    evaluate.main(arguments)
    result = run(2, ROOT / "evaluate.py", *arguments, folder=tmp_path / "two")
    assert result.returncode == 0, result.stderr

    of_one = files_in(tmp_path / "one" / "out")
    of_two = files_in(tmp_path / "two" / "out")
    assert of_one.keys() == of_two.keys()
    assert "report.html" in of_one
    assert [name for name in of_one if of_one[name] != of_two[name]] == []


# Errors


def test_an_error_of_all_processes_is_printed_once(tmp_path):
    folders = ["--model", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]
    result = run(2, "detect.py", *folders)
    assert result.returncode != 0
    assert result.stderr.count("error: ") == 1
    assert "nowhere/config.json: no such file" in result.stderr
    assert not (tmp_path / "out").exists()


ONE_FAILS = """
from minitox.errors import InputError
from minitox.run import distributed, script

def main():
    distributed.gather(None)
    if distributed.RANK == 1:
        raise InputError("the third sentence is not finite")
    distributed.gather(None)

script.run(main)
"""


def test_an_error_of_one_process_is_printed_by_that_one_and_ends_the_others(tmp_path):
    (tmp_path / "one_fails.py").write_text(ONE_FAILS)
    result = run(2, tmp_path / "one_fails.py")
    assert result.returncode != 0
    reasons = []
    for line in result.stderr.splitlines():
        if line.startswith(("error: ", "Traceback (most")):
            reasons.append(line)
    assert reasons[0] == "error: the third sentence is not finite"
    assert not any(line.startswith("error: ") for line in reasons[1:])


def test_what_differs_between_two_processes_is_named_from_the_outside_in():
    ours = {"settings": {"seed": 0}, "data": {"de": "a", "en": "b"}}
    assert distributed.first_difference(ours, ours | {"settings": {"seed": 1}}) == "settings seed"
    assert distributed.first_difference(ours, ours | {"data": {"de": "a"}}) == "data en"
    assert distributed.first_difference(ours, {"settings": {"seed": 0}}) == "data"
    distributed.check_same(ours)  # a single process differs from no other


# Parts of tensors and lists

ROWS_ON_THREE = """
import torch
from torch.distributed.tensor import Shard, distribute_tensor
from minitox.run import distributed, script
from minitox.run.sharding import all_chosen, all_rows, local, local_chosen, local_rows, whole

def main():
    mesh = torch.distributed.init_device_mesh("cpu", (3,))
    for rows in (5, 2, 9):
        values = torch.arange(rows * 4.0).view(rows, 4)
        weight = distribute_tensor(values, mesh, [Shard(0)])

        # something for each row
        numbers = torch.arange(rows) * 10
        assert torch.equal(local(weight), local_rows(values, weight))
        assert torch.equal(all_rows(local_rows(numbers, weight), weight), numbers)
        assert torch.equal(whole(weight), values)

        # something for each row of a mask
        mask = torch.arange(rows) % 2 == 0
        chosen = values[mask] + 0.5
        mine = local_chosen(chosen, weight, mask)
        mask_here = local_rows(mask, weight)
        assert len(mine) == mask_here.sum()
        assert torch.equal(mine, local(weight)[mask_here] + 0.5)
        assert torch.equal(all_chosen(mine, weight, mask), chosen)
    print("all rows are right")

script.run(main)
"""


def test_rows_go_to_the_process_that_holds_them_and_come_back_whole(tmp_path):
    """Of five rows, three processes hold 2, 2 and 1; of two rows, one process holds no row."""
    (tmp_path / "rows.py").write_text(ROWS_ON_THREE)
    result = run(3, tmp_path / "rows.py")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("all rows are right") == 1


VALUES_ON_THREE = """
import torch
from minitox.errors import InputError
from minitox.run import distributed, script

def refuse():
    raise InputError("a file is missing")

def main():
    rank = distributed.RANK
    assert distributed.gather(rank) == [0, 1, 2]
    assert distributed.broadcast(rank) == 0
    assert distributed.on_first(lambda: rank) == 0
    try:
        distributed.on_first(refuse)
        raise AssertionError("nothing was refused")
    except InputError as error:
        assert str(error) == "a file is missing"
    assert distributed.deal(list("abcd")) == [["a", "d"], ["b", None], ["c", None]][rank]
    assert distributed.all_reduce(torch.tensor([rank, 1])).tolist() == [3, 3]
    print("all values are right")

script.run(main)
"""


def test_processes_exchange_values_and_each_has_its_share_of_a_list(tmp_path):
    (tmp_path / "values.py").write_text(VALUES_ON_THREE)
    result = run(3, tmp_path / "values.py")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("all values are right") == 1


ENDS_AT_ONCE = """
import atexit, os
from minitox.run import script

atexit.register(os._exit, 7)
script.run(lambda: print("this line is not lost", end=""))
"""


def test_processes_exit_without_the_shutdown_of_python(tmp_path):
    """During it, a thread of gloo may free a tensor, which aborts the process."""
    (tmp_path / "ends.py").write_text(ENDS_AT_ONCE)
    result = run(2, tmp_path / "ends.py")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("this line is not lost") == 1


# What torchrun sets

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "6",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
}


def test_the_place_of_a_process_is_what_torchrun_sets():
    assert distributed.place(TORCHRUN) == (5, 6, 1, 2)


@pytest.mark.parametrize("more", [{}, {"MASTER_ADDR": "a", "MASTER_PORT": "b"}, {"RANK": ""}])
def test_without_ranks_there_is_a_single_process(more):
    assert distributed.place(more) == (0, 1, 0, 1)


@pytest.mark.parametrize("name", TORCHRUN)
def test_a_variable_that_is_missing_is_named(name):
    environment = {key: value for key, value in TORCHRUN.items() if key != name}
    with pytest.raises(InputError, match=f"as torchrun does, but {name} is not; unset these"):
        distributed.place(environment)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"RANK": "one"}, "RANK='one' in the environment is not a number"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE='-1' in the environment is not a number"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT='http' in the environment is not a number"),
        ({"RANK": "1" * 5_000}, "in the environment is not a number"),
        ({"RANK": "6"}, "RANK=6, WORLD_SIZE=6, .* do not fit together"),
        ({"LOCAL_RANK": "2"}, "LOCAL_RANK=2, LOCAL_WORLD_SIZE=2, .* do not fit together"),
        ({"LOCAL_WORLD_SIZE": "7"}, "LOCAL_WORLD_SIZE=7, .* do not fit together"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0, .* do not fit together"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT=70000 in the environment do not fit together"),
    ],
)
def test_variables_that_torchrun_would_not_set_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        distributed.place(TORCHRUN | changes)


def test_a_single_process_has_everything_and_waits_for_nobody():
    assert distributed.WORLD == 1
    assert distributed.FIRST
    assert distributed.gather(5) == [5]
    assert distributed.broadcast(5) == 5
    assert distributed.on_first(lambda: 5) == 5
    assert distributed.deal([1, 2]) == [1, 2]

    weight = torch.ones(3, 2)
    mask = torch.tensor([True, False, True])
    assert not sharding.is_sharded(weight)
    assert sharding.local(weight) is weight
    assert sharding.local_rows(weight, weight) is weight
    assert sharding.all_rows(weight, weight) is weight
    assert sharding.whole(weight) is weight
    chosen = weight[mask]
    assert sharding.local_chosen(chosen, weight, mask) is chosen
    assert sharding.all_chosen(chosen, weight, mask) is chosen
