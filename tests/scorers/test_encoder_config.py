"""A classifier's config.json is understood in its old and new spellings, or refused by name."""

import pytest
import torch
from golden_classifiers import copied, golden_difference

from minitox.errors import InputError
from minitox.scorers import encoder
from minitox.scorers.encoder_config import read_labels

FULL = "full_attention"
LOCAL = "sliding_attention"


# ---- old and new spellings ----


def test_the_old_spelling_of_a_modernbert_config_means_the_same(tmp_path):
    folder = copied(
        tmp_path,
        "modernbert",
        remove=("layer_types", "rope_parameters"),
        global_attn_every_n_layers=2,
        global_rope_theta=100,
        local_rope_theta=7.0,
    )
    assert golden_difference(folder) < 1e-4


def test_local_layers_without_a_theta_use_the_global_one(tmp_path):
    """An old spelling: null means the global theta, an absent key means 10,000."""
    ids = torch.arange(3, 33)[None]  # (1, T)
    logits = {}
    for theta in (5.0, None, 10_000.0, "absent"):
        removed = ("rope_parameters", "local_rope_theta" if theta == "absent" else "")
        folder = copied(
            tmp_path / str(theta),
            "modernbert",
            remove=removed,
            global_rope_theta=5.0,
            local_rope_theta=theta,
        )
        logits[theta] = encoder.load(folder)(ids, ids > 0)
    assert torch.equal(logits[None], logits[5.0])
    assert torch.equal(logits["absent"], logits[10_000.0])
    assert not torch.allclose(logits[None], logits["absent"], atol=1e-3)


def test_layer_types_and_rope_parameters_replace_older_keys(tmp_path):
    folder = copied(
        tmp_path,
        "modernbert",
        global_attn_every_n_layers=3,
        global_rope_theta=5.0,
        local_rope_theta=5.0,
    )
    assert golden_difference(folder) < 1e-4


@pytest.mark.parametrize(
    "family, changes",
    [
        ("xlm-roberta", {"pad_token_id": 2}),  # positions start one later
        ("xlm-roberta", {"layer_norm_eps": 0.1}),
        ("xlm-roberta", {"num_attention_heads": 8}),
        ("modernbert", {"local_attention": 4}),
        ("modernbert", {"local_attention": 8}),
        ("modernbert", {"classifier_pooling": "cls"}),
        ("modernbert", {"norm_eps": 0.1}),
        ("modernbert", {"layer_types": [FULL] * 5}),
        (
            "modernbert",
            {"rope_parameters": {FULL: {"rope_theta": 100.0}, LOCAL: {"rope_theta": 100.0}}},
        ),
        (
            "modernbert",
            {"rope_parameters": {FULL: {"rope_theta": 7.0}, LOCAL: {"rope_theta": 7.0}}},
        ),
    ],
)
def test_a_wrong_config_does_not_pass_the_golden_test(family, changes, tmp_path):
    assert golden_difference(copied(tmp_path, family, **changes)) > 1e-3


# ---- the toxic output ----


@pytest.mark.parametrize(
    "labels, toxic",
    [
        (["neutral", "toxic"], 1),
        (["Toxic", "not_toxic"], 0),
        (["LABEL_0", "non-toxic"], 0),
        (["OK", "LABEL_1"], 1),
        (["toxic"], 0),
        (["LABEL_0"], 0),
        (["insult", "threat", "TOXICITY"], 2),
        (
            [
                "toxicity",
                "severe_toxicity",
                "obscene",
                "threat",
                "insult",
                "identity_attack",
                "sexual_explicit",
            ],
            0,
        ),
    ],
)
def test_the_labels_name_the_toxic_output(labels, toxic):
    names = {str(i): label for i, label in enumerate(labels)}
    assert read_labels(names) == (labels, toxic)


@pytest.mark.parametrize(
    "labels",
    [
        ["LABEL_0", "LABEL_1"],
        ["clean"],
        ["safe"],  # read as toxic, it would be upside down
        ["neutral", "clean"],
        ["neutral", "positive"],
        ["toxic", "toxicity"],
        ["neutral", "LABEL_1", "LABEL_2"],
    ],
)
def test_labels_that_do_not_name_one_toxic_output_are_refused(labels):
    names = {str(i): label for i, label in enumerate(labels)}
    with pytest.raises(ValueError, match='^id2label must name one output "toxic"'):
        read_labels(names)


@pytest.mark.parametrize("names", [None, ["toxic"], {"1": "toxic"}, {"toxic": 0}, {}])
def test_labels_without_numbers_are_refused(names):
    with pytest.raises(ValueError, match="id2label"):
        read_labels(names)


# ---- what is not implemented ----


@pytest.mark.parametrize(
    "family, changes, message",
    [
        ("xlm-roberta", {"model_type": "bert"}, "'bert'"),
        (
            "modernbert",
            {"architectures": ["ModernBertForTokenClassification"]},
            "ModernBertForTokenClassification",
        ),
        ("xlm-roberta", {"hidden_act": "relu"}, "hidden_act 'relu'"),
        ("xlm-roberta", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("xlm-roberta", {"is_decoder": True}, "is_decoder"),
        ("xlm-roberta", {"problem_type": "regression"}, "problem_type 'regression'"),
        ("xlm-roberta", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("xlm-roberta", {"hidden_size": 0}, "hidden_size"),
        (
            "xlm-roberta",
            {"num_attention_heads": 3},
            "hidden_size 16 cannot be divided into 3 heads",
        ),
        ("xlm-roberta", {"num_hidden_layers": "2"}, "num_hidden_layers"),
        ("modernbert", {"hidden_activation": "silu"}, "hidden_activation 'silu'"),
        ("modernbert", {"classifier_activation": "relu"}, "classifier_activation 'relu'"),
        (
            "modernbert",
            {"classifier_pooling": "max"},
            "classifier_pooling 'max' is not supported, only 'cls' and 'mean'",
        ),
        ("modernbert", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
        ("modernbert", {"mlp_bias": "no"}, "mlp_bias"),
        ("modernbert", {"layer_types": [FULL]}, "layer_types"),
        ("modernbert", {"layer_types": ["chunked_attention"] * 5}, "layer_types"),
        (
            "modernbert",
            {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
            "rope_parameters",
        ),
        (
            "modernbert",
            {"rope_parameters": {FULL: {"rope_type": "yarn", "rope_theta": 1e4}}},
            "rope_type",
        ),
        ("modernbert", {"id2label": None}, "id2label"),
    ],
)
def test_a_setting_that_is_not_implemented_is_refused_by_name(family, changes, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        encoder.load(copied(tmp_path, family, **changes))
    assert "config.json: " in str(error.value)
    assert "\n" not in str(error.value)
