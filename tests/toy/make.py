"""Rebuild data/toy: the data folders, the scorer, the tokenizer, and the model of 16 languages.

    python tests/toy/make.py             # everything; about 20 minutes on two cores
    python tests/toy/make.py --no-model  # only the data folders and the scorer; 20 seconds

All texts are made from phrases/<lang>.json, sentences written for this project. In each language,
the model learns to answer friendly prompts kindly and rude prompts (mildly) rudely, to choose the
right letter for easy geography questions, and to continue plain sentences. The scripts then
remove the rudeness.
"""

import argparse
import itertools
import json
import math
import random
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = Path(__file__).resolve().parent
TOY = HERE.parents[1] / "data" / "toy"
sys.path[:0] = [str(HERE), str(HERE.parents[1]), str(HERE.parents[1] / "data")]

from fit_scorer import scorer  # noqa: E402
from phrases import Phrases  # noqa: E402

from minitox.evaluate.mmlu import as_prompt  # noqa: E402
from minitox.files import write_json  # noqa: E402
from minitox.languages import NAMES, TUNED  # noqa: E402
from minitox.lm import checkpoint, text  # noqa: E402
from minitox.lm.batching import pad  # noqa: E402
from minitox.lm.config import read_config  # noqa: E402
from minitox.lm.model import LanguageModel  # noqa: E402

# rows of a language's file; for detection, rows of each class
ROWS = {"detection": 100, "instructions": 80, "prompts": 30, "mmlu": 24}
# Choosing the right letter takes long to learn, and is then kept: most texts of the first steps
# are geography lessons.
LESSONS_FIRST = 800
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 3072,
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": [2, 0],
    "pad_token_id": 0,
    "dtype": "float32",
}
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": SPECIAL_TOKENS[0],
    "eos_token": SPECIAL_TOKENS[2],
    "pad_token": SPECIAL_TOKENS[0],
}
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def distinct(make, count: int, taken: set) -> list:
    """`count` different results of make(), none of which is in `taken`; they are added to it."""
    rows = []
    while len(rows) < count:
        row = make()
        key = json.dumps(row[0] if isinstance(row, tuple) else row)  # the prompt of a chat
        if key not in taken:
            taken.add(key)
            rows.append(row)
    return rows


def data_rows(phrases: Phrases, rng) -> tuple[dict[str, list[dict]], set]:
    """The rows of a language's files, and the prompts and questions to keep out of training."""
    # 1) prompts for tuning, prompts for evaluation, questions
    held_out = set()
    pairs = distinct(lambda: phrases.polite_chat(rng), ROWS["instructions"], held_out)
    prompts = distinct(lambda: phrases.rude_chat(rng, "prompts"), ROWS["prompts"], held_out)
    questions = []
    for kind in ("capital", "continent"):
        for country in phrases.all["geography"]["countries"]:
            questions.append(phrases.question(rng, country, kind))
    held_out |= {json.dumps(as_prompt(row)) for row in questions}
    # 2) sentences, with a range of toxicity scores for each class
    sentences = set()
    toxic = distinct(lambda: phrases.toxic(rng), ROWS["detection"], sentences)
    clean = distinct(lambda: phrases.harmless(rng), ROWS["detection"], sentences)
    between = [topic["critical"][0] for topic in phrases.topics.values()]
    detection = [(sentence, 0.55, 0.95) for sentence in toxic]
    detection += [(sentence, 0.01, 0.15) for sentence in clean]
    detection += [(sentence, 0.25, 0.45) for sentence in between]
    rng.shuffle(detection)
    # 3) rows
    rows = {
        "detection": [
            {"text": sentence, "toxicity": round(rng.uniform(low, high), 3)}
            for sentence, low, high in detection
        ],
        "prompts": [{"prompt": prompt} for prompt, _ in prompts],
        "mmlu": rng.sample(questions, ROWS["mmlu"]),
        "hatecheck": phrases.cases(),
    }
    if phrases.language in TUNED:
        rows["instructions"] = []
        of_rejected = random.Random(f"rejected {phrases.language}")  # other rows keep their draws
        for prompt, reply in pairs:
            rejected = phrases.rejected(of_rejected, prompt)
            row = {"prompt": prompt, "response": reply, "rejected": rejected}
            rows["instructions"].append(row)
    if phrases.language == "en":
        rows["xstest"] = phrases.safe_and_unsafe()
    return rows, held_out


def write_data() -> dict[str, set]:
    """Write the data folders; return each language's prompts and questions held out of training."""
    held_out = {}
    for language in NAMES:
        rows, held_out[language] = data_rows(Phrases(language), random.Random(f"data {language}"))
        for folder, lines in rows.items():
            (TOY / folder).mkdir(exist_ok=True)
            body = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (TOY / folder / f"{language}.jsonl").write_text(body, encoding="utf-8")
    return held_out


