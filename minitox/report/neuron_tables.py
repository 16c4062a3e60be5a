"""The results of detection as the paper shows them: Table 2, Figure 2 and Figure 3."""

import math
from collections.abc import Iterator

from minitox import neurons
from minitox.files import as_written
from minitox.report import figures
from minitox.report.page import Section

# of Table 2
COLUMNS = [
    "",
    "sentences",  # toxic + clean
    "cut",  # sentences longer than --max-tokens
    "toxic neurons",
    "share",  # of all neurons
    # the controls, see NOTES
    "random labels",
    "beyond chance",
    "by length",
    "beyond length",
    "AUROC(length)",
    "split-half",
    "ties",
]
NOTES = [
    "random labels: 95 % of label permutations give a share in this range, so a share in it is no "
    "evidence of toxic neurons",
    "beyond chance: share of neurons whose AUROC is above 97.5 % of those under random labels, so "
    "2.5 % is expected by chance",
    "by length: the same share under permutations of the labels among sentences of equal length "
    "only; an upper bound on the share of neurons beyond chance that length alone explains",
    "beyond length: share of neurons whose AUROC is above 97.5 % of their own AUROCs under such "
    "permutations, so 2.5 % is expected if the classes differ in length alone; - if no label can "
    "move",
    "AUROC(length): AUROC of the number of tokens alone, above 0.5 if toxic sentences are longer; "
    "max pooling depends on length",
    "split-half: neurons that are toxic in both halves of the sentences, divided by those that are "
    "toxic in at least one half; in parentheses the mean of the same number under random labels, "
    "and under permutations among sentences of equal length, an upper bound on what length alone "
    "gives; - if there are too few sentences to split",
    "ties: share of neurons whose AUROC is exactly 0.5",
]

COMPARED = 0.02  # of all neurons, in the table of importance


def check_info(where: str, info: dict) -> dict:
    """The metadata of a neuron file; InputError if a field is not as detect.py wrote it."""
    return as_written(
        where,
        info,
        toxic=int,  # sentences
        clean=int,
        cut=int,
        band=[float, float],  # of the share of toxic neurons under random labels
        beyond_chance=float,
        by_length=float,
        beyond_length=float | None,
        length_auroc=float,
        split_half=[float | None] * 3,  # with the true labels, with random ones, and of a length
        ties=float,
    )


def split_half_cell(agreement: list) -> str:
    """The Jaccard index of two halves, and in parentheses what it is without a signal."""
    if None in agreement:
        return "-"
    true, free, alike = agreement
    return f"{true:.2f} ({free:.2f}, {alike:.2f})"


def table2(
    masks: dict,  # the toxic neurons of each language
    infos: dict,  # the metadata of their files
    paper: dict | None = None,  # the paper's count for each language, for this model
) -> Section:
    """How many neurons are toxic in each language, and the controls.  [paper Table 2]"""
    rows = []
    for language, mask in masks.items():
        info = infos[language]
        low, high = info["band"]
        count = neurons.count(mask)
        total = neurons.size(mask)
        row = [
            language,
            f"{info['toxic']:,} + {info['clean']:,}",
            f"{info['cut']:,}",
            f"{count:,}",
            f"{count / total:.1%}",
            f"{low:.1%}..{high:.1%}",
            f"{info['beyond_chance']:.1%}",
            f"{info['by_length']:.1%}",
            "-" if info["beyond_length"] is None else f"{info['beyond_length']:.1%}",
            f"{info['length_auroc']:.3f}",
            split_half_cell(info["split_half"]),
            f"{info['ties']:.1%}",
        ]
        if paper:
            row.append(f"{paper[language]:,}" if language in paper else "-")
        rows.append(row)
    text = f"A neuron is toxic if its AUROC is above 0.5. The model has {total:,} neurons."
    columns = [*COLUMNS, "paper"] if paper else COLUMNS
    return Section("Table 2. Toxic neurons", text, columns, rows, NOTES)


