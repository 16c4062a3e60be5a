"""Translations are in the same part in all languages, or left out."""

from itertools import combinations

import numpy as np
import pytest

from minitox.train.pairs import Pair
from minitox.train.split import in_random_order, number_of, split

PARTS = ("validation", "test", "train", "left out")


def pairs_with(ids, language: str = "en") -> list[Pair]:
    """A pair for each id, each with a prompt of its own; None: a pair without an id."""
    pairs = []
    for number, name in enumerate(ids):
        names = frozenset() if name is None else frozenset([name])
        pairs.append(Pair([number, 0], 1, f"{language}:{number}", names=names))
    return pairs


def names_in(pairs: list[Pair]) -> set[str]:
    return {name for pair in pairs for name in pair.names}


def split_of(languages: dict[str, list[Pair]], count: int, seed: int = 0) -> dict:
    ordered = {}
    for language, pairs in languages.items():
        rng = np.random.default_rng([seed, *language.encode()])
        ordered[language] = in_random_order(pairs, seed, rng)
    parts = split(ordered, dict.fromkeys(languages, count))
    # no pair is lost or there twice
    for language, pairs in languages.items():
        everywhere = [pair.where for part in PARTS for pair in parts[language][part]]
        assert sorted(everywhere) == sorted(pair.where for pair in pairs)
    return parts


def check_no_id_is_in_two_parts(parts: dict) -> None:
    for one, other in combinations(["validation", "test", "train"], 2):
        in_one = names_in(sum((of_language[one] for of_language in parts.values()), []))
        in_other = names_in(sum((of_language[other] for of_language in parts.values()), []))
        assert not in_one & in_other


def numbered(numbers) -> list[str]:
    return [f"rtp-lx/{number}" for number in numbers]


@pytest.mark.parametrize("seed", range(3))
def test_languages_with_the_same_ids_are_split_alike_and_nothing_is_left_out(seed):
    ids = numbered(range(60))
    languages = {"de": pairs_with(ids, "de"), "en": pairs_with(reversed(ids), "en")}
    parts = split_of(languages, 6, seed)
    for part, size in zip(PARTS, (6, 6, 48, 0), strict=True):
        assert len(parts["de"][part]) == len(parts["en"][part]) == size
        in_order = [pair.names for pair in parts["de"][part]]
        assert in_order == [pair.names for pair in parts["en"][part]]
    check_no_id_is_in_two_parts(parts)


@pytest.mark.parametrize("seed", range(10))
def test_languages_with_other_subsets_of_ids_share_no_id_across_parts(seed):
    rng = np.random.default_rng(seed)
    languages = {}
    for language, size in (("de", 20), ("en", 100), ("fr", 90), ("ru", 60)):
        ids = numbered(rng.permutation(100)[:size])
        languages[language] = pairs_with([*ids, None, None], language)
    parts = split_of(languages, 5, seed)
    check_no_id_is_in_two_parts(parts)
    # still with as many pairs for validation and test as they are to have
    for of_language in parts.values():
        assert len(of_language["validation"]) == len(of_language["test"]) == 5
    assert sum(len(of_language["left out"]) for of_language in parts.values()) > 0


def test_a_pair_whose_translation_is_kept_aside_elsewhere_is_left_out_of_training():
    by_number = sorted(numbered(range(10)), key=lambda name: number_of(name, 0))
    lowest, *others = by_number
    languages = {
        "de": pairs_with(by_number, "de"),
        "en": pairs_with([*others[5:], lowest], "en"),
        "fr": pairs_with(others, "fr"),
    }
    parts = split_of(languages, 1)
    kept = {"de": {lowest}, "en": {lowest}, "fr": {others[0]}}
    for language, names in kept.items():
        assert names_in(parts[language]["validation"]) == names
    # de has the id that only fr keeps for validation, so its test pair is the next
    assert names_in(parts["de"]["left out"]) == {others[0], others[5]}
    assert names_in(parts["de"]["test"]) == {others[1]}


def test_a_prompt_with_several_ids_is_a_translation_of_all_of_them():
    ids = numbered(range(40))
    both = Pair([99, 0], 1, "de:99", names=frozenset(ids[:2]))
    languages = {"de": [*pairs_with(ids[2:], "de"), both], "en": pairs_with(ids, "en")}
    for seed in range(20):
        check_no_id_is_in_two_parts(split_of(languages, 5, seed))


def test_prompts_of_one_language_with_the_same_id_are_in_one_part():
    ids = numbered(range(20)) * 3  # in three dialects
    for seed in range(20):
        parts = split_of({"pt": pairs_with(ids)}, 4, seed)
        check_no_id_is_in_two_parts(parts)


def test_pairs_of_a_prompt_stay_together_even_if_one_of_them_is_left_out():
    """The other pairs of its prompt are then replies to the same translated prompt."""
    (one, *_) = by_number = sorted(numbered(range(9)), key=lambda name: number_of(name, 0))
    known = Pair([99, 0], 1, "de:8", names=frozenset([one]))
    unknown = Pair([99, 1], 1, "de:9")
    languages = {"de": [*pairs_with(by_number[2:], "de"), known, unknown]}
    languages["en"] = pairs_with([one], "en")
    parts = split_of(languages, 1)
    assert parts["de"]["validation"] in ([known, unknown], [unknown, known])


def test_without_ids_the_order_is_that_of_the_language_alone():
    pairs = pairs_with([None] * 30)
    for seed in range(3):
        ordered = in_random_order(pairs, seed, np.random.default_rng(seed))
        assert ordered == [pairs[i] for i in np.random.default_rng(seed).permutation(30)]


def test_pairs_with_and_without_ids_are_mixed():
    """Neither kind is kept aside more often than the other."""
    pairs = pairs_with([*numbered(range(500)), *[None] * 500])
    ordered = in_random_order(pairs, 0, np.random.default_rng(0))
    with_id = sum(bool(pair.names) for pair in ordered[:200])
    assert 70 < with_id < 130  # four standard deviations


def test_a_number_depends_on_the_seed_and_the_id_alone():
    assert number_of("rtp-lx/1", 0) == number_of("rtp-lx/1", 0)
    assert number_of("rtp-lx/1", 0) != number_of("rtp-lx/1", 1)
    assert number_of("rtp-lx/1", 0) != number_of("rtp-lx/2", 0)
    # data/prepare.py keeps those of its lowest numbers for prompts/, so the two must differ
    prepared = np.random.default_rng([0, *b"rtp-lx/1"]).random()
    assert number_of("rtp-lx/1", 0) != prepared
    assert 0 <= number_of("\ud800", 0) < 1  # half a character, as JSON can have it
