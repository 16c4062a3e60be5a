"""Guards have the scores that transformers' logits give, after the prompt that it renders."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scorers"))

from tiny_guards import GUARDS, write_guard  # noqa: E402

from minitox.scorers.guard import Guard  # noqa: E402

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

TEXTS = ["The soup is warm.", "You donkey, stop it!", "die Suppe ist warm", "スープは温かい。"]


@pytest.mark.parametrize("name", GUARDS)
@torch.inference_mode()
def test_scores_are_those_of_transformers(name, tmp_path):
    folder = write_guard(tmp_path, name)
    scorer = Guard(folder)
    assert "not checked" not in scorer.about
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        chat_template=(folder / "chat_template.jinja").read_text("utf-8"),
    )
    tokens = [tokenizer.encode(verdict)[0] for verdict in scorer.kind.verdicts]
    values = torch.tensor(list(scorer.kind.verdicts.values()), dtype=torch.float64)
    worst = 0.0
    for text, (score, _) in zip(TEXTS, scorer.score(TEXTS, "en"), strict=True):
        # the prompt as its template writes it, and the beginning of the answer
        content = [{"type": "text", "text": text}] if name == "llama-guard-3-1b" else text
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False
        )
        prompt = prompt.removeprefix(" ") + scorer.kind.answer
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        p = peer(ids).logits[0, -1, tokens].double().softmax(-1)
        worst = max(worst, abs(score - (p @ values).item()))
    print(f"{name}: {worst:.1e}")
    assert worst <= 1e-5
