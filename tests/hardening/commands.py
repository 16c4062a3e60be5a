"""Every command that writes: how it is started, and two runs that write different results."""

from collections.abc import Callable
from dataclasses import dataclass

from worlds import (
    BASE,
    CHECKED,
    CURATE,
    DETECT,
    EVALUATE,
    TRAIN,
    corpora,
    curate,
    detect,
    evaluate,
    generated,
    hateful,
    neurons,
    other_corpora,
    other_scorer,
    prepare,
    reviewed,
    roomy_model,
    scorer,
    train,
    tuned,
)

from minitox import delta


@dataclass(frozen=True)
class Command:
    """A command, and what its folder contains before it."""

    program: str  # what Python is started with
    main: Callable
    arguments: str
    one: str  # more arguments
    other: str  # and others, which lead to other results
    world: tuple[Callable, ...]  # they make the folder
    out: str = "out"  # where it may write
    locks: bool = True  # whether two runs may not write at the same time

    def action(self, more: str) -> Callable[[], None]:
        return lambda: self.main(f"{self.arguments} {more}".split())


PREPARE = "data/prepare.py", prepare.main
CURATION = "data/curate.py", curate.main
RAW = (corpora, other_corpora)
KEPT = "data/curation"
COMMANDS = {
    "detect": Command("detect.py", detect.main, DETECT, "", "--seed 1", BASE),
    "train": Command(
        "train.py",
        train.main,
        f"{TRAIN} multilingual --delta",
        "",
        "--seed 1",
        (*BASE, neurons),
    ),
    "evaluate": Command(
        "evaluate.py", evaluate.main, EVALUATE, "", "--max-new-tokens 3", (*BASE, scorer)
    ),
    "delta": Command(
        "-m minitox.delta",
        delta.main,
        "model",
        "out/models/multilingual.delta.safetensors out/undone",
        "out/models/aura.delta.safetensors out/undone",
        (*BASE, neurons, tuned),
    ),
    # data/prepare.py
    "ptp": Command(*PREPARE, "ptp raw/ptp-en --out out", "", "--score prompt", RAW),
    "rtp-lx": Command(*PREPARE, "rtp-lx --out out", "raw", "raw2", RAW),
    "mmlu": Command(*PREPARE, "mmlu --out out", "raw/de_test.json", "raw2/de_test.json", RAW),
    "hatecheck": Command(
        *PREPARE,
        "hatecheck --out out",
        "raw/hatecheck_cases_final_german.csv",
        "raw2/hatecheck_cases_final_german.csv",
        RAW,
    ),
    "xstest": Command(
        *PREPARE, "xstest --out out", "raw/xstest_prompts.csv", "raw2/xstest_prompts.csv", RAW
    ),
    "davidson": Command(
        *PREPARE, "davidson --out out", "raw/davidson.csv", "raw2/davidson.csv", RAW
    ),
    "train_scorer": Command(
        *PREPARE, "scorer raw --out out/scorer.safetensors", "", "--seed 1", RAW
    ),
    # data/curate.py
    "generate": Command(
        *CURATION, f"generate {CURATE}", "", "--seed 1", (roomy_model, hateful), KEPT
    ),
    "check": Command(
        *CURATION,
        f"check {CURATE}",
        "",
        "--scorer surrogate:other.safetensors",
        (roomy_model, scorer, other_scorer, hateful, generated),
        KEPT,
    ),
    "review": Command(
        *CURATION,
        f"review {CURATE} --name ada",
        "--import sheet.tsv",
        "--import other.tsv",
        CHECKED,
        KEPT,
    ),
    "review_sheet": Command(
        *CURATION,
        f"review {CURATE} --export sheet.tsv",
        "--name ada",
        "--name bob",
        (*CHECKED, reviewed),
        "sheet.tsv",
        locks=False,  # one file, anywhere
    ),
    "export": Command(
        *CURATION, f"export {CURATE}", "--pairs 1", "--pairs 2", (*CHECKED, reviewed), "data"
    ),
}
