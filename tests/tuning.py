"""Small pairs, random sets of neurons and short settings, for the tests of tuning."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from minitox import neurons
from minitox.files import read_json
from minitox.lm.model import LanguageModel
from minitox.neurons import NeuronMask
from minitox.run.training import Procedure
from minitox.train.pairs import Pair, Pairs
from minitox.train.plans import Plan
from minitox.train.strategies import Stage
from minitox.train.tune import Hyperparameters

HYPER = Hyperparameters(
    epochs=2,
    batch_size=4,
    lr=1e-2,
    warmup=0.1,
    schedule="cosine",
    weight_decay=0.1,
    max_grad_norm=1.0,
    seed=0,
)
PROCEDURE = Procedure(batch_tokens=1_000, checkpoint_steps=2)


def some_pairs(count: int = 10, seed: int = 0) -> list[Pair]:
    """Pairs of random tokens and different lengths."""
    rng = np.random.default_rng(seed)
    pairs = []
    for number, length in enumerate(rng.integers(6, 20, count), start=1):
        ids = [0, *rng.integers(4, 300, length).tolist(), 1]
        pairs.append(Pair(ids, start=int(rng.integers(2, length)), where=f"en.jsonl:{number}"))
    return pairs


def with_rejected_replies(pairs: list[Pair], seed: int = 0) -> list[Pair]:
    """The pairs with rejected replies of random tokens and lengths."""
    rng = np.random.default_rng([seed, 1])
    preferences = []
    for pair in pairs:
        ids = [*pair.prompt_ids, *rng.integers(4, 300, rng.integers(1, 9)).tolist(), 1]
        preferences.append(replace(pair, rejected=Pair(ids, pair.start, pair.where)))
    return preferences


def preferences_in(*languages: str) -> dict[str, Pairs]:
    """`pairs_in`, with rejected replies."""
    preferences = {}
    for language, pairs in pairs_in(*languages).items():
        parts = {"train": pairs.train} | pairs.aside
        parts = {part: with_rejected_replies(of_part) for part, of_part in parts.items()}
        preferences[language] = replace(pairs, **parts)
    return preferences


def pairs_in(*languages: str) -> dict[str, Pairs]:
    """Ten pairs to train on, three for validation and two for the test in each language."""
    pairs = {}
    for number, language in enumerate(languages):
        train = some_pairs(seed=number)
        validation = some_pairs(3, seed=100 + number)
        test = some_pairs(2, seed=200 + number)
        pairs[language] = Pairs(train, validation, test, dropped=0, dropped_tokens=0, data_hash="")
    return pairs


def random_mask(model: LanguageModel, share: float = 0.4, seed: int = 0) -> NeuronMask:
    """About this share of the neurons, at random."""
    rng = np.random.default_rng(seed)
    rows = neurons.module_rows(model.config)
    return {name: rng.random(count) < share for name, count in rows.items()}


def one_stage(mask: NeuronMask | None) -> Plan:
    """A plan that tunes these neurons on English pairs."""
    return Plan("one-stage", [Stage("all", mask, ["en"])])


def weights_of(model: LanguageModel) -> dict[str, torch.Tensor]:
    """A copy of all weights."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def loss_by_definition(model: LanguageModel, pair: Pair) -> torch.Tensor:  # -> ()
    """Minus the log-probability of each reply token and of the end, of one pair alone."""
    log_p = F.log_softmax(model(torch.tensor([pair.ids]))[0], dim=-1)  # (T, V)
    loss = 0
    for position in range(pair.start, len(pair.ids)):
        loss = loss - log_p[position - 1, pair.ids[position]]
    return loss


def assert_same_models(ours: Path, theirs: Path, names: list[str], base: Path) -> None:
    """Frozen rows are equal to the bit, tuned rows to a millionth of their length."""
    before = load_file(base / "model.safetensors")
    for name in names:
        proofs = [read_json(folder / name / "run.json")["proof"] for folder in (ours, theirs)]
        # a step of a weight may round to nothing in one of them
        changed = [proof.pop("changed") for proof in proofs]
        assert changed[0] == pytest.approx(changed[1], abs=1e-5)
        assert proofs[0] == proofs[1]
        our_weights = load_file(ours / name / "model.safetensors")
        their_weights = load_file(theirs / name / "model.safetensors")
        for weight in before:
            # a vector counts as one row
            shape = (1, -1) if before[weight].dim() == 1 else before[weight].shape
            rows = our_weights[weight].reshape(shape)
            difference = (rows - their_weights[weight].reshape(shape)).norm(dim=1)
            frozen = (rows == before[weight].reshape(shape)).all(dim=1)
            assert not difference[frozen].any(), (name, weight)
            relative = difference / rows.norm(dim=1)
            assert (difference <= 1e-6 * rows.norm(dim=1)).all(), (name, weight, relative.max())
