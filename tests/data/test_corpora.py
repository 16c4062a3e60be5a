"""Every reader on small files in the exact shape as published, with the oddities that the real ones have. The texts are made up."""

import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from tiny import TOY, write_jsonl

from minitox.errors import InputError

sys.path.insert(0, str(TOY.parent))
import corpora  # noqa: E402


def write(path, text: str, encoding: str = "utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def write_rows(path, rows):
    write_jsonl(path, rows)
    return path


def hate(name: str, path, **changes) -> list[tuple]:
    """(name, fate, prompt) of each row of a hate-speech corpus."""
    layout = (
        {"name": name, "language": None, "encoding": "utf-8-sig", "separator": None, "origin": None}
        | corpora.HATE[name]
        | changes
    )
    return [
        (name, fate, row and row["prompt"])
        for name, fate, row in corpora.hate(path, Namespace(**layout))
    ]


# PolygloToxicityPrompts


def perspective(score) -> dict:
    return {
        "attributeScores": {
            "TOXICITY": {
                "spanScores": [
                    {"begin": 0, "end": 12, "score": {"type": "PROBABILITY", "value": score}}
                ],
                "summaryScore": {"type": "PROBABILITY", "value": score},
            }
        },
        "languages": ["en"],
    }


def ptp_row(text: str, toxicity, prompt_toxicity=0.0, language: str = "en") -> dict:
    return {
        "text": text,
        "prompt": text[:12],
        "continuation": text[12:],
        "toxicity": toxicity,
        "toxicity_bucket": 0.0,
        "meta_data": {
            "data_category": "web",
            "lang": language,
            "timestamp": "2019-01-01T00:00:00Z",
            "url": "https://example.org/",
            "pile_set_name": None,
        },
        "perspective": perspective(toxicity),
        "prompt_perspective": perspective(prompt_toxicity),
        "continuation_perspective": None,
    }


PTP = [
    ptp_row("A calm sentence about trains.", 0.0036, 0.6),
    ptp_row("You donkey of a train!", 0.7, 0.1),
    ptp_row("An odd one.", 0.2),
    ptp_row("Another.", 0.5),
    ptp_row("It failed.", -1.0, -1.0),
    ptp_row("No score.", None, None),
    ptp_row(" ", 0.9),
    {**ptp_row("x", 0.9), "text": None, "prompt": None},
]
FATES = ["clean", "toxic", "between", "between", "no score", "no score", "no text", "no text"]


def test_the_classes_of_ptp_are_the_papers_and_a_failed_score_is_not_a_clean_one(tmp_path):
    found = list(
        corpora.ptp(
            write_rows(tmp_path / "ptp-en" / "full-00000-of-00001-0123456789abcdef.jsonl", PTP),
            "text",
        )
    )
    assert [fate for _, fate, _ in found] == FATES and {name for name, _, _ in found} == {"en"}
    assert found[1][2] == {"text": "You donkey of a train!", "toxicity": 0.7}


def test_the_prompt_of_ptp_has_a_score_of_its_own(tmp_path):
    found = list(corpora.ptp(write_rows(tmp_path / "ptp-en" / "full-0.jsonl", PTP[:5]), "prompt"))
    assert [fate for _, fate, _ in found] == ["toxic", "clean", "clean", "clean", "no score"]
    assert found[0][2] == {"text": "A calm sente", "toxicity": 0.6}


def test_wildchat_has_prompts_alone_and_says_how_to_read_it(tmp_path):
    row = {
        "index": 3.0,
        "prompt": "You donkey!",
        "prompt_toxicity": 0.8,
        "toxicity_bucket": 3,
        "prompt_perspective": perspective(0.8),
        "meta_data": {"lang": "it"},
    }
    path = write_rows(tmp_path / "wildchat-it" / "wildchat-00000-of-00001-ab.jsonl", [row])
    assert list(corpora.ptp(path, "prompt")) == [
        ("it", "toxic", {"text": "You donkey!", "toxicity": 0.8})
    ]
    with pytest.raises(
        InputError, match="wildchat-00000-of-00001-ab.jsonl:1: no column 'text' in .*--score prompt"
    ):
        list(corpora.ptp(path, "text"))


def test_without_a_name_that_tells_a_row_of_ptp_tells_its_language(tmp_path):
    rows = [
        ptp_row("Eins.", 0.1, language="de"),
        ptp_row("Ett.", 0.1, language="sv"),
        {**ptp_row("?", 0.1), "meta_data": None},
    ]
    found = list(
        corpora.ptp(write_rows(tmp_path / "a_few_rows_of_ptp" / "rows.jsonl", rows), "text")
    )
    assert [(name, fate) for name, fate, _ in found] == [
        ("de", "clean"),
        ("sv", "other language"),
        ("None", "other language"),
    ]


def test_ptp_is_read_from_parquet_in_its_nested_schema(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "ptp-en" / "full-00000-of-00001-0123456789abcdef.parquet"
    path.parent.mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(PTP), path, row_group_size=3)
    assert [fate for _, fate, _ in corpora.ptp(path, "text")] == FATES
    assert [row for _, _, row in corpora.ptp(path, "prompt")][0] == {
        "text": "A calm sente",
        "toxicity": 0.6,
    }
    assert [where for where, _ in corpora.read(path)][
        -1
    ] == f"{path}: row 8"  # numbers go on from one batch to the next


def test_only_the_columns_asked_for_are_taken_from_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(PTP), tmp_path / "a.parquet")
    columns = ["text", "prompt_perspective.attributeScores.TOXICITY.summaryScore.value"]
    rows = [row for _, row in corpora.read(tmp_path / "a.parquet", columns)]
    assert rows[0] == {
        "text": "A calm sentence about trains.",
        "prompt_perspective": {"attributeScores": {"TOXICITY": {"summaryScore": {"value": 0.6}}}},
    }


