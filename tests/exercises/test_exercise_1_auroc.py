"""Fails until exercise 1 is solved."""

import tracemalloc

import numpy as np
import pytest
from exercise_1_auroc import auroc


def numbers(*values):
    return np.array(values, dtype=np.float16)


def labels(*values):
    return np.array(values, dtype=bool)


def test_perfect_separation_has_an_auroc_of_1_and_with_the_sign_reversed_of_0():
    assert auroc(numbers(0.1, 0.2, 0.7, 0.9), labels(0, 0, 1, 1)) == 1
    assert auroc(numbers(0.1, 0.2, 0.7, 0.9), labels(1, 1, 0, 0)) == 0


def test_of_four_pairs_three_and_a_half_are_right():
    """The toxic 2 beats the clean 1 and equals the clean 2; the toxic 3 beats both."""
    assert auroc(numbers(1, 2, 2, 3), labels(0, 1, 0, 1)) == pytest.approx(3.5 / 4)


def test_a_neuron_with_the_same_response_to_every_sentence_has_an_auroc_of_one_half():
    assert auroc(numbers(*[5] * 7), labels(0, 1, 1, 0, 1, 1, 1)) == pytest.approx(0.5)


def test_it_equals_the_count_over_all_pairs_with_ties_and_classes_of_any_size():
    rng = np.random.default_rng(0)
    for size, values in ((9, 3), (40, 5), (60, 1_000)):
        responses = (rng.integers(-values, values, size) / 8).astype(np.float16)
        toxic = rng.permutation(np.arange(size) < size // 3)
        pairs = []
        for a in responses[toxic]:
            pairs += [(a > b) + (a == b) / 2 for b in responses[~toxic]]
        assert auroc(responses, toxic) == pytest.approx(sum(pairs) / len(pairs))


def test_it_does_not_depend_on_the_order_of_the_sentences():
    rng = np.random.default_rng(1)
    responses = rng.integers(0, 4, 50).astype(np.float16)
    toxic = rng.random(50) < 0.5
    order = rng.permutation(50)
    assert auroc(responses[order], toxic[order]) == pytest.approx(auroc(responses, toxic))


def test_thousands_of_sentences_need_little_memory_and_their_ranks_do_not_overflow():
    """Sums of ranks overflow 16 bits, and a table of 4 million pairs exceeds one megabyte."""
    rng = np.random.default_rng(2)
    responses = rng.standard_normal(4_000).astype(np.float16)
    toxic = np.arange(4_000) < 2_000
    result = auroc(responses, toxic)
    tracemalloc.start()
    auroc(responses, toxic)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    clean = responses[2_000:]
    wins = [(clean < a).mean() + (clean == a).mean() / 2 for a in responses[:2_000]]
    assert result == pytest.approx(np.mean(wins))
    assert peak < 1_000_000, "do not form a table of all pairs: sort the responses"
