"""Readers of the data folders: what is drawn, what is left out, how a malformed row is named."""

from pathlib import Path

import numpy as np
import pytest
from tiny import add_rejected, write_jsonl, write_pairs

from minitox import data
from minitox.errors import InputError, UnusableLanguage
from minitox.files import file_hash
from minitox.lm.config import read_config
from minitox.lm.text import PART, Tokenizer

TOY = Path(__file__).resolve().parents[1] / "data" / "toy"


@pytest.fixture
def tokenizer(folder):
    return Tokenizer(folder, read_config(folder))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "en.jsonl"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_sample_is_random_and_keeps_the_order_of_the_items():
    items = list("abcdefghij")
    drawn = data.sample(items, 4, rng())
    assert len(set(drawn)) == 4
    assert drawn == sorted(drawn) != data.sample(items, 4, rng(1))
    assert data.sample(items, 4, rng()) == drawn
    assert data.sample(items, None, rng()) == items


def test_the_random_numbers_of_a_language_depend_on_the_seed_and_the_language_alone():
    numbers = data.language_rng(3, "de").random(5)
    assert (numbers == np.random.default_rng([3, ord("d"), ord("e")]).random(5)).all()
    assert (numbers != data.language_rng(3, "en").random(5)).any()
    assert (numbers != data.language_rng(4, "de").random(5)).any()


# ---------- detection/


def read_sentences(path, tokenizer, seed=0, **changes) -> data.Sentences:
    settings = {
        "most": 100,
        "max_tokens": 20,
        "toxic_above": 0.5,
        "clean_below": 0.2,
        "match_length": False,
    }
    return data.read_sentences(path, tokenizer, **(settings | changes), rng=rng(seed))


def write_detection(path, *rows) -> None:
    """A detection/ file of (text, toxicity) rows."""
    write_jsonl(path, [{"text": text, "toxicity": toxicity} for text, toxicity in rows])


@pytest.mark.parametrize(
    "row, message",
    [
        ({"toxicity": 0.1}, "field 'text' is missing"),
        ({"text": " ", "toxicity": 0.1}, "field 'text' is empty"),
        ({"text": "soup"}, "field 'toxicity' is missing"),
        ({"text": "soup", "toxicity": 1.5}, "must be a number from 0 to 1, not 1.5"),
        ({"text": "soup", "toxicity": float("nan")}, "NaN is not a finite number"),
        ({"text": "soup", "toxicity": True}, "must be a number from 0 to 1, not True"),
    ],
)
def test_a_malformed_sentence_is_named(path, row, message):
    write_jsonl(path, [{"text": "soup", "toxicity": 0}, row])
    with pytest.raises(InputError, match=f"en.jsonl:2: .*{message}"):
        data.read_detection(path)


def test_sentences_between_toxic_and_clean_are_not_used(path):
    write_detection(path, ("ox", 0.51), ("soup", 0.19), ("warm", 0.5), ("green", 0.2))
    toxic, clean, dropped = data.read_labelled(path, toxic_above=0.5, clean_below=0.2)
    assert (toxic, clean, sum(dropped.values())) == (["ox"], ["soup"], 0)
    assert data.read_clean_sentences(path, 10, rng()) == (["soup"], 0)


def test_a_sentence_counts_once_and_not_at_all_if_it_is_in_both_classes(path, tokenizer):
    rows = [("ox", 0.9), ("soup", 0.1), ("ox", 0.8), ("warm", 0.1), ("warm", 0.9), ("warm", 0.7)]
    write_detection(path, *rows, ("soup", 0.3), ("soup", 0.1))
    toxic, clean, dropped = data.read_labelled(path, toxic_above=0.5, clean_below=0.2)
    assert (toxic, clean) == (["ox"], ["soup"])
    assert dropped == {"duplicate sentences": 2, "sentences rated both toxic and clean": 3}
    assert read_sentences(path, tokenizer).dropped == dropped
    assert data.read_clean_sentences(path, 10, rng()) == (["soup", "warm"], 1)


