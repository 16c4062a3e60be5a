"""Generate replies: many prompts at once, each reply the same as if generated on its own."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from minitox.lm.batching import batches, on_device, pad
from minitox.lm.model import LanguageModel, are_finite, check_length, rope_angles

PROMPT_TOKENS = 1_024  # padded tokens of prompts read at once on a CPU; 16 times as many on a GPU
NO_TOKEN = -1  # marks logits that are not finite, without a second wait for the GPU


@dataclass
class Reply:
    """The tokens that the model generated after one prompt."""

    ids: list[int] = field(default_factory=list)  # without the token that ended the reply
    stopped: bool = False  # whether the model ended the reply before the limit
    first: list[float] = field(default_factory=list)  # logits of its first token, if asked for


class Cache:
    """Keys and values of all tokens read so far, in memory allocated once.

    Sequences are padded on the right and differ in length, so each has its own next position: the
    next token of a sequence overwrites its first pad.
    """

    def __init__(self, model, sequences, tokens):
        config = model.config
        weight = model.model.embed_tokens.weight
        check_length(config, tokens)
        self.keys = torch.zeros(
            config.num_hidden_layers,
            sequences,
            config.num_key_value_heads,
            tokens,
            config.head_dim,
            device=weight.device,
            dtype=weight.dtype,
        )  # (L, B, key heads, tokens, H)
        self.values = torch.zeros_like(self.keys)
        self.cos, self.sin = rope_angles(config, tokens, weight.device)  # (tokens, H/2)
        # G query heads share a key head
        self.G = config.num_attention_heads // config.num_key_value_heads

    def read(
        self,
        model,
        ids,  # (b, T), the next tokens of b of the sequences
        starts,  # b integers: the position of the first of them
        sequences=slice(None),  # which sequences
    ):  # -> (b, T, D)
        """Hidden states of the next T tokens of some sequences."""
        b, T = ids.shape
        device = ids.device
        # 1) the place of every token in the cache, and the end of the part in use
        self.sequences = sequences
        self.row = torch.arange(b, device=device).unsqueeze(1)  # (b, 1)
        first = on_device(starts, device).unsqueeze(1)  # (b, 1)
        self.positions = first + torch.arange(T, device=device)  # (b, T)
        self.end = max(starts) + T
        # 2) attention's mask: add 0 to the scores up to a token's own position, -inf after it
        earlier = torch.arange(self.end, device=device)  # (end,)
        visible = earlier <= self.positions.unsqueeze(-1)  # (b, T, end)
        mask = torch.where(visible, 0.0, -torch.inf)
        mask = mask.to(self.keys.dtype)
        mask = mask.repeat(1, self.G, 1)  # (b, G * T, end)
        self.mask = mask.unsqueeze(1)  # (b, 1, G * T, end), the same for all key heads
        # 3) the forward pass, which calls `angles` once and `attend` in every layer
        return model.model(ids, cache=self)

    def angles(self):  # -> cos, sin: (b, T, H/2)
        """RoPE's angles at the positions of the tokens being read."""
        return self.cos[self.positions], self.sin[self.positions]

    def attend(
        self,
        layer,
        q,  # (b, query heads, T, H)
        k,  # (b, key heads, T, H)
        v,  # (b, key heads, T, H)
    ):  # -> (b, query heads, T, H)
        """Attention of the tokens being read to themselves and to all tokens before them."""
        # 1) store their keys and values
        keys = self.keys[layer, self.sequences]  # (b, key heads, tokens, H), a view
        values = self.values[layer, self.sequences]
        keys[self.row, :, self.positions] = k.transpose(1, 2)  # (b, T, key heads, H)
        values[self.row, :, self.positions] = v.transpose(1, 2)
        # 2) leave out the part of the cache that no sequence has reached
        keys = keys[:, :, : self.end]
        values = values[:, :, : self.end]
        # 3) treat the G query heads of a key head as one head with G * T queries, which reads every
        #    key once instead of G times
        b, key_heads, T, H = k.shape
        grouped = q.reshape(b, key_heads, self.G * T, H)
        y = F.scaled_dot_product_attention(grouped, keys, values, self.mask)
        return y.reshape(q.shape)  # not a view: some kernels put the heads last in memory

    def keep(self, sequences):
        """Drop all sequences except those with these indices (b,)."""
        self.keys = self.keys.index_select(1, sequences)
        self.values = self.values.index_select(1, sequences)


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompts: list[list[int]],
    max_new_tokens: int,
    stop_ids: set[int],
    temperature: float = 0.0,  # 0: greedy decoding
    top_p: float = 1.0,
    seeds: list[int] | None = None,  # one for each prompt; not needed for greedy decoding
    compared: list[int] | None = None,  # tokens whose logits are kept in Reply.first
) -> list[Reply]:
    """One reply to each prompt, which ends before the first of `stop_ids` or at `max_new_tokens`.

    ValueError if a prompt has no tokens, or does not fit the model with `max_new_tokens`, or if
    logits are not finite.
    """
    # 1) read the prompts
    if not all(prompts):
        raise ValueError("a prompt has no tokens, not even a BOS")
    longest = max(len(prompt) for prompt in prompts)
    cache = Cache(model, len(prompts), longest + max_new_tokens)
    device = cache.keys.device
    # of each cached sequence: its prompt, its last hidden state (B, D) and its tokens
    order, hidden = read_prompts(model, cache, prompts)
    lengths = [len(prompts[i]) for i in order]
    replies = [Reply() for _ in prompts]
    if temperature:
        u = uniform(seeds, max_new_tokens)  # (prompts, max_new_tokens)
        u = on_device(u[order], device)  # (B, max_new_tokens)

    for step in range(max_new_tokens):
        # 2) choose the next token of each sequence
        logits = model.logits(hidden).float()  # (B, V)
        if compared and step == 0:
            for i, first in zip(order, logits[:, compared].tolist(), strict=True):
                replies[i].first = first
        if temperature:
            logits = logits / temperature
            tokens = sample(logits, top_p, u[:, step])  # (B,)
        else:
            tokens = logits.argmax(dim=-1)  # (B,)
        tokens = tokens.where(are_finite(logits), NO_TOKEN)

        # 3) append it to the replies that have not ended; here alone the GPU is waited for
        active = append_tokens(replies, order, tokens.tolist(), stop_ids)
        if not any(active) or step == max_new_tokens - 1:
            break

        # 4) drop finished sequences, but only several at once, because this copies the cache
        if sum(active) <= 0.75 * len(active):
            kept = [row for row, is_active in enumerate(active) if is_active]
            order = [order[row] for row in kept]
            lengths = [lengths[row] for row in kept]
            rows = on_device(kept, device)
            cache.keep(rows)
            tokens = tokens[rows]
            if temperature:
                u = u[rows]

        # 5) read it
        hidden = cache.read(model, tokens.unsqueeze(1), lengths)
        hidden = hidden.squeeze(1)  # (B, 1, D) -> (B, D)
        lengths = [length + 1 for length in lengths]
    return replies


