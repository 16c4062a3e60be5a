"""Charts drawn by hand: rectangles, lines, texts, and one line of arithmetic that turns a value into a place.

An SVG has units of its own, here 360 to the width; a phone shows one as nearly a pixel, hence texts of 11. page.css gives what
has a class its colour, light or dark. None and NaN are "no data", never 0; a number that does not fit its place is in a tooltip.
"""

import math
from html import escape

from minitox.report.page import shown

WIDTH, ROW, LETTER = 360, 20, 6.7  # units: of a figure, from row to row, of an average letter
MEANING = {
    "self": "#009e73",
    "clean in language": "#009e73",
    "toxic in language": "#d55e00",
    "wrong language": "#e69f00",
    "others": "#e69f00",
    "unclear": "#f0e442",
    "empty": "#b8b8b8",
}
PALETTE = (
    "#cc79a7",
    "#56b4e9",
    "#5b74fa",
    "#7ddc83",
    "#2d7fcf",
    "#ef335f",
)  # all light enough for dark numbers on them


def known(*values) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)


def element(tag: str, inside: str = "", tip: str = "", kind: str = "", **attributes) -> str:
    """<tag class="kind" ...>inside</tag>, what is inside being escaped already; the tip is shown where the pointer rests."""
    values = {"class": kind} | {
        key: f"{value:.2f}" if isinstance(value, float) else value
        for key, value in attributes.items()
    }
    listed = "".join(
        f' {key.replace("_", "-")}="{escape(str(value))}"'
        for key, value in values.items()
        if value != ""
    )
    return (
        f"<{tag}{listed}>"
        + (f"<title>{escape(shown(tip))}</title>" if tip else "")
        + f"{inside}</{tag}>"
    )


def text(
    x: float, y: float, words: str, anchor: str = "start", kind: str = "", most: int = 22
) -> str:
    words = shown(words)
    cut = words if len(words) <= most else words[: most - 1] + "…"
    return element(
        "text", escape(cut), words if cut != words else "", kind, x=x, y=y, text_anchor=anchor
    )


def figure(name: str, about: str, height: float, marks: list[str]) -> str:
    inside = f"<desc>{escape(shown(about))}</desc>{text(0, 12, name, kind='name', most=45)}{''.join(marks)}"
    return element(
        "svg",
        inside,
        name,
        xmlns="http://www.w3.org/2000/svg",
        role="img",
        viewBox=f"0 0 {WIDTH} {height:.0f}",
    )


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from low to high, in at most `most` steps of 1, 2, 2.5 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10((high - low) / most))
    step = next(
        factor * power for factor in (1, 2, 2.5, 5, 10, 20) if factor * power >= (high - low) / most
    )
    return [
        float(f"{i * step:.9g}")
        for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]


def frame(labels, top: float, low: float, high: float, right: float, form: str):
    """Labels on the left and ticks below: these marks, the function from value to place, the place of each row, the bottom."""

    def place(value):
        return left + (value - low) / (high - low) * (right - left)

    left = 6 + LETTER * max((min(22, len(shown(label))) for label in labels), default=0)
    rows, bottom = [top + ROW * i for i in range(len(labels))], top + ROW * len(labels)
    marks = [text(left - 6, y + 14, label, "end") for y, label in zip(rows, labels)]
    for tick in ticks(low, high):
        marks += [
            element("line", x1=place(tick), x2=place(tick), y1=top, y2=bottom),
            text(place(tick), bottom + 12, form.format(tick), "middle", "faint"),
        ]
    return marks, place, rows, bottom


def stacked_bars(name: str, rows: dict, order: list[str], share: bool = True) -> str:
    """A bar for each label, {label: {part: value}}, parts in `order`: shares of their sum, or counts if not `share`."""
    rest = [
        part for part in order if part not in MEANING
    ]  # coloured by place, which is the same for every model
    colours = {
        part: MEANING.get(part) or PALETTE[rest.index(part) % len(PALETTE)] for part in order
    }
    totals = {
        label: sum(parts.values())
        for label, parts in rows.items()
        if parts and known(*parts.values())
    }
    form, high = ("{:.0%}", 1) if share else ("{:,.10g}", max(totals.values(), default=0) or 1)
    marks, place, places, bottom = frame(
        rows, 24 + 17 * math.ceil(len(order) / 3), 0, high, WIDTH - 16, form
    )
    marks += legend(colours)
    for y, (label, parts) in zip(places, rows.items()):
        if not totals.get(label):
            marks.append(
                text(
                    place(0) + 4,
                    y + 14,
                    "0" if label in totals and not share else "no data",
                    kind="faint",
                )
            )
        else:
            values = {
                part: parts[part] / (totals[label] if share else 1)
                for part in order
                if parts.get(part)
            }
            marks += bar(label, values, colours, place, y, form)
    return figure(
        name, f"Bars of {', '.join(rows)}; parts: {', '.join(order)}.", bottom + 18, marks
    )


