"""The peers that benchmark.py compares minitox with: transformers, used as its users do."""

from collections.abc import Callable

import torch


def load(args, raw: dict, device, dtype, logits: bool = True):
    """The model of the folder, or a random one with this config.json, created on the device."""
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    kind = AutoModelForCausalLM if logits else AutoModel
    if not args.random:
        return kind.from_pretrained(args.model, dtype=dtype).to(device).eval()
    with torch.device(device):
        return kind.from_config(AutoConfig.for_model(**raw), dtype=dtype).eval()


def padded_left(rows: list[list[int]], device):  # -> ids and mask (B, T)
    """Pad on the left, as transformers' generate and ml-aura do."""
    longest = max(map(len, rows))
    ids = [[0] * (longest - len(row)) + row for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def hooked(model, device) -> Callable:
    """A function that records max-pooled responses with a forward hook on every MLP projection."""
    mask = None
    pooled = []

    def hook(module, inputs, output):
        pooled.append(output.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(dim=1))

    for name, module in model.named_modules():
        if name.endswith(("gate_proj", "up_proj", "down_proj")):
            module.register_forward_hook(hook)

    @torch.inference_mode()
    def respond(group):
        nonlocal mask
        ids, attention = padded_left(group, device)
        mask = attention.bool()
        model(input_ids=ids, attention_mask=attention, use_cache=False)
        torch.cat(pooled, dim=1).half().cpu().numpy()
        pooled.clear()

    return respond


def training_step(model, ids, start: int, activation_checkpointing: bool) -> Callable:
    """A function that tunes weights that are not frozen for one step; loss from token `start`."""
    model.train()
    if activation_checkpointing:
        model.gradient_checkpointing_enable()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-5)
    positions = torch.arange(ids.shape[1], device=ids.device)
    labels = torch.where(positions < start, -100, ids)

    def step():
        model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def with_lora(model, rank: int):
    """The model with adapters on the three matrices of every MLP; nothing else is tuned."""
    from peft import LoraConfig, get_peft_model

    names = ["gate_proj", "up_proj", "down_proj"]
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=rank, target_modules=names))


def replies(model, prompts: list[list[int]], new: int, device) -> Callable:
    """A function that writes replies of exactly `new` tokens."""
    ids, mask = padded_left(prompts, device)

    @torch.inference_mode()
    def generate():
        return model.generate(
            ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False
        )

    return generate