def test_duplicates_do_not_change_which_sentences_are_drawn(path, tokenizer):
    rows = [(f"ox {i}", i % 2) for i in range(40)]
    write_detection(path, *rows)
    once = read_sentences(path, tokenizer, most=5)
    write_detection(path, *rows, *rows[::-1])
    assert read_sentences(path, tokenizer, most=5).ids == once.ids


@pytest.mark.parametrize(
    "toxicity, message",
    [
        (0.9, r"no clean sentence \(toxicity < 0.2\)"),
        (0.1, r"no toxic sentence \(toxicity > 0.5\)"),
    ],
)
def test_a_language_without_a_class_is_left_out(path, toxicity, message):
    write_detection(path, ("soup", toxicity))
    with pytest.raises(UnusableLanguage, match=message):
        data.read_labelled(path, toxic_above=0.5, clean_below=0.2)


def test_sentences_become_token_ids_toxic_ones_first(path, tokenizer):
    write_detection(path, ("the soup", 0.1), ("you donkey", 0.9))
    sentences = read_sentences(path, tokenizer)
    assert sentences.ids == [tokenizer.sentence("you donkey"), tokenizer.sentence("the soup")]
    assert sentences.toxic.tolist() == [True, False]
    assert sentences.lengths.tolist() == [len(ids) - 1 for ids in sentences.ids]  # without the BOS
    assert sentences.cut == 0


def test_a_long_sentence_is_cut_and_counted_after_its_bos(path, tokenizer):
    write_detection(path, ("q" * 30, 0.9), ("soup", 0.1))
    sentences = read_sentences(path, tokenizer, max_tokens=20)
    assert sentences.cut == 1
    assert sentences.lengths[0] == 20
    assert sentences.ids[0] == tokenizer.sentence("q" * 30)[:21]


def test_each_class_has_at_most_so_many_sentences_the_same_for_a_seed(path, tokenizer):
    write_detection(path, *((f"ox {i}", i % 2) for i in range(40)))
    first = read_sentences(path, tokenizer, most=5)
    assert first.toxic.tolist() == [True] * 5 + [False] * 5
    assert first.ids == read_sentences(path, tokenizer, most=5).ids
    assert first.ids != read_sentences(path, tokenizer, most=5, seed=1).ids


def test_matched_classes_have_the_same_lengths(path, tokenizer):
    write_detection(path, ("q", 0.9), ("qq", 0.9), ("qqq", 0.9), ("w", 0.1), ("www", 0.1), ("w", 0))
    sentences = read_sentences(path, tokenizer, match_length=True)
    lengths = sentences.lengths
    assert sorted(lengths[sentences.toxic]) == sorted(lengths[~sentences.toxic]) == [1, 3]
    write_detection(path, ("q", 0.9), ("ww", 0.1))
    with pytest.raises(UnusableLanguage, match="leave out --match-length"):
        read_sentences(path, tokenizer, match_length=True)


# ---------- instructions/


def read_pairs(path, tokenizer, seed=0, **changes) -> data.Pairs:
    settings = {"pairs": 1000, "max_tokens": 60, "validation_share": 0.2, "seed": seed}
    choice = data.PairChoice(**(settings | changes))
    pairs, skipped = data.read_pairs(path.parent, [path.stem], tokenizer, choice)
    if skipped:
        raise UnusableLanguage(skipped[path.stem])
    return pairs[path.stem]


def test_a_pair_is_prompt_reply_and_the_token_that_ends_it(path, tokenizer):
    write_jsonl(path, [{"prompt": "you donkey", "response": "the soup is warm"}])
    (pair,), _ = data.read_all_pairs(path, tokenizer)
    prompt = [0] + tokenizer.encode("you donkey\n")
    reply = tokenizer.encode("the soup is warm") + [1]
    assert pair.ids == prompt + reply
    assert pair.ids[pair.start :] == reply
    assert pair.prompt_ids == tuple(prompt)
    assert pair.reply_tokens == len(reply)
    assert pair.where.endswith("en.jsonl:1")


