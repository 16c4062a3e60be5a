"""On a real model, minitox computes what transformers and scikit-learn compute."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lm"))

from templates import PUBLISHED  # noqa: E402

import detect
import train
from minitox import neurons
from minitox.data import read_all_pairs, read_labelled
from minitox.detect.auroc import auroc
from minitox.lm import chat, checkpoint, text
from minitox.lm.batching import pad
from minitox.lm.config import read_config
from minitox.run.neuron_files import read_neurons, write_neurons
from minitox.train.loss import chunked_reply_loss

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(autouse=True)
def all_threads():
    """The other tests use one thread; with a real model, all threads are faster."""
    before = torch.get_num_threads()
    torch.set_num_threads(torch.multiprocessing.cpu_count())
    yield
    torch.set_num_threads(before)


def peer_model(folder: Path, dtype=torch.float32):
    """The model as transformers opens it."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def peer_tokenizer(folder: Path):
    return transformers.AutoTokenizer.from_pretrained(folder)


def peer_logits(folder: Path, ids, **options):
    """The logits (B, T, V) that transformers computes with the model of a folder."""
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder, **options).eval()
    return peer(ids).logits


def sentences(real, language: str, count: int) -> list[str]:
    """`count` toxic sentences of a language, and as many clean ones."""
    toxic, clean, _ = read_labelled(real / "data" / "detection" / f"{language}.jsonl", 0.5, 0.2)
    return toxic[:count] + clean[:count]


@torch.inference_mode()
def test_logits_equal_those_of_transformers(real, folder):
    model = checkpoint.load(folder, dtype=torch.float32)
    peer = peer_model(folder)
    tokenizer = text.Tokenizer(folder, model.config)
    for language in ("en", "zh", "ar", "hi"):
        for sentence in sentences(real, language, 2):
            ids = torch.tensor([tokenizer.sentence(sentence)])
            difference = (model(ids) - peer(ids).logits).abs().max().item()
            assert difference <= 2e-4, (language, difference)


def test_words_and_prompts_are_those_of_transformers(real, folder):
    ours = text.Tokenizer(folder, read_config(folder))
    theirs = peer_tokenizer(folder)
    for language in ("en", "ja", "ar", "ko", "ru"):
        for sentence in sentences(real, language, 20):
            assert ours.encode(sentence) == theirs(sentence, add_special_tokens=False)["input_ids"]
            turn = [{"role": "user", "content": sentence}]
            chat = theirs.apply_chat_template(turn, add_generation_prompt=True)["input_ids"]
            assert ours.prompt(sentence) == chat


@pytest.mark.parametrize("name", PUBLISHED)
def test_templates_are_rendered_as_transformers_renders_them(real, name):
    template, bos = PUBLISHED[name]
    if "strftime_now" in template:
        pytest.skip("transformers renders today's date, minitox a fixed one")
    bos = bos["content"] if isinstance(bos, dict) else bos
    special = () if bos is None else (("bos_token", bos),)
    theirs = peer_tokenizer(real / "models" / "smollm2-135m-instruct")
    for conversation, rendered in chat.template_texts(chat.Template(template, special)).items():
        user, reply = chat.CONVERSATIONS[conversation]
        messages = [{"role": "user", "content": user}]
        if reply is not None:
            messages.append({"role": "assistant", "content": reply})
        expected = theirs.apply_chat_template(
            messages,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=reply is None,
            enable_thinking=False,
            bos_token=bos,
        )
        assert rendered == expected


def test_the_chat_format_of_the_real_model_is_that_of_its_template(folder):
    tokenizer = text.Tokenizer(folder, read_config(folder))
    tokenizer.check_template()
    assert tokenizer.checked


@torch.inference_mode()
@pytest.mark.parametrize("name", ["llama3", "mistral", "qwen2", "qwen3", "cohere", "cohere2"])
@pytest.mark.parametrize("shard_bytes", [10**9, 6_000])
def test_transformers_opens_what_is_saved_with_identical_logits(tmp_path, name, shard_bytes):
    model = checkpoint.load(GOLDEN / name)
    ids = torch.arange(3, 23)[None]
    before = peer_logits(GOLDEN / name, ids)
    checkpoint.save(model, tmp_path / "saved", source=GOLDEN / name, shard_bytes=shard_bytes)
    assert torch.equal(peer_logits(tmp_path / "saved", ids), before)


@torch.inference_mode()
def test_transformers_opens_the_saved_real_model_with_identical_logits(real, folder, tmp_path):
    model = checkpoint.load(folder)
    ids = torch.arange(1000, 1040)[None]
    saved = tmp_path / "saved"
    checkpoint.save(model, saved, source=folder, shard_bytes=10**8)
    before = peer_logits(folder, ids, dtype=torch.float32)
    after = peer_logits(saved, ids, dtype=torch.float32)
    assert torch.equal(before, after)
    expected = peer_tokenizer(folder)("the soup")["input_ids"]
    assert peer_tokenizer(saved)("the soup")["input_ids"] == expected


@pytest.mark.parametrize("levels", [2, 10, 1000])
def test_auroc_equals_scikit_learns(levels):
    rng = np.random.default_rng(levels)
    toxic = rng.random(3_000) < 0.4
    values = (rng.integers(-levels, levels, (50, 3_000)) / levels).astype(np.float16)
    expected = [metrics.roc_auc_score(toxic, row) for row in values]
    assert np.abs(auroc(values, toxic) - expected).max() <= 1e-12


