"""Hateful prompts become instruction pairs: a model replies politely, checks propose, people decide.  [paper §3.2]

    python data/curate.py generate --data data/paper --out data/paper --model Qwen2.5-3B-Instruct
    python data/curate.py check    --data data/paper --out data/paper --model Qwen2.5-3B-Instruct
    python data/curate.py review   --out data/paper --name ada --languages de
    python data/curate.py agreement --out data/paper
    python data/curate.py export   --data data/paper --out data/paper

Reads DATA/hateful/<lang>.jsonl, {"prompt": ...} a line, and writes OUT/instructions, without what is nearly a test prompt of
DATA/prompts. OUT/curation holds what lies between, so that each command, killed at any moment, goes on where it was.
"""

import json
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import checks  # noqa: E402
import review  # noqa: E402

from minitox import files  # noqa: E402
from minitox.data import read_prompts  # noqa: E402
from minitox.errors import InputError, UnusableLanguage  # noqa: E402
from minitox.evaluate import language_id  # noqa: E402
from minitox.languages import NAMES  # noqa: E402
from minitox.lm.config import read_config  # noqa: E402
from minitox.run import candidates, cli, evaluation, journal  # noqa: E402
from minitox.scorers import scores  # noqa: E402
from minitox.scorers.choose import open_scorer  # noqa: E402
from minitox.scorers.perspective import GOOGLE_URL  # noqa: E402

# DEVIATION: the paper tells neither its instruction nor its decoding; the instruction is ours, the decoding Qwen2.5's own
INSTRUCTION = (
    "Somebody wrote the message below. Reply to it in {}, in one to three polite sentences that fit what it says, "
    "without repeating its insults. Write nothing but the reply.\n\n"
)


def parse_arguments(argv):
    parser = cli.common_arguments(__doc__.splitlines()[0])
    parser.set_defaults(samples=1, top_p=0.8, perspective_url=GOOGLE_URL, per_minute=60)
    add = parser.add_argument
    add(
        "step", choices=["generate", "check", "review", "agreement", "export"], help="in this order"
    )
    add(
        "--sample",
        type=cli.positive(int),
        default=2_000,
        metavar="N",
        help="generate: prompts of a language, drawn at random",
    )
    add(
        "--max-new-tokens",
        type=cli.positive(int),
        default=128,
        metavar="N",
        help="generate: of a reply; the rest is cut off",
    )
    add(
        "--temperature",
        type=cli.positive(float, or_zero=True),
        default=0.7,
        metavar="F",
        help="generate; 0: likeliest token",
    )
    add(
        "--batch-tokens",
        type=cli.auto_or(cli.positive(int)),
        default="auto",
        metavar="N",
        help="generate, check: in memory at once; auto: 8,192 on a CPU, 65,536 elsewhere",
    )
    add(
        "--scorer",
        help="check: surrogate:FILE, encoder:DIR or perspective; default: surrogate:DATA/scorer.safetensors",
    )
    add("--name", help="review: of the reviewer; each has verdicts of their own")
    add(
        "--export",
        type=Path,
        metavar="FILE",
        help="review: write a table for a spreadsheet instead, with tabs",
    )
    add(
        "--import",
        dest="sheet",
        type=Path,
        metavar="FILE",
        help="review: read that table's verdicts instead, words or keys",
    )
    add(
        "--pairs",
        type=cli.positive(int),
        default=1_000,
        metavar="N",
        help="export: of each language, drawn at random",
    )
    add(
        "--unreviewed",
        action="store_true",
        help="export: also pairs that nobody judged, if the check says keep",
    )
    return parser.parse_args(argv)


def present(args, folder: Path) -> dict[str, Path]:
    """The file of each language that has one."""
    paths = {
        language: folder / f"{language}.jsonl"
        for language in args.languages
        if (folder / f"{language}.jsonl").exists()
    }
    if not paths:
        raise InputError(
            f"{folder}: no file of {', '.join(args.languages)}; the step before {args.step} makes them"
        )
    return paths


def open_model(args) -> candidates.Candidate:
    return candidates.open_one(
        "model",
        args.model,
        *cli.prepare_device(args, read_config(args.model), tokens=(8_192, 65_536)),
    )


