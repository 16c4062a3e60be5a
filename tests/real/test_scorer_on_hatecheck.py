"""The default scorer, trained on real sentences, on HateCheck: hardly better than chance.

The bars are the measured AUCs less 0.03, so that the test fails if the scorer becomes worse. No
text is printed.
"""

from types import SimpleNamespace

import fit_scorer
import numpy as np
import pytest

from minitox.data import language_rng, read_cases
from minitox.report.scorer_tables import Opinion, finding, measure
from minitox.run.evaluation_inputs import MOST_CASES
from minitox.scorers.scores import Scores
from minitox.scorers.surrogate import Surrogate

MEASURED = {
    "ar": 0.590,
    "de": 0.557,
    "en": 0.592,
    "fr": 0.565,
    "hi": 0.480,
    "nl": 0.518,
    "pt": 0.516,
    "zh": 0.584,
}


@pytest.fixture(scope="module")
def opinion(real, tmp_path_factory) -> Opinion:
    """The scorer on the cases of each language, as evaluate.py measures it; without replies."""
    paths = [real / "data" / "hatecheck" / f"{language}.jsonl" for language in MEASURED]
    if not all(path.exists() for path in paths):
        pytest.skip(f"no cases in {real / 'data' / 'hatecheck'}")
    folder = tmp_path_factory.mktemp("scorer")
    fit_scorer.scorer(real / "data" / "detection", folder / "scorer.safetensors", seed=0)
    scorer = Surrogate(folder / "scorer.safetensors")
    cases = {}
    for path in paths:
        cases[path.stem], _ = read_cases(path, MOST_CASES, language_rng(0, path.stem))
    scores = Scores(folder / "scores.jsonl", scorer)
    results = SimpleNamespace(languages=[*MEASURED])
    return Opinion(scorer, results, *measure(scores, cases, lambda done: None))


def test_the_scorer_is_not_worse_than_it_was_measured(opinion):
    for language, (auc, low, high) in opinion.aucs.items():
        print(f"{language}: AUC {auc:.3f} ({low:.3f}..{high:.3f})")
        assert auc >= MEASURED[language] - 0.03
    print(f"mean of {len(MEASURED)}: {np.mean(list(opinion.known().values())):.3f}")
    assert not any(opinion.unscored.values())


def test_the_report_warns_of_it_in_every_language(opinion):
    text = finding(opinion, "")
    assert "poorly (AUC below 0.7) in: " in text
    assert all(f"{language} (" in text for language in MEASURED)
