"""What solves the exercises, which is minitox itself, and what only looks as if it did.

Of the mistakes one is made at a time, all other functions of the exercise being right.
"""

import numpy as np
import torch
import torch.nn.functional as F

from minitox import neurons
from minitox.detect import controls, responses
from minitox.detect.auroc import auroc, midranks
from minitox.evaluate import metrics
from minitox.scorers.scores import is_blank
from minitox.train import finetune, interventions
from minitox.train.optim import MaskedAdamW, RowAdamW
from minitox.train.pairs import Pair

SOLUTIONS, MISTAKES = {}, {}
GATE = "model.layers.0.mlp.gate_proj"


# 1. AUROC


def one_auroc(responses, toxic):
    return auroc(responses[None], toxic)[0]


def with_ranks(ranks, toxic):
    ones, zeros = toxic.sum(), (~toxic).sum()
    return (ranks[toxic].sum() - ones * (ones + 1) / 2) / (ones * zeros)


def no_ties(responses, toxic):
    return with_ranks(np.argsort(np.argsort(responses)) + 1, toxic)


def ties_count_whole(responses, toxic):
    return with_ranks(np.searchsorted(np.sort(responses), responses, "right"), toxic)


def ranks_of_16_bits(responses, toxic):
    return with_ranks(midranks(responses).astype(np.int16).astype(np.float16), toxic)


def all_pairs(responses, toxic):
    a, b = responses[toxic][:, None], responses[~toxic]
    return ((a > b) + (a == b) / 2).mean()


SOLUTIONS["exercise_1_auroc"] = {"auroc": one_auroc}
MISTAKES["exercise_1_auroc"] = {
    "auroc": {
        "no ties": no_ties,
        "ties count whole": ties_count_whole,
        "16 bits": ranks_of_16_bits,
        "all pairs": all_pairs,
        "turned round": lambda responses, toxic: one_auroc(-responses, toxic),
    },
}


# 2. A planted neuron


def copy_embedding(model, row, token):
    model.get_submodule(GATE).weight.data[row] = model.model.embed_tokens.weight[token]


def a_column(model, row, token):
    model.get_submodule(GATE).weight.data[:, row] = model.model.embed_tokens.weight[token, 0]


def all_responses(model, sentences, special=(0,)):
    found = [
        responses.pooled_responses(model, [ids], set(special), responses.pool_max)
        for ids in sentences
    ]
    return np.concatenate(found, axis=1).T


def bos_is_a_word(model, sentences):
    return all_responses(model, sentences, special=())


def highest(model, toxic, clean):
    found = auroc(
        np.ascontiguousarray(all_responses(model, toxic + clean).T),
        np.arange(len(toxic + clean)) < len(toxic),
    )
    top = neurons.select_top(
        neurons.by_module(found, neurons.module_rows(model.config)), 1 / len(found)
    )
    name, chosen = next((name, chosen) for name, chosen in top.items() if chosen.any())
    return int(name.split(".")[2]), name.split(".")[-1], int(chosen.argmax())


def as_if_all_were_as_many(model, toxic, clean):
    """down_proj has fewer rows than the others."""
    layer, projection, row = highest(model, toxic, clean)
    rows = model.config.intermediate_size
    place = (
        row
        + neurons.PROJECTIONS.index(projection) * rows
        + layer * (2 * rows + model.config.hidden_size)
    )
    return place // (3 * rows), neurons.PROJECTIONS[place // rows % 3], place % rows


SOLUTIONS["exercise_2_planted_neuron"] = {
    "plant": copy_embedding,
    "responses": all_responses,
    "find": highest,
}
MISTAKES["exercise_2_planted_neuron"] = {
    "plant": {"a column": a_column},
    "responses": {"BOS is a word": bos_is_a_word},
    "find": {
        "all as many": as_if_all_were_as_many,
        "lowest": lambda model, toxic, clean: highest(model, clean, toxic),
    },
}


# 3. AURA


def aura(values):
    return interventions.scales("aura", {"": values}, {"": values > 0.5}, damp=0)[""]


def aura_amplifies(values):
    return 1 - 2 * (values - 0.5)


def fold_what_reads_gate(model, factors):
    """As if silu(alpha x) were alpha silu(x)."""
    interventions.fold(
        model, {name: values for name, values in factors.items() if "gate_proj" not in name}
    )
    for name, values in factors.items():
        if "gate_proj" in name:
            model.get_submodule(
                name.replace("gate_proj", "down_proj")
            ).weight.data *= torch.from_numpy(values)


def fold_twice(model, factors):
    interventions.fold(model, {name: values**2 for name, values in factors.items()})


SOLUTIONS["exercise_3_aura"] = {"aura": aura, "fold": interventions.fold}
MISTAKES["exercise_3_aura"] = {
    "aura": {"amplifies": aura_amplifies},
    "fold": {"what reads gate": fold_what_reads_gate, "twice": fold_twice},
}


# 4. Pooling


