"""What will be tuned, and what became of it, as plain text."""

from minitox import neurons
from minitox.lm.config import Config
from minitox.train.pairs import Pairs
from minitox.train.strategies import Plan, size


def pairs_table(pairs: dict[str, Pairs]) -> str:
    """The pairs of each language, and the tokens in them."""
    lines = [f"{'':4}{'pairs':>8}{'unseen':>8}{'too long':>10}{'their tokens':>14}{'tokens':>11}{'of replies':>12}"]
    for language, found in pairs.items():
        tokens, replies = sum(len(pair.ids) for pair in found.train), sum(pair.reply_tokens for pair in found.train)
        lines.append(f"{language:4}{len(found.train):>8,}{len(found.unseen):>8,}{found.dropped:>10,}"
                     f"{found.dropped_tokens:>14,}{tokens:>11,}{replies:>12,}")
    return "\n".join(lines)


def plan_table(plans: list[Plan], stages: dict[str, list[dict]], toxic: dict | None, config: Config) -> str:
    """What every strategy will change, stage by stage, before anything is tuned; `toxic`: the neurons toxic in any language."""
    whole, title = size(config, None), "What will be tuned, of {:,} weights"
    if toxic:
        title += f" and {neurons.size(toxic):,} neurons, of which {neurons.count(toxic):,} are toxic in some language"
    lines = [title.format(whole), "", f"{'':16}{'stage':>6}{'neurons':>10}{'toxic':>8}{'weights':>15}{'of model':>10}"
                                      f"{'optimizer':>12}{'pairs':>8}{'steps':>7}"]
    for plan in plans:
        for stage, mask in zip(stages[plan.name] or [None], plan.masks):
            weights, count, share = size(config, mask), "all", "-"
            if mask is not None:
                count = f"{neurons.count(mask):,}"
                share = f"{neurons.overlap(mask, toxic)[0] / max(1, neurons.count(mask)):.0%}"
            line = f"{plan.name:16}{stage['name'] if stage else '':>6}{count:>10}{share:>8}{weights:>15,}{weights / whole:>10.1%}"
            if stage:
                line += f"{memory(stage['optimizer_bytes']):>12}{stage['pairs']:>8,}{stage['steps']:>7,}"
            lines.append(line if stage else f"{line}{'scaled, not tuned':>27}")
    return "\n".join(lines)


def result_table(results: dict[str, dict]) -> str:
    """What each model became, from its run.json."""
    lines = ["What became of it", "",
             f"{'':16}{'frozen weights':>16}{'':>15}{'tuned weights':>15}{'changed':>9}{'loss on unseen pairs':>23}"]
    for name, result in results.items():
        proof, unseen, loss = result["proof"], [row for row in result["unseen"].values() if row["pairs"]], "-"
        if unseen:
            before, after = (sum(row[when] for row in unseen) / len(unseen) for when in ("before", "after"))
            loss = f"{before:.3f} -> {after:.3f}"
        lines.append(f"{name:16}{proof['frozen_weights']:>16,}{' bit-identical' if proof['frozen_weights'] else '':15}"
                     f"{proof['tuned_weights']:>15,}{proof['changed']:>9.1%}{loss:>23}")
    return "\n".join(lines)


LEGEND = """\
  frozen weights         their SHA-256 is that of the base model's; run.json records it
  changed                share of the tuned weights that are not what they were
  loss on unseen pairs   per token of the replies, mean over languages, before and after"""


def memory(count: int) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1_000:
            return f"{count:,.{0 if unit == 'B' else 1}f} {unit}"
        count /= 1_000
    return f"{count:,.1f} GB"
