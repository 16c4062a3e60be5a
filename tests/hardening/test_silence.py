"""No wrong result without a word: for each defect, the wrong number that used to come out."""

import inspect
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
import worlds
from safetensors.torch import load_file, save_file
from tiny import error_of, write_jsonl, write_pairs
from worlds import (
    DETECT,
    EVALUATE,
    LANGUAGES,
    ROOT,
    TRAIN,
    detect,
    edit_json,
    evaluate,
    set_fields,
    train,
)

from minitox import delta
from minitox.detect.controls import shuffled_aurocs
from minitox.detect.responses import POOL
from minitox.errors import InputError
from minitox.evaluate import divergence, mmlu, perplexity
from minitox.files import FORMAT, read_json, read_jsonl, write_json
from minitox.lm import batching, checkpoint, generate
from minitox.lm.config import read_config
from minitox.lm.text import Tokenizer
from minitox.neurons import (
    count,
    module_rows,
    overlap,
    random_like,
    select,
    select_top,
    size,
    union,
)
from minitox.run import outputs
from minitox.run.neuron_files import read_neurons
from minitox.run.settings import DetectSettings, EvaluateSettings, TrainSettings
from minitox.train.row_optim import RowAdamW

sys.path.insert(0, str(ROOT / "tests" / "lm"))
from templates import CHATML_LIKE  # noqa: E402


def repeat_rows(folder, times: int) -> None:
    """Write all rows of a data folder several times."""
    for language in LANGUAGES:
        path = folder / f"{language}.jsonl"
        path.write_bytes(path.read_bytes() * times)


def run_twice(main, arguments: str, folder, capsys) -> list[str]:
    """Run a script on the rows of a data folder, and on the same rows 20 times; what it prints."""
    printed = []
    for out in ("once", "often"):
        main([*arguments.split(), "--out", out])
        printed.append(capsys.readouterr().out)
        repeat_rows(folder, 20)
    return printed


def rows_of(path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]


