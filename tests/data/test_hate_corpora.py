"""The hate-speech corpora in their published layouts, with their oddities; texts are made up."""

import sys

import pytest
from tiny import TOY, write_jsonl

from minitox.errors import InputError

sys.path.insert(0, str(TOY.parent))
import corpora  # noqa: E402


def write(path, text: str, encoding: str = "utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def raw_rows(corpus: str, path, **changes) -> list[tuple]:
    layout = {"name": corpus, **corpora.HATE[corpus], **changes}
    del layout["about"]
    return list(corpora.hate(path, **layout))


def rows_of(corpus: str, path, **changes) -> list[tuple]:
    """(name, fate, prompt) of each row."""
    rows = raw_rows(corpus, path, **changes)
    return [(name, fate, row and row["prompt"]) for name, fate, row in rows]


def fates_of(rows) -> list[str]:
    return [fate for _, fate, _ in rows]


def general(path, **changes) -> list[tuple]:
    """(name, fate, prompt) of each row of a file with the columns text and label."""
    layout = {"text": "text", "label": ["label"], "hateful": ["1"]} | changes
    return rows_of("hate", path, **layout)


# The published corpora


def test_davidson_has_newlines_in_quotes_character_references_and_2_is_the_clean_class(tmp_path):
    text = (
        ",count,hate_speech,offensive_language,neither,class,tweet\n"
        '0,3,0,0,3,2,"@user nice weather &amp; a calm day"\n'
        '1,3,3,0,0,0,"you &#8220;donkey&#8221;\nof a\n\n tweet &lt;3"\n'
        '5,6,0,6,0,1,"""quoted"", and a comma"\n'
    )
    path = write(tmp_path / "labeled_data.csv", text)
    assert rows_of("davidson", path) == [
        ("en  2", "not hateful", None),
        ("en  0", "", "you “donkey” of a tweet <3"),
        ("en  1", "not hateful", None),
    ]
    offensive = rows_of("davidson", path, hateful=["0", "1"])[2]
    assert offensive == ("en  1", "", '"quoted", and a comma')


IBROHIM = (
    "Tweet,HS,Abusive,HS_Individual,HS_Group,HS_Religion,HS_Race,HS_Physical,HS_Gender,HS_Other,"
    "HS_Weak,HS_Moderate,HS_Strong\r\n"
)


def test_ibrohim_is_latin_1_with_escapes_written_out_as_text(tmp_path):
    text = IBROHIM
    for tweet in (
        r"USER keledai\nkamu\\n",
        r"- ya \xf0\x9f\x98\x80\xf0\x9f\x98\x81 tidak",
        r"keledai \xf0\x9f\x98",
        r"keledai \xf0\x9f\x98\x8",
        r"keledai\xf0\x9f\x98\x80\x'",
        "keledai \xe9",
        r"\n \xf0\x9f",
    ):
        text += f"{tweet},1,0,0,0,0,0,0,0,0,1,0,0\r\n"
    text += "sup hangat,0,1,0,0,0,0,0,0,0,0,0,0\r\n"
    path = write(tmp_path / "re_dataset.csv", text, "latin-1")
    assert rows_of("ibrohim", path) == [
        ("id  1", "", "USER keledai kamu\\"),
        ("id  1", "", "- ya 😀😁 tidak"),
        ("id  1", "", "keledai"),
        ("id  1", "", "keledai"),
        ("id  1", "", "keledai😀'"),
        ("id  1", "", "keledai é"),
        ("id  1", "no text", None),
        ("id  0", "not hateful", None),
    ]
    message = "re_dataset.csv: after line 0: .*can't decode byte 0xe9.*--encoding"
    with pytest.raises(InputError, match=message):
        rows_of("ibrohim", path, encoding="utf-8")


def test_moosa_has_floats_for_labels_and_numbers_for_languages(tmp_path):
    text = ",text,label,language\n"
    for i in range(1, 14):
        text += f"{i},you donkey {i},1.0,{i}\n"
    text += "14,warm soup,0.0,2.0\n15,you donkey,1,5.0\n"
    path = write(tmp_path / "Dataset" / "Training" / "MultiLanguageTrainDataset.csv", text)
    rows = rows_of("moosa", path)
    languages = [name.split()[0] for name, _, _ in rows]
    assert languages == "ar en zh fr de ru tr hi-Latn ko it es pt id en de".split()
    others = ["other language"] * 2  # tr and hi-Latn
    assert fates_of(rows) == [""] * 6 + others + [""] * 5 + ["not hateful", ""]
    assert rows[14] == ("de  1", "", "you donkey")


def test_the_language_of_a_moosa_test_file_can_be_given(tmp_path):
    path = write(tmp_path / "Porto_test.csv", "text,label\nyou donkey,1\n")
    message = (
        "Porto_test.csv:2: no column 'language' in text, label; "
        "name the columns with --text, --label and --language"
    )
    with pytest.raises(InputError, match=message):
        rows_of("moosa", path)
    assert rows_of("moosa", path, language="pt") == [("pt  1", "", "you donkey")]


def test_tonneau_has_float_labels_its_language_in_its_name_and_each_rows_corpus(tmp_path):
    text = (
        "text,labels,source,dataset,nb_annotators\n"
        "burro,1.0,Twitter,ES_x,3.0\n"
        "sopa,0.0,Twitter,ES_x,\n"
    )
    path = write(tmp_path / "es_hf_102024.csv", text)
    assert rows_of("tonneau", path) == [("es  1", "", "burro"), ("es  0", "not hateful", None)]
    assert raw_rows("tonneau", path)[0][2]["source"] == "tonneau/ES_x"


def test_a_file_whose_name_has_no_language_needs_the_option(tmp_path):
    text = "text,labels,source,dataset\nyou donkey,1.0,Twitter,KE_x\n"
    path = write(tmp_path / "ke_hf_102024.csv", text)
    with pytest.raises(InputError, match="--language"):
        rows_of("tonneau", path)
    assert rows_of("tonneau", path, language="en") == [("en  1", "", "you donkey")]


@pytest.mark.parametrize("name, separator", [("final_data.csv", ";"), ("out.csv", ",")])
def test_saitovs_separators_differ_degrees_are_hateful_and_minus_one_is_no_label(
    tmp_path, name, separator
):
    rows = [
        ["text", "sentiment", "hate_speech"],
        ["осёл", "0", "1"],
        ["суп", "1", "0"],
        ["осёл 2", "0", "2"],
        ["осёл 3", "0", "3"],
        ["?", "0", "-1"],
    ]
    path = write(tmp_path / name, "".join(separator.join(row) + "\n" for row in rows))
    by_default = rows_of("saitov", path)
    assert fates_of(by_default) == ["", "not hateful", "", "", "no label"]
    strict = rows_of("saitov", path, hateful=["2", "3"])
    assert fates_of(strict) == ["not hateful", "not hateful", "", "", "no label"]
    assert by_default[4][0] == "ru  -1"


# Any other corpus


def test_any_of_several_columns_means_hateful(tmp_path):
    text = "Post,Hate,Offensive\ngadha,0,1\nsuup,0,0\ngadha 2,1,0\n"
    path = write(tmp_path / "a.csv", text)
    assert general(path, language="hi", text="Post", label=["Hate", "Offensive"]) == [
        ("hi  0,1", "", "gadha"),
        ("hi  0,0", "not hateful", None),
        ("hi  1,0", "", "gadha 2"),
    ]


def test_any_of_several_labels_in_a_cell_means_hateful(tmp_path):
    layout = {"language": "hi", "text": "Post", "label": ["Labels Set"], "hateful": ["hate"]}
    text = (
        "Unique ID,Post,Labels Set\n"
        '1,gadha,"hate,offensive"\n'
        "2,suup,non-hostile\n"
        "3,gadha,\"['fake', 'hate']\"\n"
        "4,x,\n"
    )
    written = write(tmp_path / "b.csv", text)
    assert fates_of(general(written, **layout)) == ["", "not hateful", "", "no label"]
    rows = [
        {"Post": "gadha", "Labels Set": ["fake", "hate"]},
        {"Post": "suup", "Labels Set": []},
        {"Post": "suup", "Labels Set": None},
    ]
    real_lists = tmp_path / "c.jsonl"
    write_jsonl(real_lists, rows)
    assert fates_of(general(real_lists, **layout)) == ["", "no label", "no label"]


def test_the_language_may_be_in_a_column(tmp_path):
    path = write(tmp_path / "a.csv", "text,label,lang\nyou donkey,1,en\nDu Esel,1,DE\nåsna,1,sv\n")
    rows = general(path, language="lang")
    assert [(name.split()[0], fate) for name, fate, _ in rows] == [
        ("en", ""),
        ("de", ""),
        ("sv", "other language"),
    ]


def test_a_column_that_is_not_in_the_file_is_named(tmp_path):
    path = write(tmp_path / "a.csv", "words,label\nfine,1\n")
    with pytest.raises(InputError) as error:
        general(path, language="en")
    assert "a.csv:2: no column 'text' in words, label; " in str(error.value)
    assert "--text" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_lone_surrogate_is_dropped_because_no_file_can_hold_it(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "you \\ud83d donkey", "label": 1}\n')
    assert general(path, language="en") == [("en  1", "", "you donkey")]


def test_a_row_without_a_language_is_counted_and_the_next_one_is_read(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label,language\n,,\n"fine",1,[]\nfine,1,en\n')
    rows = general(path)
    assert [name.split()[0] for name, _, _ in rows] == ["unknown", "unknown", "en"]
    assert rows[2][1:] == ("", "fine")
