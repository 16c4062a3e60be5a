"""What the report says of forgetting: the loss of every language after each stage."""

import measured
import pytest

from minitox.report import forgetting
from minitox.report.page import html, markdown

# losses before tuning, and after the stages of de, en and fr; hi has no validation pairs
BEFORE = {"de": 3.0, "en": 2.0, "fr": 4.0, "hi": None}
AFTER = [
    {"de": 1.0, "en": 1.9, "fr": 4.0, "hi": None},
    {"de": 1.5, "en": 0.5, "fr": 3.8, "hi": None},
    {"de": 1.25, "en": 1.0, "fr": 2.0, "hi": None},
]


def training(after=AFTER, names=("de", "en", "fr"), name="per-language") -> dict:
    """The run.json of a model that was tuned in stages."""
    validation = {}
    for language, before in BEFORE.items():
        validation[language] = {"pairs": 4, "before": before, "after": None}
    stages = []
    for stage, losses in zip(names, after, strict=True):
        stages.append({"name": stage} | ({} if losses is None else {"validation": losses}))
    record = measured.record_of(name)
    return record | {"validation": validation, "stages": stages}


def sections_of(**trainings) -> list:
    names = {name.replace("_", "-"): record for name, record in trainings.items()}
    results = measured.results(base={"de": 0.5}, **{name: {"de": 0.4} for name in names})
    results.trainings |= names
    return list(forgetting.section(results))


def test_each_stage_is_compared_with_the_one_before_it_and_the_last_one_with_the_base_model():
    (section,) = sections_of(per_language=training())
    assert section.columns == ["", "de", "en", "fr"]
    assert section.rows == [
        ["per-language, de", "-2.000", "-0.100", "+0.000"],
        ["per-language, en", "+0.500", "-1.400", "-0.200"],
        ["per-language, fr", "-0.250", "+0.500", "-1.800"],
        ["per-language, all", "-1.750", "-1.000", "-2.000"],
        ["per-language, own", "+0.250", "+0.500", "+0.000"],
    ]
    page = html("report", [section])
    assert "Forgetting: validation loss of every language after each stage" in page
    assert page.count("<svg") == 1 and "en, de: +0.50" in page
    assert "per-language, own" in markdown("report", [section])


def test_the_loss_of_models_tuned_with_dpo_is_said_to_be_another_one():
    """Their losses after each stage are DPO's, a mean over pairs."""
    of_replies = sections_of(per_language=training())[0].notes[0]
    assert of_replies == "loss: cross-entropy per reply token"
    with_dpo = training(name="dpo-per-language") | {"preferences": {}}
    both = sections_of(per_language=training(), dpo_per_language=with_dpo)[0].notes[0]
    assert both == f"{of_replies}; of a model tuned with DPO, its own loss per pair"


def test_a_stage_that_tunes_no_neuron_is_left_out():
    (section,) = sections_of(per_language=training([AFTER[0], None, AFTER[2]]))
    labels = [row[0].split(", ")[1] for row in section.rows]
    assert labels == ["de", "fr", "all", "own"]
    assert section.rows[1][1:] == ["+0.250", "-0.900", "-2.000"]
    # English has no stage of its own since which something was forgotten
    assert section.rows[3][1:] == ["+0.250", "-", "+0.000"]


def test_draws_are_shown_as_their_mean():
    """The second draw forgets nothing after the first stage."""
    after = {"random-per-language-1": AFTER, "random-per-language-2": [AFTER[0]] * 3}
    names = {name: training(losses, name=name) for name, losses in after.items()}
    results = measured.results(base={"de": 0.5}, **{name: {"de": 0.4} for name in names})
    results.trainings |= names
    (section,) = forgetting.section(results)
    assert section.rows[1] == ["random-per-language, en", "+0.250", "-0.700", "-0.100"]
    assert len(section.rows) == 5


@pytest.mark.parametrize("after", [[], [None, None, None]])
def test_models_of_which_it_was_not_measured_have_no_section(after):
    assert sections_of(full=None) == []
    names = ("de", "en", "fr")[: len(after)]
    assert sections_of(per_language=training(after, names)) == []
