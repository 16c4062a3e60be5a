"""The five kinds of figures: stacked bars, a heat map, points with intervals, moves, and curves.

None and NaN mean "no data" and are never drawn as 0. A number that does not fit its place is in a
tooltip.
"""

import math
from dataclasses import dataclass
from html import escape
from itertools import cycle, pairwise

from minitox.report.page import shown
from minitox.report.svg import MOST, WIDTH, Frame, Plane, box, element, figure, line, text

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


def folded(name: str, figure: str) -> str:
    """A figure that is shown when its name is clicked."""
    return f"<details><summary>{escape(shown(name))}</summary>{figure}</details>"


# ---- stacked bars ----


def stacked_bars(
    name: str,
    rows: dict,  # {label: {part: value}}
    order: list[str],  # of the parts
    share: bool = True,
) -> str:
    """A bar for each label; its parts are drawn as shares of their sum, or as counts."""
    # 1) the sum of each bar, without the bars of which a part has no data
    totals = {
        label: sum(parts.values())
        for label, parts in rows.items()
        if parts and known(*parts.values())
    }

    # 2) the axis, below a legend of three parts a line: up to 100 %, or to the largest sum
    form = "{:.0%}" if share else "{:,.10g}"
    high = 1 if share else max(totals.values(), default=0) or 1
    top = 24 + 17 * math.ceil(len(order) / 3)
    frame = Frame(list(rows), top, WIDTH - 16, 0, high)

    # 3) the colours; they depend on the order alone, so they are the same for every model
    palette = cycle(PALETTE)
    colours = {part: MEANING.get(part) or next(palette) for part in order}
    marks = [*frame.marks(form), *legend(colours)]

    # 4) the bars; a sum of 0 is a count, but has no shares
    for row, (label, parts) in enumerate(rows.items()):
        y = frame.y(row)
        if totals.get(label):
            whole = totals[label] if share else 1
            values = {part: parts[part] / whole for part in order if parts.get(part)}
            marks += bar(label, values, colours, frame, y, form)
        else:
            words = "no data" if share or label not in totals else "0"
            marks.append(text(frame.x(0) + 4, y + 14, words, kind="faint"))

    about = f"Bars of {', '.join(rows)}; parts: {', '.join(order)}."
    return figure(name, about, frame.bottom + 18, marks)


def legend(colours):  # {part: colour}
    """Colours and names of the parts, three in a line."""
    for i, (part, colour) in enumerate(colours.items()):
        x = 120 * (i % 3)
        y = 22 + 17 * (i // 3)
        yield box(x, y, 10, 10, "part", fill=colour)
        yield text(x + 14, y + 9, part, most=17)


def bar(
    label,
    values,  # {part: value}
    colours,  # {part: colour}
    frame,
    y,
    form,
):
    """The parts side by side."""
    # 1) each is at least two units wide, so that it is seen, and the others make room for it
    x = frame.x(0)
    room = frame.x(sum(values.values())) - x
    widths = {part: max(2, frame.x(value) - x) for part, value in values.items()}
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
    labels: list[str],  # of the rows
    values: list,  # of each row a list
    columns: list[str] | None = None,  # None: the same as the rows
    form: str = "{:.2f}",
    signed: bool = False,  # whether numbers above and below 0 have colours of their own
) -> str:
    """A grid of numbers, each on a tint that deepens with it and leaves it legible."""
    # 1) the range of the tint
    columns = labels if columns is None else columns
    numbers = list(filter(known, sum(values, [])))
    low = min(numbers, default=0)
    span = max(numbers, default=1) - low or 1
    if signed:
        low = 0
        span = max(map(abs, numbers), default=1) or 1

    # 2) the labels of the columns
    width = (WIDTH - 32) / max(1, len(columns))
    marks = []
    for j, label in enumerate(columns):
        marks.append(text(32 + width * (j + 0.5), 34, label, "middle", most=4))

    # 3) the rows, each with its label and its cells
    for i, (label, row) in enumerate(zip(labels, values, strict=True)):
        y = 40 + 24 * i
        marks.append(text(26, y + 16, label, "end", most=4))
        for j, (other, value) in enumerate(zip(columns, row, strict=True)):
            x = 32 + width * j
            number = "no data"
            inside = "–"
            depth = 0  # opacity of the tint
            kind = "heat"
            if known(value):
                number = form.format(value)
                # a number that is wider than its cell is in the tooltip alone
                inside = number if width > 5.8 * len(number) else ""
                share = abs(value - low) / span
                # a root, so that small changes are seen beside large ones
                depth = 0.75 * (math.sqrt(share) if signed else share)
                kind = "warm" if signed and value > 0 else "heat"
            tip = f"{label}, {other}: {number}"
            marks += [
                box(x, y, width, 24, kind, tip, fill_opacity=depth),
                text(x + width / 2, y + 16, inside, "middle", "small"),
            ]

    of = ", ".join(dict.fromkeys([*labels, *columns]))
    about = f"A number for each pair of {of}."
    return figure(name, about, 44 + 24 * len(labels), marks)


