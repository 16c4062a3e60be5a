"""Reviews in a real terminal, killed and pasted into, and in a spreadsheet; and kappa by hand."""

import csv
import io
import json
import math
import os
import select
import signal
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from tiny import TOY, error_of, write_jsonl

try:
    import pty
    import termios
except ImportError:  # Windows
    pty = termios = None

needs_terminal = pytest.mark.skipif(pty is None, reason="needs a terminal of POSIX")
sys.path[:0] = [str(TOY.parent), str(TOY.parents[1])]
import curate  # noqa: E402
import review  # noqa: E402

from minitox.errors import InputError  # noqa: E402
from minitox.run import script  # noqa: E402

try:
    import pty
    import termios
except ImportError:  # Windows
    pty = None
needs_terminal = pytest.mark.skipif(pty is None, reason="needs a pseudo-terminal")


def pairs_of(count: int) -> list[dict]:
    pairs = []
    for number in range(count):
        pair = {
            "id": f"en-{number:04}",
            "language": "en",
            "prompt": f"<prompt {number}> you donkey",
            "response": "Let us talk calmly.",
            "proposal": "keep",
            "why": "",
        }
        pairs.append(pair)
    return pairs


def write_checked(folder, pairs: list[dict]) -> None:
    write_jsonl(folder / "curation" / "checks" / "en.jsonl", pairs)


def verdicts_path(folder, name: str = "ada"):
    return folder / "curation" / "verdicts" / f"{name}.jsonl"


@pytest.fixture
def setup(tmp_path):
    """A folder with fifty pairs to review, and the path of ada's verdicts."""
    copy = pairs_of(51)[50] | {"proposal": "near copy"}
    write_checked(tmp_path, [*pairs_of(50), copy])
    return tmp_path, verdicts_path(tmp_path)


# In the terminal


class Terminal:
    """A review in a separate process at the other end of a pseudo-terminal."""

    def __init__(self, folder, name: str = "ada"):
        if pty is None:
            pytest.skip("needs a pseudo-terminal")
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            # pytest has replaced these three
            sys.stdin = open(0)
            sys.stdout = open(1, "w")
            sys.stderr = open(2, "w")
            arguments = ["review", "--out", str(folder), "--languages", "en", "--name", name]
            try:
                script.run(lambda: curate.main(arguments))
            finally:
                sys.stdout.flush()
                os._exit(0)

    def until(self, *signs: str) -> str:
        """Return what is printed up to one of the signs, or up to the end."""
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
        """Type it, and return what is printed next: a pair, the help, or the end."""
        self.type(key)
        return self.until("b back, q quit\r\n", "have a verdict in")

    def begin(self) -> str:
        self.until("to begin")
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
    rng = np.random.default_rng(0)
    given = {}  # number of a pair -> verdict

    def saved() -> dict:
        return {f"en-{int(place):04}": verdict for place, verdict in given.items()}

    for kill in range(1, 11):
        # 1) up to five verdicts; when the next pair is shown, the last one must be on disk
        terminal = Terminal(folder)
        seen = terminal.begin()
        for _ in range(rng.integers(1, 6)):
            place = place_of(seen)
            key = "ktofls"[rng.integers(6)]
            assert place not in given
            seen = terminal.press(key)
            given[place] = review.KEYS[key]
        # 2) half of the kills come while a verdict is saved, or shortly before or after
        if rng.integers(2):
            place = place_of(seen)
            terminal.type("t")
            select.select([terminal.end], [], [], float(rng.uniform(0, 0.002)))
            terminal.kill()
            if len(review.read(path)) > len(given):
                given[place] = "toxic"
        else:
            terminal.kill()
        # 3) a third of the times a torn line, as after a power failure
        if kill % 3 == 0:
            with open(path, "ab") as file:
                file.write(b'{"id": "en-0049", "verd')
        assert saved() == review.read(path)

    # the rest without interruption
    terminal = Terminal(folder)
    seen = terminal.begin()
    while "You have judged every pair" not in seen:
        place = place_of(seen)
        assert place not in given
        given[place] = "keep"
        seen = terminal.press("k")
    assert "50 of 50 pairs have a verdict" in terminal.press("q")
    terminal.wait()
    assert len(rows(path)) == len({row["id"] for row in rows(path)}) == 50
    assert saved() == review.read(path)