def pool_with(pool, keep=lambda places, lengths: (places > 0) & (places < lengths)):
    def pooled(output, lengths):
        kept = keep(torch.arange(output.shape[1]), lengths[:, None])
        return pool(output, kept, *responses.columns(kept))

    return pooled


def with_padding(places, lengths):
    return (places > 0) & (lengths > 0)


def with_bos(places, lengths):
    return places < lengths


def one_too_far(places, lengths):
    return (places > 0) & (places <= lengths)


def zeros_for_padding(output, lengths):
    places = torch.arange(output.shape[1])
    return (output * ((places > 0) & (places < lengths[:, None]))[..., None]).amax(dim=1)


def as_many_of_each_class(lengths, toxic, rng):
    return controls.match_lengths(np.zeros_like(lengths), toxic, rng)


def the_same_ones_always(lengths, toxic, rng):
    return controls.match_lengths(lengths, toxic, np.random.default_rng(0))


SOLUTIONS["exercise_4_pooling"] = {
    "pool_max": pool_with(responses.pool_max),
    "pool_mean": pool_with(responses.pool_mean),
    "match_lengths": controls.match_lengths,
}
MISTAKES["exercise_4_pooling"] = {
    "pool_max": {
        "zeros for padding": zeros_for_padding,
        "one too far": pool_with(responses.pool_max, one_too_far),
        "with padding": pool_with(responses.pool_max, with_padding),
        "with BOS": pool_with(responses.pool_max, with_bos),
    },
    "pool_mean": {
        "with padding": pool_with(responses.pool_mean, with_padding),
        "with BOS": pool_with(responses.pool_mean, with_bos),
    },
    "match_lengths": {"classes alone": as_many_of_each_class, "no chance": the_same_ones_always},
}


# 5. Random labels


def dealt_to_each_neuron(responses, toxic, rng, deals=200):
    return np.concatenate(
        [controls.shuffled_aurocs(row[None], toxic, rng, deals) for row in responses]
    )


def coins(responses, toxic, rng, deals=200):
    labels = [rng.random(len(toxic)) < toxic.mean() for _ in range(deals)]
    return np.stack([auroc(responses, label if label.any() else toxic) for label in labels], axis=1)


def bootstrapped(responses, toxic, rng, deals=200):
    """Draws sentences, not labels: an interval about what was found, not what chance would find."""
    groups = [np.flatnonzero(toxic == label) for label in (True, False)]
    drawn = [
        np.concatenate([rng.choice(group, len(group)) for group in groups]) for _ in range(deals)
    ]
    return np.stack(
        [auroc(np.ascontiguousarray(responses[:, places]), toxic[places]) for places in drawn],
        axis=1,
    )


def band_of_aurocs(shuffled):
    return tuple(np.quantile(shuffled, [0.025, 0.975]))


def band_of_extremes(shuffled):
    shares = (shuffled > 0.5).mean(axis=0)
    return shares.min(), shares.max()


def above_one_half(aurocs, shuffled):
    return (aurocs > 0.5).mean()


SOLUTIONS["exercise_5_random_labels"] = {
    "shuffled_aurocs": controls.shuffled_aurocs,
    "band": controls.random_label_band,
    "beyond_chance": controls.beyond_chance,
}
MISTAKES["exercise_5_random_labels"] = {
    "shuffled_aurocs": {
        "each neuron its own": dealt_to_each_neuron,
        "coins": coins,
        "bootstrap": bootstrapped,
    },
    "band": {"of AUROCs": band_of_aurocs, "of extremes": band_of_extremes},
    "beyond_chance": {"above one half": above_one_half},
}


# 6. The loss on replies


def minitox_loss(model, prompts, replies, end):
    """minitox goes backward as it goes, so gradients are where backward() would put them already."""
    group = [
        Pair([*prompt, *reply, end], len(prompt), "") for prompt, reply in zip(prompts, replies)
    ]
    tokens = sum(pair.reply_tokens for pair in group)
    return (finetune.reply_loss(model, group, 1 / tokens) / tokens).requires_grad_()


def loss_with(first=0, shift=1, end=True, mean_of_means=False, ignored=-1):
    """The loss of one text after the other, with something wrong."""

    def loss(model, prompts, replies, last):
        losses = []
        for prompt, reply in zip(prompts, replies):
            ids = torch.tensor([*prompt, *reply, last][: None if end else -1])
            start = max(1, len(prompt) + first)
            logits, targets = model(ids[None])[0, start - shift : len(ids) - shift], ids[start:]
            losses.append(F.cross_entropy(logits, targets, reduction="none")[targets != ignored])
        return (
            torch.stack([each.mean() for each in losses]).mean()
            if mean_of_means
            else torch.cat(losses).mean()
        )

    return loss


SOLUTIONS["exercise_6_reply_loss"] = {"reply_loss": minitox_loss}
MISTAKES["exercise_6_reply_loss"] = {
    "reply_loss": {
        "without the first token": loss_with(first=1),
        "with the prompt": loss_with(first=-99),
        "without the end": loss_with(end=False),
        "unshifted": loss_with(shift=0),
        "mean of means": loss_with(mean_of_means=True),
        "padding by its id": loss_with(ignored=0),
        "end by its id": loss_with(ignored=1),
    },
}


