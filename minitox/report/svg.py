"""Elements of an SVG, and the frame of a chart: rows with labels, and an axis of values.

All coordinates and sizes are floats, in units of the SVG. A figure is 360 units wide, so that on a
phone one unit is nearly one pixel, and text of 11 units is legible. page.css sets the colours of
elements that have a class, for the light and the dark mode.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from minitox.report.page import shown

WIDTH = 360  # of a figure
MOST = 22  # characters of a label


def element(
    tag: str,
    content: str = "",  # escaped already
    tooltip: str = "",
    kind: str = "",  # its class
    **attributes,
) -> str:
    """<tag class="kind" attribute="..."><title>tooltip</title>content</tag>"""
    written = ""
    for name, value in {"class": kind, **attributes}.items():
        if isinstance(value, float):
            value = f"{value:.2f}"
        if value != "":
            written += f' {name.replace("_", "-")}="{escape(str(value))}"'
    if tooltip:
        content = f"<title>{escape(shown(tooltip))}</title>{content}"
    return f"<{tag}{written}>{content}</{tag}>"


def text(
    x,
    y,  # of the base line
    words: str,
    anchor: str = "start",  # what of the text is at x: start, middle or end
    kind: str = "",
    most: int = MOST,  # characters
) -> str:
    """A text; one that is longer than `most` is cut, and whole in its tooltip."""
    words = shown(words)
    cut = words if len(words) <= most else words[: most - 1] + "…"
    tooltip = "" if cut == words else words
    return element("text", escape(cut), tooltip, kind, x=x, y=y, text_anchor=anchor)


def line(x1, x2, y1, y2, kind: str = "") -> str:
    return element("line", kind=kind, x1=x1, x2=x2, y1=y1, y2=y2)


def box(x, y, width, height, kind: str, tooltip: str = "", **paint) -> str:
    return element("rect", "", tooltip, kind, x=x, y=y, width=width, height=height, **paint)


def figure(name: str, about: str, height, marks: list[str]) -> str:
    """The SVG of all marks, with its name above them; `about` is for screen readers."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height:.0f}">'
        f"<title>{escape(shown(name))}</title>"
        f"<desc>{escape(shown(about))}</desc>"
        f"{text(0, 12, name, kind='name', most=45)}"
        f"{''.join(marks)}</svg>"
    )


@dataclass(frozen=True)
class Frame:
    """A row for each label, and an axis of values below the rows."""

    labels: list[str]
    top: float  # where the first row begins
    right: float  # where the axis ends
    low: float  # the values at its ends
    high: float

    @property
    def left(self) -> float:
        """Where the axis begins: right of the longest label."""
        longest = max(map(len, map(shown, self.labels)), default=0)
        # 6.7 units for an average letter
        return 6 + 6.7 * min(MOST, longest)

    @property
    def bottom(self) -> float:
        return self.y(len(self.labels))

    def x(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)

    def y(self, row: int) -> float:
        return self.top + 20 * row

    def marks(self, form: str) -> Iterator[str]:
        """The labels, and the axis with numbers in the format `form`."""
        for row, label in enumerate(self.labels):
            yield text(self.left - 6, self.y(row) + 14, label, "end")
        for tick in ticks(self.low, self.high):
            x = self.x(tick)
            yield line(x, x, self.top, self.bottom)
            yield text(x, self.bottom + 12, form.format(tick), "middle", "faint")


@dataclass(frozen=True)
class Plane:
    """Two axes of values, for points."""

    top: float
    low_x: float  # the values at the ends of the axes
    high_x: float
    low_y: float
    high_y: float
    left: float = 34
    right: float = WIDTH - 14
    height: float = 220

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def x(self, value: float) -> float:
        share = (value - self.low_x) / (self.high_x - self.low_x)
        return self.left + share * (self.right - self.left)

    def y(self, value: float) -> float:
        share = (value - self.low_y) / (self.high_y - self.low_y)
        return self.bottom - share * self.height

    def marks(self, x_name: str, y_name: str) -> Iterator[str]:
        """Both axes with numbers, and their names."""
        for tick in ticks(self.low_x, self.high_x):
            x = self.x(tick)
            yield line(x, x, self.top, self.bottom)
            yield text(x, self.bottom + 12, f"{tick:,.10g}", "middle", "faint")
        for tick in ticks(self.low_y, self.high_y):
            y = self.y(tick)
            yield line(self.left, self.right, y, y)
            yield text(self.left - 4, y + 4, f"{tick:,.10g}", "end", "faint")
        yield text(self.right, self.bottom + 26, x_name, "end", most=45)
        yield text(0, self.top - 10, y_name, most=45)


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, in at most five steps of 1, 2, 2.5 or 5 times 10**k."""
    # 1) the smallest round step that suffices
    least = (high - low) / 5
    power = 10 ** math.floor(math.log10(least))
    factors = (1, 2, 2.5, 5, 10, 20)
    step = next(factor * power for factor in factors if factor * power >= least)

    # 2) its multiples; the tolerance keeps an end that rounding alone puts outside
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{i * step:.9g}") for i in range(first, last + 1)]
