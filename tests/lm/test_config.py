"""config.json is read completely, and what is not implemented is refused by name."""

import json

import pytest
from tiny import CONFIG

from minitox.errors import InputError
from minitox.lm.config import read_config


def config_with(folder, **changes):
    """The tiny model's config with changed keys; the value "absent" leaves a key out."""
    raw = {**CONFIG, **changes}
    raw = {key: value for key, value in raw.items() if value != "absent"}
    (folder / "config.json").write_text(json.dumps(raw))
    return read_config(folder)


PLAIN = {"rope_type": "default", "rope_theta": 1e4}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
LLAMA31 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2'"),
        ({"model_type": "absent"}, "model_type None"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type 'yarn'"),
        ({"rope_parameters": LINEAR}, "rope_type 'linear'"),
        ({"rope_parameters": PLAIN, "rope_scaling": LINEAR}, "rope_type 'linear'"),
        ({"rope_parameters": PLAIN, "rope_scaling": LLAMA31}, "contradict each other"),
        ({"rope_parameters": {"full_attention": PLAIN}}, "of each type of layer"),
        ({"rope_scaling": {"type": "llama3", "factor": 8.0}}, "low_freq_factor is missing"),
        ({"rope_scaling": "llama3"}, "rope_scaling must be an object"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized weights"),
        ({"attention_bias": True}, "attention_bias"),
        ({"use_qk_norm": True}, "use_qk_norm"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"hidden_size": "absent"}, "hidden_size is missing"),
        ({"hidden_size": "32"}, "hidden_size must be a positive integer, not '32'"),
        ({"vocab_size": True}, "vocab_size must be a positive integer, not True"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be"),
        ({"rms_norm_eps": -1}, "rms_norm_eps must be a positive number"),
        ({"num_key_value_heads": 3}, "not a multiple"),
        ({"head_dim": 7}, "head_dim 7 is odd"),
        ({"eos_token_id": [1, 300]}, "300 is not below vocab_size"),
        ({"eos_token_id": [None]}, "None is not below vocab_size"),
        ({"torch_dtype": "int8"}, "dtype 'int8'"),
        ({"model_type": "mistral3"}, "model_type 'mistral3'"),
        ({"model_type": "cohere", "use_qk_norm": True}, "use_qk_norm"),
        ({"model_type": "cohere2", "use_parallel_block": False}, "use_parallel_block False"),
        ({"model_type": "cohere2", "rotary_pct": 0.5}, "rotary_pct 0.5"),
        ({"model_type": "cohere2", "layer_types": ["full_attention"]}, "each of 2 layers"),
        ({"model_type": "cohere2", "layer_types": ["chunked", "chunked"]}, "layer_types must"),
        ({"model_type": "cohere2", "sliding_window": 0}, "sliding_window must be"),
        ({"model_type": "cohere2", "sliding_window": None}, "sliding_window is missing"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(changes, named, tmp_path):
    with pytest.raises(InputError, match="config.json: .*" + named.replace("[", "\\[")):
        config_with(tmp_path, **changes)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\ufffd\x00", "[" * 100_000])
def test_a_broken_file_is_named(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match="config.json"):
        read_config(tmp_path)


def test_families_keep_their_own_defaults(tmp_path):
    llama = config_with(tmp_path, tie_word_embeddings="absent")
    assert llama.tie_word_embeddings is False
    cohere = config_with(tmp_path, model_type="cohere", tie_word_embeddings="absent")
    assert cohere.tie_word_embeddings is True


@pytest.mark.parametrize(
    "family, groups, width",
    [
        ("llama", 64, 8),
        ("mistral", 8, 8),
        ("qwen2", 32, 8),
        ("qwen3", 32, 128),
        ("cohere", 64, 8),
        ("cohere2", 64, 8),
    ],
)
def test_heads_that_are_absent_are_those_of_transformers(family, groups, width, tmp_path):
    """The numbers are what transformers 5.24 makes of 64 heads in 512 dimensions."""
    changes = {"model_type": family, "hidden_size": 512, "num_attention_heads": 64}
    changes |= {"num_key_value_heads": "absent"}
    config = config_with(tmp_path, **changes)
    assert (config.num_key_value_heads, config.head_dim) == (groups, width)
    # null is another value
    assert (
        config_with(tmp_path, **changes | {"num_key_value_heads": None}).num_key_value_heads == 64
    )


def test_a_family_without_one_default_must_name_the_value(tmp_path):
    with pytest.raises(InputError, match="config.json: head_dim is missing"):
        config_with(tmp_path, model_type="qwen3", head_dim=None)
    with pytest.raises(InputError, match="config.json: rope_theta is missing"):
        config_with(tmp_path, model_type="cohere", rope_theta="absent", rope_parameters="absent")


def test_a_model_may_have_several_end_tokens_or_none(tmp_path):
    assert config_with(tmp_path, eos_token_id=[1, 2]).eos_token_ids == (1, 2)
    assert config_with(tmp_path, eos_token_id=None, bos_token_id=None).eos_token_ids == ()


@pytest.mark.parametrize(
    "changes, window",
    [
        ({"model_type": "qwen2", "use_sliding_window": False}, None),
        ({"model_type": "qwen2", "use_sliding_window": True}, 16),
        ({"model_type": "qwen3", "use_sliding_window": True}, 16),
        ({"layer_types": ["full_attention", "sliding_attention"]}, 16),
        ({"model_type": "mistral"}, 16),
        ({"model_type": "cohere2"}, 16),
        ({"model_type": "cohere2", "layer_types": ["full_attention"] * 2}, None),
    ],
)
def test_a_sliding_window_counts_only_where_it_is_used(changes, window, tmp_path):
    assert config_with(tmp_path, sliding_window=16, **changes).sliding_window == window


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_a_window_of_qwen_has_4096_tokens_unless_config_json_has_another_or_none(tmp_path, family):
    windowed = {"model_type": family, "use_sliding_window": True, "head_dim": 8}
    assert config_with(tmp_path, **windowed).sliding_window == 4_096
    assert config_with(tmp_path, **windowed, sliding_window=None).sliding_window is None


def test_mistral_has_a_window_of_4096_tokens_unless_config_json_has_another_or_none(tmp_path):
    assert config_with(tmp_path, model_type="mistral").sliding_window == 4_096
    assert config_with(tmp_path, model_type="mistral", sliding_window=None).sliding_window is None


@pytest.mark.parametrize("spelling", [{"sliding_window_pattern": 4}, {}])
def test_in_cohere2_every_fourth_layer_has_full_attention_without_rope(tmp_path, spelling):
    config = config_with(tmp_path, model_type="cohere2", num_hidden_layers=8, **spelling)
    assert config.layers_without_rope == {3, 7}
    assert config.sliding_window == 4_096


# the numbers of published models, and what minitox makes of them: maximum length, width of a head
PUBLISHED = {
    "Aya Expanse 8B": (
        {
            "model_type": "cohere",
            "hidden_size": 4_096,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 8_192,
            "logit_scale": 0.125,
            "use_qk_norm": False,
            "attention_bias": False,
        },
        (8_192, 128),
    ),
    "Tiny Aya": (
        {
            "model_type": "cohere2",
            "hidden_size": 2_048,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "max_position_embeddings": 500_000,
            "logit_scale": 1.0,
            "sliding_window": 4_096,
            "use_qk_norm": False,
            "use_parallel_block": True,
            "rotary_pct": 1.0,
        },
        (4_096, 128),
    ),
    "Mistral Nemo": (
        {
            "model_type": "mistral",
            "hidden_size": 5_120,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 131_072,
            "sliding_window": None,
        },
        (131_072, 128),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_configs_like_those_of_published_models_are_read(name, tmp_path):
    changes, expected = PUBLISHED[name]
    config = config_with(tmp_path, **changes)
    assert (config.longest, config.head_dim) == expected
