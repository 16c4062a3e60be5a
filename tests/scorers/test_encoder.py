"""The encoders compute what transformers computes, a text's score is its own, and what is not understood is refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import GOLDEN, write_tokenizer
from tokenizers import Tokenizer, processors

import evaluate
from minitox.errors import InputError
from minitox.scorers import encoder, encoder_model
from minitox.scorers.encoder import Encoder
from minitox.scorers.encoder_config import read_labels

FAMILIES = ["xlm-roberta", "modernbert"]


def edit_config(folder, remove=(), **changes) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if key not in remove}))


def edit_weights(folder, edit) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors")


def copied(tmp_path, family, **changes):
    """The golden folder of a family, its config.json changed."""
    shutil.copytree(GOLDEN / family, tmp_path / family, dirs_exist_ok=True)
    edit_config(tmp_path / family, **changes)
    return tmp_path / family


def with_tokenizer(folder, outputs=2, special=True, **changes):
    """Make a golden folder one that scores texts: a larger vocabulary, an own tokenizer, any number of outputs."""
    write_tokenizer(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    generator = torch.Generator().manual_seed(0)

    def grow(weights):
        for name, weight in weights.items():
            if name.endswith(("word_embeddings.weight", "tok_embeddings.weight")):
                weights[name] = torch.randn(300, weight.shape[1], generator=generator)
            elif name.startswith(("classifier.out_proj", "classifier.weight", "classifier.bias")):
                weights[name] = 0.2 * torch.randn(outputs, *weight.shape[1:], generator=generator)

    edit_weights(folder, grow)
    edit_config(folder, vocab_size=300, **changes)
    return folder


def golden_difference(folder, masked=True) -> float:
    golden = json.loads((GOLDEN / folder.name / "golden.json").read_text())
    ids, lengths = torch.tensor(golden["ids"]), torch.tensor(golden["lengths"])
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    logits = encoder.load(folder)(ids, real if masked else torch.ones_like(real))
    return (logits - torch.tensor(golden["logits"])).abs().max().item()


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_those_of_transformers(family):
    assert golden_difference(GOLDEN / family) < 1e-4


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


def test_local_layers_without_a_theta_of_their_own_use_the_global_one(tmp_path):
    """An old spelling; not giving the key at all means 10,000."""
    logits, ids = {}, torch.arange(3, 33)[None]
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
    assert torch.equal(logits[None], logits[5.0]) and torch.equal(
        logits["absent"], logits[10_000.0]
    )
    assert not torch.allclose(logits[None], logits["absent"], atol=1e-3)


def test_layer_types_and_rope_parameters_go_before_older_keys(tmp_path):
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
        ("modernbert", {"layer_types": ["full_attention"] * 5}),
        (
            "modernbert",
            {
                "rope_parameters": {
                    "full_attention": {"rope_theta": 100.0},
                    "sliding_attention": {"rope_theta": 100.0},
                }
            },
        ),
        (
            "modernbert",
            {
                "rope_parameters": {
                    "full_attention": {"rope_theta": 7.0},
                    "sliding_attention": {"rope_theta": 7.0},
                }
            },
        ),
    ],
)
def test_a_wrong_config_does_not_pass_the_golden_test(family, changes, tmp_path):
    assert golden_difference(copied(tmp_path, family, **changes)) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_that_sees_its_pads_does_not_pass_the_golden_test(family):
    assert golden_difference(GOLDEN / family, masked=False) > 1e-3


def test_the_tanh_approximation_of_gelu_does_not_pass_the_golden_test(monkeypatch):
    exact = torch.nn.functional.gelu
    monkeypatch.setattr(encoder_model.F, "gelu", lambda x: exact(x, approximate="tanh"))
    assert min(golden_difference(GOLDEN / family) for family in FAMILIES) > 1e-4


def test_a_bias_that_config_json_switches_off_is_zero(tmp_path):
    flags = ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias")
    zero, absent = (
        copied(tmp_path / "zero", "modernbert"),
        copied(tmp_path / "absent", "modernbert", **dict.fromkeys(flags, False)),
    )
    biases = [
        name
        for name in load_file(zero / "model.safetensors")
        if name.endswith(".bias") and name != "classifier.bias"
    ]
    edit_weights(zero, lambda weights: [weights[name].zero_() for name in biases])
    edit_weights(absent, lambda weights: [weights.pop(name) for name in biases])
    ids = torch.arange(3, 33)[None]
    assert torch.equal(*(encoder.load(folder)(ids, ids > 0) for folder in (zero, absent)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_gets_the_same_logits_alone_and_beside_a_longer_one(family):
    model, ids = (
        encoder.load(GOLDEN / family),
        torch.randint(3, 40, (2, 40), generator=torch.Generator().manual_seed(0)),
    )
    lengths = torch.tensor([[5], [40]])
    together = model(ids, torch.arange(40) < lengths)
    alone = [
        model(ids[i : i + 1, :length], torch.ones(1, length, dtype=torch.bool))
        for i, (length,) in enumerate(lengths.tolist())
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_come_in_the_order_of_the_texts_and_do_not_depend_on_the_others(
    family, tmp_path, monkeypatch
):
    scorer = Encoder(with_tokenizer(copied(tmp_path, family)))
    words = "the soup is warm and the garden is green, you donkey".split()
    texts = [" ".join(words[i % 7 : i % 11 + 1]) for i in range(40)] + [
        "",
        "x",
        "\ud800 lone \udfff",
        "</s><pad>",
    ]
    alone = [next(scorer.score([text], "en")) for text in texts]
    monkeypatch.setattr(encoder, "CHUNK", 16)
    monkeypatch.setattr(encoder, "BATCH_TOKENS", 50)
    together = list(scorer.score(texts, "en"))
    assert [status for _, status in together] == ["scored"] * len(texts)
    assert [score for score, _ in together] == pytest.approx(
        [score for score, _ in alone], abs=1e-5
    )
    assert len({round(score, 5) for score, _ in together}) > 10 and all(
        type(score) is float for score, _ in together
    )
    assert list(scorer.score([], "en")) == []


def test_scores_are_given_before_the_next_texts_are_read(tmp_path, monkeypatch):
    scorer, read = Encoder(with_tokenizer(copied(tmp_path, "modernbert"))), []
    monkeypatch.setattr(encoder, "CHUNK", 2)
    forward = scorer.model.forward
    monkeypatch.setattr(
        scorer.model, "forward", lambda ids, real: read.append(len(ids)) or forward(ids, real)
    )
    answers = scorer.score(["soup", "garden", "warm", "green"], "en")
    next(answers)
    assert sum(read) == 2
    assert len(list(answers)) == 3 and sum(read) == 4


@pytest.mark.parametrize("family, positions", [("xlm-roberta", 62), ("modernbert", 64)])
def test_a_text_is_cut_at_the_last_position_and_keeps_its_special_tokens(
    family, positions, tmp_path
):
    scorer, asked = Encoder(with_tokenizer(copied(tmp_path, family))), []
    forward = scorer.model.forward
    scorer.model.forward = lambda ids, real: asked.append(ids) or forward(ids, real)
    room = positions - 2
    exact, cut, longer = scorer.score(["q" * room, "q" * (room + 1), "q" * 5000], "en")
    assert (exact[1], cut[1], longer[1]) == ("scored", "cut", "cut")
    assert exact[0] == cut[0] == longer[0]
    assert (
        asked[0].shape == (3, positions)
        and asked[0][:, 0].tolist() == [0] * 3
        and asked[0][:, -1].tolist() == [1] * 3
    )


def test_no_text_is_longer_than_512_tokens(tmp_path):
    folder = with_tokenizer(copied(tmp_path, "modernbert"), max_position_embeddings=8192)
    exact, cut = Encoder(folder).score(["q" * 510, "q" * 511], "en")
    assert (exact[1], cut[1]) == ("scored", "cut")


def test_a_logit_that_is_no_number_is_a_failure(tmp_path):
    folder = with_tokenizer(copied(tmp_path, "xlm-roberta"))
    edit_weights(
        folder,
        lambda weights: weights["classifier.out_proj.bias"].copy_(
            torch.tensor([float("nan"), 0.0])
        ),
    )
    assert list(Encoder(folder).score(["soup"], "en")) == [
        (None, "failed: an output is not a finite number")
    ]


def test_the_name_follows_whatever_the_scores_depend_on(tmp_path):
    folder = with_tokenizer(copied(tmp_path, "xlm-roberta"))
    names = [Encoder(folder).name, Encoder(folder).name]
    assert (
        names[0] == names[1]
        and names[0].startswith("encoder-")
        and len(names[0]) == len("encoder-") + 12
    )
    edit_config(folder, layer_norm_eps=1e-4)
    names.append(Encoder(folder).name)
    edit_weights(folder, lambda weights: weights["classifier.out_proj.bias"].add_(1))
    names.append(Encoder(folder).name)
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + "\n")
    names.append(Encoder(folder).name)
    assert len(set(names)) == 4


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
def test_which_output_means_toxic(labels, toxic):
    assert read_labels(dict(zip("0123456789", labels)), "config.json") == (labels, toxic)


@pytest.mark.parametrize(
    "labels",
    [
        ["LABEL_0", "LABEL_1"],
        ["clean"],
        ["neutral", "clean"],
        ["neutral", "positive"],
        ["toxic", "toxicity"],
        ["neutral", "LABEL_1", "LABEL_2"],
    ],
)
def test_outputs_that_do_not_say_which_means_toxic_are_refused(labels):
    with pytest.raises(InputError, match='here: id2label must name one output "toxic"'):
        read_labels(dict(zip("012", labels)), "here")


@pytest.mark.parametrize("names", [None, ["toxic"], {"1": "toxic"}, {"toxic": 0}, {}])
def test_labels_without_numbers_are_refused(names):
    with pytest.raises(InputError, match="id2label"):
        read_labels(names, "here")


@pytest.mark.parametrize(
    "count, problem_type, kind",
    [
        (1, None, "sigmoid"),
        (1, "single_label_classification", "sigmoid"),
        (2, None, "softmax"),
        (2, "single_label_classification", "softmax"),
        (2, "multi_label_classification", "sigmoid"),
        (3, None, "sigmoid"),
        (3, "multi_label_classification", "sigmoid"),
        (3, "single_label_classification", "softmax"),
    ],
)
def test_outputs_become_a_probability(count, problem_type, kind, tmp_path):
    labels = {str(i): "toxic" if i == count - 1 else f"other {i}" for i in range(count)}
    folder = with_tokenizer(
        copied(tmp_path, "modernbert"), outputs=count, id2label=labels, problem_type=problem_type
    )
    scorer = Encoder(folder)
    ((score, status),) = scorer.score(["soup"], "en")
    ids = torch.tensor([scorer.tokenizer.encode("soup").ids])
    logits = scorer.model(ids, torch.ones_like(ids, dtype=torch.bool))[0]
    expected = logits.exp() / logits.exp().sum() if kind == "softmax" else 1 / (1 + (-logits).exp())
    assert score == pytest.approx(expected[-1].item(), rel=1e-5) and status == "scored"
    assert (
        scorer.about == f"modernbert, toxic is output {count - 1} 'toxic' of {count}, {kind}"
        and scorer.languages is None
    )


@pytest.mark.parametrize(
    "family, changes, says",
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
        ("modernbert", {"layer_types": ["full_attention"]}, "layer_types"),
        ("modernbert", {"layer_types": ["chunked_attention"] * 5}, "layer_types"),
        (
            "modernbert",
            {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
            "rope_parameters",
        ),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}},
            "rope_type",
        ),
        ("modernbert", {"id2label": None}, "id2label"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(family, changes, says, tmp_path):
    with pytest.raises(InputError, match=says) as error:
        encoder.load(copied(tmp_path, family, **changes))
    assert "config.json: " in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "family, edit, says",
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
            "roberta.pooler.dense.weight is no part",
        ),
        (
            "modernbert",
            lambda w: w.update({"model.layers.0.attn_norm.weight": torch.ones(16)}),
            "model.layers.0.attn_norm.weight is no part",
        ),
    ],
)
def test_weights_that_are_not_the_configs_are_refused(family, edit, says, tmp_path):
    folder = copied(tmp_path, family)
    edit_weights(folder, edit)
    with pytest.raises(InputError, match=says):
        encoder.load(folder)


def test_position_ids_in_older_checkpoints_are_passed_over(tmp_path):
    folder = copied(tmp_path, "xlm-roberta")
    edit_weights(
        folder,
        lambda weights: weights.update({"roberta.embeddings.position_ids": torch.arange(64)[None]}),
    )
    assert golden_difference(folder) < 1e-4


def test_a_folder_without_weights_or_a_tokenizer_is_refused(tmp_path):
    folder = copied(tmp_path, "modernbert")
    with pytest.raises(InputError, match="tokenizer.json: no such file"):
        Encoder(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="tokenizer.json: not a tokenizer"):
        Encoder(folder)
    (with_tokenizer(folder) / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no model.safetensors"):
        Encoder(folder)
    with pytest.raises(InputError, match="config.json: no such file"):
        Encoder(tmp_path)


@pytest.mark.parametrize("special, changes", [(False, {}), (True, {"max_position_embeddings": 2})])
def test_a_tokenizer_whose_special_tokens_do_not_fit_is_refused(special, changes, tmp_path):
    with pytest.raises(InputError, match="special tokens"):
        Encoder(with_tokenizer(copied(tmp_path, "modernbert"), special=special, **changes))


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path):
    folder = with_tokenizer(copied(tmp_path, "modernbert"))
    edit_config(folder, vocab_size=200)
    with pytest.raises(InputError, match="200 rows"):
        Encoder(folder)


def test_weights_are_loaded_in_the_dtype_that_is_asked_for(tmp_path):
    folder = with_tokenizer(copied(tmp_path, "modernbert"))
    scorer = Encoder(folder, dtype=torch.bfloat16)
    assert {weight.dtype for weight in scorer.model.parameters()} == {torch.bfloat16}
    ((exact, _),) = Encoder(folder).score(["the soup is warm"], "en")
    ((score, status),) = scorer.score(["the soup is warm"], "en")
    assert status == "scored" and score == pytest.approx(exact, abs=0.1)


def test_evaluate_scores_with_a_classifier_and_says_which_output_is_toxic(tmp_path, capsys):
    folder = with_tokenizer(copied(tmp_path, "xlm-roberta"))
    evaluate.main(
        [
            "--scorer",
            f"encoder:{folder}",
            "--out",
            str(tmp_path / "out"),
            "--languages",
            "en,ja",
            "--prompts",
            "4",
            "--no-mmlu",
            "--perplexity",
            "0",
            "--models",
            "base",
        ]
    )
    says = "xlm-roberta, toxic is output 1 'toxic' of 2, softmax"
    assert says in capsys.readouterr().out and says in (tmp_path / "out" / "report.md").read_text(
        encoding="utf-8"
    )
    scored = json.loads((tmp_path / "out" / "report.json").read_text())["toxicity"]["base"]
    assert scored.keys() == {"en", "ja"} and all(
        0 < value < 1 for means in scored.values() for value in means
    )
