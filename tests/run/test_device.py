"""The device and the dtype that a run computes in."""

from argparse import Namespace

import pytest
import torch
from tiny import write_model

from minitox.errors import InputError
from minitox.files import write_json
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


@pytest.fixture
def unit(monkeypatch) -> list[str]:
    """What the processor multiplies bfloat16 with: the last item."""
    units = [""]
    monkeypatch.setattr(device, "bfloat16_unit", lambda: units[-1])
    return units


@pytest.mark.parametrize(
    "name, expected",
    [("auto", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_a_cpu_computes_in_float32_unless_another_dtype_is_named(config, name, expected, unit):
    assert open_device("cpu", name, config) == (CPU, expected)


def test_a_cpu_with_such_a_unit_computes_in_the_models_own_bfloat16(tmp_path, config, unit):
    unit.append("AMX")
    assert open_device("cpu", "auto", config) == (CPU, torch.bfloat16)
    assert "cpu bfloat16 (AMX)" in describe(config, CPU, torch.bfloat16)
    for dtype in ("float32", "float16"):
        write_model(tmp_path / dtype, torch_dtype=dtype)
        other = read_config(tmp_path / dtype)
        assert open_device("cpu", "auto", other) == (CPU, torch.float32)


def test_the_flags_of_the_processor_say_what_it_multiplies_bfloat16_with(tmp_path, monkeypatch):
    flags = tmp_path / "cpuinfo"
    monkeypatch.setattr(device, "Path", lambda name: flags)
    expected = {
        None: "",
        "flags : avx512f avx512_vnni": "",
        "flags : avx512f avx512_bf16": "AVX-512",
        "flags : avx512_bf16 amx_bf16 amx_tile": "AMX",
    }
    for text, unit in expected.items():
        if text:
            flags.write_text(text)
        device.bfloat16_unit.cache_clear()
        assert device.bfloat16_unit() == unit
    device.bfloat16_unit.cache_clear()


def test_a_resumed_run_keeps_the_dtype_that_was_recorded(tmp_path, config, unit):
    out = tmp_path / "out"
    assert open_device("cpu", "auto", config, out)[1] == torch.float32

    # another device, a broken file and values that nobody wrote are not it
    write_json(out / "a" / "run.json", record("cuda", "torch.float16"))
    write_json(out / "b" / "run.json", {"settings": 5})
    (out / "b" / "run.json").write_text("{")
    write_json(out / "c" / "run.json", record("cpu", "torch.load"))
    assert open_device("cpu", "auto", config, out)[1] == torch.float32

    write_json(out / "d" / "run.json", record("cpu", "torch.bfloat16"))
    assert open_device("cpu", "auto", config, out)[1] == torch.bfloat16
    assert open_device("cpu", "float32", config, out)[1] == torch.float32


def record(device: str, dtype: str) -> dict:
    return {"settings": {"device": device, "dtype": dtype}}


def test_another_device_computes_in_the_models_own_dtype(config, empty):
    opened, dtype = open_device("mps", "auto", config)
    assert opened.type == "mps"
    assert dtype == torch.bfloat16
    assert open_device("mps", "float32", config)[1] == torch.float32


@pytest.mark.parametrize("library", ["glibc", "without mallopt", "Windows"])
def test_freed_memory_is_kept_where_the_c_library_can(library, config, monkeypatch):
    calls = []

    def load(name):
        if library == "Windows":
            raise TypeError("LoadLibrary() argument 1 must be str, not None")
        return (
            Namespace(mallopt=lambda *call: calls.append(call)) if library == "glibc" else object()
        )

    monkeypatch.setattr(device.ctypes, "CDLL", load)
    device.keep_freed_memory.cache_clear()
    open_device("cpu", "auto", config)
    open_device("cpu", "auto", config)
    device.keep_freed_memory.cache_clear()
    kept = [(device.MMAP_THRESHOLD, 2**25), (device.TRIM_THRESHOLD, 2**30)]
    assert calls == (kept if library == "glibc" else [])


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


def test_a_run_is_described_in_a_line(config, unit):
    assert describe(config, CPU, torch.bfloat16) == "llama, 2 layers; cpu bfloat16"


def test_results_depend_on_weights_device_and_dtype():
    assert identity("a1", torch.device("cuda:3"), torch.bfloat16) == {
        "model": "a1",
        "device": "cuda",  # whichever of several
        "dtype": "torch.bfloat16",
    }
