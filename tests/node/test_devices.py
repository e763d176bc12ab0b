"""Nodes over time: the endpoint, what a node keeps of others' announcements, and the watch over who is here."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from memory_service import NODE, MemoryService, serving
from trio.testing import MockClock

from fednode import Client, RequestRefused
from node.system.devices import Devices
from node.system.peer_history import ANNOUNCEMENTS_KEPT, NODES_KEPT_MAX, PeerHistory
from node.system.peer_watch import LOOK_EVERY_S, watch_peers
from protocol.errors import FednodeError
from protocol.group.presence import Capacity, Heard
from protocol.keys import NodeId
from tracker.store import Store
from tracker.tables.rows import StatusRow, SystemMetricRow, iso

NOW = 1_800_000_000.0


@pytest.fixture
def service(tmp_path: Path) -> Iterator[MemoryService]:
    with serving(tmp_path / "home") as service:
        yield service


def test_the_endpoint_takes_a_time_and_a_number_of_points(service: MemoryService) -> None:
    client = Client(service.home)
    (told,) = client.devices(after="2026-01-01T00:00:00Z", points=7)["devices"]
    assert (told["node_id"], told["samples"]) == (NODE, {"cpu_percent": [["2026", 9.0]]})
    client.devices()
    asked = [call[1] for call in service.calls if call[0] == "devices"]
    assert asked == [{"after": "2026-01-01T00:00:00Z", "points": 7}, {"after": None, "points": 120}]


@pytest.mark.parametrize("wrong", [{"points": 1}, {"points": 1001}, {"after": "yesterday"}, {"of": "x"}])
def test_what_it_does_not_understand_is_refused(service: MemoryService, wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused, match=next(iter(wrong))):
        Client(service.home).devices(**wrong)


def heard(node: str, sequence: int, free: int = 25) -> Heard:
    capacity = Capacity(cpu_cores=2, memory_bytes=100, memory_free_bytes=free, disk_free_bytes=7, load_1m=0.5)
    return Heard(SimpleNamespace(node_id=node, sequence=sequence, capacity=capacity), 0.0)  # type: ignore[arg-type]


def test_of_announcements_each_counts_once_and_no_more_are_kept_than_are_shown() -> None:
    history = PeerHistory()
    for sequence in range(ANNOUNCEMENTS_KEPT + 50):
        history.take(heard("a", sequence), float(sequence))
        history.take(heard("a", sequence), float(sequence) + 5)
    assert [told.time for told in history.of(NodeId("a"))] == [float(at) for at in range(50, 50 + ANNOUNCEMENTS_KEPT)]
    for number in range(NODES_KEPT_MAX):
        history.take(heard(f"n{number}", 1), 1.0)
    assert history.of(NodeId("a")) == [], "the one heard of longest ago"
    assert len(history.of(NodeId("n0"))) == 1


class Recorded:
    """A record whose rows are there at once."""

    def __init__(self) -> None:
        self.store = Store(None)
        self.is_broken = False

    def add(self, *rows: Any) -> None:
        self.store.write(list(rows))

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    async def query(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        await trio.lowlevel.checkpoint()
        if self.is_broken:
            raise FednodeError("the disk is gone", remedy="bring it back")
        return self.store.reader().query(name, parameters)


class Group:
    """A group of three, of which `connected` are connected."""

    def __init__(self) -> None:
        self.nodes = {node: SimpleNamespace(name=f"the {node}", member_id="M") for node in ("me", "a", "b")}
        self.last: dict[str, Heard] = {}
        self.connected: set[str] = {"a"}
        place = SimpleNamespace(state=lambda: self, book=SimpleNamespace(last=self.last.get))
        self.places = {"g": place}
        self.neighbours = SimpleNamespace(wanted=lambda: {"a", "b"})

    def admits(self, node: str) -> bool:
        return node in self.nodes


async def looks(count: int) -> None:
    with trio.move_on_after(count * LOOK_EVERY_S):
        await trio.Event().wait()


async def measure_nothing(*_arguments: object) -> None:
    await trio.sleep_forever()


def a_node(record: Recorded) -> Any:
    numbers = iter(range(1, 10_000))
    return SimpleNamespace(
        record=record,
        groups=Group(),
        identity=SimpleNamespace(node_id="me", name="mine"),
        now=lambda: NOW + trio.current_time(),
        runs=SimpleNamespace(numbers=lambda: next(numbers)),
        peer_history=PeerHistory(),
        peer_links=SimpleNamespace(run=measure_nothing),
        hub=None,
        service=SimpleNamespace(mark_peer=lambda node: None),
    )


def test_who_comes_and_goes_is_recorded_and_told_with_the_machines() -> None:
    async def main() -> None:
        record = Recorded()
        record.add(
            StatusRow("", "b", "HERE", "", 0, NOW - 500, 0, "me"),
            StatusRow("", "me", "STARTED", "", 0, NOW - 600, 9999, "me"),
        )
        node = a_node(record)
        node.groups.last["a"] = heard("a", 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_peers, node)
            await looks(10)
            node.groups.connected = set()
            node.groups.last["a"] = heard("a", 2, free=50)
            await looks(2)
            nursery.cancel_scope.cancel()
        record.add(SystemMetricRow("me", "", "host", "cpu_percent", "", 42.0, "percent", 0, node.now(), "me", 1))
        mine, a, b = await Devices(node).listed({"after": None, "points": 10})
        assert [(entry["state"], entry["reason"]) for entry in mine["history"]] == [
            ("STARTED", ""),
            ("STARTED", "had not been stopped in order"),
            ("STOPPED", ""),
        ]
        assert [entry["state"] for entry in a["history"]] == ["HERE", "AWAY"]
        assert [entry["state"] for entry in b["history"]] == ["HERE", "AWAY"]
        assert b["history"][1]["reason"] == "after 9 min"
        assert mine["samples"] == {"cpu_percent": [(iso(node.now()), 42.0)]}
        assert [value for _, value in a["samples"]["memory_percent"]] == [75.0, 50.0]
        assert a["samples"].keys() == {"load_1m", "memory_percent", "memory_bytes", "disk_free_bytes"}
        assert (a["name"], b["samples"]) == ("the a", {})

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_record_that_cannot_be_read_keeps_nobody_from_watching() -> None:
    async def main() -> None:
        record = Recorded()
        node = a_node(record)
        record.is_broken = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_peers, node)
            await looks(2)
            nursery.cancel_scope.cancel()
        record.is_broken = False
        told = await Devices(node).listed({"after": None, "points": 10})
        assert [[entry["state"] for entry in each["history"]] for each in told] == [
            ["STARTED", "STOPPED"],
            ["HERE"],
            [],
        ]

    trio.run(main, clock=MockClock(autojump_threshold=0))