# ---- points ----


def dots(
    name: str,
    rows: dict,  # {label: (mean, low, high), or None}
    reference: float | None = None,  # where a dashed line is drawn
    form: str = "{:.2f}",
    draws: dict | None = None,  # {label: [value]}, of which the mean is one
) -> str:
    """A point and its interval for each label, and lighter ones for what the point is a mean of."""
    # 1) the axis: all numbers, and a margin
    draws = draws or {}
    numbers = [reference]
    for label, row in rows.items():
        numbers += [*(row or ()), *draws.get(label, ())]
    frame, marks = number_axis(list(rows), numbers, reference)

    # 2) the points
    for i, (label, row) in enumerate(rows.items()):
        y = frame.y(i)
        for value in filter(known, draws.get(label, ())):
            x = frame.x(value)
            tip = f"{label}, one draw: {form.format(value)}"
            marks.append(element("circle", "", tip, "draw", cx=x, cy=y + 17, r=2))
        marks += dot(row or (None, None, None), frame, y, form)
    about = f"Means and intervals of {', '.join(rows)}."
    return figure(name, about, frame.bottom + 18, marks)


def number_axis(labels: list[str], numbers: list, reference: float | None):
    """A row for each label on an axis with all numbers, and its marks with the dashed line."""
    low, high = with_margin(numbers)
    frame = Frame(labels, 20, WIDTH - 50, low, high)
    marks = list(frame.marks("{:,.10g}"))
    if known(reference):
        x = frame.x(reference)
        marks.append(line(x, x, frame.top, frame.bottom, "reference"))
    return frame, marks


def with_margin(numbers, share: float = 1 / 20) -> tuple[float, float]:
    """The ends of an axis on which all known numbers lie."""
    numbers = list(filter(known, numbers))
    low = min(numbers, default=0)
    high = max(numbers, default=1)
    margin = share * (high - low) or share * abs(high) or 1
    return low - margin, high + margin


def dot(row, frame, y, form):
    """An interval, the point on it, and the mean as a number on the right."""
    mean, low, high = row
    middle = y + 10
    if known(low, high):
        yield line(frame.x(low), frame.x(high), middle, middle, "interval")
    if known(mean):
        yield element("circle", kind="tint", cx=frame.x(mean), cy=middle, r=4)
    number = form.format(mean) if known(mean) else "no data"
    yield text(WIDTH, y + 14, number, "end", "faint")


# ---- moves ----


def moves(
    name: str,
    rows: dict,  # {label: (before, after)}
    reference: float | None = None,  # where a dashed line is drawn
    form: str = "{:.3f}",
) -> str:
    """A line for each label, from a small point, the number before, to a larger one, after it."""
    # 1) the axis: all numbers, and a margin
    numbers = [reference]
    for row in rows.values():
        numbers += row
    frame, marks = number_axis(list(rows), numbers, reference)

    # 2) the points
    for i, (label, (before, after)) in enumerate(rows.items()):
        middle = frame.y(i) + 10
        is_known = known(before, after)
        number = form.format(after) if is_known else "no data"
        marks.append(text(WIDTH, middle + 4, number, "end", "faint"))
        if is_known:
            tip = f"{label}: {form.format(before)}, then {number}"
            start = frame.x(before)
            end = frame.x(after)
            marks += [
                line(start, end, middle, middle, "interval"),
                element("circle", "", tip, "draw", cx=start, cy=middle, r=3),
                element("circle", "", tip, "tint", cx=end, cy=middle, r=4),
            ]
    about = f"Numbers before and after of {', '.join(rows)}."
    return figure(name, about, frame.bottom + 18, marks)


