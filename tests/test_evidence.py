"""tests/evidence.py makes what is missing, and shows what is there."""

import json
import sys

import evidence
import pytest

from minitox.errors import InputError
from minitox.evaluate import metrics
from minitox.files import write_json

# of a run with the default options
MADE_WITH = evidence.made_with_of(evidence.parse_arguments(["unused"]))


def model(strategy: str, toxicity: float, draw: int | None = None, weights: float = 0.06) -> dict:
    return {
        "strategy": strategy,
        "draw": draw,
        "lr": 0.016,
        "neurons": 0.136,
        "weights": weights,
        "test_loss": 0.5,
        "test_pairs": 36,
        "toxicity": [toxicity, toxicity - 0.01, toxicity + 0.01],
        "clean": 0.75,
    }


def result(share: str, seed: int, toxic: float, random: list[float], verdict: str) -> dict:
    """A result file: one toxic model, and draws of random neurons."""
    models = {"multilingual": model("multilingual", toxic)}
    for draw, toxicity in enumerate(random, 1):
        models[f"random-{draw}"] = model("random", toxicity, draw)
    difference = toxic - sum(random) / len(random)
    return {
        "share": share,
        "seed": seed,
        "made_with": MADE_WITH,
        "settings": {"scorer": "surrogate-1"},
        "base": {"toxicity": [0.7, 0.69, 0.71], "clean": 0.1},
        "models": models,
        "verdicts": {"multilingual": {"verdict": verdict, "difference": [difference] * 3}},
    }


@pytest.fixture
def folder(tmp_path):
    write_json(tmp_path / "0.02-0.json", result("0.02", 0, 0.4, [0.5] * 4 + [0.6], "better"))
    write_json(tmp_path / "0.02-1.json", result("0.02", 1, 0.5, [0.5] * 5, "no worse"))
    write_json(tmp_path / "paper-0.json", result("paper", 0, 0.3, [0.3] * 5, "no worse"))
    return tmp_path


def test_the_table_has_the_means_over_seeds_and_draws_and_counts_the_verdicts(folder, capsys):
    evidence.main([str(folder), "--show"])
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    first = ["0.02", "multilingual", "13.6%", "6.0%", "0.016", "-0.250"]
    first += ["-0.060 (-0.120..+0.000)", "1 better, 1 no worse", "75.0%", "0.500"]
    assert rows[1] == first
    # the draws of a seed are averaged before the seeds are
    assert rows[2][1] == "random, 10 draws" and rows[2][5] == "-0.190"
    # the paper's rule is last, as the largest share
    assert [row[0] for row in rows[1:5]] == ["0.02", "0.02", "paper", "paper"]


def test_a_mean_share_is_known_if_it_is_known_in_every_language():
    assert evidence.mean_share({"de": [0.1, 0.0, 0.2], "en": [0.3, 0.1, 0.5]}) == 0.2
    assert evidence.mean_share({"de": [0.1, 0.0, 0.2], "en": [None, None, None]}) is None
    assert evidence.mean_share({}) is None


def test_a_difference_has_the_range_over_the_seeds_or_the_interval_of_the_only_one():
    one = {"difference": [-0.01, -0.03, 0.02]}
    another = {"difference": [0.03, 0.01, 0.05]}
    assert evidence.differences([one]) == "-0.010 (-0.030..+0.020)"
    assert evidence.differences([one, another]) == "+0.010 (-0.010..+0.030)"
    assert evidence.differences([]) == "-"


def test_the_figure_shows_where_one_more_draw_is_expected(folder):
    results = evidence.read_all(folder)
    row = next(row for row in evidence.rows_of(results) if row.strategy == "random")
    ends = evidence.around(row, results)
    _, low, high = metrics.prediction_interval([0.5] * 4 + [0.6])
    assert list(ends.values()) == pytest.approx([(low + 0.5) / 2 - 0.7, (high + 0.5) / 2 - 0.7])
    drawn = evidence.figure(results)
    assert drawn.startswith("<svg") and "<style>" in drawn
    assert "multilingual, 6.0%: share of the weights that is tuned (log10) -1.222" in drawn
    assert "change from base -0.250<" in drawn
    # a model without draws has no such interval
    toxic = next(row for row in evidence.rows_of(results) if row.strategy == "multilingual")
    assert evidence.around(toxic, results) == {}


