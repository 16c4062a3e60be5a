"""Change what a file of a model means: well-formed files that no model should have."""

import json
from collections.abc import Callable
from random import Random

import torch
from safetensors.torch import load, save

# ---------- config.json

NUMBERS = [-1, 0, 1, 2, 3, 7, 2**20, 2**31, 2**40]
ODD = {
    "max_position_embeddings": [1, 2, 3, 4, 9, 2**20, 2**31, 10**18],
    "eos_token_id": [None, [], [1, 1], [0], 0, -1, [299], [300], 10**9, list(range(300)), [[1]]],
    "bos_token_id": [None, 1, 2, 299, 300, -1, [0], 10**9],
    "rms_norm_eps": [0, 1e-300, 1e-5, 1.0, 1e30, 1e308, -1, float("nan"), float("inf")],
    "rope_theta": [0, 1, 1e-300, 0.5, 1e30, 1e308, -1, float("nan"), float("inf"), 10**400],
    "head_dim": [1, 2, 3, 4, 16, 8.0, None, *NUMBERS],
    "num_attention_heads": [1, 2, 8, 32, *NUMBERS],
    "num_key_value_heads": [None, 1, 3, 4, *NUMBERS],
    "num_hidden_layers": [1, 3, *NUMBERS],
    "hidden_size": [16, 33, 64, *NUMBERS],
    "intermediate_size": [24, 96, *NUMBERS],
    "vocab_size": [299, 301, 258, 4, *NUMBERS],
    "torch_dtype": ["float16", "bfloat16", "float64", "float8_e4m3fn", "int8", "auto", None],
    "tie_word_embeddings": [False, None, "true", 0],
    "hidden_act": ["gelu", "relu", "swish", "silu ", None],
    "model_type": ["qwen2", "qwen3", "mistral", "cohere", "cohere2", "gemma", "LLAMA", None],
    "architectures": [["Qwen2ForCausalLM"], [], ["LlamaModel"], None],
    "sliding_window": [1, 2, 16, 2**40, 0, -1],
    "use_sliding_window": [True, False],
    "layer_types": [
        ["sliding_attention"] * 2,
        ["full_attention"],
        ["linear_attention", "full_attention"],
        [],
        None,
    ],
    "attention_bias": [True, 1, None],
    "mlp_bias": [True, 1, None],
    "partial_rotary_factor": [0.5, 0.25, 0, 2],
    "rope_scaling": [
        None,
        {},
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": 2.0},
        {"type": "dynamic", "factor": 8.0},
        {"rope_type": "yarn", "factor": 4.0},
        {"rope_type": "llama3", "factor": 0, "low_freq_factor": 0, "high_freq_factor": 0},
        {"rope_type": "llama3"},
    ],
    "logit_scale": [0, 0.0625, 1e30, -1, float("nan")],
    "quantization_config": [{"quant_method": "gptq", "bits": 4}, {}],
}


def odd_config(data: bytes, rng: Random) -> tuple[str, bytes]:
    """One to three settings with odd values."""
    config = json.loads(data)
    keys = rng.sample(list(ODD), rng.choice([1, 1, 2, 3]))
    for key in keys:
        config[key] = rng.choice(ODD[key])
    changed = {key: config[key] for key in keys}
    return f"means {changed!a:.200}", json.dumps(config).encode()


# ---------- model.safetensors

VALUES = [float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e30, 65_504.0, 1e-45, 0.0]
DTYPES = [
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.float8_e4m3fn,
    torch.int8,
    torch.int64,
    torch.bool,
]
CHANGES_OF_WEIGHTS = ["one", "a row", "all", "scaled", "cast", "permuted", "the same", "noise"]


def odd_weights(data: bytes, rng: Random) -> tuple[str, bytes]:
    """Odd values in one tensor, or in all of them, or other tensors."""
    tensors = load(data)
    name = rng.choice(sorted(tensors))
    names = sorted(tensors) if rng.random() < 0.15 else [name]
    others = ["a head", "a buffer", "transposed", "swapped"]
    how = rng.choice(CHANGES_OF_WEIGHTS * 3 + others)
    value = rng.choice(VALUES)
    dtype = rng.choice(DTYPES)
    if how in CHANGES_OF_WEIGHTS:
        for changed in names:
            tensors[changed] = odd_tensor(tensors[changed], how, value, dtype, rng)
    elif how == "a head":
        tied = tensors.get("model.embed_tokens.weight", tensors[name])
        tensors["lm_head.weight"] = tied * rng.choice([1, -1, float("nan")])
    elif how == "a buffer":
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.full((4,), value)
    elif how == "transposed":
        tensors[name] = (
            tensors[name].t().contiguous() if tensors[name].dim() == 2 else tensors[name]
        )
    else:
        other = rng.choice(sorted(tensors))
        tensors[name], tensors[other] = tensors[other], tensors[name]
    return f"means {how} of {names[0]}, {value}, {dtype}", save(tensors, {"format": "pt"})


