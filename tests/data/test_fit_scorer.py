"""The default scorer: the same bytes each time, and quality figures that are not flattered."""

import sys

import numpy as np
import pytest
from tiny import TOY, error_of, write_jsonl

from minitox.scorers.surrogate import Surrogate, as_read, margins, ngrams, sigmoid

sys.path.insert(0, str(TOY.parent))
import fit_scorer  # noqa: E402
import prepare  # noqa: E402

ROW = {"text": "The soup is warm.", "toxicity": 0.1}


def made_up(count: int, seed: int = 0, planted: str = "") -> list[dict]:
    """Random letters with random scores; `planted` is in every toxic text."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        toxic = bool(rng.integers(2))
        words = ["".join(map(chr, 97 + rng.integers(0, 26, 5))) for _ in range(8)]
        if toxic and planted:
            words.append(planted)
        text = " ".join(rng.permutation(words))
        score = rng.uniform(0.6, 1) if toxic else rng.uniform(0, 0.15)
        rows.append({"text": text, "toxicity": float(score)})
    return rows


def run(source, *more) -> Surrogate:
    prepare.main(["scorer", str(source), *more])
    return Surrogate(source.parent / "scorer.safetensors")


def test_the_toys_scorer_is_what_the_command_makes(tmp_path):
    path = tmp_path / "scorer"
    prepare.main(["scorer", str(TOY / "detection"), "--out", str(path)])
    assert path.read_bytes() == (TOY / "scorer.safetensors").read_bytes()
    assert path.stat().st_size <= 330_000


# Quality figures


def test_quality_figures_follow_their_definitions():
    rng = np.random.default_rng(0)
    predicted = np.round(rng.random(200), 2)
    scores = rng.choice([0.0, 0.1, 0.2, 0.35, 0.5, 0.51, 1.0], 200)
    figures = fit_scorer.quality(predicted, scores)
    assert figures["rows"] == 200

    toxic = predicted[scores > 0.5]
    clean = predicted[scores < 0.2]
    pairs = (toxic[:, None] > clean) + (toxic[:, None] == clean) / 2
    assert figures["auc"] == pytest.approx(np.mean(pairs), abs=5e-4)

    correlation = np.corrcoef(predicted, scores)[0, 1]
    assert figures["correlation"] == pytest.approx(correlation, abs=5e-4)

    bins = [(predicted * 10).astype(int) == number for number in range(10)]
    bins[9] |= predicted == 1
    error = sum(part.mean() * abs(predicted[part].mean() - scores[part].mean()) for part in bins)
    assert figures["calibration"] == pytest.approx(error, abs=5e-4)


def test_constant_predictions_have_no_auc_and_no_correlation():
    figures = fit_scorer.quality(np.full(4, 0.3), np.array([0.0, 0.1, 0.9, 0.2]))
    assert figures == {"auc": 0.5, "correlation": 0.0, "calibration": 0.0, "rows": 4}


def test_held_out_rows_are_not_learned_from(tmp_path):
    """Labels are random and every text is there twice, in two spellings: the AUC must be 0.5."""
    rows = made_up(400)
    again = [{**row, "text": f"  {row['text'].upper()} "} for row in rows]
    write_jsonl(tmp_path / "en.jsonl", rows + again)
    learned = [fit_scorer.learn(tmp_path / "en.jsonl", seed) for seed in range(5)]
    for _, known, _ in learned:
        assert 0.3 < known["held_out"]["auc"] < 0.7
        assert known["held_out"]["calibration"] < 0.15  # it does not claim to know
    # texts that were learned from are known by heart, so a leak would be visible above
    texts = [ngrams(as_read(row["text"])) for row in rows]
    scores = np.array([row["toxicity"] for row in rows])
    for table, known, _ in learned:
        predicted = sigmoid(known["offset"] + margins(table, texts))
        auc = fit_scorer.quality(predicted, scores)["auc"]
        assert abs(auc - 0.5) > 0.45  # 0 where chance made the slope negative


def test_about_a_fifth_of_the_rows_is_held_out_and_another_fifth_for_another_seed(tmp_path):
    path = tmp_path / "en.jsonl"
    write_jsonl(path, made_up(500))
    counts = [fit_scorer.learn(path, seed)[1]["held_out"]["rows"] for seed in range(4)]
    assert all(70 <= count <= 130 for count in counts)
    assert len(set(counts)) > 1


def test_the_model_finds_what_the_toxic_texts_share(tmp_path):
    write_jsonl(tmp_path / "detection" / "en.jsonl", made_up(300, planted="donkey"))
    scorer = run(tmp_path / "detection")
    assert scorer.held_out["en"]["auc"] > 0.99
    assert scorer.held_out["en"]["calibration"] < 0.1
    (rude, _), (kind, _) = scorer.score(["the green donkey", "the green lamp"], "en")
    assert rude > kind + 0.3


# Test prompts


def test_copies_of_test_prompts_are_not_learned_and_what_is_learned_is_recorded(tmp_path, capsys):
    rows = made_up(200)
    write_jsonl(tmp_path / "detection" / "en.jsonl", rows)
    prompts = [rows[0]["text"].upper(), rows[1]["text"] + "!", "Du Esel"]
    write_jsonl(tmp_path / "prompts" / "en.jsonl", [{"prompt": prompt} for prompt in prompts])
    write_jsonl(tmp_path / "prompts" / "de.jsonl", [{"prompt": rows[2]["text"]}])
    scorer = run(tmp_path / "detection")
    assert "en: dropped 2 copies of test prompts\n" in capsys.readouterr().out
    learned = [scorer.has_learned(row["text"], "en") for row in rows]
    assert learned == [False] * 2 + [True] * 198
    assert scorer.has_learned(f"  {rows[2]['text'].upper()}", "en")
    assert not scorer.has_learned(f"{rows[2]['text']}!", "en")
    assert not scorer.has_learned(rows[2]["text"], "de")

    # the weights are those of the other texts alone
    write_jsonl(tmp_path / "others" / "en.jsonl", rows[2:])
    (others,) = run(tmp_path / "others").tables.values()
    assert np.array_equal(others, scorer.tables["en"])


# Input and output


def test_a_language_without_both_classes_is_left_out_and_named(tmp_path, capsys):
    clean = [row for row in made_up(200) if row["toxicity"] < 0.5]
    contents = {
        "de": made_up(200),
        "en": clean,
        "fr": made_up(2),
        "zh": [],
        "notes": [{"no": "language"}],
    }
    for name, rows in contents.items():
        write_jsonl(tmp_path / "detection" / f"{name}.jsonl", rows)
    assert run(tmp_path / "detection").languages == {"de"}
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in printed[1:-1]] == ["de", "en", "fr", "zh"]
    for line in printed[2:-1]:
        assert "left out: " in line
        assert f"{line[:2]}.jsonl" in line
    assert printed[-1].startswith(f"wrote {tmp_path / 'scorer.safetensors'} (1 languages")


def test_a_language_with_too_few_rows_to_calibrate_is_left_out(tmp_path, capsys):
    """Two rows are held out, and all others are in one of the other folds."""
    scores = {"the soup is warm": 0.9, "go away donkey": 0.1}
    scores |= {"bees make honey": 0.9, "cold tea again": 0.1}
    rows = [{"text": text, "toxicity": toxicity} for text, toxicity in scores.items()]
    write_jsonl(tmp_path / "detection" / "en.jsonl", rows)
    error = error_of(prepare.main, ["scorer", str(tmp_path / "detection")], capsys)
    assert error.startswith(f"error: {tmp_path / 'detection'}: no usable language")


def test_the_file_records_what_it_was_made_from(tmp_path):
    names = set()
    for number, folder in enumerate("ab"):
        source = tmp_path / folder / "detection"
        write_jsonl(source / "en.jsonl", made_up(200, seed=number))
        for seed in "01":
            names.add(run(source, "--seed", seed).name)
    assert len(names) == 4
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    "row, message",
    [
        ({"text": "no score"}, "field 'toxicity' is missing"),
        ({"toxicity": 0.5}, "field 'text' is missing"),
        (
            {"text": "too much", "toxicity": 1.5},
            "field 'toxicity' must be a number from 0 to 1, not 1.5",
        ),
        ({"text": " ", "toxicity": 0.5}, "field 'text' is empty"),
        (["text"], "expected a JSON object"),
    ],
)
def test_a_malformed_row_stops_the_run_and_is_named(tmp_path, capsys, row, message):
    path = tmp_path / "detection" / "en.jsonl"
    write_jsonl(path, [ROW, row])
    error = error_of(prepare.main, ["scorer", str(tmp_path / "detection")], capsys)
    assert error.startswith(f"error: {path}:2: {message}")
    assert error.count("\n") == 1
    assert not (tmp_path / "scorer.safetensors").exists()


def test_a_folder_without_a_usable_language_is_a_one_line_error(tmp_path, capsys):
    write_jsonl(tmp_path / "detection" / "en.jsonl", [ROW])
    for source in (tmp_path / "detection", tmp_path / "missing", tmp_path):
        error = error_of(prepare.main, ["scorer", str(source)], capsys)
        assert error.startswith(f"error: {source}: no usable language")
        assert error.count("\n") == 1
