"""The two encoders compute what transformers computes, for each text alone and beside others."""

import pytest
import torch
from golden_classifiers import FAMILIES, copied, edit_weights, golden_difference
from safetensors.torch import load_file
from tiny import GOLDEN

from minitox.errors import InputError
from minitox.scorers import encoder, encoder_model


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_those_of_transformers(family):
    assert golden_difference(GOLDEN / family) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_that_sees_its_pads_does_not_pass_the_golden_test(family):
    assert golden_difference(GOLDEN / family, masked=False) > 1e-3


def test_the_tanh_approximation_of_gelu_does_not_pass_the_golden_test(monkeypatch):
    exact = torch.nn.functional.gelu
    monkeypatch.setattr(encoder_model.F, "gelu", lambda x: exact(x, approximate="tanh"))
    assert min(golden_difference(GOLDEN / family) for family in FAMILIES) > 1e-4


def test_a_bias_that_config_json_switches_off_is_zero(tmp_path):
    flags = ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias")
    zero = copied(tmp_path / "zero", "modernbert")
    absent = copied(tmp_path / "absent", "modernbert", **dict.fromkeys(flags, False))
    names = load_file(zero / "model.safetensors")
    biases = [n for n in names if n.endswith(".bias") and n != "classifier.bias"]
    edit_weights(zero, lambda weights: [weights[name].zero_() for name in biases])
    edit_weights(absent, lambda weights: [weights.pop(name) for name in biases])

    ids = torch.arange(3, 33)[None]  # (1, T)
    assert torch.equal(encoder.load(zero)(ids, ids > 0), encoder.load(absent)(ids, ids > 0))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_gets_the_same_logits_alone_and_beside_a_longer_one(family):
    model = encoder.load(GOLDEN / family)
    ids = torch.randint(3, 40, (2, 40), generator=torch.Generator().manual_seed(0))
    lengths = [5, 40]
    together = model(ids, torch.arange(40) < torch.tensor(lengths)[:, None])
    alone = []
    for i, length in enumerate(lengths):
        alone.append(model(ids[i : i + 1, :length], torch.ones(1, length, dtype=torch.bool)))
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


# ---- the weights ----


@pytest.mark.parametrize(
    "family, edit, message",
    [
        (
            "xlm-roberta",
            lambda w: w.pop("roberta.encoder.layer.1.output.LayerNorm.bias"),
            "layer.1.output.LayerNorm.bias is missing",
        ),
        (
            "modernbert",
            lambda w: w.pop("model.layers.0.mlp.Wi.weight"),
            "model.layers.0.mlp.Wi.weight is missing",
        ),
        (
            "modernbert",
            lambda w: w.update({"classifier.bias": torch.zeros(3)}),
            r"classifier.bias has shape \[3\]",
        ),
        (
            "xlm-roberta",
            lambda w: w.update({"roberta.pooler.dense.weight": torch.zeros(16, 16)}),
            "roberta.pooler.dense.weight does not belong to",
        ),
        (
            "modernbert",
            lambda w: w.update({"model.layers.0.attn_norm.weight": torch.ones(16)}),
            "model.layers.0.attn_norm.weight does not belong to",
        ),
    ],
)
def test_weights_that_do_not_fit_the_config_are_refused(family, edit, message, tmp_path):
    folder = copied(tmp_path, family)
    edit_weights(folder, edit)
    with pytest.raises(InputError, match=message):
        encoder.load(folder)


def test_position_ids_in_older_checkpoints_are_ignored(tmp_path):
    folder = copied(tmp_path, "xlm-roberta")
    position_ids = {"roberta.embeddings.position_ids": torch.arange(64)[None]}
    edit_weights(folder, lambda weights: weights.update(position_ids))
    assert golden_difference(folder) < 1e-4
