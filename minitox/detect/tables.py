"""What detection found, as the paper shows it: Table 2, Figures 2 and 3, as plain text."""

from minitox.neurons import count, overlap, sharing, size


def table2(masks: dict[str, dict], infos: dict[str, dict]) -> str:
    """Toxic neurons of each language, beside what they are worth.  [paper Table 2]"""
    neurons = size(next(iter(masks.values())))
    lines = [f"Table 2. Toxic neurons, AUROC > 0.5, of {neurons:,}", "",
             f"{'':4}{'sentences':>15}{'cut':>5}{'toxic neurons':>15}{'share':>8}{'random labels':>16}{'beyond chance':>15}"
             f"{'AUROC(length)':>15}{'split-half':>12}{'ties':>7}"]
    for language, mask in masks.items():
        info, found = infos[language], count(mask)
        band = "{:.1%}..{:.1%}".format(*info["band"])
        lines.append(f"{language:4}{info['toxic']:>7,} +{info['clean']:>6,}{info['cut']:>5,}{found:>15,}{found / neurons:>8.1%}{band:>16}"
                     f"{info['beyond_chance']:>15.1%}{info['length_auroc']:>15.3f}{info['split_half']:>12.2f}{info['ties']:>7.1%}")
    return "\n".join(lines)


LEGEND = """\
  random labels   95 % of label permutations give a share in this band: a share inside it is no evidence of toxic neurons
  beyond chance   neurons whose AUROC only 2.5 % of such random ones reach: 2.5 % is what random labels give on average
  AUROC(length)   how well the number of tokens alone tells toxic (above 0.5) from clean (below); max pooling follows it
  split-half      neurons that both halves of the sentences call toxic, of those that either does
  ties            neurons of AUROC exactly 0.5"""


def figure2(masks: dict[str, dict]) -> str:
    """How far each language's neurons are its own.  [paper Figure 2]"""
    lines = ["Figure 2. Toxic neurons by how many languages share them", "",
             f"{'':4}{'only here':>12}{'some others':>14}{'all ' + str(len(masks)):>12}"]
    lines += [f"{language:4}{own:>12,}{some:>14,}{everyone:>12,}" for language, (own, some, everyone) in sharing(masks).items()]
    return "\n".join(lines)


def figure3(masks: dict[str, dict]) -> str:
    """Pairwise overlap: neurons shared, and the ratio to what independent sets of these sizes would share.  [paper Figure 3]"""
    languages = list(masks)
    pairs = {(a, b): overlap(masks[a], masks[b]) for a in languages for b in languages}
    header = f"{'':4}" + "".join(f"{language:>10}" for language in languages)
    lines = ["Figure 3. Overlap of toxic neurons between languages", "", "neurons shared", header]
    lines += [f"{a:4}" + "".join(f"{pairs[a, b][0]:>10,}" for b in languages) for a in languages]
    lines += ["", "times what chance would give (1.00: independent sets)", header]
    lines += [f"{a:4}" + "".join(f"{pairs[a, b][1]:>10.2f}" if a != b else f"{'-':>10}" for b in languages) for a in languages]
    return "\n".join(lines)
