"""The run view's drawings: a part of the curves, the cursor, marks, and the Gantt chart."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tui.drawing.axes import SPAN_LEAST, Frame, place_text, place_ticks
from tui.drawing.chart import Mark, draw_chart, extent, inside, place_at, places_of
from tui.drawing.gantt import SIGNS, Lane, draw_gantt
from tui.facts.curves import CurveSet, Kind
from tui.facts.spans import Span

KIND = Kind("global", "eval", "accuracy")
NODES = {"a": [(at, at / 10) for at in range(1, 10)], "b": [(at, 1 - at / 10) for at in range(1, 9)]}
CURVES = CurveSet(KIND, NODES, [(at, 0.5) for at in range(1, 10)])
NAMES = {"a": "anna", "b": "ben"}
FRAMES = st.builds(
    lambda low, span, cursor: Frame("round", low, low + span, cursor),
    st.floats(0, 80),
    st.floats(2, 20),
    st.none() | st.floats(0, 100),
)


# Which part is looked at


@given(FRAMES | st.just(Frame()), st.lists(st.sampled_from(["in", "out", "left", "right", "pan", "back"]), max_size=30))
def test_whatever_one_presses_a_part_of_what_there_is_stays_in_sight(frame, presses):
    places = [float(at) for at in range(101)]
    for press in presses:
        match press:
            case "in" | "out":
                frame = frame.zoomed(0.5 if press == "in" else 2.0, 0.0, 100.0)
            case "left" | "right":
                frame = frame.moved(-1 if press == "left" else 1, places)
                assert frame.cursor in places
            case _:
                frame = frame.panned(0.25 if press == "pan" else -0.25, 0.0, 100.0)
        low, high = frame.window(0.0, 100.0)
        assert high - low >= SPAN_LEAST["round"] - 1e-9
        assert low >= -1e-9
        assert high <= 100 + 1e-9


def test_closer_is_about_the_cursor_and_farther_ends_at_the_whole():
    closer = Frame(cursor=20.0).zoomed(0.5, 0.0, 100.0)
    assert (closer.low, closer.high) == (10.0, 60.0)
    assert closer.zoomed(2.0, 0.0, 100.0) == Frame(cursor=20.0)
    assert Frame().zoomed(0.5, 0.0, 100.0).window(0.0, 100.0) == (25.0, 75.0)
    assert Frame().panned(0.25, 0.0, 100.0) == Frame(), "of the whole there is nothing beside it"


def test_the_cursor_begins_at_the_right_and_takes_what_is_looked_at_with_it():
    places = [float(at) for at in range(101)]
    frame = Frame("round", 10.0, 20.0).moved(-1, places)
    assert frame.cursor == 20.0
    for _ in range(11):
        frame = frame.moved(-1, places)
    assert (frame.cursor, frame.low <= 9.0 <= frame.high) == (9.0, True)
    assert frame.moved(-2, places).cursor == 8.0, "a leap is a tenth of what is in sight"
    assert Frame(cursor=50.0).moved(2, places).cursor == 60.0
    assert Frame().moved(1, []) == Frame()


# Axes


@pytest.mark.parametrize(
    ("low", "high", "count", "texts"),
    [
        (0, 100, 4, ["0:00", "0:30", "1:00", "1:30"]),
        (0, 6.5, 3, ["0:00", "0:05"]),
        (3000, 9000, 3, ["1:00:00", "2:00:00"]),
        (0, 900_000, 3, ["0:00", "96:00:00", "192:00:00"]),
    ],
)
def test_time_is_marked_at_whole_minutes_and_hours(low, high, count, texts):
    assert [place_text("time", tick) for tick in place_ticks("time", low, high, count)] == texts


def test_rounds_are_whole_numbers_however_close_one_looks():
    assert place_ticks("round", 3.2, 5.9, 12) == [4.0, 5.0]
    assert [place_text("round", place) for place in (4.0, 4.5)] == ["4", "4.5"]


# Curves


@given(
    st.dictionaries(st.integers(0, 50), st.floats(-5, 5), min_size=1, max_size=30),
    st.floats(0, 50),
    st.floats(0.5, 50),
)
def test_a_part_of_a_line_reaches_to_the_edges_and_never_beyond(points, low, span):
    points = sorted((float(at), value) for at, value in points.items())
    high = low + span
    assume(high > low)
    kept = inside(points, low, high)
    assert all(low <= at <= high for at, _ in kept)
    assert [point for point in points if low <= point[0] <= high] == [point for point in kept if point in points]
    if points[0][0] <= low and points[-1][0] >= high:
        assert (kept[0][0], kept[-1][0]) == (low, high)


def test_a_part_of_the_curves_has_a_scale_of_its_own():
    drawn = draw_chart(CURVES, NAMES, 40, 8, frame=Frame("round", 7.0, 9.0)).plain()
    assert "0.9000 anna" in drawn
    assert "0.2000 ben" in drawn
    assert " 3 " not in drawn.splitlines()[-1]


def test_under_the_cursor_everybodys_value_is_read():
    drawn = draw_chart(CURVES, NAMES, 44, 9, frame=Frame(cursor=3.0), marks=[Mark(3.0, "♛", "crown", "anna elected")])
    text = drawn.plain()
    assert "0.3000 anna" in text
    assert "0.7000 ben" in text
    assert "0.5000 mean" in text
    assert "round 3  ♛ anna elected" in text
    assert "▲" in text
    late = draw_chart(CURVES, NAMES, 44, 9, frame=Frame(cursor=9.0)).plain()
    assert "0.2000 ben" in late, "the last that was measured"
    narrow = draw_chart(CURVES, NAMES, 30, 9, frame=Frame(cursor=3.0)).plain()
    assert "mean 0.5000" in narrow


def test_marks_stand_on_the_axis_and_the_weightiest_has_the_place():
    marks = [
        Mark(4.0, "♛", "crown", "x"),
        Mark(4.0, "✗", "bad", "y"),
        Mark(6.5, "⊘", "warn", "z"),
        Mark(99, "!", "", ""),
    ]
    drawn = draw_chart(CURVES, NAMES, 60, 9, marks=marks).plain()
    axis = next(line for line in drawn.splitlines() if "└" in line)
    assert axis.count("♛") == axis.count("⊘") == 1
    assert not set("✗!") & set(drawn)


def test_curves_without_a_mean_are_drawn_as_they_are():
    drawn = draw_chart(CurveSet(KIND, {"run-1": [(1, 0.5), (2, 0.7)]}, []), {"run-1": "first"}, 44, 8).plain()
    assert "0.7000 first" in drawn
    assert "mean" not in drawn


def test_a_part_without_figures_says_how_to_get_back():
    drawn = draw_chart(CURVES, NAMES, 60, 9, frame=Frame("round", 50.0, 60.0)).plain()
    assert "0 shows all of the run" in drawn


def test_an_axis_has_its_name():
    for axis in ("round", "step", "time"):
        curves = CurveSet(KIND, NODES, [], axis)
        assert draw_chart(curves, NAMES, 60, 9).plain().splitlines()[-1].rstrip().endswith(axis)


@given(FRAMES | st.just(Frame()), st.integers(0, 70), st.integers(0, 20), st.sampled_from(["round", "step", "time"]))
def test_any_part_fits_any_size(frame, width, height, axis):
    curves = CurveSet(KIND, NODES, CURVES.mean, axis)
    marks = [Mark(at, "✗", "bad", "日本語 " * 20) for at in (0.5, 3.0, 8.9)]
    frame = Frame(axis, frame.low, frame.high, frame.cursor)
    drawn = draw_chart(curves, NAMES, width, height, "a", frame=frame, marks=marks)
    assert (drawn.width, len(drawn.lines)) == (width, height)


def test_a_column_of_the_drawing_is_a_place_on_the_axis():
    assert place_at(5, CURVES, NAMES, 60, 9) == 1.0
    assert place_at(2, CURVES, NAMES, 60, 9) is None
    assert place_at(59, CURVES, NAMES, 60, 9) is None
    columns = [place_at(column, CURVES, NAMES, 60, 9) for column in range(60)]
    assert [place for place in dict.fromkeys(columns) if place] == places_of(CURVES)
    assert extent(CURVES) == (1.0, 9.0)


# Gantt


def work(node, *parts, round=1, began=0.0):
    spans = []
    for name, seconds in parts:
        spans.append(Span(node, round, name, began, began + seconds))
        began += seconds
    return spans


def test_every_kind_of_work_has_a_sign_of_its_own():
    assert len({sign for sign, _ in SIGNS.values()}) == len(SIGNS) == 7
    spans = work("a", ("fetch", 1), ("train", 4), ("encode", 1), ("upload", 1), ("aggregate", 2), ("evaluate", 1))
    spans += work("b", ("fetch", 1), ("train", 2), ("upload", 1), ("wait", 5), ("evaluate", 1))
    spans += work("a", ("fetch", 1), ("task.load", 4), ("train", 5), round=2, began=10.0)
    spans += work("b", ("train", 10), round=2, began=10.0)
    drawn = draw_gantt(spans, [Lane("a", "♛ anna"), Lane("b", "  ben")], {1: 10.0}, 48, 6).plain()
    assert drawn.splitlines() == [
        "        round 1             round 2",
        "♛ anna  ↓↓████████▒▒↑↑ΣΣΣΣ◆◆↓↓▪▪▪▪▪▪▪▪██████████",
        "  ben   ↓↓████↑↑··········◆◆████████████████████",
        "",
        "        ┴0:00───────────────┴0:10───────────────",
        "█ train  ◆ evaluate  ▒ encode  ↑ upload  ↓ fetc…",
    ]


def test_work_that_took_no_time_is_told_and_waiting_gives_way():
    spans = [Span("a", 1, "wait", 0.0, 100.0), Span("a", 1, "encode", 50.0, 50.0), Span("a", 1, "train", 80.0, 82.0)]
    drawn = draw_gantt(spans, [Lane("a", "anna")], {}, 56, 5).plain()
    assert "█" in drawn.splitlines()[1], "two seconds of two that one sign stands for"
    assert "round 1" in drawn


def test_more_nodes_than_rows_are_told_of_and_can_be_reached():
    lanes = [Lane(f"n{i}", f"node-{i}") for i in range(20)]
    spans = [span for lane in lanes for span in work(lane.node_id, ("train", 5))]
    first = draw_gantt(spans, lanes, {}, 60, 10).plain()
    assert "node-0" in first
    assert "and 14 more below" in first
    last = draw_gantt(spans, lanes, {}, 60, 10, first=13).plain()
    assert "node-19" in last
    assert "more" not in last


@pytest.mark.parametrize("size", [(0, 0), (1, 1), (24, 4), (30, 5), (200, 60)])
def test_a_gantt_chart_fits_any_size(size):
    spans = work("a", ("train", 1e9)) + work("b", ("wait", 0.0))
    drawn = draw_gantt(spans, [Lane("a", "日本語日本語日本語"), Lane("b", "b")], {1: 5.0}, *size)
    assert len(drawn.lines) == size[1]
    assert all(len("".join(span.text for span in line)) <= size[0] for line in drawn.lines)
    assert draw_gantt([], [], {}, *size).height == size[1]
