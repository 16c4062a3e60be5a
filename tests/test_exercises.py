"""Every exercise is unsolved, can be solved, and its tests reject plausible mistakes."""

import importlib
import inspect
import sys
from pathlib import Path

import pytest
from answers import MISTAKES, SOLUTIONS

EXERCISES = Path(__file__).resolve().parent / "exercises"
sys.path.insert(0, str(EXERCISES))


def all_mistakes() -> list[tuple[str, str, str]]:
    """(exercise, function, mistake) for every mistake."""
    triples = []
    for exercise, functions in MISTAKES.items():
        for function, mistakes in functions.items():
            triples += [(exercise, function, mistake) for mistake in mistakes]
    return triples


def exercise_tests(exercise: str, monkeypatch, functions: dict | None = None) -> list:
    """The exercise's tests, with these functions in place of the student's."""
    module = importlib.import_module(f"test_{exercise}")
    for name, function in (functions or {}).items():
        monkeypatch.setattr(module, name, function)
    return [function for name, function in vars(module).items() if name.startswith("test_")]


def run(test, request) -> None:
    """Call a test with the fixtures that are its parameters."""
    fixtures = inspect.signature(test).parameters
    test(**{name: request.getfixturevalue(name) for name in fixtures})


def test_all_ten_are_in_the_readme_and_have_a_solution_and_a_mistake_for_every_function():
    exercises = {path.stem for path in EXERCISES.glob("exercise_*.py")}
    assert (
        list(SOLUTIONS) == list(MISTAKES) and exercises == set(SOLUTIONS) and len(exercises) == 10
    )
    readme = (EXERCISES / "README.md").read_text()
    for name in exercises:
        module = importlib.import_module(name)
        functions = {name for name, _ in inspect.getmembers(module, inspect.isfunction)}
        assert functions == set(SOLUTIONS[name]) == set(MISTAKES[name])
        assert f"{name}.py" in readme


@pytest.mark.parametrize("exercise", SOLUTIONS)
def test_no_solution_is_in_the_repository(exercise, request, monkeypatch):
    for test in exercise_tests(exercise, monkeypatch):
        with pytest.raises(NotImplementedError):
            run(test, request)


@pytest.mark.parametrize("exercise", SOLUTIONS)
def test_minitox_solves_the_exercise(exercise, request, monkeypatch):
    for test in exercise_tests(exercise, monkeypatch, SOLUTIONS[exercise]):
        run(test, request)


@pytest.mark.parametrize("exercise, function, mistake", all_mistakes())
def test_a_mistake_does_not_pass(exercise, function, mistake, request, monkeypatch):
    functions = SOLUTIONS[exercise] | {function: MISTAKES[exercise][function][mistake]}
    with pytest.raises(AssertionError):
        for test in exercise_tests(exercise, monkeypatch, functions):
            run(test, request)
