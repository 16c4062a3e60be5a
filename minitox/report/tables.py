"""Tables of cells that are text: how a terminal shows one, and the one that detection prints and the report repeats."""

from minitox.files import as_written
from minitox.neurons import count, size

TABLE2_NOTES = {
    "random labels": "95 % of label permutations give a share in this band: a share inside it is no evidence of toxic neurons",
    "beyond chance": "neurons whose AUROC only 2.5 % of such random ones reach: 2.5 % is what random labels give on average",
    "AUROC(length)": "how well the number of tokens alone tells toxic (above 0.5) from clean (below); max pooling follows it",
    "split-half": "neurons that both halves of the sentences call toxic, of those that either does",
    "ties": "neurons of AUROC exactly 0.5",
}
FIGURES = {
    "toxic": int,
    "clean": int,
    "cut": int,
    "band": [float, float],
    "beyond_chance": float,
    "length_auroc": float,
    "split_half": float,
    "ties": float,
}


def table2(masks: dict[str, dict], infos: dict[str, dict]) -> list[list[str]]:
    """Toxic neurons of each language, beside what they are worth; the first row names the columns.  [paper Table 2]"""
    rows = [["", "sentences", "cut", "toxic neurons", "share", *TABLE2_NOTES]]
    for language, mask in masks.items():
        info, found = (
            as_written(f"neurons/{language}.safetensors", infos[language], **FIGURES),
            count(mask),
        )
        rows.append(
            [
                language,
                f"{info['toxic']:,} + {info['clean']:,}",
                f"{info['cut']:,}",
                f"{found:,}",
                f"{found / size(mask):.1%}",
                "{:.1%}..{:.1%}".format(*info["band"]),
                f"{info['beyond_chance']:.1%}",
                f"{info['length_auroc']:.3f}",
                f"{info['split_half']:.2f}",
                f"{info['ties']:.1%}",
            ]
        )
    return rows
