"""What detection found, as the paper shows it: Table 2, Figures 2 and 3, as plain text."""

from minitox.neurons import overlap, sharing, size
from minitox.report import page, tables

LEGEND = "\n".join(f"  {column:16}{meaning}" for column, meaning in tables.TABLE2_NOTES.items())


def table2(masks: dict[str, dict], infos: dict[str, dict]) -> str:
    """Toxic neurons of each language, beside what they are worth.  [paper Table 2]"""
    neurons = size(next(iter(masks.values())))
    return f"Table 2. Toxic neurons, AUROC > 0.5, of {neurons:,}\n\n{page.aligned(tables.table2(masks, infos))}"


def figure2(masks: dict[str, dict]) -> str:
    """How far each language's neurons are its own.  [paper Figure 2]"""
    rows = [["", "only here", "some others", f"all {len(masks)}"]]
    rows += [[language, *map("{:,}".format, counts)] for language, counts in sharing(masks).items()]
    return f"Figure 2. Toxic neurons by how many languages share them\n\n{page.aligned(rows)}"


def figure3(masks: dict[str, dict]) -> str:
    """Pairwise overlap: neurons shared, and the ratio to what independent sets of these sizes would share.  [paper Figure 3]"""
    pairs = {a: {b: overlap(masks[a], masks[b]) for b in masks} for a in masks}
    shared = [[a, *(f"{count:,}" for count, _ in by.values())] for a, by in pairs.items()]
    ratios = [
        [a, *("-" if a == b else f"{ratio:.2f}" for b, (_, ratio) in by.items())]
        for a, by in pairs.items()
    ]
    shared, ratios = (page.aligned([["", *masks], *rows]) for rows in (shared, ratios))
    return (
        "Figure 3. Overlap of toxic neurons between languages\n\n"
        f"neurons shared\n{shared}\n\ntimes what chance would give (1.00: independent sets)\n{ratios}"
    )
