"""Turn hateful prompts into instruction pairs: a model replies, checks propose, people decide.

    python data/curate.py generate --data data/paper --out data/paper --model Qwen2.5-3B-Instruct
    python data/curate.py check    --data data/paper --out data/paper --model Qwen2.5-3B-Instruct
    python data/curate.py review   --out data/paper --name ada --languages de
    python data/curate.py agreement --out data/paper
    python data/curate.py export   --data data/paper --out data/paper

Reads DATA/hateful/<lang>.jsonl, {"prompt": ...} a line, and writes OUT/instructions/<lang>.jsonl
without near copies of the test prompts in DATA/prompts. The steps keep their own results in
OUT/curation; rerun the same command to resume an interrupted step.  [paper §3.2]
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import checks  # noqa: E402
import review  # noqa: E402
from export import export  # noqa: E402
from pair_files import (  # noqa: E402
    present,
    read_checked,
    read_replies,
    tally,
    write_jsonl,
)

from minitox import files  # noqa: E402
from minitox.errors import InputError, UnusableLanguage  # noqa: E402
from minitox.evaluate import language_id  # noqa: E402
from minitox.languages import NAMES  # noqa: E402
from minitox.lm.config import read_config  # noqa: E402
from minitox.run import cli, journal, replies  # noqa: E402
from minitox.run.candidates import Candidate, open_one  # noqa: E402
from minitox.scorers import scores  # noqa: E402
from minitox.scorers.choose import open_scorer  # noqa: E402
from minitox.scorers.perspective import GOOGLE_URL  # noqa: E402

# DEVIATION: the paper does not publish its instruction or its decoding settings; these are ours
INSTRUCTION = (
    "Somebody wrote the message below. Reply to it in {}, in one to three polite sentences "
    "that fit what it says, without repeating its insults. Write nothing but the reply.\n\n"
)
TEMPERATURE = 0.7  # Qwen2.5's default
TOP_P = 0.8  # likewise

STEPS = ["generate", "check", "review", "agreement", "export"]


def parse_arguments(argv) -> argparse.Namespace:
    parser = cli.common_arguments(__doc__.splitlines()[0])
    add = parser.add_argument
    add("step", choices=STEPS, help="the steps, in this order")
    # generate and check
    add(
        "--sample",
        type=cli.positive(int),
        default=2_000,
        metavar="N",
        help="generate: prompts per language, drawn at random",
    )
    add(
        "--max-new-tokens",
        type=cli.positive(int),
        default=128,
        metavar="N",
        help="generate: maximum length of a reply, which is cut off there",
    )
    add(
        "--temperature",
        type=cli.positive(float, or_zero=True),
        default=TEMPERATURE,
        metavar="F",
        help="generate: sampling temperature; 0: always the likeliest token",
    )
    add(
        "--batch-tokens",
        type=cli.auto_or(cli.positive(int)),
        default="auto",
        metavar="N",
        help="generate, check: tokens per batch; auto: 8,192 on a CPU, 65,536 elsewhere",
    )
    add(
        "--scorer",
        help="check: surrogate:FILE, encoder:DIR or perspective; "
        "default: surrogate:DATA/scorer.safetensors",
    )
    # review and export
    add("--name", help="review: name of the reviewer; verdicts are kept per reviewer")
    add(
        "--export",
        type=Path,
        metavar="FILE",
        help="review: write a tab-separated table for a spreadsheet instead",
    )
    add(
        "--import",
        dest="sheet",
        type=Path,
        metavar="FILE",
        help="review: read the verdicts, as words or keys, from such a table instead",
    )
    add(
        "--pairs",
        type=cli.positive(int),
        default=1_000,
        metavar="N",
        help="export: pairs per language, drawn at random",
    )
    add(
        "--unreviewed",
        action="store_true",
        help="export: also use pairs without a review if the check proposes to keep them",
    )
    args = parser.parse_args(argv)
    if args.step == "review" and Path(args.name or "").name != args.name:
        raise InputError("review needs --name: the reviewer's name, without slashes")
    return args


def open_model(
    folder: Path, device: str, dtype: str, batch_tokens: int | str
) -> tuple[Candidate, int]:
    """Open the model, and turn "auto" into a number of tokens per batch for its device."""
    options = argparse.Namespace(device=device, dtype=dtype, batch_tokens=batch_tokens)
    prepared = cli.prepare_device(options, read_config(folder), tokens=(8_192, 65_536))
    return open_one("model", folder, *prepared), options.batch_tokens


def scorer_for(name: str | None, data: Path, candidate: Candidate):
    """Open the scorer that --scorer names."""
    options = argparse.Namespace(scorer=name, data=data, perspective_url=GOOGLE_URL, per_minute=60)
    return open_scorer(options, candidate.device, candidate.dtype)


def check_settings(
    out: Path,
    folder: Path,
    candidate: Candidate,
    batch_tokens: int,
    paths: dict[str, Path],
    settings: dict,
) -> None:
    """Lock OUT, and record what a step's results depend on.

    InputError if the results in `folder` were made with other settings, another model or data.
    """
    shared = {"batch_tokens": batch_tokens, "instruction": INSTRUCTION}
    hashes = {language: files.file_hash(path) for language, path in paths.items()}
    files.hold(out)
    files.claim_run(folder, settings | candidate.identity | shared, hashes)


def generate(
    candidate: Candidate,
    paths: dict[str, Path],
    folder: Path,
    sample: int,
    seed: int,
    **decoding,  # batch_tokens, max_new_tokens, temperature, top_p
) -> None:
    """Have a model reply politely to hateful prompts, in the language of each prompt."""
    for language, path in paths.items():
        # 1) draw the prompts, and put the instruction before each
        try:
            prompts = replies.read_prompts(path, sample, np.random.default_rng(seed))
        except UnusableLanguage as reason:
            print(f"skipped {language}: {reason}")
            continue
        instruction = INSTRUCTION.format(NAMES[language])
        asked = {number: instruction + prompt for number, prompt in prompts.items()}
        # 2) generate one reply to each
        final = folder / path.name
        if not final.exists():
            write_replies(candidate, asked, final, seed=seed, **decoding)
        print(f"{language}: {len(asked):,} replies", flush=True)


def write_replies(candidate: Candidate, asked: dict[int, str], final: Path, **decoding) -> None:
    """Generate a reply to each prompt; `final` appears when all are written."""
    partial = final.with_suffix(".partial")
    options = argparse.Namespace(samples=1, **decoding)
    planned = replies.plan(candidate, asked, options, partial)
    progress = cli.Progress(len(asked))
    for done, _ in journal.append_batches([planned]):
        progress.show(final.stem, done)
    progress.clear()
    partial.rename(final)  # an incomplete file never has the final name


def check(
    candidate: Candidate, scorer, paths: dict[str, Path], state: Path, batch_tokens: int
) -> None:
    """Propose for each pair to keep it, or a reason to reject it."""
    scored = scores.Scores(state / "scores" / f"{scorer.name}.jsonl", scorer)
    for language, path in paths.items():
        # 1) measure and judge the pairs, unless an earlier run did
        final = state / "checks" / path.name
        if not final.exists():
            pairs = read_replies(path)
            answers = scored.of([pair["response"] for pair in pairs], language)
            likelihoods = checks.likelihoods(candidate, pairs, batch_tokens)
            propose(pairs, answers, likelihoods)
            write_jsonl(final, pairs)
        # 2) count the proposals
        pairs = read_checked(final)
        proposals = tally(pairs, "proposal")
        statuses = tally(pairs, "status")
        print(f"{language}: {proposals}; toxicity: {statuses}", flush=True)


def propose(
    pairs: list[dict],
    answers: list[tuple[float | None, str]],  # the scorer's (score, status) of each reply
    likelihoods: list[tuple[float, float]],  # (perplexity, topic score) of each reply
) -> None:
    """Add the measurements to the pairs, and the verdicts that they suggest."""
    # 1) the measurements
    for pair, answer, likelihood in zip(pairs, answers, likelihoods, strict=True):
        pair["toxicity"], pair["status"] = answer
        pair["perplexity"], pair["topic"] = likelihood
    # 2) a verdict on each pair by itself, then on pairs that resemble each other
    median = np.median([pair["perplexity"] for pair in pairs])
    for pair in pairs:
        language = language_id.identify(pair["response"])
        pair["proposal"], pair["why"] = checks.judge(pair, language, median)
    checks.drop_copies(pairs)


def ask_people(pairs: list[dict], path: Path, table: Path | None, filled: Path | None) -> None:
    """Have a reviewer judge the pairs, in the terminal or in a spreadsheet."""
    # near copies are dropped in any case, so nobody needs to judge them
    pairs = [pair for pair in pairs if pair["proposal"] != checks.COPY]
    verdicts = review.read(path)
    if table:
        review.write_sheet(pairs, verdicts, table)
    elif filled:
        review.save(path, review.read_sheet(pairs, filled))
    else:
        review.ask(pairs, path)
    verdicts = review.read(path)
    judged = sum(pair["id"] in verdicts for pair in pairs)
    print(f"{judged:,} of {len(pairs):,} pairs have a verdict in {path}")


def main(argv=None) -> None:
    args = parse_arguments(argv)
    state = args.out / "curation"  # the results of all steps but the last
    if args.step == "generate":
        paths = present(args.data / "hateful", args.languages, made_by="data/prepare.py")
        candidate, tokens = open_model(args.model, args.device, args.dtype, args.batch_tokens)
        settings = {
            "sample": args.sample,
            "max_new_tokens": args.max_new_tokens,
            "temperature": args.temperature,
            "top_p": TOP_P,
            "seed": args.seed,
        }
        folder = state / "replies"
        check_settings(args.out, folder, candidate, tokens, paths, settings)
        generate(candidate, paths, folder, batch_tokens=tokens, **settings)
        return
    if args.step == "check":
        paths = present(state / "replies", args.languages, made_by="curate.py generate")
        candidate, tokens = open_model(args.model, args.device, args.dtype, args.batch_tokens)
        scorer = scorer_for(args.scorer, args.data, candidate)
        settings = {"scorer": scorer.name}
        check_settings(args.out, state / "checks", candidate, tokens, paths, settings)
        check(candidate, scorer, paths, state, tokens)
        return
    # the other steps need no model
    paths = present(state / "checks", args.languages, made_by="curate.py check")
    verdicts = state / "verdicts"
    if args.step == "review":
        pairs = read_checked(*paths.values())
        ask_people(pairs, verdicts / f"{args.name}.jsonl", args.export, args.sheet)
    elif args.step == "agreement":
        ids = {pair["id"] for pair in read_checked(*paths.values())}
        lines = list(review.agreement(review.read_all(verdicts), ids))
        print("\n".join(lines) or "there are no two reviewers to compare")
    else:
        reviewers = review.read_all(verdicts)
        ledger = export(
            paths, reviewers, args.data, args.out, args.pairs, args.unreviewed, args.seed
        )
        if not any(ledger[name]["written"] for name in args.languages if name in ledger):
            raise InputError(
                f"{args.out / 'instructions'}: no pair was kept; "
                "review the pairs first, or use --unreviewed"
            )


if __name__ == "__main__":
    cli.run(main)
