"""Solutions of the exercises, which are minitox's own functions, and plausible mistakes.

To test a mistake, it replaces one function, and the exercise's other functions stay right.
"""

import numpy as np
import torch
import torch.nn.functional as F

from minitox import neurons
from minitox.detect import controls, responses
from minitox.detect.auroc import auroc, midranks
from minitox.evaluate import metrics
from minitox.run import training
from minitox.scorers.scores import is_blank
from minitox.train import dpo, interventions
from minitox.train.loss import chunked_reply_loss
from minitox.train.optim import MaskedAdamW
from minitox.train.pairs import Pair
from minitox.train.row_optim import RowAdamW

SOLUTIONS = {}
MISTAKES = {}
GATE = "model.layers.0.mlp.gate_proj"


# 1. AUROC


def one_auroc(responses, toxic):
    return auroc(responses[None], toxic)[0]


def from_ranks(ranks, toxic):
    ones = toxic.sum()
    zeros = (~toxic).sum()
    return (ranks[toxic].sum() - ones * (ones + 1) / 2) / (ones * zeros)


def no_ties(responses, toxic):
    return from_ranks(np.argsort(np.argsort(responses)) + 1, toxic)


def ties_count_one(responses, toxic):
    return from_ranks(np.searchsorted(np.sort(responses), responses, "right"), toxic)


def ranks_of_16_bits(responses, toxic):
    return from_ranks(midranks(responses[None])[0].astype(np.int16).astype(np.float16), toxic)


def all_pairs(responses, toxic):
    a = responses[toxic][:, None]
    b = responses[~toxic]
    return ((a > b) + (a == b) / 2).mean()


def sign_reversed(responses, toxic):
    return one_auroc(-responses, toxic)


SOLUTIONS["exercise_1_auroc"] = {"auroc": one_auroc}
MISTAKES["exercise_1_auroc"] = {
    "auroc": {
        "no ties": no_ties,
        "ties count one": ties_count_one,
        "ranks of 16 bits": ranks_of_16_bits,
        "all pairs": all_pairs,
        "sign reversed": sign_reversed,
    },
}


# 2. A planted neuron


def copy_embedding(model, row, token):
    model.get_submodule(GATE).weight.data[row] = model.model.embed_tokens.weight[token]


def plant_a_column(model, row, token):
    model.get_submodule(GATE).weight.data[:, row] = model.model.embed_tokens.weight[token, 0]


def all_responses(model, sentences, special=(0,)):  # -> (N, K)
    pooled = [
        responses.pooled_responses(model, [ids], set(special), responses.pool_max)
        for ids in sentences
    ]
    return torch.cat(pooled).half().numpy()


def bos_is_a_word(model, sentences):
    return all_responses(model, sentences, special=())


def highest(model, toxic, clean):
    sentences = toxic + clean
    values = np.ascontiguousarray(all_responses(model, sentences).T)  # (K, N)
    aurocs = auroc(values, np.arange(len(sentences)) < len(toxic))
    by_module = neurons.by_module(aurocs, neurons.module_rows(model.config))
    for name, chosen in neurons.select_top(by_module, 1 / len(aurocs)).items():
        if chosen.any():
            return int(name.split(".")[2]), name.split(".")[-1], int(chosen.argmax())


def lowest(model, toxic, clean):
    return highest(model, clean, toxic)


def all_layers_have_as_many_rows(model, toxic, clean):
    """Ignores that down_proj has fewer rows than gate_proj and up_proj."""
    layer, projection, row = highest(model, toxic, clean)
    rows = model.config.intermediate_size
    place = layer * (2 * rows + model.config.hidden_size)
    place += neurons.PROJECTIONS.index(projection) * rows + row
    return place // (3 * rows), neurons.PROJECTIONS[place // rows % 3], place % rows


SOLUTIONS["exercise_2_planted_neuron"] = {
    "plant": copy_embedding,
    "responses": all_responses,
    "find": highest,
}
MISTAKES["exercise_2_planted_neuron"] = {
    "plant": {"a column": plant_a_column},
    "responses": {"BOS is a word": bos_is_a_word},
    "find": {"all layers have as many rows": all_layers_have_as_many_rows, "lowest": lowest},
}


