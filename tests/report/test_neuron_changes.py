"""AUROCs before and after tuning: what the report says of the tuned and of the frozen neurons."""

import numpy as np
import pytest

from minitox.report.neuron_changes import compare, sections
from minitox.report.page import html

TUNED = {"a": np.array([True, True, False]), "b": np.array([False])}
BEFORE = {"a": np.array([0.9, 0.4, 0.5]), "b": np.array([0.25])}
AFTER = {"b": np.array([0.75]), "a": np.array([0.6, 0.5, 0.5])}  # in another order


def test_tuned_and_frozen_neurons_are_averaged_apart():
    changes = compare(BEFORE, AFTER, TUNED)
    tuned = changes["tuned"]
    assert (tuned.neurons, tuned.before, tuned.after) == (2, 0.65, 0.55)
    assert tuned.absolute == pytest.approx((0.3 + 0.1) / 2)
    # an AUROC of exactly 0.5 is not toxic
    assert (tuned.toxic_before, tuned.toxic_after) == (0.5, 0.5)
    frozen = changes["frozen"]
    assert (frozen.neurons, frozen.before, frozen.after) == (2, 0.375, 0.625)
    assert (frozen.absolute, frozen.toxic_before, frozen.toxic_after) == (0.25, 0, 0.5)


def test_a_model_of_which_everything_was_tuned_has_no_frozen_neurons():
    everything = {name: rows | True for name, rows in TUNED.items()}
    assert compare(BEFORE, AFTER, everything).keys() == {"tuned"}


def test_the_first_table_has_means_over_languages_and_the_second_each_language():
    german = compare(BEFORE, AFTER, TUNED)
    english = compare(BEFORE, BEFORE, TUNED)
    by_part = {part: {"de": german[part], "en": english[part]} for part in german}
    means, by_language = sections({"multilingual": by_part})
    assert means.rows == [
        ["multilingual, tuned", "2", "0.650", "0.600", "0.100", "50.0%", "50.0%"],
        ["multilingual, frozen", "2", "0.375", "0.500", "0.125", "0.0%", "25.0%"],
    ]
    assert by_language.rows[1] == [
        *("multilingual, tuned, en", "2", "0.650", "0.650", "0.000", "50.0%", "50.0%"),
    ]
    assert len(by_language.rows) == 4
    page = html("report", [means, by_language])
    assert page.count("<svg") == 2
    assert "de: 0.375, then 0.625" in page


def test_without_measured_models_there_is_no_section():
    assert list(sections({})) == []
