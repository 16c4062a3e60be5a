"""Every exercise is unsolved here, can be solved, and tells a solution from what only looks like one."""

import importlib
import inspect
import sys
from pathlib import Path

import pytest
from answers import MISTAKES, SOLUTIONS

EXERCISES = Path(__file__).resolve().parent / "exercises"
sys.path.insert(0, str(EXERCISES))


def checks(exercise: str, monkeypatch, functions: dict | None = None) -> list:
    """The exercise's tests, with these functions in place of the student's."""
    module = importlib.import_module(f"test_{exercise}")
    for name, function in (functions or {}).items():
        monkeypatch.setattr(module, name, function)
    return [function for name, function in vars(module).items() if name.startswith("test_")]


def run(test, request) -> None:
    """Call a test with the fixtures that it asks for."""
    test(**{name: request.getfixturevalue(name) for name in inspect.signature(test).parameters})


def test_there_are_eight_and_all_have_a_solution_and_a_mistake_for_every_function_and_a_line_in_the_readme():
    exercises = sorted(path.stem for path in EXERCISES.glob("exercise_*.py"))
    assert exercises == list(SOLUTIONS) == list(MISTAKES) and len(exercises) == 8
    for name in exercises:
        functions = [
            name
            for name, _ in inspect.getmembers(importlib.import_module(name), inspect.isfunction)
        ]
        assert set(functions) == set(SOLUTIONS[name]) == set(MISTAKES[name])
        assert f"{name}.py" in (EXERCISES / "README.md").read_text()


@pytest.mark.parametrize("exercise", SOLUTIONS)
def test_no_solution_is_in_the_repository(exercise, request, monkeypatch):
    for test in checks(exercise, monkeypatch):
        with pytest.raises(NotImplementedError):
            run(test, request)


@pytest.mark.parametrize("exercise", SOLUTIONS)
def test_minitox_solves_the_exercise(exercise, request, monkeypatch):
    for test in checks(exercise, monkeypatch, SOLUTIONS[exercise]):
        run(test, request)


@pytest.mark.parametrize(
    "exercise, function, mistake",
    [
        (exercise, function, mistake)
        for exercise, functions in MISTAKES.items()
        for function, mistakes in functions.items()
        for mistake in mistakes
    ],
)
def test_a_mistake_does_not_pass(exercise, function, mistake, request, monkeypatch):
    functions = SOLUTIONS[exercise] | {function: MISTAKES[exercise][function][mistake]}
    with pytest.raises(AssertionError):
        for test in checks(exercise, monkeypatch, functions):
            run(test, request)
