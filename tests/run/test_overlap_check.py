"""Data with exact copies of test prompts are refused; other copies are printed and counted."""

import pytest
from tiny import TOY, write_jsonl

from minitox.errors import InputError
from minitox.run import distributed, overlap_check
from minitox.run.overlap_check import FIELDS, Copies, check

PROMPT = "You are the worst singer in the whole town, you goose"


class Scorer:
    """A scorer that has learned some texts."""

    name = "surrogate-0123"

    def __init__(self, *learned: tuple[str, str]):
        self.learned = learned

    def has_learned(self, text: str, language: str) -> bool:
        return (language, text) in self.learned


class Perspective:
    """A scorer that does not know what it has learned."""

    name = "perspective"


@pytest.fixture
def data(tmp_path):
    """Prompts of two languages, and texts that copy none of their own language."""
    write_jsonl(tmp_path / "prompts" / "de.jsonl", [{"prompt": "Du Esel"}, {"prompt": "Geh weg"}])
    write_jsonl(tmp_path / "prompts" / "en.jsonl", [{"prompt": PROMPT}, {"prompt": "go away"}])
    for language in ("de", "en", "fr"):
        write_texts(tmp_path, "detection", language, "The soup is warm.", "nice")
        write_texts(tmp_path, "instructions", language, "The soup is cold.")
    write_texts(tmp_path, "detection", "fr", PROMPT, "Du Esel")
    return tmp_path


def write_texts(data, folder: str, language: str, *texts: str) -> None:
    rows = [{"toxicity": 0.9, "response": "soup"} | {FIELDS[folder]: text} for text in texts]
    write_jsonl(data / folder / f"{language}.jsonl", rows)


def test_without_copies_the_line_says_none_and_languages_are_not_compared_with_others(data, capsys):
    scorers = [Scorer(("fr", "Du Esel"), ("en", "Du Esel")), Perspective()]
    overlap = check(data, FIELDS, ["de", "en", "fr"], False, scorers)
    assert capsys.readouterr().out == (
        "copies of test prompts: detection: none; instructions: none; surrogate-0123: none; "
        "perspective: not known\n"
    )
    none = {"de": Copies(), "en": Copies()}
    assert overlap == {
        "detection": none,
        "instructions": none,
        "surrogate-0123": none,
        "perspective": None,
    }


@pytest.mark.parametrize("folder, maker", [("detection", "prepare"), ("instructions", "curate")])
def test_exact_copies_are_refused_in_one_line_or_allowed_and_counted(data, capsys, folder, maker):
    write_texts(data, folder, "de", "nice", "DU  ESEL", "du esel")
    write_texts(data, folder, "en", f"{PROMPT}!", "Go away")
    with pytest.raises(InputError) as error:
        check(data, FIELDS, ["de", "en"], False)
    message = str(error.value)
    assert message.startswith(f"{data / folder / 'de.jsonl'}:2 repeats a test prompt")
    assert "one of 3 such rows (de 2, en 1)" in message
    assert f"data/{maker}.py" in message and "--allow-overlap" in message
    assert "\n" not in message
    assert capsys.readouterr().out == ""

    overlap = check(data, [folder], ["de", "en"], True)
    expected = f"copies of test prompts: {folder}: de 2 exact, en 1 exact, 1 near\n"
    assert capsys.readouterr().out == expected
    path = data / folder / "en.jsonl"
    assert overlap[folder]["en"] == Copies(exact=[f"{path}:2"], near=[f"{path}:1"])


def test_near_copies_are_printed_and_not_refused(data, capsys):
    write_texts(data, "detection", "en", "nice", PROMPT[:-5] + "goat")
    overlap = check(data, ["detection"], ["de", "en"], False)
    assert capsys.readouterr().out == "copies of test prompts: detection: en 1 near\n"
    assert str(overlap["detection"]["en"]) == "1 near"
    assert str(overlap["detection"]["de"]) == "none"


