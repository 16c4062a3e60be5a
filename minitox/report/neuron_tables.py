"""The results of detection as the paper shows them: Table 2, Figure 2 and Figure 3."""

from minitox import neurons
from minitox.files import as_written
from minitox.report import figures
from minitox.report.page import Section

NOTES = [
    "random labels: 95 % of label permutations give a share in this range, so a share in it is no "
    "evidence of toxic neurons",
    "beyond chance: share of neurons whose AUROC is above 97.5 % of those under random labels, so "
    "2.5 % is expected by chance",
    "AUROC(length): AUROC of the number of tokens alone, above 0.5 if toxic sentences are longer; "
    "max pooling depends on length",
    "split-half: neurons that are toxic in both halves of the sentences, divided by those that are "
    "toxic in at least one half",
    "ties: share of neurons whose AUROC is exactly 0.5",
]
# the fields of a neuron file's metadata that Table 2 shows
FIELDS = {
    "toxic": int,  # sentences
    "clean": int,
    "cut": int,
    "band": [float, float],  # of the share of toxic neurons under random labels
    "beyond_chance": float,
    "length_auroc": float,
    "split_half": float,
    "ties": float,
}


def check_info(where: str, info: dict) -> dict:
    """The metadata of a neuron file; InputError if a field is not as detect.py wrote it."""
    return as_written(where, info, **FIELDS)


def table2(
    masks: dict[str, dict],  # the toxic neurons of each language
    infos: dict[str, dict],  # the metadata of their files
    paper: dict[str, int] | None = None,  # the paper's counts for this model
) -> Section:
    """How many neurons are toxic in each language, and the controls.  [paper Table 2]"""
    # 1) our columns
    cells = {language: table2_row(mask, infos[language]) for language, mask in masks.items()}

    # 2) the paper's
    if paper:
        for language, row in cells.items():
            row["paper"] = f"{paper[language]:,}" if language in paper else "-"

    # 3) a row a language
    names = ["", *next(iter(cells.values()))]
    rows = [[language, *row.values()] for language, row in cells.items()]
    total = neurons.size(next(iter(masks.values())))
    text = f"A neuron is toxic if its AUROC is above 0.5. The model has {total:,} neurons."
    return Section("Table 2. Toxic neurons", text, names, rows, NOTES)


def table2_row(mask: dict, info: dict) -> dict[str, str]:
    """{column: cell} of one language."""
    count = neurons.count(mask)
    low, high = info["band"]
    return {
        "sentences": f"{info['toxic']:,} + {info['clean']:,}",  # toxic + clean
        "cut": f"{info['cut']:,}",  # sentences longer than --max-tokens
        "toxic neurons": f"{count:,}",
        "share": f"{count / neurons.size(mask):.1%}",  # of all neurons
        # the controls, see NOTES
        "random labels": f"{low:.1%}..{high:.1%}",
        "beyond chance": f"{info['beyond_chance']:.1%}",
        "AUROC(length)": f"{info['length_auroc']:.3f}",
        "split-half": f"{info['split_half']:.2f}",
        "ties": f"{info['ties']:.1%}",
    }


def figure2(masks: dict[str, dict]) -> Section:
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


def figure3(masks: dict[str, dict]) -> list[Section]:
    """How many neurons two languages share, and the ratio to chance.  [paper Figure 3]"""
    languages = list(masks)

    # 1) both numbers for every pair of languages
    counts = []
    ratios = []
    for language in languages:
        overlaps = [neurons.overlap(masks[language], masks[other]) for other in languages]
        counts.append([count for count, _ in overlaps])
        ratios.append([ratio for _, ratio in overlaps])
        # the overlap of a set with itself says nothing
        ratios[-1][languages.index(language)] = None

    # 2) a table of each, and a heat map of the ratios
    title = "Figure 3. Overlap of toxic neurons between languages"
    return [
        Section(
            f"{title}: counts",
            "Neurons that are toxic in both languages.",
            ["", *languages],
            labelled(languages, counts, "{:,}"),
        ),
        Section(
            f"{title}: ratio to chance",
            "These counts, divided by what independent sets of the same sizes would share.",
            ["", *languages],
            labelled(languages, ratios, "{:.2f}"),
            figure=figures.heatmap("Ratio to chance", languages, ratios),
        ),
    ]


def labelled(labels: list[str], numbers: list[list], form: str) -> list[list[str]]:
    """A table's rows: a label and its numbers, a dash for None."""
    rows = []
    for label, row in zip(labels, numbers, strict=True):
        cells = ["-" if number is None else form.format(number) for number in row]
        rows.append([label, *cells])
    return rows