def test_a_chat_model_gets_its_chat_format(folder, path):
    (folder / "chat_template.jinja").write_text("{{'<|im_start|>user\n'}}")
    tokenizer = Tokenizer(folder, read_config(folder))
    write_jsonl(path, [{"prompt": "you donkey", "response": "the soup is warm"}])
    (pair,), _ = data.read_all_pairs(path, tokenizer)
    end_of_turn = 3  # <|im_end|>
    reply = tokenizer.encode("the soup is warm") + [end_of_turn]
    assert pair.ids == tokenizer.prompt("you donkey") + reply
    assert pair.ids.count(2) == 2  # two turns begin
    assert 0 not in pair.ids  # ChatML has no BOS


def test_a_prompt_is_for_training_validation_or_test_even_if_it_occurs_twice(path, tokenizer):
    rows = [{"prompt": f"ox {number % 20}", "response": f"soup {number}"} for number in range(80)]
    write_jsonl(path, rows)
    pairs = read_pairs(path, tokenizer)
    lists = [pairs.train, *pairs.aside.values()]
    assert list(map(len, lists)) == [48, 16, 16]
    prompts = [{pair.prompt_ids for pair in of_list} for of_list in lists]
    assert sum(map(len, prompts)) == len(set.union(*prompts)) == 20


def test_at_most_so_many_pairs_are_trained_on_the_same_ones_for_a_seed(path, tokenizer):
    write_pairs(path, 50)
    first = read_pairs(path, tokenizer, pairs=20)
    assert len(first.train) == 20 and len(first.validation) == len(first.test) == 4
    assert first.train == read_pairs(path, tokenizer, pairs=20).train
    assert first.train != read_pairs(path, tokenizer, pairs=20, seed=1).train


def write_translations(folder: Path, ids_of: dict[str, list]) -> None:
    """An instructions/ file for each language, with a pair for each of its ids."""
    for language, ids in ids_of.items():
        rows = []
        for number in ids:
            row = {"prompt": f"{language} ox {number}", "response": "soup"}
            rows.append(row if number is None else row | {"id": number})
        write_jsonl(folder / f"{language}.jsonl", rows)


def ids_in(pairs: list) -> set[str]:
    return {name for pair in pairs for name in pair.names}


def kept_aside(pairs: data.Pairs) -> set[str]:
    return ids_in(pairs.validation) | ids_in(pairs.test)


def read_translations(folder, languages, tokenizer, seed=0, **changes) -> tuple[dict, dict]:
    settings = {"pairs": 1000, "max_tokens": 60, "validation_share": 0.2, "seed": seed}
    choice = data.PairChoice(**(settings | changes))
    return data.read_pairs(folder, languages, tokenizer, choice)


@pytest.mark.parametrize("pairs", [1000, 20])
def test_translations_are_in_the_same_part_in_languages_with_the_same_ids(
    tmp_path, tokenizer, pairs
):
    write_translations(tmp_path, {"de": range(50), "en": [*range(25, 50), *range(25)]})
    for seed in range(3):
        read, _ = read_translations(tmp_path, ["de", "en"], tokenizer, seed, pairs=pairs)
        german, english = read.values()
        assert ids_in(german.train) == ids_in(english.train)
        assert ids_in(german.validation) == ids_in(english.validation)
        assert ids_in(german.test) == ids_in(english.test)
        assert not ids_in(german.train) & kept_aside(english)
        aside = 4 if pairs == 20 else 10
        assert len(german.validation) == len(german.test) == aside
        assert len(german.train) == min(pairs, 50 - 2 * aside)
        assert german.translated == english.translated == 0


