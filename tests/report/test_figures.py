"""Figures are geometry: marks are where the values say, and there are none without data."""

import math
import re
from itertools import pairwise, product
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from minitox.languages import TUNED
from minitox.report.figures import (
    CURVES,
    MEANING,
    PALETTE,
    Point,
    curves,
    dots,
    heatmap,
    moves,
    stacked_bars,
)
from minitox.report.svg import WIDTH, ticks

SVG = "{http://www.w3.org/2000/svg}"
CSS = (Path(__file__).resolve().parents[2] / "minitox/report/page.css").read_text()
RATES = (0.001, 0.004, 0.016)
HOSTILE = ["<script>alert(1)</script>", "</svg><b>", "\"'&", "\x00\ud800\u202e", "w" * 200, "]]>"]


def marks(svg: str, tag: str, kind: str | None = None) -> list[dict]:
    """The attributes of all elements of a tag, numbers as floats, and their texts and tooltips."""
    elements = []
    for element in ElementTree.fromstring(svg).iter(SVG + tag):
        if kind not in (None, element.get("class")):
            continue
        values = {"tip": element.findtext(SVG + "title"), "text": element.text}
        for key, value in element.items():
            is_number = re.fullmatch(r"-?[\d.]+", value)
            values[key] = float(value) if is_number else value
        elements.append(values)
    return elements


def bars(svg: str, label: str) -> list[dict]:
    """The parts of a label's bar."""
    parts = marks(svg, "rect", "part")
    return [part for part in parts if (part["tip"] or "").startswith(label + ": ")]


def texts(svg: str) -> list[str]:
    return [text["text"] for text in marks(svg, "text")]


