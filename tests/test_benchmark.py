"""Operations are counted as PyTorch counts them, and the commands run without any peer."""

import json
import re
import warnings
from argparse import Namespace

import benchmark
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from tiny import CONFIG, write_jsonl
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import compare, device, scale, waits
from benchmarks.contenders import (
    operations_of_replies,
    our_model,
    rank_of,
    raw_config,
    training_step,
)
from benchmarks.costs import SHAPES, as_config, flops, seen
from minitox.files import write_json
from minitox.lm.generate import generate
from minitox.neurons import module_rows
from minitox.train.pairs import Pair
from minitox.train.strategies import count_weights

pytest.importorskip("resource", reason="the benchmark measures memory as POSIX does")


@pytest.fixture(params=["llama", "cohere"])
def model(request):
    tied = request.param == "cohere"
    config = as_config({**CONFIG, "model_type": request.param, "tie_word_embeddings": tied})
    return our_model(Namespace(random=True), config, torch.device("cpu"), torch.float32)


def counted(run) -> int:
    """PyTorch's count, which ignores the causal mask: each of T tokens attends to all T."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


def test_a_forward_pass_takes_the_operations_of_its_matrix_products(model):
    ids = torch.zeros((3, 7), dtype=torch.long)
    assert counted(lambda: model.model(ids)) == flops(model.config, 21, 3 * 7 * 7)
    assert counted(lambda: model(ids)) == flops(model.config, 21, 3 * 7 * 7, predicted=21)


@pytest.mark.parametrize("tuned", ["full", 1.0, 0.25])
def test_a_training_step_takes_the_operations_of_the_rows_that_it_tunes(model, tuned):
    mask = None
    if tuned != "full":
        modules = module_rows(model.config)
        mask = {name: np.arange(rows) < tuned * rows for name, rows in modules.items()}
    batch = [Pair([5] * 9, 4, "")] * 3
    step = training_step(model, mask, batch, lr=1e-3, batch_tokens=100)
    expected = flops(model.config, 3 * 8, 3 * 8 * 8, predicted=3 * 5, tuned=tuned)
    assert counted(step) == expected


def test_a_token_attends_to_itself_and_those_before_it():
    assert seen([3, 1]) == (1 + 2 + 3) + 1
    assert seen([5], start=2) == 3 + 4 + 5


def test_what_prompts_begin_with_is_counted_once(model):
    prompts = [[2, 3, 4, 5, 6], [2, 3, 7]]
    once = flops(model.config, 2 + (3 + 3) + (1 + 3), seen([2]) + seen([8, 6], 2), 2 * 4)
    assert operations_of_replies(model.config, prompts, new=4) == once
    apart = flops(model.config, 8 + 6, seen([8, 6]), 2 * 4)
    assert apart - once == flops(model.config, 2, seen([2]))
    # the first four tokens are read at once, then, one by one, the fifth and three new ones
    alone = [[2, 3, 4, 5, 6]]
    attended = 4 * 4 + sum([5, 6, 7, 8])
    assert counted(lambda: generate(model, alone, 4, set())) == flops(model.config, 8, attended, 4)


@pytest.mark.parametrize(
    "name, weights, neurons",
    [
        ("llama-3.1-8b", 8_030_261_248, 1_048_576),
        ("llama-3.1-70b", 70_553_706_496, 5_242_880),
        ("llama-3.2-1b", 1_235_814_400, 294_912),
        ("aya-23-8b", 8_028_033_024, 1_048_576),
        ("smollm2-135m", 134_515_008, 109_440),
    ],
)
def test_named_shapes_have_the_published_numbers_of_weights(name, weights, neurons):
    config = as_config(SHAPES[name])
    assert count_weights(config, None) == weights
    assert sum(module_rows(config).values()) == neurons


def run(capsys, *arguments: str) -> str:
    benchmark.main(list(arguments))
    return capsys.readouterr().out


def costs_of(capsys, *more: str) -> dict[str, list[str]]:
    """The cells of the table of costs, by row."""
    lines = run(capsys, "cost", "--markdown", *more).splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}


def test_cost_shows_hours_as_operations_over_the_rate(capsys):
    unit = costs_of(capsys)
    ten = costs_of(capsys, "--rate", "10", "20", "10")
    assert unit["weights"] == ["8,030,261,248", "8,028,033,024", "70,553,706,496"]
    weights = 32 * (2 * 4096 * 128 * (32 + 8) + 3 * 4096 * 14336)
    attend = 32 * 2 * 32 * 128 * 18.5
    by_hand = 90_000 * 36 * 2 * (weights + attend)
    assert float(unit["detect, GPU-hours"][0]) == pytest.approx(by_hand / 100e12 / 3600, abs=0.005)
    assert float(ten["detect, GPU-hours"][0]) == pytest.approx(by_hand / 10e12 / 3600, abs=0.005)
    hours = float(unit["train full, GPU-hours"][2])
    assert float(ten["train full, GPU-hours"][2]) == pytest.approx(5 * hours, abs=0.05)
    assert unit["responses of one language, disk"][0] == "21.0 GB"
    # 2 bytes of weights, 12 of state and 2 of gradient, for each of eight billion weights
    assert unit["train full, memory"][0] == "128.5 GB"


def test_the_default_rate_of_cost_is_called_not_a_measurement(capsys):
    assert "not a measurement" in run(capsys, "cost")
    assert "not a measurement" not in run(capsys, "cost", "--rate", "250")


@pytest.mark.parametrize(
    "command, more",
    [
        ("detect", ["--sentences", "4", "--mean-tokens", "8"]),
        ("train", ["--pairs", "1", "--tokens", "16"]),
        ("generate", ["--prompts", "2", "--new-tokens", "2", "--mean-tokens", "8"]),
    ],
)
def test_a_contender_is_timed_on_random_weights_of_a_named_shape(command, more, capsys):
    shape = "--shape smollm2-135m --random --layers 1 --dtype bfloat16 --calls 1 --device cpu"
    printed = run(capsys, command, *shape.split(), *more, "--contender", "minitox")
    figures = json.loads(printed)
    assert figures["tokens"] > 0 and figures["seconds"] > 0
    assert figures["operations"] > 1e6 * figures["tokens"]
    assert figures["memory"] > 2 * 30_000_000  # the embedding alone
    assert re.search("cpu, bfloat16", figures["what"])


def test_peers_that_are_not_installed_or_fail_are_named_and_left_out(monkeypatch, capsys):
    figures = {"seconds": 2.0, "memory": 1e9, "tokens": 10, "operations": 4e12, "what": "nothing"}

    def run_in_subprocess(arguments: list[str], label: str) -> dict:
        if "80%" in label:
            raise compare.LeftOut("out of memory")
        return {**figures, "seconds": 1.0} if "product" in label else figures

    monkeypatch.setattr(compare, "run_in_subprocess", run_in_subprocess)
    monkeypatch.setattr(compare, "find_spec", lambda name: None)
    printed = run(capsys, "train")
    assert "not installed, and left out: transformers, peft" in printed
    assert "left out minitox, 80% of the MLP's rows: out of memory" in printed
    assert re.search(r"minitox, 10% of the MLP's rows +5 +1.00 +2 +50% +1.00 GB +100%", printed)


def test_a_shape_without_random_is_refused(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["detect", "--shape", "llama-3.1-8b"])
    assert "--random" in capsys.readouterr().err


def test_fewer_layers_have_fewer_types_of_layers(tmp_path):
    raw = {**CONFIG, "num_hidden_layers": 3, "layer_types": ["full", "full", "sliding"]}
    write_json(tmp_path / "config.json", raw)
    args = Namespace(shape=None, model=tmp_path, layers=2)
    expected = raw | {"num_hidden_layers": 2, "layer_types": ["full", "full"]}
    assert raw_config(args) == expected
    assert raw_config(Namespace(shape=None, model=tmp_path, layers=None)) == raw


THEIRS = ["/other/detect.py", "/other/train.py", "/other/evaluate.py"]
OURS = ["detect.py", "train.py", "evaluate.py"]


@pytest.mark.parametrize(
    "more, one_round",
    [
        ([], ["detect.py", "train.py", "2 detect.py", "2 train.py"]),
        (["--baseline", "/other"], [*THEIRS, *OURS]),
    ],
)
def test_scale_runs_the_scripts_in_turn_and_adds_up_the_tokens_and_steps_that_they_print(
    more, one_round, monkeypatch, capsys
):
    ran = []
    stdout = "en: 1,200 tokens in 3 s\nzh: 34 tokens in 1 s\nwrote 9 tokens in out\n"

    def finished(command, **_):
        script = next(part for part in command if part.endswith(".py"))
        name = script.removeprefix(f"{benchmark.ROOT}/")
        if "--nproc-per-node" in command:
            name = f"{command[command.index('--nproc-per-node') + 1]} {name}"
        ran.append(name)
        return Namespace(returncode=0, stdout=stdout)

    monkeypatch.setattr(scale.subprocess, "run", finished)
    table = run(capsys, "scale", "--repeats", "2", *more)
    assert ran == one_round * 2
    scripts = {name.split("/")[-1].split()[-1] for name in one_round}
    assert table.count("1,234 tokens") == len(scripts)


# ---------- the command for an accelerator

FIGURES = {"seconds": 2.0, "memory": 1e9, "tokens": 10, "operations": 4e12, "what": "nothing"}


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A folder for results, without scripts that run and without peers."""
    monkeypatch.setattr(device, "toy_beside_cpu", lambda *_: {})
    monkeypatch.setattr(compare, "find_spec", lambda name: None)
    return tmp_path