def append_tokens(
    replies,
    indices,  # of the replies
    tokens,  # the next token of each of them
    stop_ids,
):
    """Append a token to each reply or end the reply; returns which replies have not ended.

    ValueError if there is no token, because the logits are not finite.
    """
    for i, token in zip(indices, tokens, strict=True):
        reply = replies[i]
        if token == NO_TOKEN:
            raise ValueError(
                f"the logits of token {len(reply.ids) + 1} of a reply are not finite; "
                "check the weights, --dtype and --temperature"
            )
        if token in stop_ids:
            reply.stopped = True
        if not reply.stopped:
            reply.ids.append(token)
    return [not replies[i].stopped for i in indices]


def read_prompts(model, cache, prompts):  # -> list of B indices, (B, D)
    """Read the prompts, the longest first: their order, and the last hidden state of each.

    The tokens that all prompts begin with (in a chat format, the system's turn) are read once.
    """
    device = cache.keys.device
    # 1) the shared beginning, into the first sequence and from there into all others
    shared = shared_length(prompts)
    if shared:
        ids = on_device([prompts[0][:shared]], device)  # (1, shared)
        cache.read(model, ids, [0], slice(1))
        for past in (cache.keys, cache.values):
            beginning = past[:, :1, :, :shared]
            past[:, 1:, :, :shared] = beginning
    # 2) the rest of each prompt, in batches
    rests = [prompt[shared:] for prompt in prompts]
    lengths = [len(rest) for rest in rests]
    at_once = PROMPT_TOKENS if device.type == "cpu" else 16 * PROMPT_TOKENS
    order = []
    hidden = []
    for batch in batches(lengths, at_once):
        ids = on_device(pad([rests[i] for i in batch]), device)  # (b, T)
        first = len(order)
        sequences = slice(first, first + len(batch))
        states = cache.read(model, ids, [shared] * len(batch), sequences)  # (b, T, D)
        last = [lengths[i] - 1 for i in batch]  # before the padding
        hidden.append(states[torch.arange(len(batch), device=device), on_device(last, device)])
        order += batch
    return order, torch.cat(hidden)


def shared_length(prompts):
    """Number of tokens that all prompts begin with; at least one token of each prompt is left."""
    shared = 0
    for tokens in zip(*prompts, strict=False):
        if len(set(tokens)) > 1:
            break
        shared += 1
    shortest = min(len(prompt) for prompt in prompts)
    return min(shared, shortest - 1)


def uniform(seeds, count):  # -> (N, count)
    """Random numbers in [0, 1) from a generator for each seed, so that replies are independent."""
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        row = torch.rand(count, generator=generator)
        rows.append(row)
    return torch.stack(rows)


def sample(
    logits,  # (B, V)
    top_p,
    u,  # (B,), uniform in [0, 1)
):  # -> (B,)
    """Sample tokens from the nucleus: the likeliest tokens with a total probability of `top_p`."""
    # 1) tokens by probability
    p = logits.softmax(dim=-1)  # (B, V)
    p, order = p.sort(dim=-1, descending=True)
    # 2) keep tokens until their total reaches `top_p`, and at least the first
    before = p.cumsum(dim=-1) - p
    p = p.masked_fill(before >= top_p, 0)
    p[:, 0] = p[:, 0].clamp(min=1e-30)
    # 3) take the first token whose cumulative probability reaches the share `u` of the total
    threshold = u * p.sum(dim=-1)  # (B,)
    below = p.cumsum(dim=-1) < threshold.unsqueeze(1)  # (B, V)
    place = below.sum(dim=-1, keepdim=True)  # (B, 1)
    place = place.clamp(max=logits.shape[1] - 1)  # rounding may leave all of them below
    return order.gather(1, place).squeeze(1)