# 3. AURA


def aura(values):
    return interventions.scales("aura", {"": values}, {"": values > 0.5}, damp=0)[""]


def aura_amplifies(values):
    return 1 - 2 * (values - 0.5)


def fold_gate_into_down(model, factors):
    """Scales the columns that read the unit of gate_proj, as if silu(alpha x) = alpha silu(x)."""
    others = {name: values for name, values in factors.items() if "gate_proj" not in name}
    training.fold(model, others)
    for name, values in factors.items():
        if "gate_proj" in name:
            down = model.get_submodule(name.replace("gate_proj", "down_proj"))
            down.weight.data *= torch.from_numpy(values)


def fold_twice(model, factors):
    training.fold(model, {name: values**2 for name, values in factors.items()})


SOLUTIONS["exercise_3_aura"] = {"aura": aura, "fold": training.fold}
MISTAKES["exercise_3_aura"] = {
    "aura": {"amplifies": aura_amplifies},
    "fold": {"gate into down": fold_gate_into_down, "twice": fold_twice},
}


# 4. Pooling


def words(places, lengths):
    return (places > 0) & (places < lengths)


def with_padding(places, lengths):
    return (places > 0) & (lengths > 0)


def with_bos(places, lengths):
    return places < lengths


def one_too_far(places, lengths):
    return (places > 0) & (places <= lengths)


def pool_with(pool, keep=words):
    """A function that pools minitox's way over the places that `keep` chooses."""

    def pooled(output, lengths):
        kept = keep(torch.arange(output.shape[1]), lengths[:, None])  # (B, T)
        return pool(output, kept, *responses.common_columns(kept))

    return pooled


def zeros_for_padding(output, lengths):
    kept = words(torch.arange(output.shape[1]), lengths[:, None])
    return (output * kept[..., None]).amax(dim=1)


def match_classes_alone(lengths, toxic, rng):
    return controls.match_lengths(np.zeros_like(lengths), toxic, rng)


def match_without_chance(lengths, toxic, rng):
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
    "match_lengths": {
        "classes alone": match_classes_alone,
        "without chance": match_without_chance,
    },
}


# 5. Random labels


def permutations_of_each_neuron(responses, toxic, rng, permutations=200):
    aurocs = [controls.shuffled_aurocs(row[None], toxic, rng, permutations) for row in responses]
    return np.concatenate(aurocs)


def coins(responses, toxic, rng, permutations=200):
    """Draws every label independently, so that the number of toxic sentences varies."""
    aurocs = []
    for _ in range(permutations):
        labels = rng.random(len(toxic)) < toxic.mean()
        aurocs.append(auroc(responses, labels if labels.any() else toxic))
    return np.stack(aurocs, axis=1)


def bootstrap(responses, toxic, rng, permutations=200):
    """Draws sentences, not labels: an interval of the estimate, not of what chance gives."""
    groups = [np.flatnonzero(toxic == label) for label in (True, False)]
    aurocs = []
    for _ in range(permutations):
        places = np.concatenate([rng.choice(group, len(group)) for group in groups])
        aurocs.append(auroc(np.ascontiguousarray(responses[:, places]), toxic[places]))
    return np.stack(aurocs, axis=1)


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
        "permutations of each neuron": permutations_of_each_neuron,
        "coins": coins,
        "bootstrap": bootstrap,
    },
    "band": {"of AUROCs": band_of_aurocs, "of extremes": band_of_extremes},
    "beyond_chance": {"above one half": above_one_half},
}


# 6. The loss on replies


def minitox_loss(model, prompts, replies, end):
    """minitox runs backward itself, so the gradients are already where backward() would put them.

    The result requires a gradient only so that backward() can be called on it.
    """
    group = []
    for prompt, reply in zip(prompts, replies, strict=True):
        group.append(Pair([*prompt, *reply, end], len(prompt), ""))
    tokens = sum(pair.reply_tokens for pair in group)
    return (chunked_reply_loss(model, group, 1 / tokens) / tokens).requires_grad_()


