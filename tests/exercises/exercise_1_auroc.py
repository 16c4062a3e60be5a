"""Exercise 1. How well does a neuron separate toxic from clean text?  [paper §3.1] (easy)

A neuron gives each of N sentences one number, its response. Each sentence is labelled toxic or
clean. The neuron's AUROC is the probability that a randomly drawn toxic sentence gets a larger
response than a randomly drawn clean one. An AUROC of 1 means that the neuron separates the two
classes without error, 0 that it does so with the sign reversed, and 0.5 that its response carries
no information. The paper calls a neuron toxic if its AUROC is above 0.5.

There are two traps:

1. Ties. Responses are 16-bit numbers, so many of several thousand responses are equal. How you
   count a pair of equal responses decides whether a neuron without information ends up above or
   below 0.5. Count such a pair as one half.
2. Size. The definition compares N² / 4 pairs: 25 million for the paper's 10,000 sentences, and
   that for each of a million neurons. So do not form the pairs. If all responses are sorted, at
   which position does a toxic sentence stand, and how many clean ones stand before it?

Use only numpy. Run the tests with

    python -m pytest tests/exercises/test_exercise_1_auroc.py

Afterwards read minitox/detect/auroc.py: `auroc_by_definition` counts the pairs, `midranks` does
without them, for many neurons at once.
"""


def auroc(responses, toxic) -> float:  # (N,) float16, (N,) bool
    """The share of (toxic, clean) pairs whose toxic response is the larger; a tie counts half."""
    raise NotImplementedError
