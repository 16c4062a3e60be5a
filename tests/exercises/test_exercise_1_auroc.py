"""Fails until exercise 1 is solved."""

import tracemalloc

import numpy as np
import pytest
from exercise_1_auroc import auroc


def numbers(*values):
    return np.array(values, dtype=np.float16)


def labels(*values):
    return np.array(values, dtype=bool)


def test_a_neuron_that_separates_perfectly_has_1_and_one_with_the_sign_turned_0():
    assert auroc(numbers(0.1, 0.2, 0.7, 0.9), labels(0, 0, 1, 1)) == 1
    assert auroc(numbers(0.1, 0.2, 0.7, 0.9), labels(1, 1, 0, 0)) == 0


def test_of_four_pairs_three_and_a_half_are_right():
    """The toxic 2 beats the clean 1 and equals the clean 2; the toxic 3 beats both."""
    assert auroc(numbers(1, 2, 2, 3), labels(0, 1, 0, 1)) == pytest.approx(3.5 / 4)


def test_a_neuron_that_answers_every_sentence_alike_knows_nothing():
    assert auroc(numbers(*[5] * 7), labels(0, 1, 1, 0, 1, 1, 1)) == pytest.approx(0.5)


def test_it_is_what_counting_the_pairs_gives_with_ties_and_classes_of_any_size():
    rng = np.random.default_rng(0)
    for size, values in ((9, 3), (40, 5), (60, 1_000)):
        responses = (rng.integers(-values, values, size) / 8).astype(np.float16)
        toxic = rng.permutation(np.arange(size) < size // 3)
        pairs = [(a > b) + (a == b) / 2 for a in responses[toxic] for b in responses[~toxic]]
        assert auroc(responses, toxic) == pytest.approx(sum(pairs) / len(pairs))


def test_it_does_not_depend_on_the_order_of_the_sentences():
    rng = np.random.default_rng(1)
    responses, toxic = rng.integers(0, 4, 50).astype(np.float16), rng.random(50) < 0.5
    order = rng.permutation(50)
    assert auroc(responses[order], toxic[order]) == pytest.approx(auroc(responses, toxic))


def test_thousands_of_sentences_are_no_problem_and_their_pairs_are_never_written_down():
    """Sums of ranks outgrow 16 bits, and a table of 4 million pairs outgrows the megabyte allowed here."""
    rng = np.random.default_rng(2)
    responses, toxic = rng.standard_normal(4_000).astype(np.float16), np.arange(4_000) < 2_000
    found = auroc(responses, toxic)
    tracemalloc.start()
    auroc(responses, toxic)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    clean = responses[2_000:]
    assert found == pytest.approx(
        np.mean([(clean < a).mean() + (clean == a).mean() / 2 for a in responses[:2_000]])
    )
    assert peak < 1_000_000, "no table of all pairs: sort, and look up"
