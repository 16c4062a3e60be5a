"""Exercise 4. Why did max-pooling choose these neurons?  [paper §3.1, Table 2] (medium)

A neuron gives a number to every token, but a sentence is labelled whole, so the numbers are pooled into one. The paper does
not say how. The code it builds on takes the maximum. Two things go wrong with that, one in the code and one in the idea.

The code. Sentences of a batch are padded to one length, and a padded position has outputs like any other. So has the BOS,
which is the same in every sentence, and in real models is often the largest of all. Neither may be pooled. Mind that all
outputs of a neuron may be negative, and that a mean is over the words there are.

The idea. The maximum of more numbers is larger, whatever they say. Let clean sentences be longer than toxic ones, and nearly
every neuron responds more to the clean ones, so that few count as toxic; turn it round, and nearly all do. The share of toxic
neurons, which the paper compares across languages, is then a fact about the lengths of the data. The last test shows this with
random numbers. The mean does not grow with the length. Or one takes length out of the data: of every length, as many toxic as
clean sentences.

    python -m pytest tests/exercises/test_exercise_4_pooling.py

Afterwards read minitox/detect/responses.py and match_lengths in minitox/detect/controls.py, then the columns "AUROC(length)"
and "toxic neurons" of the first table in README.md: which languages would you believe? Try `python detect.py --pool mean --out
out/mean`.
"""


def pool_max(output, lengths):  # (B, T, R) float tensor, (B,) integer tensor -> (B, R)
    """The largest output over a sentence's words. Each begins with a BOS, which is no word but counts in its length."""
    raise NotImplementedError


def pool_mean(output, lengths):  # (B, T, R), (B,) -> (B, R)
    """The mean output over a sentence's words."""
    raise NotImplementedError


def match_lengths(lengths, toxic, rng):  # (N,) integers, (N,) bool, a numpy Generator -> (N,) bool
    """A choice of sentences, as many as can be, with as many toxic as clean ones of every length; `rng` says which."""
    raise NotImplementedError