def measured(out, monkeypatch, capsys, contender, *more: str) -> tuple[dict, str]:
    """device.json and what is printed, where `contender` has the figures."""
    monkeypatch.setattr(device, "run_in_subprocess", contender)
    printed = run(capsys, "device", "--device", "cpu", "--out", str(out), *more)
    return json.loads((out / "device.json").read_text("utf-8")), printed


def test_every_figure_is_on_disk_before_the_next_one_is_measured(out, monkeypatch, capsys):
    known = []

    def contender(arguments: list[str], label: str, seconds: float) -> dict:
        if (out / "device.json").exists():
            values = json.loads((out / "device.json").read_text("utf-8"))
            runs = [of for commands in values["shapes"].values() for of in commands.values()]
            known.append(sum(map(len, runs)))
        return FIGURES

    values, printed = measured(out, monkeypatch, capsys, contender)
    # the product first, then each contender finds the figures of those before it
    assert known == [0, *range(len(known) - 1)]
    assert values["shapes"].keys() == {"llama-3.1-8b", "smollm2-135m"}
    assert "llama-3.1-8b, detect, minitox: 5 tokens/s, 100% of peak, 1.00 GB" in printed
    table = (out / "device.md").read_text("utf-8")
    assert "| minitox, 10% of the MLP's rows | 5 | 1.00 | 2 | 100% | 1.00 GB | 100% |" in table


