"""Drawings: dots, curves, the ring of nodes, tables. Drawn as text, so that a failure shows the picture."""

import math
from itertools import pairwise
from textwrap import dedent, indent

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tui.drawing.chart import End as CurveEnd
from tui.drawing.chart import Scale, chosen_ends, draw_chart, nice_ticks, spread, thinned, tick_text
from tui.drawing.grid import Cell, Column, ListRows, Row, fit, heading, line
from tui.drawing.lines import cut, spaced
from tui.drawing.picture import Canvas, Span
from tui.drawing.topology import NODES_SHOWN_MAX, Place, Scene, Topology
from tui.drawing.words import bar, bytes_text, seconds_text, shortened, value_text
from tui.facts.curves import CurveSet, Kind
from tui.facts.nodes import Transfer

KIND = Kind("global", "eval", "accuracy")


def curve_set(nodes, mean):
    return CurveSet(KIND, nodes, mean)


def picture_of(text, margin=0):
    return indent(dedent(text).strip("\n"), " " * margin)


# Canvas


def test_dots_of_crossing_lines_all_show_in_the_style_of_the_weightier():
    canvas = Canvas(1, 1)
    canvas.dot(0, 0, "strong", 2)
    canvas.dot(1, 3, "weak", 1)
    assert canvas.picture().lines == ((Span("⢁", "strong"),),)


def test_drawing_outside_is_cut_off():
    canvas = Canvas(4, 2)
    canvas.line(-50, -50, 60, 60, "")
    canvas.write(-2, 0, "abcd")
    canvas.write(3, 1, "xyz")
    canvas.write(0, 9, "no")
    assert canvas.picture().plain() == "cd\n  ⠑x"


def test_a_wide_character_takes_its_two_cells_and_a_combining_one_none():
    canvas = Canvas(5, 1)
    canvas.write(0, 0, "日e\u0301x")
    canvas.write(4, 0, "日")
    assert canvas.picture().plain() == "日ex"


# Curves


def test_curves_are_named_where_they_end():
    nodes = {"a": [(1, 0.2), (2, 0.6), (3, 0.8)], "b": [(1, 0.1), (2, 0.3), (3, 0.4)]}
    mean = [(1, 0.15), (2, 0.45), (3, 0.6)]
    drawn = draw_chart(curve_set(nodes, mean), {"a": "ward-1", "b": "ward-2"}, 44, 10).plain()
    assert drawn == picture_of(
        """
        0.8 ┤                    ⣀⡠⠤⠒─ 0.8000 ward-1
            │              ⢀⣀⠤⠔⠊⠉
        0.6 ┤          ⢀⠤⠒⠉⠁    ⢀⣀⣠⣤⠶━ 0.6000 mean
            │       ⢀⡠⠒⠁  ⣀⣠⣤⡴⠶⠛⠋⠉⠁
        0.4 ┤     ⡠⠔⠁ ⡠⡤⠮⠛⠉⠁    ⢀⣀⣀⡠⠤─ 0.4000 ward-2
            │  ⡠⠔⠉⡠⡤⠮⠋⠉⣀⡠⠤⠔⠒⠒⠊⠉⠉⠁
        0.2 ┤⠔⡪⡤⠮⣋⡩⠤⠒⠊⠉
            │⠯⠛⠊⠉
            └┬───────────┬──────────┬
             1           2          3 round
        """
    )


def test_without_metrics_the_chart_says_so():
    drawn = draw_chart(None, {}, 40, 6).plain()
    assert "no metrics yet" in drawn
    assert draw_chart(curve_set({}, []), {}, 40, 6).plain() == drawn


@pytest.mark.parametrize("size", [(0, 0), (1, 1), (8, 3), (14, 5), (39, 9), (200, 60)])
def test_a_chart_fits_any_size(size):
    nodes = {f"n{i}": [(1, 0.1 * i), (2, 0.2 * i)] for i in range(9)}
    drawn = draw_chart(curve_set(nodes, [(1, 0.4), (2, 0.8)]), {}, *size)
    assert (drawn.width, drawn.height, len(drawn.lines)) == (*size, size[1])
    assert all(sum(len(span.text) for span in line) <= size[0] for line in drawn.lines)