def test_only_what_is_missing_is_made(folder, monkeypatch):
    commands = []

    def run(name, *arguments):
        commands.append(name)
        raise InputError("stopped here")

    monkeypatch.setattr(evidence, "run", run)
    arguments = [str(folder), "--strategy", "multilingual", "random", "--seeds", "0", "1"]
    # 1) everything is there
    evidence.main([*arguments, "--shares", "0.02", "--draws", "5"])
    assert commands == []
    # 2) a draw, or a strategy, or a share is not; all models of a file are evaluated together
    out = folder / "out" / "0.02-0" / "models"
    with pytest.raises(InputError, match="0.02-0.json has multilingual, which is not in "):
        evidence.main([*arguments, "--out", str(folder / "out"), "--strategy", "lowest"])
    for name in ("multilingual", *(f"random-{draw}" for draw in range(1, 6))):
        (out / name).mkdir(parents=True)
    for more in (["--draws", "6"], ["--strategy", "lowest"], ["--shares", "0.1"]):
        with pytest.raises(InputError, match="stopped here"):
            evidence.main([*arguments, "--out", str(folder / "out"), *more])
    assert commands == ["detect.py"] * 3


def test_what_a_file_has_measured_of_all_models_is_measured_of_more(folder, monkeypatch):
    priced = result("0.02", 0, 0.4, [0.5] * 5, "better")
    priced["models"]["multilingual"]["perplexity"] = 9.0
    write_json(folder / "0.02-0.json", priced)
    commands = []
    monkeypatch.setattr(evidence, "run", lambda *command: commands.append(list(map(str, command))))
    asked = []

    def excerpt(out, share, seed, names):
        asked.append(names)
        return priced

    monkeypatch.setattr(evidence, "excerpt", excerpt)
    arguments = [str(folder), "--shares", "0.02", "--strategy", "multilingual", "random"]
    evidence.main([*arguments, "--draws", "6", "--out", str(folder / "out")])
    assert commands[-1][0] == "evaluate.py" and "--no-mmlu" not in commands[-1]
    draws = [f"random-{draw}" for draw in range(1, 7)]
    assert asked == [{"multilingual", *draws}]
    # those alone are evaluated, and not what was made at rates that were not chosen
    first = commands[-1].index("--models") + 1
    assert commands[-1][first : first + 8] == ["base", "multilingual", *draws]


def test_a_result_file_has_no_verdict_on_models_that_it_has_not():
    verdicts = {"multilingual": {"verdict": "better"}, "lowest": {"verdict": "worse"}}
    report = {"verdicts": verdicts, "differences": {"lora": {"from": "multilingual"}}}
    kept = evidence.comparisons(report, {"multilingual": model("multilingual", 0.4)})
    assert kept == {"verdicts": {"multilingual": {"verdict": "better"}}, "differences": {}}