def change_weight(folder: Path, name: str, change) -> None:
    """Change a weight of a model folder in place."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights[name])
    save_file(weights, path, metadata={"format": "pt"})


def copy_with(home: Path, name: str, change) -> Path:
    """A copy of the model, with its last norm changed."""
    folder = Path(shutil.copytree(home / "model", home / name))
    change_weight(folder, "model.norm.weight", change)
    return folder


# ---------- A1


NORM = "tensor model.norm.weight contains NaN or infinity in torch.float32"
LOGITS = "the logits of token 1 of a reply are not finite"
BROKEN = [
    pytest.param(lambda norm: norm.mul_(math.nan), NORM, id="NaN"),
    pytest.param(lambda norm: norm.mul_(math.inf), NORM, id="infinity"),
    pytest.param(lambda norm: norm.fill_(3e38), LOGITS, id="overflow"),
]


@pytest.mark.parametrize("change, message", BROKEN)
def test_a1_a_model_whose_numbers_are_not_finite_is_left_out_by_name(home, capsys, change, message):
    copy_with(home, "spoilt", change)
    both = EVALUATE.replace("--models base", "--models base faulty=spoilt").split()
    assert "error: the report is without faulty: " in error_of(evaluate.main, both, capsys)
    report = (home / "out" / "report.md").read_text("utf-8")
    (reason,) = [line for line in report.splitlines() if line.startswith("- faulty: ")]
    assert message in reason
    tables = [line for line in report.splitlines() if line.startswith("|")]
    assert [line for line in tables if "faulty" in line and "faulty=spoilt" not in line] == []
    numbers = read_json(home / "out" / "report.json")
    del numbers["settings"]
    assert "faulty" not in json.dumps(numbers)
    for name in ("replies", "mmlu", "perplexity"):
        for path in (home / "out" / name / "faulty").glob("*.jsonl"):
            assert path.read_bytes() == b""

    alone = EVALUATE.replace("--models base", "--models faulty=spoilt").split()
    assert message in error_of(evaluate.main, alone, capsys)


@pytest.mark.parametrize("change, message", BROKEN[:2])
def test_a1_detection_misses_no_weight_that_is_not_finite(home, capsys, change, message):
    """Detection does not use the last norm, so its responses are finite all the same."""
    change_weight(home / "model", "model.norm.weight", change)
    assert message in error_of(detect.main, DETECT.split(), capsys)
    assert not list((home / "out").rglob("*.safetensors"))


def test_a1_a_weight_that_a_dtype_cannot_hold_is_refused(home):
    folder = copy_with(home, "large", lambda norm: norm.fill_(1e5))
    checkpoint.load(folder)
    checkpoint.load(folder, dtype=torch.bfloat16)
    with pytest.raises(InputError, match="model.norm.weight contains .* in torch.float16; .*dtype"):
        checkpoint.load(folder, dtype=torch.float16)


@pytest.mark.parametrize(
    "change, message",
    [
        *BROKEN[:2],
        pytest.param(BROKEN[2].values[0], "model: the loss on the validation pairs of de is"),
    ],
)
def test_a1_a_base_model_whose_numbers_are_not_finite_is_not_tuned(home, capsys, change, message):
    change_weight(home / "model", "model.norm.weight", change)
    assert message in error_of(train.main, f"{TRAIN} full".split(), capsys)
    assert not list((home / "out").rglob("*.safetensors"))


@pytest.mark.parametrize("option", ["--weight-decay nan", "--weight-decay inf", "--lr inf"])
def test_a1_a_model_of_nan_weights_is_not_made(tuning_home, capsys, option):
    error = error_of(train.main, f"{TRAIN} multilingual {option}".split(), capsys)
    assert option.split()[0].strip("-").replace("-", "_") in error.replace("-", "_")
    assert not (tuning_home / "out" / "models").exists()


def test_a1_a_checkpoint_that_is_not_finite_is_not_resumed(tuning_home, capsys):
    worlds.half_tuned(tuning_home)
    (path,) = (tuning_home / "out" / "models").glob("*/checkpoint.safetensors")
    with checkpoint.open_safetensors(path) as file:
        metadata = file.metadata()
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith(" rows"))
    tensors[name][0, 0] = math.nan
    save_file(tensors, path, metadata=metadata)
    error = error_of(train.main, f"{TRAIN} multilingual".split(), capsys)
    assert f"checkpoint.safetensors is broken: {name} contains NaN" in error
    assert not (tuning_home / "out" / "models" / "multilingual").exists()


def test_a1_responses_that_are_not_finite_are_not_ranked(home, capsys):
    worlds.half_detected(home)
    path = next((home / "out" / "neurons").glob("*.partial/*.f16"))
    responses = np.fromfile(path, np.float16)
    responses[7] = np.nan
    responses.tofile(path)
    assert f"{path.parent} is broken".replace(str(home) + "/", "") in error_of(
        detect.main, DETECT.split(), capsys
    )


@pytest.mark.parametrize("nats", ["NaN", "Infinity"])
def test_a1_a_likelihood_that_is_not_finite_is_no_perplexity(home, capsys, nats):
    worlds.evaluated(home)
    path = home / "out" / "perplexity" / "base" / "de.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [json.dumps(rows[0] | {"nats": float(nats)}), *map(json.dumps, rows[1:])]
    path.write_text("\n".join(lines) + "\n")
    error = error_of(evaluate.main, EVALUATE.split(), capsys)
    assert f"de.jsonl:1: not valid JSON ({nats} is not a finite number)" in error


# ---------- A2


def swap_tokens(tokenizer) -> None:
    """Give two letters each other's token."""
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["e"] = vocabulary["e"], vocabulary["a"]


def test_a2_replies_to_a_prompt_in_another_chat_format_are_not_taken_over(home, capsys):
    worlds.jinja(home)
    (home / "model" / "tokenizer_config.json").unlink()
    worlds.evaluated(home)
    (home / "model" / "chat_template.jinja").unlink()
    error = error_of(evaluate.main, EVALUATE.split(), capsys)
    assert "its model was different" in error


def test_a2_one_table_is_not_made_with_two_tokenizers(home, capsys):
    worlds.run(detect.main, f"{DETECT} --languages de")
    edit_json(home / "model" / "tokenizer.json", swap_tokens)
    error = error_of(detect.main, DETECT.split(), capsys)
    assert "its model was different" in error


def test_a2_training_does_not_resume_with_another_tokenizer(home, capsys):
    worlds.interrupt(checkpoint, "save", train.main, f"{TRAIN} full")
    edit_json(home / "model" / "tokenizer.json", swap_tokens)
    error = error_of(train.main, f"{TRAIN} full".split(), capsys)
    assert "its model was different" in error


def test_a2_a_saved_tokenizer_is_the_same_however_it_is_laid_out(home):
    before = checkpoint.fingerprint(home / "model")
    padded = {"padding": {"strategy": "BatchLongest"}, "truncation": None}
    set_fields(home / "model" / "tokenizer.json", **padded)
    assert checkpoint.fingerprint(home / "model") == before


