"""Exercise 5. Forty percent of the neurons are toxic. So what?  [paper §4.3, Table 2] (medium)

The paper calls a neuron toxic if its AUROC is above 0.5, and counts: in Llama-3.1 between 17 and 47 % of them, depending on
the language. What would it have counted if the labels meant nothing? Deal the labels to the sentences at random, count again,
and repeat that some hundred times. The middle 95 % of the shares is the *random-label band*. A share inside it is no evidence.

One would expect a narrow band about one half: with a million neurons, chance averages out. It does not, for neurons are not
independent. If all of them respond more to long sentences, one deal that happens to give the long sentences the label "toxic"
puts all neurons above 0.5 at once. It takes care to see this: a deal is one for all neurons, since it is the sentences that
are labelled; and it has to keep how many are toxic.

The share being useless, what is evidence? How far above 0.5 a neuron stands. Take all AUROCs of all neurons under random
labels: 2.5 % of them are above their 97.5 % quantile. The share of neurons whose AUROC with the true labels is above it should
be 2.5 %, too, if nothing is there. Much more of them is what could be called toxic neurons.

minitox.detect.auroc.auroc(responses, labels) gives the AUROC of all neurons, (K,).

    python -m pytest tests/exercises/test_exercise_5_random_labels.py

Afterwards read minitox/detect/controls.py, and the columns "random labels" and "beyond chance" of the tables in README.md. In
which languages is there evidence?
"""


def shuffled_aurocs(
    responses, toxic, rng, deals: int = 200
):  # (K, N) float16, (N,) bool, Generator -> (K, deals)
    """AUROC of every neuron under each of some random deals of the labels."""
    raise NotImplementedError


def band(shuffled) -> tuple[float, float]:  # (K, deals)
    """The middle 95 % of the share of neurons that random labels put above 0.5."""
    raise NotImplementedError


def beyond_chance(aurocs, shuffled) -> float:  # (K,) with the true labels, (K, deals)
    """The share of neurons whose AUROC only 2.5 % of the random ones exceed."""
    raise NotImplementedError
