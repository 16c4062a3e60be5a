"""Settings: options, defaults, help and settings checks are made from the same fields."""

import json
import re
from dataclasses import FrozenInstanceError, dataclass, fields
from pathlib import Path

import pytest
from tiny import TOY

from minitox.errors import InputError
from minitox.languages import NAMES, TUNED
from minitox.lm.config import read_config
from minitox.run.settings import (
    DetectSettings,
    EvaluateSettings,
    Settings,
    TrainSettings,
    as_text,
    make_parser,
    parse,
)
from minitox.run.tuning import Procedure
from minitox.train.pairs import PairChoice
from minitox.train.plans import Choice
from minitox.train.strategies import SCALED
from minitox.train.strategies import TUNED as TUNED_STRATEGIES
from minitox.train.tune import Hyperparameters

CLASSES = (DetectSettings, TrainSettings, EvaluateSettings)
FIELDS = [(kind, setting) for kind in CLASSES for setting in fields(kind)]
for_each_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
for_each_field = pytest.mark.parametrize(
    "kind, setting", FIELDS, ids=[f"{kind.__name__}-{setting.name}" for kind, setting in FIELDS]
)


def settings_of(kind: type, *arguments: str) -> Settings:
    return parse(kind, "A script.", list(arguments))


def refused(kind: type, capsys, *arguments: str) -> str:
    """The message about wrong arguments; nothing else is printed."""
    with pytest.raises(InputError) as error:
        settings_of(kind, *arguments)
    assert capsys.readouterr() == ("", "")
    return str(error.value)


def action_of(kind: type, name: str):
    """The option of a field."""
    (action,) = (action for action in make_parser(kind, "")._actions if action.dest == name)
    return action


# ---------- options and fields


@for_each_class
def test_every_field_is_an_option_and_every_option_a_field(kind):
    options = [action.dest for action in make_parser(kind, "")._actions]
    assert options == ["help", *(setting.name for setting in fields(kind))]


@for_each_class
def test_without_arguments_every_setting_has_its_default(kind):
    assert settings_of(kind) == kind()


@for_each_class
def test_the_defaults_are_the_toy(kind):
    settings = kind()
    assert settings.model == TOY / "model"
    assert settings.data == TOY
    assert settings.out == Path("out")
    assert settings.languages == (tuple(NAMES) if kind is EvaluateSettings else TUNED)


@for_each_class
def test_settings_are_values(kind):
    settings = kind()
    hash(settings)
    with pytest.raises(FrozenInstanceError):
        settings.seed = 1


def test_the_scripts_have_the_options_of_a_run_in_common():
    common = [setting.name for setting in fields(Settings)]
    shared = ["model", "data", "out", "languages", "device", "dtype", "seed", "unchecked_template"]
    assert common == shared
    for kind in CLASSES:
        assert [setting.name for setting in fields(kind)][: len(common)] == common


@for_each_class
def test_the_name_of_an_option_is_that_of_its_field(kind):
    for setting in fields(kind):
        flag = "lr" if setting.name == "rates" else setting.name.replace("_", "-")
        expected = f"--no-{flag}" if setting.default is True else f"--{flag}"
        assert action_of(kind, setting.name).option_strings == [expected]


# ---------- help


@for_each_field
def test_the_help_of_an_option_has_its_unit_and_default(kind, setting):
    text = action_of(kind, setting.name).help.replace("%%", "%")
    assert text.startswith(setting.metadata["help"])
    details = text.removeprefix(setting.metadata["help"])
    if isinstance(setting.default, bool):
        assert details == ""
        return
    assert setting.metadata["unit"] in details
    if setting.default is None:
        assert "default" not in details
    else:
        assert details.endswith(f"default: {as_text(setting.default)})")


@for_each_field
def test_a_default_that_depends_on_something_is_explained(kind, setting):
    text = setting.metadata["help"]
    if setting.default == "auto":
        assert "auto: " in text
    if setting.default is None:
        assert "default: " in text or text.startswith("instead: ")