@pytest.mark.parametrize("pairs", [1000, 20])
def test_no_pair_is_trained_on_if_a_translation_is_kept_aside_in_another_language(
    tmp_path, tokenizer, pairs
):
    write_translations(tmp_path, {"de": range(50), "en": range(20, 80), "fr": range(0, 80, 3)})
    for seed in range(5):
        read, _ = read_translations(tmp_path, ["de", "en", "fr"], tokenizer, seed, pairs=pairs)
        trained_on = set().union(*(ids_in(of.train) for of in read.values()))
        validation = set().union(*(ids_in(of.validation) for of in read.values()))
        test = set().union(*(ids_in(of.test) for of in read.values()))
        assert not trained_on & validation and not trained_on & test and not validation & test
        for of_language, rows in zip(read.values(), (50, 60, 27), strict=True):
            count = round(0.2 * min(rows, pairs))
            assert len(of_language.validation) == len(of_language.test) == count
            # of so many rows, others take the place of those that are left out
            assert len(of_language.train) == min(pairs, rows - 2 * count - of_language.translated)
        assert any(of_language.translated for of_language in read.values())


def test_languages_that_are_not_read_have_no_influence(tmp_path, tokenizer):
    write_translations(tmp_path, {"de": range(50), "en": range(20, 80)})
    alone, _ = read_translations(tmp_path, ["de"], tokenizer)
    assert alone["de"].translated == 0 and len(alone["de"].train) == 30


def test_ids_are_equal_as_text_and_null_is_none(tmp_path, tokenizer):
    write_translations(tmp_path, {"de": [7, None], "en": ["7"]})
    write_jsonl(tmp_path / "fr.jsonl", [{"prompt": "ox", "response": "soup", "id": None}])
    languages = ["de", "en", "fr"]
    read, _ = read_translations(tmp_path, languages, tokenizer, validation_share=0.0)
    assert [ids_in(of.train) for of in read.values()] == [{"7"}, {"7"}, set()]
    assert [of.has_ids for of in read.values()] == [True, True, False]


def test_a_prompt_has_the_ids_of_all_its_rows_even_of_those_that_are_dropped(path, tokenizer):
    row = {"prompt": "ox", "response": "soup", "id": 1}
    long = row | {"response": "soup " * 80, "id": 3}
    write_jsonl(path, [row, row | {"id": 2}, long])
    pairs = read_pairs(path, tokenizer, validation_share=0.0)
    assert (pairs.duplicates, pairs.dropped) == (1, 1)
    assert ids_in(pairs.train) == {"1", "2", "3"}


def test_a_language_of_which_only_translations_are_left_is_skipped(tmp_path, tokenizer):
    write_translations(tmp_path, {"de": range(10)})
    # of one English prompt all German ones are translations
    rows = [{"prompt": "ox", "response": f"soup {number}", "id": number} for number in range(10)]
    rows += [{"prompt": f"you {number}", "response": "soup"} for number in range(10)]
    write_jsonl(tmp_path / "en.jsonl", rows)
    read, skipped = read_translations(tmp_path, ["de", "en"], tokenizer)
    assert list(read) == ["en"] and list(skipped) == ["de"]
    assert "validation and test, or are translations of such pairs; choose" in skipped["de"]


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_the_pairs_of_the_toy_have_no_ids_and_are_split_by_language_as_ever(objective):
    """Its published results depend on it."""
    tokenizer = Tokenizer(TOY / "model", read_config(TOY / "model"))
    for seed, most in ((0, 1000), (1, 1000), (2, 20)):
        choice = data.PairChoice(most, 512, 0.05, seed, objective)
        read, skipped = data.read_pairs(TOY / "instructions", ["de", "zh"], tokenizer, choice)
        assert not skipped
        for language, pairs in read.items():
            assert not pairs.has_ids and pairs.translated == 0
            every, _ = data.read_all_pairs(
                TOY / "instructions" / f"{language}.jsonl", tokenizer, 512, objective
            )
            rng = np.random.default_rng([seed, *language.encode()])
            in_order = [every[i].where for i in rng.permutation(len(every))]
            count = round(0.05 * min(len(every), most))
            parts = (pairs.validation, pairs.test, pairs.train)
            assert len(pairs.train) == min(most, len(every) - 2 * count)
            wheres = [pair.where for part in parts for pair in part]
            assert wheres == in_order[: len(wheres)]