def loss_with(first=0, shift=1, end=True, mean_of_means=False, ignored=-1):
    """A loss computed one text at a time, with a mistake in it."""

    def loss(model, prompts, replies, last):
        losses = []
        for prompt, reply in zip(prompts, replies, strict=True):
            ids = torch.tensor([*prompt, *reply, last][: None if end else -1])
            start = max(1, len(prompt) + first)
            logits = model(ids[None])[0, start - shift : len(ids) - shift]
            targets = ids[start:]
            losses.append(F.cross_entropy(logits, targets, reduction="none")[targets != ignored])
        if mean_of_means:
            return torch.stack([values.mean() for values in losses]).mean()
        return torch.cat(losses).mean()

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

SAME_ROWS = [[True, True, False, False]] * 3  # a mask of 4 rows for each of 3 steps
THEN_NO_ROW = [*SAME_ROWS, [False] * 4]


def decay_moves():
    return 0.1, SAME_ROWS


def nothing_moves():
    return 0.0, SAME_ROWS


def momentum_moves():
    return 0.0, THEN_NO_ROW


def momentum_and_decay_move():
    return 0.1, THEN_NO_ROW


def tune_with(kind, fresh=True):
    """Tune with an optimizer of minitox: a new one for each stage, or the first one throughout."""

    def tune(weight, stages, lr, decay, clip):
        weight = torch.nn.Parameter(weight.clone())
        optimizer = None
        for mask, grads in stages:
            if fresh or optimizer is None:
                optimizer = kind({"w": weight}, {"w": mask}, decay=decay)
            for grad in grads:
                weight.grad = grad.clone()
                norm = optimizer.gradient_norms().norm().item()
                optimizer.step(lr, min(1, clip / norm))
        return weight.detach()

    return tune


def tune_with_torch(no_decay=False, clip_before_masking=False):
    """Tune with torch.optim.AdamW on the whole weight, with masked gradients.

    With `clip_before_masking`, clip the gradient of all rows, and restore the frozen rows.
    """

    def tune(weight, stages, lr, decay, clip):
        weight = weight.clone().requires_grad_()
        for mask, grads in stages:
            before = weight.detach().clone()
            optimizer = torch.optim.AdamW([weight], lr=lr, weight_decay=0.0 if no_decay else decay)
            for grad in grads:
                weight.grad = grad.clone() if clip_before_masking else grad * mask[:, None]
                torch.nn.utils.clip_grad_norm_([weight], clip)
                weight.grad *= mask[:, None]
                optimizer.step()
            if clip_before_masking:
                weight.data[~mask] = before[~mask]
        return weight.detach()

    return tune


SOLUTIONS["exercise_7_frozen_rows"] = {
    "moved_by_decay": decay_moves,
    "moved_by_momentum": momentum_moves,
    "tune": tune_with(RowAdamW),
}
MISTAKES["exercise_7_frozen_rows"] = {
    "moved_by_decay": {"no decay": nothing_moves},
    "moved_by_momentum": {
        "no change of mask": nothing_moves,
        "with decay": momentum_and_decay_move,
    },
    "tune": {
        "masked gradient": tune_with_torch(),
        "no decay": tune_with_torch(no_decay=True),
        "clipped before masked": tune_with_torch(clip_before_masking=True),
        "one optimizer for all stages": tune_with(MaskedAdamW, fresh=False),
    },
}


# 8. The verdict


def minitox_difference(ours, theirs, rng, resamples=1_000):
    resampled = metrics.resample(len(ours), rng)
    return metrics.interval(metrics.mean(ours, resampled) - metrics.mean(theirs, resampled))


def unpaired(ours, theirs, rng, resamples=1_000):
    a = metrics.mean(ours, metrics.resample(len(ours), rng))
    b = metrics.mean(theirs, metrics.resample(len(theirs), rng))
    return metrics.interval(a - b)