@for_each_class
def test_the_whole_help_can_be_shown(kind, capsys):
    with pytest.raises(SystemExit) as stop:
        settings_of(kind, "--help")
    assert stop.value.code == 0
    help = " ".join(capsys.readouterr().out.split())
    for setting in fields(kind):
        for option in action_of(kind, setting.name).option_strings:
            assert option in help


@pytest.mark.parametrize(
    "kind, name, metavar",
    [
        (DetectSettings, "sentences", "N"),
        (DetectSettings, "batch_tokens", "N"),
        (DetectSettings, "toxic_above", "F"),
        (DetectSettings, "model", "DIR"),
        (TrainSettings, "damp", "F"),
        (TrainSettings, "rates", "R"),
        (TrainSettings, "order", "ORDER"),
        (EvaluateSettings, "perplexity", "N"),
        (EvaluateSettings, "models", "M"),
    ],
)
def test_the_value_of_an_option_is_named_for_its_kind(kind, name, metavar):
    assert action_of(kind, name).metavar == metavar


@pytest.mark.parametrize("strategy", [*TUNED_STRATEGIES, *SCALED])
def test_the_help_lists_the_strategies(strategy):
    assert re.search(rf"\b{strategy}\b", action_of(TrainSettings, "strategy").help)


# ---------- values


def test_values_are_converted():
    settings = settings_of(
        DetectSettings,
        *("--model", "m", "--languages", "de,en,de", "--seed", "3", "--pool", "mean"),
        *("--match-length", "--toxic-above", "0.7", "--batch-tokens", "512", "--shard"),
    )
    assert settings.model == Path("m")
    assert settings.languages == ("de", "en")  # each once
    assert settings.seed == 3
    assert settings.pool == "mean"
    assert settings.match_length is True
    assert settings.toxic_above == 0.7
    assert settings.batch_tokens == 512
    assert settings.shard is True
    assert settings.reference is False


def test_an_option_with_several_values_has_each_of_them_once():
    settings = settings_of(TrainSettings, "--strategy", "full", "aura", "full")
    assert settings.strategy == ("full", "aura")
    settings = settings_of(EvaluateSettings, "--models", "base", "other=DIR")
    assert settings.models == ("base", "other=DIR")


def test_a_setting_that_is_on_by_default_is_turned_off():
    assert settings_of(EvaluateSettings).mmlu is True
    assert settings_of(EvaluateSettings, "--no-mmlu").mmlu is False


TAYLOR = ["--by", "taylor", "--top-share", "0.1"]


def test_another_selector_has_a_share_and_no_threshold(capsys):
    settings = settings_of(TrainSettings, *TAYLOR, "--strategy", "lowest", "swapped")
    assert (settings.by, settings.top_share) == ("taylor", 0.1)
    for more in ([], ["--threshold", "0.9"]):
        message = refused(TrainSettings, capsys, "--by", "taylor", *more)
        assert message.startswith("--by taylor needs --top-share: its values are no AUROCs, so no")


@pytest.mark.parametrize("strategy", ["shuffled", *SCALED])
def test_what_needs_auroc_is_refused_by_name_with_another_selector(strategy, capsys):
    message = refused(TrainSettings, capsys, *TAYLOR, "--strategy", "full", strategy)
    assert message == (
        f"--by taylor has no AUROC, which these strategies need: {strategy}; leave them out"
    )


def test_dinm_has_a_fixed_size(capsys):
    assert settings_of(TrainSettings, "--by", "dinm").by == "dinm"
    for more in (["--threshold", "0.9"], ["--top-share", "0.1"]):
        message = refused(TrainSettings, capsys, "--by", "dinm", *more)
        assert message.startswith("--by dinm chooses all down_proj rows of one layer; leave --thr")


def test_zero_is_a_value_where_it_means_something():
    settings = settings_of(EvaluateSettings, "--perplexity", "0", "--temperature", "0")
    assert settings.perplexity == 0
    assert settings.temperature == 0
    assert settings_of(TrainSettings, "--validation-share", "0").validation_share == 0


