"""Fails until exercise 4 is solved."""

import numpy as np
import torch
from exercise_4_pooling import match_lengths, pool_max, pool_mean

from minitox.detect.auroc import auroc


def batch(lengths, seed=0, shift=0.0, padding=0.0):
    """Outputs of 5 neurons, random for words, huge for the BOS, and as told for padding."""
    output = (
        torch.randn(
            len(lengths), int(max(lengths)), 5, generator=torch.Generator().manual_seed(seed)
        )
        + shift
    )
    output[:, 0] = 1_000
    for row, length in enumerate(lengths):
        output[row, length:] = padding
    return output, torch.tensor(lengths)


def test_the_maximum_is_over_the_words_alone():
    lengths = [7, 3, 2, 5]
    for shift, padding in (
        (0, 50),
        (-9, 0),
        (-9, 50),
    ):  # where all outputs are negative, 0 is large
        output, tensor = batch(lengths, shift=shift, padding=padding)
        for row, length in enumerate(lengths):
            assert torch.equal(
                pool_max(output, tensor)[row], output[row, 1:length].max(dim=0).values
            )


def test_the_mean_is_over_the_words_alone_and_divided_by_their_number():
    lengths = [7, 3, 2, 5]
    for padding in (0, 50):
        output, tensor = batch(lengths, padding=padding)
        for row, length in enumerate(lengths):
            assert torch.allclose(
                pool_mean(output, tensor)[row], output[row, 1:length].mean(dim=0), atol=1e-6
            )


def test_a_sentence_pools_alike_alone_and_in_a_batch_and_the_outputs_are_left_as_they_were():
    output, lengths = batch([7, 3, 2, 5], padding=50)
    before = output.clone()
    for pool in (pool_max, pool_mean):
        together = pool(output, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = pool(output[row : row + 1, :length].clone(), lengths[row : row + 1])
            assert torch.allclose(alone[0], together[row], atol=1e-6)
    assert torch.equal(output, before)


def random_lengths(count: int):
    """Toxic sentences tend to be longer."""
    rng = np.random.default_rng(1)
    toxic = rng.permutation(np.arange(count) < count // 2)
    return 3 + rng.binomial(16, np.where(toxic, 0.5, 0.35)), toxic


def test_of_every_length_as_many_toxic_as_clean_sentences_are_kept_and_no_more_are_lost_than_must_be():
    lengths, toxic = random_lengths(300)
    chosen = match_lengths(lengths, toxic, np.random.default_rng(0))
    assert chosen.shape == (300,) and chosen.dtype == bool
    for length in range(25):
        there, kept = (
            [int(((lengths == length) & (toxic == label) & among).sum()) for label in (True, False)]
            for among in (np.ones(300, dtype=bool), chosen)
        )
        assert kept == [min(there)] * 2


def test_which_sentences_are_kept_is_left_to_chance():
    lengths, toxic = random_lengths(300)
    first, again, other = (
        match_lengths(lengths, toxic, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert (first == again).all()
    for label in (True, False):
        assert (first != other)[toxic == label].any()


def test_where_toxic_sentences_are_longer_max_pooling_calls_nearly_all_neurons_toxic_though_all_outputs_are_random():
    lengths, toxic = random_lengths(400)
    outputs = torch.randn(400, 20, 200, generator=torch.Generator().manual_seed(2))

    def share(pool, chosen=slice(None)):
        pooled = pool(outputs, torch.from_numpy(lengths)).numpy()[chosen]
        return (auroc(np.ascontiguousarray(pooled.T), toxic[chosen]) > 0.5).mean()

    assert share(pool_max) > 0.95
    assert 0.35 < share(pool_mean) < 0.65
    assert 0.35 < share(pool_max, match_lengths(lengths, toxic, np.random.default_rng(0))) < 0.65
