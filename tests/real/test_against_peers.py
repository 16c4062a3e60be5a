"""What minitox computes on a real model is what its peers compute."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForCausalLM, AutoTokenizer

from minitox import neurons
from minitox.data import read_all_pairs, read_labelled
from minitox.detect.auroc import auroc
from minitox.lm import checkpoint, text
from minitox.lm.config import read_config
from minitox.train import finetune

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import detect  # noqa: E402
import train  # noqa: E402

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(autouse=True)
def all_threads():
    """The other tests use one thread; a real model is worth them all."""
    before = torch.get_num_threads()
    torch.set_num_threads(torch.multiprocessing.cpu_count())
    yield
    torch.set_num_threads(before)


def sentences(real, language: str, count: int) -> list[str]:
    toxic, clean = read_labelled(real / "data" / "detection" / f"{language}.jsonl", 0.5, 0.2)
    return toxic[:count] + clean[:count]


@torch.inference_mode()
def test_logits_equal_those_of_transformers(real, folder):
    model = checkpoint.load(folder, dtype=torch.float32)
    peer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = text.Tokenizer(folder, model.config)
    for language in ("en", "zh", "ar", "hi"):
        for sentence in sentences(real, language, 2):
            ids = torch.tensor([tokenizer.sentence(sentence)])
            difference = (model(ids) - peer(ids).logits).abs().max().item()
            assert difference <= 2e-4, (language, difference)


def test_words_and_prompts_are_those_of_transformers(real, folder):
    ours, theirs = (
        text.Tokenizer(folder, read_config(folder)),
        AutoTokenizer.from_pretrained(folder),
    )
    for language in ("en", "ja", "ar", "ko", "ru"):
        for sentence in sentences(real, language, 20):
            assert ours.encode(sentence) == theirs(sentence, add_special_tokens=False)["input_ids"]
            chat = theirs.apply_chat_template(
                [{"role": "user", "content": sentence}], add_generation_prompt=True
            )["input_ids"]
            assert ours.prompt(sentence) == chat


@torch.inference_mode()
@pytest.mark.parametrize("name", ["llama3", "qwen2", "qwen3", "cohere"])
@pytest.mark.parametrize("shard_bytes", [10**9, 6_000])
def test_transformers_opens_what_is_saved_with_identical_logits(tmp_path, name, shard_bytes):
    model, ids = checkpoint.load(GOLDEN / name), torch.arange(3, 23)[None]
    before = AutoModelForCausalLM.from_pretrained(GOLDEN / name).eval()(ids).logits
    checkpoint.save(model, tmp_path / "saved", source=GOLDEN / name, shard_bytes=shard_bytes)
    assert torch.equal(
        AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()(ids).logits, before
    )


@torch.inference_mode()
def test_transformers_opens_the_saved_real_model_with_identical_logits(real, folder, tmp_path):
    model, ids = checkpoint.load(folder), torch.arange(1000, 1040)[None]
    checkpoint.save(model, tmp_path / "saved", source=folder, shard_bytes=10**8)
    before, after = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()(ids).logits
        for path in (folder, tmp_path / "saved")
    )
    assert torch.equal(before, after)
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "saved")("the soup")["input_ids"]
        == AutoTokenizer.from_pretrained(folder)("the soup")["input_ids"]
    )


@pytest.mark.parametrize("levels", [2, 10, 1000])
def test_auroc_equals_scikit_learns(levels):
    rng = np.random.default_rng(levels)
    toxic = rng.random(3_000) < 0.4
    values = (rng.integers(-levels, levels, (50, 3_000)) / levels).astype(np.float16)
    assert (
        np.abs(auroc(values, toxic) - [roc_auc_score(toxic, row) for row in values]).max() <= 1e-12
    )


@torch.inference_mode()
def test_detect_finds_what_hooks_and_scikit_learn_find(real, tmp_path):
    """The whole stage again, the peers' way: one sentence at a time, hooks, max over tokens, roc_auc_score."""
    folder = real / "models" / "smollm2-135m-instruct"
    rows = [
        (row, score)
        for group, score in zip(
            read_labelled(real / "data" / "large" / "detection" / "en.jsonl", 0.5, 0.2), (0.9, 0.1)
        )
        for row in group[:40]
    ]
    (tmp_path / "detection").mkdir()
    (tmp_path / "detection" / "en.jsonl").write_text(
        "".join(json.dumps({"text": t, "toxicity": s}) + "\n" for t, s in rows)
    )
    detect.main(
        [
            "--model",
            str(folder),
            "--data",
            str(tmp_path),
            "--out",
            str(tmp_path / "out"),
            "--languages",
            "en",
        ]
    )
    found, _ = read_neurons(
        tmp_path / "out" / "neurons" / "en.safetensors", neurons.module_rows(read_config(folder))
    )

    peer, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    responses = {name: [] for name in list(found)[::7]}
    for name, module in peer.named_modules():
        if name in responses:
            module.register_forward_hook(
                lambda module, inputs, output, name=name: responses[name].append(
                    output[0, 1:].amax(0).numpy()
                )
            )
    for sentence, _ in rows:
        peer(torch.tensor([[tokenizer.bos_token_id, *tokenizer(sentence)["input_ids"][:128]]]))
    labels, worst, agreed = [score > 0.5 for _, score in rows], 0.0, []
    for name, pooled in responses.items():
        expected = [
            roc_auc_score(labels, column) for column in np.stack(pooled).astype(np.float16).T
        ]
        worst = max(worst, np.abs(found[name] - expected).max())
        agreed.append(np.mean((found[name] > 0.5) == (np.array(expected) > 0.5)))
    assert (
        worst < 0.01 and np.mean(agreed) > 0.995
    )  # a response at the edge of two float16 may fall on either side