def test_back_shows_the_verdict_and_a_new_one_replaces_it(setup):
    folder, path = setup
    terminal = Terminal(folder)
    assert place_of(terminal.begin()) == "0"
    assert place_of(terminal.press("b")) == "0"  # nothing is before the first pair
    terminal.press("k")
    assert place_of(terminal.press("t")) == "2"
    seen = terminal.press("b")
    assert place_of(seen) == "1"
    assert "your verdict: toxic" in seen
    seen = terminal.press("b")
    assert place_of(seen) == "0"
    assert "your verdict: keep" in seen
    assert place_of(terminal.press("o")) == "2"  # the first pair without a verdict
    terminal.press("q")
    terminal.wait()
    assert review.read(path) == {"en-0000": "off topic", "en-0001": "toxic"}
    assert len(rows(path)) == 3


@pytest.mark.parametrize(
    "typed", ["x", "\n", "\x1b[D", "\x1bOk", "kkkk", "keep", "к", "\x00", "k k", "5"]
)
def test_an_unknown_key_an_arrow_or_a_paste_is_no_verdict(setup, typed):
    folder, path = setup
    terminal = Terminal(folder)
    terminal.begin()
    assert terminal.press(typed).strip().endswith(review.HELP)
    assert not path.exists()
    assert place_of(terminal.press("K")) == "1"  # capital letters are accepted
    terminal.press("\x04")  # Ctrl-D
    terminal.wait()
    assert review.read(path) == {"en-0000": "keep"}


def test_a_reviewer_who_quits_at_the_warning_sees_no_text(setup):
    folder, _ = setup
    terminal = Terminal(folder)
    seen = terminal.until("to begin")
    terminal.type("q")
    seen += terminal.until("have a verdict in")
    terminal.wait()
    assert "hateful" in seen
    assert "donkey" not in seen


def test_texts_cannot_command_the_terminal_and_the_proposal_is_shown(tmp_path):
    changes = {
        "response": "a\x1b[2Jb\u202ec\nd\te",
        "proposal": "not fluent",
        "why": "(cut off)",
    }
    write_checked(tmp_path, [pairs_of(1)[0] | changes])
    terminal = Terminal(tmp_path)
    seen = terminal.begin()
    terminal.press("q")
    terminal.wait()
    assert "\x1b" not in seen
    assert "a\\x1b[2Jb\\u202ec\\nd\\te" in seen
    assert "not fluent (cut off)" in seen


def test_without_a_terminal_the_script_reads_lines(setup):
    folder, path = setup
    script = str(TOY.parent / "curate.py")
    done = subprocess.run(
        [sys.executable, script, "review", "--out", str(folder), "--name", "ada"],
        input="\nk\nnonsense\nT\nb\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "2 of 50 pairs have a verdict" in done.stdout
    assert review.read(path) == {"en-0000": "keep", "en-0001": "toxic"}


@needs_terminal
def test_the_terminals_settings_are_restored():
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    pid = os.fork()
    if pid == 0:
        os.dup2(theirs, 0)
        sys.stdin = open(0)
        with review.keys():
            changed = termios.tcgetattr(0) != before
        os._exit(0 if changed and termios.tcgetattr(0) == before else 1)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(ours)
    os.close(theirs)


class FakeConsole:
    """Windows' msvcrt: the keys that were typed, one burst after the other."""

    def __init__(self, *bursts: str):
        self.left = [list(burst) for burst in bursts]

    def getwch(self) -> str:
        if not self.left[0]:
            self.left.pop(0)
        return self.left[0].pop(0)

    def kbhit(self) -> bool:
        return bool(self.left[0])


@pytest.fixture
def windows(monkeypatch):
    """A function that makes this process one without termios, at a console with these keys."""

    def become(*bursts: str) -> None:
        monkeypatch.setitem(sys.modules, "termios", None)
        monkeypatch.setitem(sys.modules, "tty", None)
        monkeypatch.setitem(sys.modules, "msvcrt", FakeConsole(*bursts))
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)

    return become


