"""Whatever text a model writes, the report shows it and keeps its structure."""

import re
from html.parser import HTMLParser

import pytest

from minitox.report.figures import dots
from minitox.report.page import Section, aligned, html, markdown, shown, terminal

HOSTILE = [
    "<script>alert(1)</script>",
    "</td></table></section>",
    "a | b || c",
    "a\\|b",
    "\\",
    "![](http://x)",
    "[a](javascript:alert(1))",
    "`code` ``",
    "\u202egnirts\u202c",
    "\u2066\u200b\ufeff",
    "\ud800",
    "nul\x00 bell\x07",
    "a\nb\r\n\n# c\t",
    "a\u2028b\x85c",
    "&lt;b&gt; &amp;",
    "\"'",
    "<!-- ",
    "]]>",
    "https://evil.example/ www.evil.example",
    "**bold** _it_ ~~no~~ $x$",
    "\u3164\u2800",
    "\U000e0041",
    "\ufffe",
    "",
]


class Tags(HTMLParser):
    """The tags of a page with their attributes, and all text outside the style."""

    def __init__(self, page: str):
        super().__init__()
        self.opened = []
        self.text = ""
        self.inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.opened.append((tag, dict(attributes)))
        self.inside = tag

    def handle_decl(self, decl):
        assert decl == "doctype html"

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    def handle_data(self, data):
        self.text += data if self.inside != "style" else ""


def report(words: str) -> list[Section]:
    """A section with the words wherever a section takes text, and a plain one after it."""
    figure = dots(words, {words: (0.2, 0.1, 0.3)})
    return [
        Section(words, words, [words] * 3, [[words] * 3, ["de", "1", "2"]], [words], figure),
        Section("After", "The end."),
    ]


def cells(line: str) -> list[str]:
    """The cells of a table's line in GitHub's Markdown: a bar ends one, unless it is escaped."""
    return re.findall(r"((?:\\.|[^|\\])*)\|", line)[1:]


def structure(page: Tags) -> list[tuple]:
    """The tags, and the names of their attributes, without paragraphs and tooltips."""
    opened = [(tag, sorted(attributes)) for tag, attributes in page.opened]
    return [element for element in opened if element[0] not in ("p", "title")]


@pytest.mark.parametrize("words", HOSTILE, ids=ascii)
def test_hostile_text_adds_no_tag_to_the_page_and_stands_in_it_as_it_is(words):
    ours = Tags(html(words, report(words)))
    plain = Tags(html("plain", report("plain")))
    assert structure(ours) == structure(plain)
    assert ours.text.count(shown(words)) >= 9 and "The end." in ours.text
    for _, attributes in ours.opened:
        assert not any(name.startswith("on") for name in attributes)
        assert not {"src", "style"} & attributes.keys()


@pytest.mark.parametrize("words", HOSTILE, ids=ascii)
def test_hostile_text_leaves_a_markdown_table_its_columns_and_adds_no_markup(words):
    text = markdown(words, report(words))
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == 4 and all(len(cells(line)) == 3 for line in lines)
    bare = re.sub(r"\\[\\`*_\[\]|~$/.#+-]", "", text)  # what is left is markup
    assert not re.search(r"[<>`*_\[\]~$]|://|www\.", bare)
    assert len(re.findall("^#", text, re.MULTILINE)) == 3  # the title and two sections


@pytest.mark.parametrize(
    "words", HOSTILE + ["\udfff" * 600, "".join(map(chr, range(0x300)))], ids=ascii
)
def test_both_files_are_always_utf8_of_visible_characters_alone(words):
    controls = "\x00-\x09\x0b-\x1f\x7f-\x9f"
    marks = "\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\u3164"
    for text in (html(words, report(words)), markdown(words, report(words))):
        text.encode("utf-8")
        assert not re.search(f"[{controls}{marks}]", text)


def test_shown_makes_what_cannot_be_seen_an_escape_and_keeps_what_can():
    assert shown("a\u202eb\n\tc\x00\ud800\u200d") == "a\\u202eb\\n\\tc\\x00\\ud800\\u200d"
    for words in ("Grüße, 世界! नमस्ते مرحبا 👍", "a b", "a\u00a0b", "<b> & |"):
        assert shown(words) == words


def test_shown_cuts_a_long_text_and_says_how_long_it_was():
    assert shown("x" * 100_000) == "x" * 500 + "... (100,000 characters)"
    assert shown("x" * 500) == "x" * 500
    assert shown("abcdef", most=3) == "abc... (6 characters)"


def test_a_paragraph_never_begins_a_heading_list_or_rule_and_keeps_a_negative_number():
    paragraphs = ["# a", "- b", "12. c", "--- ", "+ d", "2) e", "-0.031 f", "0.5 g"]
    section = Section("s", "\n\n".join(paragraphs), notes=["- h", "     i"])
    assert markdown("t", [section]).split("\n\n")[2:] == [
        "\\# a",
        "\\- b",
        "12\\. c",
        "\\---",
        "\\+ d",
        "2\\) e",
        "-0.031 f",
        "0.5 g",
        "- \\- h\n- i\n",
    ]


