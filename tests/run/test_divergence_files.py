"""The divergence of each tuned model from the base model, on disk and in the report."""

import json
import math

import pytest
import torch
from test_evaluation import lines_after_each_batch, open_model
from tiny import error_of, write_jsonl, write_model

import evaluate
from minitox.errors import InputError
from minitox.evaluate.divergence import divergences
from minitox.files import read_jsonl, write_json
from minitox.lm.checkpoint import save_weights
from minitox.run import candidates
from minitox.run.divergence import compared, measure_divergence, plan_divergences, read_divergence
from minitox.run.evaluation import Asking

CPU = torch.device("cpu")
SENTENCES = ["the soup is warm", "green", "q" * 100, "the table is long and green"]


def open_tuned(tmp_path, name="full", **changes):
    """The base model, and another one of the same tokens."""
    write_model(tmp_path / "model")
    write_model(tmp_path / name, seed=1, **changes)
    tuned = candidates.open_one(name, tmp_path / name, CPU, torch.float32)
    return open_model(tmp_path / "model"), tuned


def rows_of(path) -> dict[int, dict]:
    return {row["id"]: row for _, row in read_jsonl(path)}


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_every_sentence_has_its_tokens_and_its_divergence(tmp_path, batch_tokens):
    base, tuned = open_tuned(tmp_path)
    asking = Asking(max_tokens=30, batch_tokens=batch_tokens)
    (plan,) = plan_divergences(base, tuned, {"en": SENTENCES}, tmp_path, asking)
    assert plan.path == tmp_path / "divergence" / "full" / "en.jsonl"
    assert lines_after_each_batch(plan)[-1] == 4
    rows = rows_of(plan.path)
    for i, text in enumerate(SENTENCES, start=1):
        ids = base.tokenizer.sentence(text, 31)[:31]
        (nats,) = divergences(base.model, tuned.model, [ids])
        assert rows[i]["nats"] == pytest.approx(nats, rel=1e-3) and nats > 0
        assert rows[i]["tokens"] == len(ids) - 1
    mean = sum(row["nats"] for row in rows.values()) / sum(row["tokens"] for row in rows.values())
    assert read_divergence(plan.path) == pytest.approx(mean)
    # a rerun has nothing to do
    assert lines_after_each_batch(plan) == []


def test_hidden_states_are_kept_from_one_measure_to_the_next(tmp_path):
    base, tuned = open_tuned(tmp_path)
    plan = plan_divergences(base, tuned, {"en": SENTENCES}, tmp_path, Asking(batch_tokens=60))[0]
    lines_after_each_batch(plan)
    whole = plan.path.read_bytes()
    kept = dict(base.kept)
    assert len(kept) == len(plan.batches)

    # 1) the states in memory are used, 2) without them the result is the same
    plan.path.unlink()
    base.kept = {batch: (hidden * 0, ids) for batch, (hidden, ids) in kept.items()}
    lines_after_each_batch(plan)
    assert plan.path.read_bytes() != whole
    plan.path.unlink()
    base.kept = {}
    lines_after_each_batch(plan)
    assert plan.path.read_bytes() == whole


def test_only_so_many_hidden_states_are_kept(tmp_path, monkeypatch):
    base, _ = open_tuned(tmp_path)
    first = base.states_before([[3, 4, 5]])[0]
    monkeypatch.setattr(candidates, "KEPT", 2 * first.numel())
    for token in (6, 7, 8):
        base.states_before([[3, 4, token]])
    assert list(base.kept) == [((3, 4, 5),), ((3, 4, 6),)]


@pytest.mark.parametrize("change", [{"vocab_size": 320}, {"bos_token_id": None}])
def test_models_of_other_tokens_are_not_compared(tmp_path, change):
    base, tuned = open_tuned(tmp_path, **change)
    with pytest.raises(InputError, match="full: its tokens are not those of the base model"):
        plan_divergences(base, tuned, {"en": SENTENCES}, tmp_path, Asking())


def test_draws_after_the_first_and_the_base_model_itself_are_left_out(tmp_path):
    base, tuned = open_tuned(tmp_path)
    draws = []
    for name in ("random-1", "random-2"):
        draws.append(candidates.open_one(name, tuned.folder, CPU, torch.float32))
    models = [base, tuned, *draws]
    assert [model.name for model in compared(base, models)] == ["full", "random-1"]
    assert compared(None, models) == []


