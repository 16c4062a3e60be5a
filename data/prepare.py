"""Make what minitox reads from published corpora.

    python data/prepare.py scorer data/toy/detection --out data/toy/scorer.safetensors
"""

import argparse
import json
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from minitox import cli, files  # noqa: E402
from minitox.detect.auroc import auroc  # noqa: E402
from minitox.evaluate import surrogate  # noqa: E402
from minitox.languages import NAMES  # noqa: E402


def figures(predicted, scores) -> dict:  # (texts,), (texts,)
    """AUC of toxic against clean texts, Pearson's correlation, and the expected calibration error in ten bins of equal width."""
    extreme = (scores > 0.5) | (scores < 0.2)  # the paper's classes
    (a, b), errors = ((x - x.mean()) / (x.std() or 1) for x in (predicted, scores)), predicted - scores
    found = {"auc": auroc(predicted[None, extreme].astype(np.float32), scores[extreme] > 0.5)[0], "correlation": np.mean(a * b),
             "calibration": np.abs(np.bincount(np.minimum((predicted * 10).astype(int), 9), errors)).sum() / len(scores)}
    return {name: round(float(value), 3) for name, value in found.items()} | {"rows": len(scores)}


def learn(path: Path, seed: int) -> tuple:  # (entries,) table, what else to know about it
    """A model of a detection/ file; its held-out figures are of one that has not seen a fifth of the rows, on that fifth."""
    data = files.read_detection(path)
    texts, scores = [surrogate.normalise(text) for text, _ in data], np.array([score for _, score in data])
    folds = np.array([int(sha256(f"{seed} {text}".encode()).hexdigest(), 16) % 5 for text in texts])  # equal texts share theirs
    rows, seen, unseen = np.fromiter(map(surrogate.ngrams, texts), dtype=object), folds > 0, folds == 0
    if not all((scores[part] > 0.5).any() and (scores[part] < 0.2).any() for part in (seen, unseen)):
        raise files.UnusableLanguage(f"{path}: too few rows above 0.5 or below 0.2 to learn from some and test on others")
    table, offset = surrogate.fit(rows[seen], scores[seen], folds[seen])
    found = figures(surrogate.sigmoid(offset + surrogate.margins(table, rows[unseen])), scores[unseen])
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
            print("{}  {rows:13,}  {auc:5.3f}  {correlation:11.3f}  {calibration:17.3f}".format(path.stem, **worth), flush=True)
        except files.UnusableLanguage as error:
            print(f"{path.stem}  left out: {error}")
    if not tables:
        raise files.InputError(f"{args.source}: no language to learn; it should hold en.jsonl and others, as data/toy/detection does")
    with files.replacing(out) as temporary:
        info = surrogate.SETTINGS | {"seed": args.seed, "languages": known}
        save_file(tables, temporary, metadata={"surrogate": json.dumps(info)})
    print(f"wrote {out} ({len(tables)} languages, {out.stat().st_size / 1000:,.0f} kB)")


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=cli.Help)
    commands = parser.add_subparsers(metavar="CORPUS", required=True)
    command = commands.add_parser("scorer", help=scorer.__doc__, description=scorer.__doc__, formatter_class=cli.Help)
    command.add_argument("source", metavar="SOURCE", type=Path, help='folder of <lang>.jsonl, {"text": ..., "toxicity": 0..1}')
    command.add_argument("--out", metavar="FILE", type=Path, help="file to write; default: scorer.safetensors beside SOURCE")
    command.add_argument("--seed", type=int, default=0, help="of the choice of the held-out rows")
    command.set_defaults(make=scorer)
    args = parser.parse_args(argv)
    args.make(args)


if __name__ == "__main__":
    cli.run(main)