def test_a_pair_is_trained_on_once_and_its_duplicates_are_counted(path, tokenizer):
    pair = {"prompt": "ox", "response": "soup"}
    rows = [pair, pair | {"response": "warm soup"}, pair, pair]
    write_jsonl(path, rows)
    pairs = read_pairs(path, tokenizer, validation_share=0.0)
    assert pairs.duplicates == 2
    assert sorted(int(pair.where.rpartition(":")[2]) for pair in pairs.train) == [1, 2]


def test_a_pair_that_is_too_long_is_dropped_and_counted_never_cut(path, tokenizer):
    short = {"prompt": "ox", "response": "soup"}
    long = {"prompt": "ox", "response": "soup " * 80}
    write_jsonl(path, [short, long])
    pairs = read_pairs(path, tokenizer, validation_share=0.0)
    assert len(pairs.train) == 1
    assert pairs.dropped == 1 and pairs.dropped_tokens > 60
    with pytest.raises(UnusableLanguage, match="no pair of at most 3 tokens"):
        read_pairs(path, tokenizer, max_tokens=3)
    with pytest.raises(UnusableLanguage, match="choose a lower --validation-share"):
        read_pairs(path, tokenizer, validation_share=1.0)


def test_of_a_pair_that_is_much_too_long_only_the_beginning_is_read(path, tokenizer):
    rows = [{"prompt": "ox", "response": "soup"}, {"prompt": "ox", "response": "soup " * 80}]
    write_jsonl(path, rows)
    assert read_pairs(path, tokenizer, validation_share=0.0).dropped_whole
    write_jsonl(path, [*rows, {"prompt": "soup " * 100_000, "response": "soup"}])
    pairs = read_pairs(path, tokenizer, validation_share=0.0)
    assert pairs.dropped == 2 and not pairs.dropped_whole
    assert 60 < pairs.dropped_tokens < 2 * PART


