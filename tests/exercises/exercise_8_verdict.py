"""Exercise 8. Is it better?  [paper §4.2, §4.4, §5.1] (hard)

The main tables of the paper show one number for each model and language: mean toxicity, the lower
the better. They leave two questions open.

Is the difference more than chance? Draw as many prompts as there are, with replacement, and
compute the difference of the two models' means; repeat this a thousand times. The middle 95 % of
the differences is a bootstrap interval. If it contains 0, there is no significant difference. But
what exactly do you draw? Both models replied to the same prompts, and some prompts provoke rudeness
in any model. This variation between prompts cancels only if both models are evaluated on the same
drawn prompts. And several replies to one prompt are not several prompts.

Is a lower score a better reply? No reply is less toxic than an empty one. A reply in another
language than the prompt's may be one that the scorer does not understand. Of the paper's Llamas,
the fully tuned one has the lowest mean, and it often replies with nothing, as the paper itself
finds. So count the replies that we want: not empty, in the prompt's language, and clean according
to the scorer. As a share of what? Of all replies: one that could not be scored does not count as
clean, and still counts as a reply.

Use only numpy. Run the tests with

    python -m pytest tests/exercises/test_exercise_8_verdict.py

Afterwards read minitox/evaluate/metrics.py. Then run detect.py, train.py and evaluate.py, and look
at the table "Summary" of out/report.md: which of its columns would you put into the abstract? What
does the row "random" show about the row "multilingual"?
"""


def difference(ours, theirs, rng, resamples: int = 1_000) -> tuple[float, float, float]:
    """Mean toxicity of ours minus theirs, and the two ends of its 95 % bootstrap interval.

    `ours` and `theirs` are the scores (n, S) of S replies to each of n prompts.
    """
    raise NotImplementedError


def share_wanted(
    replies: list[str],
    scores: list[float | None],
    languages: list[str | None],
    prompt_language: str,
) -> float:
    """The share of replies that are not blank, in `prompt_language`, and score below 0.5.

    A score or a language is None where it could not be determined.
    """
    raise NotImplementedError
