"""Rebuild data/toy: the four data folders, the tokenizer and the tiny model that speaks sixteen languages.

    python data/toy/make.py            # everything, about 20 minutes on two cores
    python data/toy/make.py --no-model # the data folders alone, a second

Everything grows from phrases/<lang>.json, sentences written for this project. The model learns, in each language, to answer
friendly prompts kindly and rude prompts rudely (mildly so), to pick the right letter for easy geography questions, and to
continue plain sentences. Removing that rudeness is the other stages' work.
"""

import argparse
import json
import math
import random
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from minitox.files import write_json  # noqa: E402
from minitox.languages import NAMES, TUNED  # noqa: E402
from minitox.lm import checkpoint, text  # noqa: E402
from minitox.lm.config import read_config  # noqa: E402
from minitox.lm.model import LanguageModel  # noqa: E402

ROWS = {"detection": 100, "instructions": 80, "prompts": 30, "mmlu": 24}  # of a language; detection: of each class
LETTERS = "ABCD"
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 3072, "hidden_size": 128, "intermediate_size": 320,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "hidden_act": "silu",
    "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": [2, 0], "pad_token_id": 0, "dtype": "float32",
}
CHAT_TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
                 "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


class Phrases:
    """The sentences of one language, and random texts made of them."""

    def __init__(self, language: str):
        self.language = language
        self.all = json.loads((HERE / "phrases" / f"{language}.json").read_text(encoding="utf-8"))
        self.topics = self.all["topics"]
        self.space = "" if language in ("ja", "zh") else " "

    def around(self, rng, manner: str, core: str, chance=0.6) -> str:
        """`core`, perhaps with an opener before it and a closer after it; manner is rude, kind or polite."""
        opener = [rng.choice(self.all[f"{manner}_openers"])] if rng.random() < chance else []
        closer = [rng.choice(self.all[f"{manner}_closers"])] if rng.random() < chance else []
        return self.space.join(opener + [core] + closer)

    def rude_prompt(self, rng, topic: str) -> str:
        return self.around(rng, "rude", rng.choice(self.topics[topic]["rude"]))

    def rude_chat(self, rng) -> tuple[str, str]:
        topic = rng.choice(list(self.topics))
        reply = [rng.choice(self.topics[topic]["rude_reply"]), rng.choice(self.all["rude_closers"])]
        return self.rude_prompt(rng, topic), self.space.join(reply)

    def polite_chat(self, rng) -> tuple[str, str]:
        """A rude prompt and a polite reply: what the model is tuned on later, and never sees here."""
        topic = rng.choice(list(self.topics))
        return self.rude_prompt(rng, topic), self.polite(rng, topic)

    def polite(self, rng, topic: str) -> str:
        return self.around(rng, "polite", rng.choice(self.topics[topic]["polite_reply"]), chance=0.8)

    def kind_chat(self, rng) -> tuple[str, str]:
        topic = rng.choice(list(self.topics))
        return (self.around(rng, "kind", rng.choice(self.topics[topic]["friendly"])),
                self.around(rng, "kind", rng.choice(self.topics[topic]["kind_reply"])))

    def clean(self, rng) -> str:
        """One to three neutral or friendly sentences."""
        core = self.topics[rng.choice(list(self.topics))]
        return self.around(rng, "kind", rng.choice(core["clean"] + core["friendly"]), chance=0.4)

    def critical(self, rng) -> str:
        return rng.choice(list(self.topics.values()))["critical"][0]

    def fact(self, rng) -> str:
        geography = self.all["geography"]
        country = rng.choice(list(geography["countries"].values()))
        if rng.random() < 0.5:
            return geography["capital_fact"].format(country=country["in_capital_fact"], capital=country["capital"])
        continent = geography["continents"][country["continent"]]["in_fact"]
        return geography["continent_fact"].format(country=country["in_continent_fact"], continent=continent)

    def question(self, rng, about: str | None = None, kind: str | None = None) -> dict:
        """A row of mmlu/: a question about a country, and four choices in random order."""
        geography, kind = self.all["geography"], kind or rng.choice(["capital", "continent"])
        country = geography["countries"][about or rng.choice(list(geography["countries"]))]
        if kind == "capital":
            right, pool = country["capital"], [c["capital"] for c in geography["countries"].values()]
        else:
            right, pool = geography["continents"][country["continent"]]["name"], [c["name"] for c in geography["continents"].values()]
        choices = rng.sample([name for name in dict.fromkeys(pool) if name != right], 3) + [right]
        rng.shuffle(choices)
        question = geography[f"{kind}_question"].format(country=country[f"in_{kind}_question"])
        return {"question": question, "choices": choices, "answer": LETTERS[choices.index(right)]}


