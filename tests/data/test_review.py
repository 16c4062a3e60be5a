"""Reviews: driven through a real terminal, killed, pasted into, taken to a spreadsheet and back; and kappa by hand."""

import csv
import json
import math
import os
import pty
import select
import signal
import subprocess
import sys

import numpy as np
import pytest
from tiny import TOY, error_of, write_jsonl

sys.path[:0] = [str(TOY.parent), str(TOY.parents[1])]
import curate  # noqa: E402
import review  # noqa: E402

from minitox.errors import InputError  # noqa: E402
from minitox.run import cli  # noqa: E402


def pairs_of(count: int) -> list[dict]:
    return [
        {
            "id": f"en-{number:04}",
            "language": "en",
            "prompt": f"<prompt {number}> you donkey",
            "response": "Let us talk calmly.",
            "proposal": "keep",
            "why": "",
        }
        for number in range(count)
    ]


@pytest.fixture
def setup(tmp_path):
    """A folder with fifty pairs to review, and where ada's verdicts go."""
    write_jsonl(
        tmp_path / "curation" / "checks" / "en.jsonl",
        [*pairs_of(50), pairs_of(51)[50] | {"proposal": "near copy"}],
    )
    return tmp_path, tmp_path / "curation" / "verdicts" / "ada.jsonl"


class Terminal:
    """A review in a process of its own, at the other end of a pseudo-terminal."""

    def __init__(self, folder, name: str = "ada"):
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")
            try:
                cli.run(
                    lambda: curate.main(
                        ["review", "--out", str(folder), "--languages", "en", "--name", name]
                    )
                )
            finally:
                sys.stdout.flush()
                os._exit(0)

    def until(self, *signs: str) -> str:
        """What is printed up to one of the signs, or up to the end."""
        seen = ""
        while not any(sign in seen for sign in signs):
            assert select.select([self.end], [], [], 20)[0], f"nothing more after {seen[-300:]!r}"
            try:
                seen += os.read(self.end, 4096).decode()
            except OSError:  # the process has ended
                break
        return seen

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def press(self, key: str) -> str:
        """Type it, and see what it leads to: a pair, the help, or the end."""
        self.type(key)
        return self.until("b back, q quit\r\n", "have a verdict in")

    def begin(self) -> str:
        self.until("q quits")
        return self.press(" ")

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        os.waitpid(self.pid, 0)
        os.close(self.end)


def place_of(seen: str) -> str:
    return seen.split("<prompt ")[1].split(">")[0]


def rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_review_killed_ten_times_loses_no_verdict_and_asks_nothing_twice(setup):
    folder, path = setup
    rng, given, kills = np.random.default_rng(0), {}, 0
    while kills < 10:
        terminal = Terminal(folder)
        seen = terminal.begin()
        for _ in range(rng.integers(1, 6)):
            place, key = place_of(seen), "ktofls"[rng.integers(6)]
            assert place not in given  # not asked twice
            seen = terminal.press(key)
            given[place] = review.KEYS[key]  # the next pair is shown, so this one's verdict is safe
        if rng.integers(2):  # killed while it saves a verdict, or before or after
            place, key = place_of(seen), "t"
            terminal.type(key)
            select.select([terminal.end], [], [], float(rng.uniform(0, 0.002)))
            terminal.kill()
            given |= {place: "toxic"} if len(review.read(path)) > len(given) else {}
        else:
            terminal.kill()
        kills += 1
        if kills % 3 == 0:  # as if the power had failed while a line was written
            with open(path, "ab") as file:
                file.write(b'{"id": "en-0049", "verd')
        assert {f"en-{int(place):04}": verdict for place, verdict in given.items()} == review.read(
            path
        )
    terminal = Terminal(folder)
    seen = terminal.begin()
    while "Every pair has your verdict" not in seen:
        assert place_of(seen) not in given
        given[place_of(seen)] = "keep"
        seen = terminal.press("k")
    assert "50 of 50 pairs have a verdict" in terminal.press("q")
    terminal.wait()
    assert len(rows(path)) == len({row["id"] for row in rows(path)}) == 50
    assert {f"en-{int(place):04}": verdict for place, verdict in given.items()} == review.read(path)


def test_back_shows_the_verdict_and_another_one_takes_its_place(setup):
    folder, path = setup
    terminal = Terminal(folder)
    assert place_of(terminal.begin()) == "0"
    assert place_of(terminal.press("b")) == "0"  # there is nothing before the first
    terminal.press("k")
    assert place_of(terminal.press("t")) == "2"
    seen = terminal.press("b")
    assert place_of(seen) == "1" and "you said toxic" in seen
    seen = terminal.press("b")
    assert place_of(seen) == "0" and "you said keep" in seen
    assert place_of(terminal.press("o")) == "2"  # on to the first without a verdict
    terminal.press("q")
    terminal.wait()
    assert (
        review.read(path) == {"en-0000": "off topic", "en-0001": "toxic"} and len(rows(path)) == 3
    )