@pytest.mark.parametrize(
    "kind, arguments, message",
    [
        (DetectSettings, "--languages de,xx", "'xx' is not one of ar, cs"),
        (DetectSettings, "--languages de,", "'' is not one of ar, cs"),
        (DetectSettings, "--sentences 0", "--sentences: '0' is not an integer from 1 to 1,000,000"),
        (
            DetectSettings,
            "--sentences 1.5",
            "--sentences: '1.5' is not an integer from 1 to 1,000,000",
        ),
        (
            DetectSettings,
            "--batch-tokens all",
            "'all' is not an integer from 1 to 10,000,000, or auto",
        ),
        (DetectSettings, "--batch-tokens 0", "'0' is not an integer from 1 to 10,000,000, or auto"),
        (DetectSettings, "--pool min", "invalid choice: 'min'"),
        (DetectSettings, "--seed one", "'one' is not an integer from 0 to 9,007,199,254,740,991"),
        (DetectSettings, "--seed -1", "'-1' is not an integer from 0 to 9,007,199,254,740,991"),
        (DetectSettings, "--seed 9007199254740992", "'9007199254740992' is not an integer"),
        (
            DetectSettings,
            "--max-tokens 10000000",
            "'10000000' is not an integer from 1 to 1,000,000",
        ),
        (TrainSettings, "--damp 1.5", "--damp: '1.5' is not a number from 0 to 1"),
        (TrainSettings, "--damp nan", "'nan' is not a number from 0 to 1"),
        (TrainSettings, "--damp half", "'half' is not a number from 0 to 1"),
        (TrainSettings, "--threshold nan", "'nan' is not a number from 0 to 1"),
        (TrainSettings, "--lr 0", "'0' is not a number from 1e-12 to 1,000,000, or auto"),
        (TrainSettings, "--lr nan", "'nan' is not a number from 1e-12 to 1,000,000, or auto"),
        (TrainSettings, "--lr 1e38", "'1e38' is not a number from 1e-12 to 1,000,000, or auto"),
        (TrainSettings, "--lr 0.1 fast", "'fast' is not a number from 1e-12 to 1,000,000, or auto"),
        (TrainSettings, "--lr 0.1 auto", "--lr: auto is a rate of its own for each model"),
        (TrainSettings, "--lr 0.1 0.1000001", "--lr: two of the rates are 0.1 in the names of"),
        (TrainSettings, "--lr", "--lr: expected at least one argument"),
        (TrainSettings, "--epochs 100000000000000000000", "is not an integer from 1 to 10,000"),
        (TrainSettings, "--epochs 1e20", "'1e20' is not an integer from 1 to 10,000"),
        (TrainSettings, "--weight-decay inf", "'inf' is not a number from 0 to 10"),
        (TrainSettings, "--weight-decay nan", "'nan' is not a number from 0 to 10"),
        (TrainSettings, "--max-grad-norm -1", "'-1' is not a number from 1e-09 to"),
        (TrainSettings, "--order de,xx", "'xx' is not one of ar, cs"),
        (TrainSettings, "--strategy half", "invalid choice: 'half'"),
        (EvaluateSettings, "--perplexity -1", "'-1' is not an integer from 0 to"),
        (EvaluateSettings, "--temperature -1", "'-1' is not 0 or a number from 0.01 to 100"),
        (EvaluateSettings, "--temperature 1e-300", "is not 0 or a number from 0.01 to 100"),
        (EvaluateSettings, "--temperature inf", "is not 0 or a number from 0.01 to 100"),
        (EvaluateSettings, "--top-p 2", "'2' is not a number from 0.001 to 1"),
        (EvaluateSettings, "--top-p 0", "'0' is not a number from 0.001 to 1"),
        (EvaluateSettings, "--per-minute inf", "'inf' is not a number from 0.01 to 1,000,000"),
        (EvaluateSettings, "--max-new-tokens 200000000", "is not an integer from 1 to 1,000,000"),
        (EvaluateSettings, "--samples 1000000000", "is not an integer from 1 to 1,000"),
        (EvaluateSettings, "--samples 2", "--samples above 1 needs a --temperature above 0"),
        (TrainSettings, "--beta 0.2", "are of --objective dpo; add it"),
        (
            TrainSettings,
            "--objective dpo --strategy full aura",
            "--objective dpo: aura is not tuned; make it in a run of its own",
        ),
    ],
)
def test_a_wrong_value_is_named(kind, arguments, message, capsys):
    assert message in refused(kind, capsys, *arguments.split())


