"""The small classifiers of tests/golden, and changed copies of them."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tiny import GOLDEN, write_tokenizer
from tokenizers import Tokenizer, processors

from minitox.scorers import encoder

FAMILIES = ["xlm-roberta", "modernbert"]


def edit_config(folder: Path, remove=(), **changes) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if key not in remove}))


def edit_weights(folder: Path, edit) -> None:
    """Apply `edit` to the dict of a folder's weights."""
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors")


def copied(tmp_path: Path, family: str, **changes) -> Path:
    """A copy of a family's golden folder, with a changed config.json."""
    folder = tmp_path / family
    shutil.copytree(GOLDEN / family, folder, dirs_exist_ok=True)
    edit_config(folder, **changes)
    return folder


def with_tokenizer(folder: Path, outputs: int = 2, special: bool = True, **changes) -> Path:
    """Turn a golden folder into a scorer: a tokenizer, a larger vocabulary, `outputs` outputs."""
    # 1) the tokenizer
    write_tokenizer(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    tokenizer.save(str(folder / "tokenizer.json"))

    # 2) embeddings and outputs, at random
    generator = torch.Generator().manual_seed(0)

    def grow(weights):
        for name, weight in weights.items():
            if name.endswith(("word_embeddings.weight", "tok_embeddings.weight")):
                weights[name] = torch.randn(300, weight.shape[1], generator=generator)
            elif name.startswith(("classifier.out_proj", "classifier.weight", "classifier.bias")):
                weights[name] = 0.2 * torch.randn(outputs, *weight.shape[1:], generator=generator)

    edit_weights(folder, grow)
    edit_config(folder, vocab_size=300, **changes)
    return folder


def golden_difference(folder: Path, masked: bool = True) -> float:
    """The largest difference from the logits that transformers computed for this family."""
    golden = json.loads((GOLDEN / folder.name / "golden.json").read_text())
    ids = torch.tensor(golden["ids"])  # (B, T)
    lengths = torch.tensor(golden["lengths"])  # (B,)
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    logits = encoder.load(folder)(ids, real if masked else torch.ones_like(real))
    return (logits - torch.tensor(golden["logits"])).abs().max().item()
