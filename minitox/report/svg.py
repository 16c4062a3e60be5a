"""Elements of an SVG, and the frame of a chart: rows with labels, and an axis of values.

An SVG has units of its own. A figure is 360 of them wide, so that on a phone one unit is nearly
one pixel, and text of 11 units is legible. page.css sets the colours of elements that have a class,
for the light and the dark mode.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from minitox.report.page import shown

WIDTH = 360  # units: of a figure
ROW = 20  # from row to row
LETTER = 6.7  # of an average letter
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
    x: float,
    y: float,  # of the base line
    words: str,
    anchor: str = "start",  # what of the text is at x: start, middle or end
    kind: str = "",
    most: int = MOST,  # characters
) -> str:
    """A text; one that is longer than `most` is cut, and whole in its tooltip."""
    words = shown(words)
    tooltip = ""
    content = escape(words)
    if len(words) > most:
        tooltip = words
        content = escape(words[: most - 1] + "…")
    return element("text", content, tooltip, kind, x=x, y=y, text_anchor=anchor)


def line(x1: float, x2: float, y1: float, y2: float, kind: str = "") -> str:
    return element("line", kind=kind, x1=x1, x2=x2, y1=y1, y2=y2)


def box(
    x: float,
    y: float,
    width: float,
    height: float,
    kind: str,
    tooltip: str = "",
    **paint,
) -> str:
    size = {"width": width, "height": height}
    return element("rect", "", tooltip, kind, x=x, y=y, **size, **paint)


def figure(
    name: str,
    about: str,  # for screen readers
    height: float,
    marks: list[str],
) -> str:
    """The SVG of all marks, with its name above them."""
    description = f"<desc>{escape(shown(about))}</desc>"
    heading = text(0, 12, name, kind="name", most=45)
    return element(
        "svg",
        description + heading + "".join(marks),
        tooltip=name,
        xmlns="http://www.w3.org/2000/svg",
        role="img",
        viewBox=f"0 0 {WIDTH} {height:.0f}",
    )


@dataclass(frozen=True)
class Frame:
    """A row for each label, and an axis of values below the rows."""

    labels: list[str]
    top: float  # units: where the first row begins
    right: float  # where the axis ends
    low: float  # the values at its ends
    high: float

    @property
    def left(self) -> float:
        """Where the axis begins: right of the longest label."""
        longest = max((len(shown(label)) for label in self.labels), default=0)
        return 6 + LETTER * min(MOST, longest)

    @property
    def bottom(self) -> float:
        return self.y(len(self.labels))

    def x(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)

    def y(self, row: int) -> float:
        return self.top + ROW * row

    def marks(self, form: str) -> Iterator[str]:
        """The labels, and the axis with numbers in the format `form`."""
        for row, label in enumerate(self.labels):
            yield text(self.left - 6, self.y(row) + 14, label, "end")
        for tick in ticks(self.low, self.high):
            x = self.x(tick)
            yield line(x, x, self.top, self.bottom)
            yield text(x, self.bottom + 12, form.format(tick), "middle", "faint")


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from low to high, in at most `most` steps of 1, 2, 2.5 or 5 times 10**k."""
    # 1) the smallest round step that suffices
    least = (high - low) / most
    power = 10 ** math.floor(math.log10(least))
    steps = [factor * power for factor in (1, 2, 2.5, 5, 10, 20)]
    step = next(step for step in steps if step >= least)

    # 2) its multiples; the tolerance keeps an end that rounding alone puts outside
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{i * step:.9g}") for i in range(first, last + 1)]
