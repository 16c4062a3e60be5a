"""Table 2 and Figures 2 and 3: one set of tables for the terminal and for the report."""

import numpy as np
import pytest

from minitox.errors import InputError
from minitox.report import page
from minitox.report.neuron_tables import check_info, figure2, figure3, table2

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
    "by_length": 0.111,
    "beyond_length": 0.2,
    "length_auroc": 0.4567,
    "split_half": [0.8, 0.333, 0.5],
    "ties": 0.01,
}
INFOS = dict.fromkeys(MASKS, INFO)


def printed(section: page.Section) -> list[str]:
    """The lines of a section on the terminal, with single spaces."""
    return [" ".join(line.split()) for line in page.terminal(section).splitlines()]


def test_table_2_has_the_same_cells_on_the_terminal_and_in_the_report():
    section = table2(MASKS, INFOS)
    assert section.rows[1] == [
        "en",
        "1,200 + 90",
        "1",
        "3",
        "75.0%",
        "25.0%..50.0%",
        "30.0%",
        "11.1%",
        "20.0%",
        "0.457",
        "0.80 (0.33, 0.50)",
        "1.0%",
    ]
    assert "has 4 neurons" in section.text
    lines = printed(section)
    assert lines[0] == "Table 2. Toxic neurons" and "has 4 neurons" in lines[2]
    assert lines[5:7] == [" ".join(row) for row in section.rows]
    assert lines[7:] == section.notes


def test_every_control_in_table_2_has_a_note():
    section = table2(MASKS, INFOS)
    assert [note.split(": ")[0] for note in section.notes] == section.columns[5:]


def test_the_paper_s_counts_stand_beside_table_2_where_it_has_them():
    section = table2(MASKS, INFOS, {"en": 1234})
    assert section.columns[-1] == "paper"
    assert [row[-1] for row in section.rows] == ["-", "1,234"]


def test_table_2_is_not_made_of_metadata_that_someone_edited():
    assert check_info("neurons/de.safetensors", INFO) == INFO
    with pytest.raises(InputError, match="neurons/de.safetensors: 'band' is not as minitox wrote"):
        check_info("neurons/de.safetensors", {**INFO, "band": [0.25]})
    for change in ({"split_half": [0.8]}, {"by_length": None}, {"beyond_length": "0.2"}):
        with pytest.raises(InputError, match="is not as minitox wrote it"):
            check_info("neurons/de.safetensors", INFO | change)


def test_figure_2_counts_the_neurons_of_one_language_of_several_and_of_all():
    section = figure2(MASKS)
    assert section.columns == ["", "one language", "several", "all 2"]
    assert section.rows == [["de", "0", "0", "2"], ["en", "1", "0", "2"]]
    assert "en: one language 1" in section.figure


def test_figure_3_shows_the_counts_and_their_ratios_to_chance():
    counts, ratios = figure3(MASKS)
    assert counts.rows == [["de", "2", "2"], ["en", "2", "3"]]
    # independent sets of 2 and 3 of 4 neurons share 1.5
    assert ratios.rows == [["de", "-", "1.33"], ["en", "1.33", "-"]]
    assert "de, en: 1.33" in ratios.figure and "de, de: no data" in ratios.figure
    assert counts.columns == ratios.columns == ["", "de", "en"]


def test_a_language_without_toxic_neurons_has_no_ratio_to_chance():
    counts, ratios = figure3(MASKS | {"fr": {"a": np.zeros(4, dtype=bool)}})
    assert counts.rows[0] == ["de", "2", "2", "0"]
    assert ratios.rows[0] == ["de", "-", "1.33", "-"]
    assert ratios.rows[2] == ["fr", "-", "-", "-"]
    assert "de, fr: no data" in ratios.figure


def test_a_control_that_could_not_be_measured_is_a_dash():
    info = check_info("de.safetensors", INFO | {"split_half": [None] * 3, "beyond_length": None})
    row = table2(MASKS, {"de": info, "en": INFO}).rows[0]
    assert row[8] == row[10] == "-"
