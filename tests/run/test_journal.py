"""Files that grow line by line: whole batches are kept, a torn line or batch is computed again."""

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from minitox.errors import InputError
from minitox.files import append, drop_torn_line, read_jsonl
from minitox.run import distributed
from minitox.run.journal import Batches, Joint, append_batches


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "deep" / "x.jsonl"


@pytest.fixture
def computed() -> list[list]:
    """The batches that were computed."""
    return []


@pytest.fixture
def plan(path, computed) -> Batches:
    """Six letters in three batches."""

    def rows_of(batch):
        computed.append(batch)
        return [{"letter": letter} for letter in batch]

    return Batches(path, [["a", "b"], ["c"], ["d", "e", "f"]], rows_of)


def letters_in(path: Path) -> list[str]:
    return [row["letter"] for _, row in read_jsonl(path)]


def test_progress_is_the_number_of_lines_in_all_files(plan, path):
    other = Batches(path.with_name("y.jsonl"), [["g"]], plan.rows_of)
    progress = list(append_batches([plan, other]))
    assert progress == [(2, plan), (3, plan), (6, plan), (7, other)]
    assert letters_in(path) == list("abcdef")
    assert letters_in(other.path) == ["g"]


def test_an_incomplete_batch_is_computed_again_and_complete_ones_are_not(plan, path, computed):
    other = Batches(path.with_name("y.jsonl"), [["g"]], plan.rows_of)
    list(append_batches([plan, other]))

    # four of six lines, and a part of the fifth
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4]) + lines[4][:5])
    computed.clear()
    assert list(append_batches([plan, other])) == [(7, plan)]
    assert computed == [["d", "e", "f"]]
    assert letters_in(path) == list("abcdef")


def test_any_beginning_of_a_file_is_completed_to_the_same_bytes(plan, path, computed):
    list(append_batches([plan]))
    whole = path.read_bytes()
    for size in range(0, len(whole) + 1, 5):  # a line has 16 bytes
        path.write_bytes(whole[:size])
        lines = whole[: size + 1].count(b"\n")  # a whole line may lack its end
        computed.clear()
        list(append_batches([plan]))
        assert path.read_bytes() == whole
        assert sum(map(len, computed)) == 6 - max(end for end in (0, 2, 3, 6) if end <= lines)


def test_an_error_keeps_the_batches_before_it(plan, path):
    def rows_of(batch):
        if batch == ["c"]:
            raise InputError("the logits are not finite")
        return plan.rows_of(batch)

    with pytest.raises(InputError, match="the logits are not finite"):
        list(append_batches([Batches(path, plan.batches, rows_of)]))
    assert letters_in(path) == ["a", "b"]
    list(append_batches([plan]))
    assert letters_in(path) == list("abcdef")


# ---------- calls that several files share


@dataclass(frozen=True)
class Upper:
    """A call on letters, of which at most `most` fit."""

    most: int
    made: list = field(default_factory=list, compare=False)

    def fits(self, inputs) -> bool:
        return len(inputs) <= self.most

    def __call__(self, inputs, names) -> list[str]:
        self.made.append(("".join(inputs), *names))
        if "!" in inputs:
            raise InputError(f"{'; '.join(names)}: not a letter")
        return [letter.upper() for letter in inputs]


def joint(path: Path, call: Upper, *batches: str) -> Joint:
    """A file of upper-case letters; a digit is written and not asked."""

    def rows_of(batch, results):
        results = iter(results)
        return [{"letter": next(results) if item.isalpha() else item} for item in batch]

    def inputs_of(batch):
        return [item for item in batch if not item.isdigit()]

    return Joint(path, list(map(list, batches)), rows_of, inputs_of, "".join, call)


def test_batches_of_several_files_share_a_call_while_they_fit(tmp_path):
    call = Upper(3)
    x = joint(tmp_path / "x.jsonl", call, "ab", "1")
    y = joint(tmp_path / "y.jsonl", call, "c", "de")
    z = joint(tmp_path / "z.jsonl", Upper(2), "f")
    assert list(append_batches([x, y, z])) == [(2, x), (3, x), (4, y), (6, y), (7, z)]
    assert call.made == [("abc", "ab", "1", "c"), ("de", "de")]
    assert [letters_in(file.path) for file in (x, y, z)] == [
        ["A", "B", "1"],
        ["C", "D", "E"],
        ["F"],
    ]


def test_a_shared_call_that_lacks_rows_is_made_again_and_only_these_are_written(tmp_path):
    call = Upper(5)
    files = [joint(tmp_path / f"{name}.jsonl", call, name * 2, name) for name in "xyz"]
    list(append_batches(files))
    assert call.made == [("xxxyy", "xx", "x", "yy"), ("yzzz", "y", "zz", "z")]
    whole = [file.path.read_bytes() for file in files]
    files[1].path.write_bytes(whole[1][:-3])  # its last batch is torn, and those of z are there
    call.made.clear()
    assert list(append_batches(files)) == [(9, files[1])]
    assert call.made == [("yzzz", "y", "zz", "z")]  # rounding is as before
    assert [file.path.read_bytes() for file in files] == whole


