"""Write replies: many prompts at once, with a cache of keys and values, each reply as if its prompt were alone."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from minitox.lm.model import LanguageModel, causal, check_length, rope_angles
from minitox.lm.text import pad


@dataclass(frozen=True)
class Reply:
    """What the model wrote after one prompt."""

    ids: list[int]  # without the token that ended it
    stopped: bool  # it ended by itself, not at the limit


class Cache:
    """Keys and values of the tokens read so far, in memory taken once.

    Prompts are padded on the right, so rows stand at different positions: a row's next token overwrites its first pad.
    """

    def __init__(self, model: LanguageModel, rows: int, tokens: int):
        config, weight = model.config, model.model.embed_tokens.weight
        check_length(config, tokens)
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, tokens, config.head_dim)
        self.keys, self.values = (torch.zeros(shape, device=weight.device, dtype=weight.dtype) for _ in range(2))
        self.all_angles = rope_angles(config, tokens, weight.device)  # (tokens, H/2)
        self.lengths = None  # (B,) tokens of each text; none before the prompts are read

    def angles(self, tokens: int):  # -> cos, sin: (T, H/2), then (B, 1, H/2)
        """The angles of the tokens about to be read."""
        where = slice(tokens) if self.lengths is None else self.lengths.unsqueeze(1)
        return (angle[where] for angle in self.all_angles)

    def read(self, lengths) -> None:  # (B,)
        """From now on, rows are of these lengths, and the next token of each goes there."""
        self.lengths, longest = lengths, int(lengths.max()) + 1
        self.seen = (torch.arange(longest, device=lengths.device) <= lengths.unsqueeze(1)).view(-1, 1, 1, longest)

    def attend(self, layer: int, q, k, v):  # (B, heads, T, H) -> the same
        """Attention of new tokens to all before them: of whole prompts first, then of one token a row."""
        keys, values = self.keys[layer], self.values[layer]  # (B, heads, tokens, H)
        if self.lengths is None:
            keys[:, :, :k.shape[2]], values[:, :, :v.shape[2]] = k, v
            return causal(q, k, v)
        row, longest = torch.arange(len(k), device=k.device), self.seen.shape[-1]
        keys[row, :, self.lengths], values[row, :, self.lengths] = k[:, :, 0], v[:, :, 0]
        return F.scaled_dot_product_attention(q, keys[:, :, :longest], values[:, :, :longest], self.seen, enable_gqa=True)

    def keep(self, rows) -> None:
        """Forget all rows but these."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]


@torch.inference_mode()
def generate(model: LanguageModel, prompts: list[list[int]], most: int, end_ids: set[int], temperature: float = 0.0,
             top_p: float = 1.0, seeds: list[int] | None = None) -> list[Reply]:
    """One reply of at most `most` tokens to each prompt: greedy at temperature 0, else drawn with a seed for each prompt.

    A reply ends before the first of `end_ids`. InputError if the longest prompt leaves too few positions.
    """
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    cache = Cache(model, len(prompts), int(lengths.max()) + most)
    device = cache.keys.device
    lengths, rows = lengths.to(device), torch.arange(len(prompts), device=device)  # the prompt that each row answers
    last = model.model(pad(prompts).to(device), cache=cache)[rows, lengths - 1]  # (B, D)
    luck = uniform(seeds, most).to(device) if temperature else None
    ids, stopped = [[] for _ in prompts], [False] * len(prompts)
    for step in range(most):
        logits = model.logits(last).float()
        tokens = choose(logits / temperature, top_p, luck[rows, step]) if temperature else logits.argmax(dim=-1)
        for row, token in zip(rows.tolist(), tokens.tolist()):
            stopped[row] = stopped[row] or token in end_ids
            if not stopped[row]:
                ids[row].append(token)
        going = torch.tensor([not stopped[row] for row in rows.tolist()], device=device)
        if not going.any() or step == most - 1:
            break
        if going.sum() <= 0.75 * len(rows):  # finished rows leave, several at once, for the others' cache is then copied
            cache.keep(going)
            rows, tokens, lengths = rows[going], tokens[going], lengths[going]
        cache.read(lengths)
        last, lengths = model.model(tokens.unsqueeze(1), cache=cache)[:, 0], lengths + 1
    return [Reply(*reply) for reply in zip(ids, stopped)]


def uniform(seeds: list[int], count: int):  # -> (N, count)
    """Numbers from 0 to 1 for each seed, so that what is drawn for a prompt does not depend on the others."""
    return torch.stack([torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def choose(logits, top_p: float, luck):  # (B, V), (B,) -> (B,)
    """Draw a token from the likeliest that together have probability `top_p`, by where `luck` falls among them."""
    p, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    before = p.cumsum(dim=-1) - p  # the probability of likelier tokens
    p = p.masked_fill(before >= top_p, 0)
    p[:, 0] = p[:, 0].clamp(min=1e-30)  # the likeliest always stays
    place = (p.cumsum(dim=-1) < (luck * p.sum(dim=-1)).unsqueeze(1)).sum(dim=-1)
    return order.gather(1, place.clamp(max=logits.shape[1] - 1).unsqueeze(1)).squeeze(1)