# ---- curves ----

CURVES = 12  # that have colours of their own, in page.css


@dataclass(frozen=True)
class Point:
    """A point of a curve, and the words beside it."""

    x: float
    y: float
    words: str
    is_marked: bool = False


def curves(
    name: str,
    lines: dict[str, list[Point]],  # at most CURVES
    x_name: str,
    y_name: str,
    reference: Point | None = None,  # on no curve
    form: str = "{:.1f}",  # of y in tooltips
) -> str:
    """A line through the points of each label; a point that has no data is left out."""
    # 1) the plane, below a legend of two names a row
    lines = {
        label: [point for point in line if known(point.x, point.y)] for label, line in lines.items()
    }
    points = [point for of_line in lines.values() for point in of_line]
    others = [reference] if reference and known(reference.x, reference.y) else []
    all_points = [*points, *others]
    top = 44 + 17 * math.ceil(len(lines) / 2)
    plane = Plane(
        top,
        *with_margin([point.x for point in all_points], 1 / 8),
        *with_margin([point.y for point in all_points], 1 / 8),
    )
    marks = [*plane.marks(x_name, y_name)]

    # 2) the curves, and the names of their colours
    for number, (label, of_line) in enumerate(lines.items()):
        kind = f"c{number}"
        marks += key(label, number, kind)
        for one, other in pairwise(of_line):
            ends = plane.x(one.x), plane.x(other.x), plane.y(one.y), plane.y(other.y)
            marks.append(line(*ends, kind))
        for point in of_line:
            words = f"{label}, {point.words}" if point.words else label
            tip = f"{words}: {x_name} {point.x:.3f}, {y_name} {form.format(point.y)}"
            marks += circle(point, plane, kind, tip)
    for point in others:
        tip = f"{point.words}: {x_name} {point.x:.3f}, {y_name} {form.format(point.y)}"
        marks += circle(point, plane, "faint", tip)

    # 3) the words, where there is room for them; those of marked points first
    all_points.sort(key=lambda point: not point.is_marked)
    marks += words_beside(all_points, plane)
    about = f"Curves of {', '.join(lines)}: {y_name} against {x_name}."
    return figure(name, about, plane.bottom + 32, marks)


def key(label, number, kind):
    """A sample of a curve's colour and its name."""
    x = 180 * (number % 2)
    y = 22 + 17 * (number // 2)
    yield line(x, x + 16, y + 5, y + 5, kind)
    yield text(x + 20, y + 9, label)


def circle(point, plane, kind, tip):
    """A point, in a ring if it is marked."""
    x, y = plane.x(point.x), plane.y(point.y)
    yield element("circle", "", tip, kind, cx=x, cy=y, r=3)
    if point.is_marked:
        yield element("circle", kind="ring", cx=x, cy=y, r=6)


def words_beside(points, plane):
    """The words of each point right, left, above or below it; none where all places are taken."""
    places = [(plane.x(point.x), plane.y(point.y)) for point in points]
    taken = [(x - 6, x + 6, y - 6, y + 6) for x, y in places]
    for (x, y), point in zip(places, points, strict=True):
        width = 6 * min(MOST, len(shown(point.words)))
        # left end and base line
        beside = [(x + 8, y + 4), (x - 8 - width, y + 4)]
        beside += [(x - width / 2, y - 9), (x - width / 2, y + 16)]
        for left, base in beside:
            place = (left, left + width, base - 9, base + 2)
            inside = plane.left < place[0] and place[1] < WIDTH
            inside = inside and plane.top < place[2] and place[3] < plane.bottom
            if inside and not any(overlap(place, other) for other in taken):
                taken.append(place)
                yield text(left, base, point.words, kind="small")
                break


def overlap(one, other) -> bool:
    """Whether two boxes (left, right, top, bottom) overlap."""
    beside = one[1] <= other[0] or other[1] <= one[0]
    return not (beside or one[3] <= other[2] or other[3] <= one[2])
