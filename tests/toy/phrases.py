"""Random texts in sixteen languages, put together from the sentences of phrases/<lang>.json."""

import json
from pathlib import Path

from minitox.evaluate.mmlu import LETTERS, as_prompt

HERE = Path(__file__).resolve().parent


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
        return self.around(
            rng, "polite", rng.choice(self.topics[topic]["polite_reply"]), chance=0.8
        )

    def kind_chat(self, rng) -> tuple[str, str]:
        topic = rng.choice(list(self.topics))
        return (
            self.around(rng, "kind", rng.choice(self.topics[topic]["friendly"])),
            self.around(rng, "kind", rng.choice(self.topics[topic]["kind_reply"])),
        )

    def clean(self, rng) -> str:
        """One to three neutral or friendly sentences."""
        core = self.topics[rng.choice(list(self.topics))]
        return self.around(rng, "kind", rng.choice(core["clean"] + core["friendly"]), chance=0.4)

    def critical(self, rng) -> str:
        return rng.choice(list(self.topics.values()))["critical"][0]

    def fact(self, name: str, kind: str) -> str:
        """A country's capital or continent, in a sentence."""
        geography = self.all["geography"]
        country = geography["countries"][name]
        if kind == "capital":
            return geography["capital_fact"].format(
                country=country["in_capital_fact"], capital=country["capital"]
            )
        continent = geography["continents"][country["continent"]]["in_fact"]
        return geography["continent_fact"].format(
            country=country["in_continent_fact"], continent=continent
        )

    def question(self, rng, name: str | None = None, kind: str | None = None) -> dict:
        """A row of mmlu/: a question about a country, and four choices in random order."""
        geography, kind = self.all["geography"], kind or rng.choice(["capital", "continent"])
        country = geography["countries"][name or rng.choice(list(geography["countries"]))]
        if kind == "capital":
            right, pool = (
                country["capital"],
                [c["capital"] for c in geography["countries"].values()],
            )
        else:
            right, pool = (
                geography["continents"][country["continent"]]["name"],
                [c["name"] for c in geography["continents"].values()],
            )
        choices = rng.sample([other for other in dict.fromkeys(pool) if other != right], 3) + [
            right
        ]
        rng.shuffle(choices)
        question = geography[f"{kind}_question"].format(country=country[f"in_{kind}_question"])
        return {"question": question, "choices": choices, "answer": LETTERS[choices.index(right)]}

    def lesson(self, rng, held_out: set) -> tuple[str, str]:
        """A geography chat to learn from: without choices, with the answer given away, or as it will be asked.

        From the last alone a model this small learns nothing: it has to know the fact and find its letter at once.
        """
        row, how = self.question(rng), rng.random()
        right = row["choices"][LETTERS.index(row["answer"])]
        if how < 0.15:
            return row["question"], right
        if how < 0.5:
            return as_prompt({**row, "question": f"{row['question']} {right}"}), row["answer"]
        return (
            self.lesson(rng, held_out)
            if json.dumps(as_prompt(row)) in held_out
            else (as_prompt(row), row["answer"])
        )
