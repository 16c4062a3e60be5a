"""Tune a model on replies: batches, loss, schedule, and a checkpoint from which a killed run ends with the same bytes."""

import json
import math
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from minitox.errors import InputError
from minitox.files import as_written, parse, replacing
from minitox.lm import checkpoint
from minitox.lm.batching import batches, on_device, pad
from minitox.lm.model import LanguageModel
from minitox.run import distributed
from minitox.train.optim import MaskedAdamW, RowAdamW, RowLinear
from minitox.train.pairs import Pair, Pairs
from minitox.train.strategies import Stage, union, weight_rows


def tune(
    model: LanguageModel, stages: list[Stage], pairs: dict[str, Pairs], args, path: Path, show
) -> list[list[float]]:
    """Run the stages in order, from the checkpoint at `path` if there is one; returns the loss of every step of each stage.

    The model is changed in place; `show(losses)` is called after every step. InputError if a loss is not finite; the last
    checkpoint is then still there.
    """
    trained = [weight_rows(model, stage.mask) for stage in stages]
    model.model.activation_checkpointing = args.recompute
    ever = weight_rows(model, union([stage.mask for stage in stages]))
    losses, state = load_checkpoint(path, model, ever)
    for number, stage in enumerate(stages):
        if number < len(losses) - 1:
            continue  # done before this process began
        if number == len(losses):
            losses.append([])
        if not trained[number]:
            continue  # no neuron of this language was chosen
        optimizer = make_optimizer(
            model, stage, trained[number], args
        )  # of its own: one language's momentum must not push another's rows
        if losses[number]:
            set_state(optimizer, state, len(losses[number]), path)
        examples = [pair for language in stage.languages for pair in pairs[language].train]
        total = args.epochs * steps_in_epoch(len(examples), args)
        for step in range(len(losses[number]), total):
            batch, lr = (
                [examples[i] for i in batch_of(step, len(examples), args, number)],
                learning_rate(step, total, args),
            )
            loss = train_step(
                model, optimizer, batch, lr, args, f"step {step + 1} of {total} ({stage.name})"
            )
            losses[number].append(loss)
            if (step + 1) % args.checkpoint_steps == 0 or step + 1 == total:
                save_checkpoint(path, model, ever, optimizer, losses)
            show(losses)
    model.requires_grad_(False)
    model.model.activation_checkpointing = False
    return losses


def make_optimizer(
    model: LanguageModel, stage: Stage, rows: dict[str, torch.Tensor], args
) -> MaskedAdamW | RowAdamW:
    """An optimizer for the chosen rows (R,) of each weight; no other weight gets a gradient."""
    for weight in model.parameters():
        weight.requires_grad_(False).row_grad = None
    weights = {name: weight for name, weight in model.named_parameters() if name in rows}
    optimizer = {"rows": RowAdamW, "masked": MaskedAdamW}[args.optimizer](
        weights, rows, decay=args.weight_decay
    )
    if args.optimizer == "rows" and stage.mask is not None:
        for name in weights:
            layer = model.get_submodule(name.removesuffix(".weight"))
            layer.__class__ = RowLinear  # in place, because FSDP has wrapped this very module; only its backward pass changes
            layer.rows = None if rows[name].all() else rows[name].nonzero().squeeze(1)
    return optimizer


def train_step(
    model: LanguageModel, optimizer, batch: list[Pair], lr: float, args, where: str
) -> float:
    """One step on the mean loss over the batch's reply tokens, however many pieces it is computed in; returns that loss."""
    tokens, loss = (
        sum(pair.reply_tokens for pair in batch),
        torch.zeros((), device=model.model.embed_tokens.weight.device),
    )
    for group in pieces(
        [len(pair.ids) for pair in batch], args.batch_tokens
    ):  # an empty one only keeps up with the others
        summed = reply_loss(
            model, [batch[i] for i in group] or batch[:1], scale=1 / tokens if group else 0.0
        )
        if group:
            loss += summed / tokens
    for weight in optimizer.weights.values():
        if not distributed.is_spread(weight):
            distributed.all_reduce(weight.grad if weight.row_grad is None else weight.row_grad)
    loss, size = torch.stack(
        [distributed.all_reduce(loss), optimizer.norm()]
    ).tolist()  # the device is waited for once a step
    if not math.isfinite(loss) or not math.isfinite(size):
        lines = ", ".join(pair.where for pair in batch[:4]) + (", ..." if len(batch) > 4 else "")
        raise InputError(
            f"{where}: the loss is {loss:g} and its gradient {size:g}, on the batch of {lines}; the checkpoint before "
            "is kept; try a lower --lr or --dtype float32, with another --out"
        )
    optimizer.step(lr, min(1.0, args.clip / size) if size else 1.0)
    return loss


def pieces(lengths: list[int], tokens: int) -> list[list[int]]:
    """What this process computes of a step, as indices, at most `tokens` padded tokens at a time; nothing in some rounds.

    Where there are pieces for all processes they are those of a single one, and so is nearly all rounding: the first steps of
    Adam take the sign of a gradient, however small.
    """
    plan = batches(lengths, tokens)
    if len(plan) < distributed.WORLD:
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        shares = [order[process :: distributed.WORLD] for process in range(distributed.WORLD)]
        plans = [
            [[share[i] for i in group] for group in batches([lengths[i] for i in share], tokens)]
            for share in shares
        ]
        plan = [group for round in zip_longest(*plans, fillvalue=[]) for group in round]
    return [group or [] for group in distributed.deal(plan)]