def test_a_review_in_the_console_of_windows(setup, windows, capsys):
    folder, path = setup
    windows(" ", "k", "kk", "\xe0H", "T", "\x04")  # begin, a verdict, a paste, an arrow, another
    ada = ["review", "--out", str(folder), "--name", "ada"]
    curate.main(ada)
    assert review.read(path) == {"en-0000": "keep", "en-0001": "toxic"}
    windows(" ", "\x03")
    with pytest.raises(KeyboardInterrupt):
        curate.main(ada)


def test_without_termios_all_but_the_keys_works(setup, windows, capsys):
    folder, path = setup
    windows()
    ada = ["review", "--out", str(folder), "--name", "ada"]
    curate.main([*ada, "--export", str(folder / "sheet.tsv")])
    save_sheet(folder / "sheet.tsv", [{"id": "en-0003", "verdict": "keep"}], "utf-8")
    curate.main([*ada, "--import", str(folder / "sheet.tsv")])
    assert review.read(path) == {"en-0003": "keep"}
    command = "import sys; sys.modules['termios'] = sys.modules['tty'] = None; import curate"
    subprocess.run([sys.executable, "-c", command], cwd=TOY.parent, check=True)


def test_the_end_of_a_long_line_is_no_key(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("x" * 1_999 + "\n" + "x" * 2_000 + "k\nT\n"))
    typed = [review.typed_line() for _ in range(4)]
    assert [len(line) for line in typed] == [1_000, 1_000, 1, 1]
    assert typed[2:] == ["t", "q"]


def test_input_that_is_no_text_is_an_error_and_keeps_the_verdicts(setup):
    folder, path = setup
    done = subprocess.run(
        [sys.executable, TOY.parent / "curate.py", "review", "--out", folder, "--name", "ada"],
        input=b"\nk\n" + b"\n" * 10_000 + b"\xff\n",
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: standard input: ")
    assert done.stderr.count(b"\n") == 1
    assert review.read(path) == {"en-0000": "keep"}


# On disk


def test_reading_changes_nothing_on_disk(tmp_path):
    path = tmp_path / "verdicts" / "ada.jsonl"
    assert review.read(path) == {}
    assert not path.parent.exists()


def test_a_verdict_that_is_none_is_named(tmp_path):
    path = tmp_path / "ada.jsonl"
    path.write_text('{"id": "a", "verdict": "keep"}\n{"id": "b", "verdict": "Kept"}\n')
    with pytest.raises(
        InputError, match="ada.jsonl:2: field 'verdict' must be one of keep, .*Kept"
    ):
        review.read(path)


def test_a_reviewer_has_one_review_open_and_others_have_theirs(setup):
    folder, path = setup
    terminal = Terminal(folder)
    terminal.begin()
    done = {}
    for name in ("ada", "bob"):
        done[name] = subprocess.run(
            [sys.executable, TOY.parent / "curate.py", "review", "--out", folder, "--name", name],
            input="\nt\n",
            capture_output=True,
            text=True,
        )
    terminal.press("k")
    terminal.press("q")
    terminal.wait()
    assert done["ada"].returncode == 2
    assert "ada has another review open; close it, or choose another" in done["ada"].stderr
    assert done["ada"].stderr.count("\n") == 1
    assert done["bob"].returncode == 0
    assert review.read(path) == {"en-0000": "keep"}
    assert review.read(verdicts_path(folder, "bob")) == {"en-0000": "toxic"}


def test_a_verdict_is_on_disk_when_save_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append((tmp_path / "ada").read_bytes()))
    review.save(tmp_path / "ada", {"a": "keep"})
    assert synced == [b'{"id": "a", "verdict": "keep"}\n']


def test_a_torn_last_line_is_dropped_and_a_malformed_one_is_named(tmp_path):
    path = tmp_path / "ada.jsonl"
    assert review.read(path) == {}
    review.save(path, {"a": "keep"})
    review.save(path, {"b": "toxic", "a": "skip"})
    whole = path.read_bytes()
    after = [  # so many whole lines
        {},
        {"a": "keep"},
        {"a": "keep", "b": "toxic"},
        {"a": "skip", "b": "toxic"},
    ]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        # the last line may lack only its end
        expected = after[(whole[:cut] + b"\n").count(b"}\n")]
        assert review.read(path) == expected
        assert path.read_bytes() == whole[:cut]
        review.save(path, {"c": "keep"})
        assert review.read(path) == expected | {"c": "keep"}
    path.write_bytes(b'{"id": "a", "verdict": "keep"}\n{"id": \n{"id": "b", "verdict": "keep"}\n')
    with pytest.raises(InputError, match="ada.jsonl:2: not valid JSON"):
        review.read(path)


