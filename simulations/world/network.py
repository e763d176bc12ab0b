"""The Network seam in a simulated world: virtual time, seeded chance, and every fault that a network has.

    world = SimulatedWorld(Random(seed))
    await nursery.start(world.run)
    network = world.network(node_id)
    await nursery.start(network.run)

Gossip goes from its author to every subscriber directly, each after a delay of its own; the mesh is not simulated. Who
holds no connection says and hears nothing.
"""

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import trio

from node.seams import Gossip
from protocol.errors import LocalProtocolError
from protocol.keys import NodeId
from protocol.remembered import remembered
from simulations.world.network_lines import Lines
from simulations.world.network_node import DOOR_PORT, ENTRANCE_PORT, SimulatedNetwork
from simulations.world.network_stream import (
    FRAME_OVERHEAD_BYTES,
    SILENCE_MAX_S,
    Item,
    SimulatedConnection,
    SimulatedStream,
)
from simulations.world.network_wires import Agenda, Wire, WireProfile, Wires

if TYPE_CHECKING:
    from trio_typing import TaskStatus

HANDSHAKE_BYTES = 1500  # of a connection, on the real wire


_LONG_BYTES = 1024  # what is longer goes to many, as the very same bytes

_checksum_of_long = remembered(16)(zlib.crc32)


class SimulatedEvent(NamedTuple):
    """Something that happened on the network. `checksum` is CRC-32 of what was carried."""

    time: float
    kind: str  # dialled, refused, frame, closed, reset, broken, gossip, lost, crashed
    source: NodeId
    target: NodeId
    size: int = 0
    checksum: int = 0