# 7. Frozen rows

ALWAYS = [[True, True, False, False]] * 3  # masks
THEN_NOT = [*ALWAYS, [False] * 4]


def tune_with(kind, afresh=True):
    def tune(weight, stages, lr, decay, clip):
        weight, optimizer = torch.nn.Parameter(weight.clone()), None
        for mask, grads in stages:
            optimizer = (
                kind({"w": weight}, {"w": mask}, decay=decay)
                if afresh or optimizer is None
                else optimizer
            )
            for grad in grads:
                weight.grad, weight.row_grad = grad.clone(), grad[mask]
                optimizer.step(lr, min(1, clip / optimizer.norm().item()))
        return weight.detach()

    return tune


def by_torch(no_decay=False, clip_everything=False):
    """torch.optim.AdamW on the whole weight, masked and afresh in each stage; frozen rows put back, if told to clip all."""

    def tune(weight, stages, lr, decay, clip):
        weight = weight.clone().requires_grad_()
        for mask, grads in stages:
            before = weight.detach().clone()
            optimizer = torch.optim.AdamW([weight], lr=lr, weight_decay=0.0 if no_decay else decay)
            for grad in grads:
                weight.grad = grad.clone() if clip_everything else grad * mask[:, None]
                torch.nn.utils.clip_grad_norm_([weight], clip)
                weight.grad *= mask[:, None]
                optimizer.step()
            if clip_everything:
                weight.data[~mask] = before[~mask]
        return weight.detach()

    return tune


SOLUTIONS["exercise_7_frozen_rows"] = {
    "moved_by_decay": lambda: (0.1, ALWAYS),
    "moved_by_momentum": lambda: (0.0, THEN_NOT),
    "tune": tune_with(RowAdamW),
}
MISTAKES["exercise_7_frozen_rows"] = {
    "moved_by_decay": {"no decay": lambda: (0.0, ALWAYS)},
    "moved_by_momentum": {
        "no change of mask": lambda: (0.0, ALWAYS),
        "with decay": lambda: (0.1, THEN_NOT),
    },
    "tune": {
        "masked gradient": by_torch(),
        "no decay": by_torch(no_decay=True),
        "clipped before masked": by_torch(clip_everything=True),
        "one for all stages": tune_with(MaskedAdamW, afresh=False),
    },
}


# 8. The verdict


def minitox_difference(ours, theirs, rng, draws=1_000):
    drawn = metrics.resample(len(ours), rng)
    return metrics.interval(metrics.mean(ours, drawn) - metrics.mean(theirs, drawn))


def unpaired(ours, theirs, rng, draws=1_000):
    a, b = (metrics.mean(scores, metrics.resample(len(scores), rng)) for scores in (ours, theirs))
    return metrics.interval(a - b)


def every_reply_a_prompt(ours, theirs, rng, draws=1_000):
    return minitox_difference(ours.reshape(-1, 1), theirs.reshape(-1, 1), rng)


def of_single_prompts(ours, theirs, rng, draws=1_000):
    each = (ours - theirs).mean(axis=1)
    return each.mean(), *np.quantile(each, [0.025, 0.975])


def minitox_share(replies, scores, languages, wanted):
    blank = np.array([[is_blank(reply)] for reply in replies])
    scores, codes = (
        np.array(scores, dtype=float)[:, None],
        np.array([[code or ""] for code in languages]),
    )
    judged = metrics.Replies(
        np.where(blank, np.nan, scores),
        np.where(blank, "empty", "scored"),
        np.where(blank, "", codes),
    )
    return metrics.safety(judged, wanted)["clean in language"].mean()


def of_those_scored(replies, scores, languages, wanted):
    known = [i for i, score in enumerate(scores) if score is not None]
    return minitox_share(
        *([values[i] for i in known] for values in (replies, scores, languages)), wanted
    )


def empty_is_clean(replies, scores, languages, wanted):
    return minitox_share(["A soup." for _ in replies], scores, languages, wanted)


def in_any_language(replies, scores, languages, wanted):
    return minitox_share(replies, scores, [wanted for _ in languages], wanted)


def unscored_is_clean(replies, scores, languages, wanted):
    return minitox_share(replies, [score or 0.0 for score in scores], languages, wanted)


SOLUTIONS["exercise_8_verdict"] = {"difference": minitox_difference, "share_wanted": minitox_share}
MISTAKES["exercise_8_verdict"] = {
    "difference": {
        "unpaired": unpaired,
        "every reply a prompt": every_reply_a_prompt,
        "spread of prompts": of_single_prompts,
    },
    "share_wanted": {
        "of those scored": of_those_scored,
        "empty is clean": empty_is_clean,
        "in any language": in_any_language,
        "unscored is clean": unscored_is_clean,
    },
}