# In a spreadsheet

HARD = "a \"quoted\"\ttext,\nin two lines; 'and' more"


def sheet_of(path, encoding="utf-8-sig") -> list[dict]:
    with open(path, encoding=encoding, newline="") as file:
        return list(csv.DictReader(file, dialect="excel-tab"))


def save_sheet(path, table: list[dict], encoding: str) -> None:
    """Write a table as a spreadsheet does: every cell in quotes, with its line breaks."""
    with open(path, "w", encoding=encoding, newline="") as file:
        sheet = csv.DictWriter(file, table[0], dialect="excel-tab", quoting=csv.QUOTE_ALL)
        sheet.writeheader()
        sheet.writerows(table)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_goes_to_a_spreadsheet_and_back(tmp_path, encoding):
    # 1) five pairs with texts that spreadsheets might misread; the second has a verdict
    texts = [HARD, '"', "=1+1", "@user привет", "–你好"]
    pairs = [
        pair | {"prompt": text, "response": text}
        for pair, text in zip(pairs_of(5), texts, strict=True)
    ]
    write_checked(tmp_path, pairs)
    path = verdicts_path(tmp_path)
    review.read(path)
    review.save(path, {"en-0001": "skip"})

    # 2) the exported table
    ada = ["review", "--out", str(tmp_path), "--name", "ada"]
    file = tmp_path / "ada.tsv"
    curate.main([*ada, "--export", str(file)])
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")  # else Excel does not read it as UTF-8
    table = sheet_of(file)
    assert [row["id"] for row in table] == [pair["id"] for pair in pairs]
    assert [row["verdict"] for row in table] == ["", "skip", "", "", ""]
    assert table[0]["prompt"] == HARD.replace("\t", "\\t").replace("\n", "\\n")
    assert len(file.read_text().splitlines()) == 6
    assert table[2]["response"] == "'=1+1"
    assert table[3]["response"] == "'@user привет"
    assert table[4]["response"] == "–你好"

    # 3) filled in, sorted otherwise, and imported
    for row, verdict in zip(table, ["keep", "T", " Off Topic ", "", "l"], strict=True):
        row |= {"verdict": verdict, "prompt": HARD}
    save_sheet(file, table[::-1], encoding)
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
def test_a_malformed_line_is_named_and_nothing_is_imported(setup, capsys, text, line, message):
    folder, path = setup
    file = folder / "ada.tsv"
    file.write_text(text)
    ada = ["review", "--out", str(folder), "--name", "ada"]
    error = error_of(curate.main, [*ada, "--import", str(file)], capsys)
    assert error.startswith(f"error: {file}:{line}: ")
    assert message in error
    assert error.count("\n") == 1
    assert review.read(path) == {}


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "id\tverdict\nen-0001\tkeep\nen-0000\tk\nen-0001\tt\n",
            "4: en-0001 is 'toxic' here and 'keep' in a line above",
        ),
        (
            "id\tverdict\tverdict\nen-0000\tkeep\ttoxic\n",
            "1: there are 2 columns with the name 'verdict'",
        ),
        ("id\tverdict\n" + "\t" * 2**22, "2: the next row has over 4,194,304 characters"),
    ],
)
def test_a_sheet_with_two_meanings_or_a_huge_row_is_refused(setup, capsys, text, message):
    folder, path = setup
    file = folder / "ada.tsv"
    file.write_text(text)
    ada = ["review", "--out", str(folder), "--name", "ada"]
    error = error_of(curate.main, [*ada, "--import", str(file)], capsys)
    assert error == f"error: {file}:{message}; no verdict was imported\n"
    assert review.read(path) == {}