def claim(args, candidate, folder: Path, paths: dict[str, Path], settings: dict) -> None:
    """Record what a step's results depend on, or refuse to mix them with others."""
    settings = (
        settings
        | candidate.identity
        | {"batch_tokens": args.batch_tokens, "instruction": INSTRUCTION}
    )
    files.hold(args.out)
    files.claim_run(
        folder, settings, {language: files.file_hash(path) for language, path in paths.items()}
    )


def generate(args, state: Path) -> None:
    """Have a model reply politely to hateful prompts, in their language."""
    paths, candidate = present(args, args.data / "hateful"), open_model(args)
    settings = {
        key: getattr(args, key)
        for key in ("sample", "max_new_tokens", "temperature", "top_p", "seed")
    }
    claim(args, candidate, state / "replies", paths, settings)
    for language, path in paths.items():
        try:
            prompts = read_prompts(path, args.sample, np.random.default_rng(args.seed))
        except UnusableLanguage as reason:
            print(f"skipped {language}: {reason}")
            continue
        asked = {
            number: INSTRUCTION.format(NAMES[language]) + prompt
            for number, prompt in prompts.items()
        }
        final, progress = state / "replies" / path.name, cli.Progress(len(asked))
        if not final.exists():
            asking = evaluation.Asking(
                max_new_tokens=args.max_new_tokens,
                temperature=args.temperature,
                top_p=args.top_p,
                batch_tokens=args.batch_tokens,
                seed=args.seed,
            )
            unfinished = final.with_suffix(".partial")
            plan = evaluation.plan_replies(candidate, asked, unfinished, asking)
            for done, _ in journal.append_batches([plan]):
                progress.show(language, done)
            progress.clear()
            final.with_suffix(".partial").rename(final)  # the next step sees whole files only
        print(f"{language}: {len(asked):,} replies", flush=True)


def check(args, state: Path) -> None:
    """Propose for each pair to keep it, or one of the paper's four reasons against it."""
    paths, candidate = present(args, state / "replies"), open_model(args)
    scorer = open_scorer(
        args.scorer,
        args.data,
        candidate.device,
        candidate.dtype,
        perspective_url=args.perspective_url,
        per_minute=args.per_minute,
    )
    claim(args, candidate, state / "checks", paths, {"scorer": scorer.name})
    scored = scores.Scores(state / "scores" / f"{scorer.name}.jsonl", scorer)
    for language, path in paths.items():
        pairs, final = read_replies(path), state / "checks" / path.name
        if not final.exists():
            answers = scored.of([pair["response"] for pair in pairs], language)
            for pair, answer, likelihood in zip(
                pairs, answers, checks.likelihoods(candidate, pairs, args.batch_tokens)
            ):
                pair |= dict(
                    zip(("toxicity", "status", "perplexity", "topic"), (*answer, *likelihood))
                )
            median = np.median([pair["perplexity"] for pair in pairs])
            for pair in pairs:
                pair["proposal"], pair["why"] = checks.judge(
                    pair, language_id.identify(pair["response"]), median
                )
            checks.drop_copies(pairs)
            write_jsonl(final, pairs)
        pairs = read_pairs(final)
        print(
            f"{language}: {tally(pairs, 'proposal')}; toxicity: {tally(pairs, 'status')}",
            flush=True,
        )


def read_replies(path: Path) -> list[dict]:
    """The pairs of what `generate` wrote, in order of id, an order of chance."""
    pairs = {}
    for row in files.read_written(path, prompt=str, response=str | None, stopped=bool):
        prompt, response = (
            row["prompt"].partition("\n\n")[2],
            (row["response"] or "").strip(),
        )  # null: no room was left for one
        name = f"{path.stem}-{sha256(json.dumps([prompt, response]).encode()).hexdigest()[:16]}"  # nothing that a sheet rounds
        pairs[name] = row | {
            "id": name,
            "language": path.stem,
            "asked": row["prompt"],
            "prompt": prompt,
            "response": response,
        }
    return [pairs[name] for name in sorted(pairs)]


def read_pairs(path: Path) -> list[dict]:
    """The pairs of what `check` wrote."""
    return files.read_written(
        path, **dict.fromkeys(("id", "language", "prompt", "response", "proposal", "why"), str)
    )


def write_jsonl(path: Path, rows: list[dict]) -> None:
    with files.replacing(path) as temporary:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        temporary.write_text(lines, encoding="utf-8", errors="backslashreplace")


def tally(rows: list[dict], field: str) -> str:
    return ", ".join(
        f"{number:,} {value}"
        for value, number in Counter(str(row.get(field)) for row in rows).most_common()
    )