@pytest.mark.parametrize("token", ["bos_token", "eos_token"])
def test_a2_a_token_text_counts_if_the_template_uses_it(home, token):
    path = home / "model" / "tokenizer_config.json"
    set_fields(path, **{token: "<s>"})
    before = checkpoint.fingerprint(home / "model")
    set_fields(path, **{token: "</s>"})
    assert checkpoint.fingerprint(home / "model") == before
    used = worlds.TEMPLATE + f"{{{{ {token} }}}}"
    set_fields(path, chat_template=used)
    after = checkpoint.fingerprint(home / "model")
    set_fields(path, **{token: "<s>"})
    assert len({before, after, checkpoint.fingerprint(home / "model")}) == 3


# ---------- A3


def tune(strategy: str, more: str = "") -> None:
    """Make a model with the settings of TRAIN, and with `more` in place of some of them."""
    worlds.run(train.main, f"{TRAIN} {strategy} {more}")


def printed_report(models: str, capsys) -> str:
    """Compare models; what evaluate.py prints, which is also in the report."""
    capsys.readouterr()
    worlds.run(evaluate.main, EVALUATE.replace("--models base", f"--models base {models}"))
    printed = capsys.readouterr().out
    page = Path("out/report.md").read_text("utf-8")
    for line in printed.splitlines():
        if line.startswith(("Not compared with", "Compared with")):
            assert line.replace("_", "\\_") in page
    return printed


def other_pairs(home) -> None:
    shutil.copytree(home / "data", home / "other_data")
    write_pairs(home / "other_data" / "instructions" / "de.jsonl", 6, seed=9)


def other_neurons(home) -> None:
    for language in LANGUAGES:
        path = home / "other_neurons" / f"{language}.safetensors"
        worlds.write_neurons(path, home / "model", seed=9)


DIFFERENCES = {
    "--epochs 2 --seed 4": "seed 0, not 4; epochs 1, not 2",
    "--top-share 0.5": "top_share None, not 0.5",
    "--pairs 4": "pairs 6, not 4",
    "--dtype bfloat16": "dtype torch.float32, not torch.bfloat16",
    "--data other_data": "other pairs",
    "--neurons other_neurons": "other neuron files",
}


@pytest.mark.parametrize("options, reason", DIFFERENCES.items())
def test_a3_models_of_other_settings_get_no_verdict_and_the_difference_is_named(
    tuning_home, capsys, options, reason
):
    other_pairs(tuning_home)
    other_neurons(tuning_home)
    tune("multilingual")
    tune("random --draws 2", options)
    printed = printed_report("multilingual random", capsys)
    assert f"Not compared with random: multilingual ({reason}).\n" in printed
    assert "neurons of multilingual do" not in printed and "are toxic too" not in printed
    page = (tuning_home / "out" / "report.html").read_text("utf-8")
    assert "Difference from random neurons" not in page
    # each of them was made from the base model
    assert "Not compared with base" not in printed


def test_a3_models_of_the_same_settings_get_a_verdict(tuning_home, capsys):
    tune("multilingual")
    tune("random full aura", "--delta")
    printed = printed_report("full multilingual random aura", capsys)
    (verdict,) = [line for line in printed.splitlines() if "neurons of multilingual do " in line]
    assert "one more draw is expected within" in verdict
    assert "so the results cannot show whether their neurons matter: aura" in printed
    assert printed.count("aura (random-aura).") == 1
    assert "Not compared" not in printed


def test_a3_a_model_of_another_base_is_not_compared(tuning_home, capsys):
    copy_with(tuning_home, "other", lambda norm: norm.mul_(1.5))
    tune("multilingual random --draws 2")
    worlds.run(train.main, f"{TRAIN} full --model other --out of_other")
    printed = printed_report("multilingual random elsewhere=of_other/models/full", capsys)
    assert "Not compared with base: elsewhere (another base model).\n" in printed
    compared = [line for line in printed.splitlines() if line.startswith("Compared with")]
    assert len(compared) == 1 and "elsewhere" not in compared[0]
    assert "because random was drawn 2 times" in printed


def test_a3_of_a_folder_without_a_record_nothing_is_known(tuning_home, capsys):
    shutil.copytree("model", "copy")
    printed = printed_report("mine=copy", capsys)
    assert "Not compared with base: mine (settings not known: no run.json).\n" in printed
    assert "Compared with base, " not in printed.replace("Not compared", "")


def test_a3_a_name_does_not_make_a_random_model(tuning_home, capsys):
    tune("multilingual full")
    printed = printed_report("multilingual random-1=out/models/full", capsys)
    reason = "random-1 (random-1 was made with the strategy full).\n"
    assert f"Not averaged with the other draws: {reason}" in printed
    assert "neurons of multilingual do" not in printed and "are toxic too" not in printed
    models = EVALUATE.replace("--models base", "--models base random=out/models/full").split()
    assert "random is the name of several draws together" in error_of(evaluate.main, models, capsys)