@pytest.mark.parametrize(
    "typed", ["x", "\n", "\x1b[D", "\x1bOk", "kkkk", "keep", "к", "\x00", "k k", "5"]
)
def test_an_unknown_key_an_arrow_or_a_paste_is_no_verdict(setup, typed):
    folder, path = setup
    terminal = Terminal(folder)
    terminal.begin()
    assert terminal.press(typed).strip().endswith(review.HELP)
    assert path.read_bytes() == b""
    assert place_of(terminal.press("K")) == "1"  # a capital will do
    terminal.press("\x04")  # Ctrl-D
    terminal.wait()
    assert review.read(path) == {"en-0000": "keep"}


def test_whoever_does_not_want_to_see_the_texts_sees_none(setup):
    terminal = Terminal(setup[0])
    seen = terminal.until("q quits")
    terminal.type("q")
    seen += terminal.until("have a verdict in")
    terminal.wait()
    assert "hateful" in seen and "donkey" not in seen


def test_texts_cannot_command_the_terminal_and_the_proposal_is_shown(tmp_path):
    pair = pairs_of(1)[0] | {
        "response": "a\x1b[2Jb\u202ec\nd\te",
        "proposal": "not fluent",
        "why": "(cut off)",
    }
    write_jsonl(tmp_path / "curation" / "checks" / "en.jsonl", [pair])
    terminal = Terminal(tmp_path)
    seen = terminal.begin()
    terminal.press("q")
    terminal.wait()
    assert (
        "\x1b" not in seen
        and "a\\x1b[2Jb\\u202ec\\nd\\te" in seen
        and "not fluent (cut off)" in seen
    )


def test_the_script_runs_and_takes_lines_where_no_terminal_is(setup):
    folder, path = setup
    done = subprocess.run(
        [
            sys.executable,
            str(TOY.parent / "curate.py"),
            "review",
            "--out",
            str(folder),
            "--name",
            "ada",
        ],
        input="\nk\nnonsense\nT\nb\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "2 of 50 pairs have a verdict" in done.stdout
    assert review.read(path) == {"en-0000": "keep", "en-0001": "toxic"}


def test_the_terminal_is_left_as_it_was():
    ours, theirs = pty.openpty()
    import termios

    before = termios.tcgetattr(theirs)
    pid = os.fork()
    if pid == 0:
        os.dup2(theirs, 0)
        sys.stdin = open(0)
        with review.keys():
            changed = termios.tcgetattr(0) != before
        os._exit(0 if changed and termios.tcgetattr(0) == before else 1)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(ours), os.close(theirs)


def test_a_verdict_is_on_disk_when_save_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append((tmp_path / "ada").read_bytes()))
    review.save(tmp_path / "ada", {"a": "keep"})
    assert synced == [b'{"id": "a", "verdict": "keep"}\n']


def test_torn_last_lines_are_dropped_and_broken_ones_named(tmp_path):
    path = tmp_path / "ada.jsonl"
    assert review.read(path) == {}
    review.save(path, {"a": "keep"})
    review.save(path, {"b": "toxic", "a": "skip"})
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        expected = [{}, {"a": "keep"}, {"a": "keep", "b": "toxic"}, {"a": "skip", "b": "toxic"}][
            whole[:cut].count(b"\n")
        ]
        assert review.read(path) == expected
        review.save(path, {"c": "keep"})
        assert review.read(path) == expected | {"c": "keep"}
    path.write_bytes(b'{"id": "a", "verdict": "keep"}\n{"id": \n{"id": "b", "verdict": "keep"}\n')
    with pytest.raises(InputError, match="ada.jsonl:2: not valid JSON"):
        review.read(path)


HARD = "a \"quoted\"\ttext,\nin two lines; 'and' more"


def sheet_of(path, encoding="utf-8-sig") -> list[dict]:
    with open(path, encoding=encoding, newline="") as file:
        return list(csv.DictReader(file, dialect="excel-tab"))


def written(path, table: list[dict], encoding="utf-8-sig") -> None:
    """As a spreadsheet saves it: its own quotes, every cell on as many lines as it has."""
    with open(path, "w", encoding=encoding, newline="") as file:
        sheet = csv.DictWriter(file, table[0], dialect="excel-tab", quoting=csv.QUOTE_ALL)
        sheet.writeheader()
        sheet.writerows(table)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_goes_to_a_spreadsheet_and_back(tmp_path, encoding):
    pairs = [
        pair | {"prompt": text, "response": text}
        for pair, text in zip(pairs_of(5), [HARD, '"', "=1+1", "@user привет", "–你好"])
    ]
    write_jsonl(tmp_path / "curation" / "checks" / "en.jsonl", pairs)
    ada = ["review", "--out", str(tmp_path), "--name", "ada"]
    path, file = tmp_path / "curation" / "verdicts" / "ada.jsonl", tmp_path / "ada.tsv"
    review.read(path)
    review.save(path, {"en-0001": "skip"})
    curate.main([*ada, "--export", str(file)])
    assert file.read_bytes().startswith(
        b"\xef\xbb\xbf"
    )  # without it Excel takes UTF-8 for something else
    table = sheet_of(file)
    assert [row["id"] for row in table] == [pair["id"] for pair in pairs] and [
        row["verdict"] for row in table
    ] == ["", "skip", "", "", ""]
    assert (
        table[0]["prompt"] == HARD.replace("\t", "\\t").replace("\n", "\\n")
        and len(file.read_text().splitlines()) == 6
    )
    assert (
        table[2]["response"] == "'=1+1"
        and table[3]["response"] == "'@user привет"
        and table[4]["response"] == "–你好"
    )
    for row, verdict in zip(table, ["keep", "T", " Off Topic ", "", "l"]):
        row |= {"verdict": verdict, "prompt": HARD}
    written(file, table[::-1], encoding)
    curate.main([*ada, "--import", str(file)])
    assert review.read(path) == {
        "en-0000": "keep",
        "en-0001": "toxic",
        "en-0002": "off topic",
        "en-0004": "wrong language",
    }


