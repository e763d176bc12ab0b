"""The queries about nodes over time: thinned samples, rates of what counts up, and comings and goings."""

from itertools import count

from tracker.queries.device_samples import device_samples, thinned
from tracker.store import Store
from tracker.tables.rows import StatusRow, SystemMetricRow, iso

AT = 1_800_000_000.0
NUMBERS = count()


def sample(node: str, key: str, at: float, value: float, device: str = "", scope: str = "host") -> SystemMetricRow:
    return SystemMetricRow(node, "", scope, key, device, value, "x", 0, AT + at, node, next(NUMBERS))


def state(node: str, what: str, sequence: int, run: str = "") -> StatusRow:
    return StatusRow(run, node, what, f"because {sequence}", 0, AT + sequence, sequence, "me")


def test_a_lines_points_are_means_of_equal_stretches_of_time() -> None:
    store = Store(None)
    store.write([sample("a", "cpu_percent", float(at), float(at)) for at in range(100)])
    store.write([sample("a", "cpu_percent", 50.0, 99.0, scope="worker"), sample("a", "threads", 9.0, 9.0)])
    (line,) = device_samples(store.reader().query("node_samples", {"after": iso(AT - 1), "points": 4})).values()
    assert list(line) == ["cpu_percent"], "neither a worker's nor what nobody draws"
    assert line["cpu_percent"] == [
        (iso(AT + 23), 11.5),
        (iso(AT + 48), 36.0),
        (iso(AT + 73), 61.0),
        (iso(AT + 99), 86.5),
    ]


def test_without_a_time_the_last_hour_of_the_record_counts() -> None:
    store = Store(None)
    store.write([sample("a", "cpu_percent", at, 1.0) for at in (0.0, 100.0, 3500.0, 3650.0)])
    found = store.reader().query("node_samples", {})
    assert [row["time"] for row in found] == [iso(AT + at) for at in (100.0, 3500.0, 3650.0)]
    assert Store(None).reader().query("node_samples", {}) == []


def test_counters_become_rates_and_one_that_began_anew_gives_none() -> None:
    store = Store(None)
    counted = [(0.0, 0.0), (10.0, 1000.0), (20.0, 4000.0), (30.0, 100.0), (40.0, 300.0)]
    store.write([sample("a", "network_sent_bytes", at, value) for at, value in counted])
    samples = device_samples(store.reader().query("node_samples", {"points": 400}))
    assert [value for _, value in samples["a"]["network_sent_bytes_per_s"]] == [100.0, 300.0, 20.0]


def test_of_several_gpus_it_is_their_mean_and_what_is_not_finite_is_left_out() -> None:
    store = Store(None)
    store.write([sample("a", "gpu_percent", 1.0, value, device) for device, value in (("0", 20.0), ("1", 60.0))])
    store.write([sample("a", "gpu_percent", 2.0, float("nan"), "0"), sample("b", "memory_used_bytes", 2.0, 7.0)])
    samples = device_samples(store.reader().query("node_samples", {}))
    assert samples == {"a": {"gpu_percent": [(iso(AT + 1), 40.0)]}, "b": {"memory_bytes": [(iso(AT + 2), 7.0)]}}


def test_comings_and_goings_are_apart_from_what_nodes_do_in_runs() -> None:
    store = Store(None)
    store.write(
        [state("a", "HERE", 1), state("a", "TRAINING", 2, run="r"), state("b", "HERE", 3), state("a", "AWAY", 4)]
    )
    query = store.reader().query
    assert [(row["node_id"], row["state"], row["at"]) for row in query("node_states", {})] == [
        ("a", "HERE", AT + 1),
        ("b", "HERE", AT + 3),
        ("a", "AWAY", AT + 4),
    ]
    assert [row["state"] for row in query("node_states", {"newest": 1, "node": "a"})] == ["AWAY"]
    assert [row["reason"] for row in query("node_states", {"after": iso(AT + 3)})] == ["because 4"]
    assert [row["state"] for row in query("participants", {"run_id": "r"})] == ["TRAINING"]
    assert query("runs", {}) == []
    assert [each.what for each in store.reader().check().findings] == [
        "status_events has rows of runs that the store does not know: r (1 rows)"
    ]


def test_points_are_thinned_to_their_means() -> None:
    points = [(str(at), float(at)) for at in range(10)]
    assert thinned(points, 20) == points
    assert thinned(points, 3) == [("3", 1.5), ("7", 5.5), ("9", 8.5)]
    assert thinned([], 3) == []
