"""What a model forgets while it is tuned on one language after the other."""

from collections.abc import Iterator

from minitox.report import figures
from minitox.report.page import Section
from minitox.report.results import Results, mean_value
from minitox.train.model_names import ModelName

TOTAL = "all"  # stages, against the base model
SINCE = "own"  # stage of each language, to the last one
TITLE = "Forgetting: validation loss of every language after each stage"
TEXT = (
    "Change of the validation loss, in nats: a row for the stage, that is, the language tuned on; "
    "a column for the language measured. A number above 0 in another language's column is what the "
    "stage made the model forget; one below 0 is what it taught."
)
LOSS = "loss: cross-entropy per reply token"
DPO_LOSS = "; of a model tuned with DPO, its own loss per pair"
NOTES = [
    f"{TOTAL}: after the last stage, minus the base model",
    f"{SINCE}: after the last stage, minus after the stage of the column's own language, that is, "
    "what was forgotten since then; 0 for the last language",
]


def section(results: Results) -> Iterator[Section]:
    """A heat map for each model that was tuned in several stages; nothing without such models."""
    # 1) the changes in each model, of several draws their mean
    changes = {}
    for name, training in results.trainings.items():
        of_model = changes_of(training) if training else {}
        if of_model:
            changes[name] = of_model
    together = results.together(changes, mean_of_stages)

    # 2) the languages measured; all models are in one table
    measured = {}
    for name in changes:
        measured |= dict.fromkeys(languages_of(results.trainings[name]))
    languages = list(measured)
    panels = ""
    rows = []
    for model, by_stage in together.items():
        values = {}
        for stage, of_stage in by_stage.items():
            values[stage] = [of_stage.get(language) for language in languages]
            cells = ["-" if value is None else f"{value:+.3f}" for value in values[stage]]
            rows.append([f"{model}, {stage}", *cells])
        panel = figures.heatmap(
            model, list(values), list(values.values()), languages, form="{:+.2f}", signed=True
        )
        # of several orders of the languages, the first is unfolded; so is a draw that is apart
        parts = ModelName.parse(model)
        is_later = parts.order > 1 and model == parts.common_name
        panels += figures.folded(model, panel) if is_later else panel
    if rows:
        notes = [loss_in_words(results, changes), *NOTES]
        yield Section(TITLE, TEXT, ["", *languages], rows, notes, panels)


def loss_in_words(results: Results, models) -> str:
    """What the loss of these models is: with DPO it is another one."""
    with_dpo = any("preferences" in results.trainings[name] for name in models)
    return LOSS + (DPO_LOSS if with_dpo else "")


def changes_of(training: dict) -> dict[str, dict[str, float]]:
    """{stage: {language: change of the loss}}, then TOTAL and SINCE, of a run.json.

    Empty if the model was tuned in one stage, or by a version that did not measure after each; a
    stage that tunes no neuron is left out.
    """
    languages = languages_of(training)
    stages = {}  # {stage: {language: loss after it}}
    for stage in training["stages"]:
        if "validation" in stage:
            stages[stage["name"]] = stage["validation"]
    if not stages or not languages:
        return {}

    # 1) each stage against the one before it
    measured = training["validation"]
    base = {language: measured[language]["before"] for language in languages}
    changes = {}
    before = base
    for name, losses in stages.items():
        changes[name] = difference(losses, before, languages)
        before = losses

    # 2) the last stage against the base model, and against the stage of each language
    last = before
    changes[TOTAL] = difference(last, base, languages)
    own = {language: stages[language][language] for language in languages if language in stages}
    changes[SINCE] = difference(last, own, own)
    return changes


def mean_of_stages(draws: list[dict]) -> dict:
    """The mean of each language's change over several draws."""
    return {language: mean_value([draw[language] for draw in draws]) for language in draws[0]}


def languages_of(training: dict) -> list[str]:
    """The languages that have validation pairs."""
    measured = training["validation"].items()
    return [language for language, losses in measured if losses["before"] is not None]


def difference(losses: dict, before: dict, languages) -> dict:
    """The change of the loss of each of the languages."""
    return {language: losses[language] - before[language] for language in languages}