def test_a_missing_column_of_parquet_and_a_broken_file_are_told(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(
        pyarrow.Table.from_pylist([{"prompt": "x", "meta_data": {"lang": "en"}}]),
        tmp_path / "a.parquet",
    )
    with pytest.raises(InputError, match="a.parquet: row 1: no column 'text'"):
        list(corpora.ptp(tmp_path / "a.parquet", "text"))
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(InputError, match="b.parquet: "):
        list(corpora.read(tmp_path / "b.parquet"))


def test_without_pyarrow_the_error_is_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "full-0.parquet").touch()
    with pytest.raises(InputError, match="full-0.parquet: .*pip install pyarrow$"):
        list(corpora.ptp(tmp_path / "full-0.parquet", "text"))


# RTP-LX


def test_rtp_lx_is_json_lines_in_a_json_file_and_only_the_prompt_is_relied_on(tmp_path):
    rows = [
        {
            "Prompt": "A harmless placeholder that stops",
            "Completion": "",
            "Index": "0",
            "Locale": "DE",
            "Dialect": "",
            "PromptAnnotations": {"Toxicity": 1},
            "PromptAnnotationsRaw": {"Toxicity": [1, 1, 1]},
            "BenignCompletion": "here.",
        },
        {"Prompt": "Another", "Index": 1, "Locale": "Pt-Br"},
        {
            "Prompt": "NA",
            "Completion": "",
            "OriginalMetadata": {"Filename": "x", "Begin": 0, "End": 1},
            "Annotations": {"Toxicity": 1.67},
        },
        {"Prompt": " "},
        {"Prompt": None},
    ]
    found = list(corpora.rtp_lx(write_rows(tmp_path / "RTP_LX_DE.json", rows)))
    assert found[:2] == [
        ("de  DE", "", {"prompt": "A harmless placeholder that stops", "locale": "DE"}),
        ("de  DE", "", {"prompt": "Another", "locale": "DE"}),
    ]
    assert found[2:] == [("de  DE", "NA or empty", None)] * 3


@pytest.mark.parametrize(
    "locale, name, fate",
    [
        ("ZH-Hans", "zh  ZH-Hans", ""),
        ("ZH-Hant", "zh-hant  ZH-Hant", "other language"),
        ("PT", "pt  PT", ""),
        ("NO-NB", "no-nb  NO-NB", "other language"),
        ("AR", "ar  AR", ""),
    ],
)
def test_chinese_is_simplified_chinese(tmp_path, locale, name, fate):
    (found,) = corpora.rtp_lx(write_rows(tmp_path / f"RTP_LX_{locale}.json", [{"Prompt": "Hello"}]))
    assert found == (name, fate, None if fate else {"prompt": "Hello", "locale": locale})


def test_an_rtp_lx_row_without_a_prompt_is_named(tmp_path):
    with pytest.raises(InputError, match="RTP_LX_DE.json:2: no column 'Prompt' in text, Index"):
        list(
            corpora.rtp_lx(
                write_rows(
                    tmp_path / "RTP_LX_DE.json",
                    [{"Prompt": "Hello"}, {"text": "Hello", "Index": 1}],
                )
            )
        )