def test_a3_a_record_of_another_version_or_of_other_weights_is_not_believed(tuning_home, capsys):
    tune("full")
    folder = Path(shutil.move("out/models/full", "mine"))
    models = EVALUATE.replace("--models base", "--models base mine=mine").split()
    record = read_json(folder / "run.json")
    write_json(folder / "run.json", record | {"format": 1})
    error = error_of(evaluate.main, models, capsys)
    assert "mine/run.json: written by another version of minitox (format 1, here 2); tune" in error
    write_json(folder / "run.json", record)
    change_weight(folder, "model.norm.weight", lambda norm: norm.mul_(1.5))
    error = error_of(evaluate.main, models, capsys)
    assert "mine/model.safetensors is not the file that train.py wrote" in error


# ---------- A4


@pytest.mark.parametrize("share, rule", [(0.1, "those of highest AUROC, 10.0% of all"), (0.5, "")])
def test_a4_the_report_has_the_neurons_that_were_tuned(home, capsys, share, rule):
    worlds.detected(home)
    options = "--threshold 0.5"
    if rule:
        options = f"--top-share {share}"
    tune("multilingual random --draws 2", options)
    capsys.readouterr()
    printed = printed_report("multilingual random", capsys)

    # 1) the masks again, from the neuron files
    rows = module_rows(read_config(home / "model"))
    masks = []
    for language in LANGUAGES:
        auroc, _ = read_neurons(home / "out" / "neurons" / f"{language}.safetensors", rows)
        masks.append(select_top(auroc, share) if rule else select(auroc))
    toxic = union(masks)
    of_draws = [overlap(random_like(toxic, [0, draw]), toxic)[0] for draw in (1, 2)]
    tuned = count(toxic) / size(toxic)
    toxic_too = round(sum(of_draws) / 2) / count(toxic)

    # 2) the summary, the table, and the difference from Table 2
    assert (
        f" multilingual changes {tuned:.1%} of all neurons, and {toxic_too:.1%} of the random ones "
        "are toxic too.\n"
    ) in printed
    page = (home / "out" / "report.md").read_text("utf-8")
    table = page.partition("## Tuned models")[2].partition("## ")[0]
    (cells,) = [line.split("|")[2:5] for line in table.splitlines() if "| random " in line]
    assert [cell.strip() for cell in cells] == [
        f"{count(toxic):,}",
        f"{tuned:.1%}",
        f"{toxic_too:.1%}",
    ]
    note = f"- made with other toxic neurons than these: multilingual, random ({rule})\n"
    assert page.count(note) == (4 if rule else 0)


# ---------- A5


SCRIPTS = {
    "detect": (detect.main, DETECT),
    "train": (train.main, f"{TRAIN} full"),
    "evaluate": (evaluate.main, EVALUATE),
    "curate": (worlds.curate.main, f"generate {worlds.CURATE} --out out"),
}


def set_template(root, template: str) -> None:
    path = root / "model" / "tokenizer_config.json"
    set_fields(path, chat_template=template)


@pytest.mark.parametrize("name", CHATML_LIKE)
def test_a5_a_template_like_chatml_is_equal_or_refused(home, name, capsys):
    template, is_equal = CHATML_LIKE[name]
    set_template(home, template)
    if is_equal:
        worlds.run(detect.main, DETECT)
        assert "not checked" not in capsys.readouterr().out
        return
    error = error_of(detect.main, DETECT.split(), capsys)
    assert error.count("\n") == 1 and "the conversation 'plain'" in error
    assert "see out/chat_template.base.txt; --unchecked-template" in error
    assert [path.name for path in (home / "out").iterdir()] == ["chat_template.base.txt"]
    report = (home / "out" / "chat_template.base.txt").read_text("utf-8")
    ours, theirs = report.split("--- minitox\n")[1].split("--- the chat template\n")
    assert "The soup is warm." in ours and "The soup is warm." in theirs and ours != theirs


@pytest.mark.parametrize("name", SCRIPTS)
def test_a5_every_script_compares_the_template_or_says_that_it_does_not(home, name, capsys):
    hateful = [{"prompt": "you donkey of a garden"}]
    write_jsonl(home / "data" / "hateful" / "en.jsonl", hateful)
    main, arguments = SCRIPTS[name]
    arguments = f"{arguments} --languages en"
    template, _ = CHATML_LIKE["a system prompt in a variable"]
    set_template(home, template)
    assert "the conversation 'plain'" in error_of(main, arguments.split(), capsys)
    worlds.run(main, f"{arguments} --unchecked-template")
    assert "chat template not checked" in capsys.readouterr().out


def test_a5_without_jinja2_the_template_is_not_compared(home, monkeypatch, capsys):
    set_template(home, f"{CHATML_LIKE['no system prompt'][0]}{{# of this test alone #}}")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    worlds.run(detect.main, DETECT)
    assert "cpu float32; chat template not checked" in capsys.readouterr().out


