"""A classifier scores each text by itself, with the probability of its toxic output."""

import json

import pytest
import torch
from golden_classifiers import FAMILIES, copied, edit_config, edit_weights, with_tokenizer

import evaluate
from minitox.errors import InputError
from minitox.scorers import encoder
from minitox.scorers.encoder import MAX_CHARACTERS, Encoder


def spy_on_forward(scorer: Encoder) -> list:
    """Record the ids (B, T) of every batch that the scorer's model reads."""
    batches = []
    forward = scorer.model.forward

    def recording_forward(ids, real):
        batches.append(ids)
        return forward(ids, real)

    scorer.model.forward = recording_forward
    return batches


# ---- texts and scores ----


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_in_the_order_of_the_texts_and_do_not_depend_on_the_others(
    family, tmp_path, monkeypatch
):
    scorer = Encoder(with_tokenizer(copied(tmp_path, family)))
    words = "the soup is warm and the garden is green, you donkey".split()
    texts = [" ".join(words[i % 7 : i % 11 + 1]) for i in range(40)]
    texts += ["", "x", "\ud800 lone \udfff", "</s><pad>"]
    alone = [next(scorer.score([text], "en")) for text in texts]
    monkeypatch.setattr(encoder, "CHUNK", 16)
    monkeypatch.setattr(encoder, "BATCH_TOKENS", 50)
    together = list(scorer.score(texts, "en"))

    assert [status for _, status in together] == ["scored"] * len(texts)
    scores = [score for score, _ in together]
    assert scores == pytest.approx([score for score, _ in alone], abs=1e-5)
    assert len({round(score, 5) for score in scores}) > 10
    assert all(type(score) is float for score in scores)
    assert list(scorer.score([], "en")) == []


def test_scores_are_given_before_the_next_texts_are_read(tmp_path, monkeypatch):
    scorer = Encoder(with_tokenizer(copied(tmp_path, "modernbert")))
    monkeypatch.setattr(encoder, "CHUNK", 2)
    batches = spy_on_forward(scorer)
    answers = scorer.score(["soup", "garden", "warm", "green"], "en")
    next(answers)
    assert sum(map(len, batches)) == 2
    assert len(list(answers)) == 3
    assert sum(map(len, batches)) == 4


@pytest.mark.parametrize("family, positions", [("xlm-roberta", 62), ("modernbert", 64)])
def test_a_text_is_cut_at_the_last_position_and_keeps_its_special_tokens(
    family, positions, tmp_path
):
    scorer = Encoder(with_tokenizer(copied(tmp_path, family)))
    batches = spy_on_forward(scorer)
    room = positions - 2
    exact, cut, longer = scorer.score(["q" * room, "q" * (room + 1), "q" * 5000], "en")
    assert (exact[1], cut[1], longer[1]) == ("scored", "cut", "cut")
    assert exact[0] == cut[0] == longer[0]
    assert batches[0].shape == (3, positions)
    assert batches[0][:, 0].tolist() == [0] * 3
    assert batches[0][:, -1].tolist() == [1] * 3


def test_no_text_is_longer_than_512_tokens(tmp_path):
    folder = with_tokenizer(copied(tmp_path, "modernbert"), max_position_embeddings=8192)
    exact, cut = Encoder(folder).score(["q" * 510, "q" * 511], "en")
    assert exact[1] == "scored"
    assert cut[1] == "cut"


def test_a_logit_that_is_not_a_number_is_a_failure(tmp_path):
    folder = with_tokenizer(copied(tmp_path, "xlm-roberta"))
    edit_weights(folder, lambda weights: weights["classifier.out_proj.weight"].fill_(3e38))
    answers = list(Encoder(folder).score(["soup"], "en"))
    assert answers == [(None, "failed: an output is not a finite number")]


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
    assert status == "scored"

    ids = torch.tensor([scorer.tokenizer.encode("soup").ids])  # (1, T)
    logits = scorer.model(ids, torch.ones_like(ids, dtype=torch.bool))[0]  # (outputs,)
    if kind == "softmax":
        expected = logits.exp() / logits.exp().sum()
    else:
        expected = 1 / (1 + (-logits).exp())
    assert score == pytest.approx(expected[-1].item(), rel=1e-5)
    assert scorer.about == f"modernbert, toxic is output {count - 1} 'toxic' of {count}, {kind}"
    assert scorer.languages is None


def test_a_text_is_cut_before_it_is_tokenized(tmp_path):
    scorer = Encoder(with_tokenizer(copied(tmp_path, "xlm-roberta")))
    text = "soup " * MAX_CHARACTERS
    answers = scorer.score([text, text[:MAX_CHARACTERS], "soup"], "en")
    (long, status), (short, _), (_, other) = answers
    assert long == short
    assert (status, other) == ("cut", "scored")


# ---- the folder ----


def test_the_name_changes_with_everything_that_the_scores_depend_on(tmp_path):
    folder = with_tokenizer(copied(tmp_path, "xlm-roberta"))
    name = Encoder(folder).name
    assert name.startswith("encoder-")
    assert len(name) == len("encoder-") + 12
    assert Encoder(folder).name == name

    names = {name}
    edit_config(folder, layer_norm_eps=1e-4)
    names.add(Encoder(folder).name)
    edit_weights(folder, lambda weights: weights["classifier.out_proj.bias"].add_(1))
    names.add(Encoder(folder).name)
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + "\n")
    names.add(Encoder(folder).name)
    assert len(names) == 4


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
    folder = with_tokenizer(copied(tmp_path, "modernbert"), special=special, **changes)
    with pytest.raises(InputError, match="special tokens"):
        Encoder(folder)


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path):
    folder = with_tokenizer(copied(tmp_path, "modernbert"))
    edit_config(folder, vocab_size=200)
    with pytest.raises(InputError, match="200 rows"):
        Encoder(folder)


def test_a_template_that_adds_tokens_without_an_embedding_is_refused(tmp_path):
    folder = with_tokenizer(copied(tmp_path, "modernbert"))
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"ids": [\n          1', '"ids": [\n          999'))
    with pytest.raises(InputError, match="a text has token 999, but the model has only 300"):
        list(Encoder(folder).score(["the soup is warm"], "en"))


def test_weights_are_loaded_in_the_chosen_dtype(tmp_path):
    folder = with_tokenizer(copied(tmp_path, "modernbert"))
    scorer = Encoder(folder, dtype=torch.bfloat16)
    assert {weight.dtype for weight in scorer.model.parameters()} == {torch.bfloat16}
    ((exact, _),) = Encoder(folder).score(["the soup is warm"], "en")
    ((score, status),) = scorer.score(["the soup is warm"], "en")
    assert status == "scored"
    assert score == pytest.approx(exact, abs=0.1)


def test_evaluate_scores_with_a_classifier_and_reports_which_output_is_toxic(tmp_path, capsys):
    folder = with_tokenizer(copied(tmp_path, "xlm-roberta"))
    out = tmp_path / "out"
    command = ["--scorer", f"encoder:{folder}", "--out", str(out), "--models", "base"]
    command += ["--languages", "en,ja", "--prompts", "4", "--no-mmlu", "--perplexity", "0"]
    evaluate.main(command)

    about = "xlm-roberta, toxic is output 1 'toxic' of 2, softmax"
    assert about in capsys.readouterr().out
    assert about in (out / "report.md").read_text(encoding="utf-8")
    scored = json.loads((out / "report.json").read_text())["toxicity"]["base"]
    assert scored.keys() == {"en", "ja"}
    for means in scored.values():
        assert all(0 < value < 1 for value in means)