# MMLU

ANSWER = {
    "question": "Which of these is a river?",
    "choices": ["Nile", "Alps", "Gobi", "Oslo"],
    "answer": "A",
}
OKAPI = {
    "id": "high_school_geography/test/0",
    "instruction": "Which of these is a river?",
    "option_a": "Nile",
    "option_b": "Alps",
    "option_c": "Gobi",
    "option_d": "Oslo",
    "answer": "A",
}
GLOBAL = {
    "sample_id": "high_school_geography/test/4",
    "subject": "high_school_geography",
    "subject_category": "Social Sciences",
    "question": "Which of these is a river?",
    "option_a": "Nile",
    "option_b": "Alps",
    "option_c": "Gobi",
    "option_d": "Oslo",
    "answer": "A",
    "required_knowledge": "[]",
    "is_annotated": False,
}
LIGHTEVAL = {
    "question": "Which of these is a river?",
    "choices": ["Nile", "Alps", "Gobi", "Oslo"],
    "answer": "A",
    "subject": "high_school_geography",
    "id": "high_school_geography/test/0",
}


def geography(path) -> list[tuple]:
    return list(corpora.mmlu(path, "high_school_geography"))


def test_okapi_is_one_array_and_m_mmlu_is_json_lines(tmp_path):
    rows = [OKAPI, {**OKAPI, "id": "anatomy/test/0"}]
    for path in (
        write(tmp_path / "data" / "ar_test.json", json.dumps(rows)),
        write_rows(tmp_path / "data" / "ar" / "test.jsonl", rows),
    ):
        assert geography(path) == [("ar", "", ANSWER), ("ar", "other subject", None)]


@pytest.mark.parametrize("row", [OKAPI, GLOBAL, LIGHTEVAL])
def test_columns_of_all_four_become_the_same_question(tmp_path, row):
    assert geography(write_rows(tmp_path / "cs" / "test-00000-of-00001.jsonl", [row])) == [
        ("cs", "", ANSWER)
    ]


def test_lists_of_choices_are_read_from_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "ko").mkdir()
    for name, row in (("test-00000-of-00001.parquet", LIGHTEVAL), ("test-1.parquet", GLOBAL)):
        parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "ko" / name)
        assert geography(tmp_path / "ko" / name) == [("ko", "", ANSWER)]


def test_mmmlu_is_csv_with_a_nameless_index_and_odd_subjects(tmp_path):
    subjects = [
        "high_school_geography",
        "high_school_geography_test.csv_sw-KE.csv",
        "high_school_geography_test-sw-KE.csv",
        "anatomy",
    ]
    text = ",Question,A,B,C,D,Answer,Subject\n" + "".join(
        f'{i},"Which of these\nis a ""river""?",Nile,"Alps, the",Gobi,Oslo,A,{subject}\n'
        for i, subject in enumerate(subjects)
    )
    found = geography(write(tmp_path / "test" / "mmlu_PT-BR.csv", text))
    assert [fate for _, fate, _ in found] == ["", "", "", "other subject"]
    assert found[0][2] == {
        "question": 'Which of these\nis a "river"?',
        "choices": ["Nile", "Alps, the", "Gobi", "Oslo"],
        "answer": "A",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"instruction": ""},
        {"option_b": " "},
        {"option_d": None},
        {"answer": "E"},
        {"answer": ""},
        {"answer": None},
    ],
)
def test_a_question_that_lacks_a_part_is_dropped_not_asked(tmp_path, change):
    assert geography(write_rows(tmp_path / "ar_test.jsonl", [{**OKAPI, **change}])) == [
        ("ar", "incomplete", None)
    ]


def test_a_missing_column_is_named_and_an_array_of_something_else_too(tmp_path):
    row = {name: value for name, value in OKAPI.items() if name != "option_c"}
    with pytest.raises(InputError, match="ar_test.json: item 1: no column 'c'"):
        geography(write(tmp_path / "ar_test.json", json.dumps([row])))
    with pytest.raises(InputError, match="ar_test.json: item 2: expected a JSON object, found int"):
        geography(write(tmp_path / "ar_test.json", json.dumps([OKAPI, 3])))
    with pytest.raises(InputError, match="ar_test.json: "):
        geography(write(tmp_path / "ar_test.json", json.dumps([OKAPI])[:-5]))


