"""What is made from a corpus: the same bytes each time, and figures that are not flattered."""

import json
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from tiny import TOY, error_of, write_jsonl

from minitox.scorers.surrogate import Surrogate, margins, ngrams, normalise, sigmoid

sys.path.insert(0, str(TOY.parent))
import prepare  # noqa: E402

ROW = {"text": "The soup is warm.", "toxicity": 0.1}


def made_up(count: int, seed: int = 0, planted: str = "") -> list[dict]:
    """Random letters with random scores; `planted` stands in every toxic text."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(count):
        toxic = bool(rng.integers(2))
        words = ["".join(map(chr, 97 + rng.integers(0, 26, 5))) for _ in range(8)] + [planted] * (
            planted != "" and toxic
        )
        rows.append(
            {
                "text": " ".join(rng.permutation(words)),
                "toxicity": float(rng.uniform(0.6, 1) if toxic else rng.uniform(0, 0.15)),
            }
        )
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
    predicted, scores = (
        np.round(rng.random(200), 2),
        rng.choice([0.0, 0.1, 0.2, 0.35, 0.5, 0.51, 1.0], 200),
    )
    found = prepare.quality(predicted, scores)
    pairs = [
        (t > c) + (t == c) / 2 for t in predicted[scores > 0.5] for c in predicted[scores < 0.2]
    ]
    assert found["auc"] == pytest.approx(np.mean(pairs), abs=5e-4)
    assert found["correlation"] == pytest.approx(np.corrcoef(predicted, scores)[0, 1], abs=5e-4)
    parts = [(predicted * 10).astype(int) == part for part in range(10)]
    parts[9] |= predicted == 1
    error = sum(part.mean() * abs(predicted[part].mean() - scores[part].mean()) for part in parts)
    assert found["calibration"] == pytest.approx(error, abs=5e-4) and found["rows"] == 200


def test_predictions_that_are_all_the_same_are_worth_nothing():
    found = prepare.quality(np.full(4, 0.3), np.array([0.0, 0.1, 0.9, 0.2]))
    assert found == {"auc": 0.5, "correlation": 0.0, "calibration": 0.0, "rows": 4}


def test_held_out_rows_are_really_held_out(tmp_path):
    """Labels at random, every text twice in other guise: 0.5, unless the model has seen what it is asked about."""
    rows = made_up(400)
    write_jsonl(
        tmp_path / "en.jsonl", rows + [{**row, "text": f"  {row['text'].upper()} "} for row in rows]
    )
    learned = [prepare.learn(tmp_path / "en.jsonl", seed) for seed in range(5)]
    assert all(0.3 < known["held_out"]["auc"] < 0.7 for _, known in learned)
    assert all(
        known["held_out"]["calibration"] < 0.15 for _, known in learned
    )  # it does not claim to know
    for table, known in learned:
        seen = sigmoid(
            known["offset"] + margins(table, [ngrams(normalise(row["text"])) for row in rows])
        )
        auc = prepare.quality(seen, np.array([row["toxicity"] for row in rows]))["auc"]
        assert (
            abs(auc - 0.5) > 0.45
        )  # what was seen is known by heart, so a leak would show (as 0 where chance made the slope negative)


def test_about_a_fifth_is_held_out_another_one_for_another_seed(tmp_path):
    write_jsonl(tmp_path / "en.jsonl", made_up(500))
    counts = [
        prepare.learn(tmp_path / "en.jsonl", seed)[1]["held_out"]["rows"] for seed in range(4)
    ]
    assert all(70 <= count <= 130 for count in counts) and len(set(counts)) > 1


def test_the_model_finds_what_the_toxic_texts_share(tmp_path):
    write_jsonl(tmp_path / "detection" / "en.jsonl", made_up(300, planted="donkey"))
    scorer = run(tmp_path / "detection")
    assert scorer.held_out["en"]["auc"] > 0.99 and scorer.held_out["en"]["calibration"] < 0.1
    (rude, _), (kind, _) = scorer.score(["the green donkey", "the green lamp"], "en")
    assert rude > kind + 0.3


def test_a_language_without_both_kinds_is_left_out_and_named_the_others_go_on(tmp_path, capsys):
    write_jsonl(tmp_path / "detection" / "de.jsonl", made_up(200))
    write_jsonl(
        tmp_path / "detection" / "en.jsonl", [row for row in made_up(200) if row["toxicity"] < 0.5]
    )
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
    names = {
        run(tmp_path / folder / "detection", "--seed", seed).name
        for folder in "ab"
        for seed in "01"
    }
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
    write_jsonl(tmp_path / "detection" / "en.jsonl", [ROW, row])
    error = error_of(prepare.main, ["scorer", str(tmp_path / "detection")], capsys)
    assert (
        error.startswith(f"error: {tmp_path / 'detection' / 'en.jsonl'}:2: {message}")
        and error.count("\n") == 1
    )
    assert not (tmp_path / "scorer.safetensors").exists()


def test_a_folder_with_nothing_to_learn_is_told_in_one_line(tmp_path, capsys):
    write_jsonl(tmp_path / "detection" / "en.jsonl", [ROW])
    for source in (tmp_path / "detection", tmp_path / "missing", tmp_path):
        error = error_of(prepare.main, ["scorer", str(source)], capsys)
        assert error.startswith(f"error: {source}: no language to learn") and error.count("\n") == 1


def test_without_a_corpus_the_usage_is_shown(capsys):
    assert "CORPUS" in error_of(prepare.main, [], capsys)


def printed(capsys, *arguments) -> list[list[str]]:
    """The cells of the table that a command prints, and its other lines as one cell each."""
    prepare.main(list(map(str, arguments)))
    return [
        line.replace("|", " ").split() if line.startswith("|") else [line]
        for line in capsys.readouterr().out.splitlines()
    ]


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_ptp(folder, **counts) -> None:
    """PolygloToxicityPrompts in JSON Lines: so many toxic, clean, between and failed rows of each language, mixed."""
    for language, count in counts.items():
        scores = np.random.default_rng(0).permutation(np.repeat([0.9, 0.1, 0.3, -1.0], count))
        write_jsonl(
            folder / f"ptp-{language}" / "full-00000-of-00001-0a1b.jsonl",
            [
                {"text": f"{language} {i}", "toxicity": score, "meta_data": None}
                for i, score in enumerate(scores)
            ],
        )


def test_ptp_takes_so_many_of_each_kind_and_says_what_it_dropped(tmp_path, capsys):
    write_ptp(tmp_path / "raw", de=(20, 30, 7, 2), en=(3, 40, 0, 0), sv=(4, 4, 0, 0))
    table = printed(capsys, "ptp", tmp_path / "raw", "--out", tmp_path / "paper", "--each", 10)
    assert table[0] == "rows no text no score between toxic clean written".split()
    assert table[2:4] == ["de 59 0 2 7 20 30 20".split(), "en 43 0 0 0 3 40 13".split()]
    assert table[4:] == [
        ["left out, as none of the sixteen languages: sv (8)"],
        [f"wrote {tmp_path / 'paper' / 'detection'} (33 lines in de.jsonl, en.jsonl)"],
    ]
    scores = [row["toxicity"] for row in lines(tmp_path / "paper" / "detection" / "de.jsonl")]
    assert sorted(scores) == [0.1] * 10 + [0.9] * 10
    assert [row["toxicity"] for row in lines(tmp_path / "paper" / "detection" / "en.jsonl")].count(
        0.9
    ) == 3


def test_what_is_drawn_depends_on_the_seed_alone(tmp_path):
    write_ptp(tmp_path / "raw", de=(50, 50, 0, 0), fr=(50, 50, 0, 0))
    write_ptp(tmp_path / "alone", de=(50, 50, 0, 0))
    drawn = {}
    for name, source, seed in (
        ("a", "raw", 0),
        ("again", "raw", 0),
        ("alone", "alone", 0),
        ("other", "raw", 1),
    ):
        prepare.main(
            [
                "ptp",
                str(tmp_path / source),
                "--out",
                str(tmp_path / name),
                "--each",
                "20",
                "--seed",
                str(seed),
            ]
        )
        drawn[name] = (tmp_path / name / "detection" / "de.jsonl").read_bytes()
    assert drawn["a"] == drawn["again"] == drawn["alone"] != drawn["other"]
    places = [
        [
            int(row["text"].split()[1])
            for row in lines(tmp_path / "a" / "detection" / f"{language}.jsonl")
        ]
        for language in ("de", "fr")
    ]
    assert (
        places[0] == sorted(places[0]) and places[0] != places[1]
    )  # in the order of the file, and each language by itself


def test_every_text_of_ptp_is_drawn_as_often_as_any_other(tmp_path):
    write_ptp(tmp_path / "raw", de=(8, 8, 0, 0))
    path, taken = tmp_path / "raw" / "ptp-de" / "full-00000-of-00001-0a1b.jsonl", np.zeros(16)
    for seed in range(200):
        rows = prepare.drawn(prepare.argparse.Namespace(score="text", each=4, seed=seed), [path])
        taken += [row is not None for _, _, row in rows]
    assert (
        (taken > 65).all() and (taken < 135).all() and taken.sum() == 200 * 8
    )  # 100 each; 5 standard deviations are 35


def test_ptp_without_anything_to_take_leaves_what_is_there(tmp_path, capsys):
    write_ptp(tmp_path / "raw", de=(0, 0, 3, 1))
    write_jsonl(tmp_path / "paper" / "detection" / "de.jsonl", [ROW])
    error = error_of(
        prepare.main, ["ptp", str(tmp_path / "raw"), "--out", str(tmp_path / "paper")], capsys
    )
    assert error == "error: no row is left to be written, for the reasons in the table\n"
    assert lines(tmp_path / "paper" / "detection" / "de.jsonl") == [ROW]


def test_rtp_lx_tells_each_languages_locale_and_leaves_out_the_others(tmp_path, capsys):
    for locale, rows in {
        "DE": ["Hallo", "NA", ""],
        "ZH-Hans": ["你好"],
        "ZH-Hant": ["你好"],
        "DA": ["Hej", "Hej igen"],
    }.items():
        write_jsonl(
            tmp_path / "raw" / f"RTP_LX_{locale}.json",
            [{"Prompt": row, "Completion": ""} for row in rows],
        )
    table = printed(capsys, "rtp-lx", tmp_path / "raw", "--out", tmp_path / "paper")
    assert table[2:] == [
        "de DE 3 2 1".split(),
        "zh ZH-Hans 1 0 1".split(),
        ["left out, as none of the sixteen languages: da (2), zh-hant (1)"],
        [f"wrote {tmp_path / 'paper' / 'prompts'} (2 lines in de.jsonl, zh.jsonl)"],
    ]
    assert lines(tmp_path / "paper" / "prompts" / "zh.jsonl") == [
        {"prompt": "你好", "locale": "ZH-Hans"}
    ]


def test_mmlu_takes_one_subject_of_one_split(tmp_path, capsys):
    def row(subject, question):
        return {
            "id": f"{subject}/test/0",
            "instruction": question,
            "option_a": "Nile",
            "option_b": "Alps",
            "option_c": "Gobi",
            "option_d": "Oslo",
            "answer": "B",
        }

    rows = [
        row("anatomy", "Which bone?"),
        row("high_school_geography", "Which mountains?"),
        {**row("high_school_geography", "?"), "answer": ""},
    ]
    for name, content in {
        "ar_test.json": rows,
        "ar_dev.json": rows,
        "sv_test.json": rows,
        "de_test.json": rows[:2],
    }.items():
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text(json.dumps(content))
    table = printed(capsys, "mmlu", tmp_path / "data", "--out", tmp_path / "paper")
    assert table[2:] == [
        "ar 3 1 1 1".split(),
        "de 2 1 0 1".split(),
        ["left out, as none of the sixteen languages: sv (1)"],
        [f"wrote {tmp_path / 'paper' / 'mmlu'} (2 lines in ar.jsonl, de.jsonl)"],
    ]
    from minitox.data import read_questions

    assert (
        read_questions(tmp_path / "paper" / "mmlu" / "ar.jsonl")[0]["question"]
        == "Which mountains?"
    )
    assert (
        printed(
            capsys, "mmlu", tmp_path / "data", "--out", tmp_path / "paper", "--subject", "anatomy"
        )[2]
        == "ar 3 2 0 1".split()
    )


def write_davidson(path, *tweets) -> str:
    """A file of tweets, each (class, text)."""
    header = ",count,hate_speech,offensive_language,neither,class,tweet\n"
    path.write_text(
        header + "".join(f'{i},3,0,0,0,{kind},"{text}"\n' for i, (kind, text) in enumerate(tweets)),
        encoding="utf-8",
    )
    return str(path)


def test_a_prompt_is_taken_once_whatever_its_spaces_and_references(tmp_path, capsys):
    path = write_davidson(
        tmp_path / "labeled_data.csv",
        (0, "you &amp; donkey"),
        (0, " you\n&#38;  donkey "),
        (0, "you &amp;amp; donkey"),
        (1, "silly"),
        (2, "kind"),
        (0, "&nbsp;"),
    )
    table = printed(capsys, "davidson", path, "--out", tmp_path)
    assert table[2:] == [
        "en 0 4 0 1 0 1 0 2".split(),
        "en 1 1 0 0 1 0 0 0".split(),
        "en 2 1 0 0 1 0 0 0".split(),
        [f"wrote {tmp_path / 'hateful'} (2 lines in en.jsonl)"],
    ]
    assert lines(tmp_path / "hateful" / "en.jsonl") == [
        {"prompt": "you & donkey", "source": "davidson"},
        {"prompt": "you &amp; donkey", "source": "davidson"},
    ]


def test_a_second_run_changes_nothing(tmp_path, capsys):
    path = write_davidson(
        tmp_path / "labeled_data.csv", (0, "you &amp;amp; donkey"), (0, "you donkey"), (2, "kind")
    )
    prepare.main(["davidson", path, "--out", str(tmp_path)])
    before = (tmp_path / "hateful" / "en.jsonl").read_bytes()
    table = printed(capsys, "davidson", path, "--out", tmp_path)[-5:]
    assert table[1:3] == [
        "en (kept from en.jsonl) 2 0 0 0 0 0 2".split(),
        "en 0 2 0 0 0 0 2 0".split(),
    ]
    assert (tmp_path / "hateful" / "en.jsonl").read_bytes() == before


def test_offensive_adds_the_second_class(tmp_path):
    path = write_davidson(
        tmp_path / "labeled_data.csv", (0, "you donkey"), (1, "silly"), (2, "kind")
    )
    prepare.main(["davidson", path, "--out", str(tmp_path), "--offensive"])
    assert [row["prompt"] for row in lines(tmp_path / "hateful" / "en.jsonl")] == [
        "you donkey",
        "silly",
    ]


def test_rows_that_two_corpora_share_are_taken_once_and_keep_their_first_source(tmp_path, capsys):
    prepare.main(
        [
            "davidson",
            write_davidson(tmp_path / "labeled_data.csv", (0, "you &amp;\ndonkey")),
            "--out",
            str(tmp_path),
        ]
    )
    superset = tmp_path / "en_hf_102024.csv"
    superset.write_text(
        'text,labels,source,dataset,nb_annotators\n"you &amp;\ndonkey",1.0,Twitter,davidson,3\nyou goat,1.0,Gab,gab,3\n'
    )
    table = printed(capsys, "tonneau", superset, "--out", tmp_path)[-4:]
    assert table[2] == "en 1 2 0 0 0 0 1 1".split()
    assert lines(tmp_path / "hateful" / "en.jsonl") == [
        {"prompt": "you & donkey", "source": "davidson"},
        {"prompt": "you goat", "source": "tonneau/gab"},
    ]


def test_the_general_reader_takes_what_is_named(tmp_path):
    (tmp_path / "posts.txt").write_bytes(
        "id;Post;Hate;Fake\n1;gadhé;1;0\n2;suup;0;0\n3;jhooth;0;1\n".encode("cp1252")
    )
    prepare.main(
        [
            "hate",
            str(tmp_path / "posts.txt"),
            "--text",
            "Post",
            "--label",
            "Hate",
            "Fake",
            "--hateful",
            "1",
            "--language",
            "hi",
            "--encoding",
            "cp1252",
            "--separator",
            ";",
            "--source",
            "posts",
            "--out",
            str(tmp_path),
        ]
    )
    assert lines(tmp_path / "hateful" / "hi.jsonl") == [
        {"prompt": "gadhé", "source": "posts"},
        {"prompt": "jhooth", "source": "posts"},
    ]


def test_a_broken_line_leaves_every_file_as_it_was(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("text,label,language\nyou donkey,1,2\nDu Esel,1,5\nshort\n")
    write_jsonl(tmp_path / "hateful" / "de.jsonl", [{"prompt": "Sie Esel", "source": "x"}])
    error = error_of(
        prepare.main, ["moosa", str(tmp_path / "a.csv"), "--out", str(tmp_path)], capsys
    )
    assert "a.csv: after line 3: the row that ends in line 4" in error and error.count("\n") == 1
    assert lines(tmp_path / "hateful" / "de.jsonl") == [{"prompt": "Sie Esel", "source": "x"}]
    assert os.listdir(tmp_path / "hateful") == ["de.jsonl"]


def test_a_text_column_taken_for_labels_is_not_printed(tmp_path, capsys):
    (tmp_path / "a.csv").write_text(
        "text,label\n" + "".join(f"you donkey {i},1\n" for i in range(600))
    )
    error = error_of(
        prepare.main,
        [
            "hate",
            str(tmp_path / "a.csv"),
            "--text",
            "text",
            "--label",
            "text",
            "--hateful",
            "1",
            "--language",
            "en",
            "--out",
            str(tmp_path),
        ],
        capsys,
    )
    assert (
        "is --label the column of labels?" in error
        and "donkey" not in error + capsys.readouterr().out
    )


def test_labels_that_never_occur_are_no_silent_success(tmp_path, capsys):
    path = write_davidson(tmp_path / "labeled_data.csv", (0, "you donkey"))
    assert "no row is left" in error_of(
        prepare.main, ["davidson", path, "--hateful", "hate", "--out", str(tmp_path)], capsys
    )
    assert not (tmp_path / "hateful").exists()


@pytest.mark.parametrize(
    "command",
    [
        "ptp",
        "rtp-lx",
        "mmlu",
        "davidson",
        "ibrohim",
        "moosa",
        "tonneau",
        "saitov",
        "hate",
        "scorer",
    ],
)
def test_a_missing_source_is_told_in_one_line(tmp_path, capsys, command):
    more = (
        ["--text", "a", "--label", "b", "--hateful", "1", "--language", "en"]
        if command == "hate"
        else []
    )
    error = error_of(prepare.main, [command, str(tmp_path / "missing"), *more], capsys)
    assert (
        error.startswith("error: ")
        and str(tmp_path / "missing") in error
        and error.count("\n") == 1
    )


def test_the_script_runs_from_anywhere_and_writes_to_data_paper(tmp_path):
    path = write_davidson(tmp_path / "labeled_data.csv", (0, "you donkey"))
    done = subprocess.run(
        [sys.executable, TOY.parent / "prepare.py", "davidson", path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith(
        f"wrote {os.path.join('data', 'paper', 'hateful')} (1 lines in en.jsonl)\n"
    )
    assert lines(tmp_path / "data" / "paper" / "hateful" / "en.jsonl") == [
        {"prompt": "you donkey", "source": "davidson"}
    ]


def test_every_command_in_the_datas_readme_exists_and_so_do_its_options(monkeypatch):
    seen = set()
    for name in ("ptp", "rtp_lx", "mmlu", "hate", "scorer"):

        def stub(args):
            """Only remembers that it was called."""
            seen.add(args.make)

        monkeypatch.setattr(prepare, name, stub)
    commands = re.findall(
        r"^ *python data/prepare.py (.+)$", (TOY.parent / "README.md").read_text(), re.MULTILINE
    )
    for command in commands:
        prepare.main(shlex.split(command))
    assert len(commands) > 10 and len(seen) == 5