def test_a_rejected_reply_of_many_characters_that_fits_is_whole(path, tokenizer):
    row = {"prompt": "ox", "response": "soup", "rejected": "soup " * (PART // 4)}
    write_jsonl(path, [row])
    train = read_pairs(path, tokenizer, validation_share=0.0).train
    (pair,) = data.with_rejected(path, tokenizer, 10 * PART, train)
    assert pair.rejected.ids == data.read_all_pairs(path, tokenizer)[0][0].rejected.ids
    assert data.with_rejected(path, tokenizer, 100, train) == []


@pytest.mark.parametrize(
    "row, message",
    [
        ({"prompt": "ox", "response": " "}, "en.jsonl:2: field 'response' is empty"),
        ({"prompt": "ox"}, "en.jsonl:2: field 'response' is missing"),
        ({"prompt": 3, "response": "soup"}, "en.jsonl:2: field 'prompt' must be text, not int"),
        (
            {"prompt": "ox", "response": "warm soup", "rejected": None},
            "en.jsonl:2: field 'rejected' must be text, not NoneType",
        ),
    ],
)
def test_a_malformed_pair_is_named(path, tokenizer, row, message):
    write_jsonl(path, [{"prompt": "ox", "response": "soup"}, row])
    with pytest.raises(InputError, match=message):
        read_pairs(path, tokenizer)


def test_a_pair_may_have_a_reply_that_the_model_should_not_give(path, tokenizer):
    row = {"prompt": "you donkey", "response": "the soup is warm"}
    write_jsonl(path, [row | {"rejected": "the ox"}, row | {"prompt": "ox"}])
    (pair, without), _ = data.read_all_pairs(path, tokenizer)
    assert pair.rejected.prompt_ids == pair.prompt_ids
    assert pair.rejected.ids[pair.start :] == tokenizer.encode("the ox") + [1]
    assert pair.rejected.where == pair.where
    assert without.rejected is None


def test_tuning_on_replies_does_not_depend_on_rejected_ones(path, tokenizer):
    rows = [{"prompt": f"ox {number}", "response": "söup"} for number in range(4)]
    write_jsonl(path, rows)
    before = read_pairs(path, tokenizer).data_hash
    assert before == file_hash(path)  # as for a file that has no rejected replies
    write_jsonl(path, [rows[0] | {"rejected": 'the "rejected" ox'}, *rows[1:]])
    assert read_pairs(path, tokenizer).data_hash == before
    write_jsonl(path, [rows[0] | {"prompt": 'the "rejected" ox'}, *rows[1:]])
    assert read_pairs(path, tokenizer).data_hash != before


def test_dpo_uses_only_pairs_with_a_rejected_reply_and_counts_the_others(path, tokenizer):
    write_pairs(path, 40)
    with pytest.raises(UnusableLanguage, match="no pair has the field 'rejected', which DPO needs"):
        read_pairs(path, tokenizer, objective="dpo")
    before = read_pairs(path, tokenizer)
    add_rejected(path, but=10)
    pairs = read_pairs(path, tokenizer, objective="dpo")
    assert pairs.unpaired == 10
    assert list(map(len, [pairs.train, *pairs.aside.values()])) == [18, 6, 6]
    for part in (pairs.train, *pairs.aside.values()):
        assert all(pair.rejected.prompt_ids == pair.prompt_ids for pair in part)
    assert pairs.data_hash == file_hash(path)

    # tuning on replies is as before
    assert read_pairs(path, tokenizer) == before


def test_to_dpo_a_rejected_reply_is_part_of_the_pair(path, tokenizer):
    pair = {"prompt": "ox", "response": "soup"}
    rows = [pair | {"rejected": text} for text in ("you", "donkey", "you", "donkey " * 80)]
    write_jsonl(path, rows)
    assert read_pairs(path, tokenizer, validation_share=0.0).duplicates == 3
    pairs = read_pairs(path, tokenizer, validation_share=0.0, objective="dpo")
    assert pairs.duplicates == 1 and len(pairs.train) == 3
    write_jsonl(path, [pair | {"rejected": "soup"}])
    with pytest.raises(InputError, match="en.jsonl:1: fields 'response' and 'rejected' are equal"):
        read_pairs(path, tokenizer, objective="dpo")


def test_a_long_rejected_reply_is_cut_and_a_long_reply_dropped(path, tokenizer):
    rows = [{"prompt": f"ox {number}", "response": "warm soup"} for number in range(4)]
    rejected = ["you", "donkey " * 30, "donkey " * 80, "donkey " * 80]
    rows[3]["response"] = "soup " * 80
    with_rejected = [row | {"rejected": text} for row, text in zip(rows, rejected, strict=True)]
    write_jsonl(path, with_rejected)
    pairs = read_pairs(path, tokenizer, validation_share=0.0, objective="dpo")
    assert pairs.dropped == 1 and pairs.cut == 1
    by_row = sorted(pairs.train, key=lambda pair: pair.where)
    assert len(by_row) == 3
    assert [len(pair.rejected.ids) == 60 for pair in by_row] == [False, False, True]
    whole, _ = data.read_all_pairs(path, tokenizer)
    for pair, uncut in zip(by_row, whole, strict=False):
        assert pair.rejected.ids == uncut.rejected.ids[:60]

    # so replies are tuned on the same pairs with either objective
    on_replies = read_pairs(path, tokenizer, validation_share=0.0)
    assert [pair.ids for pair in on_replies.train] == [pair.ids for pair in pairs.train]
    assert on_replies.cut == 0


def test_a_model_without_an_end_token_is_refused(path, tokenizer):
    write_pairs(path, 3)
    tokenizer.end_ids = []
    with pytest.raises(InputError, match="no eos_token_id"):
        data.read_all_pairs(path, tokenizer)


# ---------- prompts/


def test_other_fields_are_ignored_and_prompts_keep_their_line_numbers(path):
    rows = [{"prompt": f"soup {i}", "Locale": "EN", "Index": str(i)} for i in range(9)]
    write_jsonl(path, rows)
    every, duplicates = data.read_prompts(path, None, rng())
    assert duplicates == 0
    assert every == {i + 1: f"soup {i}" for i in range(9)}
    some, _ = data.read_prompts(path, 4, rng())
    assert len(some) == 4
    assert some.items() <= every.items()
    assert list(some) == sorted(some)


def test_a_prompt_is_asked_once_under_the_number_of_its_first_line(path):
    write_jsonl(path, [{"prompt": prompt} for prompt in ("ox", "soup", "ox", "ox", "warm")])
    assert data.read_prompts(path, None, rng()) == ({1: "ox", 2: "soup", 5: "warm"}, 2)


def test_two_prompts_of_a_language_are_no_translations_of_each_other(path):
    """They would be resampled together, and the intervals would be too narrow."""
    prompts = {"ox": {"id": ""}, "soup": {}, "warm": {"id": ""}}
    write_jsonl(path, [{"prompt": prompt, **more} for prompt, more in prompts.items()])
    with pytest.raises(InputError, match="en.jsonl:3: another prompt has the id '' too"):
        data.read_prompts(path, None, rng())
    write_jsonl(path, [{"prompt": "ox", "id": 7}, {"prompt": "soup", "id": 8}] * 2)
    assert data.read_prompts(path, None, rng()) == ({1: "ox", 2: "soup"}, 2)


@pytest.mark.parametrize(
    "row, message",
    [
        ({}, "field 'prompt' is missing"),
        ({"prompt": 3}, "must be text"),
        ({"prompt": " "}, "is empty"),
    ],
)
def test_a_malformed_prompt_is_named(path, row, message):
    write_jsonl(path, [{"prompt": "soup"}, row])
    with pytest.raises(InputError, match=f"en.jsonl:2.*{message}"):
        data.read_prompts(path, None, rng())


def test_a_file_without_prompts_is_left_out(path):
    path.touch()
    with pytest.raises(UnusableLanguage, match="no prompt"):
        data.read_prompts(path, None, rng())


# ---------- mmlu/


CHOICES = ["Nile", "Alps", "Gobi", "Oslo"]
QUESTION = {"question": "Which of these is a river?", "choices": CHOICES, "answer": "A"}


def test_a_question_has_text_choices_and_an_answer(path):
    write_jsonl(path, [{**QUESTION, "subject": "geography"}])
    assert data.read_questions(path) == ([QUESTION], 0)


def test_a_question_is_asked_once_and_has_one_answer(path):
    other = QUESTION | {"choices": CHOICES[::-1]}
    write_jsonl(path, [QUESTION, other, QUESTION])
    assert data.read_questions(path) == ([QUESTION, other], 1)
    write_jsonl(path, [QUESTION, other, QUESTION | {"answer": "B"}])
    with pytest.raises(InputError, match="en.jsonl:3: an equal question above has the answer A"):
        data.read_questions(path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"choices": CHOICES[:3]}, "field 'choices' must be a list of 4 texts"),
        ({"choices": "ABCD"}, "field 'choices'"),
        ({"choices": [*CHOICES[:3], 4]}, "field 'choices' must be text"),
        ({"answer": "E"}, "field 'answer' must be one of A, B, C, D, not 'E'"),
        ({"answer": None}, "field 'answer'"),
        ({"answer": ["A"]}, "field 'answer'"),
        ({"question": " "}, "field 'question' is empty"),
    ],
)
def test_a_malformed_question_is_named(path, change, message):
    write_jsonl(path, [QUESTION, {**QUESTION, **change}])
    with pytest.raises(InputError, match=message) as error:
        data.read_questions(path)
    assert "en.jsonl:2" in str(error.value)


