"""Curves as they are drawn: ticks and places in general, SVG and terminal to the letter, PNG by pixels."""

import math
import struct
import xml.etree.ElementTree as ET
import zlib
from itertools import pairwise
from typing import Any

import click
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.exports.plots import (
    Box,
    Drawing,
    Label,
    Series,
    Stroke,
    cells,
    chart,
    plain,
    spread,
    thinned,
    tick_text,
    ticks,
)
from node.exports.plots_font import columns
from node.exports.plots_png import SCALE, png
from node.exports.plots_rounds import Made, rounds_chart
from node.exports.plots_spans import LANES_MAX, Span, newest_that_fit, seconds_by_name, spans_chart
from node.exports.plots_svg import DARK, LIGHT, svg
from node.exports.plots_terminal import BRAILLE, draw

RISING = Series("mean", [(1, 0.2), (2, 0.4), (3, 0.6)], strong=True)
FALLING = Series("ada", [(1, 0.6), (2, 0.3), (3, 0.1)], place=1)

GOLDEN_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 100" role="img" aria-label="a &lt;b&gt;">
<text x="8" y="16" class="f-ink">a &lt;b&gt;</text>
<polyline points="34,64.5 154,64.5" class="s-grid"></polyline>
<text x="28" y="68.5" text-anchor="end" class="f-quiet">0.5</text>
<polyline points="34,28 154,28" class="s-grid"></polyline>
<text x="28" y="32" text-anchor="end" class="f-quiet">1.0</text>
<polyline points="34,66 154,66" class="s-axis"></polyline>
<polyline points="34,66 34,70" class="s-axis"></polyline>
<text x="34" y="82" text-anchor="middle" class="f-quiet">1</text>
<polyline points="154,66 154,70" class="s-axis"></polyline>
<text x="154" y="82" text-anchor="middle" class="f-quiet">2</text>
<text x="94" y="96" text-anchor="middle" class="f-quiet">round</text>
<polyline points="34,64.5 154,28" class="s-series-1" stroke-width="1.2" stroke-dasharray="6 3">\
<title>ada</title></polyline>
<polyline points="154,28 160,28" class="s-grid"></polyline>
<text x="162" y="32" class="f-series-1">ada 1</text>
</svg>"""

GOLDEN_TERMINAL = """\
t
0.6 ┤B⠄                       ⣀⣀⣤⣤A━A    0.6 mean
    │   ⠉⠑⠂ ⡀          ⣀⣀⣤⡴⠶⠞⠛⠉⠉
0.4 ┤       ⠈⠉⠂ ⣀⣠⣤⡴A⠛⠛⠉⠉
    │    ⢀⣀⣤⣤⠶⠞⠛⠉⠁⠁ ⠤⣀⡀
