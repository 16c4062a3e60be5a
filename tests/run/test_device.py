"""The device and the dtype that a run computes in."""

import pytest
import torch
from tiny import write_model

from minitox.errors import InputError
from minitox.lm.config import Config, read_config
from minitox.run import device, distributed
from minitox.run.device import describe, find_device, identity, open_device

CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path) -> Config:
    write_model(tmp_path, torch_dtype="bfloat16")
    return read_config(tmp_path)


@pytest.fixture
def threads(monkeypatch) -> list[int]:
    """The numbers of threads that torch is set to."""
    numbers = []
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    return numbers


@pytest.fixture
def empty(monkeypatch):
    """As if every device existed."""
    monkeypatch.setattr(torch, "empty", lambda size, device: None)


@pytest.mark.parametrize(
    "name, expected",
    [("auto", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_a_cpu_computes_in_float32_unless_another_dtype_is_named(config, name, expected):
    assert open_device("cpu", name, config) == (CPU, expected)


def test_another_device_computes_in_the_models_own_dtype(config, empty):
    opened, dtype = open_device("mps", "auto", config)
    assert opened.type == "mps"
    assert dtype == torch.bfloat16
    assert open_device("mps", "float32", config)[1] == torch.float32


def test_a_small_model_uses_one_thread(config, threads):
    open_device("cpu", "auto", config)
    assert threads == [1]


def test_a_large_model_uses_the_threads_that_torch_chooses(tmp_path, threads):
    write_model(tmp_path, hidden_size=264, num_attention_heads=4, num_key_value_heads=2)
    open_device("cpu", "auto", read_config(tmp_path))
    assert threads == []


def test_several_processes_share_the_threads_of_a_machine(tmp_path, threads, monkeypatch):
    """torchrun would allow one to each."""
    write_model(tmp_path, hidden_size=264, num_attention_heads=4, num_key_value_heads=2)
    monkeypatch.setattr(distributed, "WORLD", 8)
    monkeypatch.setattr(distributed, "LOCAL_WORLD", 4)
    monkeypatch.setattr(device.os, "cpu_count", lambda: 30)
    open_device("cpu", "auto", read_config(tmp_path))
    assert threads == [7]


@pytest.mark.parametrize(
    "cuda, mps, expected",
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_the_fastest_device_available(monkeypatch, empty, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert find_device("auto").type == expected


@pytest.mark.parametrize(
    "name",
    [
        "gpu9",
        "cuda:99",
        "cuda:9999",
        "xpu",
        "meta",
        "privateuseone",
        "cpu:0",
        "cuda:-1",
        "",
    ],
)
def test_a_device_that_cannot_be_used_is_named_in_one_line(name):
    with pytest.raises(InputError, match=f"^--device {name}: ") as error:
        find_device(name)
    assert "\n" not in str(error.value)


def test_each_process_uses_a_gpu_of_its_own(monkeypatch, empty):
    monkeypatch.setattr(distributed, "WORLD", 4)
    monkeypatch.setattr(distributed, "LOCAL_RANK", 3)
    assert find_device("cuda") == torch.device("cuda:3")
    assert find_device("cpu") == CPU
    with pytest.raises(InputError, match="--device cuda:1: each process uses a GPU of its own"):
        find_device("cuda:1")


def test_a_run_is_described_in_a_line(config):
    assert describe(config, CPU, torch.bfloat16) == "llama, 2 layers; cpu bfloat16"


def test_results_depend_on_weights_device_and_dtype():
    assert identity("a1", torch.device("cuda:3"), torch.bfloat16) == {
        "model": "a1",
        "device": "cuda",  # whichever of several
        "dtype": "torch.bfloat16",
    }
