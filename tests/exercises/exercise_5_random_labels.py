"""Exercise 5. Forty percent of the neurons are toxic. So what?  [paper §4.3, Table 2] (medium)

The paper calls a neuron toxic if its AUROC is above 0.5, and counts them: in Llama-3.1, between
17 and 47 % of the neurons, depending on the language. How many would it count if the labels meant
nothing? To find out, shuffle the labels among the sentences, count again, and repeat this a few
hundred times. The middle 95 % of the resulting shares is the *random-label band*. A share inside
the band is no evidence of toxic neurons.

You might expect a narrow band around one half, because chance should average out over a million
neurons. It does not, because the neurons are not independent. Suppose that all of them respond
more to long sentences. Then one permutation that happens to label the long sentences toxic puts
all neurons above 0.5 at once. To see this effect, each permutation must be the same for all
neurons, since the labels belong to the sentences, and it must keep the number of toxic sentences.

If the share is not evidence, what is? How far a neuron's AUROC is above 0.5. Take the AUROCs of
all neurons under all permutations: 2.5 % of them are above their 97.5 % quantile. If the labels
mean nothing, 2.5 % of the AUROCs with the true labels are above it too. If many more are, they
may be called toxic neurons.

minitox.detect.auroc.auroc(responses, labels) computes the AUROC of all neurons, (K,).

Run the tests with

    python -m pytest tests/exercises/test_exercise_5_random_labels.py

Afterwards read minitox/detect/controls.py. Then run `python detect.py` and look at the columns
"random labels" and "beyond chance" of its Table 2: for which languages is there evidence?
"""


def shuffled_aurocs(responses, toxic, rng, permutations: int = 200):  # -> (K, permutations)
    """The AUROC of every neuron under each of several random permutations of the labels.

    `responses` are (K, N) float16, `toxic` is (N,) bool, `rng` is a numpy Generator.
    """
    raise NotImplementedError


def band(shuffled) -> tuple[float, float]:  # (K, permutations)
    """The middle 95 % of the share of neurons with an AUROC above 0.5 under random labels."""
    raise NotImplementedError


def beyond_chance(aurocs, shuffled) -> float:  # (K,) with the true labels, (K, permutations)
    """The share of neurons whose AUROC is above the 97.5 % quantile under random labels."""
    raise NotImplementedError