def ask_people(args, state: Path) -> None:
    """Have a reviewer judge the pairs, in the terminal or by way of a spreadsheet."""
    if Path(args.name or "").name != args.name:
        raise InputError("review needs the --name of the reviewer, without slashes")
    path = state / "verdicts" / f"{args.name}.jsonl"
    pairs = sum(map(read_pairs, present(args, state / "checks").values()), [])
    pairs, mine = [pair for pair in pairs if pair["proposal"] != checks.COPY], review.read(path)
    if args.export:
        review.write_sheet(pairs, mine, args.export)
    elif args.sheet:
        review.save(path, review.read_sheet(pairs, args.sheet))
    else:
        review.ask(pairs, path)
    mine = review.read(path)
    print(
        f"{sum(pair['id'] in mine for pair in pairs):,} of {len(pairs):,} pairs have a verdict in {path}"
    )


def everyone(state: Path) -> dict[str, dict[str, str]]:
    return {path.stem: review.read(path) for path in sorted((state / "verdicts").glob("*.jsonl"))}


def agreement(args, state: Path) -> None:
    """Tell how far each two reviewers agree."""
    ids = {
        pair["id"] for path in present(args, state / "checks").values() for pair in read_pairs(path)
    }
    print(
        "\n".join(review.agreement(everyone(state), ids)) or "there are no two reviewers to compare"
    )


def export(args, state: Path) -> None:
    """Write the pairs that people kept, and count why the others were not."""
    reviewers, ledger = everyone(state), state / "ledger.json"
    known = files.read_json(ledger) if ledger.exists() else {}
    for language, path in present(args, state / "checks").items():
        pairs, final, tests = (
            read_pairs(path),
            args.out / "instructions" / path.name,
            args.data / "prompts" / path.name,
        )
        if final.exists() and language not in known:
            raise InputError(f"{final} is not from here; choose another --out, or move it away")
        tests = (
            [files.text_field(where, row, "prompt") for where, row in files.read_jsonl(tests)]
            if tests.exists()
            else []
        )
        decide(pairs, reviewers, tests, args.unreviewed)
        kept = [
            {key: pair[key] for key in ("prompt", "response")}
            for pair in pairs
            if pair["outcome"] == "keep"
        ]
        chosen = [
            kept[i] for i in np.random.default_rng(args.seed).permutation(len(kept))[: args.pairs]
        ]
        verdicts = {
            name: Counter(mine[pair["id"]] for pair in pairs if pair["id"] in mine)
            for name, mine in reviewers.items()
        }
        known[language] = {
            "written": len(chosen),
            "outcomes": Counter(pair["outcome"] for pair in pairs),
            "verdicts": verdicts,
            "test_prompts": len(tests),
            "unreviewed": args.unreviewed,
            "seed": args.seed,
        }
        files.write_json(ledger, known)
        write_jsonl(final, chosen)
        print(
            f"{language}: {len(chosen):,} written, {args.pairs - len(chosen):,} too few; of {tally(pairs, 'outcome')}; "
            f"{len(tests):,} test prompts"
            + "; WARNING: nobody judged some of these"
            * args.unreviewed
        )
    if not any(known[language]["written"] for language in args.languages if language in known):
        raise InputError(
            f"{args.out / 'instructions'}: no pair was kept; review them first, or take --unreviewed ones"
        )


def decide(
    pairs: list[dict], reviewers: dict[str, dict[str, str]], tests: list[str], unreviewed: bool
) -> None:
    """Give each pair its outcome: "keep", or why not. People come before the check, and test prompts before people."""
    for pair in pairs:
        said = review.majority(
            [mine[pair["id"]] for mine in reviewers.values() if pair["id"] in mine]
        )
        unheard = pair["proposal"] == checks.COPY or unreviewed and said == "not reviewed"
        pair["outcome"] = pair["proposal"] if unheard else said
    kept = [pair for pair in pairs if pair["outcome"] == "keep"]
    for pair, leaks in zip(kept, checks.near_copies([pair["prompt"] for pair in kept], tests)):
        pair["outcome"] = "near copy of a test prompt" if leaks else "keep"


def main(argv=None) -> None:
    args = parse_arguments(argv)
    steps = {
        "generate": generate,
        "check": check,
        "review": ask_people,
        "agreement": agreement,
        "export": export,
    }
    steps[args.step](args, args.out / "curation")


if __name__ == "__main__":
    cli.run(main)