@pytest.mark.parametrize(
    "name, language",
    [
        ("data/ar_test.json", "ar"),
        ("data/id/test.jsonl", "id"),
        ("Global-MMLU/cs/test-00000-of-00001.parquet", "cs"),
        ("PT_BR/test/0000.parquet", "pt"),
        ("test/mmlu_ZH-CN.csv", "zh"),
        ("test/mmlu_ES-LA.csv", "es"),
        ("test/mmlu_ID-ID.csv", "id"),
        ("test/mmlu_SW-KE.csv", "sw"),
        ("data/hy_test.json", "hy"),
        ("ptp-es/full-00000-of-00001-00aa11de22fr33.parquet", "es"),
        ("ptp-fr/full/0000.parquet", "fr"),
        ("es_hf_102024.csv", "es"),
        ("spanish-hate-speech-superset/data.csv", "es"),
        ("india-hate-speech-superset/data.csv", None),
        ("Arabic_test.csv", "ar"),
        ("Training/MultiLanguageTrainDataset.csv", None),
        ("what to do with it/rows.csv", None),
    ],
)
def test_the_language_is_told_by_the_name(name, language):
    assert corpora.language_of(Path("corpora") / name) == language


def test_only_the_files_of_the_split_are_taken(tmp_path):
    names = [
        "ptp-en/full-00000-of-00002-ab.parquet",
        "ptp-en/full-00001-of-00002-cd.parquet",
        "ptp-en/small-0.parquet",
        "ptp-sv/full/0000.parquet",
        ".cache/huggingface/download/ptp-en/full-00000-of-00002-ab.parquet.metadata",
        "full.md",
        "wildchat-en/wildchat-0.parquet",
    ]
    for name in names:
        write(tmp_path / name, "")
    assert corpora.files_of(tmp_path, "full") == [
        tmp_path / names[0],
        tmp_path / names[1],
        tmp_path / names[3],
    ]
    assert corpora.files_of(tmp_path / names[2], "full") == [
        tmp_path / names[2]
    ]  # a file that is named is meant
    with pytest.raises(InputError, match="no data file here has 'dev' in its name"):
        corpora.files_of(tmp_path, "dev")


# Hate speech


def test_davidson_has_newlines_in_quotes_character_references_and_2_is_the_clean_class(tmp_path):
    path = write(
        tmp_path / "labeled_data.csv",
        ",count,hate_speech,offensive_language,neither,class,tweet\n"
        '0,3,0,0,3,2,"@user nice weather &amp; a calm day"\n'
        '1,3,3,0,0,0,"you &#8220;donkey&#8221;\nof a\n\n tweet &lt;3"\n'
        '5,6,0,6,0,1,"""quoted"", and a comma"\n',
    )
    assert hate("davidson", path) == [
        ("en  2", "not hateful", None),
        ("en  0", "", "you “donkey” of a tweet <3"),
        ("en  1", "not hateful", None),
    ]
    assert hate("davidson", path, hateful=["0", "1"])[2] == ("en  1", "", '"quoted", and a comma')


IBROHIM = "Tweet,HS,Abusive,HS_Individual,HS_Group,HS_Religion,HS_Race,HS_Physical,HS_Gender,HS_Other,HS_Weak,HS_Moderate,HS_Strong\r\n"


def test_ibrohim_is_latin_1_with_escapes_written_out_as_text(tmp_path):
    path = write(
        tmp_path / "re_dataset.csv",
        IBROHIM
        + "".join(
            f"{text},1,0,0,0,0,0,0,0,0,1,0,0\r\n"
            for text in (
                r"USER keledai\nkamu\\n",
                r"- ya \xf0\x9f\x98\x80\xf0\x9f\x98\x81 tidak",
                r"keledai \xf0\x9f\x98",
                r"keledai \xf0\x9f\x98\x8",
                r"keledai\xf0\x9f\x98\x80\x'",
                "keledai \xe9",
                r"\n \xf0\x9f",
            )
        )
        + "sup hangat,0,1,0,0,0,0,0,0,0,0,0,0\r\n",
        "latin-1",
    )
    assert hate("ibrohim", path) == [
        ("id  1", "", "USER keledai kamu\\"),
        ("id  1", "", "- ya 😀😁 tidak"),
        ("id  1", "", "keledai"),
        ("id  1", "", "keledai"),
        ("id  1", "", "keledai😀'"),
        ("id  1", "", "keledai é"),
        ("id  1", "no text", None),
        ("id  0", "not hateful", None),
    ]
    with pytest.raises(
        InputError, match="re_dataset.csv: after line 0: .*can't decode byte 0xe9.*--encoding"
    ):
        hate("ibrohim", path, encoding="utf-8")