def test_prompts_that_a_scorer_has_learned_are_refused_or_allowed_and_counted(data, capsys):
    scorer = Scorer(("de", "Geh weg"), ("en", PROMPT), ("en", "go away"))
    with pytest.raises(InputError) as error:
        check(data, FIELDS, ["de", "en"], False, [scorer])
    message = str(error.value)
    path = data / "prompts" / "de.jsonl"
    assert message.startswith(f"{path}:2 was in the training data of surrogate-0123, one of 3 ")
    assert "data/prepare.py scorer" in message and "--allow-overlap" in message
    overlap = check(data, FIELDS, ["de", "en"], True, [scorer])
    assert "surrogate-0123: de 1 exact, en 2 exact\n" in capsys.readouterr().out
    assert overlap["surrogate-0123"]["de"].exact == [f"{path}:2"]


def test_without_prompts_nothing_is_compared(data, capsys):
    assert check(data, FIELDS, ["fr"], False) == {}
    assert check(data / "nowhere", ["detection"], ["de"], False) == {}
    assert capsys.readouterr().out == ""


def test_a_malformed_row_is_an_error_that_names_it(data):
    write_jsonl(data / "instructions" / "en.jsonl", [{"response": "soup"}])
    with pytest.raises(InputError, match="en.jsonl:1: field 'prompt' is missing"):
        check(data, FIELDS, ["de", "en"], True)


def test_the_toy_has_no_copies(capsys):
    check(TOY, FIELDS, ["de", "en", "ja"], False)
    assert capsys.readouterr().out.endswith(" detection: none; instructions: none\n")


def test_a_row_with_the_id_of_a_prompt_of_another_language_is_counted_as_translated(data, capsys):
    write_jsonl(data / "prompts" / "en.jsonl", [{"prompt": PROMPT, "id": "rtp-lx/7"}])
    rows = [
        {"prompt": "Der Sänger ist der schlechteste", "response": "soup", "id": "rtp-lx/7"},
        {"prompt": "Die Suppe ist kalt", "response": "soup", "id": "rtp-lx/8"},
    ]
    write_jsonl(data / "instructions" / "de.jsonl", rows)
    overlap = check(data, ["instructions"], ["de"], False)
    (where,) = overlap["instructions"]["de"].translated
    assert where.endswith("de.jsonl:1")
    assert capsys.readouterr().out == "copies of test prompts: instructions: de 1 translated\n"


def test_rows_without_an_id_are_no_translations_of_a_prompt_whose_id_is_null(data):
    write_jsonl(data / "prompts" / "en.jsonl", [{"prompt": PROMPT, "id": None}])
    write_jsonl(data / "instructions" / "de.jsonl", [{"prompt": "Die Suppe", "response": "soup"}])
    overlap = check(data, ["instructions"], ["de"], False)
    assert overlap["instructions"]["de"].translated == []


def test_the_prompts_are_read_once_for_all_folders_and_scorers(data, monkeypatch):
    read_jsonl = overlap_check.read_jsonl
    read = []

    def count(path):
        read.append(str(path.relative_to(data)))
        return read_jsonl(path)

    monkeypatch.setattr(overlap_check, "read_jsonl", count)
    check(data, FIELDS, ["de", "en"], False, [Scorer(), Scorer()])
    names = [f"{folder}/{language}.jsonl" for folder in FIELDS for language in ("de", "en")]
    assert read == ["prompts/de.jsonl", "prompts/en.jsonl", *names]


def test_only_the_first_process_compares_and_the_others_get_its_result(data, monkeypatch):
    expected = check(data, FIELDS, ["de"], False)
    monkeypatch.setattr(distributed, "FIRST", False)
    monkeypatch.setattr(distributed, "gather", lambda value: [(expected, None), value])
    assert check(data / "nowhere", FIELDS, ["de"], False) is expected
    refused = InputError("de.jsonl:1 repeats a test prompt")
    monkeypatch.setattr(distributed, "gather", lambda value: [(None, refused), value])
    with pytest.raises(InputError, match="repeats a test prompt"):
        check(data, FIELDS, ["de"], False)