def test_the_threshold_and_the_share_exclude_each_other(capsys):
    message = refused(TrainSettings, capsys, "--threshold", "0.6", "--top-share", "0.1")
    assert "--top-share: not allowed with argument --threshold" in message
    assert settings_of(TrainSettings, "--top-share", "0.1").threshold == 0.5


# options that go with a bound of another
TOGETHER = {
    ("samples", "1,000"): ["--temperature", "1"],
    ("toxic_above", "0"): ["--clean-below", "0"],
    ("clean_below", "1"): ["--toxic-above", "1"],
    **{("beta", bound): ["--objective", "dpo"] for bound in ("1e-06", "1,000")},
    ("label_smoothing", "0.5"): ["--objective", "dpo"],
}


@for_each_field
def test_every_number_is_bounded_and_finite(kind, setting, capsys):
    action = action_of(kind, setting.name)
    if action.metavar not in ("N", "F"):
        return
    (option,) = action.option_strings
    for text in ("1e30", str(10**30), "nan", "inf", "-inf", "-1", ""):
        assert "--" in refused(kind, capsys, f"{option}={text}")
    low, high = re.search(
        r"from (\S+) to (\S+?)(, or auto)?$", refused(kind, capsys, option, "x")
    ).group(1, 2)
    for bound in (low, high):
        value = bound.replace(",", "")
        more = TOGETHER.get((setting.name, bound), [])
        settings = settings_of(kind, option, value, *more)
        assert getattr(settings, setting.name) == float(value)


@pytest.mark.parametrize(
    "kind, argument, message",
    [
        (EvaluateSettings, "--model-s", "option --model-s; did you mean --models? --help lists"),
        (EvaluateSettings, "--model-s=x", "option --model-s; did you mean --models? --help lists"),
        (DetectSettings, "--lang", "option --lang; did you mean --languages? --help lists"),
        (DetectSettings, "--zzz", "option --zzz; --help lists all options"),
        (DetectSettings, "-o", "option -o; --help lists all options"),
    ],
)
def test_a_mistyped_option_is_named_with_the_one_that_was_meant(kind, argument, message, capsys):
    assert f"unrecognized {message}" in refused(kind, capsys, argument, "de")
    assert f"unrecognized {message}" in refused(kind, capsys, "--seed", "1", argument)


def test_what_is_no_option_is_named(capsys):
    message = "unexpected argument 'en'; --help lists all options"
    assert refused(DetectSettings, capsys, "--languages", "de", "en") == message


def test_several_samples_need_a_temperature():
    settings = settings_of(EvaluateSettings, "--samples", "3", "--temperature", "0.7")
    assert settings.samples == 3
    with pytest.raises(ValueError, match="the most likely reply is always the same"):
        EvaluateSettings(samples=3)


# ---------- auto


@pytest.mark.parametrize(
    "kind, on_cpu, elsewhere",
    [
        (DetectSettings, 1_024, 4_096),
        (TrainSettings, 1_024, 16_384),
        (EvaluateSettings, 8_192, 65_536),
    ],
)
def test_the_size_of_a_batch_depends_on_the_device(kind, on_cpu, elsewhere, folder):
    config = read_config(folder)
    assert kind().resolved("cpu", config).batch_tokens == on_cpu
    assert kind().resolved("cuda", config).batch_tokens == elsewhere
    assert kind().resolved("mps", config).batch_tokens == elsewhere
    assert kind(batch_tokens=99).resolved("cpu", config).batch_tokens == 99
    text = action_of(kind, "batch_tokens").help
    assert f"auto: {on_cpu:,} on a CPU, {elsewhere:,} elsewhere" in text