def test_moosa_has_floats_for_labels_and_numbers_for_languages(tmp_path):
    path = write(
        tmp_path / "Dataset" / "Training" / "MultiLanguageTrainDataset.csv",
        ",text,label,language\n"
        + "".join(f"{i},you donkey {i},1.0,{i}\n" for i in range(1, 14))
        + "14,warm soup,0.0,2.0\n15,you donkey,1,5.0\n",
    )
    found = hate("moosa", path)
    assert [
        name.split()[0] for name, _, _ in found
    ] == "ar en zh fr de ru tr hi-Latn ko it es pt id en de".split()
    assert [fate for _, fate, _ in found] == [""] * 6 + ["other language"] * 2 + [""] * 5 + [
        "not hateful",
        "",
    ]
    assert found[14] == ("de  1", "", "you donkey")


def test_the_language_of_a_moosa_test_file_can_be_told(tmp_path):
    path = write(tmp_path / "Porto_test.csv", "text,label\nyou donkey,1\n")
    with pytest.raises(
        InputError,
        match="Porto_test.csv:2: no column 'language' in text, label; --text, --label and --language",
    ):
        hate("moosa", path)
    assert hate("moosa", path, language="pt") == [("pt  1", "", "you donkey")]


def test_tonneau_has_float_labels_the_language_in_its_name_and_names_each_rows_corpus(tmp_path):
    path = write(
        tmp_path / "es_hf_102024.csv",
        "text,labels,source,dataset,nb_annotators\n"
        "burro,1.0,Twitter,ES_x,3.0\nsopa,0.0,Twitter,ES_x,\n",
    )
    assert hate("tonneau", path) == [("es  1", "", "burro"), ("es  0", "not hateful", None)]
    layout = {
        "name": "tonneau",
        "language": None,
        "encoding": "utf-8",
        "separator": None,
    } | corpora.HATE["tonneau"]
    assert next(corpora.hate(path, Namespace(**layout)))[2]["source"] == "tonneau/ES_x"


def test_a_file_of_no_known_language_asks_for_it(tmp_path):
    path = write(
        tmp_path / "ke_hf_102024.csv", "text,labels,source,dataset\nyou donkey,1.0,Twitter,KE_x\n"
    )
    with pytest.raises(InputError, match="--language"):
        hate("tonneau", path)
    assert hate("tonneau", path, language="en") == [("en  1", "", "you donkey")]


@pytest.mark.parametrize("name, separator", [("final_data.csv", ";"), ("out.csv", ",")])
def test_saitovs_separators_differ_degrees_are_hateful_and_minus_one_is_no_label(
    tmp_path, name, separator
):
    rows = [
        ["text", "sentiment", "hate_speech"],
        ["осёл", "0", "1"],
        ["суп", "1", "0"],
        ["осёл 2", "0", "2"],
        ["осёл 3", "0", "3"],
        ["?", "0", "-1"],
    ]
    path = write(tmp_path / name, "".join(separator.join(row) + "\n" for row in rows))
    assert [fate for _, fate, _ in hate("saitov", path)] == ["", "not hateful", "", "", "no label"]
    assert [fate for _, fate, _ in hate("saitov", path, hateful=["2", "3"])] == [
        "not hateful",
        "not hateful",
        "",
        "",
        "no label",
    ]
    assert hate("saitov", path)[4][0] == "ru  -1"


def test_any_of_several_columns_or_of_several_labels_in_a_cell_means_hateful(tmp_path):
    columns = write(tmp_path / "a.csv", "Post,Hate,Offensive\ngadha,0,1\nsuup,0,0\ngadha 2,1,0\n")
    found = hate(
        "hate", columns, language="hi", text="Post", label=["Hate", "Offensive"], hateful=["1"]
    )
    assert found == [
        ("hi  0,1", "", "gadha"),
        ("hi  0,0", "not hateful", None),
        ("hi  1,0", "", "gadha 2"),
    ]
    lists = write(
        tmp_path / "b.csv",
        'Unique ID,Post,Labels Set\n1,gadha,"hate,offensive"\n2,suup,non-hostile\n'
        "3,gadha,\"['fake', 'hate']\"\n4,x,\n",
    )
    found = hate("hate", lists, language="hi", text="Post", label=["Labels Set"], hateful=["hate"])
    assert [fate for _, fate, _ in found] == ["", "not hateful", "", "no label"]
    real_lists = write_rows(
        tmp_path / "c.jsonl",
        [
            {"Post": "gadha", "l": ["fake", "hate"]},
            {"Post": "suup", "l": []},
            {"Post": "suup", "l": None},
        ],
    )
    found = hate("hate", real_lists, language="hi", text="Post", label=["l"], hateful=["hate"])
    assert [fate for _, fate, _ in found] == ["", "no label", "no label"]


