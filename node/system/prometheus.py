"""What is counted, in Prometheus' text format. Few labels, each with few values: states, kinds of work, devices by
number. Names of peers, runs and people are not among them.

Counters begin at 0 with the node's process, as Prometheus expects. docs/grafana-dashboard.json shows all of this.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from node.system.names import SYSTEM_KEYS
from protocol.run.checkpoint import SPAN_NAMES
from tracker.tables.rows import ElectionRow, RoundRow, Row, SpanRow, SystemMetricRow

_HELP = (
    ("bytes_sent", "fednode_network_sent_bytes_total", "counter", "Bytes sent to other nodes"),
    ("bytes_received", "fednode_network_received_bytes_total", "counter", "Bytes received from other nodes"),
    ("stranger_bytes", "fednode_stranger_bytes_total", "counter", "Bytes of strangers that got past the door"),
    ("refused_at_door", "fednode_refused_at_door_total", "counter", "Connections refused in the handshake"),
    ("peers_connected", "fednode_peers_connected", "gauge", "Nodes connected now"),
    ("runs_active", "fednode_runs_active", "gauge", "Runs that go on here"),
    ("uptime_s", "fednode_uptime_seconds", "gauge", "Since the node started"),
)


class Counts:
    """What has happened on this node since it started, over all runs, and how busy its machine was last."""

    def __init__(self) -> None:
        self.rounds = 0
        self.updates = {"used": 0, "refused": 0}
        self.elections = 0
        self.spans: Counter[str] = Counter()  # by name, as all below
        self.span_seconds: Counter[str] = Counter()
        self.span_bytes: Counter[str] = Counter()
        self.system: dict[tuple[str, str, str], float] = {}  # by scope, key and device

    def count(self, rows: Iterable[Row]) -> None:
        """Rows that were recorded just now."""
        for row in rows:
            if isinstance(row, RoundRow):
                self.rounds += 1
                self.updates["used"] += row.updates_used
                self.updates["refused"] += len(json.loads(row.updates_refused))
            elif isinstance(row, ElectionRow):
                self.elections += 1
            elif isinstance(row, SpanRow) and row.name in SPAN_NAMES:  # a task's own could have any name
                self.spans[row.name] += 1
                self.span_seconds[row.name] += row.seconds  # type: ignore[assignment]
                self.span_bytes[row.name] += row.bytes

    def sampled(self, rows: Sequence[SystemMetricRow]) -> None:
        """One sample of the machine. Of the workers what they take together."""
        self.system.clear()
        for row in rows:
            place = (row.scope, row.key, row.device)
            self.system[place] = self.system.get(place, 0.0) + row.value


def prometheus_text(status: dict[str, Any], runs: list[dict[str, Any]], counts: Counts) -> str:
    """The text of `GET /metrics`, from a status and the runs of docs/api.md."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()

    class Everything:
        def collect(self) -> Iterator[Any]:
            yield from _status(status)
            yield from _happened(counts)
            yield from _system(counts)

    registry.register(Everything())
    states = Gauge("fednode_runs", "Runs by state", ["state"], registry=registry)
    for run in runs:
        states.labels(run["state"]).inc()
    return str(generate_latest(registry).decode())


def _status(status: dict[str, Any]) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for key, name, kind, text in _HELP:
        yield (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(name, text, value=status[key])


def _happened(counts: Counts) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, SummaryMetricFamily

    yield CounterMetricFamily("fednode_rounds_committed", "Rounds committed, over all runs", value=counts.rounds)
    yield CounterMetricFamily("fednode_elections", "Aggregators elected", value=counts.elections)
    updates = CounterMetricFamily("fednode_updates", "Updates in committed rounds", labels=["outcome"])
    for outcome, number in counts.updates.items():
        updates.add_metric([outcome], number)
    spans = SummaryMetricFamily("fednode_span_seconds", "What this node was busy with in runs", labels=["span"])
    sizes = CounterMetricFamily("fednode_span_bytes", "Bytes that it moved or made meanwhile", labels=["span"])
    for name in SPAN_NAMES:
        spans.add_metric([name], count_value=counts.spans[name], sum_value=counts.span_seconds[name])
        sizes.add_metric([name], counts.span_bytes[name])
    yield from (updates, spans, sizes)


def _system(counts: Counts) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    by_key: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for (scope, key, device), value in counts.system.items():
        by_key.setdefault((scope, key), []).append((device, value))
    for entry in SYSTEM_KEYS:
        found = by_key.get((entry.scope, entry.key))
        if found:
            labels = ["device"] if any(device for device, _ in found) else []
            kind = CounterMetricFamily if entry.is_counter else GaugeMetricFamily
            family = kind(entry.prometheus, f"{entry.scope.capitalize()}: {entry.what}", labels=labels)
            for device, value in found:
                family.add_metric([device] if labels else [], value)
            yield family
