"""What is kept of what grows: the rules as people write them, and what is removed by them."""

from functools import partial
from pathlib import Path

import pytest

from protocol.errors import FednodeError, Refused
from tracker.retention import DAY_S, Checkpoints, Kept, Rules, removable, remove, rules_in
from tracker.store import Store
from tracker.tables.rows import LogRow, MetricRow, SpanRow, SystemMetricRow

NOW = 100 * DAY_S


def log(node: str, sequence: int, day: float, run: str = "") -> LogRow:
    return LogRow(node, run, "INFO", "l", f"line {sequence}", day * DAY_S, sequence)


def metric(sequence: int, day: float, *, step: int = 0, run: str = "r") -> MetricRow:
    return MetricRow(run, "n", "local", "train", "loss", None, 1, 0, step, 0.5, 8, day * DAY_S, "n", sequence)


def sequences(store: Store, table: str) -> list[int]:
    reader = store.reader()
    try:
        return [row[0] for row in reader.sql(f"SELECT sequence FROM {table} ORDER BY position", 1000)[1]]
    finally:
        reader.close()


def pruned(store: Store, kind: str, rule: Kept, spared: tuple[str, ...] = ()) -> int:
    would = store.change(lambda connection: removable(connection, kind, rule, NOW, spared))
    did = store.change(lambda connection: remove(connection, kind, rule, NOW, spared))
    assert would == did
    return did


# --- rules -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "text", "written"),
    [
        ("logs", "30d", "30d"),
        ("logs", " 30 days ", "30d"),
        ("logs", "500000rows", "500000rows"),
        ("metrics", "30d,500000rows", "30d,500000rows"),
        ("metrics", "500000rows, 30d", "30d,500000rows"),
        ("spans", "forever", "forever"),
        ("artifacts", "7d", "7d"),
        ("ended", "1d", "1d"),
        ("checkpoints", "all", "all"),
        ("checkpoints", "last=2", "last=2"),
        ("checkpoints", "first", "first,last=1"),
        ("checkpoints", "running,best,every=5", "last=1,every=5,best,running"),
    ],
)
def test_rules_are_read_and_written_as_people_write_them(kind: str, text: str, written: str) -> None:
    rules = Rules().changed({kind: text})
    assert rules.texts()[kind] == written
    assert Rules().changed(rules.texts()) == rules


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *[("logs", text) for text in ("", "0d", "30", "d", "-1d", "30d,40d", "30d,forever", "1e3rows", "9999999d")],
        ("artifacts", "5rows"),
        ("ended", "5rows"),
        *[("checkpoints", text) for text in ("", "none", "last=0", "last", "every=x", "last=2,last=3", "first=1")],
        ("votes", "30d"),
        ("logs", "0rows"),
    ],
)
def test_what_is_no_rule_is_refused_with_a_remedy(kind: str, text: str) -> None:
    with pytest.raises(Refused) as refused:
        Rules().changed({kind: text})
    assert refused.value.code == "bad-retention"
    assert refused.value.remedy


def test_a_damaged_file_of_rules_is_said_to_be_one() -> None:
    assert rules_in(None) == Rules()
    for raw in (b"{", b"[]", b'{"logs": 3}', b'{"logs": "x"}', b"\xff"):
        with pytest.raises(FednodeError, match=r"retention\.json"):
            rules_in(raw)


def test_which_checkpoints_are_kept() -> None:
    rounds = range(1, 26)
    assert Checkpoints(first=True, last=3, every=10, best=True).kept(rounds, 7) == {1, 7, 10, 20, 23, 24, 25}
    assert Checkpoints().kept(rounds, 7) == {25}
    assert Checkpoints(everything=True).kept(rounds, None) == set(rounds)
    assert Checkpoints(best=True).kept([3, 4], 99) == {4}
    assert Checkpoints(first=True, last=5).kept([], None) == set()


# --- rows --------------------------------------------------------------------------------------------------------
def test_rows_go_by_age_and_the_newest_of_each_source_stays() -> None:
    store = Store(None)
    store.write([log("a", n, day=n) for n in range(10)] + [log("b", n, day=n) for n in range(3)])
    assert pruned(store, "logs", Kept(days=95)) == 7  # of "b" all three are older, and the newest of them stays
    assert sequences(store, "logs") == [5, 6, 7, 8, 9, 2]
    assert pruned(store, "logs", Kept(days=95)) == 0
    assert pruned(store, "logs", Kept()) == 0


def test_rows_go_by_number() -> None:
    store = Store(None)
    store.write([log("a", n, day=n) for n in range(10)])
    assert pruned(store, "logs", Kept(rows=10)) == 0
    assert pruned(store, "logs", Kept(rows=4)) == 6
    assert sequences(store, "logs") == [6, 7, 8, 9]
    assert pruned(store, "logs", Kept(days=92, rows=100)) == 2


@pytest.mark.parametrize("restart", [False, True])
def test_what_was_removed_does_not_come_in_again(restart: bool, tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    store = Store(path)
    rows = [log("a", n, day=n) for n in range(10)]
    store.write(rows)
    assert pruned(store, "logs", Kept(days=1)) == 9
    if restart:
        store.close()
        store = Store(path)
    assert store.write(rows) == 0
    assert store.write([log("a", 10, day=0), log("b", 1, day=0)]) == 2  # new, whatever its clock says
    assert sequences(store, "logs") == [9, 10, 1]
    store.close()


def test_a_clock_that_was_ahead_shuts_nothing_out(tmp_path: Path) -> None:
    store = Store(None)
    store.write([log("a", n, day=n) for n in range(10)])
    store.change(partial(remove, name="logs", rule=Kept(days=1), now=5000 * DAY_S, spared=()))
    assert sequences(store, "logs") == [9]
    assert store.write([log("a", n, day=n) for n in range(8)]) == 0
    # What the node logs with its clock set right has lower numbers than what it logged before.
    assert store.write([log("a", 5, day=11), log("a", 10, day=12)]) == 2


def test_figures_of_whole_rounds_stay_and_late_ones_come_in() -> None:
    store = Store(None)
    store.write([metric(1, day=1), metric(2, day=1, step=5), metric(3, day=1, step=6), metric(9, day=1, step=7)])
    assert pruned(store, "metrics", Kept(days=1)) == 2
    assert sequences(store, "metrics") == [1, 9]
    assert store.write([metric(2, day=1, step=5), metric(4, day=1)]) == 1
    assert sequences(store, "metrics") == [1, 9, 4]


def test_runs_under_way_are_left_alone() -> None:
    store = Store(None)
    store.write([log("a", n, day=1, run="r" if n % 2 else "") for n in range(10)])
    assert pruned(store, "logs", Kept(days=1), ("r",)) == 5
    assert sequences(store, "logs") == [1, 3, 5, 7, 9]


def test_spans_and_system_metrics_go_too() -> None:
    store = Store(None)
    store.write([SpanRow("r", "n", 1, "train", "", n * DAY_S, 1.0, 0, "n", n) for n in range(5)])
    store.write([SystemMetricRow("n", "", "host", "cpu", "", 1.0, "percent", 0, n * DAY_S, "n", n) for n in range(5)])
    assert pruned(store, "spans", Kept(days=97)) == 3
    assert pruned(store, "system_metrics", Kept(days=97)) == 3
    assert sequences(store, "spans") == sequences(store, "system_metrics") == [3, 4]
