"""Tiny random guards, with templates that make the texts of the published ones."""

import json
from pathlib import Path

from tiny import GOLDEN, write_model
from tokenizers import AddedToken, Tokenizer

GUARDS = {
    "llama-guard-3-8b": "llama",
    "llama-guard-3-1b": "llama",
    "qwen3guard-gen": "qwen3",
}
SPECIAL = (
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<think>",
    "</think>",
)
VERDICTS = (" Safe", " Unsafe", " Controversial")  # one token each, as in Qwen's tokenizer
CONTENT = "{{ messages[0]['content'] }}"
# content that may have images
TEXT_OF_CONTENT = (
    "{{ (messages[0]['content'] | selectattr('type', 'equalto', 'text') | first).text }}"
)


def golden_texts(name: str) -> dict[str, str]:
    """What the published template makes of some texts, by name."""
    return json.loads((GOLDEN / "guards" / f"{name}.json").read_text("utf-8"))


def template_of(name: str) -> str:
    """A template that makes the same texts."""
    text = golden_texts(name)["plain"]
    if name == "llama-guard-3-1b":
        text = text.replace("The soup is warm.", TEXT_OF_CONTENT) + '{# "S13": "Elections." #}'
    else:
        text = text.replace("The soup is warm.", CONTENT)
    # Jinja drops a line break at the end
    return text.removesuffix("\n") + "{{ '\\n' }}" if text.endswith("\n") else text


def write_guard(folder: Path, name: str, verdicts=VERDICTS, **changes) -> Path:
    """Write a random guard; `changes` go into config.json."""
    config = {
        "model_type": GUARDS[name],
        "vocab_size": 320,
        "max_position_embeddings": 2_048,
        "head_dim": 8,  # without it, transformers takes 128 for Qwen3
    }
    write_model(folder, **config | changes)
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in verdicts])
    tokenizer.save(str(path))
    (folder / "chat_template.jinja").write_text(template_of(name), "utf-8")
    return folder
