"""The kinds of input that the fuzzer spoils, each with the script that reads it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from worlds import (
    BASE,
    CURATE,
    CURATED,
    DETECT,
    EVALUATE,
    TRAIN,
    corpora,
    curate,
    detect,
    detected,
    detected_again,
    encoder,
    evaluate,
    evaluated,
    guard,
    half_detected,
    half_tuned,
    jinja,
    neurons,
    people,
    prepare,
    scorer,
    shards,
    train,
    tuned,
)

from minitox import delta

CORPUS = (corpora,)
OF_TUNED = (*BASE, scorer, detected, tuned, detected_again)
RESULTS = (*BASE, scorer, detected, evaluated)
FLUENCY = (*BASE, scorer, people, evaluated)


@dataclass(frozen=True)
class Kind:
    """A kind of input: the script that reads it, its folder, and the files to spoil."""

    main: Callable
    arguments: str
    files: tuple[str, ...]  # patterns
    world: tuple[Callable, ...] = field(default=())  # they make the folder, in this order
    out: str = "out"  # where the script may write


# what each script reads of a model
OF_A_MODEL = {
    "config": ("model/config.json",),
    "weights": ("model/model.safetensors",),
    "tokenizer": ("model/tokenizer.json",),
    "template": ("model/chat_template.jinja",),
    "template_config": ("model/tokenizer_config.json",),
}
# neuron files would be of another model than the spoilt one, so only `full` is trained
SCRIPTS = {
    "detect": (detect.main, DETECT),
    "train": (train.main, f"{TRAIN} full"),
    "evaluate": (evaluate.main, EVALUATE),
}


def kinds_of_a_model() -> dict[str, Kind]:
    """Each file of a model, read by each script."""
    kinds = {}
    for name, files in OF_A_MODEL.items():
        parts = (*BASE, scorer, jinja) if name == "template" else (*BASE, scorer)
        # a template that is not checked gets further
        more = " --unchecked-template" if name == "template_config" else ""
        for script, (main, arguments) in SCRIPTS.items():
            kinds[f"{name}/{script}"] = Kind(main, arguments + more, files, parts)
    return kinds


KINDS = {
    **kinds_of_a_model(),
    # detect.py
    "index": Kind(detect.main, DETECT, ("model/model.safetensors.index.json",), (*BASE, shards)),
    "shards": Kind(detect.main, DETECT, ("model/*.safetensors",), (*BASE, shards)),
    "detection": Kind(
        detect.main, DETECT, ("data/detection/*.jsonl", "data/prompts/*.jsonl"), BASE
    ),
    "found": Kind(detect.main, DETECT, ("out/neurons/*",), (*BASE, detected)),
    "responses": Kind(
        detect.main,
        DETECT,
        ("out/neurons/*.partial/*", "out/neurons/run.json"),
        (*BASE, half_detected),
    ),
    "found_of": Kind(
        detect.main,
        f"{DETECT} --of multilingual",
        ("out/neurons-of/multilingual/*", "out/neurons/*", "out/models/multilingual/run.json"),
        OF_TUNED,
    ),
    # train.py
    "instructions": Kind(
        train.main,
        f"{TRAIN} multilingual",
        ("data/instructions/*.jsonl", "data/prompts/*.jsonl"),
        (*BASE, neurons),
    ),
    "neurons": Kind(
        train.main, f"{TRAIN} multilingual aura", ("out/neurons/*.safetensors",), (*BASE, neurons)
    ),
    "checkpoint": Kind(
        train.main,
        f"{TRAIN} multilingual",
        ("out/models/*.partial/checkpoint.safetensors",),
        (*BASE, neurons, half_tuned),
    ),
    "train_record": Kind(
        train.main,
        f"{TRAIN} multilingual aura",
        ("out/models/*/run.json",),
        (*BASE, neurons, tuned),
    ),
    # minitox.delta
    "delta": Kind(
        delta.main,
        "model out/models/multilingual.delta.safetensors out/undone",
        ("out/models/*.delta.safetensors",),
        (*BASE, neurons, tuned),
    ),
    # evaluate.py
    "inputs": Kind(
        evaluate.main,
        EVALUATE,
        (
            "data/prompts/*.jsonl",
            "data/mmlu/*.jsonl",
            "data/detection/*.jsonl",
            "data/instructions/*.jsonl",
            "data/hatecheck/*.jsonl",
            "data/xstest/*.jsonl",
        ),
        (*BASE, scorer),
    ),
    "tuned": Kind(
        evaluate.main,
        f"{EVALUATE} --models base aura",
        ("out/models/aura/*",),
        (*BASE, scorer, detected, tuned, evaluated),
    ),
    "tuned_record": Kind(
        evaluate.main,
        f"{EVALUATE} --models base multilingual aura",
        ("out/models/*/run.json",),
        (*BASE, scorer, detected, tuned, evaluated),
    ),
    "neurons_of": Kind(
        evaluate.main,
        f"{EVALUATE} --models base multilingual --no-mmlu --no-xstest",
        ("out/neurons-of/multilingual/*", "out/neurons/*.safetensors"),
        OF_TUNED,
    ),
    "scorer": Kind(evaluate.main, EVALUATE, ("scorer.safetensors",), RESULTS),
    "encoder": Kind(
        evaluate.main, f"{EVALUATE} --scorer encoder:encoder", ("encoder/*",), (*RESULTS, encoder)
    ),
    "guard": Kind(
        evaluate.main, f"{EVALUATE} --scorer guard:guard", ("guard/*",), (*RESULTS, guard)
    ),
    "scores": Kind(evaluate.main, EVALUATE, ("out/scores/*.jsonl",), RESULTS),
    "results": Kind(
        evaluate.main,
        EVALUATE,
        (
            "out/replies/*/*.jsonl",
            "out/mmlu/*/*.jsonl",
            "out/perplexity/*/*.jsonl",
            "out/xstest*/*/*.jsonl",
            "out/divergence/*/*.jsonl",
        ),
        RESULTS,
    ),
    "fluency": Kind(
        evaluate.main, EVALUATE, ("out/fluency/*/*.jsonl", "out/human/*/*.jsonl"), FLUENCY
    ),
    "evaluate_record": Kind(
        evaluate.main, EVALUATE, ("out/*/*/run.json", "out/neurons/*.safetensors"), RESULTS
    ),
    # data/prepare.py
    "ptp": Kind(prepare.main, "ptp raw/ptp-en --out out", ("raw/ptp-en/*",), CORPUS),
    "rtp_lx": Kind(prepare.main, "rtp-lx raw --out out", ("raw/RTP*",), CORPUS),
    "okapi": Kind(prepare.main, "mmlu raw/de_test.json --out out", ("raw/de_test.json",), CORPUS),
    "mmmlu": Kind(prepare.main, "mmlu raw/mmlu_de-test.csv --out out", ("raw/mmlu*.csv",), CORPUS),
    "hatecheck": Kind(
        prepare.main,
        "hatecheck raw/hatecheck_cases_final_german.csv --out out",
        ("raw/hate*",),
        CORPUS,
    ),
    "xstest": Kind(
        prepare.main, "xstest raw/xstest_prompts.csv --out out", ("raw/xstest*",), CORPUS
    ),
    "davidson": Kind(
        prepare.main, "davidson raw/davidson.csv --out out", ("raw/davidson.csv",), CORPUS
    ),
    "hate": Kind(
        prepare.main,
        "hate raw/own-fr.tsv --text words --label label --hateful hate --language lang --out data",
        ("raw/own-fr.tsv", "data/hateful/fr.jsonl", "data/prompts/fr.jsonl"),
        CORPUS,
        "data/hateful",
    ),
    "train_scorer": Kind(
        prepare.main,
        "scorer raw --out out/scorer.safetensors",
        ("raw/en.jsonl", "prompts/en.jsonl"),
        CORPUS,
    ),
    # data/curate.py
    "generate": Kind(
        curate.main,
        f"generate {CURATE}",
        ("data/hateful/*", "data/curation/replies/*"),
        CURATED,
        "data/curation",
    ),
    "check": Kind(
        curate.main,
        f"check {CURATE}",
        ("data/curation/replies/*", "data/curation/checks/*", "data/curation/scores/*"),
        CURATED,
        "data/curation",
    ),
    "review": Kind(
        curate.main,
        f"review {CURATE} --name ada --import sheet.tsv",
        ("sheet.tsv", "data/curation/checks/*", "data/curation/verdicts/*"),
        CURATED,
        "data/curation",
    ),
    "agreement": Kind(
        curate.main,
        f"agreement {CURATE}",
        ("data/curation/checks/*.jsonl", "data/curation/verdicts/*"),
        CURATED,
        "data/curation",
    ),
    "export": Kind(
        curate.main,
        f"export {CURATE}",
        ("data/curation/*/*.jsonl", "data/curation/ledger.json", "data/instructions/*"),
        CURATED,
        "data",
    ),
}