def figure2(masks: dict) -> Section:
    """Each language's toxic neurons by how many languages share them.  [paper Figure 2]"""
    title = "Figure 2. Toxic neurons by how many languages share them"
    parts = ["one language", "several", f"all {len(masks)}"]
    bars = {}
    rows = []
    for language, counts in neurons.sharing(masks).items():
        bars[language] = dict(zip(parts, counts, strict=True))
        rows.append([language, *map("{:,}".format, counts)])
    figure = figures.stacked_bars("Toxic neurons", bars, parts, share=False)
    return Section(title, "", ["", *parts], rows, figure=figure)


def figure3(masks: dict) -> Iterator[Section]:
    """How many neurons two languages share, and the ratio to chance.  [paper Figure 3]"""
    # 1) both numbers for every pair of languages
    columns = ["", *masks]
    counts = []
    ratios = []
    heat = []
    for language, mask in masks.items():
        overlaps = [neurons.overlap(mask, other) for other in masks.values()]
        counts.append([language, *(f"{count:,}" for count, _ in overlaps)])
        heat.append([ratio for _, ratio in overlaps])

    # 2) the overlap of a set with itself says nothing, nor does that with an empty one
    for i, language in enumerate(masks):
        heat[i] = [None if math.isnan(ratio) else ratio for ratio in heat[i]]
        heat[i][i] = None
        ratios.append([language, *("-" if ratio is None else f"{ratio:.2f}" for ratio in heat[i])])

    # 3) a table of each, and a heat map of the ratios
    title = "Figure 3. Overlap of toxic neurons between languages"
    text = "Neurons that are toxic in both languages."
    yield Section(f"{title}: counts", text, columns, counts)
    text = "These counts, divided by what independent sets of the same sizes would share."
    figure = figures.heatmap("Ratio to chance", list(masks), heat)
    yield Section(f"{title}: ratio to chance", text, columns, ratios, figure=figure)


def importance(
    chosen: dict,  # by language: the COMPARED neurons of highest importance
    by_auroc: dict,  # likewise, those of highest AUROC, where it is known
    infos: dict,  # the metadata of the files
) -> Section:
    """How far the neurons that matter most are those of highest AUROC."""
    rows = []
    for language, mask in chosen.items():
        info = as_written(language, infos[language], train_pairs=int, batches=int)
        shared = "-"
        if language in by_auroc:
            number, _ = neurons.overlap(mask, by_auroc[language])
            shared = f"{number / max(1, neurons.count(mask)):.1%}"
        rows.append([language, f"{info['train_pairs']:,}", f"{info['batches']:,}", shared])
    notes = [
        f"also by AUROC: of the {COMPARED:.0%} of all neurons of highest importance, the share "
        f"that is among the {COMPARED:.0%} of highest AUROC; by chance it is {COMPARED:.0%}; "
        "- if detect.py --select auroc was not run"
    ]
    columns = ["", "training pairs", "batches", "also by AUROC"]
    return Section("Importance to the loss (Taylor)", "", columns, rows, notes)


def layers(infos: dict) -> Section:
    """The layer that dinm chooses in each language, given the metadata of the files."""
    rows = []
    for language, info in infos.items():
        info = as_written(language, info, train_pairs=int, distances=[float])
        distances = info["distances"]
        layer = distances.index(max(distances))
        shown = ", ".join(f"{distance:.2f}" for distance in distances)
        rows.append([language, f"{info['train_pairs']:,}", f"{layer}", shown])
    notes = [
        "layer: counted from 0; its down_proj rows are chosen",
        "distances: of each layer, between the hidden states at the last tokens of the reply and "
        "of the rejected reply, mean over the training pairs",
    ]
    columns = ["", "training pairs", "layer", "distances"]
    return Section("Layer that tells replies apart (DINM)", "", columns, rows, notes)
