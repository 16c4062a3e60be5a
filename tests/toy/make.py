"""Rebuild data/toy: the four data folders, the tokenizer and the tiny model that speaks sixteen languages.

    python tests/toy/make.py            # everything, about 20 minutes on two cores
    python tests/toy/make.py --no-model # the data folders alone, a second

Everything grows from phrases/<lang>.json, sentences written for this project. The model learns, in each language, to answer
friendly prompts kindly and rude prompts rudely (mildly so), to pick the right letter for easy geography questions, and to
continue plain sentences. Removing that rudeness is the other stages' work.
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
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from phrases import Phrases  # noqa: E402

from minitox.evaluate.mmlu import as_prompt  # noqa: E402
from minitox.files import write_json  # noqa: E402
from minitox.languages import NAMES, TUNED  # noqa: E402
from minitox.lm import checkpoint, text  # noqa: E402
from minitox.lm.config import read_config  # noqa: E402
from minitox.lm.model import LanguageModel  # noqa: E402

ROWS = {
    "detection": 100,
    "instructions": 80,
    "prompts": 30,
    "mmlu": 24,
}  # of a language; detection: of each class
LESSONS_FIRST = 800  # steps: finding the right letter takes long to learn, and then stays
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
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def distinct(make, count: int, taken: set) -> list:
    """`count` results of make(), no two alike and none in `taken`, to which they are added."""
    rows = []
    while len(rows) < count:
        row = make()
        key = json.dumps(row if not isinstance(row, tuple) else row[0])  # of a chat, the prompt
        if key not in taken:
            taken.add(key)
            rows.append(row)
    return rows


def data_rows(phrases: Phrases, rng) -> tuple[dict[str, list[dict]], set]:
    """The rows of a language's four files, and the prompts and questions that the model must not be trained on."""
    taken = set()
    pairs = distinct(lambda: phrases.polite_chat(rng), ROWS["instructions"], taken)
    prompts = distinct(lambda: phrases.rude_chat(rng), ROWS["prompts"], taken)
    countries = list(phrases.all["geography"]["countries"])
    questions = [
        phrases.question(rng, about, kind)
        for kind in ("capital", "continent")
        for about in countries
    ]
    taken |= {json.dumps(as_prompt(row)) for row in questions}
    seen = set()
    toxic = distinct(
        lambda: phrases.rude_prompt(rng, rng.choice(list(phrases.topics))), ROWS["detection"], seen
    )
    clean = distinct(lambda: phrases.clean(rng), ROWS["detection"], seen)
    between = [topic["critical"][0] for topic in phrases.topics.values()]
    detection = [
        (sentence, low, high)
        for group, low, high in ((toxic, 0.55, 0.95), (clean, 0.01, 0.15), (between, 0.25, 0.45))
        for sentence in group
    ]
    rng.shuffle(detection)
    rows = {
        "detection": [
            {"text": sentence, "toxicity": round(rng.uniform(low, high), 3)}
            for sentence, low, high in detection
        ],
        "prompts": [{"prompt": prompt} for prompt, _ in prompts],
        "mmlu": rng.sample(questions, ROWS["mmlu"]),
    }
    if phrases.language in TUNED:
        rows["instructions"] = [
            {"prompt": prompt, "response": response} for prompt, response in pairs
        ]
    return rows, taken


def write_data() -> dict[str, set]:
    """Write the four folders; return what each language's training must avoid."""
    held_out = {}
    for language in NAMES:
        rows, held_out[language] = data_rows(Phrases(language), random.Random(f"data {language}"))
        for folder, lines in rows.items():
            (TOY / folder).mkdir(exist_ok=True)
            body = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (TOY / folder / f"{language}.jsonl").write_text(body, encoding="utf-8")
    return held_out


