"""Where nodes stand and what their links say: rings, rows for crowds, members together, the way of the arrows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.store import Store
from tracker.tables.rows import NodeRow, StatusRow, SystemMetricRow
from tui.drawing.rings import nearest_towards, ring, rows_apart, rows_filled
from tui.drawing.topology import Place, Scene, Topology, steady
from tui.drawing.words import rtt_text
from tui.facts.asks import asking
from tui.facts.devices import devices_of
from tui.feeds.store import StoreFeed


def place(i, **marks):
    return Place(f"n{i:03}", f"ward-{i}", **{"state": "TRAINING", **marks})


def drawn(places, width, height, selected=""):
    return Topology(Scene(tuple(places)), width, height).picture([], 0.0, 2.0, selected).plain()


@given(st.integers(0, 300), st.integers(1, 220), st.integers(1, 70), st.integers(0, 40))
def test_signs_of_a_ring_never_touch(count, width, height, label):
    spots = ring(count, width, height, label)
    assert len(spots) in (0, count)
    if count > 2 and spots:
        assert len(set(spots)) == count
        assert not {(x + 1, y) for x, y in spots} & set(spots)


def test_a_crowd_stands_in_rows_each_member_after_its_name_as_long_as_there_are_rows_for_that():
    assert rows_apart([2, 3], 4, 9, 3) == [(4, 0), (6, 0), (4, 1), (6, 1), (4, 2)]
    assert rows_apart([2, 3], 4, 9, 2) == []
    assert rows_filled(5, 7, 2) == [(1, 0), (3, 0), (5, 0), (1, 1), (3, 1)]
    assert len(rows_filled(50, 7, 2)) == 6
    crowd = [place(i, member="anna" if i % 3 else "ben", aggregator=i == 1) for i in range(30)]
    assert drawn(crowd, 40, 6) == "\n".join(
        [
            "anna  ♛ ◐ ◐ ◐ ◐ ◐ ◐ ◐ ◐ ◐ ◐ ◐ ◐ ◐ ◐ ◐ ◐",
            "      ◐ ◐ ◐",
            "ben   ◐ ◐ ◐ ◐ ◐ ◐ ◐ ◐ ◐ ◐",
            "",
            "",
            "♛ ward-1 aggregator",
        ]
    )


def test_where_not_even_rows_have_room_the_rest_is_counted_and_the_weightiest_stay():
    crowd = [place(i, aggregator=i == 299, ourselves=i == 298) for i in range(300)]
    picture = drawn(crowd, 30, 5)
    assert picture.count("◐") + picture.count("♛") - 1 == 56
    assert "and 244 more" in picture
    assert Topology(Scene(tuple(crowd)), 30, 5).order[-2:] == ("n298", "n299")


def test_a_members_nodes_stand_together_and_are_in_brackets_when_one_is_selected():
    places = [place(i, member=member) for i, member in enumerate(("anna", "ben", "anna", "ben"))]
    ground = Topology(Scene(tuple(places)), 60, 15)
    assert ground.order == ("n000", "n002", "n001", "n003")
    picture = ground.picture([], 0.0, 2.0, "n001").plain()
    assert picture.count("▸◐◂") == 1
    assert picture.count("(◐)") == 1
    assert "ward-1 training · ben" in picture
    assert "·" not in drawn([place(0, member="anna"), place(1, member="ben")], 60, 15), "everybody owns one"


def test_links_say_their_time_their_rate_and_that_they_are_relayed():
    ours = place(0, ourselves=True)
    far = place(1, rtt_s=0.1234, rate=2.5e6, relayed=True)
    assert "123 ms 2.5 MB/s relayed" in drawn([ours, far], 70, 15)
    assert "123 ms relayed" in drawn([ours, far], 44, 15)
    assert "ms" not in drawn([ours, far], 44, 3), "too near for a word between them"
    assert "ms" not in drawn([ours, place(1, rtt_s=0.1, here=False)], 70, 15)
    assert [rtt_text(seconds) for seconds in (0.0004, 0.0099, 0.01, 0.2499, 1.26)] == [
        *("0.4 ms", "9.9 ms", "10 ms", "250 ms", "1.3 s")
    ]


def test_figures_that_look_alike_draw_one_and_the_same_scene():
    one, other = (place(1, rtt_s=rtt, rate=rate) for rtt, rate in ((0.01234, 2_512_345.0), (0.01238, 2_480_000.0)))
    assert steady(one) == steady(other)
    assert steady(place(1, rate=900.0)) == place(1)


SPOTS = {"top": (20, 0), "left": (5, 5), "right": (35, 5), "low": (20, 10)}


@pytest.mark.parametrize(
    ("start", "direction", "expected"),
    [
        *[("top", (0, 1), "low"), ("low", (0, -1), "top"), ("left", (1, 0), "right"), ("right", (-1, 0), "left")],
        *[("top", (0, -1), "top"), ("left", (-1, 0), "left"), ("nobody", (1, 0), "nobody"), ("top", (1, 0), "right")],
    ],
)
def test_arrows_go_to_the_next_node_in_their_direction(start, direction, expected):
    assert nearest_towards(SPOTS, start, *direction) == expected


@given(st.dictionaries(st.text(max_size=3), st.tuples(st.integers(0, 60), st.integers(0, 30)), min_size=2))
def test_arrows_lead_nowhere_else(spots):
    for start in spots:
        for dx, dy in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            there = nearest_towards(spots, start, dx, dy)
            moved = (spots[there][0] - spots[start][0]) * dx + (spots[there][1] - spots[start][1]) * dy
            assert there == start or moved > 0


def test_a_node_is_found_at_its_sign_and_at_its_name():
    ground = Topology(Scene((place(0, ourselves=True), place(1))), 60, 15)
    lines = ground.picture([], 0.0, 2.0).plain().splitlines()
    row = next(y for y, line in enumerate(lines) if "ward-1" in line)
    x = lines[row].index("ward-1")
    assert ground.node_at(x + 3, row) == ground.node_at(lines[row].index("◐"), row) == "n001"
    assert ground.node_at(0, 5) == ""


def test_a_stopped_nodes_record_fills_the_same_screen(tmp_path):
    path = tmp_path / "record.duckdb"
    store = Store(path)
    at = 1_800_000_000.0
    store.write([NodeRow("n", "ward", "m", "1", "{}", at)])
    store.write(
        [SystemMetricRow("n", "", "host", "cpu_percent", "", 9.0, "percent", 0, at + 60 * i, "n", i) for i in (1, 2)]
    )
    store.write([StatusRow("", "n", "STARTED", "", 0, at, 1, "n"), StatusRow("", "other", "HERE", "", 0, at, 2, "n")])
    store.close()
    feed = StoreFeed(path)
    try:
        devices = devices_of(feed._answer(asking("devices").parts, {"points": 96}))
    finally:
        feed.close()
    assert [value for _, value in devices.of("n").points("cpu_percent")] == [9.0, 9.0]
    assert [change.state for change in devices.of("other").history] == ["HERE"]
