"""These tests fork processes, limit their memory and stop them by signals, as Windows cannot."""

import os

import pytest
import worlds

collect_ignore_glob = [] if hasattr(os, "fork") else ["*"]


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