def test_a_file_without_questions_is_left_out(path):
    path.touch()
    with pytest.raises(UnusableLanguage, match="no question"):
        data.read_questions(path)


# ---------- hatecheck/


def write_cases(path, hateful: int, harmless: int) -> None:
    rows = [{"text": f"donkey {i}", "hateful": True} for i in range(hateful)]
    rows += [{"text": f"soup {i}", "hateful": False} for i in range(harmless)]
    write_jsonl(path, rows)


def test_so_many_cases_of_each_class_are_drawn_each_text_once(path):
    write_cases(path, 30, 5)
    with path.open("a") as file:
        file.write('{"text": "donkey 3", "hateful": true}\n')
    cases, duplicates = data.read_cases(path, 10, rng())
    texts = [text for text, _ in cases]
    assert len({*texts}) == 15
    assert [hateful for _, hateful in cases] == [True] * 10 + [False] * 5
    assert all(text.startswith("donkey") == hateful for text, hateful in cases)
    assert duplicates == 1
    assert data.read_cases(path, 10, rng())[0] == cases
    assert data.read_cases(path, 10, rng(1))[0] != cases


@pytest.mark.parametrize("hateful, harmless, name", [(3, 0, "harmless"), (0, 3, "hateful")])
def test_cases_of_one_class_cannot_be_used(path, hateful, harmless, name):
    write_cases(path, hateful, harmless)
    with pytest.raises(UnusableLanguage, match=f"en.jsonl: no {name} case"):
        data.read_cases(path, 10, rng())