def every_reply_a_prompt(ours, theirs, rng, resamples=1_000):
    return minitox_difference(ours.reshape(-1, 1), theirs.reshape(-1, 1), rng)


def quantiles_of_prompts(ours, theirs, rng, resamples=1_000):
    """The middle 95 % of the prompts, not of the mean."""
    differences = (ours - theirs).mean(axis=1)
    return differences.mean(), *np.quantile(differences, [0.025, 0.975])


def minitox_share(replies, scores, languages, prompt_language):
    blank = np.array([[is_blank(reply)] for reply in replies])
    scores = np.array(scores, dtype=float)[:, None]
    codes = np.array([[code or ""] for code in languages])
    judged = metrics.Replies(
        np.where(blank, np.nan, scores),
        np.where(blank, "empty", "scored"),
        np.full(blank.shape, False),
        np.where(blank, "", codes),
    )
    return metrics.safety(judged, prompt_language)["clean in language"].mean()


def of_scored_replies(replies, scores, languages, prompt_language):
    known = [i for i, score in enumerate(scores) if score is not None]
    return minitox_share(
        [replies[i] for i in known],
        [scores[i] for i in known],
        [languages[i] for i in known],
        prompt_language,
    )


def empty_is_clean(replies, scores, languages, prompt_language):
    return minitox_share(["A soup." for _ in replies], scores, languages, prompt_language)


def in_any_language(replies, scores, languages, prompt_language):
    return minitox_share(replies, scores, [prompt_language for _ in languages], prompt_language)


def unscored_is_clean(replies, scores, languages, prompt_language):
    return minitox_share(replies, [score or 0.0 for score in scores], languages, prompt_language)


SOLUTIONS["exercise_8_verdict"] = {"difference": minitox_difference, "share_wanted": minitox_share}
MISTAKES["exercise_8_verdict"] = {
    "difference": {
        "unpaired": unpaired,
        "every reply a prompt": every_reply_a_prompt,
        "quantiles of prompts": quantiles_of_prompts,
    },
    "share_wanted": {
        "of scored replies": of_scored_replies,
        "empty is clean": empty_is_clean,
        "in any language": in_any_language,
        "unscored is clean": unscored_is_clean,
    },
}


# 9. A preference


def one_log_probability(model, prompt, reply, end):
    pair = Pair([*prompt, *reply, end], len(prompt), "")
    return dpo.reply_log_probabilities(model, [pair])[0]


def log_probability_with(first=0, last=0, mean=False):
    """The log-probability of other tokens than those of the reply, or their mean."""

    def log_probability(model, prompt, reply, end):
        ids = [*prompt, *reply, end]
        start = len(prompt) + first
        stop = len(ids) + last
        logits = model(torch.tensor([ids]))[0, start - 1 : stop - 1]
        losses = F.cross_entropy(logits, torch.tensor(ids[start:stop]), reduction="none")
        return -(losses.mean() if mean else losses.sum())

    return log_probability


def preference_loss(log_p, rejected, reference, rejected_reference, beta):
    margins = dpo.reward_margins(log_p, rejected, reference, rejected_reference, beta)
    return dpo.dpo_loss(margins)


def without_reference(log_p, rejected, reference, rejected_reference, beta):
    return -F.logsigmoid(beta * (log_p - rejected))


def log_of_sigmoid(log_p, rejected, reference, rejected_reference, beta):
    margins = dpo.reward_margins(log_p, rejected, reference, rejected_reference, beta)
    return -margins.sigmoid().log()


def loss_of_all_pairs(log_p, rejected, reference, rejected_reference, beta):
    return preference_loss(log_p, rejected, reference, rejected_reference, beta).mean()


def push_by_autograd(log_p, *others):
    log_p = log_p.clone().requires_grad_()
    preference_loss(log_p, *others).sum().backward()
    return -log_p.grad


