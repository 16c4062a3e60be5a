"""People's verdicts on pairs, from the terminal or a spreadsheet, and their agreement. [paper §3.2]

A reviewer's verdicts are lines of a file. Each is on disk before the next pair is shown, and the
last one on a pair counts. A pair's id is a hash of its language, prompt and reply, so a verdict
never applies to another reply.
"""

import csv
import io
import math
import os
import sys
from collections import Counter
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from unicodedata import normalize

from raw_files import Lines, check_columns

from minitox import locks
from minitox.errors import InputError
from minitox.files import append, drop_torn_line, open_input, read_jsonl, replacing, text_field
from minitox.report.page import shown

KEYS = {
    "k": "keep",
    "t": "toxic",
    "o": "off topic",
    "f": "not fluent",
    "l": "wrong language",
    "s": "skip",
}
HELP = ", ".join(f"{key} {verdict}" for key, verdict in KEYS.items()) + ", b back, q quit"
WARNING = (
    "These texts are hateful and may be distressing. Each verdict is saved immediately, "
    "so you can stop at any time. Press q to quit, any other key to begin"
)
LONGEST = 5_000  # characters of a prompt or reply that are shown
LONGEST_INPUT = 1_000  # characters of a typed line


# Verdict files


def read(path: Path) -> dict:
    """Return a reviewer's {id: verdict}, without a last line that was not completely written.

    The file is not changed, and it may be missing. InputError names any other malformed line.
    """
    verdicts = {}
    if not path.exists():
        return verdicts
    for where, row in read_jsonl(path, skip_torn=True):
        pair = text_field(where, row, "id")
        verdict = text_field(where, row, "verdict")
        if verdict not in KEYS.values():
            raise InputError(
                f"{where}: field 'verdict' must be one of {', '.join(KEYS.values())}, "
                f"not {verdict!r:.40}"
            )
        verdicts[pair] = verdict
    return verdicts


def read_all(folder: Path) -> dict:
    """Return {reviewer: {id: verdict}}."""
    return {path.stem: read(path) for path in sorted(folder.glob("*.jsonl"))}


def lock(path: Path) -> None:
    """Lock a reviewer's verdicts until this process exits; InputError if another one holds them."""
    name = path.stem
    advice = f"{name} has another review open; close it, or choose another --name"
    locks.acquire(path.with_name(f".{name}.lock"), advice)


def save(path: Path, verdicts):
    """Append verdicts, {id: verdict}; they are on disk when this returns.

    Only for the process with the lock: a last line that was not completely written is cut off.
    """
    drop_torn_line(path)
    append(path, [{"id": pair, "verdict": verdict} for pair, verdict in verdicts.items()])


# In the terminal


@contextmanager
def keys():
    """Yield a function that waits for a key, or for a line if standard input is no terminal.

    It returns "q" at the end of input. Characters that arrive together, as from a paste or an arrow
    key, are returned as one unknown key, so that none of them becomes a verdict.
    """
    if not sys.stdin.isatty():
        yield typed_line
    elif find_spec("termios"):
        with unbuffered_terminal():
            yield typed_in_terminal
    else:  # Windows
        yield typed_in_console


def typed_line() -> str:
    try:
        line = part = sys.stdin.readline(LONGEST_INPUT)
        while len(part) == LONGEST_INPUT and not part.endswith("\n"):  # the rest of a long line
            part = sys.stdin.readline(LONGEST_INPUT)
    except UnicodeDecodeError as error:
        raise InputError(f"standard input: {error}") from None
    return (line or "q").strip().lower()


def typed_in_terminal() -> str:
    typed = os.read(0, 64).replace(b"\x04", b"q")  # Ctrl-D ends the input as well
    return (typed.decode("utf-8", "replace") or "q").strip().lower()


