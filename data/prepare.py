"""Make minitox's data folders from published corpora; data/README.md says where to get them.

python data/prepare.py ptp data/raw/ptp                          # -> data/paper/detection/
python data/prepare.py davidson data/raw/labeled_data.csv        # -> data/paper/hateful/en.jsonl
python data/prepare.py scorer data/paper/detection               # -> data/paper/scorer.safetensors
"""

import sys
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import corpora  # noqa: E402
from fit_scorer import scorer  # noqa: E402
from raw_files import files_of  # noqa: E402
from writing import begin, language_files  # noqa: E402

from minitox import files  # noqa: E402
from minitox.errors import InputError  # noqa: E402
from minitox.overlap import read_prompt_index  # noqa: E402
from minitox.report import page  # noqa: E402
from minitox.run import script  # noqa: E402
from minitox.run.settings import SEED, Help, Parser, integer  # noqa: E402

DESCRIPTION = (
    "Make minitox's data folders from published corpora; data/README.md says where to get them."
)
MOST_LABELS = 500  # more than that is taken for a column of texts
LONGEST_LABEL = 100  # characters


# One function for each command; its parameters are the command's options


def ptp(source, out, score, most, seed, split):
    """Write detection/ from PolygloToxicityPrompts.  [paper §3.1]"""
    paths = files_of(source, split)
    prompts = out / "prompts"
    begin(out, [*paths, *language_files(prompts)], language_files(out / "detection"))
    rows = drawn(paths, prompts, score, most, seed)
    fates = ["no text", "no score", "between", "test prompt", "toxic", "clean"]
    convert(out / "detection", fates, rows)


def rtp_lx(source, out, most, seed, pairs):
    """Write prompts/ from RTP-LX, or instructions/ from the rest of it.  [paper §4.2]"""
    paths = files_of(source, "RTP")
    if not pairs:
        begin(out, paths, language_files(out / "prompts"))
        rows = of_lowest_number(rows_of(corpora.rtp_lx, paths), most, seed)
        convert(out / "prompts", ["NA or empty", *(["left for --pairs"] if most else [])], rows)
        return

    # the prompts of the test are no prompts of pairs, and neither are their translations
    if most:
        raise InputError("--each is the number of prompts; with --pairs, all other rows are used")
    prompts = language_files(out / "prompts")
    begin(out, [*paths, *prompts], language_files(out / "instructions"))
    for path in language_files(out / "instructions"):
        refuse_other_pairs(path)
    rows = without_copies(rows_of(corpora.rtp_lx, paths, pairs=True), out / "prompts")
    rows = without_translations(rows, prompts)
    fates = ["NA or empty", "no completions", "not toxic", "test prompt", "translated"]
    convert(out / "instructions", fates, rows)


def mmlu(source, out, subject, split):
    """Write mmlu/ from a multilingual MMLU.  [paper §5.2]"""
    paths = files_of(source, split)
    begin(out, paths, language_files(out / "mmlu"))
    rows = rows_of(corpora.mmlu, paths, asked=subject)
    convert(out / "mmlu", ["other subject", "incomplete"], rows)


def hatecheck(source, out):
    """Write hatecheck/ from HateCheck and Multilingual HateCheck."""
    for path in source:
        files.check_regular(path)
    begin(out, source, language_files(out / "hatecheck"))
    rows = rows_of(corpora.hatecheck, source)
    convert(out / "hatecheck", ["no label", "no text"], rows)


def xstest(source, out):
    """Write xstest/ from XSTest.  [paper §5.2]"""
    files.check_regular(source)
    begin(out, [source], language_files(out / "xstest"))
    convert(out / "xstest", ["no label", "no text"], corpora.xstest(source))


def hate(source, out, **layout):
    """Add the hateful rows of a hate-speech corpus to hateful/.  [paper §3.2]"""
    for path in source:
        files.check_regular(path)
    prompts = out / "prompts"
    begin(out, [*source, *language_files(prompts)], language_files(out / "hateful"))
    rows = rows_of(corpora.hate, source, **layout)
    rows = without_copies(with_earlier(out / "hateful", rows), prompts)
    fates = ["no label", "no text", "not hateful", "duplicate", "already there", "test prompt"]
    convert(out / "hateful", fates, rows)


def rows_of(reader, paths, **how):
    """Yield the rows of all files."""
    for path in paths:
        yield from reader(path, **how)


def of_lowest_number(rows, most, seed):
    """Yield the rows, with the fate "left for --pairs" if they are not among `most` of a language.

    Those of the lowest random numbers are taken. Translations of a prompt have the same number, so
    that few of them are taken in one language and left in another.
    """
    rows = list(rows)
    numbers = defaultdict(list)  # language -> [(random number, position)]
    for position, (name, _, row) in enumerate(rows):
        if row is not None:
            language = name.split()[0]
            key = row.get("id", f"{language} {position}").encode()
            numbers[language].append((np.random.default_rng([seed, *key]).random(), position))
    taken = set()
    for of_language in numbers.values():
        taken |= {position for _, position in sorted(of_language)[:most]}
    for position, (name, fate, row) in enumerate(rows):
        if row is not None and position not in taken:
            fate = "left for --pairs"
            row = None
        yield name, fate, row


