"""Whether tuning changed what the neurons respond to: AUROCs before and after."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minitox import neurons
from minitox.errors import InputError
from minitox.languages import NAMES
from minitox.neurons import NeuronAUROC, NeuronMask
from minitox.report import figures
from minitox.report.page import Section
from minitox.run.tuned_neurons import FOLDER, TUNED_ROWS, read_both, read_tuned_rows

TITLE = "AUROC of the neurons before and after tuning"
TEXT = (
    "Mean over the neurons that tuning changed, and over the others, which respond differently "
    "only because their inputs have changed. Every neuron is measured on the same sentences in "
    "the base model and in the tuned model (detect.py --of). 0.5: the neuron does not separate "
    "toxic from clean sentences."
)
NOTES = [
    "mean over languages; the next table has each language",
    "toxic: share of these neurons with an AUROC above 0.5",
    "mean change: of the AUROC of a neuron, regardless of its sign",
    "neurons that were chosen by their AUROC move towards the mean of all by chance, too; random "
    "neurons do not",
]
COLUMNS = ["neurons", "before", "after", "mean change", "toxic before", "toxic after"]


@dataclass(frozen=True)
class Change:
    """The AUROCs of some neurons in one language, before and after: means over these neurons."""

    neurons: int
    before: float  # AUROC
    after: float
    absolute: float  # |after - before|
    toxic_before: float  # share with an AUROC above 0.5
    toxic_after: float

    def numbers(self) -> list[float]:
        """All but the number of neurons."""
        return [self.before, self.after, self.absolute, self.toxic_before, self.toxic_after]


def read(out: Path, base, candidates) -> tuple[dict, dict[str, str]]:
    """{model: {"tuned" or "frozen": {language: Change}}}, and the files that cannot be used.

    Of the models whose neurons detect.py has measured.
    """
    changes = {}
    gaps = {}
    for candidate in candidates:
        folder = out / FOLDER / candidate.name
        if base is None or candidate is base or not folder.is_dir():
            continue
        try:
            rows = neurons.module_rows(base.config)
            models = {"model": candidate.fingerprint, "base": base.fingerprint}
            tuned = read_tuned_rows(folder / TUNED_ROWS, rows, models)
        except InputError as reason:
            gaps[f"{FOLDER}/{candidate.name}"] = str(reason)
            continue
        by_part = {"tuned": {}, "frozen": {}}
        for language in NAMES:
            if not (folder / f"{language}.safetensors").exists():
                continue
            try:
                both = read_both(folder, out, base, candidate, language)
            except InputError as reason:
                gaps[f"{FOLDER}/{candidate.name}/{language}"] = str(reason)
                continue
            for part, change in compare(*both, tuned).items():
                by_part[part][language] = change
        changes[candidate.name] = {part: values for part, values in by_part.items() if values}
    return changes, gaps


def compare(before: NeuronAUROC, after: NeuronAUROC, tuned: NeuronMask) -> dict[str, Change]:
    """What changed in the tuned neurons and in the frozen ones, as far as there are any."""
    is_tuned = np.concatenate([tuned[name] for name in before])  # (K,)
    a = np.concatenate(list(before.values())).astype(np.float64)
    b = np.concatenate([after[name] for name in before]).astype(np.float64)
    changes = {}
    for part, inside in {"tuned": is_tuned, "frozen": ~is_tuned}.items():
        if not inside.any():
            continue
        old = a[inside]
        new = b[inside]
        changes[part] = Change(
            neurons=len(old),
            before=old.mean(),
            after=new.mean(),
            absolute=np.abs(new - old).mean(),
            toxic_before=(old > 0.5).mean(),
            toxic_after=(new > 0.5).mean(),
        )
    return changes


def sections(changes: dict) -> Iterator[Section]:
    """A table and a figure for all models together, then each language; nothing without models."""
    means = []
    by_language = []
    panels = ""
    for model, by_part in changes.items():
        for part, of_part in by_part.items():
            # 1) the mean over languages
            label = f"{model}, {part}"
            numbers = [change.numbers() for change in of_part.values()]
            count = next(iter(of_part.values())).neurons
            means.append([label, f"{count:,}", *cells(np.mean(numbers, axis=0))])

            # 2) each language
            for language, change in of_part.items():
                row = [f"{label}, {language}", f"{change.neurons:,}", *cells(change.numbers())]
                by_language.append(row)
            moves = {code: (change.before, change.after) for code, change in of_part.items()}
            panels += figures.moves(f"{label}: AUROC before and after", moves, 0.5)
    if means:
        yield Section(TITLE, TEXT, ["", *COLUMNS], means, NOTES, panels)
        yield Section(f"{TITLE}, by language", "", ["", *COLUMNS], by_language, NOTES[1:])


def cells(numbers) -> list[str]:
    """AUROCs with three digits, then shares."""
    *aurocs, toxic_before, toxic_after = numbers
    return [*(f"{value:.3f}" for value in aurocs), f"{toxic_before:.1%}", f"{toxic_after:.1%}"]
