"""Make minitox's data folders from published corpora; data/README.md says where to get them.

python data/prepare.py ptp data/raw/ptp                          # -> data/paper/detection/
python data/prepare.py davidson data/raw/labeled_data.csv        # -> data/paper/hateful/en.jsonl
python data/prepare.py scorer data/paper/detection               # -> data/paper/scorer.safetensors
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import corpora  # noqa: E402
from fit_scorer import scorer  # noqa: E402
from raw_files import files_of  # noqa: E402

from minitox import files  # noqa: E402
from minitox.errors import InputError  # noqa: E402
from minitox.report import page  # noqa: E402
from minitox.run import script  # noqa: E402
from minitox.run.settings import Help, positive  # noqa: E402

MOST_LABELS = 500  # more than that is taken for a column of texts


# One function for each command; its parameters are the command's options


def ptp(source: Path, out: Path, score: str, most: int, seed: int, split: str) -> None:
    """Write detection/ from PolygloToxicityPrompts.  [paper §3.1]"""
    rows = drawn(files_of(source, split), score, most, seed)
    convert(out / "detection", ["no text", "no score", "between", "toxic", "clean"], rows)


def rtp_lx(source: Path, out: Path) -> None:
    """Write prompts/ from RTP-LX.  [paper §4.2]"""
    rows = chain.from_iterable(map(corpora.rtp_lx, files_of(source, "RTP")))
    convert(out / "prompts", ["NA or empty"], rows)


def mmlu(source: Path, out: Path, subject: str, split: str) -> None:
    """Write mmlu/ from a multilingual MMLU.  [paper §5.2]"""
    rows = chain.from_iterable(corpora.mmlu(path, subject) for path in files_of(source, split))
    convert(out / "mmlu", ["other subject", "incomplete"], rows)


def hate(source: list[Path], out: Path, **layout) -> None:
    """Add the hateful rows of a hate-speech corpus to hateful/.  [paper §3.2]"""
    rows = chain.from_iterable(corpora.hate(path, **layout) for path in source)
    fates = ["no label", "no text", "not hateful", "duplicate", "already there"]
    convert(out / "hateful", fates, with_earlier(out / "hateful", rows))


def drawn(paths: list[Path], score: str, most: int, seed: int):
    """Yield the rows of PolygloToxicityPrompts, at most `most` toxic and clean ones per language.

    The files are read twice, so that no rows are kept in memory.
    """

    def rows():
        return chain.from_iterable(corpora.ptp(path, score) for path in paths)

    # 1) count the rows of each language and class
    totals = Counter()
    for name, fate, _ in rows():
        if fate in ("toxic", "clean"):
            totals[name, fate] += 1

    # 2) draw the positions of those to take
    chosen = {}
    for kind, total in totals.items():
        rng = np.random.default_rng([seed, *"".join(kind).encode()])
        positions = rng.choice(total, min(total, most), replace=False)
        chosen[kind] = set(positions.tolist())

    # 3) take them
    seen = Counter()
    for name, fate, row in rows():
        kind = (name, fate)
        yield name, fate, row if seen[kind] in chosen.get(kind, ()) else None
        seen[kind] += 1


def with_earlier(folder: Path, rows):
    """Yield the prompts that are in `folder` already, and each new prompt in `rows` once."""
    fates = {}  # language -> {hash of a prompt: the fate of the next row with this prompt}
    for name, fate, row in rows:
        if row is None:
            yield name, fate, None
            continue
        language = name.split()[0]

        # 1) before the first row of a language, the prompts in its file
        if language not in fates:
            fates[language] = {}
            path = folder / f"{language}.jsonl"
            old_rows = files.read_jsonl(path) if path.exists() else ()
            for where, earlier in old_rows:
                prompt = files.text_field(where, earlier, "prompt")
                fates[language][hash(" ".join(prompt.split()))] = "already there"
                yield f"{language}  (kept from {path.name})", "", earlier

        # 2) the row, if its prompt is new
        key = hash(row["prompt"])  # smaller than the prompt
        fate = fates[language].get(key, "")
        fates[language].setdefault(key, "duplicate")
        yield name, fate, None if fate else row


def convert(folder: Path, fates: list[str], rows) -> None:
    """Write rows to folder/<language>.jsonl, all files or none, and count them by fate."""
    counts = defaultdict(Counter)  # name -> {fate: rows}
    opened = {}  # language -> file
    with ExitStack() as stack:
        for name, fate, row in rows:
            # 1) count it; languages that are left out are not divided by label
            language = name.split()[0]
            group = language if fate == "other language" else name
            counts[group].update(["rows", fate, "written" if row else ""])
            if len(counts) > MOST_LABELS:
                raise InputError(
                    f"over {MOST_LABELS} different labels; does --label name the column of labels?"
                )
            # 2) write it
            if not row:
                continue
            if language not in opened:
                final = folder / f"{language}.jsonl"
                temporary = stack.enter_context(files.replacing(final))
                file = open(temporary, "w", encoding="utf-8", errors="backslashreplace")
                opened[language] = stack.enter_context(file)
            opened[language].write(json.dumps(row, ensure_ascii=False) + "\n")

    print_counts(counts, fates)
    if not opened:
        raise InputError("no row was usable; see the table above for the reasons")
    total = sum(count["written"] for count in counts.values())
    names = ", ".join(f"{language}.jsonl" for language in sorted(opened))
    print(f"wrote {folder} ({total:,} lines in {names})")


def print_counts(counts: dict[str, Counter], fates: list[str]) -> None:
    """Print a table of the rows by name and fate, and name the languages that are left out."""
    columns = ["rows", *fates, "written"]
    # 1) sort the names into the two lists
    lines = []
    others = []
    for name, count in sorted(counts.items()):
        if "other language" in count:
            others.append(f"{name} ({count['rows']:,})")
        else:
            lines.append([name, *(f"{count[column]:,}" for column in columns)])
    # 2) print them
    print(page.markdown_table(page.Section("", columns=["", *columns], rows=lines)))
    if others:
        print("languages left out because they are not among the sixteen:", ", ".join(others))


# The command line


def add(
    commands, name: str, make, about: str, source: str, out: str = "folder to write into", **more
) -> argparse.ArgumentParser:
    """Add a command that calls `make` with its options; the texts are for --help."""
    command = commands.add_parser(name, help=about, description=about, formatter_class=Help)
    command.add_argument("source", metavar="SOURCE", type=Path, help=source, **more)
    command.add_argument("--out", type=Path, default=Path("data/paper"), help=out)
    command.set_defaults(make=make)
    return command


def add_ptp(commands) -> None:
    command = add(
        commands,
        "ptp",
        ptp,
        "PolygloToxicityPrompts -> detection/: texts scored above 0.5 or below 0.2, at random.",
        "folder with ptp-<lang>/full-*.parquet, or one file, parquet or JSON Lines",
    )
    command.add_argument(
        "--score",
        choices=["text", "prompt"],
        default="text",
        help="use whole texts, or the prompts that they begin with",
    )
    command.add_argument(
        "--each",
        dest="most",
        metavar="N",
        type=positive(int),
        default=5_000,
        help="maximum number of toxic, and of clean, texts per language",
    )
    command.add_argument("--seed", type=int, default=0, help="random seed of the choice of texts")
    command.add_argument(
        "--split",
        choices=["full", "small", "wildchat"],
        default="full",
        help="which files to read in a folder",
    )


def add_mmlu(commands) -> None:
    command = add(
        commands,
        "mmlu",
        mmlu,
        "Multilingual MMLU -> mmlu/: the questions of one subject.",
        "file or folder of Okapi, m_mmlu, Global-MMLU or MMMLU",
    )
    command.add_argument(
        "--subject", default="high_school_geography", help="subject of the questions"
    )
    command.add_argument("--split", default="test", help="which files to read in a folder")


def add_hate(commands, name: str, layout: dict) -> None:
    defaults = dict(layout)
    about = f"{defaults.pop('about')} -> hateful/: adds the prompts that are labelled hateful."
    source = "CSV, TSV, JSON, JSON Lines or parquet file"
    command = add(commands, name, hate, about, source, nargs="+")
    # the options describe a layout; a known corpus has one, which they can change
    required = not defaults
    column = {"metavar": "COLUMN", "required": required}
    command.add_argument("--text", help="column of the texts", **column)
    command.add_argument("--label", nargs="+", help="columns of the labels", **column)
    command.add_argument(
        "--hateful",
        metavar="LABEL",
        nargs="+",
        required=required,
        help="labels, of which any one means hateful",
    )
    command.add_argument(
        "--language",
        metavar="CODE",
        help="language, or the column that has it; default: from the file's name",
    )
    command.add_argument("--encoding", default="utf-8-sig", help="encoding of a CSV file")
    command.add_argument(
        "--separator",
        metavar="CHARACTER",
        help="separator in a CSV file; default: the most frequent one in its header",
    )
    command.add_argument(
        "--source",
        metavar="NAME",
        dest="name",
        default=name,
        help="name of the corpus in the written rows",
    )
    command.set_defaults(**{"origin": None, **defaults})
    if name == "davidson":
        command.add_argument(
            "--offensive",
            dest="hateful",
            action="store_const",
            const=["0", "1"],
            help="also take class 1, offensive; by default only class 0, hateful",
        )


def add_scorer(commands) -> None:
    command = add(
        commands,
        "scorer",
        scorer,
        "Fit the default scorer to published scores, and print its quality on held-out rows.",
        'folder of <lang>.jsonl, {"text": ..., "toxicity": 0..1}',
        "file to write; default: scorer.safetensors beside SOURCE",
    )
    command.set_defaults(out=None)
    command.add_argument("--seed", type=int, default=0, help="random seed of the held-out rows")


def main(argv=None) -> None:
    # 1) the command line
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=Help)
    commands = parser.add_subparsers(metavar="CORPUS", required=True)
    add_ptp(commands)
    add(commands, "rtp-lx", rtp_lx, "RTP-LX -> prompts/.", "folder of RTP_LX_<LOCALE>.json")
    add_mmlu(commands)
    for name, layout in corpora.HATE.items():
        add_hate(commands, name, layout)
    add_scorer(commands)
    # 2) the command
    options = vars(parser.parse_args(argv))
    make = options.pop("make")
    make(**options)


if __name__ == "__main__":
    script.run(main)
