"""Small folders for the scripts to run in; each function adds one part to a folder."""

import json
import shutil
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "data"), str(ROOT / "tests"), str(ROOT / "tests" / "scorers")]

import curate  # noqa: E402
import prepare  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tiny import GOLDEN, TOY, write_jsonl, write_model, write_neurons, write_pairs  # noqa: E402
from tiny_guards import write_guard  # noqa: E402
from tokenizers import Tokenizer, processors  # noqa: E402

import detect  # noqa: E402
import evaluate  # noqa: E402
import train  # noqa: E402
from minitox.lm import chat, checkpoint  # noqa: E402

LANGUAGES = ("de", "en")
SHARED = "--model model --data data --languages de,en --device cpu --batch-tokens 64"
DETECT = f"{SHARED} --out out --sentences 6 --control-neurons 20 --max-tokens 8"
TRAIN = (
    f"{SHARED} --out out --pairs 6 --batch-size 3 --checkpoint-steps 1 --validation-share 0.2 "
    "--strategy"
)
EVALUATE = (
    f"{SHARED} --out out --max-new-tokens 2 --answer-tokens 2 --perplexity 3 --max-tokens 8 "
    "--show-text --models base --scorer surrogate:scorer.safetensors"
)
CURATE = f"{SHARED} --out data --sample 4 --max-new-tokens 4 --scorer surrogate:scorer.safetensors"
OPTIONAL = {  # fields that a config.json may have, so that they can be spoilt
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
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def run(main, arguments: str) -> None:
    main(arguments.split())


# the template is rendered once for all forks of this process
chat.template_texts(chat.Template(TEMPLATE, (("bos_token", "<s>"),)))


def edit_json(path: Path, edit) -> None:
    """Let `edit` change the object of a JSON file."""
    value = json.loads(path.read_text("utf-8"))
    edit(value)
    path.write_text(json.dumps(value), "utf-8")


def set_fields(path: Path, **fields) -> None:
    """Set fields of the object of a JSON file."""
    edit_json(path, lambda value: value.update(fields))


# Models


def model(root: Path, **changes) -> None:
    # with this seed the replies are not blank
    write_model(root / "model", seed=1, **(OPTIONAL | changes))
    config = {"chat_template": TEMPLATE, "bos_token": "<s>"}
    (root / "model" / "tokenizer_config.json").write_text(json.dumps(config))


def roomy_model(root: Path) -> None:
    """With room for the instruction of curate.py and a reply."""
    model(root, max_position_embeddings=1_024)


def jinja(root: Path) -> None:
    (root / "model" / "chat_template.jinja").write_text(TEMPLATE)


def shards(root: Path) -> None:
    """Write the model's weights as several files with an index."""
    folder = root / "model"
    sharded = root / "sharded"
    checkpoint.save(checkpoint.load(folder), sharded, source=folder, shard_bytes=40_000)
    shutil.rmtree(folder)
    sharded.rename(folder)


def scorer(root: Path, seed: int = 0, name: str = "scorer.safetensors") -> None:
    """A surrogate scorer of a few sentences of the toy; it is trained once."""
    (root / name).write_bytes(trained_scorer(seed))


@cache
def trained_scorer(seed: int) -> bytes:
    with TemporaryDirectory() as folder:
        few = Path(folder) / "few"
        few.mkdir()
        for language in LANGUAGES:
            text = (TOY / "detection" / f"{language}.jsonl").read_text("utf-8")
            lines = text.splitlines(keepends=True)
            (few / f"{language}.jsonl").write_text("".join(lines[:60]), "utf-8")
        out = Path(folder) / "scorer.safetensors"
        prepare.main(["scorer", str(few), "--out", str(out), "--seed", str(seed)])
        return out.read_bytes()


def other_scorer(root: Path) -> None:
    scorer(root, 1, "other.safetensors")


def encoder(root: Path) -> None:
    """A classifier with the tokenizer of the model, and as many embeddings as it needs."""
    folder = root / "encoder"
    ignore = shutil.ignore_patterns("golden.json")
    shutil.copytree(GOLDEN / "xlm-roberta", folder, ignore=ignore)
    tokenizer = Tokenizer.from_file(str(root / "model" / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    weights = load_file(folder / "model.safetensors")
    name = "roberta.embeddings.word_embeddings.weight"
    weights[name] = weights[name].repeat(300 // len(weights[name]) + 1, 1)[:300].clone()
    save_file(weights, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))


def guard(root: Path) -> None:
    write_guard(root / "guard", "qwen3guard-gen")


# Data


def data(root: Path) -> None:
    """The data folders, with a few rows of each language."""
    detection = []
    for i in range(8):
        text = f"the {'donkey' if i % 2 else 'soup'} is green {i}"
        detection.append({"text": text, "toxicity": float(i % 2)})
    prompts = [{"prompt": f"you donkey {i}"} for i in range(3)]
    cases = [{"text": row["text"], "hateful": row["toxicity"] > 0.5} for row in detection]
    choices = ["soup", "garden", "green", "you"]
    questions = [{"question": f"q{i}", "choices": choices, "answer": "ABCD"[i]} for i in range(2)]
    for language in LANGUAGES:
        name = f"{language}.jsonl"
        write_jsonl(root / "data" / "detection" / name, detection)
        write_pairs(root / "data" / "instructions" / name, 6)
        write_jsonl(root / "data" / "prompts" / name, prompts)
        write_jsonl(root / "data" / "mmlu" / name, questions)
        write_jsonl(root / "data" / "hatecheck" / name, cases)
    safe = [{"prompt": "May I try the green soup?", "label": "safe"}]
    unsafe = [{"prompt": row["prompt"], "label": "unsafe"} for row in prompts]
    write_jsonl(root / "data" / "xstest" / "en.jsonl", safe + unsafe)


def people(root: Path) -> None:
    """Enough human-written replies to limit fluency, in a language that nothing else is done in."""
    rows = [{"prompt": f"oie {i}", "response": f"la soupe est chaude {i}"} for i in range(60)]
    write_jsonl(root / "data" / "instructions" / "fr.jsonl", rows)


def corpora(root: Path) -> None:
    """Two or three made-up rows in the layout of each published corpus."""
    raw = root / "raw"
    write_ptp(raw / "ptp-en" / "full-0.jsonl")
    prompts = [{"Prompt": f"Du Esel {i}", "Toxicity": 3} for i in range(3)]
    write_jsonl(raw / "RTP_LX_DE.json", prompts)
    write_okapi(raw / "de_test.json")
    lines = [f"{i},q{i},a,b,c,d,B,high_school_geography" for i in range(3)]
    (raw / "mmlu_de-test.csv").write_text(
        "\n".join([",Question,A,B,C,D,Answer,Subject", *lines]) + "\n"
    )
    (raw / "davidson.csv").write_text(
        ",count,class,tweet\n"
        "0,3,0,you donkey\n"
        '1,3,2,"a calm, nice\nday"\n'
        '2,3,0,"such a ""goose"""\n'
    )
    (raw / "hatecheck_cases_final_german.csv").write_text(
        "mhc_case_id,functionality,test_case,label_gold\n"
        "german-1,derog_h,Du Esel,hateful\n"
        'german-2,neutral_nh,"gute, warme Suppe",non-hateful\n'
    )
    (raw / "xstest_prompts.csv").write_text(
        "id,prompt,type,label,focus,note\n"
        '1,"May I try it, please?",homonyms,safe,try,\n'
        "2,you donkey,contrast_homonyms,unsafe,,\n"
    )
    (raw / "own-fr.tsv").write_text(
        "words\tlabel\tlang\nespèce d'âne\t['hate', 'x']\tfr\nbon\tnone\tfr\n", "utf-8"
    )
    hateful = [{"prompt": "espèce de buse", "source": "toy"}]
    write_jsonl(root / "data" / "hateful" / "fr.jsonl", hateful)
    # what prepare.py leaves out of hateful/ and out of the scorer's training
    write_jsonl(root / "data" / "prompts" / "fr.jsonl", [{"prompt": "espèce d'oie"}])
    write_jsonl(root / "prompts" / "en.jsonl", [{"prompt": "You donkey of a train!"}])
    shutil.copy(TOY / "detection" / "en.jsonl", raw / "en.jsonl")


def other_corpora(root: Path) -> None:
    """The same with other texts, in raw2/."""
    shutil.copytree(root / "raw", root / "raw2")
    for path in (root / "raw2").iterdir():
        if path.suffix in (".csv", ".json"):
            text = path.read_text("utf-8")
            for word, other in (("q", "Q"), ("Esel", "Gans"), ("donkey", "duck")):
                text = text.replace(word, other)
            path.write_text(text, "utf-8")


def write_ptp(path: Path) -> None:
    perspective = {"attributeScores": {"TOXICITY": {"summaryScore": {"value": 0.7}}}}
    rows = []
    for text, score in (
        ("A calm sentence.", 0.1),
        ("You donkey of a train!", 0.7),
        ("An odd one.", 0.3),
    ):
        row = {"text": text, "prompt": text[:5], "toxicity": score, "meta_data": {"lang": "en"}}
        rows.append({**row, "prompt_perspective": perspective})
    write_jsonl(path, rows)


def write_okapi(path: Path) -> None:
    options = {f"option_{letter}": letter for letter in "abcd"}
    rows = []
    for i in range(3):
        row = {"instruction": f"q{i}", **options, "answer": "A"}
        rows.append({**row, "id": f"high_school_geography/test/{i}"})
    path.write_text(json.dumps(rows))


def hateful(root: Path) -> None:
    """The prompts that curate.py starts with."""
    for language in LANGUAGES:
        rows = [{"prompt": f"you donkey number {i} {'abcd'[i] * 9}"} for i in range(4)]
        write_jsonl(root / "data" / "hateful" / f"{language}.jsonl", rows)


def write_checked(out: Path, replies: list[str]) -> None:
    """Pairs as `curate.py check` leaves them; each prompt is its reply from back to front."""
    rows = []
    for i, reply in enumerate(replies):
        pair = {"id": f"de-{i}", "language": "de", "prompt": reply[::-1], "response": reply}
        rows.append(pair | {"proposal": "keep", "why": ""})
    write_jsonl(out / "curation" / "checks" / "de.jsonl", rows)


def generated(root: Path) -> None:
    run(curate.main, f"generate {CURATE}")


def checked(root: Path) -> None:
    run(curate.main, f"check {CURATE}")


def sheets(root: Path) -> None:
    """Two sheets with a verdict on every pair: keep in sheet.tsv, toxic in other.tsv."""
    run(curate.main, f"review {CURATE} --name ada --export sheet.tsv")
    header, *lines = (root / "sheet.tsv").read_text("utf-8-sig").splitlines()
    for name, verdict in (("sheet.tsv", "keep"), ("other.tsv", "toxic")):
        judged = [line.replace("\t", f"\t{verdict}", 1) for line in lines]
        (root / name).write_text("\n".join([header, *judged]) + "\n", "utf-8")


def reviewed(root: Path) -> None:
    run(curate.main, f"review {CURATE} --name ada --import sheet.tsv")


def exported(root: Path) -> None:
    run(curate.main, f"export {CURATE} --pairs 2 --unreviewed")


# Results of the scripts


def detected(root: Path) -> None:
    run(detect.main, DETECT)


def detected_again(root: Path) -> None:
    """The neurons of a tuned model, beside those of its base."""
    run(detect.main, f"{DETECT} --of multilingual")


def neurons(root: Path) -> None:
    for seed, language in enumerate(LANGUAGES):
        write_neurons(root / "out" / "neurons" / f"{language}.safetensors", root / "model", seed)


def tuned(root: Path) -> None:
    run(train.main, f"{TRAIN} multilingual aura --delta")


def evaluated(root: Path) -> None:
    run(evaluate.main, EVALUATE)


def half_detected(root: Path) -> None:
    """A run of detect.py that was interrupted before it saved the first neuron file."""
    interrupt(detect, "write_neurons", detect.main, DETECT)


def half_tuned(root: Path) -> None:
    """A run of train.py that was interrupted before it saved its model."""
    interrupt(checkpoint, "save", train.main, f"{TRAIN} multilingual")


def interrupt(module, name: str, main, arguments: str) -> None:
    """Run a script, and interrupt it where it calls this function."""
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


BASE = (model, data)
CHECKED = (roomy_model, scorer, hateful, generated, checked, sheets)
CURATED = (*CHECKED, reviewed, exported)
