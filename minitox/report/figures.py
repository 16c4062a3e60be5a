"""The three kinds of figures: stacked bars, a heat map, and points with intervals.

None and NaN mean "no data" and are never drawn as 0. A number that does not fit its place is in a
tooltip.
"""

import math
from collections.abc import Iterator

from minitox.report.svg import WIDTH, Frame, box, element, figure, line, text

MEANING = {
    "self": "#009e73",
    "clean in language": "#009e73",
    "toxic in language": "#d55e00",
    "wrong language": "#e69f00",
    "others": "#e69f00",
    "unclear": "#f0e442",
    "empty": "#b8b8b8",
}
# colours of other parts; all are light enough for dark numbers on them
PALETTE = ("#cc79a7", "#56b4e9", "#5b74fa", "#7ddc83", "#2d7fcf", "#ef335f")


def known(*values) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)


# ---- stacked bars ----


def stacked_bars(
    name: str,
    rows: dict[str, dict],  # {label: {part: value}}
    order: list[str],  # of the parts
    share: bool = True,
) -> str:
    """A bar for each label; its parts are drawn as shares of their sum, or as counts."""
    totals = sums(rows)

    # 1) the axis: up to 100 %, or to the largest sum
    form = "{:.0%}"
    high = 1
    if not share:
        form = "{:,.10g}"
        high = max(totals.values(), default=0) or 1
    frame = Frame(
        labels=list(rows),
        top=24 + 17 * math.ceil(len(order) / 3),  # below the legend
        right=WIDTH - 16,
        low=0,
        high=high,
    )
    colours = colours_of(order)
    marks = [*frame.marks(form), *legend(colours)]

    # 2) the bars; a sum of 0 is a count, but has no shares
    gap = "no data" if share else "0"
    for row, (label, parts) in enumerate(rows.items()):
        y = frame.y(row)
        if totals.get(label):
            whole = totals[label] if share else 1
            values = {part: parts[part] / whole for part in order if parts.get(part)}
            marks += bar(label, values, colours, frame, y, form)
        else:
            words = gap if label in totals else "no data"
            beside = frame.x(0) + 4
            marks.append(text(beside, y + 14, words, kind="faint"))

    about = f"Bars of {', '.join(rows)}; parts: {', '.join(order)}."
    return figure(name, about, frame.bottom + 18, marks)


def sums(rows: dict[str, dict]) -> dict[str, float]:
    """{label: sum of its parts}, without the labels of which a part has no data."""
    totals = {}
    for label, parts in rows.items():
        if parts and known(*parts.values()):
            totals[label] = sum(parts.values())
    return totals


def colours_of(order: list[str]) -> dict[str, str]:
    """The colours of all parts, which are the same for every model."""
    others = [part for part in order if part not in MEANING]
    colours = {}
    for part in order:
        # a part without a meaning has the colour of its place
        colours[part] = MEANING.get(part) or PALETTE[others.index(part) % len(PALETTE)]
    return colours


