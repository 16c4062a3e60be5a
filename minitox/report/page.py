"""A report in two renderings: Markdown for GitHub and the terminal, and one HTML file that needs nothing but itself.

Models write what they like, so every text is made visible and escaped; only figures are taken as they are (they did the same).
"""

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from unicodedata import category

BLANKS = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"  # printable by their category, yet nothing is seen of them


@dataclass(frozen=True)
class Section:
    """Paragraphs with blank lines between them, a figure, a table with notes; any may be absent."""

    title: str
    text: str = ""
    columns: list[
        str
    ] = ()  # the first holds the rows' labels, the others numbers or, if a cell is long, sentences
    rows: list[list[str]] = ()
    notes: list[str] = ()
    figure: str = ""  # SVG, one or several

    def paragraphs(self) -> list[str]:
        return [" ".join(part.split()) for part in re.split(r"\n\s*\n", self.text) if part.strip()]

    def prose(self) -> bool:  # a table with sentences in it is read from the left
        return any(len(cell) > 40 for row in self.rows for cell in row[1:])


def shown(text: str, most: int = 500) -> str:
    """The text on one line, cut, with escapes for what is not seen: controls, bidi marks, zero widths, half surrogate pairs."""
    seen = "".join(
        char
        if char not in BLANKS and (char.isprintable() or category(char) == "Zs")
        else char.encode("unicode_escape").decode()
        for char in text[:most]
    )
    return seen + (f"... ({len(text):,} characters)" if len(text) > most else "")


def markdown(title: str, sections: list[Section]) -> str:
    """GitHub's Markdown; figures are left out, since their numbers stand in the tables."""
    blocks = [f"# {literal(title)}"]
    for section in sections:
        table = markdown_table(section) if section.columns else ""
        notes = "\n".join(f"- {literal(note, 5_000)}" for note in section.notes)
        blocks += [
            f"## {literal(section.title)}",
            *(literal(text, 5_000) for text in section.paragraphs()),
            table,
            notes,
        ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def markdown_table(section: Section) -> str:
    rows = [[literal(cell) for cell in row] for row in (section.columns, *section.rows)]
    room = [max(3, *(min(40, len(cell)) for cell in column)) for column in zip(*rows, strict=True)]
    rows.insert(
        1,
        ["-" * room[0]]
        + ["-" * (space - 1) + ("-" if section.prose() else ":") for space in room[1:]],
    )
    return "\n".join(
        "| " + " | ".join([row[0].ljust(room[0]), *map(str.rjust, row[1:], room[1:])]) + " |"
        for row in rows
    )


def literal(text: str, most: int = 500) -> str:
    """Markdown that shows the text as it is: no tag, link (not even of a bare address), emphasis, cell or list comes of it."""
    text = re.sub(
        r"([\\`*_\[\]|~$]|(?<=:)/(?=/)|(?<=[wW]{3})\.)",
        r"\\\1",
        escape(shown(text, most).strip(), quote=False),
    )
    return re.sub(r"^(\d*)(#|-(?=[ -])|\+(?= )|(?<=\d)[.)](?= ))", r"\1\\\2", text)


def html(title: str, sections: list[Section]) -> str:
    """One file that runs no script and loads nothing; where there is a figure, its table is folded away."""
    contents = "".join(
        f'<li><a href="#s{number}">{plain(section.title)}</a>'
        for number, section in enumerate(sections, 1)
    )
    body = "".join(
        f'<section id="s{number}">{html_section(section)}</section>\n'
        for number, section in enumerate(sections, 1)
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{plain(title)}</title>
<style>{Path(__file__).with_name("page.css").read_text(encoding="utf-8")}</style>
<h1>{plain(title)}</h1><nav aria-label="Contents"><ol>{contents}</ol></nav>
{body}"""


def plain(text: str, most: int = 500) -> str:
    return escape(shown(text, most))


def html_section(section: Section) -> str:
    text = "".join(f"<p>{plain(part, 5_000)}</p>" for part in section.paragraphs())
    rows = "".join(
        f"<tr><th>{'<td>'.join(map(plain, row))}\n" for row in section.rows
    )  # HTML needs no end tags here
    head, kind = "<th>".join(map(plain, section.columns)), "prose" if section.prose() else "numbers"
    table = f'<div class="scroll" tabindex="0"><table class="{kind}"><thead><tr><th>{head}\n<tbody>{rows}</table></div>'
    fold = (
        "<details open>" if len(section.rows) <= 10 else "<details>"
    )  # what is long is unfolded on request
    table = f"{fold}<summary>The numbers</summary>{table}</details>" if section.figure else table
    figure = f'<div class="figures">{section.figure}</div>' if section.figure else ""
    notes = "<ul>" + "".join(f"<li>{plain(note, 5_000)}" for note in section.notes) + "</ul>"
    return (
        f"<h2>{plain(section.title)}</h2>{text}{figure}"
        + (table if section.columns else "")
        + (notes if section.notes else "")
    )