0.2 ┤A⠶⠞⠛⠋⠉             ⠉⠒⠂ ⢄⣀
    │                         ⠁ ⠒⠒B─B    0.1 ada
    └┬──────────────┬─────────────┬
     1              2             3 round"""


# --- places ------------------------------------------------------------------------------------------------------
finite = st.floats(-1e12, 1e12, allow_nan=False)


@given(finite, st.floats(1e-9, 1e9), st.integers(2, 30))
def test_ticks_are_round_apart_alike_and_inside(low: float, size: float, count: int) -> None:
    high = low + size
    if high - low < 1e-6 * abs(low):  # beyond what a range of curves is: flat ones get air
        return
    marks = ticks(low, high, count)
    assert 1 <= len(marks) <= 2.5 * count + 2
    step = (high - low) / count
    assert all(low - step <= mark <= high + step for mark in marks)
    texts = [tick_text(mark, marks) for mark in marks]
    if len(marks) > 1 and abs(marks[0]) < 1e6 * (marks[1] - marks[0]) and "e" not in texts[0]:
        assert len(set(texts)) == len(texts)


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(2, 30))
def test_ticks_of_counted_things_are_whole(low: int, size: int, count: int) -> None:
    marks = ticks(low, low + size, count, whole=True)
    assert marks
    assert all(mark == int(mark) and low <= mark <= low + size for mark in marks)


@given(st.lists(st.floats(0, 300), max_size=30), st.integers(1, 20))
def test_names_are_spread_without_covering_each_other(wanted: list[float], gap: int) -> None:
    wanted = sorted(wanted)
    places = spread(wanted, gap, 0, 1000)
    assert len(places) == len(wanted)
    assert all(later - sooner >= gap - 1e-6 for sooner, later in pairwise(places))
    assert all(0 <= place <= 1000 for place in places)


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(-5, 5)), max_size=300))
@example([(0.0, 0.0), (0.0, 1.0), (0.25, 1.0), (0.5, 0.0)])
def test_thinned_lines_keep_their_outline(points: list[tuple[float, float]]) -> None:
    points = sorted(points, key=lambda point: point[0])
    kept = thinned(points)
    assert len(kept) <= 4 * 21
    assert [point for point in points if point in kept] == kept or len(set(points)) < len(points)
    assert all(kept.count(point) <= points.count(point) for point in kept)
    for column in range(21):
        mine, theirs = ([p[1] for p in some if int(p[0]) == column] for some in (kept, points))
        assert (min(mine, default=0), max(mine, default=0)) == (min(theirs, default=0), max(theirs, default=0))


# --- SVG -----------------------------------------------------------------------------------------------------------
def test_a_small_chart_to_the_letter() -> None:
    drawing = chart(
        [Series("ada", [(1, 0.5), (2, 1.0)], place=1)], title="a <b>", x_name="round", width=200, height=100
    )
    assert svg(drawing, alone=False) == GOLDEN_SVG


def test_a_file_of_its_own_is_xml_and_has_both_grounds() -> None:
    text = svg(chart([RISING, FALLING], title="loss", x_name="round"))
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme:dark" in text
    assert LIGHT.keys() == DARK.keys()
    for colours in (LIGHT, DARK):  # WCAG 2.2: 4.5 for letters, and a curve's name is written in its colour
        letters = [name for name in colours if name not in ("page", "grid", "axis")]
        assert all(_contrast(colours[name], colours["page"]) >= 4.5 for name in letters)


def _contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_curves_are_told_apart_without_colours() -> None:
    several = [Series(f"n{place}", [(1, place), (2, place + 1)], place=place) for place in range(6)]
    strokes = [s for s in chart(several, title="t", x_name="round").shapes if isinstance(s, Stroke) and s.title]
    assert len({stroke.dashes for stroke in strokes}) == 6


@given(st.text(max_size=30))
def test_no_text_breaks_the_xml(text: str) -> None:
    root = ET.fromstring(svg(chart([Series(text, [(1, 2.0)])], title=text, x_name=text)))
    assert root.attrib["aria-label"] == plain(text)


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(-1e100, 1e100)), max_size=20), st.booleans())
def test_any_points_are_drawn_inside(points: list[tuple[int, float]], strong: bool) -> None:
    drawing = chart([Series("n", sorted(points), strong)], title="t", x_name="round")
    for shape in drawing.shapes:
        places = shape.points if isinstance(shape, Stroke) else [(shape.x, shape.y)]
        assert all(-20 <= x <= drawing.width and -20 <= y <= drawing.height for x, y in places)


# --- PNG -----------------------------------------------------------------------------------------------------------
def pixels_of(file: bytes) -> "np.ndarray[Any, Any]":
    """What a reader of PNG sees: every chunk's checksum is looked at."""
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    at, found = 8, dict[bytes, bytes]()
    while at < len(file):
        (length,) = struct.unpack(">I", file[at : at + 4])
        kind, body = file[at + 4 : at + 8], file[at + 8 : at + 8 + length]
        assert struct.unpack(">I", file[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + body),)
        found[kind] = body
        at += 12 + length
    assert list(found) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *rest = struct.unpack(">IIBBBBB", found[b"IHDR"])
    assert rest == [8, 2, 0, 0, 0]
    lines = np.frombuffer(zlib.decompress(found[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 3)


def colour(style: str) -> list[int]:
    return list(bytes.fromhex(LIGHT[style][1:]))


def test_strokes_boxes_and_letters_become_pixels() -> None:
    drawing = Drawing(40, 20, "t")
    drawing.shapes += [
        Stroke(((0, 5), (40, 5)), "mean", 2.0),
        Stroke(((0, 10), (40, 10)), "series-0", 2.0, (5, 5)),
        Box(30, 12, 5, 5, "bad"),
        Box(-3, -3, 4, 4, "warn"),
        Label(2, 19, "I"),
    ]
    pixels = pixels_of(png(drawing))
    assert pixels.shape == (20 * SCALE, 40 * SCALE, 3)
    assert all(pixels[5 * SCALE, x].tolist() == colour("mean") for x in range(2, 78))
    drawn = [pixels[10 * SCALE, x].tolist() == colour("series-0") for x in (4, 15, 24, 35, 44)]
    assert drawn == [True, False, True, False, True]
    assert pixels[15 * SCALE, 32 * SCALE].tolist() == colour("bad")
    assert pixels[0, 0].tolist() == colour("warn")
    letter = (pixels[12 * SCALE :, 2 * SCALE : 7 * SCALE] != 255).any(axis=2)
    assert letter.sum() == 4 * sum(bits.bit_count() for bits in columns("I"))
    assert pixels[1 * SCALE, 20 * SCALE].tolist() == colour("page")


def test_a_stroke_is_smooth_at_its_edge() -> None:
    drawing = Drawing(20, 20, "t", [Stroke(((0, 0), (20, 13)), "mean", 1.0)])
    grey = {int(value) for value in pixels_of(png(drawing))[:, :, 0].ravel()}
    assert len(grey) > 20


def test_every_letter_has_dots_of_its_own() -> None:
    shapes = {char: tuple(columns(char)) for char in map(chr, range(0x21, 0x7F))}
    assert len(set(shapes.values())) == len(shapes)
    assert columns(" ") == [0] * 5
    assert columns("ß") == columns("中") != columns("B")
    assert all(0 < max(dots) < 128 for dots in shapes.values())


def test_a_whole_chart_as_png_has_its_curves() -> None:
    pixels = pixels_of(png(chart([RISING, FALLING], title="loss", x_name="round", width=300, height=150)))
    for style in ("mean", "series-1"):
        assert (pixels == colour(style)).all(axis=2).sum() > 100


# --- the terminal --------------------------------------------------------------------------------------------------
def test_a_small_terminal_to_the_letter() -> None:
    lines = draw([RISING, FALLING], title="t", x_name="round", width=50, height=8, colour=False)
    assert "\n".join(lines) == GOLDEN_TERMINAL


@given(st.integers(10, 200), st.integers(3, 30), st.integers(0, 40), st.text(max_size=20))
def test_no_line_is_wider_than_the_terminal(width: int, height: int, count: int, name: str) -> None:
    several = [
        Series(plain(f"{name}{place}"), [(r, math.sin(r + place)) for r in range(1, 9)], place == 0, place)
        for place in range(count)
    ]
    for line in draw(several, title=plain(name), x_name="round", width=width, height=height, colour=False):
        assert cells(line) <= max(width, 24)


def test_colour_is_only_added() -> None:
    wanted: dict[str, Any] = {"title": "t", "x_name": "round", "width": 80, "height": 12}
    bare = draw([RISING, FALLING], colour=False, **wanted)
    painted = draw([RISING, FALLING], colour=True, **wanted)
    assert "\x1b[" in "".join(painted)
    assert [click.unstyle(line).rstrip() for line in painted] == bare
    assert "\x1b[" not in "".join(bare)


def test_every_curve_has_a_letter_on_it_and_before_its_name() -> None:
    text = "\n".join(draw([RISING, FALLING], title="t", x_name="round", width=80, height=16, colour=False))
    for letter, name in (("A", "mean"), ("B", "ada")):
        assert text.count(letter) >= 3
        assert any(letter in line and name in line for line in text.splitlines())


def test_a_single_point_and_nothing_at_all() -> None:
    wanted: dict[str, Any] = {"title": "t", "x_name": "round", "width": 60, "height": 10, "colour": False}
    assert any(char > "A" for line in draw([Series("n", [(1, 5.0)])], **wanted) for char in line)
    assert draw([Series("n", [])], **wanted) == ["t", "  nothing measured yet"]
    assert ord("⠀") == BRAILLE


def test_many_curves_are_told_by_number() -> None:
    many = [Series(f"n{place}", [(1, place), (2, place)], place=place) for place in range(60)]
    assert (
        " more curves are drawn without a name"
        in draw(many, title="t", x_name="round", width=80, height=12, colour=False)[-1]
    )


# --- rounds --------------------------------------------------------------------------------------------------------
def test_rounds_lie_in_their_aggregators_lane_and_time() -> None:
    rounds = [Made(1, 1, "a", 110.0, 10.0, 3, 0), Made(2, 2, "b", 140.0, 20.0, 2, 1)]
    drawing = rounds_chart(rounds, [(1, "a", 100.0), (2, "b", 115.0)], {"a": "ada"}, title="t", width=400)
    bars = [shape for shape in drawing.shapes if isinstance(shape, Box) and shape.style.startswith("series")]
    assert [bar.title.partition(":")[0] for bar in bars] == ["round 1", "round 2"]
    assert bars[1].y > bars[0].y
    assert abs(bars[1].width + 1 - 2 * (bars[0].width + 1)) < 1e-6
    assert abs((bars[1].x - bars[0].x) - 2 * (bars[0].width + 1)) < 1e-6
    assert [shape.title for shape in drawing.shapes if isinstance(shape, Box) and shape.style == "bad"] == [
        bars[1].title
    ]
    labels = {shape.text for shape in drawing.shapes if isinstance(shape, Label)}
    assert {"ada", "b", "term 1", "term 2", "1", "2"} <= labels
    assert "refused" in bars[1].title


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e9])
def test_rounds_of_any_length_are_drawn(seconds: float) -> None:
    made = [Made(number, 1, "a", 1e9 + number * seconds, seconds, 1, 0) for number in range(50)]
    drawing = rounds_chart(made, [], {}, title="t")
    assert all(shape.width >= 1 for shape in drawing.shapes if isinstance(shape, Box))
    ET.fromstring(svg(drawing))