def test_loss_and_gradients_on_real_pairs_equal_those_of_transformers(real):
    folder, models = real / "models" / "smollm2-135m-instruct", {}
    config = read_config(folder)
    for language in ("en", "hi"):
        pairs = read_all_pairs(
            real / "data" / "instructions" / f"{language}.jsonl", text.Tokenizer(folder, config)
        )[:3]
        ours = models.setdefault(
            "ours", checkpoint.load(folder, dtype=torch.float32)
        ).requires_grad_(True)
        peer = models.setdefault(
            "peer", AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        )
        loss = finetune.reply_loss(ours, pairs, scale=1.0).item()
        labels = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor([-100] * pair.start + pair.ids[pair.start :]) for pair in pairs],
            True,
            -100,
        )
        mask = (
            torch.arange(labels.shape[1]) < torch.tensor([[len(pair.ids)] for pair in pairs])
        ).long()
        expected = peer(
            text.pad([pair.ids for pair in pairs]), attention_mask=mask, labels=labels
        ).loss * sum(pair.reply_tokens for pair in pairs)
        expected.backward()
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        theirs = dict(peer.named_parameters())
        for name, weight in ours.named_parameters():
            difference = weight.grad - theirs[name].grad
            if (
                name == "model.embed_tokens.weight"
            ):  # transformers gives its pad, here the end of a turn, no gradient as an input
                difference[peer.config.pad_token_id] = 0
            assert difference.norm() <= 1e-4 * theirs[name].grad.norm(), name
        ours.zero_grad()
        peer.zero_grad()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_transformers_opens_a_tuned_model_with_the_logits_of_ours(real, tmp_path, dtype):
    folder, languages = real / "models" / "smollm2-135m-instruct", ["en", "zh"]
    rng, config = np.random.default_rng(0), read_config(folder)
    for language in languages:
        auroc = {
            name: rng.random(rows).astype(np.float32)
            for name, rows in neurons.module_rows(config).items()
        }
        write_neurons(
            tmp_path / "neurons" / f"{language}.safetensors",
            auroc,
            {"model": checkpoint.fingerprint(folder)},
        )
    train.main(
        [
            "--model",
            str(folder),
            "--data",
            str(real / "data"),
            "--out",
            str(tmp_path),
            "--languages",
            ",".join(languages),
            "--pairs",
            "16",
            "--dtype",
            dtype,
            "--strategy",
            "per-language",
            "aura",
            "--max-tokens",
            "100",
        ]
    )
    for name in ("per-language", "aura"):
        saved = tmp_path / "models" / name
        peer = AutoModelForCausalLM.from_pretrained(saved, dtype="auto").eval()
        assert peer.dtype == getattr(torch, dtype)
        ids = torch.arange(1000, 1040)[None]
        with torch.inference_mode():
            ours, theirs, base = (
                checkpoint.load(saved, dtype=torch.float32)(ids),
                peer.float()(ids).logits,
                checkpoint.load(folder, dtype=torch.float32)(ids),
            )
        assert (ours - theirs).abs().max() <= 2e-4 < (ours - base).abs().max()
        assert (
            AutoTokenizer.from_pretrained(saved)("the soup")["input_ids"]
            == AutoTokenizer.from_pretrained(folder)("the soup")["input_ids"]
        )
