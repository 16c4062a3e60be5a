"""Shared by the tests of strategies and plans: AUROCs and toxic neurons of three languages."""

import pytest
from small_masks import LANGUAGES
from tiny import write_neurons

from minitox.train.plans import Choice


@pytest.fixture
def aurocs(folder, tmp_path):
    aurocs = {}
    for seed, language in enumerate(LANGUAGES):
        path = tmp_path / f"{language}.safetensors"
        aurocs[language] = write_neurons(path, folder, seed)
    return aurocs


@pytest.fixture
def masks(aurocs):
    return {language: Choice().toxic_neurons(auroc) for language, auroc in aurocs.items()}
