"""Exercise 4. Why did max pooling select these neurons?  [paper §3.1, Table 2] (medium)

A neuron has one output for every token, but a label belongs to a whole sentence, so the outputs
are pooled into one number. The paper does not say how; the code that it builds on takes the
maximum. Two things can go wrong, one in the code and one in the idea.

The code. The sentences of a batch are padded to the same length, and a padded position has
outputs like any other. So does the BOS, which is the same in every sentence and in real models
often has the largest output of all. Neither may be pooled. Note that all outputs of a neuron can
be negative, and that a mean divides by the number of words in the sentence.

The idea. The more numbers, the larger their maximum, whatever they mean. If the clean sentences
are longer than the toxic ones, nearly every neuron responds more to the clean ones, and few
neurons count as toxic. If the toxic sentences are longer, nearly all neurons count as toxic. The
share of toxic neurons, which the paper compares across languages, then depends on the lengths of
the sentences. The last test shows this with random numbers. There are two remedies. The mean does
not grow with the length. Or remove length from the data: keep as many toxic as clean sentences of
every length.

Run the tests with

    python -m pytest tests/exercises/test_exercise_4_pooling.py

Afterwards read minitox/detect/responses.py and match_lengths in minitox/detect/controls.py. Then
run `python detect.py` and look at the columns "AUROC(length)" and "toxic neurons" of its Table 2:
for which languages would you believe the count? Compare `python detect.py --pool mean --out
out/mean`.
"""


def pool_max(output, lengths):  # (B, T, R) float tensor, (B,) integer tensor -> (B, R)
    """The largest output over a sentence's words; the BOS is not a word, but is in `lengths`."""
    raise NotImplementedError


def pool_mean(output, lengths):  # (B, T, R), (B,) -> (B, R)
    """The mean output over a sentence's words."""
    raise NotImplementedError


def match_lengths(lengths, toxic, rng):  # (N,) integers, (N,) bool, numpy Generator -> (N,) bool
    """The largest choice of sentences with as many toxic as clean ones of every length.

    Which ones are chosen is random, drawn with `rng`.
    """
    raise NotImplementedError