def test_the_same_verdict_twice_is_no_contradiction(setup):
    folder, path = setup
    file = folder / "ada.tsv"
    file.write_text("id\tverdict\nen-0001\tkeep\nen-0001\tk\nen-0001\t\n")
    curate.main(["review", "--out", str(folder), "--name", "ada", "--import", str(file)])
    assert review.read(path) == {"en-0001": "keep"}


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "＝1", "＋1", "－1", "＠x", "﹦1", " =1"])
def test_no_cell_is_a_formula(text):
    assert review.as_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["\t=1", "\r=1", "\n=1"])
def test_no_cell_begins_with_a_tab_or_a_line_end(text):
    assert review.as_cell(text) == text.encode("unicode_escape").decode()


def test_a_sheet_that_is_written_and_one_that_is_read_exclude_each_other(setup, capsys):
    folder, _ = setup
    ada = ["review", "--out", str(folder), "--name", "ada"]
    error = error_of(curate.main, [*ada, "--export", "a.tsv", "--import", "a.tsv"], capsys)
    assert "not allowed with" in error


# Agreement


def test_kappa_is_what_one_computes_by_hand():
    counts = {
        ("keep", "keep"): 20,
        ("keep", "toxic"): 5,
        ("toxic", "keep"): 10,
        ("toxic", "toxic"): 15,
    }
    both = list(Counter(counts).elements())
    # observed 0.7; by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5
    assert review.kappa(both) == pytest.approx(0.4)


def test_kappa_of_three_verdicts_is_what_one_computes_by_hand():
    counts = {
        ("keep", "keep"): 4,
        ("toxic", "toxic"): 3,
        ("off topic", "off topic"): 1,
        ("toxic", "off topic"): 2,
    }
    both = list(Counter(counts).elements())
    # observed 0.8; by chance 0.4 * 0.4 + 0.5 * 0.3 + 0.1 * 0.3 = 0.34
    assert review.kappa(both) == pytest.approx(0.46 / 0.66)


def test_kappa_is_1_in_agreement_minus_1_in_disagreement_and_nan_without_a_choice():
    assert review.kappa([("keep", "keep"), ("toxic", "toxic")]) == 1
    assert review.kappa([("keep", "toxic"), ("toxic", "keep")]) == -1
    assert math.isnan(review.kappa([("keep", "keep")] * 3))


def test_one_reviewer_agrees_with_nobody(setup, capsys):
    folder, path = setup
    review.read(path)
    curate.main(["agreement", "--out", str(folder)])
    assert capsys.readouterr().out == "there are no two reviewers to compare\n"


def test_agreement_counts_the_pairs_that_both_judged(setup, capsys):
    folder, _ = setup
    reviews = {
        "ada": ["keep", "keep", "toxic", "toxic", "skip", "keep"],
        "bob": ["keep", "keep", "off topic", "keep", "keep"],
        "eve": [],
    }
    for name, verdicts in reviews.items():
        path = verdicts_path(folder, name)
        review.read(path)
        rows = {f"en-{number:04}": verdict for number, verdict in enumerate(verdicts)}
        review.save(path, rows | {"of another language": "keep"})
    curate.main(["agreement", "--out", str(folder)])
    assert capsys.readouterr().out.splitlines() == [
        "ada and bob: 4 pairs judged by both; "
        "keep or reject: 3 alike, kappa 0.50; all verdicts: 2 alike, kappa 0.20",
        "ada and eve: 0 pairs judged by both",
        "bob and eve: 0 pairs judged by both",
    ]


def test_without_a_disagreement_that_could_have_been_the_reason_stands_in_place_of_kappa():
    reviewers = {"ada": {"a": "keep", "b": "keep"}, "bob": {"a": "keep", "b": "keep"}}
    (line,) = review.agreement(reviewers, {"a", "b"})
    alike = "2 alike, no kappa, because both gave every pair the same verdict"
    expected = f"2 pairs judged by both; keep or reject: {alike}; all verdicts: {alike}"
    assert line == f"ada and bob: {expected}"
    reviewers = {"ada": {"a": "toxic", "b": "off topic"}, "bob": {"a": "toxic", "b": "toxic"}}
    (line,) = review.agreement(reviewers, {"a", "b"})
    assert f"keep or reject: {alike}; all verdicts: 1 alike, kappa 0.00" in line


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
