"""What train.py records of a model: the neurons that it chose, and the settings of its weights."""

import numpy as np
import pytest
from tiny import training_of

from minitox import neurons
from minitox.errors import InputError
from minitox.files import write_json
from minitox.lm.config import read_config
from minitox.report.matching import strategy_of
from minitox.run.training_record import (
    chosen,
    differences,
    hash_of,
    read_choosing_losses,
    read_losses,
    read_training,
)
from minitox.train.strategies import count_weights


def masks_of(config, **every) -> dict:
    """For each language a mask that chooses every such row of each module."""
    rows = neurons.module_rows(config)
    masks = {}
    for language, step in every.items():
        masks[language] = {name: np.arange(count) % step == 0 for name, count in rows.items()}
    return masks


def test_neurons_weights_and_toxic_neurons_of_a_mask_are_counted(folder):
    config = read_config(folder)
    toxic = masks_of(config, de=2, en=3)
    control = neurons.random_like(toxic["de"], seed=0)
    counts = chosen(control, toxic, config)
    flat = {code: np.concatenate([*mask.values()]) for code, mask in toxic.items()}
    drawn = np.concatenate([*control.values()])
    assert counts["neurons"] == drawn.sum() == flat["de"].sum()
    assert counts["of_neurons"] == len(drawn)
    assert counts["weights"] == count_weights(config, control)
    assert counts["of_weights"] == count_weights(config, None)
    assert counts["toxic"] == (drawn & (flat["de"] | flat["en"])).sum() < counts["neurons"]
    assert chosen(toxic["en"], toxic, config)["toxic"] == flat["en"].sum()


def test_the_whole_model_has_no_mask_and_depends_on_no_toxic_neurons(folder):
    config = read_config(folder)
    counts = chosen(None, masks_of(config, de=2), config)
    assert counts["neurons"] == counts["of_neurons"]
    assert counts["weights"] == counts["of_weights"] == count_weights(config, None)
    assert counts == chosen(None, {}, config)
    assert counts["toxic"] is counts["sha256"] is None


def test_the_hash_of_a_mask_changes_with_one_neuron():
    mask = {"a": np.array([True, False]), "b": np.array([False])}
    assert hash_of(mask) == hash_of({name: rows.copy() for name, rows in mask.items()})
    others = [
        {"a": np.array([False, True]), "b": np.array([False])},
        {"a": np.array([True, False]), "b": np.array([True])},
        {"a": np.array([True, False]), "c": np.array([False])},
    ]
    assert len({hash_of(other) for other in (mask, *others)}) == 4


@pytest.mark.parametrize(
    "strategy", ["full", "multilingual", "per-language-de", "random", "aura", "random-aura"]
)
def test_a_record_is_read_as_it_was_written(tmp_path, strategy):
    record = training_of(strategy)
    write_json(tmp_path / "run.json", record)
    assert read_training(tmp_path) == record
    assert strategy_of(record["settings"]) == strategy


@pytest.mark.parametrize("strategy", ["full", "multilingual", "random"])
def test_only_the_record_of_dpo_has_its_settings(tmp_path, strategy):
    record = training_of(strategy, objective="dpo")
    write_json(tmp_path / "run.json", record)
    assert read_training(tmp_path) == record
    assert strategy_of(record["settings"]) == f"dpo-{strategy}"
    added = record["settings"].keys() - training_of(strategy)["settings"].keys()
    assert added == {"objective", "beta", "label_smoothing"}
    for field, value in (("beta", "0.1"), ("objective", "soup"), ("objective", [])):
        changed = record | {"settings": record["settings"] | {field: value}}
        write_json(tmp_path / "run.json", changed)
        with pytest.raises(InputError, match=f"'{field}' is "):
            read_training(tmp_path)


