"""Tables on a terminal: columns that line up, and one Table 2 for the terminal and the report."""

from types import SimpleNamespace

import numpy as np
import pytest

from minitox.report import neuron_tables as printed
from minitox.report import page
from minitox.report import result_tables as reported
from minitox.report.training_tables import memory

MASKS = {
    "de": {"a": np.array([True, False, True, False])},
    "en": {"a": np.array([True, True, True, False])},
}
INFO = {
    "toxic": 1200,
    "clean": 90,
    "cut": 1,
    "band": [0.25, 0.5],
    "beyond_chance": 0.3,
    "length_auroc": 0.4567,
    "split_half": 0.8,
    "ties": 0.01,
}


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


def test_table_2_has_the_same_cells_on_the_terminal_and_in_the_report():
    infos = dict.fromkeys(MASKS, INFO)
    (section,) = reported.toxic_neurons(SimpleNamespace(masks=MASKS, infos=infos), {})
    assert section.rows[1] == [
        "en",
        "1,200 + 90",
        "1",
        "3",
        "75.0%",
        "25.0%..50.0%",
        "30.0%",
        "0.457",
        "0.80",
        "1.0%",
    ]
    lines = printed.table2(MASKS, infos).splitlines()
    assert lines[0].endswith("of 4") and "of 4 neurons" in section.text
    assert [" ".join(line.split()) for line in lines[3:]] == [" ".join(row) for row in section.rows]


def test_the_paper_s_counts_stand_beside_table_2_where_it_has_them():
    (section,) = reported.toxic_neurons(
        SimpleNamespace(masks=MASKS, infos=dict.fromkeys(MASKS, INFO)), {"neurons": {"en": 1234}}
    )
    assert section.columns[-1] == "paper" and [row[-1] for row in section.rows] == ["-", "1,234"]


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
