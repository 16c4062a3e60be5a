"""Published files: their rows, their languages by name, and errors that say where they break."""

import os
import sys
from pathlib import Path

import pytest
from tiny import TOY

from minitox.errors import InputError

sys.path.insert(0, str(TOY.parent))
import raw_files  # noqa: E402

ROWS = [
    {"text": f"Sentence {i}.", "scores": {"TOXICITY": {"value": i / 10, "count": 3}}}
    for i in range(8)
]


def write(path, text: str, encoding: str = "utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


# Parquet


def write_parquet(path, rows: list[dict]):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=3)
    return path


def test_rows_of_parquet_are_numbered_over_all_batches(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", ROWS)
    places = [where for where, _ in raw_files.read(path)]
    assert places[-1] == f"{path}: row 8"


def test_only_the_requested_columns_are_read_from_parquet(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [{**row, "other": "x"} for row in ROWS])
    rows = [row for _, row in raw_files.read(path, ["text", "scores.TOXICITY.value"])]
    assert rows[6] == {"text": "Sentence 6.", "scores": {"TOXICITY": {"value": 0.6}}}


def test_a_parquet_column_that_occurs_twice_is_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.Table.from_arrays([["a"], ["b"]], names=["text", "text"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match="a.parquet: there are 2 columns with the name 'text'"):
        list(raw_files.read(tmp_path / "a.parquet"))


def test_rows_of_parquet_are_limited_in_size(tmp_path):
    """Dictionaries make a small file of rows that are large in memory."""
    path = write_parquet(tmp_path / "a.parquet", [{"text": "x" * 2**20}] * 200)
    assert path.stat().st_size < 2**20 * 100
    with pytest.raises(InputError, match="a.parquet: the 1,000 rows after row 0 are too large"):
        list(raw_files.read(path))


def test_a_broken_parquet_file_is_named(tmp_path):
    path = write_parquet(tmp_path / "b.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="b.parquet: "):
        list(raw_files.read(path))


def test_without_pyarrow_the_error_is_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "full-0.parquet"
    path.touch()
    with pytest.raises(InputError, match="full-0.parquet: .*pip install pyarrow$"):
        list(raw_files.read(path))


# CSV and JSON

WRONG_CELLS = "a.csv: after line 2: the row that ends in line 3 has more or fewer cells"


@pytest.mark.parametrize(
    "text, message",
    [
        ("text,label\nfine,1\na,b,c\n", WRONG_CELLS),
        ("text,label\nfine,1\nshort\n", WRONG_CELLS),
        (
            'text,label\nfine,1\n"never closed,1\nmore,0\n',
            "a.csv: after line 2: unexpected end of data; check the file's quotation marks",
        ),
        ('text,label\n"one" two,1\n', "a.csv: after line 0: ',' expected after '\"'"),
    ],
)
def test_the_error_says_where_a_csv_file_is_broken(tmp_path, text, message):
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(InputError) as error:
        list(raw_files.read(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", [{"encoding": "utf-9"}, {"separator": "tab"}])
def test_an_unknown_encoding_or_separator_is_an_input_error(tmp_path, option):
    path = write(tmp_path / "a.csv", "text,label\nfine,1\n")
    with pytest.raises(InputError, match="a.csv: after line 0: .*--encoding"):
        list(raw_files.read(path, **option))


def test_a_byte_order_mark_is_not_part_of_the_first_columns_name(tmp_path):
    path = write(tmp_path / "a.csv", "\ufefftext,label\nfine,1\n")
    assert list(raw_files.read(path)) == [(f"{path}:2", {"text": "fine", "label": "1"})]


def test_the_error_of_json_in_another_encoding_does_not_mention_csv_options(tmp_path):
    path = write(tmp_path / "de_test.json", '[{"question": "Schön?"}]', "latin-1")
    with pytest.raises(InputError, match="de_test.json: 'utf-8' codec can't decode") as error:
        list(raw_files.read(path))
    assert "--separator" not in str(error.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl", "a.parquet"])
def test_a_pipe_a_device_or_a_folder_is_not_read(tmp_path, name):
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(InputError, match=f"{name} is a pipe or a device, not a regular file"):
        list(raw_files.read(path))
    with pytest.raises(InputError, match="a pipe or a device"):
        raw_files.files_of(path, "full")
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="a pipe or a device"):
        list(raw_files.read(path))
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="is a folder"):
        list(raw_files.read(path))


@pytest.mark.parametrize(
    "text",
    [
        "x" * 2**22,  # in the header
        "text,label\nfine,1\n" + "," * 2**22,  # many cells
        "text,label\nfine,1\n" + 'a,"\n",' * 2**20,  # a row of many lines
    ],
)
def test_the_length_of_a_row_of_csv_is_limited(tmp_path, text):
    path = write(tmp_path / "a.csv", text + "\n")
    with pytest.raises(InputError, match="a.csv: after line [02]: .* 4,194,304 characters"):
        list(raw_files.read(path))


def test_the_length_of_a_cell_of_csv_is_limited(tmp_path):
    path = write(tmp_path / "a.csv", f"text,label\nfine,1\n{'x' * 2**18},1\n")
    with pytest.raises(InputError, match="a.csv: after line 2: field larger than field limit"):
        list(raw_files.read(path))


def test_many_rows_are_no_long_row(tmp_path):
    row = "x" * 1_000
    path = write(tmp_path / "a.csv", "text\n" + f"{row}\n" * 5_000)
    assert sum(1 for _ in raw_files.read(path)) == 5_000


def test_a_blank_line_of_csv_is_no_row(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\n\nfine,1\n\n")
    assert list(raw_files.read(path)) == [(f"{path}:3", {"text": "fine", "label": "1"})]
    assert list(raw_files.read(write(tmp_path / "b.csv", ""))) == []


def test_a_csv_column_that_occurs_twice_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "text,label,label\nfine,1,0\n")
    with pytest.raises(InputError, match="line 0: there are 2 columns with the name 'label'"):
        list(raw_files.read(path))
    # several columns without a name are those of a spreadsheet with empty columns
    path = write(tmp_path / "b.csv", "text,,\nfine,,\n")
    assert [row["text"] for _, row in raw_files.read(path)] == ["fine"]


def test_a_json_key_that_occurs_twice_is_refused(tmp_path):
    path = write(tmp_path / "a.json", '[{"text": "fine", "text": "other"}]')
    with pytest.raises(InputError, match="a.json: the key 'text' occurs twice"):
        list(raw_files.read(path))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("name, text", [("a.json", "[%s]"), ("a.jsonl", "%s")])
def test_a_number_that_is_not_finite_is_refused_in_json(tmp_path, number, name, text):
    path = write(tmp_path / name, text % f'{{"toxicity": {number}}}')
    with pytest.raises(InputError, match=f"a.jsonl?:.*{number} is not a finite number"):
        list(raw_files.read(path))


def test_a_json_array_is_limited_in_size(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"[")
    os.truncate(path, 2**27 + 1)
    with pytest.raises(InputError, match="a.json is too large: over 134,217,728 bytes"):
        list(raw_files.read(path))


# Names


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
def test_the_language_is_in_the_name_of_the_file_or_of_its_folders(name, language):
    assert raw_files.language_of(Path("corpora") / name) == language


def test_only_the_files_of_the_split_are_read(tmp_path):
    names = [
        "ptp-en/full-00000-of-00002-ab.parquet",
        "ptp-en/full-00001-of-00002-cd.parquet",
        "ptp-en/small-0.parquet",
        "ptp-sv/full/0000.parquet",
        ".cache/huggingface/download/ptp-en/full-00000-of-00002-ab.parquet.metadata",
        "full.md",
        "wildchat-en/wildchat-0.parquet",
    ]
    paths = [write(tmp_path / name, "") for name in names]
    assert raw_files.files_of(tmp_path, "full") == [paths[0], paths[1], paths[3]]
    assert raw_files.files_of(paths[2], "full") == [paths[2]]  # a file by name needs no split
    with pytest.raises(InputError, match="no data file with 'dev' in its name"):
        raw_files.files_of(tmp_path, "dev")
