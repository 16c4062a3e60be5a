"""What speaks against a pair before people see it: near copies, and the paper's four reasons.  [paper §3.2]"""

import math
from collections import Counter, defaultdict

import numpy as np

from minitox.evaluate import perplexity
from minitox.lm.batching import batches
from minitox.scorers import surrogate

COPY = "near copy"  # of another pair
SHINGLE, NEAR = (
    5,
    0.8,
)  # characters; Jaccard's similarity of two texts' sets of shingles from which they are near copies
OTHERS = 4  # prompts with which a reply's own is compared


def likelihoods(candidate, pairs: list[dict], batch_tokens: int):
    """(perplexity, topic) of each reply. The topic is log p(reply | prompt) less its mean after OTHERS other prompts, in nats.

    This is pointwise mutual information: not above 0, the reply might as well answer another prompt. By SmolLM2-135M-Instruct, an
    English model, the AUC of true pairs against shuffled ones is 0.88 in English, 0.69 in German, 0.65 in Arabic and Chinese,
    0.60 in French (RTP-LX's benign completions, 40 pairs of each language, 14 Arabic); 0 rejects 8 % of the true English pairs
    and 55 % of the shuffled ones, of the German 28 and 53 %. So it is a hint to reviewers, of use where the model speaks the
    language well, and kinder than it should be to what that model wrote itself. Without the instruction before the prompts it is
    worse in English (0.83) and German (0.63).
    """

    def nats(sequences: list[list[int]]):  # -> (sequences,), -log p
        found, sequences = (
            np.zeros(len(sequences)),
            [ids[: candidate.config.longest] for ids in sequences],
        )
        for batch in batches([len(ids) for ids in sequences], batch_tokens):
            found[batch] = perplexity.negative_log_likelihoods(
                candidate.model, [sequences[i] for i in batch]
            )
        return found

    prompts, written = (
        [turn(pair[field]) for pair in pairs]
        for turn, field in (
            (candidate.tokenizer.prompt, "asked"),
            (candidate.tokenizer.reply, "response"),
        )
    )
    alone = nats(prompts)
    own, *others = [
        nats([prompts[i - step] + ids for i, ids in enumerate(written)]) - np.roll(alone, step)
        for step in range(min(OTHERS + 1, len(pairs)))
    ]  # each (pairs,): after the prompt so many places before
    surprise = np.exp(np.minimum(own / [len(ids) for ids in written], 700))
    return zip(
        surprise.tolist(), (np.mean(others, axis=0) - own).tolist() if others else [math.inf]
    )


def judge(pair: dict, language: str | None, median: float) -> tuple[str, str]:
    """The first reason against a pair, or "keep", and what it rests on; `language` is what its reply seems to be written in."""
    reply, parts = pair["response"], shingles(pair["response"])
    reasons = [
        (
            len(reply.encode()) < 15,
            "not fluent",
            "(too short)",
        ),  # a character of a dense script has 3 bytes
        (
            pair["toxicity"] is not None and pair["toxicity"] >= 0.5,
            "toxic",
            f"(score {pair['toxicity']})",
        ),
        (
            language != pair["language"],
            "wrong language",
            f"(looks like {language})",
        ),  # None: too little to tell by, or a mixture
        (not pair["stopped"], "not fluent", "(cut off)"),
        (len(set(parts)) < 0.6 * len(parts), "not fluent", "(repeats itself)"),
        (
            pair["perplexity"] > 5 * median,
            "not fluent",
            f"(perplexity {pair['perplexity']:,.0f}, median {median:,.0f})",
        ),
        (pair["topic"] <= 0, "off topic", f"(by {-pair['topic']:.1f} nats)"),
    ]
    return next(((verdict, why) for holds, verdict, why in reasons if holds), ("keep", ""))


def shingles(text: str) -> list[str]:
    text = surrogate.normalise(text)
    return [text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))]


def near_copies(texts: list[str], known: list[str] = ()) -> list[bool]:
    """Whether each text is a near copy of a known one, or of an earlier one that is none itself.

    Of two near copies, the rarest 1 - NEAR of the one's shingles and of the other's have one in common: only texts with a rare
    shingle in common are compared, none is missed.
    """
    sets = [frozenset(shingles(text)) for text in (*known, *texts)]
    count, seen, copies = (
        Counter(shingle for each in sets for shingle in each),
        defaultdict(set),
        [],
    )
    for number, each in enumerate(sets):
        rare = sorted(each, key=lambda shingle: (count[shingle], shingle))[
            : len(each) - math.ceil(NEAR * len(each)) + 1
        ]
        others = set().union(*(seen[shingle] for shingle in rare))
        copies.append(any(len(each & other) >= NEAR * len(each | other) for other in others))
        for shingle in rare if number < len(known) or not copies[-1] else ():
            seen[shingle].add(each)
    return copies[len(known) :]


def drop_copies(pairs: list[dict]) -> None:
    """Of pairs whose prompts, or whose replies, are near copies, leave one, rather one to keep."""
    for field in ("prompt", "response"):
        left = sorted(
            (pair for pair in pairs if pair["proposal"] != COPY),
            key=lambda pair: pair["proposal"] != "keep",
        )
        for pair, copy in zip(left, near_copies([pair[field] for pair in left])):
            pair |= {"proposal": COPY, "why": f"(of another {field})"} if copy else {}