def hooked_responses(peer, names: list[str], ids: list[list[int]]) -> dict:
    """For each module, max-pooled responses (N, R) without the BOS, recorded by forward hooks."""
    responses = {name: [] for name in names}

    def hook(name: str):
        def keep(module, inputs, output):
            responses[name].append(output[0, 1:].amax(0).numpy())

        return keep

    for name in names:
        peer.get_submodule(name).register_forward_hook(hook(name))
    for sentence in ids:
        peer(torch.tensor([sentence]))
    return {name: np.stack(pooled).astype(np.float16) for name, pooled in responses.items()}


@torch.inference_mode()
def test_detect_finds_what_hooks_and_scikit_learn_find(real, tmp_path):
    """The peers' way: one sentence at a time, hooks, max over tokens, roc_auc_score."""
    folder = real / "models" / "smollm2-135m-instruct"
    groups = read_labelled(real / "data" / "large" / "detection" / "en.jsonl", 0.5, 0.2)[:2]
    rows = []
    for group, score in zip(groups, (0.9, 0.1), strict=True):
        rows += [{"text": row, "toxicity": score} for row in group[:40]]
    (tmp_path / "detection").mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "detection" / "en.jsonl").write_text(lines)

    # 1) minitox
    out = tmp_path / "out"
    options = ["--model", folder, "--data", tmp_path, "--out", out, "--languages", "en"]
    options += ["--dtype", "float32"]  # that of the peers; auto may be bfloat16
    detect.main([str(option) for option in options])
    module_rows = neurons.module_rows(read_config(folder))
    ours, _ = read_neurons(out / "neurons" / "en.safetensors", module_rows)

    # 2) the peers, for every seventh module
    tokenizer = peer_tokenizer(folder)
    ids = []
    for row in rows:
        ids.append([tokenizer.bos_token_id, *tokenizer(row["text"])["input_ids"][:128]])
    responses = hooked_responses(peer_model(folder), list(ours)[::7], ids)
    is_toxic = [row["toxicity"] > 0.5 for row in rows]

    # 3) a response between two values of float16 may be rounded up or down
    worst = 0.0
    agreed = []
    for name, pooled in responses.items():
        expected = np.array([metrics.roc_auc_score(is_toxic, column) for column in pooled.T])
        worst = max(worst, np.abs(ours[name] - expected).max())
        agreed.append(np.mean((ours[name] > 0.5) == (expected > 0.5)))
    assert worst < 0.01
    assert np.mean(agreed) > 0.995


def test_loss_and_gradients_on_real_pairs_equal_those_of_transformers(real):
    folder = real / "models" / "smollm2-135m-instruct"
    tokenizer = text.Tokenizer(folder, read_config(folder))
    ours = checkpoint.load(folder, dtype=torch.float32).requires_grad_(True)
    peer = peer_model(folder)
    for language in ("en", "hi"):
        path = real / "data" / "instructions" / f"{language}.jsonl"
        pairs = read_all_pairs(path, tokenizer)[0][:3]
        loss = chunked_reply_loss(ours, pairs, scale=1.0).item()

        # the mean over the reply tokens that transformers returns, as a sum
        labels = [torch.tensor([-100] * pair.start + pair.ids[pair.start :]) for pair in pairs]
        labels = torch.nn.utils.rnn.pad_sequence(labels, True, -100)  # (B, T)
        lengths = torch.tensor([[len(pair.ids)] for pair in pairs])
        mask = (torch.arange(labels.shape[1]) < lengths).long()
        ids = pad([pair.ids for pair in pairs])
        mean = peer(ids, attention_mask=mask, labels=labels).loss
        expected = mean * sum(pair.reply_tokens for pair in pairs)
        expected.backward()
        assert loss == pytest.approx(expected.item(), rel=1e-5)

        theirs = dict(peer.named_parameters())
        for name, weight in ours.named_parameters():
            difference = weight.grad - theirs[name].grad
            if name == "model.embed_tokens.weight":
                # as an input, transformers gives its pad token no gradient; here it ends a turn
                difference[peer.config.pad_token_id] = 0
            assert difference.norm() <= 1e-4 * theirs[name].grad.norm(), name
        ours.zero_grad()
        peer.zero_grad()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_transformers_opens_a_tuned_model_with_the_logits_of_ours(real, tmp_path, dtype):
    folder = real / "models" / "smollm2-135m-instruct"
    languages = ["en", "zh"]

    # 1) neuron files with random AUROC, and two strategies tuned on them
    rng = np.random.default_rng(0)
    module_rows = neurons.module_rows(read_config(folder))
    info = {"model": checkpoint.fingerprint(folder)}
    for language in languages:
        values = {name: rng.random(rows).astype(np.float32) for name, rows in module_rows.items()}
        path = tmp_path / "neurons" / f"{language}.safetensors"
        write_neurons(path, values, values, info | {"language": language})
    options = ["--model", folder, "--data", real / "data", "--out", tmp_path]
    options += ["--languages", ",".join(languages), "--pairs", 16, "--max-tokens", 100]
    options += ["--dtype", dtype, "--strategy", "per-language", "aura"]
    train.main([str(option) for option in options])

    # 2) both packages open them, with the same logits
    ids = torch.arange(1000, 1040)[None]
    for name in ("per-language", "aura"):
        saved = tmp_path / "models" / name
        peer = peer_model(saved, "auto")
        assert peer.dtype == getattr(torch, dtype)
        with torch.inference_mode():
            ours = checkpoint.load(saved, dtype=torch.float32)(ids)
            theirs = peer.float()(ids).logits
            base = checkpoint.load(folder, dtype=torch.float32)(ids)
        assert (ours - theirs).abs().max() <= 2e-4 < (ours - base).abs().max()
        expected = peer_tokenizer(folder)("the soup")["input_ids"]
        assert peer_tokenizer(saved)("the soup")["input_ids"] == expected
