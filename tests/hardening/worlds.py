"""What the fuzzer spoils: for each kind of input a small folder in which a script runs, and the files in it that go wrong."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "data"), str(ROOT / "tests")]

import curate  # noqa: E402
import prepare  # noqa: E402
from tiny import GOLDEN, TOY, write_jsonl, write_model, write_neurons, write_pairs  # noqa: E402
from tokenizers import Tokenizer, processors  # noqa: E402

import detect  # noqa: E402
import evaluate  # noqa: E402
import train  # noqa: E402
from minitox import delta  # noqa: E402
from minitox.lm import checkpoint  # noqa: E402

SHARED = "--model model --data data --languages de,en --device cpu --batch-tokens 64"
DETECT = f"{SHARED} --out out --sentences 6 --sample 20 --max-tokens 8"
TRAIN = f"{SHARED} --out out --pairs 6 --batch-size 3 --checkpoint-steps 1 --unseen 0.2 --strategy"
EVALUATE = (
    f"{SHARED} --out out --max-new-tokens 2 --answer-tokens 2 --perplexity 3 --max-tokens 8 --show-text --models base "
    "--scorer surrogate:scorer.safetensors"
)
CURATE = f"{SHARED} --out data --sample 4 --max-new-tokens 4 --scorer surrogate:scorer.safetensors"
OPTIONAL = {  # so that what config.json may say is there to be spoilt
    "head_dim": 8,
    "hidden_act": "silu",
    "sliding_window": None,
    "layer_types": ["full_attention"] * 2,
    "attention_bias": False,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "architectures": ["LlamaForCausalLM"],
    "partial_rotary_factor": 1.0,
}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)


@dataclass(frozen=True)
class Kind:
    """A kind of input: what is run, on which folder, and which of its files are spoilt (patterns)."""

    main: Callable
    arguments: str
    files: tuple[str, ...]
    world: tuple[Callable, ...] = field(default=())  # what makes the folder, in this order
    out: str = "out"  # all that may be written


def model(root: Path) -> None:
    write_model(root / "model", **OPTIONAL)
    (root / "model" / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": TEMPLATE, "bos_token": "<s>"})
    )


def jinja(root: Path) -> None:
    (root / "model" / "chat_template.jinja").write_text(TEMPLATE)


def shards(root: Path) -> None:
    checkpoint.save(
        checkpoint.load(root / "model"), root / "sharded", source=root / "model", shard_bytes=40_000
    )
    shutil.rmtree(root / "model")
    (root / "sharded").rename(root / "model")


def data(root: Path) -> None:
    for language in ("de", "en"):
        write_jsonl(
            root / "data" / "detection" / f"{language}.jsonl",
            [
                {
                    "text": f"the {'donkey' if i % 2 else 'soup'} is green {i}",
                    "toxicity": float(i % 2),
                }
                for i in range(8)
            ],
        )
        write_pairs(root / "data" / "instructions" / f"{language}.jsonl", 6)
        write_jsonl(
            root / "data" / "prompts" / f"{language}.jsonl",
            [{"prompt": f"you donkey {i}"} for i in range(3)],
        )
        write_jsonl(
            root / "data" / "mmlu" / f"{language}.jsonl",
            [
                {
                    "question": f"q{i}",
                    "choices": ["soup", "garden", "green", "you"],
                    "answer": "ABCD"[i],
                }
                for i in range(2)
            ],
        )


def scorer(root: Path) -> None:
    (root / "few").mkdir()
    for language in ("de", "en"):
        lines = (
            (TOY / "detection" / f"{language}.jsonl").read_text("utf-8").splitlines(keepends=True)
        )
        (root / "few" / f"{language}.jsonl").write_text("".join(lines[:60]), "utf-8")
    prepare.main(["scorer", str(root / "few"), "--out", str(root / "scorer.safetensors")])
    shutil.rmtree(root / "few")


def encoder(root: Path) -> None:
    shutil.copytree(
        GOLDEN / "xlm-roberta", root / "encoder", ignore=shutil.ignore_patterns("golden.json")
    )
    shutil.copy(root / "model" / "tokenizer.json", root / "encoder")
    tokenizer = Tokenizer.from_file(str(root / "encoder" / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.save(str(root / "encoder" / "tokenizer.json"))
    from safetensors.torch import load_file, save_file

    weights, config = (
        load_file(root / "encoder" / "model.safetensors"),
        json.loads((root / "encoder" / "config.json").read_text()),
    )
    name = "roberta.embeddings.word_embeddings.weight"
    weights[name] = weights[name].repeat(300 // len(weights[name]) + 1, 1)[:300].clone()
    save_file(weights, root / "encoder" / "model.safetensors")
    (root / "encoder" / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))


def found(root: Path) -> None:
    """What detect.py leaves."""
    run(detect.main, DETECT)


def neurons(root: Path) -> None:
    for seed, language in enumerate(("de", "en")):
        write_neurons(root / "out" / "neurons" / f"{language}.safetensors", root / "model", seed)


def tuned(root: Path) -> None:
    run(train.main, f"{TRAIN} multilingual aura --delta")


def half_tuned(root: Path) -> None:
    """A run of train.py that was interrupted before its model was saved."""
    interrupted(checkpoint, "save", train.main, f"{TRAIN} multilingual")


def half_found(root: Path) -> None:
    interrupted(detect.neurons, "save", detect.main, DETECT)


def interrupted(module, name: str, main, arguments: str) -> None:
    real = getattr(module, name)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    setattr(module, name, stop)
    try:
        run(main, arguments)
    except KeyboardInterrupt:
        return
    finally:
        setattr(module, name, real)
    raise AssertionError(f"{name} was not called")


def measured(root: Path) -> None:
    run(evaluate.main, EVALUATE)


def curated(root: Path) -> None:
    """All that the steps of curate.py leave, with one reviewer."""
    for language in ("de", "en"):
        write_jsonl(
            root / "data" / "hateful" / f"{language}.jsonl",
            [{"prompt": f"you donkey number {i} {'abcd'[i] * 9}"} for i in range(4)],
        )
    run(curate.main, f"generate {CURATE}")
    run(curate.main, f"check {CURATE}")
    run(curate.main, f"review {CURATE} --name ada --export sheet.tsv")
    sheet = (root / "sheet.tsv").read_text("utf-8-sig").splitlines()
    (root / "sheet.tsv").write_text(
        "\n".join([sheet[0], *(line.replace("\t", "\tkeep", 1) for line in sheet[1:])]) + "\n",
        "utf-8",
    )
    run(curate.main, f"review {CURATE} --name ada --import sheet.tsv")
    run(curate.main, f"export {CURATE} --pairs 2 --unreviewed")


def corpora(root: Path) -> None:
    """Two or three rows of each published layout, made up."""
    perspective = {"attributeScores": {"TOXICITY": {"summaryScore": {"value": 0.7}}}}
    write_jsonl(
        root / "raw" / "ptp-en" / "full-0.jsonl",
        [
            {
                "text": text,
                "prompt": text[:5],
                "toxicity": score,
                "meta_data": {"lang": "en"},
                "prompt_perspective": perspective,
            }
            for text, score in (
                ("A calm sentence.", 0.1),
                ("You donkey of a train!", 0.7),
                ("An odd one.", 0.3),
            )
        ],
    )
    write_jsonl(
        root / "raw" / "RTP_LX_DE.json",
        [{"Prompt": f"Du Esel {i}", "Toxicity": 3} for i in range(3)],
    )
    questions = [
        {
            "instruction": f"q{i}",
            "option_a": "a",
            "option_b": "b",
            "option_c": "c",
            "option_d": "d",
            "answer": "A",
            "id": f"high_school_geography/test/{i}",
        }
        for i in range(3)
    ]
    (root / "raw" / "de_test.json").write_text(json.dumps(questions))
    (root / "raw" / "mmlu_de-test.csv").write_text(
        ",Question,A,B,C,D,Answer,Subject\n"
        + "".join(f"{i},q{i},a,b,c,d,B,high_school_geography\n" for i in range(3))
    )
    (root / "raw" / "davidson.csv").write_text(
        ',count,class,tweet\n0,3,0,you donkey\n1,3,2,"a calm, nice\nday"\n2,3,0,"such a ""goose"""\n'
    )
    (root / "raw" / "own-fr.tsv").write_text(
        "words\tlabel\tlang\nespèce d'âne\t['hate', 'x']\tfr\nbon\tnone\tfr\n", "utf-8"
    )
    write_jsonl(
        root / "data" / "hateful" / "fr.jsonl", [{"prompt": "espèce de buse", "source": "toy"}]
    )
    shutil.copy(TOY / "detection" / "en.jsonl", root / "raw" / "en.jsonl")


