"""Write replies: many prompts at once, with a cache of keys and values, each reply as if its prompt were alone."""

import os
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from minitox.lm.batching import batches, pad
from minitox.lm.model import LanguageModel, check_length, rope_angles

AT_ONCE = 1_024  # padded tokens of prompts, on a CPU; 16 times as many elsewhere


@dataclass(frozen=True)
class Reply:
    """What the model wrote after one prompt."""

    ids: list[int]  # without the token that ended it
    stopped: bool  # it ended by itself, not at the limit


class Cache:
    """Keys and values of the tokens read so far, in memory taken once.

    Texts are padded on the right, so rows stand at different positions: a row's next token overwrites its first pad.
    """

    def __init__(self, model: LanguageModel, rows: int, tokens: int):
        config, weight = model.config, model.model.embed_tokens.weight
        check_length(config, tokens)
        shape = (
            config.num_hidden_layers,
            rows,
            config.num_key_value_heads,
            tokens,
            config.head_dim,
        )
        self.keys, self.values = (
            torch.zeros(shape, device=weight.device, dtype=weight.dtype) for _ in range(2)
        )
        self.all_angles = rope_angles(config, tokens, weight.device)  # (tokens, H/2)

    def read(
        self, model: LanguageModel, ids, starts, rows=slice(None)
    ):  # (b, T), (b,) -> (b, T, D)
        """Hidden states of the next T tokens of some rows, which stand at positions `starts`."""
        self.rows, self.where = (
            rows,
            starts.unsqueeze(1) + torch.arange(ids.shape[1], device=starts.device),
        )  # (b, T)
        self.longest = int(self.where.max()) + 1
        seen = torch.arange(self.longest, device=starts.device) <= self.where.view(
            len(ids), 1, -1, 1
        )  # (b, 1, T, longest)
        self.mask = torch.zeros(
            seen.shape, device=starts.device, dtype=self.keys.dtype
        ).masked_fill(~seen, -torch.inf)
        return model.model(ids, cache=self)

    def angles(self):  # -> cos, sin: (b, T, H/2)
        return (angle[self.where] for angle in self.all_angles)

    def attend(self, layer: int, q, k, v):  # (b, heads, T, H) -> the same
        """Attention of the tokens being read to themselves and all before them."""
        keys, values = (
            self.keys[layer, self.rows],
            self.values[layer, self.rows],
        )  # (b, heads, tokens, H)
        row = torch.arange(len(k), device=k.device).unsqueeze(1)
        keys[row, :, self.where], values[row, :, self.where] = k.transpose(1, 2), v.transpose(1, 2)
        keys, values = keys[:, :, : self.longest], values[:, :, : self.longest]
        together = q.reshape(
            len(q), keys.shape[1], -1, q.shape[-1]
        )  # (b, key heads, queries of each x T, H): keys are read once
        mask = self.mask.repeat(1, 1, together.shape[2] // q.shape[2], 1)
        return F.scaled_dot_product_attention(together, keys, values, mask).view(q.shape)

    def keep(self, rows) -> None:
        """Forget all rows but these."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompts: list[list[int]],
    most: int,
    stop_ids: set[int],
    temperature: float = 0.0,
    top_p: float = 1.0,
    seeds: list[int] | None = None,
) -> list[Reply]:
    """One reply of at most `most` tokens to each prompt: greedy at temperature 0, else drawn with a seed for each prompt.

    A reply ends before the first of `stop_ids`. InputError if the longest prompt leaves too few positions.
    """
    cache = Cache(model, len(prompts), max(map(len, prompts)) + most)
    device = cache.keys.device
    order, last = read_prompts(model, cache, prompts)
    rows = torch.tensor(order, device=device)  # the prompt that each row of the cache answers
    lengths = torch.tensor([len(prompts[i]) for i in order], device=device)
    luck = uniform(seeds, most).to(device) if temperature else None
    ids, stopped = [[] for _ in prompts], [False] * len(prompts)
    for step in range(most):
        logits = model.logits(last).float()
        tokens = (
            choose(logits / temperature, top_p, luck[rows, step])
            if temperature
            else logits.argmax(dim=-1)
        )
        for row, token in zip(rows.tolist(), tokens.tolist()):
            stopped[row] = stopped[row] or token in stop_ids
            if not stopped[row]:
                ids[row].append(token)
        going = torch.tensor([not stopped[row] for row in rows.tolist()], device=device)
        if not going.any() or step == most - 1:
            break
        if going.sum() <= 0.75 * len(
            rows
        ):  # finished rows leave, several at once, for the others' cache is then copied
            cache.keep(going)
            rows, tokens, lengths = rows[going], tokens[going], lengths[going]
        last, lengths = cache.read(model, tokens.unsqueeze(1), lengths)[:, 0], lengths + 1
    return [Reply(*reply) for reply in zip(ids, stopped)]


def read_prompts(
    model: LanguageModel, cache: Cache, prompts: list[list[int]]
):  # -> (B,) indices, (B, D)
    """Read the prompts, longest first, AT_ONCE tokens at a time: their order, and the last hidden state of each.

    What all of them begin with, in a chat format the system's turn, is read once.
    """
    device, hidden = cache.keys.device, []
    shared = min(len(os.path.commonprefix(prompts)), min(map(len, prompts)) - 1)
    if shared:
        cache.read(
            model,
            torch.tensor([prompts[0][:shared]], device=device),
            torch.zeros(1, dtype=torch.long, device=device),
            slice(1),
        )
        for past in (cache.keys, cache.values):
            past[:, 1:, :, :shared] = past[:, :1, :, :shared]
    groups = batches(
        [len(prompt) - shared for prompt in prompts],
        AT_ONCE if device.type == "cpu" else 16 * AT_ONCE,
    )
    for group in groups:
        rest, first = [prompts[i][shared:] for i in group], sum(map(len, hidden))
        starts = torch.full((len(group),), shared, device=device)
        states = cache.read(
            model, pad(rest).to(device), starts, slice(first, first + len(group))
        )  # (b, T, D)
        hidden.append(states[range(len(group)), [len(ids) - 1 for ids in rest]])
    return [i for group in groups for i in group], torch.cat(hidden)


def uniform(seeds: list[int], count: int):  # -> (N, count)
    """Numbers from 0 to 1 for each seed, so that what is drawn for a prompt does not depend on the others."""
    return torch.stack(
        [torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )


def choose(logits, top_p: float, luck):  # (B, V), (B,) -> (B,)
    """Draw a token from the likeliest that together have probability `top_p`, by where `luck` falls among them."""
    p, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    before = p.cumsum(dim=-1) - p  # the probability of likelier tokens
    p = p.masked_fill(before >= top_p, 0)
    p[:, 0] = p[:, 0].clamp(min=1e-30)  # the likeliest always stays
    place = (p.cumsum(dim=-1) < (luck * p.sum(dim=-1)).unsqueeze(1)).sum(dim=-1)
    return order.gather(1, place.clamp(max=logits.shape[1] - 1).unsqueeze(1)).squeeze(1)