def legend(colours: dict[str, str]):
    """Colours and names of parts, three in a line."""
    for i, (part, colour) in enumerate(colours.items()):
        x, y = 120 * (i % 3), 22 + 17 * (i // 3)
        yield element("rect", kind="part", x=x, y=y, width=10, height=10, fill=colour)
        yield text(x + 14, y + 9, part, most=17)


def bar(label: str, values: dict[str, float], colours: dict[str, str], place, y: float, form: str):
    """The parts side by side. One that is there is seen: it gets two units, for which the others make room."""
    x, room = place(0), place(sum(values.values())) - place(0)
    widths = {part: max(2, place(value) - place(0)) for part, value in values.items()}
    for part, width in widths.items():
        width, number = width * room / sum(widths.values()), form.format(values[part])
        tip = f"{label}: {part} {form.replace('0%', '1%').format(values[part])}"  # a tenth of a percent is a reply of a thousand
        yield element(
            "rect", "", tip, "part", x=x, y=y + 2, width=width, height=16, fill=colours[part]
        )
        if width > 6.5 * len(number) + 4:
            yield text(x + width / 2, y + 14, number, "middle", "inside")
        x += width


def heatmap(name: str, labels: list[str], values: list[list], form: str = "{:.2f}") -> str:
    """A square of numbers, each on a tint of the page's ground that deepens with it; the page's ink is legible on all of them."""
    found = [value for row in values for value in row if known(value)]
    low, high, cell, marks = (
        min(found, default=0),
        max(found, default=1),
        (WIDTH - 32) / max(1, len(labels)),
        [],
    )
    for i, (label, row) in enumerate(zip(labels, values, strict=True)):
        y = 40 + 24 * i
        marks += [
            text(26, y + 16, label, "end", most=4),
            text(32 + cell * (i + 0.5), 34, label, "middle", most=4),
        ]
        for j, (other, value) in enumerate(zip(labels, row, strict=True)):
            x, number = 32 + cell * j, form.format(value) if known(value) else "no data"
            depth = 0.75 * (value - low) / (high - low or 1) if known(value) else 0
            inside, tip = (
                "–" if not known(value) else number if cell > 5.8 * len(number) else "",
                f"{label}, {other}: {number}",
            )
            marks += [
                element(
                    "rect", "", tip, "heat", x=x, y=y, width=cell, height=24, fill_opacity=depth
                ),
                text(x + cell / 2, y + 16, inside, "middle", "small"),
            ]
    return figure(
        name, f"A number for each pair of {', '.join(labels)}.", 44 + 24 * len(labels), marks
    )


def dots(
    name: str, rows: dict[str, tuple | None], reference: float | None = None, form: str = "{:.2f}"
) -> str:
    """A point and its interval, {label: (mean, low, high)}, on an axis; a dashed line stands at the reference."""
    found = [value for row in (*rows.values(), (reference,)) for value in row or () if known(value)]
    low, high = min(found, default=0), max(found, default=1)
    margin = (high - low) / 20 or abs(high) / 20 or 1
    marks, place, places, bottom = frame(
        rows, 20, low - margin, high + margin, WIDTH - 50, "{:,.10g}"
    )
    if known(reference):
        marks.append(
            element(
                "line", kind="reference", x1=place(reference), x2=place(reference), y1=20, y2=bottom
            )
        )
    for y, row in zip(places, rows.values()):
        mean, low, high = row or (None, None, None)
        if known(low, high):
            marks.append(
                element(
                    "line", kind="interval", x1=place(low), x2=place(high), y1=y + 10, y2=y + 10
                )
            )
        if known(mean):
            marks.append(element("circle", kind="tint", cx=place(mean), cy=y + 10, r=4))
        marks.append(
            text(WIDTH, y + 14, form.format(mean) if known(mean) else "no data", "end", "faint")
        )
    return figure(name, f"Means and intervals of {', '.join(rows)}.", bottom + 18, marks)
