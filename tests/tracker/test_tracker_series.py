"""Curves: which there are, and thinned ones held against a twin that thins by hand; a run's timeline and updates."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.queries.series import POINTS_OF_SERIES_MIN, POINTS_ROWS_MAX
from tracker.store import Store
from tracker.tables.rows import ElectionRow, LogRow, MetricRow, NodeRow, RoundRow, RunRow, StatusRow

AT = 1_790_000_000.0
PLACES = st.tuples(st.integers(1, 40), st.integers(0, 2), st.integers(0, 9))
VALUES = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf]))


def metric(place, value, node="n1", key="loss", label=None, number=0, run="r1"):
    scope, split = ("global", "eval") if place[1:] == (0, 0) else ("local", "train")
    return MetricRow(run, node, scope, split, key, label, *place, value, 10, AT + place[0], node, number)


def asked(rows, name, **filters):
    store = Store(None)
    store.write(rows)
    reader = store.reader()
    try:
        return reader.query(name, {"run_id": "r1", **filters})
    finally:
        reader.close()
        store.close()


def place_of(row):
    return row["round"], row["epoch"], row["step"]


def thinned_by_hand(rows, points):
    """What must be among the thinned rows: first, last, and the extremes of each stretch; all rows where they fit."""
    if len(rows) <= points:
        return {place_of(row) for row in rows}, set()
    first, last = rows[0]["round"], rows[-1]["round"]
    steps = max(row["step"] for row in rows) + 1
    stretches = {}
    for row in rows:
        where = (row["round"] - first + row["step"] / steps) / (last + 1 - first)
        if row["value"] is not None:
            stretches.setdefault(math.floor(where * ((points - 2) // 2)), []).append(row["value"])
    extremes = {value for values in stretches.values() for value in (min(values), max(values))}
    return {place_of(rows[0]), place_of(rows[-1])}, extremes


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(PLACES, VALUES, min_size=1, max_size=120), st.integers(1, 60))
def test_a_thinned_curve_keeps_its_ends_and_what_sticks_out(curve, points):
    rows = [metric(place, value, number=at) for at, (place, value) in enumerate(curve.items())]
    filters = {"scope": "local", "split": "train", "key": "loss", "class": "", "node": "n1"}
    whole = asked(rows, "metrics", **filters)
    got = asked(rows, "metric_points", points=points, **filters)
    assert all(row in whole for row in got), "only real rows"
    assert got == sorted(got, key=place_of)
    if whole:
        points = max(points, POINTS_OF_SERIES_MIN)
        assert len(got) <= points
        ends, extremes = thinned_by_hand(whole, points)
        assert ends <= {place_of(row) for row in got}
        assert extremes <= {row["value"] for row in got}


def test_of_a_figure_told_twice_the_last_counts_also_when_thinned():
    rows = [metric((at, 0, 0), 1.0, number=at) for at in range(1, 101)]
    rows += [metric((50, 0, 0), 900.0, number=150), metric((50, 0, 0), 2.0, number=151)]
    values = [row["value"] for row in asked(rows, "metric_points", points=10, node="n1")]
    assert max(values) == 2.0


def test_means_are_thinned_as_curves_of_their_own():
    rows = [metric((at, 0, 0), float(at), node, number=at) for at in range(1, 101) for node in ("n1", "n2")]
    got = asked(rows, "metric_points", points=10, node="")
    assert {row["node_id"] for row in got} == {""}
    assert (got[0]["round"], got[-1]["round"], len(got) <= 10) == (1, 100, True)
    everything = asked(rows, "metric_points", points=10)
    assert [row for row in everything if row["node_id"] == ""] == got


def test_a_window_and_a_class_are_thinned_by_themselves():
    rows = [metric((at, 0, 0), float(at), label=label, number=at * 2 + (label is None)) for at in range(1, 101)
            for label in (None, "cat")]  # fmt: skip
    got = asked(rows, "metric_points", points=20, after_round=40, before_round=50, node="n1", **{"class": ""})
    assert [row["round"] for row in got] == list(range(41, 50))
    assert {row["class"] for row in got} == {None}
    assert {row["class"] for row in asked(rows, "metric_points", points=4, **{"class": "cat"})} == {"cat"}
    assert {row["class"] for row in asked(rows, "metrics", **{"class": ""})} == {None}


def test_all_curves_of_an_answer_together_are_bounded():
    series, length = 400, 80
    store = Store(None)
    store._connection.execute(
        "INSERT INTO metrics SELECT 'r1', 'n' || (i % ?), 'local', 'train', 'loss', NULL, 1 + i // ?, 1, 0, random(), "
        "1, TIMESTAMP '2026-01-01', 'n', i, i FROM range(?) t(i)",
        [series, series, series * length],
    )
    got = store.reader().query("metric_points", {"run_id": "r1", "points": length})
    assert len({row["node_id"] for row in got}) == series
    assert len(got) <= POINTS_ROWS_MAX
    store.close()


def test_series_tell_which_curves_there_are():
    rows = [metric((at, 0, 0), 0.5, node, number=at) for at in (1, 2, 3) for node in ("n1", "n2")]
    rows += [metric((2, 1, 4), 0.5, key="recall", label="cat", number=9), metric((1, 0, 0), 1.0, run="other")]
    told = asked(rows, "series")
    assert [(row["scope"], row["key"], row["class"], row["nodes"], row["rows"], row["last_round"]) for row in told] == [
        ("global", "loss", None, 2, 6, 3),
        ("local", "recall", "cat", 1, 1, 2),
    ]


def round_row(at, refused=(), updates=(), **more):
    told = [{"node_id": node, "reason": reason} for node, reason in refused]
    return RoundRow(
        "r1", at, 1, "n1", "c", "m", AT + 10 * at, 2, json.dumps(told), 9, 1.0, json.dumps(list(updates)), **more
    )


def story():
    """Two rounds; n2 goes and comes back; n3 is refused; it stops, goes on, is extended."""
    log = [("silent", 11), ("silent", 11.5), ("extended", 22)]
    return [
        RunRow("r1", "study", "p", "e", "g", "t", "d", "n1", 9, AT, "{}"),
        NodeRow("n2", "ward", "m", "1", "{}", AT),
        ElectionRow("r1", 1, "n1", AT + 2),
        StatusRow("r1", "", "RUNNING", "", 0, AT + 1, 1),
        StatusRow("r1", "n2", "TRAINING", "", 0, AT + 1, 2),
        StatusRow("r1", "n2", "LOST", "it is silent", 1, AT + 12, 3),
        StatusRow("r1", "n2", "TRAINING", "", 1, AT + 13, 4),
        StatusRow("r1", "n2", "WAITING", "", 1, AT + 14, 5),
        round_row(1),
        round_row(2, [("n3", "not-finite: NaN")]),
        StatusRow("r1", "", "STOPPED", "lunch", 2, AT + 20.5, 6),
        StatusRow("r1", "", "RUNNING", "", 2, AT + 21, 7),
        *[LogRow("n1", "r1", "INFO", f"fednode.run.{what}", what, AT + at, 8 + int(2 * at)) for what, at in log],
        LogRow("n1", "r1", "INFO", "fednode.run", "not in it", AT, 7),
    ]


def test_the_timeline_has_elections_ends_and_faults_in_their_order():
    told = asked(story(), "timeline")
    assert [(row["kind"], row["round"], row["node_id"], row["text"]) for row in told] == [
        ("started", 1, "", ""),
        ("elected", 1, "n1", "term 1"),
        ("silent", 2, "", "silent"),
        ("lost", 2, "n2", "it is silent"),
        ("back", 2, "n2", ""),
        ("refused", 2, "n3", "not-finite: NaN"),
        ("stopped", 3, "", "lunch"),
        ("resumed", 3, "", ""),
        ("extended", 3, "", "extended"),
    ]
    assert told[3]["node_name"] == "ward"
    assert [row["kind"] for row in asked(story(), "timeline", limit=2)] == ["resumed", "extended"]


def test_updates_tell_what_became_of_each_the_newest_first():
    used = {"node_id": "n1", "samples": 5, "bytes": 40, "weight": 7, "norm": 1.5}
    late = {"node_id": "n2", "samples": 6, "bytes": 40, "weight": 3, "late": True}
    wrong = {"node_id": "n3", "samples": 2**53, "bytes": 2**80, "weight": 0, "refused": "update-length"}
    rows = [
        round_row(1, updates=[used]),
        round_row(2, [("n3", "update-length: too long")], [used, late, wrong], audited=2),
        NodeRow("n2", "ward", "m", "1", "{}", AT),
    ]
    told = asked(rows, "updates")
    assert [(row["round"], row["node_id"], row["outcome"], row["norm"], row["reason"]) for row in told] == [
        (2, "n1", "used", 1.5, ""),
        (2, "n2", "late", None, ""),
        (2, "n3", "refused", None, "update-length: too long"),
        (1, "n1", "used", 1.5, ""),
    ]
    figures = [(row["audited"], row["samples"], row["weight"]) for row in told]
    assert figures == [(2, 5, 7), (2, 6, 3), (2, 2**53, 0), (0, 5, 7)]
    assert told[1]["node_name"] == "ward"
    assert [row["round"] for row in asked(rows, "updates", node="n1", limit=1)] == [2]
    assert [row["round"] for row in asked(rows, "updates", limit=2)] == [2, 2, 2]
    assert [row["round"] for row in asked(rows, "updates", before_round=2)] == [1]


@pytest.mark.parametrize("updates", ["[]", '[{"node_id": 7}]', '["x", null]'])
def test_a_round_whose_updates_are_strange_costs_no_answer(updates):
    row = RoundRow("r1", 1, 1, "n1", "c", "m", AT, 2, "[]", 9, 1.0, updates)
    assert all(told["round"] == 1 for told in asked([row], "updates"))
