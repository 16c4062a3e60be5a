"""What will be tuned, and what became of it, as plain text."""

from minitox import neurons
from minitox.files import as_written, read_json
from minitox.lm.config import Config
from minitox.report.page import aligned
from minitox.train.pairs import Pairs
from minitox.train.strategies import Plan, count_weights


def pairs_table(pairs: dict[str, Pairs]) -> str:
    """The pairs of each language, and the tokens in them."""
    rows = [["", "pairs", "unseen", "too long", "their tokens", "tokens", "of replies"]]
    for language, found in pairs.items():
        tokens, replies = (
            sum(len(pair.ids) for pair in found.train),
            sum(pair.reply_tokens for pair in found.train),
        )
        counts = (
            len(found.train),
            len(found.unseen),
            found.dropped,
            found.dropped_tokens,
            tokens,
            replies,
        )
        rows.append([language, *map("{:,}".format, counts)])
    return aligned(rows)


def plan_table(
    plans: list[Plan], stages: dict[str, list[dict]], toxic: dict | None, config: Config
) -> str:
    """What every strategy will change, stage by stage, before anything is tuned; `toxic`: the neurons toxic in any language."""
    whole, title = count_weights(config, None), "What will be tuned, of {:,} weights"
    if toxic:
        title += f" and {neurons.size(toxic):,} neurons, of which {neurons.count(toxic):,} are toxic in some language"
    rows = [["", "stage", "neurons", "toxic", "weights", "of model", "optimizer", "pairs", "steps"]]
    for plan in plans:
        for stage, mask in zip(stages[plan.name] or [None], plan.masks):
            weights, count, share = count_weights(config, mask), "all", "-"
            if mask is not None:
                count = f"{neurons.count(mask):,}"
                share = f"{neurons.overlap(mask, toxic)[0] / max(1, neurons.count(mask)):.0%}"
            name, *cost = "", "scaled, not tuned", "", ""
            if stage:
                name, *cost = (
                    stage["name"],
                    memory(stage["optimizer_bytes"]),
                    f"{stage['pairs']:,}",
                    f"{stage['steps']:,}",
                )
            rows.append(
                [plan.name, name, count, share, f"{weights:,}", f"{weights / whole:.1%}", *cost]
            )
    return f"{title.format(whole)}\n\n{aligned(rows)}"


def read_result(path) -> dict:
    """What `result_table` shows, of a model's run.json."""
    return as_written(
        path,
        read_json(path),
        proof={"frozen_weights": int, "tuned_weights": int, "changed": float},
        unseen={str: {"pairs": int, "before": float | None, "after": float | None}},
    )


def result_table(results: dict[str, dict]) -> str:
    """What each model became, from its run.json."""
    rows = [["", "frozen weights", "", "tuned weights", "changed", "loss on unseen pairs"]]
    for name, result in results.items():
        proof, unseen, loss = (
            result["proof"],
            [row for row in result["unseen"].values() if None not in row.values()],
            "-",
        )
        if unseen:
            before, after = (
                sum(row[when] for row in unseen) / len(unseen) for when in ("before", "after")
            )
            loss = f"{before:.3f} -> {after:.3f}"
        rows.append(
            [
                name,
                f"{proof['frozen_weights']:,}",
                "bit-identical" if proof["frozen_weights"] else "",
                f"{proof['tuned_weights']:,}",
                f"{proof['changed']:.1%}",
                loss,
            ]
        )
    return f"What became of it\n\n{aligned(rows)}"


LEGEND = """\
  frozen weights         their SHA-256 is that of the base model's; run.json records it
  changed                share of the tuned weights that are not what they were
  loss on unseen pairs   per token of the replies, mean over languages, before and after"""


def memory(count: int) -> str:
    power = min(3, (len(str(count)) - 1) // 3)
    return f"{count / 1_000**power:,.{min(1, power)}f} {('B', 'kB', 'MB', 'GB')[power]}"
