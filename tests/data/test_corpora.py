"""The readers on small files in the published layouts, with their oddities; texts are made up."""

import json
import sys

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


def fates_of(rows) -> list[str]:
    return [fate for _, fate, _ in rows]


def test_a_row_without_a_language_is_counted_as_unknown(tmp_path):
    row = ptp_row("soup", 0.1, language=" ")
    path = write_rows(tmp_path / "rows.jsonl", [row])
    assert [name for name, _, _ in corpora.ptp(path, "text")] == ["unknown"]


def test_columns_of_mmlu_that_mean_the_same_are_refused(tmp_path):
    header = "Question,A,B,C,D,option_a,Answer,Subject"
    path = write(tmp_path / "mmlu_DE-DE.csv", f"{header}\nq,a,b,c,d,a,A,x\n")
    with pytest.raises(InputError, match="two columns differ only in case or by option_"):
        list(corpora.mmlu(path, "x"))


# PolygloToxicityPrompts


def perspective(score) -> dict:
    value = {"type": "PROBABILITY", "value": score}
    toxicity = {
        "spanScores": [{"begin": 0, "end": 12, "score": value}],
        "summaryScore": value,
    }
    return {"attributeScores": {"TOXICITY": toxicity}, "languages": ["en"]}


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
FULL = "full-00000-of-00001-0123456789abcdef"


def test_the_classes_of_ptp_are_the_papers_and_a_failed_score_is_not_a_clean_one(tmp_path):
    path = write_rows(tmp_path / "ptp-en" / f"{FULL}.jsonl", PTP)
    rows = list(corpora.ptp(path, "text"))
    assert fates_of(rows) == FATES
    assert {name for name, _, _ in rows} == {"en"}
    assert rows[1][2] == {"text": "You donkey of a train!", "toxicity": 0.7}


def test_the_prompt_of_ptp_has_its_own_score(tmp_path):
    path = write_rows(tmp_path / "ptp-en" / "full-0.jsonl", PTP[:5])
    rows = list(corpora.ptp(path, "prompt"))
    assert fates_of(rows) == ["toxic", "clean", "clean", "clean", "no score"]
    assert rows[0][2] == {"text": "A calm sente", "toxicity": 0.6}


def test_wildchat_has_only_prompts_and_the_error_says_how_to_read_it(tmp_path):
    row = {
        "index": 3.0,
        "prompt": "You donkey!",
        "prompt_toxicity": 0.8,
        "toxicity_bucket": 3,
        "prompt_perspective": perspective(0.8),
        "meta_data": {"lang": "it"},
    }
    path = write_rows(tmp_path / "wildchat-it" / "wildchat-00000-of-00001-ab.jsonl", [row])
    expected = ("it", "toxic", {"text": "You donkey!", "toxicity": 0.8})
    assert list(corpora.ptp(path, "prompt")) == [expected]
    message = "wildchat-00000-of-00001-ab.jsonl:1: no column 'text' in .*--score prompt"
    with pytest.raises(InputError, match=message):
        list(corpora.ptp(path, "text"))


def test_the_language_of_ptp_is_read_from_the_rows_if_the_files_name_has_none(tmp_path):
    rows = [
        ptp_row("Eins.", 0.1, language="de"),
        ptp_row("Ett.", 0.1, language="sv"),
        {**ptp_row("?", 0.1), "meta_data": None},
        {**ptp_row("?", 0.1), "meta_data": "en"},
    ]
    path = write_rows(tmp_path / "a_few_rows_of_ptp" / "rows.jsonl", rows)
    assert [(name, fate) for name, fate, _ in corpora.ptp(path, "text")] == [
        ("de", "clean"),
        ("sv", "other language"),
        ("None", "other language"),
        ("None", "other language"),
    ]


def test_ptp_is_read_from_parquet_in_its_nested_schema(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "ptp-en" / f"{FULL}.parquet"
    path.parent.mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(PTP), path, row_group_size=3)
    assert fates_of(corpora.ptp(path, "text")) == FATES
    _, _, first = next(corpora.ptp(path, "prompt"))
    assert first == {"text": "A calm sente", "toxicity": 0.6}


def test_a_column_that_ptp_lacks_in_parquet_is_named(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"prompt": "x", "meta_data": {"lang": "en"}}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="a.parquet: row 1: no column 'text'"):
        list(corpora.ptp(tmp_path / "a.parquet", "text"))


# RTP-LX


