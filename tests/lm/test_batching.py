"""Batches contain every sequence once and waste little on padding."""

from minitox.lm.batching import batches, pad


def test_batches_contain_every_sequence_once_sorted_and_within_the_budget():
    lengths = [5, 1, 9, 9, 3, 30, 2, 9]
    groups = batches(lengths, tokens=20)
    order = sum(groups, [])
    assert sorted(order) == list(range(8))
    assert [lengths[i] for i in order] == sorted(lengths, reverse=True)
    for group in groups:
        padded = len(group) * max(lengths[i] for i in group)
        assert len(group) == 1 or padded <= 20
    assert groups[0] == [5]  # longer than the budget, so in a batch of its own


def test_padding_is_on_the_right():
    assert pad([[4, 5, 6], [7]]).tolist() == [[4, 5, 6], [7, 0, 0]]