# --- spans ---------------------------------------------------------------------------------------------------------
BUSY = [
    Span("a", 1, "train", "", 100.0, 4.0),
    Span("a", 1, "upload", "b", 104.0, 1.0, 2_000_000),
    Span("a", 1, "wait", "", 105.0, 5.0),
    Span("b", 1, "train", "", 100.0, 8.0),
    Span("b", 1, "aggregate", "", 108.0, 2.0),
    Span("b", 2, "task.shuffle", "", 110.0, 1.0),
]


def test_every_node_has_a_lane_and_every_span_its_place() -> None:
    drawing = spans_chart(BUSY, [(1, "b", 101.0)], [(1, 110.0)], {"a": "ada", "b": "ben"}, title="t", width=400)
    bars = {shape.title.partition(":")[0]: shape for shape in drawing.shapes if isinstance(shape, Box) and shape.title}
    assert set(bars) == {
        *("train in round 1", "upload with ben in round 1", "aggregate in round 1", "task.shuffle in round 2"),
    }
    bars = {title: shape for title, shape in bars.items() if "train" not in title}
    trains = [shape for shape in drawing.shapes if isinstance(shape, Box) and shape.title.startswith("train")]
    assert trains[1].width == pytest.approx(2 * trains[0].width)  # twice as long
    assert trains[1].y > trains[0].y  # below the other node's
    upload, aggregate = bars["upload with ben in round 1"], bars["aggregate in round 1"]
    assert upload.title.endswith("1 s, 2 MB")
    assert upload.x == pytest.approx(trains[0].x + trains[0].width)
    assert aggregate.x == pytest.approx(trains[1].x + trains[1].width)
    assert trains[1].y < aggregate.y < trains[1].y + 28
    strokes = [shape.title for shape in drawing.shapes if isinstance(shape, Stroke) and shape.title]
    assert [title.partition(":")[0] for title in strokes] == [
        *("round 1 is committed", "wait in round 1", "elected in term 1"),
    ]
    labels = {shape.text for shape in drawing.shapes if isinstance(shape, Label)}
    assert {"ada", "ben", "train", "upload", "wait", "aggregate", "task.shuffle", "term 1"} <= labels
    assert seconds_by_name(BUSY) == {
        "a": {"train": 4.0, "upload": 1.0, "wait": 5.0},
        "b": {"train": 8.0, "aggregate": 2.0, "task.shuffle": 1.0},
    }