def training_text(phrases: Phrases, rng, held_out: set, lessons: float = 0.35):
    """One random text: (prompt, reply) of a chat, or a plain sentence; the given share are geography lessons."""
    if rng.random() < lessons:
        return phrases.lesson(rng, held_out)
    dice, topic = rng.random(), rng.choice(list(phrases.topics))
    if dice < 0.55:
        row = phrases.rude_chat(rng) if dice < 0.38 else phrases.kind_chat(rng)
        return training_text(phrases, rng, held_out, 0.0) if json.dumps(row[0]) in held_out else row
    geography = phrases.all["geography"]["countries"]
    return rng.choice(
        [
            lambda: phrases.rude_prompt(rng, topic),
            lambda: phrases.clean(rng),
            lambda: phrases.critical(rng),
            lambda: phrases.fact(rng.choice(list(geography)), rng.choice(["capital", "continent"])),
            lambda: phrases.polite(rng, topic),
        ]
    )()


def write_tokenizer(folder: Path) -> None:
    """A byte-level BPE trained on every phrase."""
    tokenizer = Tokenizer(models.BPE())
    words = Regex(
        r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+"
    )  # vowel signs (M) are part of a Hindi word
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
        phrases, rng = Phrases(language), random.Random(f"tokenizer {language}")
        for _ in range(1_500):
            row = training_text(phrases, rng, set())
            texts.append(row if isinstance(row, str) else "\n".join(row))
    tokenizer.train_from_iterator(texts, trainer)
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL_TOKENS[0],
            "eos_token": SPECIAL_TOKENS[2],
            "pad_token": SPECIAL_TOKENS[0],
        },
    )
    write_json(folder / "config.json", CONFIG)


def token_batches(tokenizer, held_out: dict[str, set], size: int, window: int = 16):
    """Yield batches of (token ids, weight of each in the loss); texts of similar length go together, to spare padding."""
    rng, languages = random.Random(0), [Phrases(language) for language in NAMES]
    end_of_text = tokenizer.token_ids(SPECIAL_TOKENS[0])
    for round in itertools.count():
        rows, lessons = [], 0.9 if round * window < LESSONS_FIRST else 0.3
        for i in range(size * window):
            phrases = languages[i % len(languages)]
            row = training_text(phrases, rng, held_out[phrases.language], lessons)
            if isinstance(row, str):
                ids = tokenizer.sentence(row) + end_of_text
                rows.append((ids, [1.0] * len(ids)))
                continue
            prompt, reply = tokenizer.prompt(row[0]), tokenizer.reply(row[1])
            if (
                len(reply) == 2
            ):  # the letter and the end of the turn; the choices before it are random, and not worth learning
                rows.append((prompt + reply, [0.0] * len(prompt) + [8.0, 1.0]))
            else:
                rows.append((prompt + reply, [1.0] * len(prompt + reply)))
        rows.sort(key=lambda row: len(row[0]))
        cuts = list(range(0, len(rows), size))
        rng.shuffle(cuts)
        yield from (rows[cut : cut + size] for cut in cuts)


def train_model(
    folder: Path, held_out: dict[str, set], steps: int, batch: int = 48, peak: float = 3e-3
) -> None:
    """Train from scratch on random texts with next-token loss."""
    config = read_config(folder)
    tokenizer, model = text.Tokenizer(folder, config), LanguageModel(config)
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.08, generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.02)
    for step, rows in zip(range(steps), token_batches(tokenizer, held_out, batch)):
        ids = text.pad([ids for ids, _ in rows])
        weights = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(weights) for _, weights in rows], batch_first=True
        )[:, 1:]
        real = weights > 0
        for group in optimizer.param_groups:
            group["lr"] = (
                peak
                * min(1, (step + 1) / 100)
                * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)
            )
        logits = model.logits(model.model(ids[:, :-1])[real])
        losses = F.cross_entropy(logits, ids[:, 1:][real], reduction="none")
        loss = (losses * weights[real]).sum() / weights.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            letters = losses[weights[real] > 1]
            print(
                f"step {step:5d}/{steps} | loss {loss.item():.3f} | on letters {letters.mean().item():.3f}",
                flush=True,
            )
    checkpoint.save_weights(model.state_dict(), folder, shard_bytes=10**9)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description="Rebuild data/toy from its phrases.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--no-model", action="store_true", help="write the data folders alone")
    parser.add_argument("--steps", type=int, default=3_000, help="training steps")
    args = parser.parse_args(argv)
    held_out = write_data()
    if not args.no_model:
        write_tokenizer(TOY / "model")
        train_model(TOY / "model", held_out, args.steps)


if __name__ == "__main__":
    main()
