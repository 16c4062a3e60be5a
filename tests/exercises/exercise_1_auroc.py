"""Exercise 1. How well does a neuron tell toxic from clean?  [paper §3.1] (easy)

A neuron is shown N sentences. To each it gives one number, its response, and each sentence is known to be toxic or clean. Its
AUROC is the probability that a toxic sentence, drawn at random, gets a larger response than a clean one, drawn at random. 1
means that it tells them apart without an error, 0 that it does so with the sign turned, 0.5 that it knows nothing. The paper
calls a neuron toxic if its AUROC is above 0.5.

Two traps. Responses are 16-bit numbers, so among thousands of sentences many are equal, and what an equal pair counts as
decides on which side of 0.5 a neuron falls that knows nothing: here it counts one half. And the definition compares N² / 4
pairs: 25 million for the paper's 10,000 sentences, for each of a million neurons. So do not write the pairs down. Where does a
toxic sentence stand when all responses are sorted? How many clean ones stand before it?

Use numpy alone, and run

    python -m pytest tests/exercises/test_exercise_1_auroc.py

Afterwards read minitox/detect/auroc.py: `midranks` is the definition, `auroc` the same for many neurons at once, several times
as fast.
"""


def auroc(responses, toxic) -> float:  # (N,) float16, (N,) bool
    """The share of pairs of a toxic and a clean sentence in which the toxic one has the larger response; ties count half."""
    raise NotImplementedError