def test_an_error_of_a_shared_call_names_every_batch_in_it(tmp_path):
    call = Upper(9)
    files = [joint(tmp_path / "x.jsonl", call, "a"), joint(tmp_path / "y.jsonl", call, "!")]
    with pytest.raises(InputError, match="^a; !: not a letter"):
        list(append_batches(files))
    assert letters_in(files[0].path) == []


# ---------- several processes


def as_process(rank: int, plan: Batches, others: dict, monkeypatch, **more) -> list:
    """Carry out a plan as one of two processes; `others` has the other one's rows, by round."""
    rounds = iter(others)
    monkeypatch.setattr(distributed, "WORLD", 2)
    monkeypatch.setattr(distributed, "RANK", rank)
    monkeypatch.setattr(distributed, "FIRST", rank == 0)
    monkeypatch.setattr(distributed, "on_first", lambda function: [0])

    def gather(rows) -> list:
        other = next(rounds)
        return [rows, other] if rank == 0 else [other, rows]

    monkeypatch.setattr(distributed, "gather", gather)
    return list(append_batches([plan], **more))


def rows(letters: str) -> list[dict]:
    return [{"letter": letter} for letter in letters]


def test_batches_are_dealt_to_the_processes_and_the_first_one_writes(
    plan, path, computed, monkeypatch
):
    path.parent.mkdir()
    progress = as_process(0, plan, [[rows("c")], None], monkeypatch)
    assert computed == [["a", "b"], ["d", "e", "f"]]
    assert [lines for lines, _ in progress] == [2, 3, 6]
    assert letters_in(path) == list("abcdef")


def test_a_process_without_a_batch_in_the_last_round_takes_part(plan, path, computed, monkeypatch):
    progress = as_process(1, plan, [[rows("ab")], [rows("def")]], monkeypatch)
    assert computed == [["c"]]
    assert [lines for lines, _ in progress] == [2, 3, 6]
    assert not path.exists()


def test_with_a_sharded_model_all_processes_compute_each_batch(plan, computed, monkeypatch):
    others = [[rows("ab")], [rows("c")], [rows("def")]]
    progress = as_process(1, plan, others, monkeypatch, together=True)
    assert computed == plan.batches
    assert [lines for lines, _ in progress] == [2, 3, 6]


def test_an_error_in_one_process_is_raised_in_all(plan, path, monkeypatch):
    path.parent.mkdir()
    with pytest.raises(InputError, match="the logits are not finite"):
        as_process(0, plan, [InputError("the logits are not finite")], monkeypatch)
    assert letters_in(path) == ["a", "b"]  # the batch before it


# ---------- lines


@pytest.mark.parametrize(
    "content, kept",
    [
        (b"", b""),
        (b'{"a": 1}\n', b'{"a": 1}\n'),
        (b'{"a": 1}\n{"a', b'{"a": 1}\n'),
        (b'{"a": 1}', b'{"a": 1}\n'),  # whole, and only its end is missing
        (b'{"a": 1}\n\xe6', b'{"a": 1}\n'),  # in the middle of a character
    ],
)
def test_a_torn_line_is_cut_off(path, content, kept):
    path.parent.mkdir()
    path.write_bytes(content)
    drop_torn_line(path)
    assert path.read_bytes() == kept


def test_a_missing_file_is_created_with_its_folder(path):
    drop_torn_line(path)
    assert path.read_bytes() == b""


def test_rows_are_appended_as_lines_of_json(tmp_path):
    path = tmp_path / "x.jsonl"
    append(path, [{"text": "größer"}])
    append(path, [{"text": "two\nlines"}, {"text": "half \ud800"}])
    assert [row["text"] for _, row in read_jsonl(path)] == ["größer", "two\nlines", "half \ud800"]
    assert path.read_text().splitlines()[0] == '{"text": "größer"}'


def test_line_ends_of_old_macs_are_refused_and_nothing_is_cut(path):
    path.parent.mkdir()
    path.write_bytes(b'{"a": 1}\r{"a": 2}\r')
    with pytest.raises(InputError, match="its lines end with CR alone"):
        drop_torn_line(path)
    assert path.read_bytes() == b'{"a": 1}\r{"a": 2}\r'


def test_nothing_is_appended_through_a_link(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "x.jsonl").symlink_to("elsewhere")
    for write in (drop_torn_line, lambda path: append(path, [{"text": "soup"}])):
        with pytest.raises(InputError, match="x.jsonl is a link"):
            write(tmp_path / "x.jsonl")
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_a_full_disk_is_named_in_the_error(tmp_path, monkeypatch):
    def full_disk(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="x.jsonl.*No space left"):
        append(tmp_path / "x.jsonl", [{"text": "soup"}])