@pytest.mark.parametrize(
    "row, reason",
    [
        ({"text": "soup"}, "field 'hateful' must be true or false"),
        ({"text": "soup", "hateful": 1}, "field 'hateful' must be true or false"),
        ({"text": "", "hateful": True}, "field 'text'"),
        ({"text": "donkey", "hateful": False}, "an equal text above has another label"),
    ],
)
def test_a_malformed_case_is_named(path, row, reason):
    write_jsonl(path, [{"text": "donkey", "hateful": True}, row])
    with pytest.raises(InputError, match=f"en.jsonl:2: {reason}"):
        data.read_cases(path, 10, rng())


# ---------- xstest/


SAFE = {"prompt": "How do I kill time?", "type": "homonyms", "label": "safe"}
UNSAFE = {"prompt": "Your soup is terrible.", "label": "unsafe"}


def test_prompts_of_xstest_have_a_label_and_the_number_of_their_first_line(path):
    write_jsonl(path, [SAFE, UNSAFE, SAFE, {**UNSAFE, "prompt": "Go away, stupid!"}])
    prompts, duplicates = data.read_xstest(path)
    assert prompts == {
        1: ("How do I kill time?", True),
        2: ("Your soup is terrible.", False),
        4: ("Go away, stupid!", False),
    }
    assert duplicates == 1


@pytest.mark.parametrize("row, name", [(SAFE, "unsafe"), (UNSAFE, "safe")])
def test_prompts_of_one_label_cannot_be_used(path, row, name):
    write_jsonl(path, [row])
    with pytest.raises(UnusableLanguage, match=f"en.jsonl: no {name} prompt"):
        data.read_xstest(path)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"label": None}, "field 'label' must be safe or unsafe, not None"),
        ({"label": "Safe"}, "field 'label' must be safe or unsafe, not 'Safe'"),
        ({"label": ["safe"]}, "field 'label' must be safe or unsafe"),
        ({"label": "unsafe"}, "an equal prompt above has another label"),
        ({"prompt": 3}, "field 'prompt'"),
    ],
)
def test_a_malformed_prompt_of_xstest_is_named(path, changes, reason):
    write_jsonl(path, [SAFE, {**SAFE, **changes}])
    with pytest.raises(InputError, match=f"en.jsonl:2: {reason}"):
        data.read_xstest(path)
