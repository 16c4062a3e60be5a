"""Test prompts that the models or the scorers have seen before, as far as files can show it."""

from pathlib import Path

from minitox.files import hashes_of_languages
from minitox.languages import NAMES
from minitox.overlap import NEAR, SHINGLE
from minitox.report.page import Section
from minitox.report.result_tables import grid
from minitox.report.results import Results
from minitox.run.training_record import hashes_of_pairs, objective_of, pairs_of


def of_other_files(results: Results, data: Path) -> list[str]:
    """The neurons and models of which no record says that they were made from `data`'s files.

    Only the languages of the report count. Interventions do not depend on pairs.
    """
    # 1) the toxic neurons of each language
    sentences = {code: info.get("data") for code, info in results.infos.items()}
    codes = different(sentences, hashes_of_languages(data / "detection", results.languages))
    others = [f"the neurons of {', '.join(codes)}"] if codes else []

    # 2) the models: their pairs, and the neuron files that chose what was tuned
    pairs_here = hashes_of_pairs(data / "instructions", results.languages)  # by objective
    files = {code: results.infos.get(code, {}).get("sha256") for code in results.languages}
    models = {}  # by reason
    for model, training in results.tuned.items():
        if training is None:
            models.setdefault("no run.json", []).append(model)
            continue
        settings = training["settings"]
        here = files
        if "by" in settings:
            of_selector = results.selected.get(settings["by"], {})
            here = {code: of_selector.get(code) for code in results.languages}
        parts = {
            "pairs": different(pairs_of(settings), pairs_here.get(objective_of(settings), {})),
            "neurons": different(settings.get("neurons", {}), here),
        }
        listed = [f"{what} of {', '.join(codes)}" for what, codes in parts.items() if codes]
        if listed:
            models.setdefault(", ".join(listed), []).append(model)
    return others + [f"{', '.join(names)} ({reason})" for reason, names in models.items()]


def different(hashes: dict, here: dict) -> list[str]:
    """The languages whose hash is not the one in `here`, of those that are there."""
    return [code for code, hash in hashes.items() if code in here and hash != here[code]]


def section(
    overlap,
    languages,
    others: list[str] = (),  # neurons and models, as of_other_files gives them
) -> Section:
    """Copies of the test prompts in the data folders, and in what the scorers have learned."""
    title = "Contamination: test prompts seen before"
    # 1) a column for each folder or scorer
    columns = {}
    notes = [
        "Exact: equal apart from case, spaces, digits and repeated letters. Near: at least "
        f"{NEAR:.0%} of the sequences of {SHINGLE} characters of both texts are in both. In the "
        "training texts of a scorer, only exact copies can be recognised. Translated: with the id "
        "of a test prompt of another language.",
    ]
    if others:
        notes.append(
            "Perhaps made from other files than these, which were not compared: "
            f"{'; '.join(others)}."
        )
    for name, copies in overlap.items():
        if copies is None:
            notes.append(f"The training texts of {name} are not known.")
            copies = dict.fromkeys(NAMES, "not known")
        columns[name] = {code: str(of_language) for code, of_language in copies.items()}

    # 2) a row for each language, unless there are no copies
    cells = set().union(*(column.values() for column in columns.values()))
    if cells <= {"none", "not known"}:
        compared = [name for name, copies in overlap.items() if copies is not None]
        text = f"None in: {', '.join(compared)}." if compared else "Nothing was compared."
        return Section(title, text, notes=notes)
    text = "Rows and training texts that are copies of a test prompt of the same language."
    return Section(title, text, *grid(columns, languages), notes)