def test_rtp_lx_is_json_lines_in_a_json_file_and_only_the_prompt_is_needed(tmp_path):
    one_release = {
        "Prompt": "A harmless placeholder that stops",
        "Completion": "",
        "Index": "0",
        "Locale": "DE",
        "Dialect": "",
        "PromptAnnotations": {"Toxicity": 1},
        "PromptAnnotationsRaw": {"Toxicity": [1, 1, 1]},
        "BenignCompletion": "here.",
    }
    another_release = {
        "Prompt": "NA",
        "Completion": "",
        "OriginalMetadata": {"Filename": "x", "Begin": 0, "End": 1},
        "Annotations": {"Toxicity": 1.67},
    }
    rows = [
        one_release,
        {"Prompt": "Another", "Index": 1, "Locale": "Pt-Br"},
        another_release,
        {"Prompt": " "},
        {"Prompt": None},
    ]
    path = write_rows(tmp_path / "RTP_LX_DE.json", rows)
    assert list(corpora.rtp_lx(path)) == [
        ("de  DE", "", {"prompt": one_release["Prompt"], "locale": "DE", "id": "rtp-lx/0"}),
        ("de  DE", "", {"prompt": "Another", "locale": "DE", "id": "rtp-lx/1"}),
        ("de  DE", "NA or empty", None),
        ("de  DE", "NA or empty", None),
        ("de  DE", "NA or empty", None),
    ]


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
    path = write_rows(tmp_path / f"RTP_LX_{locale}.json", [{"Prompt": "Hello"}])
    row = None if fate else {"prompt": "Hello", "locale": locale}
    assert list(corpora.rtp_lx(path)) == [(name, fate, row)]


@pytest.mark.parametrize(
    "changes, fate",
    [
        ({}, ""),
        ({"CompletionAnnotations": {"Toxicity": 3.0}}, ""),
        ({"CompletionAnnotations": {"Toxicity": 2}}, "not toxic"),
        ({"CompletionAnnotations": {}}, "not toxic"),
        ({"CompletionAnnotations": None}, "not toxic"),
        ({"Completion": ""}, "no completions"),
        ({"BenignCompletion": None}, "no completions"),
        ({"BenignCompletion": "You nuisance. "}, "no completions"),
        ({"Prompt": "NA"}, "NA or empty"),
    ],
)
def test_a_pair_of_rtp_lx_has_a_benign_reply_and_one_that_people_rated_as_toxic(
    tmp_path, changes, fate
):
    row = {
        "Prompt": "Stop it,",
        "Completion": "You nuisance.",
        "BenignCompletion": "please.",
        "CompletionAnnotations": {"Toxicity": 5},
    }
    texts = {"prompt": "Stop it,", "locale": "EN"}
    texts |= {"response": "please.", "rejected": "You nuisance.", "source": "rtp-lx"}
    path = write_rows(tmp_path / "RTP_LX_EN.json", [row | changes])
    (converted,) = corpora.rtp_lx(path, pairs=True)
    assert converted == ("en  EN", fate, None if fate else texts)


def test_an_rtp_lx_row_without_a_prompt_is_named(tmp_path):
    rows = [{"Prompt": "Hello"}, {"text": "Hello", "Index": 1}]
    path = write_rows(tmp_path / "RTP_LX_DE.json", rows)
    with pytest.raises(InputError, match="RTP_LX_DE.json:2: no column 'Prompt' in text, Index"):
        list(corpora.rtp_lx(path))


# HateCheck


def case_row(**changes) -> dict:
    case = {"functionality": "derog_h", "test_case": "You donkey. ", "label_gold": "hateful"}
    return {**case, **changes}


@pytest.mark.parametrize(
    "number, name",
    [
        ({"case_id": "17"}, "en  hateful"),
        ({"mhc_case_id": "arabic-17"}, "ar  hateful"),
        ({"mhc_case_id": "mandarin-17"}, "zh  hateful"),
        ({"mhc_case_id": "polish-17", "case_id": "17"}, "pl  hateful"),
    ],
)
def test_the_number_of_a_case_of_hatecheck_has_its_language(tmp_path, number, name):
    path = write_rows(tmp_path / "cases.jsonl", [number | case_row()])
    case = {"text": "You donkey.", "hateful": True, "functionality": "derog_h"}
    assert list(corpora.hatecheck(path)) == [(name, "", case)]


@pytest.mark.parametrize(
    "changes, fate",
    [
        ({"case_id": "1", "label_gold": "non-hateful"}, ""),
        ({"case_id": "1", "label_gold": "Hateful"}, "no label"),
        ({"case_id": "1", "label_gold": None}, "no label"),
        ({"case_id": "1", "test_case": " "}, "no text"),
        ({"mhc_case_id": "swahili-1"}, "other language"),
        ({"mhc_case_id": None}, "other language"),
        ({"mhc_case_id": "-1"}, "other language"),
    ],
)
def test_what_becomes_of_a_case_of_hatecheck(tmp_path, changes, fate):
    path = write_rows(tmp_path / "cases.jsonl", [case_row(**changes)])
    ((_, its_fate, row),) = corpora.hatecheck(path)
    assert its_fate == fate
    assert (row is None) == bool(fate)
    assert fate or row["hateful"] is False