def without_translations(rows, prompts):
    """Yield the rows, with the fate "translated" if they have the id of a test prompt."""
    ids = set()
    for path in prompts:
        for _, row in files.read_jsonl(path) if path.exists() else ():
            ids.add(row.get("id"))
    for name, fate, row in rows:
        if row is not None and row.get("id") in ids - {None}:
            fate = "translated"
            row = None
        yield name, fate, row


def refuse_other_pairs(path):
    """InputError if a file has pairs that are not from RTP-LX, which would be lost."""
    for where, row in files.read_jsonl(path) if path.exists() else ():
        if row.get("source") != corpora.RTP_LX:
            raise InputError(
                f"{where} is not from RTP-LX, and --pairs would replace the file; choose another "
                "--out, or move the file"
            )


def drawn(paths, prompts, score, most, seed):
    """Yield the rows of PolygloToxicityPrompts, at most `most` toxic and clean ones per language.

    Copies of the test prompts in the folder `prompts` are not drawn. The files are read twice, so
    that no rows are kept in memory.
    """

    # 1) count the rows of each language and class
    rows = without_copies(rows_of(corpora.ptp, paths, score=score), prompts)
    totals = Counter((name, fate) for name, fate, _ in rows if fate in ("toxic", "clean"))

    # 2) draw the positions of those to take
    chosen = {}
    for kind, total in totals.items():
        rng = np.random.default_rng([seed, *"".join(kind).encode()])
        chosen[kind] = set(rng.choice(total, min(total, most), replace=False).tolist())

    # 3) take them
    seen = Counter()
    for name, fate, row in without_copies(rows_of(corpora.ptp, paths, score=score), prompts):
        kind = (name, fate)
        yield name, fate, row if seen[kind] in chosen.get(kind, ()) else None
        seen[kind] += 1


def without_copies(rows, folder):
    """Yield the rows, with the fate "test prompt" if they are copies of a prompt in `folder`."""
    indices = {}  # language -> its test prompts
    for name, fate, row in rows:
        if row is not None and fate in ("", "toxic", "clean"):
            language = name.split()[0]
            if language not in indices:
                indices[language] = read_prompt_index(folder / f"{language}.jsonl")
            if indices[language].compare(row.get("text") or row["prompt"]):
                fate = "test prompt"
                row = None
        yield name, fate, row


def with_earlier(folder, rows):
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


def convert(folder, fates, rows):
    """Write rows to folder/<language>.jsonl, all files or none, and count them by fate."""
    counts = defaultdict(Counter)  # name -> {fate: rows}
    opened = {}  # language -> file
    with ExitStack() as stack:
        for name, fate, row in rows:
            # 1) count it; languages that are left out are not divided by label
            language = name.split()[0]
            group = language if fate == "other language" else name
            group = group[:LONGEST_LABEL]
            counts[group].update(["rows", fate, "written" if row else ""])
            if len(counts) > MOST_LABELS:
                raise InputError(
                    f"over {MOST_LABELS} different labels; does --label name the column of labels?"
                )
            # 2) write it
            if not row:
                continue
            if language not in opened:
                temporary = stack.enter_context(files.replacing(folder / f"{language}.jsonl"))
                opened[language] = stack.enter_context(files.create_text(temporary))
            opened[language].write(files.as_line(row))

    print_counts(counts, fates)
    if not opened:
        raise InputError("no row was usable; see the table above for the reasons")
    total = sum(count["written"] for count in counts.values())
    names = ", ".join(f"{language}.jsonl" for language in sorted(opened))
    print(f"wrote {folder} ({total:,} lines in {names})")
    kept = [path.name for path in sorted(folder.glob("*.jsonl")) if path.stem not in opened]
    if kept:
        print(f"kept from an earlier run: {', '.join(kept)}")


def print_counts(counts, fates):
    """Print a table of the rows by name and fate, and name the languages that are left out."""
    columns = ["rows", *fates, "written"]
    # 1) sort the names into the two lists
    lines = []
    others = []
    for name, count in sorted(counts.items()):
        if "other language" in count:
            others.append(f"{page.shown(name)} ({count['rows']:,})")
        else:
            lines.append([name, *(f"{count[column]:,}" for column in columns)])
    # 2) print them
    print(page.markdown_table(page.Section("", columns=["", *columns], rows=lines)))
    if others:
        print("languages left out because they are not among the sixteen:", ", ".join(others))


# The command line


