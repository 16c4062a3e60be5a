"""What is made from a corpus: the same bytes each time, and figures that are not flattered."""

import sys

import numpy as np
import pytest
from tiny import TOY, error_of, write_jsonl

from minitox.evaluate.surrogate import Surrogate, margins, ngrams, normalise, sigmoid

sys.path.insert(0, str(TOY.parent))
import prepare  # noqa: E402

ROW = {"text": "The soup is warm.", "toxicity": 0.1}


def made_up(count: int, seed: int = 0, planted: str = "") -> list[dict]:
    """Random letters with random scores; `planted` stands in every toxic text."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(count):
        toxic = bool(rng.integers(2))
        words = ["".join(map(chr, 97 + rng.integers(0, 26, 5))) for _ in range(8)] + [planted] * (planted != "" and toxic)
        rows.append({"text": " ".join(rng.permutation(words)), "toxicity": float(rng.uniform(0.6, 1) if toxic else rng.uniform(0, 0.15))})
    return rows


def run(source, *more) -> Surrogate:
    prepare.main(["scorer", str(source), *more])
    return Surrogate(source.parent / "scorer.safetensors")


def test_the_toys_scorer_is_what_the_command_makes(tmp_path):
    prepare.main(["scorer", str(TOY / "detection"), "--out", str(tmp_path / "scorer")])
    assert (tmp_path / "scorer").read_bytes() == (TOY / "scorer.safetensors").read_bytes()
    assert (tmp_path / "scorer").stat().st_size <= 300_000


def test_figures_are_what_they_are_called():
    rng = np.random.default_rng(0)
    predicted, scores = np.round(rng.random(200), 2), rng.choice([0.0, 0.1, 0.2, 0.35, 0.5, 0.51, 1.0], 200)
    found = prepare.figures(predicted, scores)
    pairs = [(t > c) + (t == c) / 2 for t in predicted[scores > 0.5] for c in predicted[scores < 0.2]]
    assert found["auc"] == pytest.approx(np.mean(pairs), abs=5e-4)
    assert found["correlation"] == pytest.approx(np.corrcoef(predicted, scores)[0, 1], abs=5e-4)
    parts = [(predicted * 10).astype(int) == part for part in range(10)]
    parts[9] |= predicted == 1
    error = sum(part.mean() * abs(predicted[part].mean() - scores[part].mean()) for part in parts)
    assert found["calibration"] == pytest.approx(error, abs=5e-4) and found["rows"] == 200


def test_predictions_that_are_all_the_same_are_worth_nothing():
    found = prepare.figures(np.full(4, 0.3), np.array([0.0, 0.1, 0.9, 0.2]))
    assert found == {"auc": 0.5, "correlation": 0.0, "calibration": 0.0, "rows": 4}


def test_held_out_rows_are_really_held_out(tmp_path):
    """Labels at random, every text twice in other guise: 0.5, unless the model has seen what it is asked about."""
    rows = made_up(400)
    write_jsonl(tmp_path / "en.jsonl", rows + [{**row, "text": f"  {row['text'].upper()} "} for row in rows])
    learned = [prepare.learn(tmp_path / "en.jsonl", seed) for seed in range(5)]
    assert all(0.3 < known["held_out"]["auc"] < 0.7 for _, known in learned)
    assert all(known["held_out"]["calibration"] < 0.15 for _, known in learned)  # it does not claim to know
    for table, known in learned:
        seen = sigmoid(known["offset"] + margins(table, [ngrams(normalise(row["text"])) for row in rows]))
        auc = prepare.figures(seen, np.array([row["toxicity"] for row in rows]))["auc"]
        assert abs(auc - 0.5) > 0.45  # what was seen is known by heart, so a leak would show (as 0 where chance made the slope negative)


def test_about_a_fifth_is_held_out_another_one_for_another_seed(tmp_path):
    write_jsonl(tmp_path / "en.jsonl", made_up(500))
    counts = [prepare.learn(tmp_path / "en.jsonl", seed)[1]["held_out"]["rows"] for seed in range(4)]
    assert all(70 <= count <= 130 for count in counts) and len(set(counts)) > 1


def test_the_model_finds_what_the_toxic_texts_share(tmp_path):
    write_jsonl(tmp_path / "detection" / "en.jsonl", made_up(300, planted="donkey"))
    scorer = run(tmp_path / "detection")
    assert scorer.held_out["en"]["auc"] > 0.99 and scorer.held_out["en"]["calibration"] < 0.1
    (rude, _), (kind, _) = scorer.score(["the green donkey", "the green lamp"], "en")
    assert rude > kind + 0.3


def test_a_language_without_both_kinds_is_left_out_and_named_the_others_go_on(tmp_path, capsys):
    write_jsonl(tmp_path / "detection" / "de.jsonl", made_up(200))
    write_jsonl(tmp_path / "detection" / "en.jsonl", [row for row in made_up(200) if row["toxicity"] < 0.5])
    write_jsonl(tmp_path / "detection" / "fr.jsonl", made_up(2))
    write_jsonl(tmp_path / "detection" / "zh.jsonl", [])
    write_jsonl(tmp_path / "detection" / "notes.jsonl", [{"no": "language"}])
    assert run(tmp_path / "detection").languages == {"de"}
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in printed[1:-1]] == ["de", "en", "fr", "zh"]
    assert all("left out: " in line and f"{line[:2]}.jsonl" in line for line in printed[2:-1])
    assert printed[-1].startswith(f"wrote {tmp_path / 'scorer.safetensors'} (1 languages")


def test_the_file_records_what_it_was_made_from(tmp_path):
    for folder, seed in (("a", 0), ("b", 1)):
        write_jsonl(tmp_path / folder / "detection" / "en.jsonl", made_up(200, seed=seed))
    names = {run(tmp_path / folder / "detection", "--seed", seed).name for folder in "ab" for seed in "01"}
    assert len(names) == 4
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("row, message", [
    ({"text": "no score"}, "field 'toxicity' is missing"), ({"toxicity": 0.5}, "field 'text' is missing"),
    ({"text": "too much", "toxicity": 1.5}, "field 'toxicity' must be a number from 0 to 1, not 1.5"),
    ({"text": " ", "toxicity": 0.5}, "field 'text' is empty"), (["text"], "expected a JSON object"),
])
def test_a_malformed_row_stops_the_run_and_is_named(tmp_path, capsys, row, message):
    write_jsonl(tmp_path / "detection" / "en.jsonl", [ROW, row])
    error = error_of(prepare.main, ["scorer", str(tmp_path / "detection")], capsys)
    assert error.startswith(f"error: {tmp_path / 'detection' / 'en.jsonl'}:2: {message}") and error.count("\n") == 1
    assert not (tmp_path / "scorer.safetensors").exists()


def test_a_folder_with_nothing_to_learn_is_told_in_one_line(tmp_path, capsys):
    write_jsonl(tmp_path / "detection" / "en.jsonl", [ROW])
    for source in (tmp_path / "detection", tmp_path / "missing", tmp_path):
        error = error_of(prepare.main, ["scorer", str(source)], capsys)
        assert error.startswith(f"error: {source}: no language to learn") and error.count("\n") == 1


def test_without_a_corpus_the_usage_is_shown(capsys):
    assert "CORPUS" in error_of(prepare.main, [], capsys)
