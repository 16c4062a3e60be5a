"""A tiny random model and its tokenizer on disk, and the paths of the toy and the golden files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from minitox import neurons
from minitox.files import FORMAT
from minitox.lm import checkpoint
from minitox.lm.config import read_config
from minitox.lm.model import LanguageModel
from minitox.run import script, training_record
from minitox.run.neuron_files import write_neurons as write_neuron_file
from minitox.run.settings import TrainSettings
from minitox.train.strategies import DRAWN, SCALED

TOY = Path(__file__).resolve().parents[1] / "data" / "toy"
GOLDEN = Path(__file__).resolve().parent / "golden"
SPECIAL_TOKENS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
CONFIG = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "torch_dtype": "float32",
}
WORDS = "the soup is warm and garden green you".split()


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of all bytes and a few words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL_TOKENS],
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    texts = ["the soup is warm and the garden is green, you donkey"] * 3
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_model(folder: Path, seed: int = 0, **changes) -> LanguageModel:
    """Write a folder with a random model and a tokenizer; `changes` go into config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    write_tokenizer(folder)
    model = LanguageModel(read_config(folder)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        mean = float(weight.dim() == 1)  # norms are around 1
        weight.copy_(mean + 0.3 * torch.randn(weight.shape, generator=generator))
    checkpoint.save_weights(model.state_dict(), folder, shard_bytes=10**9)
    return model


def write_jsonl(path: Path, rows: list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def error_of(main, arguments: list[str], capsys) -> str:
    """Run a script's main as a user would, assert that it exits with 2, and return its stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        script.run(lambda: main(arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err


def write_pairs(path: Path, count: int, seed: int = 0) -> None:
    """Write an instructions/ file of random everyday words."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        prompt = f"ox {number} " + " ".join(rng.choice(WORDS, size=rng.integers(2, 6)))
        response = " ".join(rng.choice(WORDS, size=rng.integers(1, 6)))
        rows.append({"prompt": prompt, "response": response})
    write_jsonl(path, rows)


def add_rejected(path: Path, but: int = 0) -> None:
    """Add rejected replies to an instructions/ file, except to its first `but` rows."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for number, row in enumerate(rows[but:]):
        row["rejected"] = f"donkey {number}"
    write_jsonl(path, rows)


def write_neurons(path: Path, model: Path, seed: int = 0) -> dict:
    """Write a neuron file of random AUROCs in the format of detect.py; return the AUROCs."""
    rng = np.random.default_rng(seed)
    rows = neurons.module_rows(read_config(model))
    auroc = random_aurocs(rng, rows)
    shuffled = random_aurocs(rng, rows)
    about = {"model": checkpoint.fingerprint(model), "language": path.stem}
    write_neuron_file(path, auroc, shuffled, about)
    return auroc


def random_aurocs(rng, rows: dict[str, int]) -> dict:
    """Random AUROCs of all modules."""
    return {name: rng.random(count).astype(np.float32) for name, count in rows.items()}


def training_of(strategy: str, chosen: dict | None = None, **changes) -> dict:
    """What train.py records of a model in run.json, with its default settings."""
    settings = {
        "model": "base",
        "device": "cpu",
        "dtype": "torch.float32",
        "languages": ["de", "en"],
        "neurons": {"de": "hash of a file"},
        "data": {"de": "hash of a file"},
    }
    settings = vars(TrainSettings()) | settings | changes
    draw = changes.get("draw", 1 if strategy in DRAWN else None)
    names = training_record.dependencies(
        strategy, changes.get("objective"), changes.get("by", "auroc")
    )
    if "rates" in names:
        names |= {"lr": float}
        settings = {"lr": 0.004} | settings
    counts = {
        "neurons": 40,
        "of_neurons": 100,
        "weights": 4_000,
        "of_weights": 20_000,
        "toxic": 30,
        "sha256": "hash of a mask",
    }
    return {
        "format": FORMAT,
        "settings": {"strategy": strategy, "draw": draw} | {name: settings[name] for name in names},
        "chosen": counts | (chosen or {}),
        "validation": {
            "de": {"pairs": 4, "before": 3.0, "after": 1.0},
            "en": {"pairs": 4, "before": 3.0, "after": 2.0},
            "fr": {"pairs": 0, "before": None, "after": None},
        },
        "stages": [] if strategy in SCALED else [{"name": "all"}],
    }


def state_bytes(optimizer) -> int:
    """Memory of an optimizer's state."""
    total = 0
    for state in optimizer.state.values():
        total += sum(tensor.nbytes for tensor in state.values())
    return total
