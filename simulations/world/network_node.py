"""One node's end of the simulated world: the Network seam, with the same door and the same entrance as the real one."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

import trio

from node.network.conduct import Conduct
from node.network.door import Door, EntranceBounds, source_of
from node.network.feeds import GossipRegister, PeerRegister, anybody
from node.network.versions import OtherVersion, Versions
from node.seams import (
    ENTRANCE_PROTOCOL,
    Gossip,
    PeerChange,
    PeerTraffic,
    Stream,
    StreamHandler,
    TrafficCounters,
    Unreachable,
)
from protocol.errors import FednodeError, LocalProtocolError, Refused, RemoteProtocolError
from protocol.keys import NodeId
from protocol.limits import DIAL_DEADLINE_S, ENTRANCE_BYTES_MAX, ENTRANCE_DEADLINE_S, GOSSIP_BYTES_MAX
from simulations.world.network_stream import SimulatedConnection, SimulatedStream

if TYPE_CHECKING:
    from trio_typing import TaskStatus

    from simulations.world.network import SimulatedWorld

log = logging.getLogger("fednode.network")

DOOR_PORT, ENTRANCE_PORT = 4001, 4002


class SimulatedNetwork:
    """`node.seams.Network`. Made by the world; start `run` in a nursery, which ends when the node is crashed."""

    def __init__(self, world: "SimulatedWorld", node_id: NodeId, host: str) -> None:
        self.world = world
        self.door = Door(trio.current_time)
        self.door.conduct.on_refusal = self._cut_off
        self.versions = Versions()
        self._node_id = node_id
        self._host = host
        self._bounds = EntranceBounds(self.door.counters, trio.current_time)
        self._peers = PeerRegister()
        self._gossip = GossipRegister()
        self._handlers: dict[str, StreamHandler] = {}
        self._known: dict[NodeId, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        self._connections: dict[SimulatedConnection, SimulatedNetwork] = {}
        self._inner: dict[NodeId, SimulatedConnection] = {}  # the newest to each peer, but for the entrance
        self._nursery: trio.Nursery | None = None

    @property
    def node_id(self) -> NodeId:
        return self._node_id

    @property
    def source(self) -> str:
        """Where it dials from, as an entrance counts it."""
        return source_of(self._host)

    @property
    def counters(self) -> TrafficCounters:
        return self.door.counters

    @property
    def conduct(self) -> Conduct:
        return self.door.conduct

    def trouble(self, peer: NodeId) -> str:
        return self.conduct.trouble(peer) or self.versions.trouble(peer)

    def addresses(self) -> list[str]:
        return [f"/ip4/{self._host}/tcp/{DOOR_PORT}"]

    def entrance_addresses(self) -> list[str]:
        return [f"/ip4/{self._host}/tcp/{ENTRANCE_PORT}"]

    async def run(self, task_status: "TaskStatus[SimulatedNetwork]" = trio.TASK_STATUS_IGNORED) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started(self)
                await trio.sleep_forever()
        finally:
            self.stop()

    def stop(self) -> None:
        """Be gone, at once."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
            self._nursery = None
            if self.world.has_ended:
                return
            self.world.left(self)
            for connection in list(self._connections):
                self._hang_up(connection)

    # --- what the seam asks --------------------------------------------------------------------------------------

    def set_door(self, admits: Callable[[NodeId], bool]) -> None:
        self.door.set(admits)
        for connection, other in self.connections:
            if not connection.entrance and not self.door.admits(other.node_id):
                self._hang_up(connection)

    def learn(self, peer: NodeId, addresses: Sequence[str], entrance_addresses: Sequence[str] = ()) -> None:
        self._known[peer] = (tuple(addresses), tuple(entrance_addresses))

    async def open(self, peer: NodeId, protocol: str) -> Stream:
        if peer == self._node_id:
            raise LocalProtocolError("A node has no stream to itself", remedy="call the function instead")
        if protocol != ENTRANCE_PROTOCOL:
            self.door.check_may_dial(peer)
        try:
            with trio.fail_after(DIAL_DEADLINE_S):
                return await self._open(peer, protocol)
        except trio.TooSlowError:
            raise self._unreachable(peer, f"did not answer within {DIAL_DEADLINE_S:.0f} s") from None

    async def _open(self, peer: NodeId, protocol: str) -> SimulatedStream:
        entrance = protocol == ENTRANCE_PROTOCOL
        connection = None if entrance else self._inner.get(peer)
        if connection is None:
            connection = await self._dial(peer, entrance)
        target = self._connections[connection]
        await self.world.round_trip(self._node_id, peer)
        if not connection.is_up(self) or not connection.is_up(target):
            connection.end(self, target)
            raise self._unreachable(peer, "closed the connection")
        handler = target._handlers.get(protocol)
        if handler is None:
            target.versions.note(self._node_id, self.versions.ours)
            if trouble := self.versions.note(peer, target.versions.ours):
                raise OtherVersion(trouble[0], remedy=trouble[1])
            raise self._unreachable(peer, f"does not speak {protocol}")
        self.versions.agreed(peer)
        return self._join(connection, target, protocol, handler)

    def _join(
        self, connection: SimulatedConnection, target: "SimulatedNetwork", protocol: str, handler: StreamHandler
    ) -> SimulatedStream:
        mine = SimulatedStream(self, target, connection, protocol)
        its = SimulatedStream(target, self, connection, protocol)
        mine.other, its.other = its, mine
        if target._nursery is not None:
            target._nursery.start_soon(target._serve, its, handler)
        return mine

    async def _dial(self, peer: NodeId, entrance: bool) -> SimulatedConnection:
        addresses = self._known.get(peer, ((), ()))[entrance]
        for position, address in enumerate(addresses):
            target = None
            left = trio.current_effective_deadline() - trio.current_time()
            with trio.move_on_after(max(left, 0.0) / (len(addresses) - position)):
                target = await self.world.reach(self, address)
            if target is not None and target.node_id == peer and self._nursery is not None:
                return self._knock_at(target, entrance)
        raise self._unreachable(peer, "cannot be reached" if addresses else "has no address that is known")

    def _knock_at(self, target: "SimulatedNetwork", entrance: bool) -> SimulatedConnection:
        if not (target._bounds.attempt(self.source) if entrance else target.door.knock(self._node_id)):
            self.world.observe("refused", self._node_id, target.node_id)
            raise Unreachable(
                f"Node {target.node_id} does not let us in",
                remedy="be admitted to a group that it is in, and try again",
                refused=True,
            )
        self.world.observe("dialled", self._node_id, target.node_id)
        return (None if entrance else self._inner.get(target.node_id)) or SimulatedConnection(self, target, entrance)

    def _unreachable(self, peer: NodeId, why: str) -> Unreachable:
        return Unreachable(f"Node {peer} {why}", remedy="check that it runs, and that a firewall lets its port through")

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        self._handlers[protocol] = handler

    async def publish(self, topic: str, data: bytes) -> None:
        if len(data) > GOSSIP_BYTES_MAX:
            raise LocalProtocolError(
                f"A gossip message of {len(data)} bytes is over {GOSSIP_BYTES_MAX}", remedy="send it over a stream"
            )
        await trio.lowlevel.checkpoint()
        if self.is_connected:
            self.counters.bytes_sent += len(data)
            self.world.gossip(self, topic, data)

    def subscribe(self, topic: str, readers: Callable[[NodeId], bool] = anybody) -> AsyncIterator[Gossip]:
        return self._gossip.feed(
            topic, lambda: self.world.subscribed(topic, self), lambda: self.world.unsubscribed(topic, self), readers
        )

    def is_for(self, topic: str, peer: NodeId) -> bool:
        """Whether a topic is for `peer`, as this node reads it."""
        return self._gossip.is_for(topic, peer)

    def peer_changes(self) -> AsyncIterator[PeerChange]:
        return self._peers.feed()

    def traffic(self, peer: NodeId) -> PeerTraffic:
        live = [each for each, other in self.connections if not each.entrance and other.node_id == peer]
        sent, received = (sum(each.bytes[key, self] for each in live) for key in ("sent", "received"))
        return PeerTraffic(sent, received, "direct" if live else "")

    async def disconnect(self, peer: NodeId) -> None:
        await trio.lowlevel.checkpoint()
        self._cut_off(peer)

    def _cut_off(self, peer: NodeId) -> None:
        for connection, other in self.connections:
            if not connection.entrance and other.node_id == peer:
                self._hang_up(connection)

    # --- what the world and the streams tell ---------------------------------------------------------------------

    @property
    def connections(self) -> list[tuple[SimulatedConnection, "SimulatedNetwork"]]:
        return list(self._connections.items())

    @property
    def is_connected(self) -> bool:
        return bool(self._connections)

    def connection_up(self, connection: SimulatedConnection, other: "SimulatedNetwork") -> None:
        self._connections[connection] = other
        if not connection.entrance:
            self._inner[other.node_id] = connection
            self._peers.up(other.node_id)

    def connection_down(self, connection: SimulatedConnection, other: "SimulatedNetwork") -> None:
        del self._connections[connection]
        if not connection.entrance:
            if self._inner.get(other.node_id) is connection:
                del self._inner[other.node_id]
            self._peers.down(other.node_id)

    def heard(self, topic: str, gossip: Gossip) -> None:
        if self._nursery is not None and self.door.admits(gossip.peer) and self.is_for(topic, gossip.peer):
            self.counters.bytes_received += len(gossip.data)
            self._gossip.heard(topic, gossip)

    def _hang_up(self, connection: SimulatedConnection) -> None:
        other = self._connections[connection]
        connection.end(self, other, discard=True)
        self.world.tell_of_end(connection, self, other)

    async def _serve(self, stream: SimulatedStream, handler: StreamHandler) -> None:
        try:
            if stream.protocol == ENTRANCE_PROTOCOL:
                await self._serve_stranger(stream, handler)
            else:
                await handler(stream)
        except FednodeError as error:
            log.info("a stream of %s from %s was reset: %s", stream.protocol, stream.peer, error.what)
            if isinstance(error, RemoteProtocolError) and stream.protocol != ENTRANCE_PROTOCOL:
                self.conduct.fault(stream.peer, "malformed", error.what)
            await stream.reset()
        except Exception:
            log.exception("the handler of %s failed; the stream from %s is reset", stream.protocol, stream.peer)
            await stream.reset()
        else:
            await stream.close()

    async def _serve_stranger(self, stream: SimulatedStream, handler: StreamHandler) -> None:
        stream.bound(ENTRANCE_BYTES_MAX)
        if self.door.conduct.refuses(stream.peer) or not self._bounds.attempt_of(stream.peer):
            raise Refused("too-often", f"{stream.peer} has just been here", remedy="try again in a minute")
        with self._bounds.conversation(stream.source), trio.move_on_after(ENTRANCE_DEADLINE_S) as deadline:
            await handler(stream)
        if deadline.cancelled_caught:
            log.info("the conversation with %s at the entrance took too long", stream.peer)
            await stream.reset()