def test_a_markdown_table_is_aligned_with_its_numbers_to_the_right():
    section = Section(
        "s", columns=["model", "mean"], rows=[["base", "0.25"], ["per-language", "-0.031"]]
    )
    assert markdown("t", [section]).splitlines()[4:] == [
        "| model        |   mean |",
        "| ------------ | -----: |",
        "| base         |   0.25 |",
        "| per-language | -0.031 |",
    ]


def test_on_a_terminal_labels_are_aligned_left_and_numbers_right():
    rows = [["", "n", "of all"], ["per-language", "1,234,567", "5%"], ["aura", "8", ""]]
    assert aligned(rows).splitlines() == [
        "                      n  of all",
        "per-language  1,234,567      5%",
        "aura                  8",
    ]


def test_a_terminal_shows_title_text_table_and_notes():
    section = Section("s", "a\nb\n\nc", ["", "n"], [["de", "1"]], ["n: a number"], "<svg></svg>")
    assert terminal(section).splitlines() == [
        "s",
        "",
        "a b",
        "",
        "c",
        "",
        "             n",
        "de           1",
        "  n: a number",
    ]
    assert terminal(Section("s", "a")) == "s\n\na"


def test_a_row_with_a_cell_too_few_is_refused():
    with pytest.raises(ValueError):
        markdown("t", [Section("s", columns=["a", "b"], rows=[["1"]])])
    with pytest.raises(ValueError):
        aligned([["", "n"], ["de"]])


def test_markdown_leaves_figures_out_and_html_folds_away_the_table_beneath_one():
    figure = dots("f", {"a": (1, 0, 2)})
    with_figure = Section("s", columns=["a"], rows=[["1"]], figure=figure)
    assert "svg" not in markdown("t", [with_figure])
    page = html("t", [with_figure]).partition("</nav>")[2]
    order = r"<svg .*</svg>.*<details open><summary>.*<table.*</table>.*</details>"
    assert re.search(order, page, re.DOTALL)
    without = html("t", [Section("s", columns=["a"], rows=[["1"]])])
    assert "<details" not in without.partition("</nav>")[2]


@pytest.mark.parametrize("rows, is_open", [(10, True), (11, False)])
def test_a_long_table_beneath_a_figure_is_closed_at_first(rows, is_open):
    section = Section("s", columns=["a"], rows=[["1"]] * rows, figure="<svg></svg>")
    page = html("t", [section]).partition("</nav>")[2]
    assert ("<details open>" in page) == is_open


@pytest.mark.parametrize("rows, is_folded", [(30, False), (31, True)])
def test_a_long_table_without_a_figure_is_folded_and_says_how_long_it_is(rows, is_folded):
    page = html("t", [Section("s", columns=["a"], rows=[["1"]] * rows)])
    assert (f"<summary>The table, {rows} rows</summary>" in page) == is_folded


@pytest.mark.parametrize("sections, is_open", [(8, True), (9, False)])
def test_long_contents_are_closed_at_first(sections, is_open):
    page = html("t", [Section("s")] * sections)
    state = " open" if is_open else ""
    assert f"<details{state}><summary>Contents: {sections} sections</summary><ol>" in page


def test_on_paper_everything_is_open_and_light():
    css = html("t", []).partition("@media print {")[2].partition("</style>")[0]
    assert "details::details-content { content-visibility: visible" in css
    assert "color-scheme: light; --ground: #fff; --ink: #1c2024" in css
    assert ".scroll { overflow: visible" in css and "break-inside: avoid" in css


def test_a_column_of_sentences_is_read_from_the_left():
    sentences = Section("s", columns=["id", "reply"], rows=[["1", "word " * 20]])
    text = markdown("t", [sentences])
    assert 'class="prose"' in html("t", [sentences])
    assert "| --- | ---" in text and ":" not in text


def test_the_page_may_run_nothing_and_load_nothing():
    page = html("t", report("plain"))
    opened = Tags(page).opened
    policy = {
        "http-equiv": "Content-Security-Policy",
        "content": "default-src 'none'; style-src 'unsafe-inline'",
    }
    assert ("meta", policy) in opened
    tags = {tag for tag, _ in opened}
    assert not {"script", "link", "img", "iframe", "object", "form"} & tags
    assert set(re.findall(r"\w+://[^\"' <]*", page)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in page and "@import" not in page


def test_the_page_is_for_readers_of_all_kinds():
    page = html("t", report("plain"))
    assert '<html lang="en">' in page and '<meta charset="utf-8">' in page
    assert 'name="viewport" content="width=device-width' in page
    assert "prefers-color-scheme: dark" in page and "color-scheme: light dark" in page

    # each link of the contents leads to a section
    opened = Tags(page).opened
    links = [attributes["href"] for tag, attributes in opened if tag == "a"]
    places = ["#" + attributes["id"] for tag, attributes in opened if tag == "section"]
    assert links == places and len(links) == 2