class SimulatedWorld:
    """All nodes and the wires between them. `run` must be started before anything is sent."""

    def __init__(self, random: Random, profile: WireProfile | None = None) -> None:
        self.wires = Wires(random, profile or WireProfile())
        self.agenda = Agenda()
        self.lines = Lines(self.agenda)
        self._networks: dict[NodeId, SimulatedNetwork] = {}
        self._hosts: dict[NodeId, str] = {}
        self._at: dict[str, NodeId] = {}
        self._subscribers: dict[str, dict[NodeId, SimulatedNetwork]] = {}
        self._holding: dict[SimulatedStream, None] = {}
        self._observers: list[Callable[[SimulatedEvent], None]] = []
        self._listeners: list[Callable[[bytes], None]] = []
        self.has_ended = False

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        try:
            await self.agenda.run(task_status=task_status)
        finally:
            self.end()

    def end(self) -> None:
        """It is over: nobody hears any more of who goes. Call it before the nodes of a large world are cancelled."""
        self.has_ended = True

    def network(self, node_id: NodeId) -> SimulatedNetwork:
        """A new network for `node_id`; after a crash, the same node's next one, at the same addresses."""
        if node_id in self._networks:
            raise LocalProtocolError(f"Node {node_id} is in this world already", remedy="crash it first")
        self._networks[node_id] = SimulatedNetwork(self, node_id, self._host(node_id))
        return self._networks[node_id]

    def addresses_of(self, node_id: NodeId) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Where `node_id` is dialled, or will be: at its door, and at its entrance."""
        host = self._host(node_id)
        return (f"/ip4/{host}/tcp/{DOOR_PORT}",), (f"/ip4/{host}/tcp/{ENTRANCE_PORT}",)

    def _host(self, node_id: NodeId) -> str:
        if node_id not in self._hosts:
            number = len(self._hosts)
            self._hosts[node_id] = host = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            for port in (DOOR_PORT, ENTRANCE_PORT):
                self._at[f"/ip4/{host}/tcp/{port}"] = node_id
        return self._hosts[node_id]

    def on_event(self, observer: Callable[[SimulatedEvent], None]) -> None:
        """Call `observer` with everything that happens from now on."""
        self._observers.append(observer)

    def on_frame(self, listener: Callable[[bytes], None]) -> None:
        """Call `listener` with every frame that is sent from now on, as whoever had every key could overhear it."""
        self._listeners.append(listener)

    def observe(self, kind: str, source: NodeId, target: NodeId, data: bytes = b"") -> None:
        for listener in self._listeners if kind == "frame" else ():
            listener(data)
        if self._observers:
            checksum = zlib.crc32(data) if len(data) < _LONG_BYTES else _checksum_of_long(data)
            event = SimulatedEvent(trio.current_time(), kind, source, target, len(data), checksum)
            for observer in self._observers:
                observer(event)

    # --- faults --------------------------------------------------------------------------------------------------

    def cut(self, one: NodeId, other: NodeId) -> None:
        """Break the wire both ways: streams end, dialling fails at once."""
        self._set_both(one, other, Wire.CUT)
        self._break_across(lambda source, target: {source, target} == {one, other})

    def silence(self, source: NodeId, target: NodeId) -> None:
        """Make one direction a black hole: nothing arrives, and no error tells of it."""
        self.wires.set_state(source, target, Wire.SILENT)

    def one_way(self, source: NodeId, target: NodeId) -> None:
        """From now on only `source` can dial the other, as when `target` cannot look behind a firewall."""
        self.wires.forbid_dialling(target, source)

    def partition(self, groups: Sequence[Sequence[NodeId]], *, silent: bool = False) -> None:
        """Part the groups from each other: with errors, or silently."""
        self.wires.partition(groups, Wire.SILENT if silent else Wire.CUT)
        if not silent:
            self._break_across(self.wires.are_parted)

    def freeze(self, node: NodeId) -> None:
        """Let nothing reach or leave `node`, without an error, as when its process is stopped."""
        self.wires.freeze(node)

    def heal(self, one: NodeId | None = None, other: NodeId | None = None) -> None:
        """Open the wire between two nodes, or every wire. What black holes held is delivered."""
        if one is not None and other is not None:
            self._set_both(one, other, Wire.OPEN)
        elif one is not None:
            self.wires.thaw(one)
        else:
            self.wires.heal()
        for stream in list(self._holding):
            self._release(stream)

    def crash(self, node: NodeId) -> None:
        """End `node`'s network at once. Its peers notice after the wire's latency."""
        network = self._networks[node]
        self.observe("crashed", node, node)
        network.stop()

    def _set_both(self, one: NodeId, other: NodeId, state: Wire) -> None:
        self.wires.set_state(one, other, state)
        self.wires.set_state(other, one, state)

    def _break_across(self, across: Callable[[NodeId, NodeId], bool]) -> None:
        for network in self._networks.values():
            for connection, other in network.connections:
                if across(network.node_id, other.node_id):
                    self.observe("broken", network.node_id, other.node_id)
                    connection.end(network, other)

    # --- carrying ------------------------------------------------------------------------------------------------

    def carry(self, stream: SimulatedStream, item: Item, size: int) -> None:
        """Bring `item` from `stream` to its other end."""
        source, target = stream.network, stream.other.network
        source.counters.bytes_sent += size
        stream.connection.bytes["sent", source] += size
        self.observe("closed" if item is None else "frame", source.node_id, target.node_id, item or b"")
        if self.lines.is_limited(stream, source.node_id, target.node_id, size):
            leave = partial(self._leave, stream, item, size)
            self.lines.carry(stream, source.node_id, target.node_id, size, leave)
        else:
            self._leave(stream, item, size)

    def _leave(self, stream: SimulatedStream, item: Item, size: int) -> None:
        """All of `item` has gone over its sender's line, and its receiver's."""
        source, target = stream.network, stream.other.network
        now = trio.current_time()
        # Frames of one stream keep their order whatever the jitter.
        at = max(self.wires.arrival(source.node_id, target.node_id, size, now), stream.other.last_arrival)
        stream.other.last_arrival = at
        self.agenda.at(at, partial(self._arrive, stream.other, item, size))

    def _arrive(self, stream: SimulatedStream, item: Item, size: int) -> None:
        target, source = stream.network, stream.other.network
        if not stream.connection.is_up(target):
            return
        if stream.held or self.wires.state(source.node_id, target.node_id) is not Wire.OPEN:
            self._hold(stream, item)
        elif self.wires.breaks(source.node_id, target.node_id):
            self.observe("broken", source.node_id, target.node_id)
            stream.end_of_stream()
            stream.other.end_of_stream()
        else:
            target.counters.bytes_received += size
            stream.connection.bytes["received", target] += size
            stream.arrived(item)

    def _hold(self, stream: SimulatedStream, item: Item) -> None:
        stream.held.append(item)
        if stream not in self._holding:
            self._holding[stream] = None
            self.agenda.at(trio.current_time() + SILENCE_MAX_S, partial(self._give_up, stream))

    def _release(self, stream: SimulatedStream) -> None:
        target, source = stream.network, stream.other.network
        if self.wires.state(source.node_id, target.node_id) is Wire.OPEN:
            del self._holding[stream]
            held, stream.held = list(stream.held), type(stream.held)()
            at = trio.current_time() + self.wires.profile(source.node_id, target.node_id).latency_s
            stream.last_arrival = max(stream.last_arrival, at)
            for item in held:
                self.agenda.at(at, partial(self._arrive, stream, item, len(item or b"") + FRAME_OVERHEAD_BYTES))

    def _give_up(self, stream: SimulatedStream) -> None:
        if stream in self._holding:
            del self._holding[stream]
            target, source = stream.network, stream.other.network
            self.observe("broken", source.node_id, target.node_id)
            stream.connection.end(source, target)
            stream.connection.end(target, source)

    def tell_of_reset(self, stream: SimulatedStream) -> None:
        source, target = stream.network.node_id, stream.other.network.node_id
        self.observe("reset", source, target)
        delay = self.wires.profile(source, target).latency_s
        self.agenda.at(trio.current_time() + delay, partial(self._reset_arrives, stream.other))

    def _reset_arrives(self, stream: SimulatedStream) -> None:
        if self.wires.state(stream.other.network.node_id, stream.network.node_id) is Wire.OPEN:
            stream.end_of_stream()
        else:
            self._hold(stream, None)

    def tell_of_end(self, connection: SimulatedConnection, ended: SimulatedNetwork, other: SimulatedNetwork) -> None:
        """`ended` has no more of `connection`; `other` hears of it when the wire lets it."""
        silent = self.wires.state(ended.node_id, other.node_id) is not Wire.OPEN
        delay = SILENCE_MAX_S if silent else self.wires.profile(ended.node_id, other.node_id).latency_s
        self.agenda.at(trio.current_time() + delay, partial(connection.end, other, ended))

    # --- dialling ------------------------------------------------------------------------------------------------

    async def round_trip(self, one: NodeId, other: NodeId) -> Wire:
        """There and back; for ever into a black hole. Gives the wire's state as it was found."""
        states = {self.wires.state(one, other), self.wires.state(other, one)}
        if Wire.SILENT in states:
            await trio.sleep_forever()
        await trio.sleep_until(self.wires.arrival(one, other, HANDSHAKE_BYTES, trio.current_time()))
        await trio.sleep_until(self.wires.arrival(other, one, HANDSHAKE_BYTES, trio.current_time()))
        return Wire.CUT if Wire.CUT in states else Wire.OPEN

    async def reach(self, source: SimulatedNetwork, address: str) -> SimulatedNetwork | None:
        """Who answers at `address`, after a round trip; None where nobody does. A black hole never answers."""
        node_id = self._at.get(address)
        if node_id is None or node_id == source.node_id or not self.wires.may_dial(source.node_id, node_id):
            await trio.sleep(self.wires.profile(source.node_id, source.node_id).latency_s)
            return None
        state = await self.round_trip(source.node_id, node_id)
        return None if state is Wire.CUT else self._networks.get(node_id)

    # --- gossip --------------------------------------------------------------------------------------------------

    def subscribed(self, topic: str, network: SimulatedNetwork) -> None:
        self._subscribers.setdefault(topic, {})[network.node_id] = network

    def unsubscribed(self, topic: str, network: SimulatedNetwork) -> None:
        self._subscribers.get(topic, {}).pop(network.node_id, None)

    def gossip(self, author: SimulatedNetwork, topic: str, data: bytes) -> None:
        now = trio.current_time()
        for node_id, reader in self._subscribers.get(topic, {}).items():
            if reader is author or not reader.is_connected or not author.is_for(topic, node_id):
                continue
            if not self._gossip_finds_a_way(author.node_id, node_id, topic):
                continue
            arrivals = self.wires.gossip_arrivals(author.node_id, node_id, now)
            self.observe("gossip" if arrivals else "lost", author.node_id, node_id, data)
            for at in arrivals:
                self.agenda.at(at, partial(reader.heard, topic, Gossip(author.node_id, data)))

    def _gossip_finds_a_way(self, author: NodeId, reader: NodeId, topic: str) -> bool:
        """The mesh goes round a broken wire where one other node still has both ends; never out of a partition."""
        state = self.wires.state
        if state(author, reader) is Wire.OPEN:
            return True
        if self.wires.are_parted(author, reader):
            return False
        others = (other for other in self._subscribers[topic] if other not in (author, reader))
        return any(state(author, other) is Wire.OPEN and state(other, reader) is Wire.OPEN for other in others)

    def left(self, network: SimulatedNetwork) -> None:
        """Forget a network that has stopped."""
        del self._networks[network.node_id]
        for readers in self._subscribers.values():
            readers.pop(network.node_id, None)