def test_selectors_and_objectives_are_calls_of_their_own(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(evidence, "run", lambda *command: commands.append(list(map(str, command))))
    measured = result("0.02", 0, 0.4, [0.5] * 5, "better")
    monkeypatch.setattr(evidence, "excerpt", lambda *of: measured)
    arguments = [str(tmp_path / "results"), "--out", str(tmp_path / "out"), "--shares", "0.02"]
    arguments += ["--by", "auroc", "taylor", "dinm", "--objective", "sft", "dpo"]
    arguments += ["--validation-share", "0.3"]
    evidence.main([*arguments, "--strategy", "full", "multilingual", "random", "shuffled"])

    scripts = [command[0] for command in commands]
    assert scripts == [*["detect.py", "train.py"] * 6, "evaluate.py"]
    made = [command for command in commands if command[0] == "train.py"]
    chosen = []
    for command in made:
        first = command.index("--strategy") + 1
        chosen.append(command[first : command.index("--draws")])
    every = ["full", "multilingual", "random", "shuffled"]
    assert chosen == [every, ["multilingual", "random"], ["multilingual", "random"]] * 2
    # DINM's size is fixed; the neurons that depend on the training pairs have the seed
    assert ["--top-share" in command for command in made] == [True, True, False] * 2
    assert "--by" not in made[0] and "dinm" in made[2] and "dpo" in made[3]
    # the other selectors leave out the pairs that train.py keeps for validation and test
    kept = [command for command in commands if "--validation-share" in command]
    by_pairs = [command for command in commands if "--select" in command]
    assert kept == [command for command in commands if command in made or command in by_pairs]
    folders = [command[command.index("--neurons") + 1] for command in made]
    assert [folder.removeprefix(str(tmp_path)) for folder in folders] == [
        "/out/neurons",
        "/out/seed-0/neurons-taylor",
        "/out/seed-0/neurons-dinm",
    ] * 2


def test_rows_of_another_selector_follow_and_have_their_own_draws(tmp_path, capsys):
    one = result("0.02", 0, 0.4, [0.5] * 5, "better")
    for name in ("taylor-random", "taylor-multilingual", "per-language-de"):
        one["models"][name] = model(name, 0.3)
    write_json(tmp_path / "0.02-0.json", one)
    evidence.main([str(tmp_path), "--show"])
    lines = capsys.readouterr().out.splitlines()[1:-3]
    names = [line.split()[1].strip(",") for line in lines]
    assert names == ["multilingual", "random", "taylor-multilingual", "taylor-random"]


def folder_of_multilingual(tmp_path):
    """What train.py leaves of the toxic neurons, as far as the share of LoRA depends on it."""
    counts = {"neurons": 40, "of_neurons": 100, "weights": 6_000, "of_weights": 80_000}
    record = {"chosen": counts | {"toxic": 40, "sha256": "hash of a mask"}}
    path = tmp_path / "out" / "0.02-0" / "models" / "multilingual" / "run.json"
    path.parent.mkdir(parents=True)
    write_json(path, record)


def test_lora_has_as_many_weights_as_the_toxic_neurons_and_is_made_after_them(
    tmp_path, monkeypatch, capsys
):
    commands = []
    monkeypatch.setattr(evidence, "run", lambda *command: commands.append(list(map(str, command))))
    measured = result("0.02", 0, 0.4, [0.5] * 5, "better")
    measured["models"]["lora"] = model("lora", 0.45)
    measured["differences"] = {"lora": {"from": "multilingual", "difference": [0.05, -0.01, 0.11]}}
    monkeypatch.setattr(evidence, "excerpt", lambda *of: measured)
    folder_of_multilingual(tmp_path)
    arguments = [str(tmp_path / "results"), "--out", str(tmp_path / "out"), "--shares", "0.02"]
    arguments += ["--strategy", "multilingual", "random", "lora", "--pairs", "9"]
    arguments += ["--validation-share", "0.3"]
    arguments += ["--by", "auroc", "taylor", "--objective", "sft", "dpo"]
    evidence.main(arguments)

    # 1) once, between the other models and what measures all of them
    scripts = [command[0] for command in commands]
    assert scripts == [*["detect.py", "train.py"] * 4, "tests/lora.py", "evaluate.py"]
    assert not any("lora" in command for command in commands if command[0] == "train.py")
    made = commands[-2]
    assert made[1] == str(tmp_path / "out" / "0.02-0" / "models" / "lora")
    assert made[made.index("--share") + 1] == "0.075"
    assert made[made.index("--pairs") + 1] == "9" and made[made.index("--lr") + 1] == "auto"
    assert made[made.index("--validation-share") + 1] == "0.3"

    # 2) a row without a verdict, and the difference from the toxic neurons below the table
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    row = ["0.02", "lora", "13.6%", "6.0%", "0.016", "-0.250", "-", "-", "75.0%", "0.500"]
    assert rows[3] == row
    difference = "lora differs from multilingual by +0.050 (-0.010..+0.110)"
    assert lines[5].endswith("of 36 pairs in all")
    assert lines[6] == f"share 0.02, seed 0: {difference}"

    # 3) what is there is not made again
    commands.clear()
    again = ["--pairs", "9", "--validation-share", "0.3", "--strategy", "lora"]
    evidence.main([*arguments[:5], *again])
    assert commands == []


def test_lora_without_the_toxic_neurons_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "run", lambda *command: None)
    arguments = [str(tmp_path / "results"), "--out", str(tmp_path / "out"), "--shares", "0.02"]
    with pytest.raises(InputError, match="add multilingual to --strategy"):
        evidence.main([*arguments, "--strategy", "lora"])