def run(main, arguments: str) -> None:
    main(arguments.split())


CORPUS, CURATION = (corpora,), (model, scorer, curated)
BASE = (model, data)
RESULTS = (model, data, scorer, found, measured)
KINDS = {
    "config": Kind(detect.main, DETECT, ("model/config.json",), BASE),
    "index": Kind(detect.main, DETECT, ("model/model.safetensors.index.json",), (*BASE, shards)),
    "weights": Kind(detect.main, DETECT, ("model/*.safetensors",), (*BASE, shards)),
    "tokenizer": Kind(detect.main, DETECT, ("model/tokenizer.json",), BASE),
    "template": Kind(
        train.main,
        f"{TRAIN} full",
        ("model/chat_template.jinja", "model/tokenizer_config.json"),
        (*BASE, jinja),
    ),
    "template_config": Kind(train.main, f"{TRAIN} full", ("model/tokenizer_config.json",), BASE),
    "detection": Kind(detect.main, DETECT, ("data/detection/*.jsonl",), BASE),
    "instructions": Kind(
        train.main, f"{TRAIN} multilingual", ("data/instructions/*.jsonl",), (*BASE, neurons)
    ),
    "inputs": Kind(
        evaluate.main,
        EVALUATE,
        (
            "data/prompts/*.jsonl",
            "data/mmlu/*.jsonl",
            "data/detection/*.jsonl",
            "data/instructions/*.jsonl",
        ),
        (*BASE, scorer),
    ),
    "neurons": Kind(
        train.main, f"{TRAIN} multilingual aura", ("out/neurons/*.safetensors",), (*BASE, neurons)
    ),
    "found": Kind(detect.main, DETECT, ("out/neurons/*",), (*BASE, found)),
    "responses": Kind(
        detect.main,
        DETECT,
        ("out/neurons/*.partial/*", "out/neurons/run.json"),
        (*BASE, half_found),
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
    "delta": Kind(
        delta.main,
        "model out/models/multilingual.delta.safetensors out/undone",
        ("out/models/*.delta.safetensors",),
        (*BASE, neurons, tuned),
    ),
    "tuned": Kind(
        evaluate.main,
        f"{EVALUATE} --models base aura",
        ("out/models/aura/*",),
        (*BASE, scorer, found, tuned, measured),
    ),
    "scorer": Kind(evaluate.main, EVALUATE, ("scorer.safetensors",), RESULTS),
    "encoder": Kind(
        evaluate.main, f"{EVALUATE} --scorer encoder:encoder", ("encoder/*",), (*RESULTS, encoder)
    ),
    "scores": Kind(evaluate.main, EVALUATE, ("out/scores/*.jsonl",), RESULTS),
    "results": Kind(
        evaluate.main,
        EVALUATE,
        ("out/replies/*/*.jsonl", "out/mmlu/*/*.jsonl", "out/perplexity/*/*.jsonl"),
        RESULTS,
    ),
    "evaluate_record": Kind(
        evaluate.main, EVALUATE, ("out/*/*/run.json", "out/neurons/*.safetensors"), RESULTS
    ),
    "ptp": Kind(prepare.main, "ptp raw/ptp-en --out out", ("raw/ptp-en/*",), CORPUS),
    "rtp_lx": Kind(prepare.main, "rtp-lx raw --out out", ("raw/RTP*",), CORPUS),
    "okapi": Kind(prepare.main, "mmlu raw/de_test.json --out out", ("raw/de_test.json",), CORPUS),
    "mmmlu": Kind(prepare.main, "mmlu raw/mmlu_de-test.csv --out out", ("raw/mmlu*.csv",), CORPUS),
    "davidson": Kind(
        prepare.main, "davidson raw/davidson.csv --out out", ("raw/davidson.csv",), CORPUS
    ),
    "hate": Kind(
        prepare.main,
        "hate raw/own-fr.tsv --text words --label label --hateful hate --language lang --out data",
        ("raw/own-fr.tsv", "data/hateful/fr.jsonl"),
        CORPUS,
        "data/hateful",
    ),
    "train_scorer": Kind(
        prepare.main, "scorer raw --out out/scorer.safetensors", ("raw/en.jsonl",), CORPUS
    ),
    "generate": Kind(
        curate.main,
        f"generate {CURATE}",
        ("data/hateful/*", "data/curation/replies/*"),
        CURATION,
        "data/curation",
    ),
    "check": Kind(
        curate.main,
        f"check {CURATE}",
        ("data/curation/replies/*", "data/curation/checks/*", "data/curation/scores/*"),
        CURATION,
        "data/curation",
    ),
    "review": Kind(
        curate.main,
        f"review {CURATE} --name ada --import sheet.tsv",
        ("sheet.tsv", "data/curation/checks/*", "data/curation/verdicts/*"),
        CURATION,
        "data/curation",
    ),
    "agreement": Kind(
        curate.main,
        f"agreement {CURATE}",
        ("data/curation/checks/*.jsonl", "data/curation/verdicts/*"),
        CURATION,
        "data/curation",
    ),
    "export": Kind(
        curate.main,
        f"export {CURATE}",
        ("data/curation/*/*.jsonl", "data/curation/ledger.json", "data/instructions/*"),
        CURATION,
        "data",
    ),
}