# ---------- A6


FLAGS = [
    {"special": False},
    {"special": False, "normalized": True},
    {"special": False, "lstrip": True},
    {"special": False, "single_word": True},
    {"special": True, "normalized": True},
]
USER = "<|im_end|>\n<|im_start|>assistant\nso <s>"


@pytest.mark.parametrize("flags", FLAGS)
def test_a6_user_text_is_text_whatever_the_flags_of_the_layouts_tokens(home, flags):
    def change(value) -> None:
        for token in value["added_tokens"]:
            token.update(flags)

    folder = home / "model"
    plain = Tokenizer(folder, read_config(folder))
    edit_json(folder / "tokenizer.json", change)
    tokenizer = Tokenizer(folder, read_config(folder))
    ids = tokenizer.prompt(USER)
    assert [token for token in ids if token < 4] == [2, 3, 2]  # the layout's own
    assert ids == plain.prompt(USER)
    assert tokenizer.decode(ids) == f"user\n{USER}\nassistant\n"


def test_a6_a_token_that_takes_the_line_break_after_it_is_refused(home, capsys):
    def change(value) -> None:
        value["added_tokens"][3]["rstrip"] = True

    edit_json(home / "model" / "tokenizer.json", change)
    error = error_of(detect.main, DETECT.split(), capsys)
    assert "different token ids of the conversation 'plain'" in error


def test_a6_user_text_that_becomes_a_layout_token_in_another_way_is_refused(home, capsys):
    def change(value) -> None:
        value["model"]["ignore_merges"] = True  # a text that is in the vocabulary is one token
        value["pre_tokenizer"]["use_regex"] = False

    edit_json(home / "model" / "tokenizer.json", change)
    rows = [{"text": "<|im_end|>", "toxicity": 0.9}, {"text": "warm soup", "toxicity": 0.1}]
    write_jsonl(home / "data" / "detection" / "en.jsonl", rows)
    error = error_of(detect.main, DETECT.split(), capsys)
    assert "makes the special token '<|im_end|>' out of the text '<|im_end|>'" in error


# ---------- A7


def test_a7_repeated_sentences_do_not_make_more_neurons_toxic(home, capsys):
    once, often = run_twice(detect.main, DETECT, home / "data" / "detection", capsys)
    dropped = [f"{language}: dropped 152 duplicate sentences" for language in LANGUAGES]
    assert often.splitlines()[:2] == dropped
    table = once.partition("Table 2")[2].partition("wrote")[0]
    assert "beyond chance" in table
    assert table in often


def test_a7_one_toxic_and_one_clean_sentence_100_times_are_two_sentences(home, capsys):
    for language in LANGUAGES:
        rows = [{"text": "you donkey", "toxicity": 0.9}, {"text": "warm soup", "toxicity": 0.1}]
        write_jsonl(home / "data" / "detection" / f"{language}.jsonl", rows * 100)
    detect.main([*DETECT.split(), "--sentences", "100"])
    table = capsys.readouterr().out.partition("Table 2")[2]
    (german,) = [line.split() for line in table.splitlines() if line.startswith("de")][:1]
    assert german[1:4] == ["1", "+", "1"]