def odd_tensor(tensor: torch.Tensor, how: str, value: float, dtype, rng: Random) -> torch.Tensor:
    tensor = tensor.clone()
    rows = len(tensor)
    if how == "one":
        tensor.view(-1)[rng.randrange(tensor.numel())] = value
    elif how == "a row":
        tensor[rng.randrange(rows)] = value
    elif how == "all":
        tensor[:] = value
    elif how == "scaled":
        tensor *= rng.choice([-1, 1e4, 1e10, 1e20, 1e38, 1e-30])
    elif how == "cast":
        tensor = tensor.to(dtype)
    elif how == "permuted":
        tensor = tensor[torch.randperm(rows, generator=seeded(rng))]
    elif how == "the same":
        tensor[:] = tensor[:1].clone()
    else:
        noise = torch.randn(tensor.shape, generator=seeded(rng))
        tensor += noise * rng.choice([0.1, 10, 1e6])
    return tensor.contiguous()


def seeded(rng: Random) -> torch.Generator:
    return torch.Generator().manual_seed(rng.randrange(2**32))


# ---------- tokenizer.json

PANICS = r"(n*)*$|(a+)+b"
REGEXES = [
    PANICS,
    r"(a+)+$|(x+x+)+y",
    r"(?:(?:(?:a?){30}){30}){30}",
    r"(.*)*(.*)*(.*)*\1",
    r"",
    r".*",
    r"(?=.)",
    r"^|$",
    r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:donkey)|.",
    r"(",
    r"[",
    r"\p{Nothing}",
    "a{100000}",
    "(?<n>a\\g<n>?b)",
]
NORMALIZERS = [
    {"type": "Lowercase"},
    {"type": "NFKD"},
    {"type": "Strip", "strip_left": True, "strip_right": True},
    {"type": "Prepend", "prepend": "x" * 10_000},
    {"type": "Replace", "pattern": {"Regex": "."}, "content": ""},
    {"type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 1_000},
    {"type": "Replace", "pattern": {"Regex": PANICS}, "content": ""},
    {"type": "Replace", "pattern": {"String": ""}, "content": "x"},
    {"type": "Replace", "pattern": {"String": "donkey"}, "content": "<|im_end|>"},
    {"type": "Sequence", "normalizers": []},
]
LAYOUT = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
ADDED = ["the", " ", "e", "\n", "", "A", "user", "assistant\n", "donkey", "<|im_end|>\n", "\u0120"]
CHANGES_OF_TOKENIZER = [
    "permuted",
    "swapped",
    "not special",
    "a duplicate id",
    "a token of the layout is missing",
    "a letter is missing",
    "letters share an id",
    "an added token",
    "a regex",
    "a normalizer",
    "padding",
    "truncation",
    "dropout",
    "merges",
    "a template",
    "no decoder",
    "no pre-tokenizer",
    "options",
    "a hole",
    "far ids",
]


def odd_tokenizer(data: bytes, rng: Random) -> tuple[str, bytes]:
    """A tokenizer that splits, numbers or shows text in another way."""
    tokenizer = json.loads(data)
    changes = rng.sample(CHANGES_OF_TOKENIZER, rng.choice([1, 1, 1, 2]))
    for how in changes:
        change_tokenizer(tokenizer, how, rng)
    return f"means {', '.join(changes)}", json.dumps(tokenizer).encode()


def change_tokenizer(tokenizer: dict, how: str, rng: Random) -> None:
    model = tokenizer["model"]
    vocab = model["vocab"]
    if isinstance(vocab, list):  # as of a unigram model: no names to change
        how = rng.choice(["a regex", "a normalizer", "padding", "truncation", "no decoder"])
    added = tokenizer.get("added_tokens") or []
    if how in ("permuted", "swapped"):
        permute(vocab, added, rng, 2 if how == "swapped" else len(vocab))
    elif how == "not special":
        for token in added:
            token["special"] = token["special"] and rng.random() < 0.5
    elif how == "a duplicate id":
        vocab[rng.choice(list(vocab))] = rng.choice(list(vocab.values()))
    elif how == "a token of the layout is missing":
        token = rng.choice(LAYOUT)
        vocab.pop(token, None)
        tokenizer["added_tokens"] = [entry for entry in added if entry["content"] != token]
    elif how == "a letter is missing":
        for letter in rng.choice(["A", "ABCD", "e", "\u0120", "\u010a"]):
            vocab.pop(letter, None)
        model["merges"] = []
    elif how == "letters share an id":
        vocab["A"] = vocab.get("D", 0)
    elif how == "an added token":
        flags = ("special", "lstrip", "rstrip", "single_word", "normalized")
        token = {flag: rng.random() < 0.5 for flag in flags}
        place = rng.choice([len(vocab), len(vocab) - 1, 4, 0, 10**9])
        added.append({"id": place, "content": rng.choice(ADDED), **token})
        tokenizer["added_tokens"] = added
    elif how == "a regex":
        behavior = rng.choice(["Isolated", "Removed", "MergedWithNext", "Contiguous"])
        split = {"type": "Split", "pattern": {"Regex": rng.choice(REGEXES)}}
        split |= {"behavior": behavior, "invert": rng.random() < 0.3}
        steps = [split, tokenizer.get("pre_tokenizer")]
        tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    elif how == "a normalizer":
        tokenizer["normalizer"] = rng.choice(NORMALIZERS)
    elif how == "padding":
        size = rng.choice([1, 64, 10**6, 2**40])
        tokenizer["padding"] = {
            "strategy": {"Fixed": size},
            "direction": "Left",
            "pad_to_multiple_of": None,
            "pad_id": rng.choice([0, 10**6]),
            "pad_type_id": 0,
            "pad_token": "<s>",
        }
    elif how == "truncation":
        size = rng.choice([0, 1, 3])
        tokenizer["truncation"] = {
            "direction": "Right",
            "max_length": size,
            "strategy": "LongestFirst",
            "stride": rng.choice([0, size]),
        }
    elif how == "dropout":
        model["dropout"] = rng.choice([0.1, 0.9, 1.0, 2.0])
    elif how == "merges":
        model["merges"] = rng.choice([[], model["merges"][::-1], model["merges"] * 2])
    elif how == "a template":
        token = rng.choice(LAYOUT)
        tokenizer["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": token, "type_id": 0}}] * rng.choice([1, 2, 1_000])
            + [{"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [],
            "special_tokens": {
                token: {"id": token, "ids": [rng.choice([0, 1, 299, 10**6])], "tokens": [token]}
            },
        }
    elif how == "no decoder":
        tokenizer["decoder"] = rng.choice([None, {"type": "Fuse"}, {"type": "ByteFallback"}])
    elif how == "no pre-tokenizer":
        tokenizer["pre_tokenizer"] = rng.choice([None, {"type": "Whitespace"}])
    elif how == "options":
        model["unk_token"] = rng.choice([None, "<s>", "missing"])
        model["byte_fallback"] = rng.random() < 0.5
        model["ignore_merges"] = rng.random() < 0.5
        model["end_of_word_suffix"] = rng.choice([None, "", "</w>"])
    elif how == "a hole":
        token = rng.choice(list(vocab))
        vocab[token + "x"] = vocab.pop(token)
    else:
        vocab[rng.choice(list(vocab))] = rng.choice([300, 10**6, 2**31, 2**32 - 1])


def permute(vocab: dict, added: list[dict], rng: Random, count: int) -> None:
    """Give `count` tokens each other's ids, in the vocabulary and in the list of added tokens."""
    tokens = rng.sample(list(vocab), min(count, len(vocab)))
    ids = [vocab[token] for token in tokens]
    rng.shuffle(ids)
    vocab.update(zip(tokens, ids, strict=True))
    for token in added:
        token["id"] = vocab.get(token["content"], token["id"])


# ---------- chat_template.jinja, and the template in tokenizer_config.json

TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
JOINED = "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}"
TURNS = [
    *[TURN, JOINED] * 5,
    TURN.replace("}}\n", "}}"),
    TURN.replace("}}\n", "}}\n\n"),
    TURN.replace("}}\n", "}} "),
    TURN.rstrip("\n"),
    TURN.replace("m.content", "m.content | trim"),
    TURN.replace("m.content", "m.content | upper"),
    TURN.replace("m.content", "m.content | e"),
    TURN.replace("m.content", "m['content'] ~ ''"),
    TURN.replace("m.role", "m.role if m.role != 'assistant' else 'model'"),
    "{% if loop.first %}<|im_start|>system\nYou're kind.<|im_end|>\n{% endif %}" + TURN,
    "{% if m.role == 'user' %}" + TURN + "{% endif %}",
    "[INST] {{ m.content }} [/INST]",
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>",
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{{ m.content }}<|END_OF_TURN_TOKEN|>",
    "{{ m.nothing.at.all }}",
    "{{ raise_exception('no') }}",
    "",
]
BEFORE = [
    *[""] * 6,
    "{{ bos_token }}",
    "<s>",
    '{% set system = "You\'re kind." %}<|im_start|>system\n{{ system }}<|im_end|>\n',
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
    "<|im_start|>system\nToday is {{ strftime_now('%d %B %Y') }}.<|im_end|>\n",
    "{# <|im_start|> #}",
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}",
    " \n",
]
AFTER = [
    "",
    *["{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"] * 5,
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}",
    "{{ eos_token }}",
]
ATTACKS = [
    "<|im_start|>{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "<|im_start|>{% for i in range(10 ** 12) %}x{% endfor %}",
    "<|im_start|>{{ 'x' * 10 ** 10 }}",
    "<|im_start|>{{ 9 ** 9 ** 9 }}",
    "<|im_start|>{{ '%1000000000d' % 1 }}",
    "<|im_start|>{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "<|im_start|>{{ ().__class__.__base__.__subclasses__() }}",
    "<|im_start|>{{ cycler.__init__.__globals__.os.system('touch beside') }}",
    "<|im_start|>{% include '/etc/passwd' %}",
    "<|im_start|>{% extends 'model/config.json' %}",
    "<|im_start|>{% unknown %}",
    "<|im_start|>{{ 1 / 0 }}",
    "<|im_start|>" + "{% if 1 %}" * 2_000,
    "<|im_start|>" + "(" * 5_000,
    "<|im_start|>{{ " + "(" * 5_000 + " }}",
    "<|im_start|>{{ messages.append(messages) }}{{ messages }}",
    "<|im_start|>{{ '\ud800' }}",
]


