"""Write the pairs that people kept, and count in a ledger why the others are left out."""

from collections import Counter
from pathlib import Path

import checks
import numpy as np
import review
from pair_files import read_checked, tally, write_jsonl

from minitox import files
from minitox.errors import InputError


def export(
    paths: dict[str, Path],
    reviewers: dict[str, review.Verdicts],
    data: Path,
    out: Path,
    most: int,  # pairs per language
    unreviewed: bool,
    seed: int,
) -> dict:
    """Write the pairs to train on, and return the ledger, which counts why others are left out."""
    # languages that an earlier export wrote stay in the ledger
    ledger_path = out / "curation" / "ledger.json"
    ledger = files.read_json(ledger_path) if ledger_path.exists() else {}
    for language, path in paths.items():
        pairs = read_checked(path)
        final = out / "instructions" / path.name
        if final.exists() and language not in ledger:
            raise InputError(
                f"{final} was not written by export; choose another --out, or move it away"
            )
        # 1) decide on each pair, and draw from those to keep
        tests = read_test_prompts(data / "prompts" / path.name)
        decide(pairs, reviewers, tests, unreviewed)
        chosen = draw(pairs, most, seed)
        # 2) the ledger comes first: it tells the next export that the pairs are its own
        ledger[language] = {
            "written": len(chosen),
            "outcomes": Counter(pair["outcome"] for pair in pairs),
            "verdicts": review.tally(pairs, reviewers),
            "test_prompts": len(tests),
            "unreviewed": unreviewed,
            "seed": seed,
        }
        files.write_json(ledger_path, ledger)
        write_jsonl(final, chosen)
        # 3) report
        counts = f"{len(chosen):,} written, {most - len(chosen):,} too few"
        outcomes = tally(pairs, "outcome")
        warning = "; WARNING: some of these were not reviewed" if unreviewed else ""
        print(f"{language}: {counts}; of {outcomes}; {len(tests):,} test prompts{warning}")
    return ledger


def decide(
    pairs: list[dict],
    reviewers: dict[str, review.Verdicts],
    tests: list[str],
    unreviewed: bool,  # use the check's proposal for pairs that nobody reviewed
) -> None:
    """Set each pair's outcome: "keep", or why it is left out."""
    # 1) the majority of the reviewers decides, except on near copies, which they are not shown
    for pair in pairs:
        name = pair["id"]
        votes = [verdicts[name] for verdicts in reviewers.values() if name in verdicts]
        pair["outcome"] = review.majority(votes)
        if unreviewed and pair["outcome"] == "not reviewed" or pair["proposal"] == checks.COPY:
            pair["outcome"] = pair["proposal"]
    # 2) nothing close to a test prompt is trained on, whatever the reviewers decided
    kept = [pair for pair in pairs if pair["outcome"] == "keep"]
    leaks = checks.near_copies([pair["prompt"] for pair in kept], tests)
    for pair, is_leak in zip(kept, leaks, strict=True):
        if is_leak:
            pair["outcome"] = "near copy of a test prompt"


def draw(pairs: list[dict], most: int, seed: int) -> list[dict]:
    """Return prompt and response of at most `most` of the pairs to keep, in random order."""
    kept = []  # as train.py reads them
    for pair in pairs:
        if pair["outcome"] == "keep":
            kept.append({"prompt": pair["prompt"], "response": pair["response"]})
    order = np.random.default_rng(seed).permutation(len(kept))
    return [kept[i] for i in order[:most]]


def read_test_prompts(path: Path) -> list[str]:
    """Return the prompts of a prompts/ file; an empty list if there is no such file."""
    if not path.exists():
        return []
    return [files.text_field(where, row, "prompt") for where, row in files.read_jsonl(path)]
