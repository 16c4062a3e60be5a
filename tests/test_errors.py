"""Errors that a user can cause are one short line."""

import pytest

from minitox.errors import InputError, NotFinite, UnusableLanguage, user_errors


def test_a_message_cannot_control_the_terminal():
    assert str(InputError("de\x1b[2J\nja\u202e: broken")) == r"de\x1b[2J\nja\u202e: broken"
    assert str(InputError("größer als 日本")) == "größer als 日本"


def test_a_long_message_keeps_its_beginning_and_its_end():
    message = str(InputError("a" * 700 + "b" * 10**6 + "c" * 400))
    assert message == "a" * 600 + " ... " + "c" * 390


def test_a_value_error_of_the_method_becomes_an_error_of_the_user():
    with pytest.raises(InputError) as error, user_errors("--strategy ", "; lower --threshold"):
        raise ValueError("full: no neuron")
    assert str(error.value) == "--strategy full: no neuron; lower --threshold"


def test_a_number_that_is_not_finite_becomes_an_error_that_another_rate_may_avoid():
    with pytest.raises(NotFinite, match="^de: the loss is nan$"), user_errors("de: "):
        raise FloatingPointError("the loss is nan")


def test_other_errors_pass():
    with pytest.raises(KeyError), user_errors():
        raise KeyError("model.norm.weight")


def test_an_unusable_language_is_an_input_error():
    """A reader that cannot continue without the language may treat both alike."""
    assert issubclass(UnusableLanguage, InputError)
