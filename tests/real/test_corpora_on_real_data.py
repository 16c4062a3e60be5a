"""The corpora as published go through with the counts that their authors and our notes give; figures only, never text."""

import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "data"))
import prepare  # noqa: E402

REFERENCES, ESCAPES = re.compile(r"&(amp|lt|gt|#\d+);"), re.compile(r"\\n|\\x[0-9a-f]{2}")


@pytest.fixture
def raw(real):
    folder = real / "data" / "raw"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def run(capsys, out: Path, *arguments) -> tuple[dict, list[dict]]:
    """Rows of the printed table by their first cell, a dict each, and what is in the one file written."""
    prepare.main([*map(str, arguments), "--out", str(out)])
    printed = capsys.readouterr().out
    with capsys.disabled():
        print(printed)
    table = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in printed.splitlines()
        if line.startswith("|")
    ]
    (path,) = (out / "hateful").iterdir()
    counts = {
        row[0]: {name: int(cell.replace(",", "")) for name, cell in zip(table[0][1:], row[1:])}
        for row in table[2:]
    }
    return counts, [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_davidson(raw, tmp_path, capsys):
    path = raw / "davidson" / "labeled_data.csv"
    counts, rows = run(capsys, tmp_path, "davidson", path)
    assert {name: count["rows"] for name, count in counts.items()} == {
        "en  0": 1_430,
        "en  1": 19_190,
        "en  2": 4_163,
    }
    assert len(rows) == 1_430 and not any(
        REFERENCES.search(row["prompt"]) or "\n" in row["prompt"] for row in rows
    )
    assert (
        sum(bool(REFERENCES.search(line)) for line in path.read_text(encoding="utf-8").splitlines())
        > 5_000
    )  # they were there
    counts, again = run(capsys, tmp_path, "davidson", path)
    assert again == rows and counts["en  0"]["already there"] == 1_430
    counts, rows = run(capsys, tmp_path, "davidson", path, "--offensive")
    assert (
        counts["en  1"]["written"] + counts["en  1"]["duplicate"] == 19_190 and len(rows) >= 20_619
    )


def test_ibrohim(raw, tmp_path, capsys):
    path = raw / "ibrohim" / "re_dataset.csv"
    counts, rows = run(capsys, tmp_path / "hs", "ibrohim", path)
    assert counts["id  1"]["rows"] == 5_561 and counts["id  0"]["rows"] == 7_608
    assert len(rows) == counts["id  1"]["written"] == 5_561 - counts["id  1"]["duplicate"]
    assert not any(
        REFERENCES.search(row["prompt"]) or ESCAPES.search(row["prompt"]) for row in rows
    )
    assert (
        sum(bool(ESCAPES.search(line)) for line in path.read_text(encoding="latin-1").splitlines())
        > 2_000
    )
    counts, _ = run(capsys, tmp_path / "both", "ibrohim", path, "--label", "HS", "Abusive")
    assert {name: count["rows"] for name, count in counts.items()} == {
        "id  0,0": 5_860,
        "id  0,1": 1_748,
        "id  1,0": 2_266,
        "id  1,1": 3_295,
    }


@pytest.mark.parametrize(
    "locale, language", [("DE", "de"), ("HI", "hi"), ("PT", "pt"), ("ZH-Hans", "zh")]
)
def test_every_row_of_rtp_lx_is_a_prompt(raw, tmp_path, locale, language):
    path = raw / "rtp_lx" / f"RTP_LX_{locale}.json"
    prepare.main(["rtp-lx", str(path), "--out", str(tmp_path)])
    rows = [
        json.loads(line)
        for line in (tmp_path / "prompts" / f"{language}.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    ]
    assert len(rows) == path.read_bytes().count(b"\n") and Counter(
        row["locale"] for row in rows
    ) == {locale: len(rows)}
    assert len(rows) in (
        300,
        {"DE": 1_029, "HI": 1_115, "PT": 1_095, "ZH-Hans": 1_036}[locale],
    )  # a sample, or the release
