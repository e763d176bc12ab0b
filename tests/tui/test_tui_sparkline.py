"""Sparklines: what is known is always seen, what nobody knows never; and the facts that they are drawn of."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tui.drawing.sparkline import BLOCKS, columns, sparkline, tall_sparkline
from tui.facts.devices import Device, devices_of


def test_levels_go_from_the_lowest_block_to_the_full_one_and_stay_inside():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 0, 7) == BLOCKS
    assert sparkline([-5, None, 99], 0, 7) == "▁ █"
    assert sparkline([3, 3], 3, 3) == "▁▁"


def test_rows_stand_on_each_other():
    assert tall_sparkline([0, 50, 100, None], 0, 100, 2) == [" ▁█ ", "▁██ "]
    assert tall_sparkline([0, 50, 100, None], 0, 100, 1) == [sparkline([0, 50, 100, None], 0, 100)]


def test_columns_are_means_and_the_newest_point_has_its_place():
    points = [(float(at), float(at)) for at in range(1, 11)]
    assert columns(points, 0.0, 10.0, 5) == [1.5, 3.5, 5.5, 7.5, 9.5]
    assert columns(points, 0.0, 10.0, 0) == []
    assert columns(points, 5.0, 5.0, 2) == [None, None]
    assert columns([], 0.0, 10.0, 2) == [None, None]


def test_a_value_stands_between_points_but_not_through_an_absence():
    points = [(10.0, 1.0), (20.0, 2.0), (30.0, 3.0), (90.0, 9.0)]
    drawn = columns(points, 0.0, 100.0, 20)
    assert drawn[:8] == [None, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 3.0]
    assert drawn[11:17] == [None] * 6
    assert drawn[17:] == [9.0, 9.0, 9.0]


@given(
    st.lists(st.tuples(st.floats(-1e12, 1e12), st.floats(allow_nan=True)), max_size=50),
    st.floats(-1e9, 1e9),
    st.floats(0, 1e9),
    st.integers(0, 40),
    st.integers(1, 5),
)
@example([(0.0, 0.0)], 0.0, 5e-324, 2, 1)
def test_anything_can_be_drawn(points, start, span, width, height):
    drawn = columns(sorted(points, key=lambda point: point[0]), start, start + span, width)
    assert len(drawn) == width
    finite = [None if value is None or value != value or abs(value) == float("inf") else value for value in drawn]
    assert [len(row) for row in tall_sparkline(finite, 0.0, 1.0, height)] == [width] * height


def test_an_answer_becomes_lines_over_one_time():
    at = "2026-11-22T06:{:02d}:00Z".format
    samples = {"cpu_percent": [[at(30), 5], [at(40), 7.5]], "gpu_percent": [], "memory_percent": "none"}
    history = [{"time": at(1), "state": "HERE", "reason": "a"}, {"time": at(2), "state": "AWAY"}]
    read = devices_of({"devices": [{"node_id": "n", "samples": samples, "history": history}, {"node_id": "m"}]})
    device = read.of("n")
    assert [value for _, value in device.points("load_1m", "cpu_percent")] == [5.0, 7.5]
    assert (device.latest("cpu_percent"), device.latest("gpu_percent")) == (7.5, None)
    assert [change.state for change in device.history] == ["AWAY", "HERE"]
    assert read.end - read.start == 600
    assert read.of("nobody") == Device("nobody")


@pytest.mark.parametrize(
    "line",
    [None, 7, {}, [None], [[1, 2]], [["x", 1.0]], [["2026-01-01", None]], [["2026-01-01", float("nan")]], [["2026"]]],
)
def test_what_is_no_point_is_left_out(line):
    assert devices_of({"devices": [{"node_id": "n", "samples": {"k": line}}]}).of("n").samples == {}
