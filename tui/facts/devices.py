"""What an answer of /v1/devices says of nodes over time, as frozen values. docs/api.md says what each key means."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite

from tui.facts.fields import Json, items, moment, object_of, text

POINTS_MAX = 2_000  # of one line; more than any screen is wide
Points = tuple[tuple[float, float], ...]  # times in seconds since 1970


@dataclass(frozen=True, slots=True)
class Change:
    """A node came, went, started or stopped."""

    time: datetime | None
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Device:
    """One node over time. `samples`: lines by their keys; of what nobody knows there is none."""

    node_id: str
    samples: Mapping[str, Points] = field(default_factory=dict)
    history: tuple[Change, ...] = ()  # the newest first

    def points(self, *keys: str) -> Points:
        """The first of these lines that is known, or none."""
        return next((self.samples[key] for key in keys if key in self.samples), ())

    def latest(self, *keys: str) -> float | None:
        points = self.points(*keys)
        return points[-1][1] if points else None


@dataclass(frozen=True, slots=True)
class Devices:
    """All of them, and the time that their lines cover."""

    nodes: Mapping[str, Device] = field(default_factory=dict)
    start: float = 0.0
    end: float = 0.0

    def of(self, node_id: str) -> Device:
        return self.nodes.get(node_id) or Device(node_id)


SHORTEST_S = 600.0  # an hour's drawing of what began just now would be one column


def devices_of(answer: Json) -> Devices:
    """Reads the answer. The lines cover the time from the first point of all, ten minutes at least, to the last."""
    nodes = {text(source, "node_id"): _device(source) for source in items(answer, "devices")}
    times = [line[at][0] for node in nodes.values() for line in node.samples.values() for at in (0, -1)]
    end = max(times, default=0.0)
    return Devices(nodes, min(min(times, default=0.0), end - SHORTEST_S), end)


def _device(source: Json) -> Device:
    lines = {str(key): _points(line) for key, line in object_of(source, "samples").items()}
    changes = [
        Change(moment(each, "time"), text(each, "state"), text(each, "reason")) for each in items(source, "history")
    ]
    return Device(text(source, "node_id"), {key: line for key, line in lines.items() if line}, tuple(changes[::-1]))


def _points(line: object) -> Points:
    points = []
    for entry in line[-POINTS_MAX:] if isinstance(line, list) else ():
        match entry:
            case [str(time), int() | float() as value] if isfinite(value):
                when = moment({"time": time}, "time")
                if when is not None:
                    points.append((when.timestamp(), float(value)))
    return tuple(sorted(points))