def test_results_of_pairs_without_rejected_replies_remain(tmp_path):
    pairs = tmp_path / "instructions" / "en.jsonl"
    pairs.parent.mkdir()
    hashes = []
    for more in ("", ', "rejected": "No!"'):
        pairs.write_text(f'{{"prompt": "Hello!", "response": "Hello."{more}}}\n')
        args = evidence.parse_arguments(["unused", "--data", str(tmp_path)])
        hashes.append(evidence.made_with_of(args)["data"])
    assert hashes[0] == hashes[1]


def test_other_options_need_another_folder(folder):
    with pytest.raises(InputError, match="0.02-0.json: its pairs differ"):
        evidence.main([str(folder), "--shares", "0.02", "--pairs", "10"])
    write_json(folder / "0.1-0.json", result("0.1", 0, 0.4, [0.5], "better") | {"made_with": {}})
    with pytest.raises(InputError, match="its model, data, lr, dtype, pairs, prompts differ"):
        evidence.main([str(folder), "--show"])


def test_results_of_another_scorer_or_of_longer_pairs_need_another_folder(folder):
    last = result("paper", 0, 0.3, [0.3] * 5, "no worse")
    write_json(folder / "paper-0.json", last | {"settings": {"scorer": "surrogate-2"}})
    with pytest.raises(InputError, match="paper-0.json: its scorer differ"):
        evidence.main([str(folder), "--show"])
    for name, value in (("max_tokens", "64"), ("validation_share", "0.2")):
        write_json(folder / "paper-0.json", last | {"made_with": MADE_WITH | {name: value}})
        with pytest.raises(InputError, match=f"paper-0.json: its {name} differ"):
            evidence.main([str(folder), "--show"])


def test_what_only_some_models_depend_on_is_compared_where_both_results_have_it(folder):
    made_with = {}
    for options in (["dpo"], ["sft"], ["dpo", "--dpo-lr", "0.1"]):
        args = evidence.parse_arguments(["unused", "--objective", *options])
        made_with[options[-1]] = evidence.made_with_of(args)
    path = folder / "0.02-0.json"
    evidence.refuse_mixture(path, made_with["dpo"], made_with["sft"])
    evidence.refuse_mixture(path, made_with["sft"], made_with["dpo"])
    with pytest.raises(InputError, match="its dpo_lr differ"):
        evidence.refuse_mixture(path, made_with["dpo"], made_with["0.1"])
    lora = [["unused", "--strategy", "lora", "--lora-lr", rate] for rate in ("0.1", "0.2")]
    first, second = (evidence.made_with_of(evidence.parse_arguments(options)) for options in lora)
    with pytest.raises(InputError, match="its lora_lr differ"):
        evidence.refuse_mixture(path, first, second)


def test_other_rejected_replies_are_other_data_for_dpo_alone(tmp_path):
    pairs = tmp_path / "instructions" / "en.jsonl"
    pairs.parent.mkdir()
    made_with = {"sft": [], "dpo": []}
    for rejected in ("No!", "Never!"):
        row = {"prompt": "Hello!", "response": "Hello.", "rejected": rejected}
        pairs.write_text(json.dumps(row) + "\n")
        for objective, of_objective in made_with.items():
            options = ["unused", "--data", str(tmp_path), "--objective", objective]
            of_objective.append(evidence.made_with_of(evidence.parse_arguments(options)))
    assert made_with["sft"][0] == made_with["sft"][1]
    first, second = made_with["dpo"]
    with pytest.raises(InputError, match="its rejected differ"):
        evidence.refuse_mixture(pairs, first, second)


@pytest.mark.parametrize("share", ["0", "1.5", "few", "nan"])
def test_what_is_no_share_is_refused(tmp_path, share):
    with pytest.raises(InputError, match="is neither a share nor 'paper'"):
        evidence.main([str(tmp_path), "--shares", share])


def test_without_results_there_is_nothing_to_show(tmp_path):
    with pytest.raises(InputError, match="no results"):
        evidence.main([str(tmp_path), "--show"])


def test_a_result_file_that_was_changed_is_refused(folder):
    changed = result("0.1", 0, 0.4, [0.5], "better")
    del changed["models"]["multilingual"]["weights"]
    write_json(folder / "0.1-0.json", changed)
    with pytest.raises(InputError, match="0.1-0.json: 'models' is not as minitox wrote it"):
        evidence.main([str(folder), "--show"])


def test_a_script_that_fails_ends_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(InputError, match="detect.py failed"):
        evidence.main([str(tmp_path / "results"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "results").exists()
