"""Make what minitox reads from published corpora. data/README.md says where they are, and under which licence.

python data/prepare.py ptp data/raw/ptp                          # -> data/paper/detection/
python data/prepare.py davidson data/raw/labeled_data.csv        # -> data/paper/hateful/en.jsonl
python data/prepare.py scorer data/paper/detection               # -> data/paper/scorer.safetensors
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from contextlib import ExitStack
from hashlib import sha256
from itertools import chain
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import corpora  # noqa: E402

from minitox import files  # noqa: E402
from minitox.data import read_detection  # noqa: E402
from minitox.detect.auroc import auroc  # noqa: E402
from minitox.errors import InputError, UnusableLanguage  # noqa: E402
from minitox.languages import NAMES  # noqa: E402
from minitox.report import page  # noqa: E402
from minitox.run import cli  # noqa: E402
from minitox.scorers import surrogate  # noqa: E402


def quality(predicted, scores) -> dict:  # (texts,), (texts,)
    """AUC of toxic against clean texts, Pearson's correlation, and the expected calibration error in ten bins of equal width."""
    extreme = (scores > 0.5) | (scores < 0.2)  # the paper's classes
    (a, b), errors = (
        ((x - x.mean()) / (x.std() or 1) for x in (predicted, scores)),
        predicted - scores,
    )
    found = {
        "auc": auroc(predicted[None, extreme].astype(np.float32), scores[extreme] > 0.5)[0],
        "correlation": np.mean(a * b),
        "calibration": np.abs(
            np.bincount(np.minimum((predicted * 10).astype(int), 9), errors)
        ).sum()
        / len(scores),
    }
    return {name: round(float(value), 3) for name, value in found.items()} | {"rows": len(scores)}


def learn(path: Path, seed: int) -> tuple:  # (entries,) table, what else to know about it
    """A model of a detection/ file; its held-out figures are of one that has not seen a fifth of the rows, on that fifth."""
    data = read_detection(path)
    texts, scores = (
        [surrogate.normalise(text) for text, _ in data],
        np.array([score for _, score in data]),
    )
    folds = np.array(
        [int(sha256(f"{seed} {text}".encode()).hexdigest(), 16) % 5 for text in texts]
    )  # equal texts share theirs
    rows, seen, unseen = (
        np.fromiter(map(surrogate.ngrams, texts), dtype=object),
        folds > 0,
        folds == 0,
    )
    if not all(
        (scores[part] > 0.5).any() and (scores[part] < 0.2).any() for part in (seen, unseen)
    ):
        raise UnusableLanguage(
            f"{path}: too few rows above 0.5 or below 0.2 to learn from some and test on others"
        )
    table, offset = surrogate.fit(rows[seen], scores[seen], folds[seen])
    found = quality(
        surrogate.sigmoid(offset + surrogate.margins(table, rows[unseen])), scores[unseen]
    )
    table, offset = surrogate.fit(rows, scores, folds)
    return table, {"offset": offset, "held_out": found, "data": files.file_hash(path)}


def scorer(args) -> None:
    """Train the default scorer on published scores, and print what it is worth on a fifth of the rows."""
    out, tables, known = args.out or args.source.parent / "scorer.safetensors", {}, {}
    print("    held-out rows    AUC  correlation  calibration error")
    for path in sorted(path for path in args.source.glob("*.jsonl") if path.stem in NAMES):
        try:
            tables[path.stem], known[path.stem] = learn(path, args.seed)
            worth = known[path.stem]["held_out"]
            print(
                "{}  {rows:13,}  {auc:5.3f}  {correlation:11.3f}  {calibration:17.3f}".format(
                    path.stem, **worth
                ),
                flush=True,
            )
        except UnusableLanguage as error:
            print(f"{path.stem}  left out: {error}")
    if not tables:
        raise InputError(
            f"{args.source}: no language to learn; it should hold en.jsonl and others, as data/toy/detection does"
        )
    about = surrogate.SETTINGS | {"seed": args.seed, "languages": known}
    files.write_tensors(out, tables, "surrogate", about)
    print(f"wrote {out} ({len(tables)} languages, {out.stat().st_size / 1000:,.0f} kB)")


