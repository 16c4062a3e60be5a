"""Files are whole or absent, and a run's record keeps results apart."""

import pytest

from minitox.errors import InputError
from minitox.files import claim_run, read_json, read_jsonl, replacing, write_json


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "result"
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert list((tmp_path / "deep").iterdir()) == []
    for text in ("first", "second"):
        with replacing(path) as temporary:
            temporary.write_text(text)
        assert path.read_text() == text
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert [(file.name, file.read_text()) for file in (tmp_path / "deep").iterdir()] == [
        ("result", "second")
    ]


def test_results_of_a_run_are_never_mixed_with_anothers(tmp_path):
    claim_run(tmp_path, {"pool": "max", "seed": 0})
    record = read_json(tmp_path / "run.json")
    assert record["settings"] == {"pool": "max", "seed": 0} and set(record["versions"]) == {
        "python",
        "torch",
        "numpy",
    }
    claim_run(
        tmp_path, {"pool": "mean", "seed": 0}
    )  # nothing was found yet, so nothing can be mixed
    (tmp_path / "de").write_text("a result")
    claim_run(tmp_path, {"pool": "mean", "seed": 0})
    with pytest.raises(InputError, match="its seed was 0, this one's is 1"):
        claim_run(tmp_path, {"pool": "mean", "seed": 1})
    write_json(tmp_path / "run.json", {"settings": "gone"})
    with pytest.raises(InputError, match="its pool was None"):
        claim_run(tmp_path, {"pool": "mean", "seed": 0})
    (tmp_path / "run.json").unlink()
    with pytest.raises(InputError, match="holds results of another run"):
        claim_run(tmp_path, {"pool": "mean", "seed": 0})


def test_lines_come_with_where_they_stand(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(
        '{"a": "é"}\r\n{"a": "\u2028"}\n{"a": 3}'.encode()
    )  # U+2028 ends no line
    rows = list(read_jsonl(tmp_path / "rows.jsonl"))
    assert [row["a"] for _, row in rows] == ["é", "\u2028", 3]
    assert rows[2][0] == f"{tmp_path / 'rows.jsonl'}:3"


def test_a_language_may_be_added_to_a_run_but_not_changed(tmp_path):
    claim_run(tmp_path, {"seed": 0}, {"de": "a"})
    (tmp_path / "de.jsonl").write_text("{}\n")
    claim_run(tmp_path, {"seed": 0}, {"en": "b"})
    claim_run(tmp_path, {"seed": 0}, {"de": "a"})
    assert read_json(tmp_path / "run.json")["data"] == {"de": "a", "en": "b"}
    with pytest.raises(InputError, match="was made from other en data"):
        claim_run(tmp_path, {"seed": 0}, {"de": "a", "en": "c"})
    with pytest.raises(InputError, match="its seed was 0, this one's is 1"):
        claim_run(tmp_path, {"seed": 1}, {"de": "a"})
