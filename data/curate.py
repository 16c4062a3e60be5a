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

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import checks  # noqa: E402
import pair_files  # noqa: E402
import review  # noqa: E402
import writing  # noqa: E402
from pair_files import export, tally  # noqa: E402

from minitox.data import read_prompts  # noqa: E402
from minitox.errors import InputError, UnusableLanguage  # noqa: E402
from minitox.files import file_hash, write_jsonl  # noqa: E402
from minitox.languages import NAMES  # noqa: E402
from minitox.lm.config import read_config  # noqa: E402
from minitox.run import (  # noqa: E402
    candidates,
    evaluation,
    journal,
    language_detector,
    outputs,
    progress,
    script,
)
from minitox.run.device import open_device  # noqa: E402
from minitox.run.scorer import ScorerOptions, open_scorer  # noqa: E402
from minitox.run.settings import TEMPERATURE, Settings, batch_tokens, option, parse  # noqa: E402
from minitox.scorers.scores import Scores  # noqa: E402

DESCRIPTION = (
    "Turn hateful prompts into instruction pairs: a model replies, checks propose, people decide."
)
# DEVIATION: the paper does not publish its instruction or its decoding settings; these are ours
INSTRUCTION = (
    "Somebody wrote the message below. Reply to it in {}, in one to three polite sentences "
    "that fit what it says, without repeating its insults. Write nothing but the reply.\n\n"
)
TOP_P = 0.8  # Qwen2.5's default, as is the temperature


@dataclass(frozen=True)
class CurateSettings(Settings):
    """Settings of curate.py."""

    step: str = option(
        "",
        "the steps, in this order",
        flag="step",
        choices=["generate", "check", "review", "agreement", "export"],
    )
    sample: int = option(2_000, "generate: prompts of each language, drawn at random", "generate")
    max_new_tokens: int = option(
        128, "generate: longest reply; a longer one is cut", "generate", "tokens"
    )
    temperature: float = option(
        0.7,
        "generate: 0: always the most likely token",
        "generate",
        kind=TEMPERATURE,
    )
    batch_tokens: int | str = batch_tokens(
        "generate, check: size of a batch", "generate check", 8_192, 65_536
    )
    scorer: str | None = option(
        None,
        "check: surrogate:FILE, encoder:DIR, guard:DIR or perspective; "
        "default: surrogate:DATA/scorer.safetensors",
    )
    name: str | None = option(None, "review: name of the reviewer; each has verdicts of their own")
    export: Path | None = option(
        None,
        "review: write a tab-separated table for a spreadsheet instead",
        group="sheet",
        metavar="FILE",
    )
    sheet: Path | None = option(
        None,
        "review: read the verdicts, as words or keys, from such a table instead",
        group="sheet",
        flag="--import",
        metavar="FILE",
    )
    pairs: int = option(1_000, "export: pairs of each language, drawn at random")
    unreviewed: bool = option(
        False, "export: also use pairs without a review if the check proposes to keep them"
    )


def main(argv=None):
    settings = parse(CurateSettings, DESCRIPTION, argv)
    step = settings.step
    if step == "review" and Path(settings.name or "").name != settings.name:
        raise InputError("review needs --name: the reviewer's name, without slashes")
    state = settings.out / "curation"  # the results of all steps but the last
    folder, made_by = {
        "generate": (settings.data / "hateful", "data/prepare.py"),
        "check": (state / "replies", "curate.py generate"),
    }.get(step, (state / "checks", "curate.py check"))
    paths = pair_files.present(folder, settings.languages, made_by)
    verdicts = state / "verdicts"

    begin(settings, [*paths.values(), *verdicts.glob("*.jsonl")], verdicts)

    # 1) the steps that need a model
    if step in ("generate", "check"):
        config = read_config(settings.model)
        device, dtype = open_device(settings.device, settings.dtype, config)
        settings = settings.resolved(device.type, config)
        candidate = candidates.open_one(
            "base",
            settings.model,
            device,
            dtype,
            out=settings.out,
            unchecked=settings.unchecked_template,
        )
        if not candidate.tokenizer.checked:
            print("chat template not checked")
        how = settings.affecting(step)
        made_with = candidate.identity | how | {"instruction": INSTRUCTION}
        hashes = {language: file_hash(path) for language, path in paths.items()}
    if step == "generate":
        folder = state / "replies"
        outputs.check_settings(folder, made_with | {"top_p": TOP_P}, hashes)
        sample = how.pop("sample")
        generate(candidate, paths, folder, sample, evaluation.Asking(top_p=TOP_P, **how))
    elif step == "check":
        options = ScorerOptions(unchecked_template=settings.unchecked_template)
        scorer = open_scorer(settings.scorer, settings.data, device, dtype, options)
        outputs.check_settings(state / "checks", made_with | {"scorer": scorer.name}, hashes)
        check(candidate, scorer, paths, state, settings.batch_tokens)

    # 2) the steps of people
    if step == "review":
        pairs = pair_files.read_checked(*paths.values())
        ask_people(pairs, verdicts / f"{settings.name}.jsonl", settings.export, settings.sheet)
    elif step == "agreement":
        ids = {pair["id"] for pair in pair_files.read_checked(*paths.values())}
        lines = review.agreement(review.read_all(verdicts), ids)
        print("\n".join(lines) or "there are no two reviewers to compare")
    elif step == "export":
        ledger = export(
            paths,
            review.read_all(verdicts),
            settings.data,
            settings.out,
            settings.pairs,
            settings.unreviewed,
            settings.seed,
        )
        if not any(ledger[name]["written"] for name in settings.languages if name in ledger):
            raise InputError(
                f"{settings.out / 'instructions'}: no pair was kept; "
                "review the pairs first, or use --unreviewed"
            )


