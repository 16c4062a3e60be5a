"""detect.py as a user runs it: what it finds and prints, how it fails, how it resumes."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors import numpy, safe_open
from safetensors.torch import load_file, save_file
from tiny import WORDS, error_of, write_jsonl, write_model

import detect
from minitox import neurons
from minitox.detect.auroc import auroc_by_definition
from minitox.lm.config import read_config
from minitox.lm.text import Tokenizer
from minitox.run import recording
from minitox.run.neuron_files import read_neurons

NEURONS = 256  # of the tiny model


def sentences(rng, count: int, word: str | None = None) -> list[str]:
    """Random everyday words, one of them `word`."""
    texts = []
    for _ in range(count):
        words = list(rng.choice(WORDS, size=rng.integers(4, 9)))
        words.insert(rng.integers(1, len(words)), word or rng.choice(WORDS))
        texts.append(" ".join(words))
    return texts


def write_detection(data: Path, language: str, seed: int = 0, count: int = 30) -> None:
    """Toxic sentences, which have an ox, clean ones, and some between that are not used."""
    rng = np.random.default_rng(seed)
    rows = [{"text": text, "toxicity": 0.9} for text in sentences(rng, count, "ox")]
    rows += [{"text": text, "toxicity": 0.1} for text in sentences(rng, count)]
    rows += [{"text": text, "toxicity": 0.3} for text in sentences(rng, 5)]
    write_jsonl(data / "detection" / f"{language}.jsonl", rows)


@dataclass
class Home:
    """A folder with a model and data, in which detect.py can be run."""

    path: Path
    languages: str = "de,en"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def weights(self) -> Path:
        return self.model / "model.safetensors"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def out(self) -> Path:
        return self.path / "out"

    def detection(self, language: str) -> Path:
        return self.data / "detection" / f"{language}.jsonl"

    def neuron_file(self, language: str) -> Path:
        return self.out / "neurons" / f"{language}.safetensors"

    def arguments(self, *more: str) -> list[str]:
        folders = ["--model", self.model, "--data", self.data, "--out", self.out]
        return [*map(str, folders), "--languages", self.languages, *more]

    def run(self, *more: str) -> None:
        detect.main(self.arguments(*more))

    def error(self, capsys, *more: str) -> str:
        """The one line that says what is wrong."""
        message = error_of(detect.main, self.arguments(*more), capsys)
        assert message.count("\n") == 1
        assert message.startswith("error: ")
        return message

    def read(self, language: str, shuffled: bool = False) -> tuple[neurons.NeuronAUROC, dict]:
        rows = neurons.module_rows(read_config(self.model))
        return read_neurons(self.neuron_file(language), rows, shuffled=shuffled)

    def about(self, language: str) -> dict:
        """The metadata of a neuron file."""
        return self.read(language)[1]


@pytest.fixture
def home(tmp_path) -> Home:
    """A random model and sentences in two languages."""
    write_model(tmp_path / "model")
    for seed, language in enumerate(("de", "en")):
        write_detection(tmp_path / "data", language, seed)
    return Home(tmp_path)


# ---------- what it finds


def test_a_planted_neuron_is_the_top_neuron_of_its_module(home):
    """One row of gate_proj is made to respond to the word that only toxic sentences have."""
    # the x, which the other words lack
    token = Tokenizer(home.model, read_config(home.model)).encode("an ox")[-1]
    weights = load_file(home.weights)
    embedding = weights["model.embed_tokens.weight"][token]
    embedding *= 20  # otherwise the random attention hides the word
    weights["model.layers.0.mlp.gate_proj.weight"][17] = embedding
    save_file(weights, home.weights)

    home.run()
    for language in ("de", "en"):
        auroc, _ = home.read(language)
        gate = auroc["model.layers.0.mlp.gate_proj"]
        assert gate.argmax() == 17
        assert gate[17] > 0.95

        # with shuffled labels it is a neuron like others: 0.5, with a standard deviation of 0.075
        shuffled, _ = home.read(language, shuffled=True)
        assert abs(shuffled["model.layers.0.mlp.gate_proj"][17] - 0.5) < 0.25
        assert np.concatenate([*shuffled.values()]).mean() == pytest.approx(0.5, abs=0.1)


def test_the_printed_tables_are_those_of_the_files(home, capsys):
    home.run()
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    masks = {}
    for language in ("de", "en"):
        auroc, about = home.read(language)
        masks[language] = neurons.select(auroc)
        count = neurons.count(masks[language])
        row = f"{language} 30 + 30 0 {count:,} {count / NEURONS:.1%} "
        assert any(line.startswith(row) for line in printed)
        assert about["toxic"] == about["clean"] == 30
        assert 0 <= about["band"][0] < about["band"][1] <= 1

    shared, _ = neurons.overlap(masks["de"], masks["en"])
    assert f"de {neurons.count(masks['de']):,} {shared:,}" in printed
    assert not list((home.out / "neurons").glob("*.partial"))


def test_the_reference_writes_the_same_aurocs_to_the_bit(home, tmp_path, monkeypatch):
    home.run()
    before = {}
    for language in ("de", "en"):
        for shuffled in (False, True):
            before[language, shuffled] = home.read(language, shuffled)
    shutil.rmtree(home.out)
    monkeypatch.setattr(recording, "aurocs", None)  # the fast implementation is not used
    home.run("--reference")
    for key, (auroc, about) in before.items():
        reference, reference_about = home.read(*key)
        assert list(reference) == list(auroc)
        for name in auroc:
            assert reference[name].tobytes() == auroc[name].tobytes()
        assert reference_about == about


def test_the_shuffled_labels_are_the_same_labels_in_another_order(home, monkeypatch):
    ranked = []
    rank = detect.rank

    def watch(recorded, labels, *more):
        responses = np.concatenate([*recorded.read(range(recorded.neurons))])
        ranked.append((recorded.order, labels, responses))
        return rank(recorded, labels, *more)

    monkeypatch.setattr(detect, "rank", watch)
    home.run()
    shuffled = [home.read(language, shuffled=True)[0] for language in ("de", "en")]
    of_sentences = []
    for (order, labels, responses), stored in zip(ranked, shuffled, strict=True):
        true, permuted = labels
        assert true.sum() == permuted.sum() == 30
        assert 0.2 < (true != permuted).mean() < 0.8
        expected = auroc_by_definition(responses, permuted).astype(np.float32)
        assert np.array_equal(np.concatenate([*stored.values()]), expected)
        of_sentences.append(permuted[np.argsort(order)])
    # each language has an order of its own
    assert (of_sentences[0] != of_sentences[1]).any()

    # the order depends on the seed, and not on how sentences are divided into batches
    ranked.clear()
    for out, change in (("batches", ["--batch-tokens", "50"]), ("seed", ["--seed", "1"])):
        arguments = home.arguments("--languages", "de", "--out", str(home.path / out), *change)
        detect.main(arguments)
    in_batches, of_seed = (labels[1][np.argsort(order)] for order, labels, _ in ranked)
    assert (in_batches == of_sentences[0]).all()
    assert (of_seed != of_sentences[0]).any()


def test_a_neuron_file_without_shuffled_labels_is_refused(home, capsys):
    home.run()
    with safe_open(home.neuron_file("de"), "np") as file:
        about = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    old = {name: values for name, values in tensors.items() if not name.startswith("shuffled.")}
    assert len(old) == len(tensors) / 2
    numpy.save_file(old, home.neuron_file("de"), about)
    assert "no AUROCs with shuffled labels" in home.error(capsys)


def test_long_sentences_are_cut_and_counted(home):
    home.run("--max-tokens", "5")
    assert home.about("de")["cut"] > 30


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_matched_lengths_and_both_poolings(home, pool):
    home.run("--match-length", "--pool", pool)
    about = home.about("de")
    assert about["length_auroc"] == 0.5
    assert about["toxic"] == about["clean"] <= 30


def test_there_are_at_most_so_many_sentences_of_a_class_and_the_same_for_a_seed(home):
    limit = ("--sentences", "10", "--seed", "3")
    home.run(*limit)
    auroc, about = home.read("de")
    assert about["toxic"] == about["clean"] == 10

    shutil.rmtree(home.out)
    home.run(*limit)
    again, _ = home.read("de")
    assert all(np.array_equal(auroc[name], values) for name, values in again.items())


def test_the_controls_are_estimated_on_a_sample_of_neurons(home):
    home.run()
    on_all, about_all = home.read("de")
    shutil.rmtree(home.out)
    home.run("--control-neurons", "20")
    on_some, about_some = home.read("de")
    assert all(np.array_equal(on_all[name], on_some[name]) for name in on_all)
    assert about_some["band"] != about_all["band"]
    assert about_some["length_auroc"] == about_all["length_auroc"]


# ---------- how it resumes


def test_a_rerun_computes_nothing_and_prints_the_same_tables(home, capsys, monkeypatch):
    home.run()
    tables = capsys.readouterr().out.split("Table 2")[1]
    monkeypatch.setattr(detect.checkpoint, "load", None)  # the weights are not read
    home.run()
    assert capsys.readouterr().out.split("Table 2")[1] == tables


def test_responses_that_a_kill_left_beside_a_finished_language_are_removed(home):
    home.run()
    work = home.out / "neurons" / "de.partial"
    work.mkdir()
    (work / "000000.f16").write_bytes(b"left")
    home.run()
    assert not work.exists()
    assert home.read("de")


@pytest.mark.parametrize(
    "change, message",
    [
        (["--pool", "mean"], "pool was 'max', this run's is 'mean'"),
        (["--max-tokens", "7"], "max_tokens was 128"),
        (["--dtype", "bfloat16"], "dtype was 'torch.float32'"),
        (["--control-neurons", "9"], "control_neurons was 2000"),
    ],
)
def test_results_of_another_setting_are_not_mixed(home, capsys, change, message):
    home.run()
    assert message in home.error(capsys, *change)


def test_results_of_another_model_or_other_sentences_are_not_mixed(home, capsys):
    home.run()
    write_detection(home.data, "de", seed=9)
    message = home.error(capsys)
    assert f"{home.neuron_file('de')} contains results of another run: its data was diff" in message
    write_model(home.model, seed=1)
    assert "its model was" in home.error(capsys)


def test_the_reference_may_resume_a_run_of_the_fast_implementation(home, capsys):
    """They agree to the bit, so their results can be mixed."""
    home.run()
    home.run("--reference")
    assert "Table 2" in capsys.readouterr().out


# ---------- what it refuses


@pytest.mark.parametrize(
    "rows, reason",
    [
        ([{"text": "soup", "toxicity": 0.9}], "no clean sentence"),
        ([{"text": "soup", "toxicity": 0.1}], "no toxic sentence"),
        ([], "no toxic sentence"),
        (None, "does not exist"),
    ],
)
def test_a_language_that_cannot_be_used_is_named_and_skipped(home, capsys, rows, reason):
    path = home.detection("de")
    if rows is None:
        path.unlink()
    else:
        write_jsonl(path, rows)
    home.run()
    printed = capsys.readouterr().out
    assert "skipped de: " in printed
    assert reason in printed
    assert home.read("en")
    assert not home.neuron_file("de").exists()

    home.languages = "de"
    assert "no language of de can be used" in home.error(capsys)


def test_a_data_folder_without_sentences_is_named(home, capsys):
    shutil.rmtree(home.data / "detection")
    message = "detection: no such folder; --data must have detection/<language>.jsonl"
    assert message in home.error(capsys)


@pytest.mark.parametrize(
    "line, message",
    [
        (b'{"text": "soup", "toxicity": 0.9', "not valid JSON"),
        (b'["soup", 0.9]', "expected a JSON object, found list"),
        (b'{"toxicity": 0.9}', "field 'text' is missing"),
        (b'{"text": "soup"}', "field 'toxicity' is missing"),
        (b'{"text": 7, "toxicity": 0.9}', "field 'text' must be text, not int"),
        (b'{"text": "  ", "toxicity": 0.9}', "field 'text' is empty"),
        (
            b'{"text": "\\ud800", "toxicity": 0.9}',
            "field 'text' contains half a surrogate pair",
        ),
        (
            b'{"text": "soup", "toxicity": NaN}',
            "not valid JSON (NaN is not a finite number)",
        ),
        (
            b'{"text": "soup", "toxicity": "0.9"}',
            "field 'toxicity' must be a number from 0 to 1, not '0.9'",
        ),
        (b'{"text": "soup", "toxicity": 1.1}', "field 'toxicity' must be"),
        (b'{"text": "soup", "toxicity": true}', "field 'toxicity' must be"),
        (b"\xff\xfe", "not valid UTF-8"),
        (b"", "not valid JSON"),
    ],
)
def test_a_broken_line_is_named_with_file_and_field_and_nothing_is_written(
    home, capsys, line, message
):
    lines = home.detection("de").read_bytes().split(b"\n")
    home.detection("de").write_bytes(b"\n".join([*lines[:2], line, *lines[2:]]))
    assert f"de.jsonl:3: {message}" in home.error(capsys)
    assert not home.out.exists()


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_is_no_model_is_named_and_nothing_is_written(home, capsys, missing):
    (home.model / missing).unlink()
    assert missing in home.error(capsys)
    assert not home.out.exists()


def test_a_sentence_of_special_tokens_alone_is_refused(home, capsys):
    path = home.model / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    token = {
        "id": tokenizer["model"]["vocab"]["x"],
        "content": "x",
        "special": True,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
    }
    tokenizer["added_tokens"].append(token)
    path.write_text(json.dumps(tokenizer))
    rows = [{"text": "x", "toxicity": 0.9}, {"text": "the soup", "toxicity": 0.1}]
    write_jsonl(home.detection("de"), rows)
    assert "only special ones, of 1 sentences" in home.error(capsys)


def test_weights_that_overflow_name_the_module(home, capsys):
    weights = load_file(home.weights)
    weights["model.layers.1.mlp.gate_proj.weight"][3] = 3e38
    save_file(weights, home.weights)
    message = "model.layers.1.mlp.gate_proj: the responses are not finite"
    assert message in home.error(capsys)

    # the failed run left nothing that prevents another one
    write_model(home.model)
    home.run()


def test_a_limit_beyond_the_models_positions_is_refused(home, capsys):
    write_model(home.model, max_position_embeddings=8)
    assert "does not fit the model's 8 positions" in home.error(capsys)
    home.run("--max-tokens", "7")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--languages", "de,xx"], "'xx' is not one of ar, cs"),
        (["--sentences", "0"], "'0' is not an integer from 1 to"),
        (["--device", "gpu9"], "--device gpu9"),
    ],
)
def test_wrong_arguments_are_named(home, capsys, arguments, message):
    assert message in error_of(detect.main, home.arguments(*arguments), capsys)
