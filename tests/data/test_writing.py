"""Before a command of data/ writes: no source is replaced, and no other run writes there."""

import os
import sys
from pathlib import Path

import pytest
from tiny import TOY

from minitox.errors import InputError

sys.path.insert(0, str(TOY.parent))
import writing  # noqa: E402


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source" / "en.jsonl"
    path.parent.mkdir()
    path.write_text("soup")
    return path


def same_path(source):
    return source


def another_path(source):
    return source.parent / ".." / "source" / "en.jsonl"


def hard_link(source):
    os.link(source, source.parent / "linked.jsonl")
    return source.parent / "linked.jsonl"


def symbolic_link(source):
    (source.parent / "linked.jsonl").symlink_to(source)
    return source.parent / "linked.jsonl"


@pytest.mark.parametrize("name_of", [same_path, another_path, hard_link, symbolic_link])
def test_a_result_is_none_of_the_sources_by_whatever_name(source, name_of):
    result = name_of(source)
    with pytest.raises(InputError) as error:
        writing.begin(source.parent, [source.parent / "missing", source], [result])
    assert f"{result} would replace {source}, which this command reads" in str(error.value)
    assert not (source.parent / ".lock").exists()
    assert source.read_text() == "soup"


def test_neither_a_folder_nor_a_device_is_replaced(source, tmp_path):
    with pytest.raises(InputError, match="source is a folder, not a regular file"):
        writing.refuse_sources([], [source.parent])
    if os.path.exists("/dev/null"):
        with pytest.raises(InputError, match="null is a pipe or a device, not a regular file"):
            writing.refuse_sources([], [Path("/dev/null")])


def test_other_files_and_missing_ones_may_be_written_and_the_folder_is_locked(source, tmp_path):
    (tmp_path / "old").write_text("soup")
    writing.begin(tmp_path / "out", [source], [tmp_path / "old", tmp_path / "new"])
    assert (tmp_path / "out" / ".lock").exists()