def add(
    commands,
    name,
    make,
    about,
    source,
    about_out="folder to write into",
    nargs=None,
    **defaults,
):
    """Add a command that calls `make` with its options; return a function that adds an option.

    `defaults` takes precedence over the default of --out, and not over those of later options.
    """
    command = commands.add_parser(name, help=about, description=about, formatter_class=Help)
    command.add_argument("source", metavar="SOURCE", type=Path, help=source, nargs=nargs)
    command.add_argument("--out", type=Path, default=Path("data/paper"), help=about_out)
    command.set_defaults(make=make, **defaults)
    return command.add_argument


def add_ptp(commands):
    option = add(
        commands,
        "ptp",
        ptp,
        "PolygloToxicityPrompts -> detection/: texts scored above 0.5 or below 0.2, at random.",
        "folder with ptp-<lang>/full-*.parquet, or one file, parquet or JSON Lines",
    )
    option(
        "--score",
        choices=["text", "prompt"],
        default="text",
        help="use whole texts, or the prompts that they begin with",
    )
    option(
        "--each",
        dest="most",
        metavar="N",
        type=integer(),
        default=5_000,
        help="maximum number of toxic, and of clean, texts per language",
    )
    option("--seed", type=SEED, default=0, help="random seed of the choice of texts")
    option(
        "--split",
        choices=["full", "small", "wildchat"],
        default="full",
        help="which files to read in a folder",
    )


def add_rtp_lx(commands):
    option = add(
        commands,
        "rtp-lx",
        rtp_lx,
        "RTP-LX -> prompts/; with --pairs -> instructions/.",
        "folder of RTP_LX_<LOCALE>.json",
    )
    option(
        "--each",
        dest="most",
        metavar="N",
        type=integer(),
        help="maximum number of prompts per language, drawn at random; default: all",
    )
    option("--seed", type=SEED, default=0, help="random seed of the choice of prompts")
    option(
        "--pairs",
        action="store_true",
        help="write pairs of a benign reply and a toxic one to reject, from rows that are no "
        "prompts in OUT",
    )


def add_hate(commands, name, about, **layout):
    # the options describe a layout; a known corpus has one, which they can change
    required = not layout
    option = add(
        commands,
        name,
        hate,
        f"{about} -> hateful/: adds the prompts that are labelled hateful.",
        "CSV, TSV, JSON, JSON Lines or parquet file",
        nargs="+",
        **{"encoding": "utf-8-sig", **layout},
    )
    option("--text", metavar="COLUMN", required=required, help="column of the texts")
    option("--label", metavar="COLUMN", required=required, nargs="+", help="columns of the labels")
    option(
        "--hateful",
        metavar="LABEL",
        nargs="+",
        required=required,
        help="labels, of which any one means hateful",
    )
    option(
        "--language",
        metavar="CODE",
        help="language, or the column that has it; default: from the file's name",
    )
    option("--encoding", help="encoding of a CSV file")
    option(
        "--separator",
        metavar="CHARACTER",
        help="separator in a CSV file; default: the most frequent one in its header",
    )
    option(
        "--source",
        metavar="NAME",
        dest="name",
        default=name,
        help="name of the corpus in the written rows",
    )
    if name == "davidson":
        option(
            "--offensive",
            dest="hateful",
            action="store_const",
            const=["0", "1"],
            help="also take class 1, offensive; by default only class 0, hateful",
        )


def main(argv=None):
    # 1) the command line
    parser = Parser(description=DESCRIPTION, formatter_class=Help)
    commands = parser.add_subparsers(metavar="CORPUS", required=True)
    add_ptp(commands)
    add_rtp_lx(commands)
    option = add(
        commands,
        "mmlu",
        mmlu,
        "Multilingual MMLU -> mmlu/: the questions of one subject.",
        "file or folder of Okapi, m_mmlu, Global-MMLU or MMMLU",
    )
    option("--subject", default="high_school_geography", help="subject of the questions")
    option("--split", default="test", help="which files to read in a folder")
    add(
        commands,
        "hatecheck",
        hatecheck,
        "HateCheck and Multilingual HateCheck -> hatecheck/: cases to measure scorers with.",
        "test_suite_cases.csv or hatecheck_cases_final_<language>.csv",
        nargs="+",
    )
    add(
        commands,
        "xstest",
        xstest,
        "XSTest -> xstest/: prompts that are safe to answer, and others that are not.",
        "xstest_prompts.csv",
    )
    for name, layout in corpora.HATE.items():
        add_hate(commands, name, **layout)
    option = add(
        commands,
        "scorer",
        scorer,
        "Fit the default scorer to published scores, and print its quality on held-out rows.",
        'folder of <lang>.jsonl, {"text": ..., "toxicity": 0..1}',
        "file to write; default: scorer.safetensors beside SOURCE",
        out=None,
    )
    option("--seed", type=SEED, default=0, help="random seed of the held-out rows")
    # 2) the command
    options = vars(parser.parse_args(argv))
    make = options.pop("make")
    make(**options)


if __name__ == "__main__":
    script.run(main)