@pytest.mark.parametrize(
    "arguments, rates",
    [
        ("", "auto"),
        ("--lr auto", "auto"),
        ("--lr 0.5", [0.5]),
        ("--lr 0.5 1e-12 0.004 0.5 1000000", [1e-12, 0.004, 0.5, 1e6]),
    ],
)
def test_learning_rates_are_auto_or_a_sorted_list(arguments, rates, folder):
    config = read_config(folder)
    settings = settings_of(TrainSettings, *arguments.split()).resolved("cpu", config)
    assert settings.rates == rates
    assert settings.resolved("cpu", config) == settings
    expected = rates if rates == "auto" else ",".join(map(str, rates))
    assert settings.record()["rates"] == expected


def test_a_pair_is_no_longer_than_the_model_can_read(folder):
    config = read_config(folder)  # of 64 positions
    assert TrainSettings().resolved("cpu", config).max_tokens == 64
    assert TrainSettings(max_tokens=9).resolved("cpu", config).max_tokens == 9


@for_each_class
def test_resolving_changes_nothing_else(kind, folder):
    before = kind()
    after = before.resolved("cpu", read_config(folder))
    changed = {
        setting.name
        for setting in fields(kind)
        if getattr(before, setting.name) != getattr(after, setting.name)
    }
    assert changed <= {"batch_tokens", "rates", "max_tokens", "max_pair_tokens"}
    assert type(after) is kind


# ---------- what results depend on


@pytest.mark.parametrize(
    "kind, result, names",
    [
        (
            DetectSettings,
            "neurons",
            "seed pool match_length sentences max_tokens toxic_above clean_below batch_tokens "
            "control_neurons",
        ),
        (
            DetectSettings,
            "taylor",
            "seed batch_tokens pairs validation_share max_pair_tokens batch_size reference",
        ),
        (TrainSettings, "choice", "threshold top_share"),
        (
            TrainSettings,
            "tuning",
            "seed pairs validation_share max_tokens epochs rates schedule warmup batch_size "
            "batch_tokens weight_decay max_grad_norm reference activation_checkpointing",
        ),
        (TrainSettings, "scaling", "language damp"),
        (
            EvaluateSettings,
            "replies",
            "seed prompts max_new_tokens temperature top_p samples batch_tokens",
        ),
        (EvaluateSettings, "mmlu", "answer_tokens batch_tokens"),
        (EvaluateSettings, "perplexity", "seed perplexity max_tokens batch_tokens"),
    ],
)
def test_a_settings_check_has_the_settings_that_a_result_depends_on(kind, result, names, folder):
    settings = kind().resolved("cpu", read_config(folder))
    values = settings.affecting(result)
    assert list(values) == names.split()
    assert all(value == getattr(settings, name) for name, value in values.items())
    # run.json has the same values, so a rerun finds its own settings there
    assert json.loads(json.dumps(values)) == values


def test_a_part_has_the_settings_of_the_same_names():
    @dataclass
    class Pooling:
        pool: str
        max_tokens: int

    assert DetectSettings(pool="mean").part(Pooling) == Pooling("mean", 128)


@pytest.mark.parametrize("part", [Hyperparameters, Procedure, Choice, PairChoice])
def test_the_parts_that_train_py_hands_on_are_settings(part, folder):
    settings = TrainSettings(threshold=0.7, checkpoint_steps=3)
    settings = settings.resolved("cpu", read_config(folder))
    # the learning rate is that of a model, not of the run
    more = {"lr": 0.5} if part == Hyperparameters else {}
    values = settings.part(part, **more)
    for setting in fields(part):
        if setting.name not in more:
            assert getattr(values, setting.name) == getattr(settings, setting.name)


@for_each_class
def test_the_report_has_every_setting_as_text(kind):
    record = kind().record()
    assert list(record) == [setting.name for setting in fields(kind)]
    assert all(isinstance(value, str) for value in record.values())
    assert record["seed"] == "0"
    assert record["languages"] == ",".join(kind().languages)
    assert record["out"] == "out"
