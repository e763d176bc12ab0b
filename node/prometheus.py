"""What is counted, in Prometheus' text format. Few labels, each with few values: names of peers are not among them."""

from typing import Any

_HELP = (
    ("bytes_sent", "fednode_network_sent_bytes_total", "counter", "Bytes sent to other nodes"),
    ("bytes_received", "fednode_network_received_bytes_total", "counter", "Bytes received from other nodes"),
    ("stranger_bytes", "fednode_stranger_bytes_total", "counter", "Bytes of strangers that got past the door"),
    ("refused_at_door", "fednode_refused_at_door_total", "counter", "Connections refused in the handshake"),
    ("peers_connected", "fednode_peers_connected", "gauge", "Nodes connected now"),
    ("runs_active", "fednode_runs_active", "gauge", "Runs that go on here"),
    ("uptime_s", "fednode_uptime_seconds", "gauge", "Since the node started"),
)


def prometheus_text(status: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """The text of `GET /metrics`, from a status and the runs of docs/api.md."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    registry = CollectorRegistry()

    class Status:
        def collect(self) -> Any:
            for key, name, kind, text in _HELP:
                family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
                yield family(name, text, value=status[key])

    registry.register(Status())
    states = Gauge("fednode_runs", "Runs by state", ["state"], registry=registry)
    for run in runs:
        states.labels(run["state"]).inc()
    return str(generate_latest(registry).decode())
