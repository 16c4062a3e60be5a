"""Exercise 8. Is it better?  [paper §4.2, §4.4, §5.1] (hard)

The paper's main tables give one number a model and language, mean toxicity, the lower the better. Two questions are left open.

Is the difference more than chance? Draw prompts, with replacement, as many as there are, a thousand times; the middle 95 % of
the differences of the means is a bootstrap interval. If it holds 0, the two cannot be told apart. What has to be drawn,
though? Both models replied to the same prompts, and some prompts call for rudeness from any model: what varies from prompt to
prompt cancels only if both are looked at in the same draw. And several replies to one prompt are no several prompts.

Is a lower score a better reply? Nothing is less toxic than an empty reply. A reply in another language than the prompt's may
be one that the scorer does not understand. Of the paper's Llamas the fully tuned one has the lowest mean, and often replies
with nothing, as the paper finds in its analysis. So count what was wanted: replies that say something, in the prompt's
language, which the scorer finds clean. A share of what? Of all replies there are; those that could not be scored are no better
for it.

Use numpy alone.

    python -m pytest tests/exercises/test_exercise_8_verdict.py

Afterwards read minitox/evaluate/metrics.py, then the table "What was found" in README.md: which of its columns would you put
into the abstract? What does the row "random" say about the row "multilingual"?
"""


def difference(
    ours, theirs, rng, draws: int = 1_000
) -> tuple[float, float, float]:  # (n, S), (n, S)
    """Mean toxicity of ours less theirs, S replies to each of n prompts, and the ends of its 95 % bootstrap interval."""
    raise NotImplementedError


def share_wanted(
    replies: list[str], scores: list[float | None], languages: list[str | None], wanted: str
) -> float:
    """The share of replies that are not blank, are in the language `wanted`, and score below 0.5; None: it could not be told."""
    raise NotImplementedError
