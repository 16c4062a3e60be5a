"""prepare.py reads the published corpora with their authors' counts; no text is printed."""

import json
import re
from collections import Counter
from pathlib import Path

import prepare
import pytest

REFERENCES = re.compile(r"&(amp|lt|gt|#\d+);")  # character references of HTML
ESCAPES = re.compile(r"\\n|\\x[0-9a-f]{2}")  # escapes that were written out


@pytest.fixture
def raw(real) -> Path:
    """The folder of the corpora as they are published."""
    folder = real / "data" / "raw"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def count_lines(path: Path, pattern: re.Pattern, encoding: str) -> int:
    """The number of lines in which the pattern occurs."""
    lines = path.read_text(encoding=encoding).splitlines()
    return sum(bool(pattern.search(line)) for line in lines)


def run(capsys, out: Path, *arguments) -> tuple[dict, list[dict]]:
    """The printed table as {first cell: {column: count}}, and the rows of the one file written."""
    prepare.main([*map(str, arguments), "--out", str(out)])
    printed = capsys.readouterr().out
    with capsys.disabled():
        print(printed)
    table = []
    for line in printed.splitlines():
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
    counts = {}
    for name, *cells in table[2:]:
        numbers = [int(cell.replace(",", "")) for cell in cells]
        counts[name] = dict(zip(table[0][1:], numbers, strict=True))
    (path,) = (out / "hateful").iterdir()
    return counts, read_rows(path)


def rows_read(counts: dict) -> dict:
    """The column "rows" of a printed table."""
    return {name: count["rows"] for name, count in counts.items()}


def test_davidson(raw, tmp_path, capsys):
    path = raw / "davidson" / "labeled_data.csv"
    counts, rows = run(capsys, tmp_path, "davidson", path)
    assert rows_read(counts) == {"en  0": 1_430, "en  1": 19_190, "en  2": 4_163}
    assert len(rows) == 1_430
    assert not any(REFERENCES.search(row["prompt"]) for row in rows)
    assert not any("\n" in row["prompt"] for row in rows)
    assert count_lines(path, REFERENCES, "utf-8") > 5_000  # before they were decoded

    counts, again = run(capsys, tmp_path, "davidson", path)
    assert again == rows
    assert counts["en  0"]["already there"] == 1_430

    counts, rows = run(capsys, tmp_path, "davidson", path, "--offensive")
    assert counts["en  1"]["written"] + counts["en  1"]["duplicate"] == 19_190
    assert len(rows) >= 20_619


def test_ibrohim(raw, tmp_path, capsys):
    path = raw / "ibrohim" / "re_dataset.csv"
    counts, rows = run(capsys, tmp_path / "hs", "ibrohim", path)
    assert counts["id  1"]["rows"] == 5_561
    assert counts["id  0"]["rows"] == 7_608
    assert len(rows) == counts["id  1"]["written"] == 5_561 - counts["id  1"]["duplicate"]
    assert not any(REFERENCES.search(row["prompt"]) for row in rows)
    assert not any(ESCAPES.search(row["prompt"]) for row in rows)
    assert count_lines(path, ESCAPES, "latin-1") > 2_000  # before they were decoded

    counts, _ = run(capsys, tmp_path / "both", "ibrohim", path, "--label", "HS", "Abusive")
    assert rows_read(counts) == {
        "id  0,0": 5_860,
        "id  0,1": 1_748,
        "id  1,0": 2_266,
        "id  1,1": 3_295,
    }


RTP_LX = {"DE": "de", "HI": "hi", "PT": "pt", "ZH-Hans": "zh"}
RELEASED = {"DE": 1_029, "HI": 1_115, "PT": 1_095, "ZH-Hans": 1_036}
SAMPLE = 300


@pytest.mark.parametrize("locale, language", RTP_LX.items())
def test_every_row_of_rtp_lx_is_a_prompt(raw, tmp_path, locale, language):
    path = raw / "rtp_lx" / f"RTP_LX_{locale}.json"
    prepare.main(["rtp-lx", str(path), "--out", str(tmp_path)])
    rows = read_rows(tmp_path / "prompts" / f"{language}.jsonl")
    assert len(rows) == path.read_bytes().count(b"\n")
    assert Counter(row["locale"] for row in rows) == {locale: len(rows)}
    assert len(rows) in (SAMPLE, RELEASED[locale])