# Multilingual MMLU

QUESTION = "Which of these is a river?"
CHOICES = ["Nile", "Alps", "Gobi", "Oslo"]
OPTIONS = {"option_a": "Nile", "option_b": "Alps", "option_c": "Gobi", "option_d": "Oslo"}
ANSWER = {"question": QUESTION, "choices": CHOICES, "answer": "A"}
OKAPI = {
    "id": "high_school_geography/test/0",
    "instruction": QUESTION,
    **OPTIONS,
    "answer": "A",
}
GLOBAL = {
    "sample_id": "high_school_geography/test/4",
    "subject": "high_school_geography",
    "subject_category": "Social Sciences",
    "question": QUESTION,
    **OPTIONS,
    "answer": "A",
    "required_knowledge": "[]",
    "is_annotated": False,
}
LIGHTEVAL = {
    "question": QUESTION,
    "choices": CHOICES,
    "answer": "A",
    "subject": "high_school_geography",
    "id": "high_school_geography/test/0",
}


def geography(path) -> list[tuple]:
    return list(corpora.mmlu(path, "high_school_geography"))


def test_okapi_is_a_json_array_and_m_mmlu_is_json_lines(tmp_path):
    rows = [OKAPI, {**OKAPI, "id": "anatomy/test/0"}]
    okapi = write(tmp_path / "data" / "ar_test.json", json.dumps(rows))
    m_mmlu = write_rows(tmp_path / "data" / "ar" / "test.jsonl", rows)
    for path in (okapi, m_mmlu):
        assert geography(path) == [("ar", "", ANSWER), ("ar", "other subject", None)]


@pytest.mark.parametrize("row", [OKAPI, GLOBAL, LIGHTEVAL])
def test_the_columns_of_all_sets_become_the_same_question(tmp_path, row):
    path = write_rows(tmp_path / "cs" / "test-00000-of-00001.jsonl", [row])
    assert geography(path) == [("cs", "", ANSWER)]


def test_lists_of_choices_are_read_from_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "ko").mkdir()
    for name, row in (("test-00000-of-00001.parquet", LIGHTEVAL), ("test-1.parquet", GLOBAL)):
        path = tmp_path / "ko" / name
        parquet.write_table(pyarrow.Table.from_pylist([row]), path)
        assert geography(path) == [("ko", "", ANSWER)]


def test_mmmlu_is_csv_with_a_nameless_index_and_odd_subjects(tmp_path):
    subjects = [
        "high_school_geography",
        "high_school_geography_test.csv_sw-KE.csv",
        "high_school_geography_test-sw-KE.csv",
        "anatomy",
    ]
    text = ",Question,A,B,C,D,Answer,Subject\n"
    for i, subject in enumerate(subjects):
        text += f'{i},"Which of these\nis a ""river""?",Nile,"Alps, the",Gobi,Oslo,A,{subject}\n'
    rows = geography(write(tmp_path / "test" / "mmlu_PT-BR.csv", text))
    assert fates_of(rows) == ["", "", "", "other subject"]
    assert rows[0][2] == {
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
def test_an_incomplete_question_is_dropped(tmp_path, change):
    path = write_rows(tmp_path / "ar_test.jsonl", [{**OKAPI, **change}])
    assert geography(path) == [("ar", "incomplete", None)]


def test_a_question_whose_choices_are_no_list_is_incomplete(tmp_path):
    rows = []
    for choices in (None, 3, "abcd", ["a", "b", "c", "d"]):
        row = {"id": "high_school_geography/test/1", "instruction": "q", "answer": "A"}
        rows.append({**row, "choices": choices})
    path = write_rows(tmp_path / "de_test.jsonl", rows)
    assert fates_of(geography(path)) == ["incomplete", "incomplete", "incomplete", ""]


def test_a_missing_column_of_a_question_is_named(tmp_path):
    row = {name: value for name, value in OKAPI.items() if name != "option_c"}
    path = write(tmp_path / "ar_test.json", json.dumps([row]))
    with pytest.raises(InputError, match="ar_test.json: item 1: no column 'c'"):
        geography(path)


def test_a_broken_array_of_questions_is_named(tmp_path):
    path = tmp_path / "ar_test.json"
    write(path, json.dumps([OKAPI, 3]))
    with pytest.raises(InputError, match="ar_test.json: item 2: expected a JSON object, found int"):
        geography(path)
    write(path, json.dumps([OKAPI])[:-5])
    with pytest.raises(InputError, match="ar_test.json: "):
        geography(path)
