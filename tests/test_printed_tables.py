"""Tables on a terminal: columns that line up."""

import pytest

from minitox.report import page
from minitox.report.training_tables import memory


def test_labels_are_flush_left_and_numbers_flush_right():
    lines = page.aligned(
        [["", "n", "of all"], ["per-language", "1,234,567", "5%"], ["aura", "8", ""]]
    ).splitlines()
    assert lines == [
        "                      n  of all",
        "per-language  1,234,567      5%",
        "aura                  8",
    ]


def test_a_row_with_a_cell_too_few_is_refused():
    with pytest.raises(ValueError):
        page.aligned([["", "n"], ["de"]])


@pytest.mark.parametrize(
    "count, text",
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (8_659_968, "8.7 MB"),
        (64_000_000_000_000, "64,000.0 GB"),
    ],
)
def test_memory_is_told_in_the_largest_unit_that_it_fills(count, text):
    assert memory(count) == text
