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


LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2'"),
        ({"model_type": "absent"}, "model_type None"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type 'yarn'"),
        ({"rope_parameters": LINEAR}, "rope_type 'linear'"),
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
    assert config_with(tmp_path, model_type="qwen3", head_dim=128).head_dim == 128


def test_a_model_may_have_several_end_tokens_or_none(tmp_path):
    assert config_with(tmp_path, eos_token_id=[1, 2]).eos_token_ids == (1, 2)
    assert config_with(tmp_path, eos_token_id=None, bos_token_id=None).eos_token_ids == ()


@pytest.mark.parametrize(
    "changes, window",
    [
        ({"model_type": "qwen2", "use_sliding_window": False}, None),
        ({"model_type": "qwen2", "use_sliding_window": True}, 16),
        ({"layer_types": ["full_attention", "sliding_attention"]}, 16),
    ],
)
def test_a_sliding_window_counts_only_where_it_is_used(changes, window, tmp_path):
    assert config_with(tmp_path, sliding_window=16, **changes).sliding_window == window