def ptp(args) -> None:
    """PolygloToxicityPrompts -> detection/: texts of toxicity above 0.5 or below 0.2, drawn at random.  [paper §3.1]"""
    paths = corpora.files_of(args.source, args.split)
    convert(
        args, "detection", ["no text", "no score", "between", "toxic", "clean"], drawn(args, paths)
    )


def drawn(args, paths: list[Path]):
    """At most args.each toxic and clean rows of each language: the first reading counts, the second takes, and none is stored."""

    def rows():
        return chain.from_iterable(corpora.ptp(path, args.score) for path in paths)

    totals, seen, chosen = (
        Counter((name, fate) for name, fate, _ in rows() if fate in ("toxic", "clean")),
        Counter(),
        {},
    )
    for kind, total in totals.items():
        rng = np.random.default_rng([args.seed, *"".join(kind).encode()])
        chosen[kind] = set(rng.choice(total, min(total, args.each), replace=False).tolist())
    for name, fate, row in rows():
        yield name, fate, row if seen[name, fate] in chosen.get((name, fate), ()) else None
        seen[name, fate] += 1


def rtp_lx(args) -> None:
    """RTP-LX -> prompts/.  [paper §4.2]"""
    convert(
        args,
        "prompts",
        ["NA or empty"],
        chain.from_iterable(map(corpora.rtp_lx, corpora.files_of(args.source, "RTP"))),
    )


def mmlu(args) -> None:
    """Multilingual MMLU -> mmlu/: the questions of one subject.  [paper §5.2]"""
    rows = chain.from_iterable(
        corpora.mmlu(path, args.subject) for path in corpora.files_of(args.source, args.split)
    )
    convert(args, "mmlu", ["other subject", "incomplete"], rows)


def hate(args) -> None:
    """A hate-speech corpus -> hateful/: the prompts labelled hateful, added to those that are there.  [paper §3.2]"""
    rows = unseen(
        args.out / "hateful", chain.from_iterable(corpora.hate(path, args) for path in args.source)
    )
    convert(
        args, "hateful", ["no label", "no text", "not hateful", "duplicate", "there before"], rows
    )


def unseen(folder: Path, rows):
    """What is in `folder` already, and those of the rows whose prompts it does not have, each prompt once."""
    known = {}  # of each language, the hash of every prompt, which is smaller than the prompt, and the fate of one more like it
    for name, fate, row in rows:
        if row:
            language, key = name.split()[0], hash(row["prompt"])
            if language not in known:
                path, known[language] = folder / f"{language}.jsonl", {}
                for where, old in files.read_jsonl(path) if path.exists() else ():
                    known[language][
                        hash(" ".join(files.text_field(where, old, "prompt").split()))
                    ] = "there before"
                    yield f"{language}  (kept from {path.name})", fate, old
            fate = known[language].get(key, fate)
            known[language].setdefault(key, "duplicate")
        yield name, fate, None if fate else row


