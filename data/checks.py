"""Automatic checks that propose a verdict on each pair before people review it.  [paper §3.2]

The verdict is to keep the pair, to drop it as a near copy of another, or one of the paper's four
reasons to reject it: toxic, off topic, not fluent, wrong language.
"""

from collections import Counter, defaultdict
from itertools import chain

import numpy as np

from minitox.errors import user_errors
from minitox.evaluate import perplexity
from minitox.lm.batching import batches
from minitox.overlap import are_near, rarest, shingles
from minitox.spelling import normalise

# DEVIATION: the paper has four reasons to drop a pair; ours drops near copies as well
COPY = "near copy"  # the verdict on a pair whose prompt or reply is a near copy of another pair's
OTHERS = 4  # other prompts that a reply is scored against
LEAST_BYTES = 15  # of a reply; a character of a dense script, such as Chinese, has 3 bytes
TOXIC = 0.5  # score from which a reply is toxic
LEAST_VARIED = 0.6  # share of a reply's shingles that must differ from each other
TIMES_MEDIAN = 5  # perplexity of a fluent reply, at most, relative to the language's median


def likelihoods(
    candidate,
    pairs,  # "asked": the instruction and the hateful prompt; "response": the reply
    batch_tokens: int,
) -> list[tuple]:
    """Compute (perplexity, topic score) of each pair's reply.

    The topic score is log p(reply | its prompt) minus the mean log p(reply | prompt) over OTHERS
    other prompts, in nats; None if there are no others. This is pointwise mutual information: at 0
    or below, the reply fits other prompts as well as its own.

    With SmolLM2-135M-Instruct, an English model, the AUC of true pairs against shuffled ones is
    0.88 in English, 0.69 in German, 0.65 in Arabic and Chinese, and 0.60 in French (RTP-LX's benign
    completions, 40 pairs per language, 14 in Arabic). A threshold of 0 rejects 8 % of the true and
    55 % of the shuffled English pairs, and 28 % and 53 % of the German ones. The score is therefore
    only a hint to reviewers. It is useful where the model speaks the language well, and it is too
    lenient on replies that the same model wrote. Without the instruction before the prompts it is
    worse in English (0.83) and German (0.63).
    """
    # 1) token ids
    longest = candidate.config.longest
    prompts = [candidate.tokenizer.prompt(pair["asked"], longest) for pair in pairs]
    replies = [candidate.tokenizer.reply(pair["response"], longest) for pair in pairs]

    # 2) -log p of each reply after its own prompt (step 0), and after those of the pairs before it
    alone = nats(candidate, prompts, batch_tokens)  # (pairs,), each prompt's own share
    surprises = []
    for step in range(min(OTHERS + 1, len(pairs))):
        joined = [prompts[i - step] + reply for i, reply in enumerate(replies)]
        surprises.append(nats(candidate, joined, batch_tokens) - np.roll(alone, step))
    own, *others = surprises  # (pairs,) each

    # 3) per token for the perplexity, relative to the other prompts for the topic
    lengths = [len(reply) for reply in replies]
    perplexities = np.exp(np.minimum(own / lengths, 700))  # exp overflows above 709
    # a single pair has no other prompts to be compared with
    topics = (np.mean(others, axis=0) - own).tolist() if others else [None]
    return list(zip(perplexities.tolist(), topics, strict=True))


def nats(candidate, sequences, batch_tokens):  # token ids of each -> (sequences,) float64
    """Compute -log p of each sequence given its first token, cut at the model's longest input."""
    cut = [ids[: candidate.config.longest] for ids in sequences]
    losses = np.zeros(len(cut))
    for batch in batches([len(ids) for ids in cut], batch_tokens):
        part = [cut[i] for i in batch]
        with user_errors():
            losses[batch] = perplexity.negative_log_likelihoods(candidate.model, part)
    return losses


def judge(
    pair: dict,
    language: str | None,  # detected in the reply; None if it is too short or mixed
    median: float,  # perplexity of all replies in the pair's language
) -> tuple[str, str]:
    """Return (verdict, explanation): "keep", or the first reason to reject the pair."""
    score = pair["toxicity"]  # None if the scorer failed
    parts = shingles(normalise(pair["response"]))
    surprise = pair["perplexity"]
    if len(pair["response"].encode()) < LEAST_BYTES:
        return "not fluent", "(too short)"
    if score is not None and score >= TOXIC:
        return "toxic", f"(score {score})"
    if language != pair["language"]:
        return "wrong language", f"(looks like {language})"
    if not pair["stopped"]:  # the token limit came before the end-of-text token
        return "not fluent", "(cut off)"
    if len(set(parts)) < LEAST_VARIED * len(parts):
        return "not fluent", "(repeats itself)"
    if surprise > TIMES_MEDIAN * median:
        return "not fluent", f"(perplexity {surprise:,.0f}, median {median:,.0f})"
    if pair["topic"] is not None and pair["topic"] <= 0:
        return "off topic", f"(by {-pair['topic']:.1f} nats)"
    return "keep", ""


def near_copies(texts: list[str]) -> list[bool]:
    """Return for each text whether it is a near copy of an earlier one that is not a copy itself.

    Prefix filtering finds every near copy without comparing all texts: if the shingles of two texts
    are sorted from rare to frequent, near copies share a shingle among the first 1 - NEAR of both.
    """
    sets = [frozenset(shingles(normalise(text))) for text in texts]

    # 1) how many texts contain each shingle
    count = Counter(chain.from_iterable(sets))

    # 2) compare each text with the originals before it that share one of its rare shingles
    originals = defaultdict(set)  # rare shingle -> the shingle sets of originals
    copies = []
    for parts in sets:
        rare = rarest(parts, count.get)
        alike = set().union(*(originals[shingle] for shingle in rare))
        is_copy = any(are_near(len(parts & other), len(parts), len(other)) for other in alike)
        copies.append(is_copy)
        if not is_copy:
            for shingle in rare:
                originals[shingle].add(parts)
    return copies


def drop_copies(pairs):
    """Propose COPY for all but one of the pairs with nearly the same prompt or the same reply.

    A pair that is proposed to be kept is preferred as the one that stays.
    """
    for field in ("prompt", "response"):
        left = [pair for pair in pairs if pair["proposal"] != COPY]
        left.sort(key=lambda pair: pair["proposal"] != "keep")  # stable: those to keep come first
        copies = near_copies([pair[field] for pair in left])
        for pair, is_copy in zip(left, copies, strict=True):
            if is_copy:
                pair["proposal"] = COPY
                pair["why"] = f"(of another {field})"
