"""What the local API tells of nodes over time: how busy their machines were, and when they came and went."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from node.api.service.service import Json
from node.system.peer_history import Told
from protocol.errors import FednodeError
from protocol.keys import NodeId
from tracker.queries.device_samples import Samples, device_samples, histories, thinned
from tracker.tables.rows import iso

if TYPE_CHECKING:
    from node.node import Node

SHOWN_S = 3600.0  # without `after`: as much as one takes in at a glance


class Devices:
    """See node.api.service.service.DeviceService, which says what every method does."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    async def listed(self, wanted: Mapping[str, Any]) -> list[Json]:
        node, points = self._node, int(wanted["points"])
        after = wanted.get("after") or iso(node.now() - SHOWN_S)
        with suppress(FednodeError):  # a disk that takes nothing keeps nobody from reading
            await node.record.flush()
        measured = device_samples(await node.record.query("node_samples", after=after, points=points))
        states = histories(await node.record.query("node_states", after=wanted.get("after")))
        names = _names(node)
        return [
            {
                "node_id": each,
                "name": names.get(each, ""),
                "samples": measured.get(each) or _announced(node.peer_history.of(NodeId(each)), after, points),
                "history": states.get(each, []),
            }
            for each in dict.fromkeys([*names, *measured, *states])
        ]


def _names(node: "Node") -> dict[str, str]:
    """Ours first, then those of every node of our groups."""
    names = {str(node.identity.node_id): node.identity.name}
    for place in node.groups.places.values():
        for node_id, entry in place.state().nodes.items():
            names.setdefault(str(node_id), entry.name)
    return names


# What an announcement tells of a machine, as samples have it; None where it does not say.
_ANNOUNCED: Mapping[str, Callable[[Told], float | None]] = {
    "load_1m": lambda told: told.capacity.load_1m,
    "memory_percent": lambda told: (
        100 * (1 - min(told.capacity.memory_free_bytes / told.capacity.memory_bytes, 1))
        if told.capacity.memory_bytes
        else None
    ),
    "memory_bytes": lambda told: max(told.capacity.memory_bytes - told.capacity.memory_free_bytes, 0),
    "disk_free_bytes": lambda told: told.capacity.disk_free_bytes,
}


def _announced(heard: Sequence[Told], after: str, points: int) -> Samples:
    """The samples that a node's announcements give."""
    samples: Samples = {}
    for key, value_of in _ANNOUNCED.items():
        told = ((iso(each.time), value_of(each)) for each in heard)
        line = _since(((time, value) for time, value in told if value is not None), after)
        if line:
            samples[key] = thinned(line, points)
    return samples


def _since(points: Iterable[tuple[str, float]], after: str) -> list[tuple[str, float]]:
    return [(time, float(value)) for time, value in points if time > after]