@pytest.mark.parametrize("nats", [-1.0, math.nan])
def test_a_file_of_what_cannot_be_a_divergence_is_refused(tmp_path, nats):
    path = tmp_path / "en.jsonl"
    path.write_text(json.dumps({"id": 1, "tokens": 2, "nats": nats}))
    with pytest.raises(InputError, match="en.jsonl"):
        read_divergence(path)


# ---------- in evaluate.py


@pytest.fixture
def home(tmp_path):
    """The arguments of evaluate.py for two models: `full` differs, `same` is the base model."""
    data = tmp_path / "data"
    for name in ("full", "same"):
        write_model(tmp_path / "out" / "models" / name, seed=int(name == "full"))
    write_model(tmp_path / "model", seed=0)
    sentences = [{"text": text, "toxicity": 0.1} for text in SENTENCES]
    write_jsonl(data / "detection" / "en.jsonl", sentences)
    write_jsonl(data / "prompts" / "en.jsonl", [{"prompt": "soup"}])
    return [
        *("--model", str(tmp_path / "model"), "--data", str(data), "--out", str(tmp_path / "out")),
        *("--languages", "en", "--max-new-tokens", "2", "--no-hatecheck"),
    ]


@pytest.fixture(autouse=True)
def length(monkeypatch):
    """A scorer that needs no file."""
    from test_evaluate import Length

    monkeypatch.setattr(evaluate, "open_scorers", lambda *_, **__: [Length()])


def report_of(home) -> str:
    return (evaluate.Path(home[5]) / "report.md").read_text("utf-8")


def test_the_report_has_the_divergence_of_every_tuned_model(home):
    evaluate.main(home)
    section = report_of(home).split("## KL divergence from the base model, nats per token")[1]
    cells = [row.split("|")[1:-1] for row in section.splitlines() if row.startswith("| ")]
    names, _, english, average = [[cell.strip() for cell in row] for row in cells[:4]]
    assert names == ["", "full", "same"]
    assert english[0] == "en" and average[0] == "average" and english[1:] == average[1:]
    assert float(english[1]) > 0.001 and english[2] == "0.000"


def test_results_made_before_stay_and_only_the_divergence_is_added(home, tmp_path):
    evaluate.main(home)
    folder = tmp_path / "out"
    first = {}
    for path in folder.rglob("*.jsonl"):
        first[path] = path.read_bytes()
    for path in (folder / "divergence").rglob("*"):
        if path.is_file():
            path.unlink()
    evaluate.main(home)
    assert {path: path.read_bytes() for path in first} == first


def test_without_perplexity_there_is_no_divergence(home, tmp_path):
    evaluate.main([*home, "--perplexity", "0"])
    assert not (tmp_path / "out" / "divergence").exists()
    assert "KL divergence" not in report_of(home)


def test_a_divergence_from_another_base_model_is_not_taken_over(home, tmp_path, capsys):
    evaluate.main([*home, "--models", "full"])
    write_model(tmp_path / "other", seed=2)
    message = error_of(
        evaluate.main, [*home, "--models", "full", "--model", str(tmp_path / "other")], capsys
    )
    assert "divergence/full contains results of another run: its base was different" in message


def test_a_model_of_other_tokens_is_reported_without_it_and_with_the_reason(
    home, tmp_path, capsys, monkeypatch
):
    asked = []

    def measured(base, candidate, *rest):
        asked.append(candidate)
        return measure_divergence(base, candidate, *rest)

    monkeypatch.setattr(evaluate, "measure_divergence", measured)
    folder = tmp_path / "out" / "models" / "full"
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | {"bos_token_id": None})
    evaluate.main(home)
    reason = "KL divergence of full: " + str(folder) + ": its tokens are not those of the base"
    assert reason in capsys.readouterr().out
    report = report_of(home)
    assert "its tokens are not those of the base model" in report.replace("\\", "")
    section = report.split("## KL divergence")[1].split("\n## ")[0]
    assert "same" in section and "full" not in section
    # the hidden states of a tuned model are not kept, whether it was compared or not
    assert {model.name: bool(model.kept) for model in asked} == {
        "base": True,
        "full": False,
        "same": False,
    }


def test_a_base_model_that_cannot_be_read_leaves_the_others_without_it(home, tmp_path):
    model = write_model(tmp_path / "model", seed=0)
    model.model.norm.weight.data *= torch.inf
    save_weights(model.state_dict(), tmp_path / "model", shard_bytes=10**9)
    evaluate.main([*home, "--models", "full"])
    report = report_of(home)
    assert "## KL divergence" not in report
    assert "KL divergence of full: " in report