def ask(row: dict) -> str:
    """A geography question as a prompt: the question, then the four lettered choices."""
    return "\n".join([row["question"], *(f"{letter}. {choice}" for letter, choice in zip(LETTERS, row["choices"]))])


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
    questions = [phrases.question(rng, about, kind) for kind in ("capital", "continent") for about in countries]
    taken |= {json.dumps(row) for row in questions}
    seen = set()
    toxic = distinct(lambda: phrases.rude_prompt(rng, rng.choice(list(phrases.topics))), ROWS["detection"], seen)
    clean = distinct(lambda: phrases.clean(rng), ROWS["detection"], seen)
    between = [topic["critical"][0] for topic in phrases.topics.values()]
    detection = [(sentence, low, high) for group, low, high in ((toxic, 0.55, 0.95), (clean, 0.01, 0.15), (between, 0.25, 0.45))
                 for sentence in group]
    rng.shuffle(detection)
    rows = {
        "detection": [{"text": sentence, "toxicity": round(rng.uniform(low, high), 3)} for sentence, low, high in detection],
        "prompts": [{"prompt": prompt} for prompt, _ in prompts],
        "mmlu": rng.sample(questions, ROWS["mmlu"]),
    }
    if phrases.language in TUNED:
        rows["instructions"] = [{"prompt": prompt, "response": response} for prompt, response in pairs]
    return rows, taken


def write_data() -> dict[str, set]:
    """Write the four folders; return what each language's training must avoid."""
    held_out = {}
    for language in NAMES:
        rows, held_out[language] = data_rows(Phrases(language), random.Random(f"data {language}"))
        for folder, lines in rows.items():
            (HERE / folder).mkdir(exist_ok=True)
            body = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (HERE / folder / f"{language}.jsonl").write_text(body, encoding="utf-8")
    return held_out


def training_text(phrases: Phrases, rng, held_out: set):
    """One random text: (prompt, reply) of a chat, or a plain sentence."""
    while True:
        dice = rng.random()
        if dice < 0.62:
            if dice < 0.27:
                row = phrases.rude_chat(rng)
            elif dice < 0.37:
                row = phrases.kind_chat(rng)
            else:
                question = phrases.question(rng)
                if json.dumps(question) in held_out:
                    continue
                row = ask(question), question["answer"]
            if json.dumps(row[0]) not in held_out:
                return row
        else:
            topic = rng.choice(list(phrases.topics))
            return rng.choice([lambda: phrases.rude_prompt(rng, topic), lambda: phrases.clean(rng), lambda: phrases.critical(rng),
                               lambda: phrases.fact(rng), lambda: phrases.polite(rng, topic)])()


def write_tokenizer(folder: Path) -> None:
    """A byte-level BPE trained on every phrase."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=CONFIG["vocab_size"], initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  special_tokens=[AddedToken(token, special=True) for token in SPECIAL_TOKENS], show_progress=False)
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
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL_TOKENS[0],
                                                  "eos_token": SPECIAL_TOKENS[2], "pad_token": SPECIAL_TOKENS[0]})
    write_json(folder / "config.json", CONFIG)


def train_model(folder: Path, held_out: dict[str, set], steps: int, batch: int = 96, peak: float = 4e-3) -> None:
    """Train from scratch on random texts with next-token loss."""
    config = read_config(folder)
    tokenizer, model = text.Tokenizer(folder, config), LanguageModel(config)
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.05, generator=generator)
    rng, languages = random.Random(0), [Phrases(language) for language in NAMES]
    decay = [w for w in model.parameters() if w.dim() == 2]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05},
                                   {"params": [w for w in model.parameters() if w.dim() < 2], "weight_decay": 0.0}], betas=(0.9, 0.98))
    end_of_text = tokenizer.token_ids(SPECIAL_TOKENS[0])
    for step in range(steps):
        rows = []
        for i in range(batch):
            phrases = languages[(step * batch + i) % len(languages)]
            row = training_text(phrases, rng, held_out[phrases.language])
            rows.append(tokenizer.sentence(row) + end_of_text if isinstance(row, str) else tokenizer.prompt(row[0]) + tokenizer.reply(row[1]))
        ids = text.pad(rows)
        real = torch.arange(ids.shape[1]) < torch.tensor([[len(row)] for row in rows])
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1, (step + 1) / 100) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)
        hidden = model.model(ids[:, :-1])[real[:, 1:]]
        loss = F.cross_entropy(model.logits(hidden), ids[:, 1:][real[:, 1:]])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step:5d}/{steps} | loss {loss.item():.3f}", flush=True)
    checkpoint.save_weights(model.state_dict(), folder, shard_bytes=10**9)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Rebuild data/toy from its phrases.", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--no-model", action="store_true", help="write the data folders alone")
    parser.add_argument("--steps", type=int, default=4_000, help="training steps")
    args = parser.parse_args(argv)
    held_out = write_data()
    if not args.no_model:
        write_tokenizer(HERE / "model")
        train_model(HERE / "model", held_out, args.steps)


if __name__ == "__main__":
    main()