def reply_loss(
    model: LanguageModel, group: list[Pair], scale: float | None = None
):  # -> (), summed over tokens
    """Cross-entropy of the replies and of the tokens that end them, given the prompts; with `scale`, its gradients are added up.

    Logits are made only where there is loss, a few positions at a time, and forgotten: (n, V) would outweigh all activations.
    """
    device = model.model.embed_tokens.weight.device
    rows = [row for row, pair in enumerate(group) for _ in range(pair.reply_tokens)]
    places = [
        place for pair in group for place in range(pair.start - 1, len(pair.ids) - 1)
    ]  # each predicts the next token
    targets = on_device([token for pair in group for token in pair.ids[pair.start :]], device)
    hidden = model.model(on_device(pad([pair.ids[:-1] for pair in group]), device))  # (B, T, D)
    hidden = hidden[on_device(rows, device), on_device(places, device)]  # (n, D)
    leaf = hidden.detach().requires_grad_(
        scale is not None
    )  # backward to here chunk by chunk, then once through the layers
    size = max(1, (2**23 if device.type == "cpu" else 2**27) // model.config.vocab_size)
    total = torch.zeros((), device=device)
    for part, target in zip(leaf.split(size), targets.split(size)):
        loss = F.cross_entropy(model.logits(part).float(), target, reduction="sum")
        if scale is not None:
            (loss * scale).backward()
        total += loss.detach()
    if scale is not None:
        hidden.backward(leaf.grad)
    return total


@torch.inference_mode()
def mean_losses(model: LanguageModel, pairs: dict[str, Pairs], args) -> dict[str, float | None]:
    """For each language, the mean loss over the reply tokens of its unseen pairs; None if it has none."""
    means = {}
    for language, unseen in ((language, found.unseen) for language, found in pairs.items()):
        groups = batches([len(pair.ids) for pair in unseen], args.batch_tokens)
        sums = distributed.gather(
            [
                reply_loss(model, [unseen[i] for i in group or groups[0]]).item()
                for group in distributed.deal(groups)
            ]
        )
        total = sum(
            sums[i % distributed.WORLD][i // distributed.WORLD] for i in range(len(groups))
        )  # in one order, however dealt
        means[language] = total / sum(pair.reply_tokens for pair in unseen) if unseen else None
    return means


def steps_in_epoch(pairs: int, args) -> int:
    return math.ceil(pairs / args.batch_size)


def batch_of(step: int, pairs: int, args, stage: int) -> np.ndarray:
    """Indices of the pairs of a step: every epoch in a new random order, the same for the same seed."""
    epoch, place = divmod(step, steps_in_epoch(pairs, args))
    order = np.random.default_rng([args.seed, stage, epoch]).permutation(pairs)
    return order[place * args.batch_size :][: args.batch_size]


def learning_rate(step: int, steps: int, args) -> float:
    """Linear warm-up, then constant or down to zero along half a cosine."""
    warm = round(args.warmup * steps)
    if step < warm:
        return args.lr * (step + 1) / (warm + 1)
    return (
        args.lr
        if args.schedule == "constant"
        else args.lr * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2
    )


def save_checkpoint(
    path: Path,
    model: LanguageModel,
    rows: dict[str, torch.Tensor],
    optimizer,
    losses: list[list[float]],
) -> None:
    """The rows tuned so far, the optimizer's state, and the losses, in one file that is whole or the one before.

    It is the same file however many processes there are, and written by the first.
    """
    tensors = {
        key: tensor.cpu()
        for key, tensor in whole_state(model, rows, optimizer)
        if distributed.FIRST
    }
    if distributed.FIRST:
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata={"train": json.dumps({"losses": losses})})


def whole_state(model: LanguageModel, rows: dict[str, torch.Tensor], optimizer):
    """Yield (key in the checkpoint, tensor); for all processes to go through."""
    weights = dict(model.named_parameters())
    for name, mask in rows.items():
        chosen = distributed.local(weights[name].detach())[distributed.part(mask, weights[name])]
        yield f"{name} rows", distributed.whole(chosen, weights[name], mask)
    for name, state in optimizer.state.items():
        for key, tensor in state.items():
            yield f"{name} {key}", distributed.whole(tensor, weights[name], optimizer.held[name])


def load_checkpoint(
    path: Path, model: LanguageModel, rows: dict[str, torch.Tensor]
) -> tuple[list[list[float]], dict]:
    """Put the tuned rows back into the model; return the losses so far and the optimizer's state by name."""
    if not path.exists():
        return [], {}
    with checkpoint.open_safetensors(path) as file:
        metadata, tensors = (
            file.metadata() or {},
            {name: file.get_tensor(name) for name in file.keys()},
        )
    losses = as_written(path, parse(path, metadata.get("train", "{}").encode()), losses=[[float]])[
        "losses"
    ]
    weights = dict(model.named_parameters())
    with checkpoint.fitting(path):
        for name, mask in rows.items():
            mine = distributed.part(tensors.pop(f"{name} rows"), weights[name], mask)
            distributed.local(weights[name].data)[distributed.part(mask, weights[name])] = mine.to(
                mask.device
            )
    return losses, tensors


def set_state(optimizer, tensors: dict[str, torch.Tensor], steps: int, path: Path) -> None:
    optimizer.steps = steps
    with checkpoint.fitting(path):
        for name, state in optimizer.state.items():
            for key, tensor in state.items():
                tensor.copy_(
                    distributed.part(
                        tensors[f"{name} {key}"], optimizer.weights[name], optimizer.held[name]
                    )
                )