def convert(args, folder: str, fates: list[str], rows) -> None:
    """Write what corpora.py makes of a corpus to folder/<language>.jsonl, all files or none, and print where the rows went."""
    counts, opened = defaultdict(Counter), {}
    with ExitStack() as stack:
        for name, fate, row in rows:
            language = name.split()[0]
            counts[language if fate == "other language" else name].update(
                ["rows", fate, "written" if row else ""]
            )
            if len(counts) > 500:
                raise InputError("over 500 different labels; is --label the column of labels?")
            if row and language not in opened:
                temporary = stack.enter_context(
                    files.replacing(args.out / folder / f"{language}.jsonl")
                )
                opened[language] = stack.enter_context(
                    open(temporary, "w", encoding="utf-8", errors="backslashreplace")
                )
            if row:
                opened[language].write(json.dumps(row, ensure_ascii=False) + "\n")
    others = [
        f"{name} ({counts.pop(name)['rows']:,})"
        for name in sorted(counts)
        if "other language" in counts[name]
    ]
    columns = ["rows", *fates, "written"]
    lines = [
        [name, *(f"{count[column]:,}" for column in columns)]
        for name, count in sorted(counts.items())
    ]
    print(page.markdown_table(page.Section("", columns=["", *columns], rows=lines)))
    if others:
        print("left out, as none of the sixteen languages:", ", ".join(others))
    if not opened:
        raise InputError("no row is left to be written, for the reasons in the table")
    total = sum(count["written"] for count in counts.values())
    print(
        f"wrote {args.out / folder} ({total:,} lines in {', '.join(f'{language}.jsonl' for language in sorted(opened))})"
    )


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=cli.Help)
    commands = parser.add_subparsers(metavar="CORPUS", required=True)

    def add(name: str, make, source: str, **more):
        about = more.pop("about", None) or make.__doc__.split("  [")[0]
        command = commands.add_parser(name, help=about, description=about, formatter_class=cli.Help)
        command.add_argument("source", metavar="SOURCE", type=Path, help=source, **more)
        command.set_defaults(make=make)
        if make is not scorer:
            command.add_argument(
                "--out",
                metavar="DIR",
                type=Path,
                default=Path("data/paper"),
                help="folder to write into",
            )
        return command

    command = add(
        "ptp", ptp, "the folder with ptp-<lang>/full-*.parquet; or a file, parquet or JSON Lines"
    )
    command.add_argument(
        "--score",
        choices=["text", "prompt"],
        default="text",
        help="the whole text, or the prompt in it",
    )
    command.add_argument(
        "--each",
        metavar="N",
        type=cli.positive(int),
        default=5_000,
        help="texts of either kind, at most",
    )
    command.add_argument("--seed", type=int, default=0, help="of the choice of texts")
    command.add_argument(
        "--split",
        choices=["full", "small", "wildchat"],
        default="full",
        help="which files of a folder",
    )
    add("rtp-lx", rtp_lx, "folder of RTP_LX_<LOCALE>.json")
    command = add("mmlu", mmlu, "file or folder of Okapi, m_mmlu, Global-MMLU or MMMLU")
    command.add_argument("--subject", default="high_school_geography", help="of the questions")
    command.add_argument("--split", default="test", help="which files of a folder")
    for name, corpus in corpora.HATE.items():
        known, about = (
            "text" in corpus,
            f"{corpus['about']} -> hateful/: prompts labelled hateful, added to those there.",
        )
        command = add(
            name, hate, "CSV, TSV, JSON, JSON Lines or parquet file", nargs="+", about=about
        )
        command.add_argument(
            "--text", metavar="COLUMN", required=not known, help="where the text is"
        )
        command.add_argument(
            "--label", metavar="COLUMN", nargs="+", required=not known, help="where labels are"
        )
        command.add_argument(
            "--hateful",
            metavar="LABEL",
            nargs="+",
            required=not known,
            help="any of these means hateful",
        )
        command.add_argument(
            "--language",
            metavar="CODE",
            help="or the column that tells it; default: by the file's name",
        )
        command.add_argument("--encoding", default="utf-8-sig", help="of a CSV file")
        command.add_argument(
            "--separator", metavar="CHARACTER", help="default: what the header has most of"
        )
        command.add_argument(
            "--source",
            metavar="NAME",
            dest="name",
            default=name,
            help="the corpus's name in what is written",
        )
        command.set_defaults(**{"origin": None, **corpus})
        if name == "davidson":
            command.add_argument(
                "--offensive",
                dest="hateful",
                action="store_const",
                const=["0", "1"],
                help="by default only class 0",
            )
    command = add("scorer", scorer, 'folder of <lang>.jsonl, {"text": ..., "toxicity": 0..1}')
    command.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="file to write; default: scorer.safetensors beside SOURCE",
    )
    command.add_argument("--seed", type=int, default=0, help="of the choice of the held-out rows")
    args = parser.parse_args(argv)
    args.make(args)


if __name__ == "__main__":
    cli.run(main)