def push_of_right_pairs(log_p, rejected, reference, rejected_reference, beta):
    return beta * dpo.reward_margins(log_p, rejected, reference, rejected_reference, beta).sigmoid()


def push_without_beta(*arguments):
    return push_by_autograd(*arguments) / arguments[-1]


SOLUTIONS["exercise_9_preference"] = {
    "log_probability": one_log_probability,
    "dpo_loss": preference_loss,
    "push": push_by_autograd,
}
MISTAKES["exercise_9_preference"] = {
    "log_probability": {
        "mean over tokens": log_probability_with(mean=True),
        "without the end": log_probability_with(last=-1),
        "with a token of the prompt": log_probability_with(first=-1),
    },
    "dpo_loss": {
        "without the reference": without_reference,
        "log of a sigmoid": log_of_sigmoid,
        "mean over pairs": loss_of_all_pairs,
    },
    "push": {
        "of right pairs": push_of_right_pairs,
        "without beta": push_without_beta,
    },
}


# 10. The learning rate


def step_of_minitox(weights, grads, masks, lr, eps=1e-8):
    """The first step of minitox's optimizer, without weight decay."""
    after = []
    for weight, grad, mask in zip(weights, grads, masks, strict=True):
        parameter = torch.nn.Parameter(weight.clone())
        optimizer = MaskedAdamW({"w": parameter}, {"w": mask}, eps=eps, decay=0.0)
        parameter.grad = grad.clone()
        optimizer.step(lr)
        after.append(parameter.detach())
    return after


def step_of_sgd(weights, grads, masks, lr, eps=1e-8):
    modules = zip(weights, grads, masks, strict=True)
    return [weight - lr * grad * mask[:, None] for weight, grad, mask in modules]


def step_of_all_rows(weights, grads, masks, lr, eps=1e-8):
    every = [torch.ones_like(mask) for mask in masks]
    return step_of_minitox(weights, grads, every, lr, eps)


def step_in_place(weights, grads, masks, lr, eps=1e-8):
    after = step_of_minitox(weights, grads, masks, lr, eps)
    for weight, of_step in zip(weights, after, strict=True):
        weight.copy_(of_step)
    return weights


def decrease(grads, masks, lr):
    return lr * sum(grad[mask].abs().sum() for grad, mask in zip(grads, masks, strict=True))


def decrease_of_sgd(grads, masks, lr):
    return lr * sum((grad[mask] ** 2).sum() for grad, mask in zip(grads, masks, strict=True))


def decrease_of_all_rows(grads, masks, lr):
    return decrease(grads, [torch.ones_like(mask) for mask in masks], lr)


def signed_decrease(grads, masks, lr):
    return lr * sum(grad[mask].sum() for grad, mask in zip(grads, masks, strict=True))


def rate_by_gradients(grads, masks, full_rate):
    return full_rate * decrease_of_all_rows(grads, masks, 1.0) / decrease(grads, masks, 1.0)


def rate_by_share(grads, masks, full_rate):
    """As `automatic_rate` does, which knows no gradients."""
    chosen = sum(int(mask.sum()) * grad.shape[1] for grad, mask in zip(grads, masks, strict=True))
    return full_rate * sum(grad.numel() for grad in grads) / chosen


def rate_by_length(grads, masks, full_rate):
    """The rate at which both steps are equally long."""
    return full_rate * (rate_by_share(grads, masks, 1.0)) ** 0.5


SOLUTIONS["exercise_10_learning_rate"] = {
    "first_step": step_of_minitox,
    "predicted_decrease": decrease,
    "matching_rate": rate_by_gradients,
}
MISTAKES["exercise_10_learning_rate"] = {
    "first_step": {
        "SGD": step_of_sgd,
        "all rows": step_of_all_rows,
        "in place": step_in_place,
    },
    "predicted_decrease": {
        "SGD": decrease_of_sgd,
        "all rows": decrease_of_all_rows,
        "with signs": signed_decrease,
    },
    "matching_rate": {
        "by the share": rate_by_share,
        "by the length of the step": rate_by_length,
    },
}
