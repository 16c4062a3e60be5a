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
        lines.append(f"{language:4}{len(found.train):>8,}{len(found.unseen):>8,}{found.dropped:>10,}{found.dropped_tokens:>14,}{tokens:>11,}{replies:>12,}")
    return "\n".join(lines)


def plan_table(plans: list[Plan], stages: dict[str, list[dict]], toxic: dict | None, config: Config) -> str:
    """What every strategy will change, stage by stage, before anything is tuned; `toxic`: the neurons toxic in any language."""
    whole = size(config, None)
    lines = [f"What will be tuned, of {whole:,} weights" + (f" and {neurons.size(toxic):,} neurons, of which {neurons.count(toxic):,} "
                                                             "are toxic in some language" if toxic else ""), "",
             f"{'':16}{'stage':>6}{'neurons':>10}{'toxic':>8}{'weights':>15}{'of model':>10}{'optimizer':>12}{'pairs':>8}{'steps':>7}"]
    for plan in plans:
        for stage, mask in zip(stages[plan.name] or [None], plan.masks):
            weights, count = size(config, mask), f"{neurons.count(mask):,}" if mask else "all"
            share = f"{neurons.overlap(mask, toxic)[0] / max(1, neurons.count(mask)):.0%}" if mask else "-"
            then = f"{memory(stage['optimizer_bytes']):>12}{stage['pairs']:>8,}{stage['steps']:>7,}" if stage else f"{'scaled, not tuned':>27}"
            lines.append(f"{plan.name:16}{stage['name'] if stage else '':>6}{count:>10}{share:>8}{weights:>15,}{weights / whole:>10.1%}{then}")
    return "\n".join(lines)


def result_table(results: dict[str, dict]) -> str:
    """What each model became, from its run.json."""
    lines = ["What became of it", "", f"{'':16}{'frozen weights':>16}{'':>15}{'tuned weights':>15}{'changed':>9}{'loss on unseen pairs':>23}"]
    for name, result in results.items():
        proof, unseen = result["proof"], [row for row in result["unseen"].values() if row["before"] is not None]
        before, after = (sum(row[key] for row in unseen) / len(unseen) if unseen else None for key in ("before", "after"))
        loss = f"{before:.3f} -> {after:.3f}" if unseen else "-"
        lines.append(f"{name:16}{proof['frozen_weights']:>16,}{' bit-identical' if proof['frozen_weights'] else '':15}"
                     f"{proof['tuned_weights']:>15,}{proof['changed']:>9.1%}{loss:>23}")
    return "\n".join(lines)


def memory(count: int) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1_000:
            return f"{count:,.{0 if unit == 'B' else 1}f} {unit}"
        count /= 1_000
    return f"{count:,.1f} GB"
