"""The class hour of tests/exercises/README.md prints what it shows, in one session, in order."""

import re

import pytest
import torch
from test_readme import FENCED, NUMBER, ROOT, numbers_in, section

from minitox.detect.auroc import auroc_by_definition
from minitox.lm import checkpoint

HOUR = section((ROOT / "tests" / "exercises" / "README.md").read_text("utf-8"), "A class hour")
STEPS = re.findall(r"^\*\*(\d)\. ", HOUR, re.MULTILINE)


@pytest.fixture(scope="module")
def session():
    """The names that all steps define, and what each one prints beside what the page shows."""
    fenced = FENCED.findall(HOUR)
    assert [tag for tag, _ in fenced] == ["python", ""] * len(STEPS)
    names = {}
    printed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for (_, code), (_, shown) in zip(fenced[::2], fenced[1::2], strict=True):
            lines = []
            names["print"] = lines.append
            exec(compile(code, "tests/exercises/README.md", "exec"), names)
            printed.append(("\n".join(lines), shown.rstrip("\n")))
    return names, printed


def test_it_has_six_steps_of_sixty_minutes():
    assert STEPS == list("123456")
    times = re.findall(r"^\| (\d+) to (\d+) \| (\d)\. ", HOUR, re.MULTILINE)
    assert [step for _, _, step in times] == STEPS
    ends = [end for _, end, _ in times]
    assert [start for start, _, _ in times] == ["0", *ends[:-1]] and ends[-1] == "60"


@pytest.mark.parametrize("step", range(6))
def test_a_step_prints_what_the_page_shows(session, step):
    """Numbers may differ by the rounding of another processor, replies by their last words."""
    printed, shown = (text.splitlines() for text in session[1][step])
    assert len(printed) == len(shown)
    for line, expected in zip(printed, shown, strict=True):
        if step == 5 and line.startswith("  "):
            assert line.split()[:2] == expected.split()[:2]
            continue
        assert NUMBER.sub("#", line) == NUMBER.sub("#", expected)
        close = 0.05 if "." in expected else 2
        assert numbers_in(line) == pytest.approx(numbers_in(expected), abs=close), line


def test_one_row_was_tuned_and_then_all_of_the_mask_alone(session):
    names, _ = session
    base = checkpoint.load(names["toy"] / "model")
    name = names["name"]
    for key, weight in base.named_parameters():
        now = names["model"].get_parameter(key)
        if key != name:
            assert torch.equal(now, weight)
    rows = names["random_rows"]
    now = names["model"].get_parameter(name)
    assert torch.equal(now[~rows], base.get_parameter(name)[~rows])
    assert (now[rows] != base.get_parameter(name)[rows]).any(dim=1).all()
    assert int(names["changed"].any(dim=1).sum()) == 1 and names["changed"][names["best"]].all()


def test_its_auroc_and_its_mask_are_those_of_minitox(session):
    names, _ = session
    values = names["both"].T.numpy()
    is_toxic = torch.arange(values.shape[1]) < len(names["toxic"])
    expected = auroc_by_definition(values, is_toxic.numpy())
    assert names["auroc"].numpy() == pytest.approx(expected, abs=1e-6)


def test_rows_of_the_mask_are_as_many_as_the_random_ones(session):
    names, _ = session
    assert names["random_rows"].sum() == names["mask"].sum()