def begin(settings, sources, verdicts):
    """Lock what the step writes to; InputError if a result would replace one of the sources."""
    if settings.step == "review":
        if settings.export:
            writing.refuse_sources(sources, [settings.export])
        review.lock(verdicts / f"{settings.name}.jsonl")
    elif settings.step == "export":
        sources += writing.language_files(settings.data / "prompts")
        writing.begin(settings.out, sources, writing.language_files(settings.out / "instructions"))
    elif settings.step != "agreement":
        outputs.lock(settings.out)


def generate(candidate, paths, folder, sample, asking):
    """Have a model reply politely to hateful prompts, in the language of each prompt."""
    for language, path in paths.items():
        # 1) draw the prompts, and put the instruction before each
        try:
            prompts, duplicates = read_prompts(path, sample, np.random.default_rng(asking.seed))
        except UnusableLanguage as reason:
            print(f"skipped {language}: {reason}")
            continue
        if duplicates:
            print(f"{language}: dropped {duplicates:,} duplicate prompts")
        instruction = INSTRUCTION.format(NAMES[language])
        asked = {number: instruction + prompt for number, prompt in prompts.items()}
        # 2) generate one reply to each
        result = folder / path.name
        if not result.exists():
            shown = progress.Progress(len(asked))
            with outputs.step(result, {}) as step:
                plan = evaluation.plan_replies(candidate, asked, step.unfinished, asking)
                for done, _ in journal.append_batches([plan]):
                    shown.show(language, done)
            shown.clear()
        print(f"{language}: {len(asked):,} replies", flush=True)


def check(candidate, scorer, paths, state, batch_tokens):
    """Propose for each pair to keep it, or a reason to reject it."""
    scored = Scores(state / "scores" / f"{scorer.name}.jsonl", scorer)
    for language, path in paths.items():
        # 1) measure and judge the pairs, unless an earlier run did
        result = state / "checks" / path.name
        if not result.exists():
            pairs = pair_files.read_replies(path)
            answers = scored.of([pair["response"] for pair in pairs], language)
            propose(pairs, answers, checks.likelihoods(candidate, pairs, batch_tokens))
            write_jsonl(result, pairs)
        # 2) count the proposals
        pairs = pair_files.read_checked(result)
        proposals = tally(pairs, "proposal")
        print(f"{language}: {proposals}; toxicity: {tally(pairs, 'status')}", flush=True)


def propose(
    pairs,
    answers,  # the scorer's (score, status) of each reply
    likelihoods,  # (perplexity, topic score) of each reply
):
    """Add the measurements to the pairs, and the verdicts that they suggest."""
    # 1) the measurements
    for pair, answer, likelihood in zip(pairs, answers, likelihoods, strict=True):
        pair["toxicity"], pair["status"] = answer
        pair["perplexity"], pair["topic"] = likelihood
    # 2) a verdict on each pair by itself, then on pairs that resemble each other
    median = np.median([pair["perplexity"] for pair in pairs])
    identify = language_detector.open_detector("script")
    for pair in pairs:
        language = identify(pair["response"])
        pair["proposal"], pair["why"] = checks.judge(pair, language, median)
    checks.drop_copies(pairs)


def ask_people(pairs, path, table, filled):
    """Have a reviewer judge the pairs, in the terminal or in a spreadsheet."""
    # near copies are dropped in any case, so nobody needs to judge them
    pairs = [pair for pair in pairs if pair["proposal"] != checks.COPY]
    if table:
        review.write_sheet(pairs, review.read(path), table)
    elif filled:
        review.save(path, review.read_sheet(pairs, filled))
    else:
        review.ask(pairs, path)
    verdicts = review.read(path)
    judged = sum(pair["id"] in verdicts for pair in pairs)
    print(f"{judged:,} of {len(pairs):,} pairs have a verdict in {path}")


if __name__ == "__main__":
    script.run(main)