@given(
    st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=30),
    st.integers(0, 10**6),
    st.integers(1, 60),
    st.integers(1, 20),
)
@example([5e-324], 0, 60, 20)
@example([5e-324, -5e-324], 0, 60, 20)
def test_any_values_can_be_drawn(values, first_round, width, height):
    points = [(first_round + i, value) for i, value in enumerate(values)]
    draw_chart(curve_set({"n": points}, points), {}, width, height)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 12))
def test_ticks_are_round_ascending_inside_and_told_apart(low, span, count):
    assume(low + span > low + abs(low) * 1e-9)
    ticks = nice_ticks(low, low + span, count)
    assert 2 <= len(ticks) <= 3 * count
    steps = [b - a for a, b in pairwise(ticks)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-3) for step in steps)
    assert ticks[0] >= low - span * 1e-6
    assert ticks[-1] <= low + span * (1 + 1e-6)


def test_tick_labels_have_the_decimals_they_need():
    assert [tick_text(tick, ticks) for ticks in ([0.0, 0.5, 1.0],) for tick in ticks] == ["0.0", "0.5", "1.0"]
    assert [tick_text(tick, ticks) for ticks in ([0.0, 20.0, 40.0],) for tick in ticks] == ["0", "20", "40"]
    assert tick_text(2.305, [2.3, 2.305]) == "2.305"


@given(st.lists(st.floats(0, 1), min_size=50, max_size=400))
def test_thinning_keeps_the_extremes_of_every_column(values):
    points = list(enumerate(values))
    scale = Scale(0, len(values) - 1, 0.0, 1.0, 20, 40)
    kept = thinned(points, scale)
    assert len(kept) <= 20 * 4
    for column in {scale.x(at) for at, _ in points}:
        rows = [scale.y(value) for at, value in points if scale.x(at) == column]
        drawn = [y for x, y in kept if x == column]
        assert (min(rows), max(rows), rows[-1]) == (min(drawn), max(drawn), drawn[-1])


def test_names_at_the_edge_never_share_a_row():
    ends = [CurveEnd(3, f"n{i}", 1.0 - i / 10, "") for i in range(6)]
    placed = spread(ends, 6)
    assert [row for row, _ in placed] == [0, 1, 2, 3, 4, 5]
    assert [end.name for _, end in placed] == [f"n{i}" for i in range(6)]
    assert len(spread(ends, 3)) == 3


def test_of_many_curves_the_mean_and_the_outermost_are_named():
    ends = [CurveEnd(0, "mean", 0.5, "mean"), *(CurveEnd(0, f"n{i}", i / 100, "") for i in range(50))]
    names = [end.name for end in chosen_ends(ends, 10)]
    assert names == ["mean", "n0", "n1", "n48", "n49"]


# Topology


def place(i, **marks):
    return Place(f"n{i}", f"ward-{i}", **{"state": "TRAINING", **marks})


FOUR = Scene((place(0, ourselves=True), place(1, here=False), place(2, aggregator=True), place(3, state="")))


def test_the_ring_names_and_marks_every_node():
    assert Topology(FOUR, 46, 9).picture([], 0.0, 2.0).plain() == picture_of(
        """
                              ◐ ward-0 (us)
                             ⠄⢸
                           ⠄  ⢸
                         ⠄    ⢸
                ward-3 ○      ⢸       ✗ ward-1 away
                              ⢸
                              ⢸
                              ⢸
                              ♛ ward-2 aggregator
        """,
        margin=8,
    )


def test_an_arrow_moves_from_sender_to_receiver():
    ring = Topology(FOUR, 60, 15)
    update = Transfer("r", "n0", "n2", "update", 1, 1, at=0.0)
    rows = []
    for now in (0.0, 0.9, 1.9):
        lines = ring.picture([update], now, 2.0).plain().split("\n")
        rows.append(next(y for y, line in enumerate(lines) if "↓" in line))
    assert rows == sorted(set(rows))
    back = Transfer("r", "n2", "n0", "checkpoint", 1, 1, at=0.0)
    assert "⇑" in ring.picture([back], 1.0, 2.0).plain()


