"""LoRA of peft on the toy: the same pairs, loss and order as train.py, and a place in the table."""

import sys
from pathlib import Path

import pytest
import torch

import train
from minitox.files import read_json
from minitox.lm import checkpoint

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

import evidence  # noqa: E402
import lora  # noqa: E402

pytest.importorskip("peft", reason="peft is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

TOY = TESTS.parent / "data" / "toy"
PAIRS = ["--pairs", "40", "--languages", "de,en"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The folder of a model that is tuned by LoRA."""
    out = tmp_path_factory.mktemp("lora") / "lora"
    lora.main([str(out), "--share", "0.06", "--lr", "1e-3", "1e-2", *PAIRS])
    return out


def test_adapters_that_change_nothing_have_the_losses_of_train_py(tuned, tmp_path):
    train.main(["--out", str(tmp_path), "--strategy", "full", *PAIRS])
    ours = read_json(tmp_path / "models" / "full" / "run.json")
    theirs = read_json(tuned / "run.json")
    for part in ("validation", "test"):
        for language in ("de", "en"):
            before = [of[part][language]["before"] for of in (ours, theirs)]
            assert before[0] == pytest.approx(before[1], abs=1e-3)
            assert theirs[part][language]["after"] < before[1]
    # the first step is made with the base model: the batch is the same
    losses = [of["stages"][0]["losses"] for of in (ours, theirs)]
    assert losses[0][0] == pytest.approx(losses[1][0], abs=1e-3)
    assert len(losses[0]) == len(losses[1])


def test_the_rate_of_lowest_validation_loss_is_merged(tuned):
    record = read_json(tuned / "run.json")
    means = {rate: sum(losses.values()) for rate, losses in record["rates"].items()}
    best = min(means, key=means.get)
    assert record["settings"]["lr"] == float(best)
    for language, loss in record["rates"][best].items():
        # of the adapters, and of the weights that they were merged into
        assert loss == pytest.approx(record["validation"][language]["after"], abs=1e-3)


@torch.inference_mode()
def test_only_the_mlp_is_changed_and_transformers_opens_the_folder(tuned):
    base = checkpoint.load(TOY / "model").state_dict()
    model = checkpoint.load(tuned)
    changed = {name for name, weight in model.state_dict().items() if weight.ne(base[name]).any()}
    assert changed == {name for name in base if ".mlp." in name}
    ids = torch.arange(20, 40)[None]
    peer = transformers.AutoModelForCausalLM.from_pretrained(tuned).eval()
    assert (peer(ids).logits - model(ids)).abs().max() <= 2e-4


def test_rates_that_were_tried_are_not_tried_again(tuned, tmp_path, monkeypatch, capsys):
    arguments = ["--share", "0.06", "--lr", "1e-3", "1e-2", *PAIRS]
    rates = []
    losses_of_steps = lora.losses_of_steps

    def interrupted(peft_model, peer, examples, hyper, procedure):
        rates.append(hyper.lr)
        if len(rates) == 2:
            raise KeyboardInterrupt
        return losses_of_steps(peft_model, peer, examples, hyper, procedure)

    monkeypatch.setattr(lora, "losses_of_steps", interrupted)
    out = tmp_path / "lora"
    with pytest.raises(KeyboardInterrupt):
        lora.main([str(out), *arguments])
    assert not out.exists()
    lora.main([str(out), *arguments])
    assert rates == [1e-3, 1e-2, 1e-2]
    weights = [(folder / "model.safetensors").read_bytes() for folder in (out, tuned)]
    assert weights[0] == weights[1]
    # and what is there is not made again
    lora.main([str(out), *arguments])
    assert len(rates) == 3 and f"{out} is there" in capsys.readouterr().out


def test_it_has_a_row_beside_the_neurons_and_a_difference_from_them(tmp_path, capfd):
    arguments = [str(tmp_path / "results"), "--out", str(tmp_path / "out"), "--shares", "0.02"]
    arguments += ["--pairs", "40", "--prompts", "2", "--lora-lr", "1e-2"]
    evidence.main([*arguments, "--strategy", "multilingual", "lora"])
    result = read_json(tmp_path / "results" / "0.02-0.json")
    ours, theirs = (result["models"][name] for name in ("multilingual", "lora"))
    assert theirs["strategy"] == "lora" and theirs["draw"] is None and theirs["lr"] == 0.01
    assert theirs["weights"] == pytest.approx(ours["weights"], rel=0.05)
    value, low, high = result["differences"]["lora"]["difference"]
    assert value == pytest.approx(theirs["toxicity"][0] - ours["toxicity"][0])
    assert low < value < high
    assert "seed 0: lora differs from multilingual by" in capfd.readouterr().out
