"""data/prepare.py: what each command writes from a corpus, and what it prints about it."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import TOY, error_of, write_jsonl

from minitox.run import overlap_check

sys.path.insert(0, str(TOY.parent))
import prepare  # noqa: E402

from minitox.data import read_xstest  # noqa: E402

ROW = {"text": "The soup is warm.", "toxicity": 0.1}


def printed(capsys, *arguments) -> list[list[str]]:
    """The cells of the table that a command prints, and its other lines as one cell each."""
    prepare.main(list(map(str, arguments)))
    rows = []
    for line in capsys.readouterr().out.splitlines():
        rows.append(line.replace("|", " ").split() if line.startswith("|") else [line])
    return rows


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# PolygloToxicityPrompts


def write_ptp(folder, **counts) -> None:
    """Write so many toxic, clean, between and failed rows of each language, mixed."""
    for language, count in counts.items():
        scores = np.repeat([0.9, 0.1, 0.3, -1.0], count)
        scores = np.random.default_rng(0).permutation(scores)
        rows = [
            {"text": f"{language} {i}", "toxicity": score, "meta_data": None}
            for i, score in enumerate(scores)
        ]
        write_jsonl(folder / f"ptp-{language}" / "full-00000-of-00001-0a1b.jsonl", rows)


def test_ptp_takes_so_many_of_each_class_and_counts_what_it_dropped(tmp_path, capsys):
    write_ptp(tmp_path / "raw", de=(20, 30, 7, 2), en=(3, 40, 0, 0), sv=(4, 4, 0, 0))
    table = printed(capsys, "ptp", tmp_path / "raw", "--out", tmp_path / "paper", "--each", 10)
    folder = tmp_path / "paper" / "detection"
    assert table[0] == "rows no text no score between test prompt toxic clean written".split()
    assert table[2:4] == ["de 59 0 2 7 0 20 30 20".split(), "en 43 0 0 0 0 3 40 13".split()]
    assert table[4:] == [
        ["languages left out because they are not among the sixteen: sv (8)"],
        [f"wrote {folder} (33 lines in de.jsonl, en.jsonl)"],
    ]
    german = [row["toxicity"] for row in lines(folder / "de.jsonl")]
    assert sorted(german) == [0.1] * 10 + [0.9] * 10
    english = [row["toxicity"] for row in lines(folder / "en.jsonl")]
    assert english.count(0.9) == 3


def test_what_is_drawn_depends_only_on_the_seed(tmp_path):
    write_ptp(tmp_path / "raw", de=(50, 50, 0, 0), fr=(50, 50, 0, 0))
    write_ptp(tmp_path / "alone", de=(50, 50, 0, 0))
    drawn = {}
    for name, source, seed in (
        ("a", "raw", "0"),
        ("again", "raw", "0"),
        ("alone", "alone", "0"),
        ("other", "raw", "1"),
    ):
        folders = [str(tmp_path / source), "--out", str(tmp_path / name)]
        prepare.main(["ptp", *folders, "--each", "20", "--seed", seed])
        drawn[name] = (tmp_path / name / "detection" / "de.jsonl").read_bytes()
    assert drawn["a"] == drawn["again"] == drawn["alone"] != drawn["other"]

    # in the order of the file, and each language independently
    places = {}
    for language in ("de", "fr"):
        rows = lines(tmp_path / "a" / "detection" / f"{language}.jsonl")
        places[language] = [int(row["text"].split()[1]) for row in rows]
    assert places["de"] == sorted(places["de"])
    assert places["de"] != places["fr"]


def test_every_text_of_ptp_is_equally_likely_to_be_drawn(tmp_path):
    write_ptp(tmp_path / "raw", de=(8, 8, 0, 0))
    path = tmp_path / "raw" / "ptp-de" / "full-00000-of-00001-0a1b.jsonl"
    taken = np.zeros(16)
    for seed in range(200):
        rows = prepare.drawn([path], tmp_path / "none", score="text", most=4, seed=seed)
        taken += [row is not None for _, _, row in rows]
    # 100 times each; 35 are 5 standard deviations
    assert (taken > 65).all()
    assert (taken < 135).all()
    assert taken.sum() == 200 * 8


def test_ptp_without_a_usable_row_leaves_the_old_file(tmp_path, capsys):
    write_ptp(tmp_path / "raw", de=(0, 0, 3, 1))
    path = tmp_path / "paper" / "detection" / "de.jsonl"
    write_jsonl(path, [ROW])
    arguments = ["ptp", str(tmp_path / "raw"), "--out", str(tmp_path / "paper")]
    error = error_of(prepare.main, arguments, capsys)
    assert error == "error: no row was usable; see the table above for the reasons\n"
    assert lines(path) == [ROW]


# Test prompts

RUDE = "You are the worst singer in the whole town, you {}"


def test_ptp_and_hateful_rows_that_copy_a_test_prompt_are_dropped_and_counted(tmp_path, capsys):
    """Also one that an earlier run, before there were prompts, has left in hateful/."""
    texts = [
        RUDE.format("goose"),
        RUDE.format("GOOSE").replace(" ", "  "),  # exact
        RUDE.format("goat"),  # near
        "You are a goose",  # neither
        RUDE.format("goose") + ", and nobody likes your soup",  # neither
    ]
    rows = [{"text": text, "toxicity": 0.9, "meta_data": None} for text in texts]
    rows.append({"text": texts[0], "toxicity": 0.3, "meta_data": None})
    rows += [{**row, "toxicity": 0.1} for row in rows[2:4]]
    write_jsonl(tmp_path / "raw" / "ptp-en" / "full-0.jsonl", rows)
    write_jsonl(tmp_path / "prompts" / "de.jsonl", [{"prompt": texts[3]}])
    davidson = write_davidson(tmp_path, *((0, text) for text in texts))
    table = printed(capsys, "davidson", davidson, "--out", tmp_path)
    assert table[2] == "en 0 5 0 0 0 0 0 0 5".split()

    write_jsonl(tmp_path / "prompts" / "en.jsonl", [{"prompt": texts[0]}])
    table = printed(capsys, "davidson", davidson, "--out", tmp_path)
    assert table[2:4] == [
        "en (kept from en.jsonl) 5 0 0 0 0 0 3 2".split(),
        "en 0 5 0 0 0 0 5 0 0".split(),
    ]
    kept = [texts[3], texts[4]]
    assert [row["prompt"] for row in lines(tmp_path / "hateful" / "en.jsonl")] == kept

    # a row between the classes is dropped for that reason; copies take no place of the others
    arguments = ["ptp", tmp_path / "raw", "--out", tmp_path, "--each", 2]
    assert printed(capsys, *arguments)[2] == "en 8 0 0 1 4 2 1 3".split()
    written = [row["text"] for row in lines(tmp_path / "detection" / "en.jsonl")]
    assert written == [*kept, texts[3]]


# RTP-LX and multilingual MMLU


def test_rtp_lx_rows_name_their_locale_and_other_languages_are_left_out(tmp_path, capsys):
    prompts = {
        "DE": ["Hallo", "NA", ""],
        "ZH-Hans": ["你好"],
        "ZH-Hant": ["你好"],
        "DA": ["Hej", "Hej igen"],
    }
    for locale, texts in prompts.items():
        rows = [{"Prompt": text, "Completion": ""} for text in texts]
        write_jsonl(tmp_path / "raw" / f"RTP_LX_{locale}.json", rows)
    table = printed(capsys, "rtp-lx", tmp_path / "raw", "--out", tmp_path / "paper")
    folder = tmp_path / "paper" / "prompts"
    assert table[2:] == [
        "de DE 3 2 1".split(),
        "zh ZH-Hans 1 0 1".split(),
        ["languages left out because they are not among the sixteen: da (2), zh-hant (1)"],
        [f"wrote {folder} (2 lines in de.jsonl, zh.jsonl)"],
    ]
    assert lines(folder / "zh.jsonl") == [{"prompt": "你好", "locale": "ZH-Hans"}]


def test_files_of_an_earlier_run_are_kept_and_named(tmp_path, capsys):
    raw = tmp_path / "raw"
    write_jsonl(raw / "RTP_LX_DE.json", [{"Prompt": "Hallo"}])
    printed(capsys, "rtp-lx", raw, "--out", tmp_path / "paper")
    (raw / "RTP_LX_DE.json").unlink()
    write_jsonl(raw / "RTP_LX_HI.json", [{"Prompt": "soup"}])
    write_jsonl(raw / "RTP_LX_.json", [{"Prompt": "soup"}])  # of no language
    table = printed(capsys, "rtp-lx", raw, "--out", tmp_path / "paper")
    assert table[-3:] == [
        ["languages left out because they are not among the sixteen: unknown (1)"],
        [f"wrote {tmp_path / 'paper' / 'prompts'} (1 lines in hi.jsonl)"],
        ["kept from an earlier run: de.jsonl"],
    ]


def test_translations_of_a_row_of_rtp_lx_have_one_id(tmp_path, capsys):
    """Index is text in some files and a number in others; rows from 999 on are no translations."""
    indices = {"DE": ["7", "998", "999"], "HI": [7, None, 1_000]}
    for locale, of_locale in indices.items():
        rows = [{"Prompt": f"{locale} {index}", "Index": index} for index in of_locale]
        write_jsonl(tmp_path / "raw" / f"RTP_LX_{locale}.json", rows)
    printed(capsys, "rtp-lx", tmp_path / "raw", "--out", tmp_path / "paper")
    ids = {}
    for language in ("de", "hi"):
        rows = lines(tmp_path / "paper" / "prompts" / f"{language}.jsonl")
        ids[language] = [row.get("id") for row in rows]
    assert ids == {"de": ["rtp-lx/7", "rtp-lx/998", None], "hi": ["rtp-lx/7", None, None]}


def test_pairs_of_rtp_lx_are_rows_that_are_no_test_prompts_and_no_translations_of_them(
    tmp_path, capsys
):
    """Index 0 to 39 are translations in two languages; in Hindi, twenty of them are missing."""
    for locale, count in (("DE", 40), ("HI", 20)):
        rows = []
        for index in range(count):
            row = {"Prompt": f"{locale} {'abcdefghij'[index % 10] * 9} {'qrst'[index // 10] * 9}"}
            row |= {"Index": index, "Completion": "You nuisance.", "BenignCompletion": "Thanks."}
            rows.append(row | {"CompletionAnnotations": {"Toxicity": 5}})
        write_jsonl(tmp_path / "raw" / f"RTP_LX_{locale}.json", rows)
    arguments = ["rtp-lx", tmp_path / "raw", "--out", tmp_path]

    # 1) the same prompts in both languages, as far as there are translations
    table = printed(capsys, *arguments, "--each", 10)
    assert table[2:4] == ["de DE 40 0 30 10".split(), "hi HI 20 0 10 10".split()]
    ids = {}
    for language in ("de", "hi"):
        ids[language] = {row["id"] for row in lines(tmp_path / "prompts" / f"{language}.jsonl")}
    assert ids["de"] & {f"rtp-lx/{index}" for index in range(20)} <= ids["hi"]

    # 2) the others become pairs, unless their translation is a prompt in the other language
    printed(capsys, *arguments, "--pairs")
    for language, count in (("de", 40), ("hi", 20)):
        rows = lines(tmp_path / "instructions" / f"{language}.jsonl")
        left = {f"rtp-lx/{index}" for index in range(count)} - ids["de"] - ids["hi"]
        assert {row["id"] for row in rows} == left and left
        assert {row["rejected"] for row in rows} == {"You nuisance."}
    copies = overlap_check.check(tmp_path, ["instructions"], ["de", "hi"], allow=False)
    assert {str(of_language) for of_language in copies["instructions"].values()} == {"none"}


def test_pairs_that_people_have_curated_are_not_replaced(tmp_path, capsys):
    row = {"Prompt": "Stop it,", "Completion": "You nuisance.", "BenignCompletion": "please."}
    row |= {"CompletionAnnotations": {"Toxicity": 5}}
    write_jsonl(tmp_path / "raw" / "RTP_LX_DE.json", [row])
    arguments = ["rtp-lx", tmp_path / "raw", "--out", tmp_path, "--pairs"]
    printed(capsys, *arguments)
    written = printed(capsys, *arguments)  # its own pairs are
    assert written[-1] == [f"wrote {tmp_path / 'instructions'} (1 lines in de.jsonl)"]
    path = tmp_path / "instructions" / "de.jsonl"
    write_jsonl(path, [*lines(path), {"prompt": "ox", "response": "soup"}])
    before = path.read_bytes()
    message = error_of(prepare.main, list(map(str, arguments)), capsys)
    assert "de.jsonl:2 is not from RTP-LX, and --pairs would replace the file" in message
    assert path.read_bytes() == before
    message = error_of(prepare.main, list(map(str, [*arguments, "--each", 3])), capsys)
    assert "--each is the number of prompts" in message


def question_row(subject: str, question: str, answer: str = "B") -> dict:
    return {
        "id": f"{subject}/test/0",
        "instruction": question,
        "option_a": "Nile",
        "option_b": "Alps",
        "option_c": "Gobi",
        "option_d": "Oslo",
        "answer": answer,
    }


def test_mmlu_takes_one_subject_of_one_split(tmp_path, capsys):
    rows = [
        question_row("anatomy", "Which bone?"),
        question_row("high_school_geography", "Which mountains?"),
        question_row("high_school_geography", "?", answer=""),
    ]
    source = tmp_path / "data"
    source.mkdir()
    (source / "ar_test.json").write_text(json.dumps(rows))
    (source / "ar_dev.json").write_text(json.dumps(rows))
    (source / "sv_test.json").write_text(json.dumps(rows))
    (source / "de_test.json").write_text(json.dumps(rows[:2]))
    arguments = ["mmlu", source, "--out", tmp_path / "paper"]
    table = printed(capsys, *arguments)
    folder = tmp_path / "paper" / "mmlu"
    assert table[2:] == [
        "ar 3 1 1 1".split(),
        "de 2 1 0 1".split(),
        ["languages left out because they are not among the sixteen: sv (1)"],
        [f"wrote {folder} (2 lines in ar.jsonl, de.jsonl)"],
    ]
    assert lines(folder / "ar.jsonl")[0]["question"] == "Which mountains?"
    anatomy = printed(capsys, *arguments, "--subject", "anatomy")
    assert anatomy[2] == "ar 3 2 0 1".split()


# HateCheck


def write_hatecheck(folder, language: str, *cases) -> str:
    """Write cases, each (text, label), as HateCheck ("") or Multilingual HateCheck has them."""
    name = f"hatecheck_cases_final_{language}.csv" if language else "test_suite_cases.csv"
    text = "mhc_case_id" if language else ",case_id"
    text += ",functionality,test_case,label_gold,target_ident\n"
    for i, (case, label) in enumerate(cases):
        number = f"{language}-{i}" if language else f"{i},{i}"
        text += f'{number},derog_h,"{case}",{label},\n'
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_hatecheck_writes_the_cases_of_both_publications_and_names_other_languages(
    tmp_path, capsys
):
    cases = [("you donkey ", "hateful"), ("a donkey, grey", "non-hateful")]
    paths = [
        write_hatecheck(tmp_path, "", *cases, ("soup", "unclear"), (" ", "hateful")),
        write_hatecheck(tmp_path, "mandarin", ("蠢驴", "hateful")),
        write_hatecheck(tmp_path, "swahili", ("punda", "hateful")),
    ]
    table = printed(capsys, "hatecheck", *paths, "--out", tmp_path / "paper")
    folder = tmp_path / "paper" / "hatecheck"
    assert table[0] == "rows no label no text written".split()
    assert table[2:] == [
        "en hateful 2 0 1 1".split(),
        "en non-hateful 1 0 0 1".split(),
        "en unclear 1 1 0 0".split(),
        "zh hateful 1 0 0 1".split(),
        ["languages left out because they are not among the sixteen: swahili (1)"],
        [f"wrote {folder} (3 lines in en.jsonl, zh.jsonl)"],
    ]
    assert lines(folder / "en.jsonl") == [
        {"text": "you donkey", "hateful": True, "functionality": "derog_h"},
        {"text": "a donkey, grey", "hateful": False, "functionality": "derog_h"},
    ]
    assert lines(folder / "zh.jsonl")[0]["text"] == "蠢驴"


@pytest.mark.parametrize("column", ["case_id", "test_case", "label_gold", "functionality"])
def test_a_file_without_a_column_of_hatecheck_leaves_the_old_cases(tmp_path, capsys, column):
    path = tmp_path / "cases.csv"
    write_hatecheck(tmp_path, "", ("you donkey", "hateful"))
    text = (tmp_path / "test_suite_cases.csv").read_text().replace(column, "other", 1)
    path.write_text(text)
    old = [{"text": "goat", "hateful": True}]
    write_jsonl(tmp_path / "hatecheck" / "en.jsonl", old)
    error = error_of(prepare.main, ["hatecheck", str(path), "--out", str(tmp_path)], capsys)
    assert f"cases.csv:2: no column '{column}' in " in error
    assert error.count("\n") == 1
    assert lines(tmp_path / "hatecheck" / "en.jsonl") == old


# XSTest


def write_xstest(folder, *rows: str) -> str:
    path = folder / "xstest_prompts.csv"
    text = "id,prompt,type,label,focus,note\n" + "".join(f"{row}\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_xstest_writes_safe_and_unsafe_prompts(tmp_path, capsys):
    path = write_xstest(
        tmp_path,
        '1,"How do I kill time, please?",homonyms,safe,kill,violence',
        "2,Your soup is terrible.,contrast_homonyms,unsafe,soup,",
        "3,What now?,homonyms,unclear,now,",
    )
    table = printed(capsys, "xstest", path, "--out", tmp_path / "paper")
    file = tmp_path / "paper" / "xstest" / "en.jsonl"
    assert table[0] == "rows no label no text written".split()
    assert table[-1] == [f"wrote {file.parent} (2 lines in en.jsonl)"]
    assert lines(file) == [
        {"prompt": "How do I kill time, please?", "type": "homonyms", "label": "safe"},
        {"prompt": "Your soup is terrible.", "type": "contrast_homonyms", "label": "unsafe"},
    ]
    assert len(read_xstest(file)[0]) == 2


@pytest.mark.parametrize("column", ["prompt", "type"])
def test_a_file_without_a_column_of_xstest_leaves_the_old_prompts(tmp_path, capsys, column):
    path = Path(write_xstest(tmp_path, "1,How do I kill time?,homonyms,safe,kill,"))
    path.write_text(path.read_text().replace(column, "other", 1))
    old = [{"prompt": "soup", "label": "safe"}]
    write_jsonl(tmp_path / "xstest" / "en.jsonl", old)
    error = error_of(prepare.main, ["xstest", str(path), "--out", str(tmp_path)], capsys)
    assert f"xstest_prompts.csv:2: no column '{column}' in " in error
    assert error.count("\n") == 1
    assert lines(tmp_path / "xstest" / "en.jsonl") == old


# Hate speech


def write_davidson(folder, *tweets) -> str:
    """Write a file of tweets, each (class, text), and return its path."""
    text = ",count,hate_speech,offensive_language,neither,class,tweet\n"
    for i, (kind, tweet) in enumerate(tweets):
        text += f'{i},3,0,0,0,{kind},"{tweet}"\n'
    path = folder / "labeled_data.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_prompt_is_taken_once_whatever_its_spaces_and_references(tmp_path, capsys):
    path = write_davidson(
        tmp_path,
        (0, "you &amp; donkey"),
        (0, " you\n&#38;  donkey "),
        (0, "you &amp;amp; donkey"),
        (1, "silly"),
        (2, "kind"),
        (0, "&nbsp;"),
    )
    table = printed(capsys, "davidson", path, "--out", tmp_path)
    folder = tmp_path / "hateful"
    assert table[2:] == [
        "en 0 4 0 1 0 1 0 0 2".split(),
        "en 1 1 0 0 1 0 0 0 0".split(),
        "en 2 1 0 0 1 0 0 0 0".split(),
        [f"wrote {folder} (2 lines in en.jsonl)"],
    ]
    assert lines(folder / "en.jsonl") == [
        {"prompt": "you & donkey", "source": "davidson"},
        {"prompt": "you &amp; donkey", "source": "davidson"},
    ]


def test_a_second_run_changes_nothing(tmp_path, capsys):
    path = write_davidson(tmp_path, (0, "you &amp;amp; donkey"), (0, "you donkey"), (2, "kind"))
    prepare.main(["davidson", path, "--out", str(tmp_path)])
    before = (tmp_path / "hateful" / "en.jsonl").read_bytes()
    table = printed(capsys, "davidson", path, "--out", tmp_path)[-5:]
    assert table[1:3] == [
        "en (kept from en.jsonl) 2 0 0 0 0 0 0 2".split(),
        "en 0 2 0 0 0 0 2 0 0".split(),
    ]
    assert (tmp_path / "hateful" / "en.jsonl").read_bytes() == before


def test_offensive_adds_the_second_class(tmp_path):
    path = write_davidson(tmp_path, (0, "you donkey"), (1, "silly"), (2, "kind"))
    prepare.main(["davidson", path, "--out", str(tmp_path), "--offensive"])
    prompts = [row["prompt"] for row in lines(tmp_path / "hateful" / "en.jsonl")]
    assert prompts == ["you donkey", "silly"]


def test_a_row_in_two_corpora_is_taken_once_and_keeps_its_first_source(tmp_path, capsys):
    davidson = write_davidson(tmp_path, (0, "you &amp;\ndonkey"))
    prepare.main(["davidson", davidson, "--out", str(tmp_path)])
    superset = tmp_path / "en_hf_102024.csv"
    superset.write_text(
        "text,labels,source,dataset,nb_annotators\n"
        '"you &amp;\ndonkey",1.0,Twitter,davidson,3\n'
        "you goat,1.0,Gab,gab,3\n"
    )
    table = printed(capsys, "tonneau", superset, "--out", tmp_path)[-4:]
    assert table[2] == "en 1 2 0 0 0 0 1 0 1".split()
    assert lines(tmp_path / "hateful" / "en.jsonl") == [
        {"prompt": "you & donkey", "source": "davidson"},
        {"prompt": "you goat", "source": "tonneau/gab"},
    ]


def test_the_general_command_takes_the_columns_that_are_named(tmp_path):
    text = "id;Post;Hate;Fake\n1;gadhé;1;0\n2;suup;0;0\n3;jhooth;0;1\n"
    path = tmp_path / "posts.txt"
    path.write_bytes(text.encode("cp1252"))
    columns = "--text Post --label Hate Fake --hateful 1 --language hi".split()
    layout = "--encoding cp1252 --separator ; --source posts".split()
    prepare.main(["hate", str(path), *columns, *layout, "--out", str(tmp_path)])
    assert lines(tmp_path / "hateful" / "hi.jsonl") == [
        {"prompt": "gadhé", "source": "posts"},
        {"prompt": "jhooth", "source": "posts"},
    ]


def test_a_broken_line_leaves_every_file_unchanged(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("text,label,language\nyou donkey,1,2\nDu Esel,1,5\nshort\n")
    rows = [{"prompt": "Sie Esel", "source": "x"}]
    write_jsonl(tmp_path / "hateful" / "de.jsonl", rows)
    error = error_of(prepare.main, ["moosa", str(path), "--out", str(tmp_path)], capsys)
    assert "a.csv: after line 3: the row that ends in line 4" in error
    assert error.count("\n") == 1
    assert lines(tmp_path / "hateful" / "de.jsonl") == rows
    assert os.listdir(tmp_path / "hateful") == ["de.jsonl"]


def test_a_text_column_given_as_labels_is_not_printed(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"you donkey {i},1\n" for i in range(600)))
    columns = "--text text --label text --hateful 1 --language en".split()
    error = error_of(prepare.main, ["hate", str(path), *columns, "--out", str(tmp_path)], capsys)
    assert "does --label name the column of labels?" in error
    assert "donkey" not in error + capsys.readouterr().out


def test_codes_and_labels_cannot_command_the_terminal(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("text,label,lang\nyou donkey,1,\x1b[2J\nDu Esel,1,de\nEsel,\x1b[2J,de\n")
    columns = "--text text --label label --hateful 1 --language lang".split()
    prepare.main(["hate", str(path), *columns, "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "\\x1b[2j (1)" in printed
    assert "\x1b" not in printed


def test_labels_that_never_occur_are_an_error(tmp_path, capsys):
    path = write_davidson(tmp_path, (0, "you donkey"))
    arguments = ["davidson", path, "--hateful", "hate", "--out", str(tmp_path)]
    assert "no row was usable" in error_of(prepare.main, arguments, capsys)
    assert not (tmp_path / "hateful").exists()


# The command line


def test_without_a_corpus_the_usage_is_shown(capsys):
    assert "CORPUS" in error_of(prepare.main, [], capsys)


HATE_COMMANDS = ["davidson", "ibrohim", "moosa", "tonneau", "saitov", "hate"]


@pytest.mark.parametrize(
    "command", ["ptp", "rtp-lx", "mmlu", "hatecheck", "xstest", *HATE_COMMANDS, "scorer"]
)
def test_a_missing_source_is_a_one_line_error(tmp_path, capsys, command):
    more = []
    if command == "hate":
        more = "--text a --label b --hateful 1 --language en".split()
    path = str(tmp_path / "missing")
    error = error_of(prepare.main, [command, path, *more], capsys)
    assert error.startswith("error: ")
    assert path in error
    assert error.count("\n") == 1


def test_without_docstrings_every_command_describes_itself():
    command = [sys.executable, "-OO", TOY.parent / "prepare.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Make minitox's data folders from published corpora" in done.stdout


def test_the_script_runs_from_anywhere_and_writes_to_data_paper(tmp_path):
    path = write_davidson(tmp_path, (0, "you donkey"))
    done = subprocess.run(
        [sys.executable, TOY.parent / "prepare.py", "davidson", path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    folder = os.path.join("data", "paper", "hateful")
    assert done.stdout.endswith(f"wrote {folder} (1 lines in en.jsonl)\n")
    rows = lines(tmp_path / folder / "en.jsonl")
    assert rows == [{"prompt": "you donkey", "source": "davidson"}]


def test_every_command_and_option_in_datas_readme_exists(monkeypatch):
    called = set()

    def remembering(command: str):
        return lambda **options: called.add(command)

    for command in ("ptp", "rtp_lx", "mmlu", "hatecheck", "xstest", "hate", "scorer"):
        monkeypatch.setattr(prepare, command, remembering(command))
    readme = (TOY.parent / "README.md").read_text()
    commands = re.findall(r"^ *python data/prepare.py (.+)$", readme, re.MULTILINE)
    for command in commands:
        prepare.main(shlex.split(command))
    assert len(commands) > 10
    assert len(called) == 7