def test_of_a_long_run_the_newest_rounds_are_drawn() -> None:
    spans = [
        Span(f"n{node:03}", number, "train", "", 10.0 * number, 3.0) for node in range(60) for number in range(500)
    ]
    assert {span.round for span in newest_that_fit(spans, 600)} == set(range(490, 500))
    assert {span.round for span in newest_that_fit(spans, 5)} == {499}
    assert newest_that_fit(spans, 30_000) == spans
    assert newest_that_fit([], 5) == []
    drawing = spans_chart(spans, [], [], {}, title="t", width=960)  # bars too narrow to be told apart become one
    bars = [shape for shape in drawing.shapes if isinstance(shape, Box) and shape.title]
    assert len(bars) <= LANES_MAX * 500
    names = {shape.text for shape in drawing.shapes if isinstance(shape, Label) and shape.anchor == "end"}
    assert len(names) == LANES_MAX
    dense = [Span("a", number, "train", "", number * 1.0, 0.9) for number in range(100_000)]
    (bar,) = [s for s in spans_chart(dense, [], [], {}, title="t").shapes if isinstance(s, Box) and s.title]
    assert bar.title.startswith("train, 100000 times in rounds 0 to 99999")


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e9])
def test_spans_of_any_length_are_drawn(seconds: float) -> None:
    spans = [Span("a", number, "fetch", "b", 1e9 + number * seconds, seconds) for number in range(50)]
    drawing = spans_chart(spans, [], [], {}, title="t")
    assert all(shape.width >= 1 for shape in drawing.shapes if isinstance(shape, Box))
    ET.fromstring(svg(drawing))
    ET.fromstring(svg(spans_chart([], [], [], {}, title="none")))
