"""These tests fork processes, limit their memory and stop them by signals, as Windows cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import worlds

collect_ignore_glob = [] if hasattr(os, "fork") else ["*"]
FUZZ = Path(__file__).with_name("fuzz.py")


def pytest_collection_modifyitems(items):
    """Run the tests that wait for the fuzzer last, because it runs beside all others."""
    items.sort(key=waits)


def waits(item) -> bool:
    return "fuzzed" in item.fixturenames


@pytest.fixture(scope="session", autouse=True)
def fuzzer(request):
    """The fuzzer in a process of its own, if a test waits for it."""
    if not any(map(waits, request.session.items)):
        yield None
        return
    command = [sys.executable, FUZZ, "--mutants", "8", "--seed", "3"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        yield process
        process.kill()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The current folder, with a small model, data and a scorer for the scripts."""
    for part in (*worlds.BASE, worlds.scorer):
        part(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tuning_home(home):
    """The same with neuron files."""
    worlds.neurons(home)
    return home