@pytest.mark.parametrize(
    "text, line, message",
    [
        ("id\tverdict\nen-0000\tkeep\nen-0001\tmaybe\n", 3, "'maybe'"),
        ("id\tverdict\nen-0000\tkeep\nen-7777\tkeep\n", 3, "'en-7777'"),
        ("id,verdict\nen-0000,keep\n", 2, "(None, '')"),
        ('id\tverdict\nen-0000\tkeep\n"en-0001\tkeep\nen-0002\tkeep\n', 3, "unexpected end"),
        ("id\tverdict\nen-0000\tkeep\n\t\n", 3, "('', '')"),
        ("id\tverdict\nen-0000\tk\x00\n", 2, ""),
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_none_is_taken(setup, capsys, text, line, message):
    folder, path = setup
    (folder / "ada.tsv").write_text(text)
    error = error_of(
        curate.main,
        ["review", "--out", str(folder), "--name", "ada", "--import", str(folder / "ada.tsv")],
        capsys,
    )
    assert (
        error.startswith(f"error: {folder / 'ada.tsv'}:{line}: ")
        and message in error
        and error.count("\n") == 1
    )
    assert review.read(path) == {}


def test_kappa_is_what_one_computes_by_hand():
    both = (
        [("keep", "keep")] * 20
        + [("keep", "toxic")] * 5
        + [("toxic", "keep")] * 10
        + [("toxic", "toxic")] * 15
    )
    assert review.kappa(both) == pytest.approx(
        0.4
    )  # observed 0.7; by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5
    three = (
        [("keep", "keep")] * 4
        + [("toxic", "toxic")] * 3
        + [("off topic", "off topic")]
        + [("toxic", "off topic")] * 2
    )
    assert review.kappa(three) == pytest.approx(
        0.46 / 0.66
    )  # 0.8; by chance 0.4 * 0.4 + 0.5 * 0.3 + 0.1 * 0.3 = 0.34
    assert (
        review.kappa([("keep", "keep"), ("toxic", "toxic")]) == 1
        and review.kappa([("keep", "toxic"), ("toxic", "keep")]) == -1
    )
    assert math.isnan(review.kappa([("keep", "keep")] * 3))


def test_one_reviewer_agrees_with_nobody(setup, capsys):
    folder, _ = setup
    review.read(folder / "curation" / "verdicts" / "ada.jsonl")
    curate.main(["agreement", "--out", str(folder)])
    assert capsys.readouterr().out == "there are no two reviewers to compare\n"


def test_agreement_counts_the_pairs_that_both_judged(setup, capsys):
    folder, _ = setup
    said = {
        "ada": ["keep", "keep", "toxic", "toxic", "skip", "keep"],
        "bob": ["keep", "keep", "off topic", "keep", "keep"],
        "eve": [],
    }
    for name, verdicts in said.items():
        path = folder / "curation" / "verdicts" / f"{name}.jsonl"
        review.read(path)
        review.save(
            path,
            {f"en-{number:04}": verdict for number, verdict in enumerate(verdicts)}
            | {"of another language": "keep"},
        )
    curate.main(["agreement", "--out", str(folder)])
    assert capsys.readouterr().out.splitlines() == [
        "ada and bob: 4 pairs judged by both; keep or reject: 3 alike, kappa 0.50; all verdicts: 2 alike, kappa 0.20",
        "ada and eve: 0 pairs judged by both",
        "bob and eve: 0 pairs judged by both",
    ]


@pytest.mark.parametrize(
    "votes, outcome",
    [
        ([], "not reviewed"),
        (["skip"], "not reviewed"),
        (["keep"], "keep"),
        (["toxic", "skip"], "toxic"),
        (["keep", "toxic"], "reviewers differ"),
        (["keep", "toxic", "keep"], "keep"),
        (["off topic", "keep", "toxic", "toxic"], "toxic"),
        (["keep", "keep", "toxic", "off topic"], "reviewers differ"),
    ],
)
def test_a_majority_decides(votes, outcome):
    assert review.majority(votes) == outcome
