"""What people say of pairs, in the terminal or in a spreadsheet, and how far they agree.  [paper §3.2]

A reviewer's verdicts are lines of a file, on disk before the next pair is shown; the last one on a pair counts. A pair's id is a
hash of its language, prompt and reply, so that no verdict is taken for one on another reply.
"""

import csv
import io
import os
import sys
import termios
import tty
from collections import Counter
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

from minitox.errors import InputError
from minitox.files import read_jsonl, replacing, text_field
from minitox.report.page import shown
from minitox.run.journal import append, drop_torn_line

KEYS = {
    "k": "keep",
    "t": "toxic",
    "o": "off topic",
    "f": "not fluent",
    "l": "wrong language",
    "s": "skip",
}
HELP = ", ".join(f"{key} {verdict}" for key, verdict in KEYS.items()) + ", b back, q quit"
WARNING = "These texts are hateful, and may hurt. Each verdict is saved at once: stop when you like. Any key begins, q quits"


def read(path: Path) -> dict[str, str]:
    """{id: verdict} of a reviewer; InputError names a bad line, but the last one if a kill tore it."""
    drop_torn_line(path)
    return {
        text_field(where, row, "id"): text_field(where, row, "verdict")
        for where, row in read_jsonl(path)
    }


def save(path: Path, verdicts: dict[str, str]) -> None:
    """Append verdicts, {id: verdict}; they are on disk when this returns."""
    append(path, [{"id": pair, "verdict": verdict} for pair, verdict in verdicts.items()])


@contextmanager
def keys():
    """A function that waits for a key, or where no terminal is for a line; it says q at the end of input.

    What comes at once, as a paste or an arrow key does, is one key and unknown, so that no letter of it becomes a verdict.
    """
    if not sys.stdin.isatty():
        yield lambda: (sys.stdin.readline() or "q").strip().lower()
        return
    before = termios.tcgetattr(0)
    tty.setcbreak(0)
    try:
        yield (
            lambda: (
                (os.read(0, 64).replace(b"\x04", b"q") or b"q")
                .decode("utf-8", "replace")
                .strip()
                .lower()
            )
        )
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def ask(pairs: list[dict], path: Path) -> None:
    """Show the pairs that have no verdict, one at a time, and save a verdict at each key, until the reviewer quits."""
    mine, place = read(path), None
    with keys() as next_key:
        print(WARNING, flush=True)
        key = next_key()
        while key != "q":
            if key == "b" and place:
                place -= 1
            elif key != "b" or place is None:
                place = next(
                    (place for place, pair in enumerate(pairs) if pair["id"] not in mine),
                    len(pairs),
                )
            print(
                f"\n{as_shown(pairs[place], mine) if place < len(pairs) else 'Every pair has your verdict'}\n"
                f"{min(place + 1, len(pairs)):,} of {len(pairs):,}: {HELP}",
                flush=True,
            )
            while (key := next_key()) not in (*KEYS, "b", "q"):
                print(HELP, flush=True)
            if key in KEYS and place < len(pairs):
                mine[pairs[place]["id"]] = KEYS[key]
                save(path, {pairs[place]["id"]: KEYS[key]})


def as_shown(pair: dict, mine: dict[str, str]) -> str:
    """A pair as text, its control characters made visible, lest they command the terminal."""
    said = f"; you said {mine[pair['id']]}" if pair["id"] in mine else ""
    return (
        f"{pair['language']}; the check says {pair['proposal']} {pair['why']}{said}\n"
        f"  prompt: {shown(pair['prompt'], 5_000)}\n  reply:  {shown(pair['response'], 5_000)}"
    )


def write_sheet(pairs: list[dict], mine: dict[str, str], path: Path) -> None:
    """A table for a spreadsheet, with tabs, whose verdicts are to be filled in; its texts are only there to be read."""
    columns = ["id", "verdict", "proposal", "why", "prompt", "response"]
    rows = [
        [shown(({"verdict": mine.get(pair["id"], "")} | pair)[column], 5_000) for column in columns]
        for pair in pairs
    ]
    with (
        replacing(path) as temporary,
        open(temporary, "w", encoding="utf-8-sig", newline="") as file,
    ):  # Excel wants the mark
        sheet = csv.writer(
            file, dialect="excel-tab"
        )  # the apostrophe: a spreadsheet might compute the cell
        sheet.writerows(
            [
                columns,
                *[
                    ["'" + cell if cell[:1] in ("=", "+", "-", "@") else cell for cell in row]
                    for row in rows
                ],
            ]
        )


def read_sheet(pairs: list[dict], path: Path) -> dict[str, str]:
    """{id: verdict} of a table whose verdicts were filled in, in full or by key; InputError names the first bad line."""
    raw, ids, verdicts = path.read_bytes(), {pair["id"] for pair in pairs}, {}
    text = raw.decode(
        "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace"
    )  # Excel writes both
    sheet = csv.DictReader(io.StringIO(text, newline=""), dialect="excel-tab", strict=True)
    try:
        for row in sheet:
            pair, verdict = row.get("id"), (row.get("verdict") or "").strip().lower()
            if pair not in ids or verdict not in ("", *KEYS, *KEYS.values()):
                raise InputError(
                    f"{path}:{sheet.line_num}: expected a pair's id and one of {', '.join(KEYS.values())}, "
                    f"with a tab between columns, found {(pair, verdict)!a:.80}; nothing was taken"
                )
            verdicts |= {pair: KEYS.get(verdict, verdict)} if verdict else {}
    except (
        csv.Error
    ) as error:  # such as a quote that never ends, which would take all that follows for one text
        raise InputError(f"{path}:{sheet.line_num + 1}: {error}; nothing was taken") from None
    return verdicts


def kappa(both: list[tuple]) -> float:
    """Cohen's kappa of two reviewers' verdicts: 1 if they always agree, 0 as by chance; NaN if they could not disagree."""
    first, second = map(Counter, zip(*both))
    chance = sum(first[verdict] * second[verdict] for verdict in first) / len(both) ** 2
    return (
        (sum(a == b for a, b in both) / len(both) - chance) / (1 - chance)
        if chance < 1
        else float("nan")
    )


def agreement(reviewers: dict[str, dict[str, str]], ids: set[str]):
    """Yield a line for each two reviewers: kappa of keeping, and over all verdicts, on the pairs that both judged."""
    for a, b in combinations(reviewers, 2):
        both = [
            (reviewers[a][pair], reviewers[b][pair])
            for pair in ids & reviewers[a].keys() & reviewers[b].keys()
        ]
        both = [verdicts for verdicts in both if "skip" not in verdicts]
        yield f"{a} and {b}: {len(both):,} pairs judged by both" + "".join(
            f"; {what}: {sum(x == y for x, y in each):,} alike, kappa {kappa(each):.2f}"
            for what, each in (
                ("keep or reject", [(x == "keep", y == "keep") for x, y in both]),
                ("all verdicts", both),
            )
            if each
        )


def majority(votes: list[str]) -> str:
    """What most say of a pair: "keep", the commonest reason against it, or why neither."""
    count = Counter(vote for vote in votes if vote != "skip")
    keep, reject = count.pop("keep", 0), count.total()
    if keep == reject:
        return "reviewers differ" if keep else "not reviewed"
    return "keep" if keep > reject else count.most_common(1)[0][0]