@pytest.mark.parametrize(
    "place, value, message",
    [
        (("format",), 1, "written by another version of minitox .format 1, here 2.; tune"),
        (("settings",), [], "'settings' is not as minitox wrote it"),
        (("settings", "strategy"), 3, "'settings' is not as minitox wrote it"),
        (("settings", "rates"), 0.004, "'rates' is not as minitox wrote it"),
        (("settings", "lr"), None, "'lr' is not as minitox wrote it"),
        (("settings", "draw"), "1", "'settings' is not as minitox wrote it"),
        (("settings", "draw"), 1, "'draw' does not fit 'strategy'; put the file back"),
        (("settings", "strategy"), "random", "'draw' does not fit 'strategy'; put the file back"),
        (("settings", "order"), 2, "'order' is not as minitox wrote it"),
        (("settings", "order"), ["de", "xx"], "'order' does not fit 'strategy' and 'languages'"),
        (("settings", "order"), ["de", "en"], "'order' does not fit 'strategy' and 'languages'"),
        (("settings", "epochs"), "1", "'epochs' is not as minitox wrote it"),
        (("settings", "epochs"), None, "'epochs' is not as minitox wrote it"),
        (("settings", "model"), 1, "'model' is not as minitox wrote it"),
        (("settings", "neurons"), ["de"], "'neurons' is not as minitox wrote it"),
        (("settings", "top_share"), "0.1", "'top_share' is not as minitox wrote it"),
        (("settings", "top_share"), 1e308, "'top_share' is 1e.308, which is no share; put the"),
        (("chosen",), {}, "'chosen' is not as minitox wrote it"),
        (("chosen", "toxic"), 0.5, "'chosen' is not as minitox wrote it"),
        (("chosen", "toxic"), None, "the counts of 'chosen' do not fit together"),
        (("chosen", "toxic"), 41, "the counts of 'chosen' do not fit together"),
        (("chosen", "toxic"), -1, "the counts of 'chosen' do not fit together"),
        (("chosen", "neurons"), 101, "the counts of 'chosen' do not fit together"),
        (("chosen", "neurons"), 0, "the counts of 'chosen' do not fit together"),
        (("chosen", "of_weights"), 0, "the counts of 'chosen' do not fit together"),
        (("test",), None, "'test' is not as minitox wrote it"),
    ],
)
def test_a_record_that_someone_changed_is_refused(tmp_path, place, value, message):
    record = training_of("multilingual")
    *outer, last = place
    inner = record[outer[0]] if outer else record
    inner[last] = value
    write_json(tmp_path / "run.json", record)
    with pytest.raises(InputError, match=message):
        read_training(tmp_path)


def test_losses_are_read_where_there_are_pairs(tmp_path):
    path = tmp_path / "run.json"
    losses = {"de": {"pairs": 4, "before": 2.0, "after": 0.5}}
    nothing = {"fr": {"pairs": 0, "before": None, "after": None}}
    write_json(path, {"validation": losses | nothing, "test": nothing})
    assert read_losses(path, "validation") == {"de": 0.5}
    assert read_losses(path, "test") == {}
    write_json(path, {"validation": {"de": {"after": 0.5}}})
    with pytest.raises(InputError, match="'validation' is not as minitox wrote it"):
        read_losses(path, "validation")


def test_of_dpo_the_loss_on_replies_chooses_a_rate_and_not_its_own(tmp_path):
    path = tmp_path / "run.json"
    record = training_of("multilingual")
    write_json(path, record)
    assert read_choosing_losses(path) == {"de": 1.0, "en": 2.0}
    numbers = {"margin": 9.0, "accuracy": 1.0, "reply_loss": 3.5}
    nothing = dict.fromkeys(numbers)
    measured = {"validation": {"de": numbers, "en": nothing}, "test": {}}
    write_json(path, record | {"preferences": measured})
    assert read_choosing_losses(path) == {"de": 3.5}
    measured["validation"]["de"] = numbers | {"reply_loss": "3.5"}
    write_json(path, record | {"preferences": measured})
    for read in (read_choosing_losses, lambda path: read_training(path.parent)):
        with pytest.raises(InputError, match="'preferences' is not as minitox wrote it"):
            read(path)


def test_models_at_rates_of_their_own_differ_if_the_choice_was_another():
    def between(ours: dict, theirs: dict) -> list[str]:
        rates = [0.001, 0.004]
        ours = training_of("multilingual", rates=rates, lr=0.001) | ours
        return differences(ours["settings"], theirs["settings"])

    assert between({}, training_of("random", rates=[0.001, 0.004], lr=0.004)) == []
    assert between({}, training_of("random", rates=[0.001], lr=0.001)) == ["rates"]
    assert between({}, training_of("random")) == ["rates"]
    assert between({}, training_of("aura")) == []


def test_two_models_differ_in_the_settings_that_both_depend_on():
    def between(ours: dict, theirs: dict) -> list[str]:
        return differences(ours["settings"], theirs["settings"])

    random = training_of("random", epochs=2, damp=0.1, threshold=0.6)
    assert between(random, training_of("multilingual")) == ["threshold", "epochs"]
    assert between(random, training_of("full")) == ["epochs"]
    assert between(random, training_of("damp")) == ["threshold"]
    assert between(training_of("damp", damp=0.1), training_of("det0")) == ["damp"]
    assert between(training_of("damp", damp=0.1), training_of("random-damp")) == ["damp"]


