"""A section of the report, and its renderings: terminal, Markdown for GitHub, and one HTML file.

Models may write anything, so every text is escaped and its invisible characters are made visible.
Only figures are inserted as they are, because figures.py has escaped the texts in them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from unicodedata import category

# printable according to their Unicode category, but blank on the screen
BLANKS = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
LONG = 5_000  # characters that are shown of a paragraph or a note; of any other text 500
MOST_LINKS = 8  # of contents that are open at first
MOST_ROWS = {True: 10, False: 30}  # of a table that is open at first: beneath a figure, and without


@dataclass(frozen=True)
class Section:
    """A title, paragraphs, a figure, a table, and notes on it; all but the title may be absent."""

    title: str
    text: str = ""  # paragraphs, with blank lines between them
    columns: Sequence = ()  # names; the first column contains the labels of the rows
    rows: Sequence = ()  # a list of cells each
    notes: Sequence = ()
    figure: str = ""  # one or several SVGs

    def paragraphs(self) -> list[str]:
        """The paragraphs of the text, each on one line."""
        parts = re.split(r"\n\s*\n", self.text)
        return [" ".join(part.split()) for part in parts if part.strip()]

    def is_prose(self) -> bool:
        """Whether cells contain sentences, which are aligned left, and not numbers."""
        cells = sum((row[1:] for row in self.rows), [])
        return max(map(len, cells), default=0) > 40


# ---- text ----


def shown(text: str, most: int = 500) -> str:
    """The first characters of a text on one line, invisible ones as escapes, and its length if cut.

    Invisible are controls, bidirectional marks, zero-width characters, and lone surrogates.
    """
    visible = ""
    for char in text[:most]:
        printable = char.isprintable() or category(char) == "Zs"
        if char in BLANKS or not printable:
            char = char.encode("unicode_escape").decode()
        visible += char
    if len(text) > most:
        visible += f"... ({len(text):,} characters)"
    return visible


# ---- terminal ----


def terminal(section: Section) -> str:
    """Plain text: title, paragraphs, the table in aligned columns, and the notes right below it."""
    blocks = [section.title, *section.paragraphs()]
    lines = []
    if section.columns:
        lines.append(aligned([section.columns, *section.rows]))
    lines += [f"  {note}" for note in section.notes]
    if lines:
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def aligned(rows: list[list[str]]) -> str:
    """The rows as lines, the first column aligned left and the others right."""
    # columns of less than six characters would look crammed
    widths = [max(6, *map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(padded(row, widths)).rstrip() for row in rows)


def padded(row, widths) -> list[str]:
    """A row's label and cells, in columns of these widths."""
    label, *cells = row
    return [label.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]


# ---- Markdown ----


def markdown(title: str, sections: list[Section]) -> str:
    """GitHub's Markdown, without the figures: their numbers are in the tables."""
    blocks = [f"# {literal(title)}"]
    for section in sections:
        blocks.append(f"## {literal(section.title)}")
        blocks += [literal(paragraph, LONG) for paragraph in section.paragraphs()]
        if section.columns:
            blocks.append(markdown_table(section))
        if section.notes:
            blocks.append("\n".join(f"- {literal(note, LONG)}" for note in section.notes))
    return "\n\n".join(blocks) + "\n"


def markdown_table(section: Section) -> str:
    """The section's table, with columns that line up in the source as well."""
    rows = [list(map(literal, row)) for row in (section.columns, *section.rows)]

    # 1) the widths; a cell of more than 40 characters does not widen its column
    widths = [min(40, max(3, *map(len, column))) for column in zip(*rows, strict=True)]

    # 2) the line below the header aligns numbers to the right
    end = "-" if section.is_prose() else ":"
    rule = ["-" * widths[0], *("-" * (width - 1) + end for width in widths[1:])]
    rows.insert(1, rule)

    return "\n".join(f"| {' | '.join(padded(row, widths))} |" for row in rows)


def literal(text, most=500) -> str:
    """Markdown that shows the text as it is: without tags, links, emphasis, cells, or lists."""
    text = escape(shown(text, most).strip(), quote=False)
    # 1) characters of markup, and those that turn a bare address into a link
    text = re.sub(r"([\\`*_\[\]|~$]|(?<=:)/(?=/)|(?<=[wW]{3})\.)", r"\\\1", text)
    # 2) beginnings of headings and lists
    return re.sub(r"^(\d*)(#|-(?=[ -])|\+(?= )|(?<=\d)[.)](?= ))", r"\1\\\2", text)


# ---- HTML ----


def html(title: str, sections: list[Section]) -> str:
    """One file that runs no script and loads no other file."""
    contents = ""
    body = ""
    for number, section in enumerate(sections, start=1):
        contents += f'<li><a href="#s{number}">{plain(section.title)}</a>'
        body += f'<section id="s{number}">{html_section(section)}</section>\n'
    state = " open" if len(sections) <= MOST_LINKS else ""
    summary = f"<summary>Contents: {len(sections)} sections</summary>"
    # page.css is also in figures that are files of their own
    style = ""
    for name in ("page.css", "layout.css"):
        style += Path(__file__).with_name(name).read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{plain(title)}</title>
<style>{style}</style>
<h1>{plain(title)}</h1>
<nav aria-label="Contents"><details{state}>{summary}<ol>{contents}</ol></details></nav>
{body}"""


def plain(text, most=500) -> str:
    """HTML that shows the text as it is."""
    return escape(shown(text, most))


def html_section(section) -> str:
    """The section's blocks in reading order; tables that are long or repeat a figure are folded."""
    blocks = [f"<h2>{plain(section.title)}</h2>"]
    blocks += [f"<p>{plain(paragraph, LONG)}</p>" for paragraph in section.paragraphs()]
    if section.figure:
        blocks.append(f'<div class="figures">{section.figure}</div>')
    if section.columns:
        table = html_table(section)
        count = len(section.rows)
        is_short = count <= MOST_ROWS[bool(section.figure)]
        if section.figure or not is_short:
            state = " open" if is_short else ""
            name = "The numbers" if section.figure else f"The table, {count} rows"
            table = f"<details{state}><summary>{name}</summary>{table}</details>"
        blocks.append(table)
    if section.notes:
        items = "".join(f"<li>{plain(note, LONG)}" for note in section.notes)
        blocks.append(f"<ul>{items}</ul>")
    return "".join(blocks)


def html_table(section) -> str:
    """The section's table in a box that scrolls; HTML does not require end tags in it."""
    kind = "prose" if section.is_prose() else "numbers"
    head = "<th>".join(map(plain, section.columns))
    body = ""
    for row in section.rows:
        body += f"<tr><th>{'<td>'.join(map(plain, row))}\n"
    table = f'<table class="{kind}"><thead><tr><th>{head}\n<tbody>{body}</table>'
    return f'<div class="scroll" tabindex="0">{table}</div>'