def odd_template(rng: Random) -> str:
    """A template of the ChatML family or of another, or one that attacks its reader."""
    if rng.random() < 0.2:
        return rng.choice(ATTACKS)
    dash = rng.choice(["", "", "-"])
    loop = f"{{%{dash} for m in messages {dash}%}}"
    parts = [rng.choice(BEFORE), loop, rng.choice(TURNS), "{% endfor %}", rng.choice(AFTER)]
    return "".join(parts)


def odd_jinja(data: bytes, rng: Random) -> tuple[str, bytes]:
    template = odd_template(rng)
    return f"means {template!a:.200}", template.encode("utf-8", "surrogatepass")


def odd_tokenizer_config(data: bytes, rng: Random) -> tuple[str, bytes]:
    config = json.loads(data)
    template = odd_template(rng)
    forms = [template, template, template, [{"name": "default", "template": template}], [template]]
    config["chat_template"] = rng.choice(forms)
    tokens = [None, "<s>", "", "missing", {"content": "<s>"}, {"content": None}, 3, "<|im_start|>"]
    for key in ("bos_token", "eos_token"):
        if rng.random() < 0.3:
            config[key] = rng.choice(tokens)
    if rng.random() < 0.2:
        config["add_bos_token"] = rng.random() < 0.5
    return f"means {config!a:.200}", json.dumps(config).encode()


# what to do with the files of these names
MEANINGS: dict[str, Callable[[bytes, Random], tuple[str, bytes]]] = {
    "config.json": odd_config,
    "model.safetensors": odd_weights,
    "tokenizer.json": odd_tokenizer,
    "chat_template.jinja": odd_jinja,
    "tokenizer_config.json": odd_tokenizer_config,
}