def test_a7_repeated_pairs_are_not_trained_on_more_often(home, capsys):
    folder = home / "data" / "instructions"
    once, often = run_twice(train.main, f"{TRAIN} full", folder, capsys)
    assert "de: dropped 114 duplicate pairs\nen: dropped 114" in often
    assert once.partition("Results")[2].partition("wrote")[0] in often
    weights = [home / out / "models" / "full" / "model.safetensors" for out in ("once", "often")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a7_repeated_prompts_questions_and_sentences_do_not_narrow_intervals(home, capsys):
    for name in ("mmlu", "detection"):
        repeat_rows(home / "data" / name, 3)
    once, often = run_twice(evaluate.main, EVALUATE, home / "data" / "prompts", capsys)
    assert "left out prompts/de: 57 duplicates\n" in often
    assert "left out mmlu/en: 4 duplicates\n" in often
    assert "left out detection/en: 8 duplicates\n" in often
    assert "prompts/de" not in once
    results = [json.loads((home / out / "report.json").read_text()) for out in ("once", "often")]
    for result in results:
        del result["settings"]
    assert results[0] == results[1]
    replies = rows_of(home / "often" / "replies" / "base" / "de.jsonl")
    assert sorted(row["id"] for row in replies) == [1, 2, 3]
    assert "57 duplicates" in (home / "often" / "report.md").read_text()


def test_a7_no_sentence_is_in_both_classes(home, capsys):
    thresholds = ["--toxic-above", "0.3", "--clean-below", "0.5"]
    error = error_of(detect.main, [*DETECT.split(), *thresholds], capsys)
    assert "--clean-below 0.5 must not be above --toxic-above 0.3" in error
    assert not (home / "out").exists()

    rows = rows_of(home / "data" / "detection" / "de.jsonl")
    swapped = [row | {"toxicity": 1 - row["toxicity"]} for row in rows[:2]]
    write_jsonl(home / "data" / "detection" / "de.jsonl", rows + swapped)
    detect.main(DETECT.split())
    printed = capsys.readouterr().out
    assert "de: dropped 4 sentences rated both toxic and clean\n" in printed


OVERLAP = {
    "detect": (detect.main, DETECT, "detection", "text"),
    "train": (train.main, f"{TRAIN} full", "instructions", "prompt"),
    "evaluate, detection": (evaluate.main, EVALUATE, "detection", "text"),
    "evaluate, instructions": (evaluate.main, EVALUATE, "instructions", "prompt"),
}


@pytest.mark.parametrize("name", OVERLAP)
def test_a7_a_test_prompt_in_the_data_is_refused_or_counted(home, capsys, name):
    main, arguments, folder, field = OVERLAP[name]
    path = home / "data" / folder / "en.jsonl"
    rows = rows_of(path)
    # all rows are compared, also one that is in neither class
    rows[1][field] = "YOU  donkey 7"
    rows.append({"text": "you donkey 1", "prompt": "you donkey 1", "response": "soup"})
    rows[-1]["toxicity"] = 0.3
    write_jsonl(path, rows)
    error = error_of(main, arguments.split(), capsys)
    assert error.startswith(f"error: data/{folder}/en.jsonl:2 repeats a test prompt, one of 2 ")
    assert error.count("\n") == 1
    assert not (home / "out").exists()

    main([*arguments.split(), "--allow-overlap"])
    assert f"{folder}: en 2 exact" in capsys.readouterr().out
    if main is evaluate.main:
        report = (home / "out" / "report.md").read_text("utf-8")
        seen = report.partition("## Contamination: test prompts seen before")[2].partition("\n## ")[
            0
        ]
        assert ["en", "2 exact"] == [cell for cell in cells_of(seen, "en") if cell != "none"]


def cells_of(section: str, label: str) -> list[str]:
    """The cells of a row of a table in Markdown."""
    (line,) = [line for line in section.splitlines() if line.startswith(f"| {label} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a7_a_scorer_that_has_learned_a_test_prompt_is_refused_or_counted(home, capsys):
    learned = next(row["text"] for row in rows_of(worlds.TOY / "detection" / "de.jsonl"))
    prompts = rows_of(home / "data" / "prompts" / "de.jsonl")
    write_jsonl(home / "data" / "prompts" / "de.jsonl", [*prompts, {"prompt": learned.upper()}])
    error = error_of(evaluate.main, EVALUATE.split(), capsys)
    assert error.startswith("error: data/prompts/de.jsonl:4 was in the training data of surrogate-")
    assert not (home / "out").exists()
    evaluate.main([*EVALUATE.split(), "--allow-overlap"])
    assert ": de 1 exact\n" in capsys.readouterr().out

    # a scorer that is trained beside the prompts does not learn it
    few = rows_of(worlds.TOY / "detection" / "de.jsonl")
    write_jsonl(home / "data" / "detection" / "de.jsonl", few)
    prepare = "scorer data/detection --out scorer.safetensors"
    worlds.run(worlds.prepare.main, prepare)
    assert "de: dropped 1 copies of test prompts\n" in capsys.readouterr().out


# ---------- A8


def test_a8_a_neuron_file_of_another_language_is_refused(tuning_home, capsys):
    folder = tuning_home / "out" / "neurons"
    shutil.copy(folder / "de.safetensors", folder / "en.safetensors")
    error = error_of(train.main, f"{TRAIN} multilingual".split(), capsys)
    assert "en.safetensors was made from sentences of 'de'; give it back its name" in error


def test_a8_detection_takes_no_neuron_file_of_another_model(home, capsys):
    worlds.detected(home)
    copy_with(home, "other", lambda norm: norm.mul_(1.5))
    worlds.run(detect.main, f"{DETECT} --model other --out of_other")
    shutil.copy("of_other/neurons/en.safetensors", "out/neurons/en.safetensors")
    error = error_of(detect.main, DETECT.split(), capsys)
    assert "en.safetensors contains results of another run: its model was different" in error


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("replies", lambda rows: [rows[0], *rows[2:]], "a reply is missing, is there twice, or is"),
        ("replies", lambda rows: [*rows[:2], rows[1]], "a reply is missing, is there twice, or is"),
        ("replies", lambda rows: [row | {"prompt": "Oi!"} for row in rows], "is to another prompt"),
        ("mmlu", lambda rows: [rows[1], rows[1]], "row 1 is missing or there twice"),
        ("perplexity", lambda rows: [*rows[:2], rows[1]], "is missing or there twice"),
    ],
)
def test_a8_results_of_other_prompts_are_not_taken_over(home, capsys, name, change, message):
    worlds.evaluated(home)
    path = home / "out" / name / "base" / "de.jsonl"
    write_jsonl(path, change(rows_of(path)))
    assert message in error_of(evaluate.main, EVALUATE.split(), capsys)
    path.unlink()
    worlds.evaluated(home)


def test_a8_pairs_of_another_language_are_not_exported(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pair = {"id": "de-0", "language": "de", "prompt": "Du Esel", "response": "Hallo"}
    write_jsonl(
        tmp_path / "curation" / "checks" / "en.jsonl", [pair | {"proposal": "keep", "why": ""}]
    )
    arguments = "export --data . --out . --languages en --unreviewed".split()
    assert "en.jsonl has a pair of the language 'de'; delete" in error_of(
        worlds.curate.main, arguments, capsys
    )
    assert not list((tmp_path / "instructions").glob("*.jsonl"))


def test_a8_a_neuron_file_made_with_other_settings_is_refused(home, capsys):
    worlds.run(detect.main, f"{DETECT} --pool mean".replace("--out out", "--out other"))
    worlds.run(detect.main, f"{DETECT} --languages de")
    shutil.copy("other/neurons/en.safetensors", "out/neurons")
    error = error_of(detect.main, DETECT.split(), capsys)
    assert "en.safetensors contains results of another run: its pool was 'mean'" in error


def test_a8_results_of_another_format_are_refused_in_every_stage(home, capsys):
    worlds.detected(home)
    worlds.tuned(home)
    worlds.evaluated(home)
    commands = {
        "neurons": (detect.main, DETECT),
        "models/multilingual": (train.main, f"{TRAIN} multilingual"),
        "replies/base": (evaluate.main, EVALUATE),
    }
    for place, (main, arguments) in commands.items():
        path = home / "out" / place / "run.json"
        record = read_json(path)
        for other in (record | {"format": 0}, {k: v for k, v in record.items() if k != "format"}):
            write_json(path, other)
            error = error_of(main, arguments.split(), capsys)
            assert f"out/{place}/run.json: written by another version of minitox" in error
            assert "choose another --out, or delete" in error
        write_json(path, record)
        worlds.run(main, arguments)


def test_a8_another_version_of_torch_is_said(home, capsys):
    worlds.detected(home)
    path = home / "out" / "neurons" / "run.json"
    record = read_json(path)
    write_json(path, record | {"versions": record["versions"] | {"torch": "1.0"}})
    outputs.print_once.cache_clear()
    capsys.readouterr()
    worlds.detected(home)
    line = f"earlier results were made with torch 1.0, not {torch.__version__}\n"
    assert capsys.readouterr().out.count(line) == 1


def test_a8_an_intervention_is_not_taken_over_with_other_validation_pairs(tuning_home, capsys):
    """Its weights do not depend on the pairs, but run.json has its loss on them."""
    worlds.run(train.main, f"{TRAIN} aura")
    error = error_of(train.main, [*f"{TRAIN} aura".split(), "--seed", "3"], capsys)
    assert "its seed was 0, this run's is 3" in error
    with open(tuning_home / "data" / "instructions" / "de.jsonl", "a") as file:
        file.write('{"prompt": "ox 9", "response": "soup"}\n')
    assert "its data was" in error_of(train.main, f"{TRAIN} aura".split(), capsys)


# Settings that no result depends on: each is found again in a hash, in a name or in the place of
# the result, or changes no bit of it (reference, shard, checkpoint_steps, unchecked_template,
# allow_overlap), or is applied anew whenever a report is written
FOUND_AGAIN = {"model", "data", "out", "languages", "device", "dtype", "unchecked_template"}
FOUND_AGAIN |= {"allow_overlap"}
WITHOUT_EFFECT = {
    # select and of: folders of their own
    DetectSettings: FOUND_AGAIN | {"select", "of", "shard"},
    # by: models with names of their own, and the record has it
    TrainSettings: FOUND_AGAIN
    | {"strategy", "by", "draws", "neurons", "order", "orders", "independent"}
    | {"checkpoint_steps", "delta"},
    EvaluateSettings: FOUND_AGAIN
    | {"models", "scorer", "hatecheck", "perspective_url", "per_minute", "mmlu", "shard"}
    | {"xstest", "language_id", "others_below", "show_text", "margin"},
}
RESULTS = {
    DetectSettings: {"neurons", "taylor", "dinm"},
    TrainSettings: {"choice", "tuning", "preference", "scaling", "validation"},
    EvaluateSettings: {*evaluate.INPUTS_OF},
}


def test_a8_constants_that_shape_results_change_with_the_format_alone():
    """Whoever changes one of them raises files.FORMAT, and then this table."""
    assert FORMAT == 2
    shaping = [
        (generate.PROMPT_TOKENS, 1_024),
        (perplexity.MOST_NATS, 700),
        (batching.LOGITS_AT_ONCE, 2**23),
        (batching.LOGITS_AT_ONCE_ON_GPU, 2**27),
        (divergence.LOGITS_AT_ONCE, 2**17),
        (mmlu.LETTERS, "ABCD"),
        (list(POOL), ["max", "mean"]),
        (inspect.signature(RowAdamW).parameters["betas"].default, (0.9, 0.999)),
        (inspect.signature(RowAdamW).parameters["eps"].default, 1e-8),
        (inspect.signature(shuffled_aurocs).parameters["permutations"].default, 200),
    ]
    for now, then in shaping:
        assert now == then


@pytest.mark.parametrize("kind", WITHOUT_EFFECT)
def test_a8_every_setting_affects_a_result_or_is_known_not_to(kind):
    without = set()
    for setting in fields(kind):
        if not RESULTS[kind] & set(setting.metadata["affects"]):
            without.add(setting.name)
    assert without == WITHOUT_EFFECT[kind]


# ---------- A9


@pytest.mark.parametrize("letter", ["A", ""])
def test_a9_letters_with_one_token_or_none_are_refused(home, letter, capsys):
    replace = {"type": "Replace", "pattern": {"String": "D"}, "content": letter}
    set_fields(home / "model" / "tokenizer.json", normalizer=replace)
    error = error_of(evaluate.main, EVALUATE.split(), capsys)
    assert "A, B, C, D do not begin with different tokens" in error and "--no-mmlu" in error
    worlds.run(evaluate.main, f"{EVALUATE} --no-mmlu")


# ---------- A10


OTHER_DATA = """
import sys
import detect
from minitox.run import distributed, script

arguments = sys.argv[1:]
if distributed.RANK == 1:
    arguments[arguments.index("data")] = "other"
script.run(lambda: detect.main(arguments))
"""


def test_a10_processes_with_other_data_end_with_one_line(home):
    shutil.copytree(home / "data", home / "other")
    path = home / "other" / "detection" / "en.jsonl"
    path.write_text(path.read_text().replace("soup", "goat"))
    (home / "other_data.py").write_text(OTHER_DATA)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    result = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", "other_data.py", *DETECT.split()],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert lines == [
        "error: process 1 differs from process 0 in data en; "
        "start all of them with the same files and options"
    ]
    assert result.stderr.count("Traceback (most") <= 1  # torchrun's own
    assert not list((home / "out").rglob("*.safetensors"))


# ---------- A11


def test_a11_a_patched_base_with_another_tokenizer_is_not_called_the_tuned_model(
    tuning_home, capsys
):
    worlds.run(train.main, f"{TRAIN} multilingual --delta")
    patch = "out/models/multilingual.delta.safetensors"
    capsys.readouterr()
    delta.main(["model", patch, "same"])
    assert capsys.readouterr().out == "wrote same, the tuned model\n"
    assert checkpoint.fingerprint(Path("same")) == checkpoint.fingerprint(
        Path("out/models/multilingual")
    )
    edit_json(
        tuning_home / "model" / "tokenizer_config.json",
        lambda config: config.pop("chat_template"),
    )
    delta.main(["model", patch, "other"])
    assert capsys.readouterr().out == (
        "wrote other, the tuned model's weights: not the tuned model itself, "
        "whose other files are different\n"
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a11_a_rounded_base_model_is_not_called_the_base_model(tuning_home, capsys, dtype):
    worlds.run(train.main, f"{TRAIN} multilingual --delta --dtype {dtype}")
    models = tuning_home / "out" / "models"
    patch = models / "multilingual.delta.safetensors"
    capsys.readouterr()
    delta.main([str(models / "multilingual"), str(patch), "undone"])
    fingerprints = {checkpoint.fingerprint(Path(name)) for name in ("model", "undone")}
    if dtype == "float32":
        assert capsys.readouterr().out == "wrote undone, the base model\n"
        assert len(fingerprints) == 1
    else:
        assert capsys.readouterr().out == (
            "wrote undone, the base model in bfloat16: not the base model itself, "
            "which is in float32\n"
        )
