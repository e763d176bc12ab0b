"""The queries about spans and machines: what counts for a run, which round was under way, and how pages are cut."""

from collections.abc import Iterator
from typing import Any

import pytest

from tracker.queries.reader import Reader
from tracker.store import Store
from tracker.tables.rows import RoundRow, RunRow, SpanRow, StatusRow, SystemMetricRow, iso

DAY = 1_800_000_000.0


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store(None)
    yield made
    made.close()


def ask(store: Store, query: str, **parameters: Any) -> list[dict[str, Any]]:
    reader: Reader = store.reader()
    try:
        return reader.query(query, parameters)
    finally:
        reader.close()


def run_of_three_rounds(run_id: str = "r1", ended_at: float | None = 100.0) -> list[Any]:
    """It runs from 10 s on; rounds 1 to 3 are committed at 20, 40 and 60 s."""
    rows: list[Any] = [
        RunRow(run_id, run_id, "p", "e", "g", "digits", "d", "n1", 3, DAY, "{}"),
        StatusRow(run_id, "", "PROPOSED", "", 0, DAY, 1),
        StatusRow(run_id, "", "RUNNING", "", 0, DAY + 10, 2),
    ]
    rows += [RoundRow(run_id, n, 1, "n1", "c", "m", DAY + 20 * n, 1, "[]", 0, 1.0) for n in (1, 2, 3)]
    if ended_at is not None:
        rows.append(StatusRow(run_id, "", "FINISHED", "", 3, DAY + ended_at, 3))
    return rows


def host(at: float, value: float = 50.0, *, sequence: int | None = None, **changes: Any) -> SystemMetricRow:
    fields = {"node_id": "n1", "run_id": "", "scope": "host", "key": "cpu_percent", "device": "", "value": value}
    fields |= {"unit": "percent", "round": 0, "time": DAY + at, "source_node": "n1", **changes}
    return SystemMetricRow(**fields, sequence=int(at * 10) if sequence is None else sequence)  # type: ignore[arg-type]


def worker(at: float, number: int, value: float, run_id: str = "r1", node: str = "n1") -> SystemMetricRow:
    place = {"node_id": node, "source_node": node, "run_id": run_id, "round": number}
    return host(at, value, scope="worker", **place)


def test_a_machine_counts_for_a_run_while_it_goes_on_with_the_round_under_way(store: Store) -> None:
    store.write([*run_of_three_rounds(), *(host(at) for at in (5, 10, 15, 20, 39, 41, 90, 100, 101))])
    found = ask(store, "system_metrics", run_id="r1")
    assert [(row["time"], row["round"]) for row in found] == [
        (iso(DAY + 10), 1),
        (iso(DAY + 15), 1),
        (iso(DAY + 20), 2),
        (iso(DAY + 39), 2),
        (iso(DAY + 41), 3),
        (iso(DAY + 90), 3),  # there is no fourth
        (iso(DAY + 100), 3),
    ]


def test_a_run_that_goes_on_has_no_end_yet_and_one_that_went_on_has_none_again(store: Store) -> None:
    store.write([*run_of_three_rounds(ended_at=70.0), host(1000)])
    assert ask(store, "system_metrics", run_id="r1") == []
    store.write([StatusRow("r1", "", "RUNNING", "", 3, DAY + 80, 4)])
    assert len(ask(store, "system_metrics", run_id="r1")) == 1


def test_workers_count_for_their_own_run_and_say_the_round_themselves(store: Store) -> None:
    store.write([*run_of_three_rounds(), *run_of_three_rounds("r2")])
    store.write([worker(41, 7, 1.0), worker(41, 1, 2.0, "r2"), worker(500, 3, 3.0, node="n2")])
    found = ask(store, "system_metrics", run_id="r1", scope="worker")
    assert [(row["node_id"], row["round"], row["value"]) for row in found] == [("n1", 7, 1.0), ("n2", 3, 3.0)]
    everything = ask(store, "system_metrics")
    assert [row["value"] for row in everything] == [1.0, 2.0, 3.0]


def test_a_run_that_nobody_knows_has_nothing(store: Store) -> None:
    store.write([*run_of_three_rounds(), host(15)])
    assert ask(store, "system_metrics", run_id="r9") == []
    assert ask(store, "system_summary", run_id="r9") == []
    assert ask(store, "spans", run_id="r9") == []


def test_filters_and_pages(store: Store) -> None:
    rows = [host(at, key=key, sequence=int(at) * 10 + n) for at in (11, 12, 13) for n, key in enumerate(("a", "b"))]
    store.write([*run_of_three_rounds(), *rows])
    first = ask(store, "system_metrics", run_id="r1", limit=3)
    assert len(first) == 4  # a sample is never cut
    rest = ask(store, "system_metrics", run_id="r1", limit=3, after=first[-1]["time"])
    assert [row["time"] for row in rest] == [iso(DAY + 13)] * 2
    assert {row["key"] for row in ask(store, "system_metrics", run_id="r1", key="b")} == {"b"}
    assert ask(store, "system_metrics", run_id="r1", node="n2") == []
    assert len(ask(store, "system_metrics", run_id="r1", node="n1", scope="host")) == 6


def test_a_summary_has_the_newest_the_mean_and_the_most(store: Store) -> None:
    store.write(
        [*run_of_three_rounds(), *(host(at, value) for at, value in ((5, 99.0), (11, 10.0), (12, 40.0), (13, 1.0)))]
    )
    store.write([worker(50, 3, 7.0, node="n2"), host(14, float("nan"))])
    mine, other = ask(store, "system_summary", run_id="r1")
    assert [mine[key] for key in ("latest", "mean", "min", "max", "samples")] == [1.0, 17.0, 1.0, 40.0, 3]
    assert (other["node_id"], other["scope"], other["latest"], other["unit"]) == ("n2", "worker", 7.0, "percent")


def span(sequence: int, number: int, name: str = "train", node: str = "n1", run_id: str = "r1") -> SpanRow:
    return SpanRow(run_id, node, number, name, "", DAY + sequence, 2.5, 7, node, sequence)


def test_spans_of_a_run_by_round_and_time(store: Store) -> None:
    rows = [span(4, 2), span(1, 1), span(2, 1, "wait", "n2"), span(3, 1, run_id="r2"), span(5, 3)]
    assert store.write(rows) == 5
    assert store.write(rows) == 0  # once
    found = ask(store, "spans", run_id="r1")
    assert [(row["round"], row["name"], row["node_id"]) for row in found] == [
        (1, "train", "n1"),
        (1, "wait", "n2"),
        (2, "train", "n1"),
        (3, "train", "n1"),
    ]
    assert (found[0]["started_at"], found[0]["seconds"], found[0]["bytes"]) == (iso(DAY + 1), 2.5, 7)
    assert [row["round"] for row in ask(store, "spans", run_id="r1", after_round=1)] == [2, 3]
    assert [row["round"] for row in ask(store, "spans", run_id="r1", node="n2")] == [1]
    assert [row["round"] for row in ask(store, "spans", run_id="r1", limit=1)] == [1, 1]