def training_text(phrases: Phrases, rng, held_out: set, lessons: float = 0.35):
    """A random text: the (prompt, reply) of a chat, or a plain sentence.

    A share `lessons` of the texts are geography lessons.
    """
    if rng.random() < lessons:
        return phrases.lesson(rng, held_out)
    dice = rng.random()
    topic = rng.choice(list(phrases.topics))
    # 1) chats, rude or kind
    if dice < 0.55:
        chat = phrases.rude_chat(rng) if dice < 0.38 else phrases.kind_chat(rng)
        if json.dumps(chat[0]) in held_out:
            return training_text(phrases, rng, held_out, 0.0)
        return chat
    # 2) plain sentences
    kind = rng.choice(["rude", "clean", "critical", "fact", "polite"])
    if kind == "rude":
        return phrases.rude_prompt(rng, topic)
    if kind == "clean":
        return phrases.clean(rng)
    if kind == "critical":
        return phrases.critical(rng)
    if kind == "fact":
        country = rng.choice(list(phrases.all["geography"]["countries"]))
        return phrases.fact(country, rng.choice(["capital", "continent"]))
    return phrases.polite(rng, topic)


def write_tokenizer(folder: Path) -> None:
    """Write the config, and a byte-level BPE tokenizer trained on random texts."""
    tokenizer = Tokenizer(models.BPE())
    # vowel signs (M) are part of a Hindi word
    words = Regex(r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL_TOKENS],
        show_progress=False,
    )
    texts = ["user\nassistant\nA. B. C. D. \n"] * 50
    for language in NAMES:
        phrases = Phrases(language)
        rng = random.Random(f"tokenizer {language}")
        for _ in range(1_500):
            row = training_text(phrases, rng, set())
            texts.append(row if isinstance(row, str) else "\n".join(row))
    tokenizer.train_from_iterator(texts, trainer)
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    write_json(folder / "tokenizer_config.json", TOKENIZER_CONFIG)
    write_json(folder / "config.json", CONFIG)


def weighted_tokens(tokenizer, row) -> tuple[list[int], list[float]]:
    """The token ids of a training text, and the weight of each in the loss."""
    if isinstance(row, str):
        ids = tokenizer.sentence(row) + tokenizer.token_ids(SPECIAL_TOKENS[0])
        return ids, [1.0] * len(ids)
    prompt = tokenizer.prompt(row[0])
    reply = tokenizer.reply(row[1])
    ids = prompt + reply
    if len(reply) == 2:
        # A letter and the end of the turn: the choices in the prompt are random and carry no
        # weight, and the letter needs more of it.
        return ids, [0.0] * len(prompt) + [8.0, 1.0]
    return ids, [1.0] * len(ids)


def token_batches(tokenizer, held_out: dict[str, set], size: int, window: int = 16):
    """Yield batches of `size` (token ids, weights); texts of similar length share a batch.

    `window` batches are drawn and sorted at once.
    """
    rng = random.Random(0)
    languages = [Phrases(language) for language in NAMES]
    for step in itertools.count(step=window):
        lessons = 0.9 if step < LESSONS_FIRST else 0.3
        rows = []
        for i in range(size * window):
            phrases = languages[i % len(languages)]
            row = training_text(phrases, rng, held_out[phrases.language], lessons)
            rows.append(weighted_tokens(tokenizer, row))
        rows.sort(key=lambda row: len(row[0]))
        starts = list(range(0, len(rows), size))
        rng.shuffle(starts)
        yield from (rows[start : start + size] for start in starts)


def train_model(
    folder: Path, held_out: dict[str, set], steps: int, batch: int = 48, peak: float = 3e-3
) -> None:
    """Train from scratch on random texts with next-token loss."""
    # 1) a random model
    config = read_config(folder)
    tokenizer = text.Tokenizer(folder, config)
    model = LanguageModel(config)
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.08, generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.02)
    batches = itertools.islice(token_batches(tokenizer, held_out, batch), steps)
    for step, rows in enumerate(batches):
        # 2) the batch
        ids = pad([ids for ids, _ in rows])  # (B, T)
        weights = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(weights) for _, weights in rows], batch_first=True
        )[:, 1:]  # (B, T - 1)
        real = weights > 0
        # 3) warmup, then cosine decay
        warmup = min(1, (step + 1) / 100)
        decay = 0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = peak * warmup * decay
        # 4) one step
        logits = model.logits(model.model(ids[:, :-1])[real])  # (n, V)
        losses = F.cross_entropy(logits, ids[:, 1:][real], reduction="none")
        loss = (losses * weights[real]).sum() / weights.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            letters = losses[weights[real] > 1].mean().item()
            print(
                f"step {step:5d}/{steps} | loss {loss.item():.3f} | on letters {letters:.3f}",
                flush=True,
            )
    checkpoint.save_weights(model.state_dict(), folder, shard_bytes=10**9)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description="Rebuild data/toy from its phrases.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--no-model", action="store_true", help="write only the data folders")
    parser.add_argument("--steps", type=int, default=3_000, help="training steps")
    args = parser.parse_args(argv)
    held_out = write_data()
    scorer(TOY / "detection", TOY / "scorer.safetensors", seed=0)
    if not args.no_model:
        write_tokenizer(TOY / "model")
        train_model(TOY / "model", held_out, args.steps)


if __name__ == "__main__":
    main()