def legend(colours: dict[str, str]) -> Iterator[str]:
    """Colours and names of the parts, three in a line."""
    for i, (part, colour) in enumerate(colours.items()):
        x = 120 * (i % 3)
        y = 22 + 17 * (i // 3)
        yield box(x, y, 10, 10, "part", fill=colour)
        yield text(x + 14, y + 9, part, most=17)


def bar(
    label: str,
    values: dict[str, float],
    colours: dict[str, str],
    frame: Frame,
    y: float,
    form: str,
) -> Iterator[str]:
    """The parts side by side."""
    # 1) each is at least two units wide, so that it is seen, and the others make room for it
    x = frame.x(0)
    room = frame.x(sum(values.values())) - x
    widths = {}
    for part, value in values.items():
        widths[part] = max(2, frame.x(value) - x)
    needed = sum(widths.values())

    # 2) a tooltip has a tenth of a percent, which is one reply of a thousand
    precise = form.replace("0%", "1%")
    for part, value in values.items():
        width = widths[part] * room / needed
        tip = f"{label}: {part} {precise.format(value)}"
        yield box(x, y + 2, width, 16, "part", tip, fill=colours[part])
        number = form.format(value)
        if width > 6.5 * len(number) + 4:
            yield text(x + width / 2, y + 14, number, "middle", "inside")
        x += width


# ---- heat map ----


def heatmap(
    name: str,
    labels: list[str],
    values: list[list],  # a row and a column for each label
    form: str = "{:.2f}",
) -> str:
    """A square of numbers, each on a tint that deepens with it and leaves it legible."""
    numbers = []
    for row in values:
        numbers += filter(known, row)
    low = min(numbers, default=0)
    span = max(numbers, default=1) - low or 1
    width = (WIDTH - 32) / max(1, len(labels))

    marks = []
    for i, (label, row) in enumerate(zip(labels, values, strict=True)):
        # 1) the label, beside its row and above its column
        y = 40 + 24 * i
        middle = 32 + width * (i + 0.5)
        marks.append(text(26, y + 16, label, "end", most=4))
        marks.append(text(middle, 34, label, "middle", most=4))

        # 2) the row's cells
        for j, (other, value) in enumerate(zip(labels, row, strict=True)):
            pair = f"{label}, {other}"
            number = form.format(value) if known(value) else None
            depth = 0.75 * (value - low) / span if known(value) else 0
            marks += heat_cell(32 + width * j, y, width, pair, number, depth)

    about = f"A number for each pair of {', '.join(labels)}."
    return figure(name, about, 44 + 24 * len(labels), marks)


def heat_cell(
    x: float,
    y: float,
    width: float,
    pair: str,
    number: str | None,
    depth: float,  # opacity of the tint
) -> Iterator[str]:
    """A tinted box with its number in it, or in its tooltip alone if it is too narrow."""
    tip = f"{pair}: {number or 'no data'}"
    yield box(x, y, width, 24, "heat", tip, fill_opacity=depth)
    inside = number or "–"
    if number and width <= 5.8 * len(number):
        inside = ""
    yield text(x + width / 2, y + 16, inside, "middle", "small")


# ---- points ----


def dots(
    name: str,
    rows: dict[str, tuple | None],  # {label: (mean, low, high)}
    reference: float | None = None,  # where a dashed line is drawn
    form: str = "{:.2f}",
) -> str:
    """A point and its interval for each label."""
    # 1) the axis: all numbers, and a margin
    numbers = [reference]
    for row in rows.values():
        numbers += row or ()
    numbers = list(filter(known, numbers))
    low = min(numbers, default=0)
    high = max(numbers, default=1)
    margin = (high - low) / 20 or abs(high) / 20 or 1
    frame = Frame(
        labels=list(rows),
        top=20,
        right=WIDTH - 50,
        low=low - margin,
        high=high + margin,
    )
    marks = list(frame.marks("{:,.10g}"))
    if known(reference):
        x = frame.x(reference)
        marks.append(line(x, x, frame.top, frame.bottom, "reference"))

    # 2) the points
    for i, row in enumerate(rows.values()):
        y = frame.y(i)
        marks += dot(row or (None, None, None), frame, y, form)
    about = f"Means and intervals of {', '.join(rows)}."
    return figure(name, about, frame.bottom + 18, marks)


def dot(row: tuple, frame: Frame, y: float, form: str) -> Iterator[str]:
    """An interval, the point on it, and the mean as a number on the right."""
    mean, low, high = row
    middle = y + 10
    number = "no data"
    if known(low, high):
        yield line(frame.x(low), frame.x(high), middle, middle, "interval")
    if known(mean):
        number = form.format(mean)
        yield element("circle", kind="tint", cx=frame.x(mean), cy=middle, r=4)
    yield text(WIDTH, y + 14, number, "end", "faint")