def test_what_fails_is_named_with_the_reason_and_the_rest_goes_on(out, monkeypatch, capsys):
    def contender(arguments: list[str], label: str, seconds: float) -> dict:
        if "llama-3.1-8b" in arguments and "train" in arguments:
            raise device.LeftOut("CUDA out of memory")
        return FIGURES

    values, printed = measured(out, monkeypatch, capsys, contender)
    assert values["shapes"]["llama-3.1-8b"]["train"] == {}
    assert values["shapes"]["smollm2-135m"]["train"]
    reason = "left out llama-3.1-8b, train, minitox, every weight: CUDA out of memory"
    assert reason in printed and "CUDA out of memory" in (out / "device.md").read_text("utf-8")


def test_nothing_is_started_when_no_time_is_left(out, monkeypatch, capsys):
    values, _ = measured(out, monkeypatch, capsys, None, "--minutes", "0.1")
    assert set(values["left out"].values()) == {"only CUDA counts them", "no time was left"}


def test_a_contender_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    script = tmp_path / "slow.py"
    script.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(compare, "SCRIPT", script)
    with pytest.raises(compare.LeftOut, match="it took more than 0 s"):
        compare.run_in_subprocess([], "minitox", seconds=0.2)


def test_neurons_weights_and_replies_that_differ_are_counted(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder, auroc, frozen, reply in ((ours, 0.51, "a", "Yes"), (theirs, 0.5, "b", "No")):
        for part in ("neurons", "models/full", "replies/full"):
            (folder / part).mkdir(parents=True)
        values = np.array([0.4, 0.6, 0.9, auroc], dtype=np.float32)
        both = {"gate_proj": values, "shuffled.gate_proj": 1 - values}
        save_file(both, folder / "neurons/en.safetensors")
        save_file({"w": 10 * values}, folder / "models/full/model.safetensors")
        write_json(folder / "models/full/run.json", {"proof": {"frozen_sha256": frozen}})
        rows = [{"response": "Hello"}, {"response": reply}]
        write_jsonl(folder / "replies/full/en.jsonl", rows)

    found = device.neurons_that_differ(ours / "neurons", theirs / "neurons")
    assert found["neurons"] == 4 and found["neurons that change side"] == 0.25
    assert found["largest difference of an AUROC"] == pytest.approx(0.01, rel=1e-5)
    found = device.weights_that_differ(ours / "models", theirs / "models")
    assert found["frozen weights have the same bits"] == {"full": False}
    length = np.linalg.norm([0.4, 0.6, 0.9, 0.51])
    assert found["distance of all weights"]["full"] == pytest.approx(0.01 / length, rel=1e-4)
    found = device.replies_that_differ(ours / "replies", theirs / "replies")
    assert found["equal replies"] == {"full": 0.5}


@pytest.mark.filterwarnings("ignore")
def test_waits_are_counted_with_the_lines_that_wait(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)

    def step():
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    found = waits.waits_of(step)
    assert found["waits"] == 1
    ((line, count),) = found["lines"].items()
    assert line.startswith("test_benchmark.py:") and count == waits.RUNS


def test_lora_has_as_many_weights_as_the_rows_that_it_is_compared_with():
    config = as_config(SHAPES["smollm2-135m"])
    D, M = config.hidden_size, config.intermediate_size
    rank = rank_of(config, 0.1)
    assert 3 * rank * (D + M) == pytest.approx(0.1 * 3 * D * M, rel=0.01)
