"""The files of pairs that the steps of curate.py make, the last of which is for train.py."""

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

import checks
import numpy as np
import review

from minitox import files
from minitox.errors import InputError
from minitox.overlap import PromptIndex, read_prompt_index
from minitox.report.page import shown


def present(folder: Path, languages, made_by: str) -> dict[str, Path]:
    """Return {language: file} of the languages that have a file in `folder`.

    InputError if there is none; it names the command that makes the files.
    """
    paths = {}
    for language in languages:
        path = folder / f"{language}.jsonl"
        if path.exists():
            paths[language] = path
    if not paths:
        raise InputError(f"{folder}: no file for {', '.join(languages)}; run {made_by} first")
    return paths


def read_replies(path: Path) -> list[dict]:
    """Return the pairs that `generate` wrote, each once, in the order of their ids.

    An id is the language and a hash of prompt and reply, so the order is random, and equal pairs
    have the same id. With the language in front it is text, which spreadsheets do not round.
    InputError if there is none.
    """
    pairs = {}
    for row in files.read_written(path, prompt=str, response=str | None, stopped=bool):
        # 1) the prompt without the instruction, and the reply, null if there was no room for one
        prompt = row["prompt"].partition("\n\n")[2]
        response = (row["response"] or "").strip()
        # 2) the id
        digest = sha256(json.dumps([prompt, response]).encode()).hexdigest()
        name = f"{path.stem}-{digest[:16]}"
        pairs[name] = row | {
            "id": name,
            "language": path.stem,
            "asked": row["prompt"],
            "prompt": prompt,
            "response": response,
        }
    if not pairs:
        raise InputError(f"{path} has no replies; delete it, and run generate again")
    # 3) in random order, so that a reviewer who stops early has seen a random sample
    return [pairs[name] for name in sorted(pairs)]


def read_checked(*paths: Path) -> list[dict]:
    """Return the pairs in files that `check` wrote; InputError if one is of another language."""
    fields = ("id", "language", "prompt", "response", "proposal", "why")  # what later steps need
    pairs = []
    for path in paths:
        of_language = files.read_written(path, **dict.fromkeys(fields, str))
        for pair in of_language:
            if pair["language"] != path.stem:
                raise InputError(
                    f"{path} has a pair of the language {pair['language']!r:.20}; "
                    "delete the file to make it again"
                )
        pairs += of_language
    return pairs


def tally(rows, field: str) -> str:
    """List how many rows have each value of a field, the most frequent first."""
    counts = Counter(str(row.get(field)) for row in rows)
    return ", ".join(f"{number:,} {shown(value)}" for value, number in counts.most_common())


# The pairs to train on, and a ledger that counts why the others are left out


def export(
    paths,  # {language: file that `check` wrote}
    reviewers,  # {reviewer: {pair id: verdict}}
    data: Path,
    out: Path,
    most: int,  # pairs per language
    unreviewed: bool,
    seed: int,
) -> dict:
    """Write the pairs to train on, and return the ledger."""
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
        tests = read_prompt_index(data / "prompts" / path.name)
        decide(pairs, reviewers, tests, unreviewed)
        kept = [pair for pair in pairs if pair["outcome"] == "keep"]
        order = np.random.default_rng(seed).permutation(len(kept))
        chosen = [kept[i] for i in order[:most]]
        # 2) the ledger comes first: it tells the next export that the pairs are its own
        ledger[language] = {
            "written": len(chosen),
            "outcomes": Counter(pair["outcome"] for pair in pairs),
            "verdicts": review.tally(pairs, reviewers),
            "test_prompts": len(tests.texts),
            "unreviewed": unreviewed,
            "seed": seed,
        }
        files.write_json(ledger_path, ledger)
        rows = [{"prompt": pair["prompt"], "response": pair["response"]} for pair in chosen]
        files.write_jsonl(final, rows)  # as train.py reads them
        # 3) report
        warning = "; WARNING: some of these were not reviewed" if unreviewed else ""
        print(
            f"{language}: {len(chosen):,} written, {most - len(chosen):,} too few; "
            f"of {tally(pairs, 'outcome')}; "
            f"{len(tests.texts):,} test prompts{warning}"
        )
    return ledger


def decide(
    pairs,
    reviewers,
    tests: PromptIndex,
    unreviewed,  # use the check's proposal for pairs that nobody reviewed
):
    """Set each pair's outcome: "keep", or why it is left out."""
    # 1) the majority of the reviewers decides, except on near copies, which they are not shown
    for pair in pairs:
        name = pair["id"]
        votes = [verdicts[name] for verdicts in reviewers.values() if name in verdicts]
        pair["outcome"] = review.majority(votes)
        if unreviewed and pair["outcome"] == "not reviewed" or pair["proposal"] == checks.COPY:
            pair["outcome"] = pair["proposal"]
    # 2) nothing close to a test prompt is trained on, whatever the reviewers decided
    for pair in pairs:
        kind = tests.compare(pair["prompt"]) if pair["outcome"] == "keep" else ""
        if kind:
            pair["outcome"] = f"{kind} copy of a test prompt"