def test_a_transfer_with_somebody_unknown_or_with_itself_is_not_drawn():
    ring = Topology(FOUR, 60, 15)
    still = ring.picture([], 0.0, 2.0)
    odd = [Transfer("r", "n0", "stranger", "update", 1, 1, 0.0), Transfer("r", "n0", "n0", "update", 1, 1, 0.0)]
    assert ring.picture(odd, 1.0, 2.0) == still


@pytest.mark.parametrize("size", [(0, 0), (1, 1), (12, 3), (44, 16), (200, 50)])
@pytest.mark.parametrize("count", [0, 1, 2, 50, 600])
def test_a_ring_fits_any_size(size, count):
    scene = Scene(tuple(place(i, ourselves=i == 0, aggregator=i == 1) for i in range(count)))
    drawn = Topology(scene, *size).picture([], 0.0, 2.0)
    assert len(drawn.lines) == size[1]
    if count > NODES_SHOWN_MAX and size == (200, 50):
        assert f"and {count - NODES_SHOWN_MAX} more" in drawn.plain()


@pytest.mark.parametrize("count", [2, 5, 12, 50, 90])
@pytest.mark.parametrize("size", [(30, 10), (44, 14), (72, 30)])
def test_the_aggregator_is_named_as_such_in_any_crowd(count, size):
    scene = Scene(tuple(place(i, ourselves=i == 0, aggregator=i == 1) for i in range(count)))
    drawn = Topology(scene, *size).picture([], 0.0, 2.0).plain()
    assert "♛" in drawn
    assert "aggregator" in drawn


# Tables


COLUMNS = (Column("name", 6, 10), Column("state", 4, 4), Column("n", 3, 5, 2, right=True), Column("note", 5, 20, 1))
ROWS = ListRows([Row("a", (Cell("anna"), Cell("here"), Cell("12"), Cell("a longer note")))])


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (40, "anna   here  12 a longer note"),
        (21, "anna   here  12 a lo…"),
        (18, "anna   here a lon…"),
        (11, "anna   here"),
        (4, "anna"),
        (3, "an…"),
    ],
)
def test_columns_share_the_width_and_the_least_important_go_first(width, expected):
    fitted = fit(COLUMNS, ROWS, width)
    drawn = line(ROWS[0], fitted, width)
    assert "".join(span.text for span in drawn).rstrip() == expected
    assert sum(len(span.text) for span in drawn) == width
    assert sum(len(span.text) for span in heading(fitted, width)) == width


def test_a_line_with_text_at_both_edges():
    assert "".join(span.text for span in spaced([Span("left")], [Span("right")], 12)) == "left   right"
    assert "".join(span.text for span in spaced([Span("left")], [Span("right")], 9)) == "left rig…"
    assert cut([Span("abc"), Span("def")], 5) == (Span("abc"), Span("d…"))


# Words


def test_figures_in_words():
    assert [bytes_text(n) for n in (0, 999, 1_000, 12_340_000, 999_960_000, 2_500_000_000_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "12.3 MB",
        "1.0 GB",
        "2500 TB",
    ]
    assert [value_text(v) for v in (None, 0.0, 0.91234, 12.3456, 123456.0, -0.5, 1e-7, 1e12)] == [
        "–",
        "0.0000",
        "0.9123",
        "12.346",
        "123456",
        "-0.500",
        "1e-07",
        "1e+12",
    ]
    assert [seconds_text(s) for s in (None, 3.21, 42.4, 250, 7500, 400_000)] == [
        "–",
        "3.2 s",
        "42 s",
        "4 min 10 s",
        "2 h 05 min",
        "4 d 15 h",
    ]
    assert [bar(part, 4) for part in (0.0, 0.5, 0.53125, 1.0, 7.0)] == ["░░░░", "██░░", "██▏░", "████", "████"]
    assert [shortened("abcdef", width) for width in (6, 4, 1, 0)] == ["abcdef", "abc…", "…", ""]