def test_the_language_may_stand_in_a_column(tmp_path):
    path = write(tmp_path / "a.csv", "text,label,lang\nyou donkey,1,en\nDu Esel,1,DE\nåsna,1,sv\n")
    found = hate("hate", path, language="lang", text="text", label=["label"], hateful=["1"])
    assert [(name.split()[0], fate) for name, fate, _ in found] == [
        ("en", ""),
        ("de", ""),
        ("sv", "other language"),
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "text,label\nfine,1\na,b,c\n",
            "a.csv: after line 2: the row that ends in line 3 has not as many cells",
        ),
        (
            "text,label\nfine,1\nshort\n",
            "a.csv: after line 2: the row that ends in line 3 has not as many cells",
        ),
        (
            'text,label\nfine,1\n"never closed,1\nmore,0\n',
            "a.csv: after line 2: unexpected end of data; a quotation mark",
        ),
        ('text,label\n"one" two,1\n', "a.csv: after line 0: ',' expected after '\"'"),
        ("words,label\nfine,1\n", "a.csv:2: no column 'text' in words, label; --text"),
    ],
)
def test_a_broken_csv_file_says_where_it_is_broken(tmp_path, text, message):
    with pytest.raises(InputError) as error:
        hate(
            "hate",
            write(tmp_path / "a.csv", text),
            language="en",
            text="text",
            label=["label"],
            hateful=["1"],
        )
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_encoding_or_separator_is_told(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\nfine,1\n")
    for change in ({"encoding": "utf-9"}, {"separator": "tab"}):
        with pytest.raises(InputError, match="a.csv: after line 0: .*--encoding"):
            hate(
                "hate",
                path,
                **{
                    "language": "en",
                    "text": "text",
                    "label": ["label"],
                    "hateful": ["1"],
                    **change,
                },
            )


def test_a_byte_order_mark_is_not_part_of_the_first_columns_name(tmp_path):
    path = write(tmp_path / "a.csv", "\ufefftext,label\nfine,1\n")
    assert hate("hate", path, language="en", text="text", label=["label"], hateful=["1"]) == [
        ("en  1", "", "fine")
    ]


def test_half_a_character_is_dropped_since_no_file_can_hold_it(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "you \\ud83d donkey", "label": 1}\n')
    assert hate("hate", path, language="en", text="text", label=["label"], hateful=["1"]) == [
        ("en  1", "", "you donkey")
    ]


def test_cells_of_another_kind_are_no_text_and_no_language(tmp_path):
    """A row without a language, a text where an object belongs, options that are no list: the row is counted, and the next one read."""
    path = write(tmp_path / "a.csv", 'text,label,language\n,,\n"fine",1,[]\nfine,1,en\n')
    found = hate("hate", path, text="text", label=["label"], hateful=["1"])
    assert [name.split()[0] for name, _, _ in found] == ["unknown", "unknown", "en"] and found[2][
        1:
    ] == ("", "fine")
    path = write_rows(
        tmp_path / "full-0.jsonl", [{"text": "fine", "toxicity": 0.1, "meta_data": "en"}]
    )
    assert [(language, fate) for language, fate, _ in corpora.ptp(path, "text")] == [
        ("None", "other language")
    ]
    path = write_rows(
        tmp_path / "de_test.jsonl",
        [
            {
                "id": "high_school_geography/test/1",
                "instruction": "q",
                "choices": choices,
                "answer": "A",
            }
            for choices in (None, 3, "abcd", ["a", "b", "c", "d"])
        ],
    )
    assert [fate for _, fate, _ in corpora.mmlu(path, "high_school_geography")] == [
        "incomplete"
    ] * 3 + [""]


def test_json_in_another_encoding_is_not_called_a_wrong_separator(tmp_path):
    path = write(tmp_path / "de_test.json", '[{"question": "Schön?"}]', "latin-1")
    with pytest.raises(InputError, match="de_test.json: 'utf-8' codec can't decode") as error:
        list(corpora.mmlu(path, "x"))
    assert "--separator" not in str(error.value)