def typed_in_console() -> str:
    """The same on Windows."""
    import msvcrt

    typed = msvcrt.getwch()
    while msvcrt.kbhit():
        typed += msvcrt.getwch()
    if "\x03" in typed:  # Ctrl-C
        raise KeyboardInterrupt
    typed = typed.replace("\x04", "q").replace("\x1a", "q")  # Ctrl-Z ends the input as well
    return typed.strip().lower()


@contextmanager
def unbuffered_terminal():
    """In this block, keys arrive without Enter."""
    import termios
    import tty

    before = termios.tcgetattr(0)
    tty.setcbreak(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def ask(pairs, path: Path):
    """Show the pairs without a verdict one at a time, and save each verdict, until "q" is typed."""
    mine = read(path)
    place = None  # index of the pair on the screen; len(pairs): all have a verdict
    with keys() as next_key:
        print(WARNING, flush=True)
        key = next_key()
        while key != "q":
            # 1) show the pair before this one, or the first without a verdict
            if key == "b" and place:
                place -= 1
            elif key != "b" or place is None:
                unjudged = (i for i, pair in enumerate(pairs) if pair["id"] not in mine)
                place = next(unjudged, len(pairs))
            is_pair = place < len(pairs)
            text = as_shown(pairs[place], mine) if is_pair else "You have judged every pair"
            print(f"\n{text}\n{min(place + 1, len(pairs)):,} of {len(pairs):,}: {HELP}", flush=True)

            # 2) wait for a known key
            key = next_key()
            while key not in (*KEYS, "b", "q"):
                print(HELP, flush=True)
                key = next_key()

            # 3) save the verdict
            if key in KEYS and is_pair:
                verdict = {pairs[place]["id"]: KEYS[key]}
                mine |= verdict
                save(path, verdict)


def as_shown(pair, mine):
    """Return a pair as text, with control characters escaped so that the terminal ignores them."""
    verdict = f"; your verdict: {mine[pair['id']]}" if pair["id"] in mine else ""
    return (
        f"{pair['language']}; proposed verdict: {pair['proposal']} {pair['why']}{verdict}\n"
        f"  prompt: {shown(pair['prompt'], LONGEST)}\n"
        f"  reply:  {shown(pair['response'], LONGEST)}"
    )


# In a spreadsheet


def write_sheet(pairs, mine, path: Path):
    """Write a tab-separated table in which a reviewer fills in the verdicts.

    `read_sheet` takes only the ids and the verdicts from it; the texts are there to be read.
    """
    columns = ["id", "verdict", "proposal", "why", "prompt", "response"]
    with (
        replacing(path) as temporary,
        # Excel recognises UTF-8 by the byte-order mark of utf-8-sig
        open(temporary, "w", encoding="utf-8-sig", newline="") as file,
    ):
        sheet = csv.writer(file, dialect="excel-tab")
        sheet.writerow(columns)
        for pair in pairs:
            row = {"verdict": mine.get(pair["id"], "")} | pair
            sheet.writerow([as_cell(row[column]) for column in columns])


def as_cell(value):
    """Return a text as a cell that a spreadsheet does not take for a formula.

    `shown` replaces tabs and line ends by escapes. Some programs also take full-width and small
    signs for the beginning of a formula.
    """
    text = shown(value, LONGEST)
    first = normalize("NFKC", text.lstrip()[:1])
    return "'" + text if first.startswith(("=", "+", "-", "@")) else text


def read_sheet(pairs, path: Path) -> dict:
    """Return {id: verdict} of a table in which verdicts were filled in, as words or keys.

    InputError names the first bad line, or the second of two that contradict each other.
    """
    with open_input(path) as file:
        # 1) decode; Excel saves either UTF-16 or UTF-8
        is_utf16 = file.read(2) in (b"\xff\xfe", b"\xfe\xff")  # the byte-order mark
        file.seek(0)
        encoding = "utf-16" if is_utf16 else "utf-8-sig"
        lines = Lines(io.TextIOWrapper(file, encoding, "replace", newline=""))
        sheet = csv.DictReader(lines, dialect="excel-tab", strict=True)

        # 2) check every line
        ids = {pair["id"] for pair in pairs}
        verdicts = {}
        try:
            check_columns(sheet.fieldnames or [])
            for row in sheet:
                lines.row_ends()
                add_verdict(verdicts, row, ids)
        except ValueError as error:
            problem = f"{path}:{sheet.line_num}: {error}"
        except csv.Error as error:  # such as a quote without an end, which would swallow the rest
            problem = f"{path}:{sheet.line_num + 1}: {error}"
        else:
            return verdicts
    raise InputError(f"{problem}; no verdict was imported")


def add_verdict(verdicts: dict, row: dict, ids: set):
    """Add the verdict in a row of a table, if there is one; ValueError if it cannot be right."""
    pair = row.get("id")
    verdict = (row.get("verdict") or "").strip().lower()
    verdict = KEYS.get(verdict, verdict)
    if pair not in ids or verdict not in ("", *KEYS.values()):
        raise ValueError(
            f"expected the id of a pair and one of {', '.join(KEYS.values())}, with a tab between "
            f"columns, but got {(pair, verdict)!a:.80}"
        )
    if verdict and verdicts.setdefault(pair, verdict) != verdict:
        raise ValueError(f"{pair} is {verdict!r} here and {verdicts[pair]!r} in a line above")


# Agreement


def kappa(both):
    """Compute Cohen's kappa of two reviewers' verdicts, (first's, second's) for each pair.

    1: they always agree; 0: no more often than by chance; NaN: they could not have disagreed.
    """
    first = Counter(verdict for verdict, _ in both)
    second = Counter(verdict for _, verdict in both)
    # the share of pairs on which they would agree by chance, and on which they do
    chance = sum(first[verdict] * second[verdict] for verdict in first) / len(both) ** 2
    if chance >= 1:
        return float("nan")
    observed = sum(a == b for a, b in both) / len(both)
    return (observed - chance) / (1 - chance)


def agreement(reviewers, ids):
    """Yield a line for each two reviewers on the pairs, by id, that both judged.

    It gives kappa of keeping against rejecting, and kappa of all verdicts.
    """
    for a, b in combinations(reviewers, 2):
        shared = ids & reviewers[a].keys() & reviewers[b].keys()
        both = [(reviewers[a][pair], reviewers[b][pair]) for pair in shared]
        both = [verdicts for verdicts in both if "skip" not in verdicts]
        line = f"{shown(a)} and {shown(b)}: {len(both):,} pairs judged by both"
        if both:  # kappa of no pairs is undefined
            kept = [(x == "keep", y == "keep") for x, y in both]
            line += f"; keep or reject: {agreed(kept)}; all verdicts: {agreed(both)}"
        yield line


def agreed(both):
    """Describe in how many pairs two reviewers agree."""
    alike = sum(x == y for x, y in both)
    value = kappa(both)
    if math.isnan(value):
        return f"{alike:,} alike, no kappa, because both gave every pair the same verdict"
    return f"{alike:,} alike, kappa {value:.2f}"


def tally(pairs, reviewers) -> dict:
    """Return {reviewer: {verdict: number of pairs}}."""
    counts = {}
    for reviewer, verdicts in reviewers.items():
        judged = [verdicts[pair["id"]] for pair in pairs if pair["id"] in verdicts]
        counts[reviewer] = Counter(judged)
    return counts


def majority(votes: list[str]) -> str:
    """Return what most reviewers decided on a pair: "keep", or the most frequent reason against it.

    Without a majority it is "reviewers differ", and without votes "not reviewed".
    """
    count = Counter(vote for vote in votes if vote != "skip")
    keep = count.pop("keep", 0)
    reject = count.total()  # all that is left are reasons to reject it
    if keep == reject:
        return "reviewers differ" if keep else "not reviewed"
    return "keep" if keep > reject else count.most_common(1)[0][0]
