"""What is recorded of nodes over time as lines to draw: each node's figures by what they are of, with their times.

What counts up becomes a rate. A counter that is lower than before began anew, and gives no rate there.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from tracker.queries.reader import Reader

Samples = dict[str, list[tuple[str, float]]]

# By what a machine's figures are called where they are recorded; the rest is told under its own name.
_TOLD_AS = {"memory_used_bytes": "memory_bytes", "disk_used_bytes": "disk_bytes", "gpu_memory_used_bytes": "gpu_bytes"}
_RATES = {
    "network_sent_bytes": "network_sent_bytes_per_s",
    "network_received_bytes": "network_received_bytes_per_s",
}


def device_samples(rows: Iterable[Mapping[str, Any]]) -> dict[str, Samples]:
    """Each node's samples, of the query's rows in their order."""
    nodes: dict[str, Samples] = {}
    for row in rows:
        samples = nodes.setdefault(row["node_id"], {})
        samples.setdefault(row["key"], []).append((row["time"], float(row["value"])))
    return {node: _told(samples) for node, samples in nodes.items()}


def _told(samples: Samples) -> Samples:
    told = {
        _RATES.get(key) or _TOLD_AS.get(key, key): _rates(points) if key in _RATES else points
        for key, points in samples.items()
    }
    return {key: points for key, points in told.items() if points}


def _rates(points: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    rates = []
    for (before, had), (now, has) in pairwise(points):
        seconds = (datetime.fromisoformat(now) - datetime.fromisoformat(before)).total_seconds()
        if seconds > 0 and has >= had:
            rates.append((now, (has - had) / seconds))
    return rates


def thinned(points: Sequence[tuple[str, float]], at_most: int) -> list[tuple[str, float]]:
    """At most so many points: the mean of neighbours, at the time of the last of them."""
    size = -(-len(points) // at_most) if points else 1
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def histories(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Each node's comings and goings, of the rows of the named query `node_states`."""
    nodes: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        entry = {key: row[key] for key in ("time", "state", "reason")}
        nodes.setdefault(row["node_id"], []).append(entry)
    return nodes


def recorded_devices(reader: Reader, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a record alone knows of nodes over time, in the shape of docs/api.md's /v1/devices."""
    samples = device_samples(reader.query("node_samples", wanted))
    states = histories(reader.query("node_states", {"after": wanted.get("after")}))
    names = {row["node_id"]: row["name"] for row in reader.query("nodes", {})}
    return [
        {"node_id": node, "name": name, "samples": samples.get(node, {}), "history": states.get(node, [])}
        for node, name in {**dict.fromkeys([*samples, *states], ""), **names}.items()
    ]
