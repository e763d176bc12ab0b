"""What Prometheus is told: figures that are right, labels with few values, and a dashboard of nothing else."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from node.system.names import SYSTEM_KEYS
from node.system.prometheus import Counts, prometheus_text
from protocol.run.checkpoint import SPAN_NAMES
from tracker.tables.rows import ElectionRow, RoundRow, SpanRow, SystemMetricRow

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana-dashboard.json"
STATUS = {"bytes_sent": 10, "bytes_received": 20, "stranger_bytes": 0, "refused_at_door": 1, "peers_connected": 2}
STATUS |= {"runs_active": 1, "uptime_s": 9.5}
RUNS = [{"state": "RUNNING"}, {"state": "FINISHED"}, {"state": "FINISHED"}]

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def told(counts: Counts) -> Samples:
    """Every sample of the text, by its name and labels."""
    families = text_string_to_metric_families(prometheus_text(STATUS, RUNS, counts))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def system_row(scope: str, key: str, value: float, device: str = "", run_id: str = "") -> SystemMetricRow:
    return SystemMetricRow("n1", run_id, scope, key, device, value, "percent", 0, 1.0, "n1", 1)


def everything() -> Counts:
    """A node on which all has happened that can be counted."""
    counts = Counts()
    refused = json.dumps([{"node_id": "12D3KooWPeer", "reason": "not-finite: it has a NaN"}])
    counts.count([RoundRow("secret run", number, 1, "n1", "c", "m", 1.0, 3, refused, 9, 1.0) for number in (1, 2)])
    counts.count([ElectionRow("secret run", 1, "12D3KooWPeer", 1.0)])
    for name in SPAN_NAMES:
        counts.count([SpanRow("secret run", "n1", 1, name, "12D3KooWPeer", 1.0, 2.5, 100, "n1", 1)])
    counts.sampled(
        [
            system_row(entry.scope, entry.key, 5.0, device)
            for entry in SYSTEM_KEYS
            for device in (("0", "1") if entry.scope == "host" and entry.key.startswith("gpu") else ("",))
        ]
    )
    return counts


def test_what_happened_is_counted() -> None:
    samples = told(everything())
    assert samples["fednode_rounds_committed_total", ()] == 2
    assert samples["fednode_updates_total", (("outcome", "used"),)] == 6
    assert samples["fednode_updates_total", (("outcome", "refused"),)] == 2
    assert samples["fednode_elections_total", ()] == 1
    assert samples["fednode_span_seconds_count", (("span", "train"),)] == 1
    assert samples["fednode_span_seconds_sum", (("span", "train"),)] == 2.5
    assert samples["fednode_span_bytes_total", (("span", "fetch"),)] == 100
    assert samples["fednode_runs", (("state", "FINISHED"),)] == 2
    assert samples["fednode_network_sent_bytes_total", ()] == 10
    assert samples["fednode_host_cpu_percent", ()] == 5
    assert samples["fednode_host_network_received_bytes_total", ()] == 5
    assert samples["fednode_host_gpu_celsius", (("device", "1"),)] == 5


def test_a_node_that_has_just_started_tells_zeros() -> None:
    """So that a rate begins with the first of its kind."""
    samples = told(Counts())
    assert samples["fednode_rounds_committed_total", ()] == 0
    assert {samples["fednode_span_seconds_count", (("span", name),)] for name in SPAN_NAMES} == {0}
    assert not any(name.startswith("fednode_host") for name, _ in samples)  # it has not been measured yet


def test_workers_are_told_together() -> None:
    counts = Counts()
    counts.sampled(
        [system_row("worker", "cpu_percent", 90.0, run_id="a"), system_row("worker", "cpu_percent", 80.0, run_id="b")]
    )
    assert told(counts)["fednode_worker_cpu_percent", ()] == 170
    counts.sampled([system_row("host", "cpu_percent", 1.0)])
    assert ("fednode_worker_cpu_percent", ()) not in told(counts)  # they have ended


def test_no_label_is_a_name_of_anybodys() -> None:
    counts = everything()
    counts.count([SpanRow("secret run", "n1", 1, "task.my own", "", 1.0, 2.5, 0, "n1", 2)])
    text = prometheus_text(STATUS, RUNS, counts)
    assert not re.search("12D3|secret|my own|n1", text)
    assert {label for _, labels in told(counts) for label, _ in labels} == {"state", "outcome", "span", "device"}


# --- the dashboard -----------------------------------------------------------------------------------------------
def expressions(part: Any) -> Iterable[str]:
    if isinstance(part, dict):
        yield from (part[key] for key in ("expr", "definition") if key in part)
        for value in part.values():
            yield from expressions(value)
    elif isinstance(part, list):
        for value in part:
            yield from expressions(value)


def test_the_dashboard_shows_what_there_is_and_all_of_it() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    shown = set(re.findall(r"fednode_[a-z0-9_]+", " ".join(expressions(dashboard))))
    exported = {name for name, _ in told(everything()) if not name.endswith("_created")}
    assert shown - exported == set()
    assert exported - shown == {
        *("fednode_host_gpu_memory_used_bytes", "fednode_host_gpu_memory_access_percent"),
        *("fednode_host_gpu_power_percent", "fednode_node_memory_percent", "fednode_worker_gpu_memory_bytes"),
    }


def test_the_dashboard_can_be_imported_anywhere() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    variables = {entry["name"]: entry for entry in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 20
    for panel in panels:
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    assert "12D3" not in DASHBOARD.read_text()
