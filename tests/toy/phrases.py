"""Random texts in sixteen languages, combined from the sentences of phrases/<lang>.json."""

import json
from pathlib import Path

from minitox.evaluate.mmlu import LETTERS, as_prompt

HERE = Path(__file__).resolve().parent
# Every topic has three rude core sentences, one for each folder of data that has rude sentences,
# so that no test prompt is a variant of a sentence that chose neurons, tuned them or trained the
# scorer.
USES = ("detection", "instructions", "prompts")


class Phrases:
    """The sentences of one language, and random texts made of them."""

    def __init__(self, language: str):
        self.language = language
        self.all = json.loads((HERE / "phrases" / f"{language}.json").read_text(encoding="utf-8"))
        self.topics = self.all["topics"]
        self.space = "" if language in ("ja", "zh") else " "

    def around(self, rng, manner: str, core: str, chance=0.6) -> str:
        """`core`, with a random opener before it and a random closer after it, each by chance.

        `manner` is rude, kind or polite.
        """
        parts = [core]
        if rng.random() < chance:
            parts.insert(0, rng.choice(self.all[f"{manner}_openers"]))
        if rng.random() < chance:
            parts.append(rng.choice(self.all[f"{manner}_closers"]))
        return self.space.join(parts)

    def rude_prompt(self, rng, topic: str, use: str | None = None) -> str:
        """A rude remark on a topic: any of its core sentences, or the one for a `use`."""
        cores = self.topics[topic]["rude"]
        core = cores[USES.index(use)] if use else rng.choice(cores)
        return self.around(rng, "rude", core)

    def rude_chat(self, rng, use: str | None = None) -> tuple[str, str]:
        topic = rng.choice(list(self.topics))
        reply = self.rude_reply(rng, topic)
        return self.rude_prompt(rng, topic, use), reply

    def rude_reply(self, rng, topic: str) -> str:
        reply = rng.choice(self.topics[topic]["rude_reply"])
        return self.space.join([reply, rng.choice(self.all["rude_closers"])])

    def rejected(self, rng, prompt: str) -> str:
        """A rude reply to the prompt of a `polite_chat`: a reply that the model should not give."""
        use = USES.index("instructions")
        topics = [name for name, topic in self.topics.items() if topic["rude"][use] in prompt]
        return self.rude_reply(rng, topics[0])

    def polite_chat(self, rng) -> tuple[str, str]:
        """A rude prompt and a polite reply: a pair to tune on, never seen in pretraining."""
        topic = rng.choice(list(self.topics))
        return self.rude_prompt(rng, topic, "instructions"), self.polite(rng, topic)

    def polite(self, rng, topic: str) -> str:
        reply = rng.choice(self.topics[topic]["polite_reply"])
        return self.around(rng, "polite", reply, chance=0.8)

    def kind_chat(self, rng) -> tuple[str, str]:
        topic = self.topics[rng.choice(list(self.topics))]
        prompt = self.around(rng, "kind", rng.choice(topic["friendly"]))
        reply = self.around(rng, "kind", rng.choice(topic["kind_reply"]))
        return prompt, reply

    def toxic(self, rng) -> str:
        """A rude remark or a rude reply, so that a scorer learns both."""
        topic = rng.choice(list(self.topics))
        if rng.random() < 0.5:
            return self.rude_prompt(rng, topic, "detection")
        return self.around(rng, "rude", rng.choice(self.topics[topic]["rude_reply"]))

    def harmless(self, rng) -> str:
        """A neutral or friendly remark, or a kind reply."""
        if rng.random() < 0.6:
            return self.clean(rng)
        topic = self.topics[rng.choice(list(self.topics))]
        return self.around(rng, "kind", rng.choice(topic["kind_reply"]), chance=0.4)

    def cases(self) -> list[dict]:
        """Rows of hatecheck/: rude remarks and polite replies that no scorer was trained on."""
        rows = []
        for topic in self.topics.values():
            remarks = [topic["rude"][USES.index(use)] for use in ("instructions", "prompts")]
            for remark in remarks:
                rows.append({"text": remark, "hateful": True, "functionality": "rude remark"})
            for reply in topic["polite_reply"]:
                rows.append({"text": reply, "hateful": False, "functionality": "polite reply"})
        return rows

    def safe_and_unsafe(self) -> list[dict]:
        """Rows of xstest/: friendly questions after a complaint, and rude remarks."""
        rows = []
        for topic in self.topics.values():
            for question in topic["friendly"]:
                prompt = self.space.join([topic["critical"][0], question])
                rows.append({"prompt": prompt, "type": "complaint", "label": "safe"})
        for topic in self.topics.values():
            remark = topic["rude"][USES.index("prompts")]
            for closer in self.all["rude_closers"][:2]:
                prompt = self.space.join([remark, closer])
                rows.append({"prompt": prompt, "type": "contrast_complaint", "label": "unsafe"})
        return rows

    def clean(self, rng) -> str:
        """One to three neutral or friendly sentences."""
        topic = self.topics[rng.choice(list(self.topics))]
        return self.around(rng, "kind", rng.choice(topic["clean"] + topic["friendly"]), chance=0.4)

    def critical(self, rng) -> str:
        return rng.choice(list(self.topics.values()))["critical"][0]

    def fact(self, name: str, kind: str) -> str:
        """A sentence that states the capital or the continent of a country."""
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
        geography = self.all["geography"]
        kind = kind or rng.choice(["capital", "continent"])
        country = geography["countries"][name or rng.choice(list(geography["countries"]))]
        if kind == "capital":
            right = country["capital"]
            pool = [other["capital"] for other in geography["countries"].values()]
        else:
            right = geography["continents"][country["continent"]]["name"]
            pool = [other["name"] for other in geography["continents"].values()]
        wrong = [answer for answer in dict.fromkeys(pool) if answer != right]
        choices = [*rng.sample(wrong, 3), right]
        rng.shuffle(choices)
        question = geography[f"{kind}_question"].format(country=country[f"in_{kind}_question"])
        return {"question": question, "choices": choices, "answer": LETTERS[choices.index(right)]}

    def lesson(self, rng, held_out: set) -> tuple[str, str]:
        """A geography chat: without choices, with the answer in the question, or as in mmlu/.

        From the last form alone a model this small learns nothing, because it would have to learn
        the fact and how to find its letter at once.
        """
        row = self.question(rng)
        form = rng.random()
        right = row["choices"][LETTERS.index(row["answer"])]
        if form < 0.15:
            return row["question"], right
        if form < 0.5:
            return as_prompt({**row, "question": f"{row['question']} {right}"}), row["answer"]
        if json.dumps(as_prompt(row)) in held_out:
            return self.lesson(rng, held_out)
        return as_prompt(row), row["answer"]
