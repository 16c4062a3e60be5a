"""Fails until exercise 4 is solved."""

import numpy as np
import torch
from exercise_4_pooling import match_lengths, pool_max, pool_mean

from minitox.detect.auroc import auroc

LENGTHS = [7, 3, 2, 5]


def batch(lengths, seed=0, shift=0.0, padding=0.0):  # -> (B, T, 5), (B,)
    """Outputs of 5 neurons: random for words, huge for the BOS, `padding` for padding."""
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(len(lengths), max(lengths), 5, generator=generator) + shift
    output[:, 0] = 1_000
    for row, length in enumerate(lengths):
        output[row, length:] = padding
    return output, torch.tensor(lengths)


def test_the_maximum_is_over_the_words_alone():
    # where all outputs are negative, a padding of 0 is large
    for shift, padding in ((0, 50), (-9, 0), (-9, 50)):
        output, lengths = batch(LENGTHS, shift=shift, padding=padding)
        for row, length in enumerate(LENGTHS):
            expected = output[row, 1:length].max(dim=0).values
            assert torch.equal(pool_max(output, lengths)[row], expected)


def test_the_mean_is_over_the_words_alone_and_divided_by_their_number():
    for padding in (0, 50):
        output, lengths = batch(LENGTHS, padding=padding)
        for row, length in enumerate(LENGTHS):
            expected = output[row, 1:length].mean(dim=0)
            assert torch.allclose(pool_mean(output, lengths)[row], expected, atol=1e-6)


def test_a_sentence_is_pooled_alike_alone_and_in_a_batch_and_the_outputs_are_not_changed():
    output, lengths = batch(LENGTHS, padding=50)
    before = output.clone()
    for pool in (pool_max, pool_mean):
        together = pool(output, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = pool(output[row : row + 1, :length].clone(), lengths[row : row + 1])
            assert torch.allclose(alone[0], together[row], atol=1e-6)
    assert torch.equal(output, before)


def random_lengths(count: int):  # -> (N,), (N,) bool
    """Lengths of sentences, and their labels; toxic sentences tend to be longer."""
    rng = np.random.default_rng(1)
    toxic = rng.permutation(np.arange(count) < count // 2)
    return 3 + rng.binomial(16, np.where(toxic, 0.5, 0.35)), toxic


def class_counts(where, toxic) -> list[int]:
    """How many toxic and how many clean sentences are in a choice."""
    return [int((where & (toxic == label)).sum()) for label in (True, False)]


def test_the_choice_has_as_many_toxic_as_clean_sentences_of_every_length_and_is_the_largest_one():
    lengths, toxic = random_lengths(300)
    chosen = match_lengths(lengths, toxic, np.random.default_rng(0))
    assert chosen.shape == (300,) and chosen.dtype == bool
    for length in range(25):
        available = class_counts(lengths == length, toxic)
        assert class_counts((lengths == length) & chosen, toxic) == [min(available)] * 2


def test_which_sentences_are_chosen_is_random():
    lengths, toxic = random_lengths(300)
    first = match_lengths(lengths, toxic, np.random.default_rng(0))
    again = match_lengths(lengths, toxic, np.random.default_rng(0))
    other = match_lengths(lengths, toxic, np.random.default_rng(1))
    assert (first == again).all()
    for label in (True, False):
        assert (first != other)[toxic == label].any()


def test_if_toxic_sentences_are_longer_max_pooling_of_random_outputs_makes_most_neurons_toxic():
    lengths, toxic = random_lengths(400)
    outputs = torch.randn(400, 20, 200, generator=torch.Generator().manual_seed(2))

    def share(pool, chosen=slice(None)):
        pooled = pool(outputs, torch.from_numpy(lengths)).numpy()[chosen]
        return (auroc(np.ascontiguousarray(pooled.T), toxic[chosen]) > 0.5).mean()

    assert share(pool_max) > 0.95
    assert 0.35 < share(pool_mean) < 0.65
    assert 0.35 < share(pool_max, match_lengths(lengths, toxic, np.random.default_rng(0))) < 0.65
