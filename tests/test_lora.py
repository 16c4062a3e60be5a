"""tests/lora.py, as far as it goes without peft; tests/real/test_lora.py has the rest."""

import sys

import lora
import pytest
from tiny import error_of, write_jsonl

from minitox.errors import InputError
from minitox.lm.config import read_config
from minitox.train.strategies import count_weights

TRIAL = {"losses": [2.0], "validation": {"de": 1.0, "en": 2.0, "fr": None}, "failed": ""}


def test_the_rank_gives_adapters_the_share_of_the_weights_that_is_nearest(folder):
    config = read_config(folder)
    D, M = config.hidden_size, config.intermediate_size
    of_rank_1 = config.num_hidden_layers * 3 * (D + M)
    assert lora.weights_of_rank_1(config) == of_rank_1
    total = count_weights(config, None)
    for share in (0.05, 0.1, 0.3):
        rank = lora.rank_of(config, share)
        assert abs(rank * of_rank_1 - share * total) <= of_rank_1 / 2
    printed = lora.about(config, rank, share)
    assert f"rank {rank}: {rank * of_rank_1:,} weights" in printed
    assert f"of all {total:,}; --share 30.000% is {round(share * total):,}" in printed


def test_adapters_have_at_least_rank_1_and_a_lower_rank_than_the_matrices(folder):
    config = read_config(folder)
    assert lora.rank_of(config, 1e-9) == 1
    with pytest.raises(InputError, match="--share 1 needs adapters of rank .* have rank 32"):
        lora.rank_of(config, 1.0)


def test_the_rate_of_lowest_validation_loss_is_chosen():
    better = TRIAL | {"validation": {"de": 1.0, "en": 1.5}}
    broken = TRIAL | {"validation": {}, "failed": "step 1 of 9: the loss is nan"}
    assert lora.best_of({1e-4: TRIAL, 3e-4: better, 1e-3: better, 3e-3: broken}) == 3e-4
    # one rate needs no validation pairs
    assert lora.best_of({1e-4: TRIAL | {"validation": {}}}) == 1e-4
    with pytest.raises(InputError, match="every learning rate: 0.003: step 1 of 9"):
        lora.best_of({3e-3: broken})


def test_a_rate_at_the_end_of_those_tried_is_no_optimum():
    assert lora.at_the_end(3e-4, lora.RATES) == lora.at_the_end(3e-4, [3e-4]) == ""
    assert "0.003 is at the end of the rates: try a higher one" in lora.at_the_end(3e-3, lora.RATES)
    assert "try a lower one" in lora.at_the_end(1e-4, lora.RATES)


def test_without_peft_it_says_so_in_one_line(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "peft", None)
    out = tmp_path / "lora"
    error = error_of(lora.main, [str(out), "--model", str(folder)], capsys)
    assert "LoRA needs the packages peft and transformers" in error
    assert error.count("\n") == 1 and not out.exists()


def test_several_rates_need_validation_pairs(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lora, "check_packages", lambda: None)
    write_jsonl(tmp_path / "instructions" / "en.jsonl", [{"prompt": "soup", "response": "warm"}])
    arguments = [str(tmp_path / "lora"), "--model", str(folder), "--data", str(tmp_path)]
    arguments += ["--languages", "en", "--unchecked-template"]
    error = error_of(lora.main, arguments, capsys)
    assert "no validation pairs can choose among several rates" in error