def contrast(one: str, other: str) -> float:
    """The contrast of two colours by WCAG, from 1; text of 4.5 is legible."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """The relative luminance of a colour by WCAG."""
    linear = []
    for value in bytes.fromhex(colour[1:]):
        part = value / 255
        linear.append(part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
    red, green, blue = linear
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_parts_of_a_bar_lie_side_by_side_and_are_as_wide_as_their_shares():
    svg = stacked_bars(
        "f",
        {"de": {"self": 60, "en": 30, "empty": 10}, "en": {"self": 1, "en": 3}},
        ["self", "en", "empty"],
    )
    de = bars(svg, "de")
    en = bars(svg, "en")
    total = sum(part["width"] for part in de)
    assert [part["width"] / total for part in de] == pytest.approx([0.6, 0.3, 0.1], abs=1e-3)
    ends = [part["x"] + part["width"] for part in de]
    assert [part["x"] for part in de[1:]] == pytest.approx(ends[:-1], abs=0.02)
    assert [part["width"] / total for part in en] == pytest.approx([0.25, 0.75], abs=1e-3)
    assert en[0]["x"] == de[0]["x"] and en[0]["y"] > de[0]["y"]
    assert [part["tip"] for part in de] == ["de: self 60.0%", "de: en 30.0%", "de: empty 10.0%"]


def test_a_part_of_a_thousandth_is_seen_and_the_bar_still_ends_where_it_should():
    svg = stacked_bars(
        "f",
        {"a": {"self": 998, "en": 1, "empty": 1, "others": 0}, "b": {"self": 1}},
        ["self", "en", "empty", "others"],
    )
    a = bars(svg, "a")
    b = bars(svg, "b")
    # there is no mark of the part of 0
    assert [part["tip"] for part in a] == ["a: self 99.8%", "a: en 0.1%", "a: empty 0.1%"]
    assert all(part["width"] > 1.9 for part in a[1:])
    assert a[-1]["x"] + a[-1]["width"] == pytest.approx(b[0]["x"] + b[0]["width"], abs=0.02)


def test_counts_are_drawn_along_an_axis_that_they_share():
    rows = {"de": {"only here": 100, "all": 900}, "fr": {"only here": 100, "all": 1900}}
    svg = stacked_bars("f", rows, ["only here", "all"], share=False)
    de = bars(svg, "de")
    fr = bars(svg, "fr")
    assert de[0]["width"] == pytest.approx(fr[0]["width"], abs=0.02)
    assert fr[1]["width"] / fr[0]["width"] == pytest.approx(19, rel=1e-2)
    assert fr[1]["tip"] == "fr: all 1,900"
    assert {"0", "500", "1,000", "1,500", "2,000"} <= set(texts(svg))
    end = next(text["x"] for text in marks(svg, "text", "faint") if text["text"] == "2,000")
    assert fr[1]["x"] + fr[1]["width"] == pytest.approx(end, abs=0.02)


@pytest.mark.parametrize(
    "nothing", [None, {}, {"self": None, "en": 1}, {"self": math.nan}, {"self": 0, "en": 0}]
)
def test_a_bar_without_data_is_a_gap_that_says_so(nothing):
    svg = stacked_bars("f", {"de": nothing, "fr": {"self": 1}}, ["self", "en"])
    assert bars(svg, "de") == [] and len(bars(svg, "fr")) == 1
    assert texts(svg).count("no data") == 1


def test_a_count_of_zero_is_zero_and_not_missing():
    svg = stacked_bars("f", {"de": {"self": 0}, "fr": {"self": 4}}, ["self"], share=False)
    assert "no data" not in texts(svg) and bars(svg, "de") == []


def test_a_part_has_the_same_colour_whatever_the_figure_holds():
    order = ["self", "en", "pt", "empty"]
    one = stacked_bars("a", {"de": dict.fromkeys(order, 1)}, order)
    other = stacked_bars("b", {"de": {"pt": 1, "empty": 2}}, order)
    fills = {part["tip"].split()[1]: part["fill"] for part in bars(one, "de")}
    assert len(set(fills.values())) == 4
    assert fills["self"] == MEANING["self"] and fills["empty"] == MEANING["empty"]
    assert all(fills[part["tip"].split()[1]] == part["fill"] for part in bars(other, "de"))


def test_a_legend_names_every_part():
    svg = stacked_bars("f", {"de": {"self": 1}}, ["self", "clean in language", "empty", "en"])
    assert {"self", "clean in language", "empty", "en"} <= set(texts(svg))
    key = [part for part in marks(svg, "rect", "part") if part["tip"] is None]
    assert [part["fill"] for part in key] == [
        MEANING["self"],
        MEANING["self"],
        MEANING["empty"],
        PALETTE[0],
    ]
    assert max(part["y"] + part["height"] for part in key) < bars(svg, "de")[0]["y"]


def test_a_point_and_its_interval_are_where_the_axis_says():
    svg = dots(
        "f", {"base": (0.25, 0.2, 0.3), "full": (0.1, 0.05, 0.2)}, reference=0.15, form="{:.3f}"
    )
    # from the numbers on the axis to places
    at = {}
    for text in marks(svg, "text", "faint"):
        if text.get("text-anchor") == "middle":
            at[float(text["text"])] = text["x"]
    low, x0 = min(at.items())
    high, x1 = max(at.items())

    def place(value):
        return x0 + (value - low) / (high - low) * (x1 - x0)

    points = marks(svg, "circle")
    intervals = marks(svg, "line", "interval")
    centres = [point["cx"] for point in points]
    assert centres == pytest.approx([place(0.25), place(0.1)], abs=0.05)
    assert [(line["x1"], line["x2"]) for line in intervals] == [
        pytest.approx((place(0.2), place(0.3)), abs=0.05),
        pytest.approx((place(0.05), place(0.2)), abs=0.05),
    ]
    (reference,) = marks(svg, "line", "reference")
    assert reference["x1"] == reference["x2"] == pytest.approx(place(0.15), abs=0.05)
    assert [point["cy"] for point in points] == [line["y1"] for line in intervals]
    assert {"0.250", "0.100"} <= set(texts(svg))


def test_an_axis_spans_what_is_drawn_and_not_the_way_from_zero():
    svg = dots("f", {"base": (100, 99, 101)}, reference=98)
    (interval,) = marks(svg, "line", "interval")
    (reference,) = marks(svg, "line", "reference")
    assert 40 < reference["x1"] < interval["x1"] < interval["x2"] < WIDTH - 40
    assert interval["x2"] - interval["x1"] > WIDTH / 3


@pytest.mark.parametrize(
    "row, points, intervals",
    [
        (None, 0, 0),
        ((None, None, None), 0, 0),
        ((math.nan, math.nan, math.nan), 0, 0),
        ((0.2, None, math.nan), 1, 0),
        ((0.2, 0.2, 0.2), 1, 1),
    ],
)
def test_a_mean_without_data_is_a_gap_that_says_so_and_one_without_an_interval_a_bare_point(
    row, points, intervals
):
    svg = dots("f", {"base": row})
    assert (len(marks(svg, "circle")), len(marks(svg, "line", "interval"))) == (points, intervals)
    assert texts(svg).count("no data") == 1 - points


def test_draws_are_small_marks_below_their_mean_and_on_the_axis():
    svg = dots(
        "f", {"base": (0.6, 0.5, 0.7), "random": (0.3, 0.2, 0.4)}, draws={"random": [0.1, 0.3]}
    )
    _, mean = marks(svg, "circle", "tint")
    low, high = marks(svg, "circle", "draw")
    # so that the mean does not hide a draw at the same value
    assert high["cx"] == mean["cx"] and high["cy"] - high["r"] > mean["cy"] + mean["r"]
    assert low["cx"] < marks(svg, "line", "interval")[1]["x1"]
    assert low["tip"] == "random, one draw: 0.10" and low["r"] < mean["r"]
    # within the row, and within the axis although it is outside all intervals
    assert high["cy"] + high["r"] <= marks(svg, "text")[1]["y"] - 14 + 40 and low["cx"] > 40
    assert marks(dots("f", {"random": None}, draws={"random": [math.nan]}), "circle") == []


def corners(svg: str) -> list[tuple]:
    """The boxes of the words beside points, as wide as in the widest fonts: x, x, y, y."""
    boxes = []
    for words in marks(svg, "text", "small"):
        width = 5.5 * len(words["text"])
        boxes.append((words["x"], words["x"] + width, words["y"] - 8, words["y"]))
    return boxes


def test_curves_connect_their_points_at_the_places_that_the_axes_say():
    lines = {
        "full": [Point(0.3, 60, "0.001"), Point(0.2, 50, "0.004", True), Point(0.1, 20, "0.016")],
        "random-1": [Point(0.4, 55, "0.001"), Point(0.3, 40, "0.004", True)],
    }
    svg = curves("f", lines, "toxicity", "clean", Point(0.5, 10, "base"))
    assert "<title>f</title>" in svg
    # 1) from the numbers on the axes to places
    across = {}
    upwards = {}
    for number in marks(svg, "text", "faint"):
        place, at = (across, "x") if number["text-anchor"] == "middle" else (upwards, "y")
        place[float(number["text"])] = number[at]
    x0, x1 = across[0.1], across[0.5]
    # the base line of a number is 4 below its tick
    y0, y1 = upwards[20.0] - 4, upwards[60.0] - 4
    assert y1 < y0

    # 2) the points and the lines between them
    for kind, (label, points) in zip(("c0", "c1"), lines.items(), strict=True):
        circles = marks(svg, "circle", kind)
        places = [(circle["cx"], circle["cy"]) for circle in circles]
        for point, place in zip(points, places, strict=True):
            x = x0 + (point.x - 0.1) / 0.4 * (x1 - x0)
            y = y0 + (point.y - 20) / 40 * (y1 - y0)
            assert place == pytest.approx((x, y), abs=0.05)
        key, *ends = [
            (line["x1"], line["y1"], line["x2"], line["y2"]) for line in marks(svg, "line", kind)
        ]
        assert ends == [(*one, *other) for one, other in pairwise(places)]
        assert key[1] < min(y for _, y in places)
        tips = [f"{label}, {p.words}: toxicity {p.x:.3f}, clean {p.y:.1f}" for p in points]
        assert [circle["tip"] for circle in circles] == tips
    rings = [(ring["cx"], ring["cy"]) for ring in marks(svg, "circle", "ring")]
    chosen = [marks(svg, "circle", kind)[1] for kind in ("c0", "c1")]
    assert rings == [(circle["cx"], circle["cy"]) for circle in chosen]
    (reference,) = marks(svg, "circle", "faint")
    assert reference["tip"] == "base: toxicity 0.500, clean 10.0"
    assert [text for text in texts(svg) if text == "0.004"] == ["0.004"] * 2
    assert {"full", "random-1", "toxicity", "clean", "base"} <= set(texts(svg))


def test_words_beside_points_overlap_nothing_and_stay_inside_where_points_are_crowded():
    rng = np.random.default_rng(0)
    lines = {}
    for number in range(6):
        of_line = [Point(*rng.normal(0.5, 0.05, 2), f"{rate:g}", rate == 0.004) for rate in RATES]
        lines[f"strategy-{number}"] = of_line
    svg = curves("f", lines, "x", "y")
    boxes = corners(svg)
    assert 6 < len(boxes) <= 18
    points = []
    for number in range(6):
        points += [(point["cx"], point["cy"]) for point in marks(svg, "circle", f"c{number}")]
    assert len(points) == 18
    height = float(ElementTree.fromstring(svg).get("viewBox").split()[3])
    for i, (left, right, top, bottom) in enumerate(boxes):
        assert 0 <= left and right <= WIDTH and 40 < top and bottom < height
        for other in boxes[:i]:
            apart = right <= other[0] or other[1] <= left or bottom <= other[2] or other[3] <= top
            assert apart
        for x, y in points:
            assert not (left < x < right and top < y < bottom)


def test_a_point_without_data_is_left_out_of_its_curve():
    points = [
        Point(0.1, 1, "a"),
        Point(math.nan, 2, "b"),
        Point(0.3, None, "c"),
        Point(0.2, 3, "d"),
    ]
    svg = curves("f", {"full": points}, "x", "y", Point(math.nan, 1, "base"))
    assert len(marks(svg, "circle")) == 2 and len(marks(svg, "line", "c0")) == 2
    assert "nan" not in svg


def test_curves_differ_in_colour_and_dashes_and_are_seen_in_light_and_in_dark():
    modes = re.findall(r"--ground: #(\w+); --ink: #(\w+);", CSS)
    rules = dict(re.findall(r"svg \.c(\d+) { fill: ([^;]+); (?=stroke: \2)", CSS))
    assert list(rules) == [str(number) for number in range(CURVES)]
    for ground, ink in modes:
        ground = "#" + (ground if len(ground) == 6 else "".join(2 * part for part in ground))
        colours = [f"#{ink}" if rule == "var(--ink)" else rule for rule in rules.values()]
        assert all(contrast(colour, ground) >= 3 for colour in colours)
        for i, colour in enumerate(colours):
            assert all(distance(colour, other) > 50 for other in colours[:i])
    # neighbours also without colours
    dashes = [re.search(rf"\.c{number} .*?(dasharray: [\d ]+|)}}", CSS)[1] for number in rules]
    assert all(one != other for one, other in pairwise(dashes))


def distance(one: str, other: str) -> float:
    """How far apart two colours are, where eyes see red, green and blue with these weights."""
    parts = zip(bytes.fromhex(one[1:]), bytes.fromhex(other[1:]), (2, 4, 3), strict=True)
    return math.sqrt(sum(weight * (a - b) ** 2 for a, b, weight in parts))


def test_an_overlap_has_a_number_in_every_cell_and_a_deeper_tint_for_a_larger_one():
    svg = heatmap(
        "f", ["ar", "de", "en"], [[None, 1.5, 1.0], [1.5, None, 2.0], [1.0, 2.0, math.nan]]
    )
    cells = {cell["tip"].split(": ")[0]: cell for cell in marks(svg, "rect", "heat")}
    depth = {pair: cell["fill-opacity"] for pair, cell in cells.items()}
    assert depth["de, en"] > depth["ar, de"] > depth["ar, en"]
    labels = ["ar", "de", "en"] * 2
    numbers = ["1.50", "1.00", "2.00"] * 2
    assert sorted(texts(svg)) == sorted(["f", *labels, *numbers, "–", "–", "–"])
    assert cells["en, en"]["tip"] == "en, en: no data"
    assert cells["ar, de"]["y"] == cells["ar, en"]["y"] < cells["de, en"]["y"]
    assert cells["ar, de"]["x"] < cells["de, en"]["x"]


def test_changes_have_a_colour_for_each_sign_and_rows_that_are_not_the_columns():
    svg = heatmap(
        "f",
        ["de", "all"],
        [[-4.0, 1.0, None], [0.0, -1.0, 0.25]],
        ["de", "en", "fr"],
        "{:+.2f}",
        True,
    )
    cells = {cell["tip"].split(": ")[0]: cell for cell in marks(svg, "rect")}
    warm = [cell["tip"] for cell in marks(svg, "rect", "warm")]
    assert warm == ["de, en: +1.00", "all, fr: +0.25"]
    depth = {pair: cell["fill-opacity"] for pair, cell in cells.items()}
    assert depth["de, de"] == 0.75 and depth["all, de"] == depth["de, fr"] == 0
    assert depth["de, en"] == depth["all, en"] > depth["all, fr"] > 0
    numbers = ["-4.00", "+1.00", "–", "+0.00", "-1.00", "+0.25"]
    assert sorted(texts(svg)) == sorted(["f", "de", "en", "fr", "de", "all", *numbers])


def test_a_move_goes_from_the_number_before_to_the_number_after():
    svg = moves("f", {"de": (0.4, 0.6), "en": (0.7, 0.3), "fr": (math.nan, 0.5)}, 0.5)
    before = [point["cx"] for point in marks(svg, "circle", "draw")]
    after = [point["cx"] for point in marks(svg, "circle", "tint")]
    assert len(before) == len(after) == 2
    assert before[0] < after[0] and after[1] < before[1]
    (reference,) = marks(svg, "line", "reference")
    assert before[0] < reference["x1"] < after[0]
    tips = [point["tip"] for point in marks(svg, "circle", "tint")]
    assert tips == ["de: 0.400, then 0.600", "en: 0.700, then 0.300"]
    assert [text for text in texts(svg) if text in ("0.600", "0.300", "no data")] == [
        *("0.600", "0.300", "no data"),
    ]


def test_numbers_of_the_nine_languages_of_the_paper_fit_their_cells():
    row = [-1.234] * 9
    shown = texts(heatmap("f", ["de"], [row], list(TUNED), "{:+.2f}", True))
    assert shown.count("-1.23") == 9


def test_an_overlap_that_is_the_same_everywhere_is_drawn_too():
    svg = heatmap("f", ["a", "b"], [[1, 1], [1, 1]])
    assert [cell["fill-opacity"] for cell in marks(svg, "rect", "heat")] == [0, 0, 0, 0]


def test_numbers_are_legible_on_all_that_is_drawn_beneath_them_in_light_and_in_dark():
    # 1) on the parts of a bar, in both modes the same
    red, green, blue = re.search(r"\.inside {[^}]*fill: #(\w)(\w)(\w)[ ;]", CSS).groups()
    inside = "#" + 2 * red + 2 * green + 2 * blue
    assert all(contrast(inside, colour) >= 4.5 for colour in [*MEANING.values(), *PALETTE])

    # 2) on the tints of a heat map, up to the deepest
    tints = re.findall(r"\.(?:heat|warm) { fill: #(\w{6})", CSS)
    assert len(tints) == 2
    cells = marks(heatmap("f", ["a", "b"], [[1, 2], [3, 4]]), "rect", "heat")
    deepest = max(cell["fill-opacity"] for cell in cells)
    modes = re.findall(r"--ground: #(\w+); --ink: #(\w+);", CSS)
    assert len(modes) == 2
    for ground, ink in modes:
        ground = bytes.fromhex(ground if len(ground) == 6 else "".join(2 * part for part in ground))
        for depth, tint in product((0, deepest / 2, deepest), tints):
            parts = zip(bytes.fromhex(tint), ground, strict=True)
            blend = bytes(round(depth * one + (1 - depth) * other) for one, other in parts)
            assert contrast("#" + ink, "#" + blend.hex()) >= 4.5


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 1523, [0, 500, 1000, 1500]),
        (-0.021, 0.034, [-0.02, 0, 0.02]),
        (3, 3.3, [3, 3.1, 3.2, 3.3]),
    ],
)
def test_ticks_are_round_numbers_within_the_range(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def drawings(words: str) -> list[str]:
    return [
        stacked_bars(words, {words: {words: 1, "self": 2}}, [words, "self"]),
        heatmap(words, [words, "b"], [[1, 2], [3, None]]),
        heatmap(words, [words], [[1, -2]], [words, "b"], signed=True),
        moves(words, {words: (0.1, 0.3)}, 0.2),
        moves(words, {}),
        dots(words, {words: (0.1, 0, 0.2)}, 0.1, draws={words: [0.1, 0.2]}),
        curves(words, {words: [Point(0, 1, words, True), Point(1, 0, words)]}, words, words),
        stacked_bars(words, {}, []),
        heatmap(words, [], []),
        dots(words, {}),
        curves(words, {}, words, words),
    ]


def tags(svg: str) -> list[str]:
    """The tags of all elements but the tooltips."""
    elements = ElementTree.fromstring(svg).iter()
    return [element.tag for element in elements if element.tag != SVG + "title"]


@pytest.mark.parametrize("words", HOSTILE, ids=ascii)
def test_hostile_names_are_escaped_and_cut_and_every_figure_is_well_formed(words):
    for svg, plain in zip(drawings(words), drawings("plain"), strict=True):
        root = ElementTree.fromstring(svg.encode("utf-8"))
        assert tags(svg) == tags(plain)
        assert root.get("role") == "img" and root.findtext(SVG + "desc")
        assert root.get("viewBox").startswith(f"0 0 {WIDTH} ")
        assert all(len(text["text"] or "") <= 45 for text in marks(svg, "text"))


def test_figures_bring_no_colours_of_their_own_but_those_of_parts_and_no_style_or_script():
    for svg in drawings("plain"):
        assert not re.search(r"style=|stroke=|<script|<style|href|on\w+=", svg)
        assert len(re.findall(r" fill=", svg)) == len(marks(svg, "rect", "part"))
        assert set(re.findall(r"\w+://[^\"]*", svg)) == {"http://www.w3.org/2000/svg"}
    assert "fill: currentColor" in CSS
    used = set(re.findall(r'class="(\w+)"', "".join(drawings("plain"))))
    assert all(f"svg .{kind} " in CSS for kind in used)