@pytest.mark.parametrize(
    "setting", [{"batch_tokens": 64}, {"reference": True}, {"activation_checkpointing": True}]
)
def test_models_that_differ_in_rounding_alone_are_compared(setting):
    ours = training_of("random", **setting)["settings"]
    theirs = training_of("multilingual")["settings"]
    (name,) = setting
    assert ours[name] != theirs[name]
    assert differences(ours, theirs) == []


def test_models_differ_in_the_split_of_their_pairs_if_nothing_else_explains_it():
    def between(ours: dict, theirs: dict) -> list[str]:
        return differences(ours["settings"], theirs["settings"])

    def with_split(strategy: str, hash: str, **changes) -> dict:
        training = training_of(strategy, **changes)
        training["settings"]["split"] = {"de": hash}
        return training

    ours = with_split("multilingual", "one")
    assert between(ours, with_split("random", "one")) == []
    assert between(ours, with_split("random", "another")) == ["split"]
    assert between(ours, with_split("random", "another", pairs=9)) == ["pairs"]
    # an earlier version of minitox, which ignored ids, has not recorded it
    assert between(ours, training_of("random")) == ["split"]
    assert between(training_of("random"), ours) == ["split"]
    # what is not tuned does not depend on it
    assert between(ours, training_of("aura")) == between(with_split("aura", "another"), ours) == []


def test_models_of_two_selectors_are_compared_although_their_neuron_files_differ():
    ours = training_of("multilingual", top_share=0.1)
    theirs = of_taylor("multilingual", top_share=0.1, neurons={"de": "another hash"})
    assert differences(ours["settings"], theirs["settings"]) == []
    assert differences(theirs["settings"], ours["settings"]) == []
    # not at another size, and of one selector only with the same files
    larger = of_taylor("multilingual", top_share=0.2)
    assert differences(larger["settings"], ours["settings"]) == ["top_share"]
    again = of_taylor("random", top_share=0.1)
    assert differences(again["settings"], theirs["settings"]) == ["neurons"]


def of_taylor(strategy: str, **changes) -> dict:
    """The run.json of a model whose neurons were chosen by taylor."""
    return training_of(strategy, by="taylor", **{"top_share": 0.1} | changes)


def test_the_record_of_another_selector_has_it_and_no_threshold(tmp_path):
    record = of_taylor("multilingual")
    assert record["settings"]["by"] == "taylor" and "threshold" not in record["settings"]
    assert "by" not in training_of("multilingual")["settings"]
    write_json(tmp_path / "run.json", record)
    assert read_training(tmp_path) == record
    for by in ("another", 3, None):
        record["settings"]["by"] = by
        write_json(tmp_path / "run.json", record)
        with pytest.raises(InputError, match="'by'"):
            read_training(tmp_path)


def test_losses_after_a_stage_are_those_of_the_languages_with_validation_pairs(tmp_path):
    record = training_of("per-language")
    losses = {"de": 2.0, "en": 1.5, "fr": None}
    stages = [{"name": "de", "validation": losses}, {"name": "en"}]
    write_json(tmp_path / "run.json", record | {"stages": stages})
    assert read_training(tmp_path)["stages"] == stages


@pytest.mark.parametrize(
    "losses, message",
    [
        ({"de": 2.0, "en": 1.5}, "the stage 'de' are not of the languages in 'validation'"),
        ({"de": None, "en": 1.5, "fr": None}, "the stage 'de' are not of the languages"),
        ({"de": 2.0, "en": 1.5, "fr": 1.0}, "the stage 'de' are not of the languages"),
        ({"de": 2.0, "en": "x", "fr": None}, "run.json"),
        ([1.0], "run.json"),
    ],
)
def test_other_losses_after_a_stage_are_refused(tmp_path, losses, message):
    record = training_of("per-language") | {"stages": [{"name": "de", "validation": losses}]}
    write_json(tmp_path / "run.json", record)
    with pytest.raises(InputError, match=message):
        read_training(tmp_path)


def test_lora_chooses_no_neurons_and_has_rates_of_its_own(tmp_path):
    record = training_of("lora", chosen={"toxic": None, "sha256": None})
    assert not {"neurons", "threshold", "rates"} & record["settings"].keys()
    write_json(tmp_path / "run.json", record)
    assert read_training(tmp_path) == record
    neurons_at = training_of("multilingual", rates=[0.01])["settings"]
    assert differences(record["settings"], neurons_at) == []
    assert differences(record["settings"] | {"epochs": 2}, neurons_at) == ["epochs"]
