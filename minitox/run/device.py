"""The device and the dtype that a run computes in."""

import ctypes
import os
import re
from functools import cache
from pathlib import Path

import torch

from minitox.errors import InputError
from minitox.files import read_json
from minitox.lm.config import Config
from minitox.run import distributed

DEVICES = re.compile("auto|cpu|mps|cuda(:[0-9]{1,3})?")  # torch has more, which lack operations
# flags of processors that multiply bfloat16 matrices faster than float32 ones: detection takes 2.4
# times as long in float32 with AMX, and twice as long with AVX-512
BFLOAT16_UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512"}
SMALL = 256  # hidden_size up to which a second thread costs more time than it saves

# parameters of glibc's mallopt
TRIM_THRESHOLD = -1  # bytes at the end of the heap that are kept when they are free
MMAP_THRESHOLD = -3  # bytes from which an allocation is not part of the heap; at most 32 MB


def open_device(
    name: str,
    dtype: str,
    config: Config,
    earlier: Path | None = None,  # a folder of results; "auto" keeps their dtype
) -> tuple[torch.device, torch.dtype]:
    """The device and dtype that --device and --dtype name, ready to compute on.

    Sets the number of CPU threads, and gives each process a GPU of its own. InputError if there is
    no such device.
    """
    device = find_device(name)
    if device.type == "cpu":
        keep_freed_memory()
    if device.type == "cpu" and config.hidden_size <= SMALL:
        torch.set_num_threads(1)
    elif distributed.WORLD > 1:  # torchrun sets one thread for each process
        torch.set_num_threads(max(1, os.cpu_count() // distributed.LOCAL_WORLD))
    if device.index is not None and device.type == "cuda":
        torch.cuda.set_device(device)
    if dtype == "auto":
        dtype = recorded_dtype(earlier, device) or fastest_dtype(device, config)
    return device, getattr(torch, dtype)


@cache
def keep_freed_memory():
    """Keep up to 1 GB that is freed, so that the kernel need not clear it for its next use.

    That took a few percent of the time of detection on a quiet machine, and up to a third where
    other processes were at work. Only glibc has this setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # TypeError: Windows needs the name of a library
        return
    mallopt(MMAP_THRESHOLD, 2**25)
    mallopt(TRIM_THRESHOLD, 2**30)


def fastest_dtype(device: torch.device, config: Config) -> str:
    """The model's own dtype, but float32 on a CPU that has no instructions for the other."""
    if device.type == "cpu" and not (config.dtype == "bfloat16" and bfloat16_unit()):
        return "float32"
    return config.dtype


@cache
def bfloat16_unit() -> str:
    """What the processor multiplies bfloat16 matrices with, as Linux says; "" if with nothing."""
    path = Path("/proc/cpuinfo")
    flags = path.read_text("utf-8", errors="replace").split() if path.exists() else []
    return next((name for flag, name in BFLOAT16_UNITS.items() if flag in flags), "")


def recorded_dtype(folder: Path | None, device: torch.device) -> str | None:
    """The dtype of the results in a folder that were made on such a device; None without any."""
    for path in sorted(folder.rglob("run.json")) if folder else []:
        try:
            settings = read_json(path)["settings"]
            name = settings["dtype"].removeprefix("torch.")
            if settings["device"] == device.type and isinstance(getattr(torch, name), torch.dtype):
                return name
        except (InputError, KeyError, TypeError, AttributeError):
            continue  # whoever reads the result says what is wrong with it
    return None


def find_device(name: str) -> torch.device:
    """The device of this name, or the fastest for "auto"; InputError if it cannot be used."""
    if not DEVICES.fullmatch(name):
        raise InputError(f"--device {name}: not one of cpu, cuda, cuda:N, mps and auto")
    if name == "auto":
        name = fastest()
    if name.startswith("cuda") and distributed.WORLD > 1:
        if name != "cuda":
            raise InputError(
                f"--device {name}: each process uses a GPU of its own; leave out the number"
            )
        name = f"cuda:{distributed.LOCAL_RANK}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device


def fastest() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def describe(config: Config, device, dtype, checked: bool = True) -> str:
    """The kind of the model, and what it runs on, as the scripts print them.

    `checked`: whether the chat format was compared with the model's own template.
    """
    name = str(dtype).removeprefix("torch.")
    if device.type == "cpu" and dtype == torch.bfloat16 and bfloat16_unit():
        name += f" ({bfloat16_unit()})"
    about = f"{config.model_type}, {config.num_hidden_layers} layers; {device.type} {name}"
    return about if checked else f"{about}; chat template not checked"


def identity(fingerprint: str, device, dtype) -> dict[str, str]:
    """What every result depends on besides the settings."""
    return {"model": fingerprint, "device": device.type, "dtype": str(dtype)}
