"""The Network seam over libp2p: members behind the door, strangers at the entrance, one identity for both.

Two hosts run in one process. The inner one carries control, blobs and gossip; its Noise handshake asks the door. The
entrance has its own port and its own bounds. This module and its neighbours `libp2p_*` are all that imports libp2p.
Blobs have connections of their own to the same door, over TLS (`tls_*`); where those cannot be had they go over libp2p.
"""

import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node.network.addresses import announced, bind
from node.network.conduct import Conduct
from node.network.door import Door
from node.network.feeds import PeerRegister, anybody
from node.network.libp2p.entrance import Libp2pEntrance
from node.network.libp2p.faults import Faults
from node.network.libp2p.gossip import Libp2pGossip
from node.network.libp2p.host import Libp2pHost, NotSpoken, muxer_of
from node.network.libp2p.secure import GatedNoise
from node.network.libp2p.stream import FrameStream
from node.network.libp2p.version import ask_version, serve_version
from node.network.reach import entrance_beside
from node.network.tls.ways import TlsWays
from node.network.versions import Versions
from node.seams import (
    BLOB_PROTOCOL,
    ENTRANCE_PROTOCOL,
    VERSION_PROTOCOL,
    Gossip,
    PeerChange,
    PeerTraffic,
    Stream,
    StreamHandler,
    TrafficCounters,
    Unreachable,
)
from protocol.bulk_ways import BULK_WAY_PROTOCOL
from protocol.errors import FednodeError, LocalProtocolError
from protocol.keys import NodeId, node_id_of, public_key_of
from protocol.limits import DIAL_DEADLINE_S, PEER_STREAMS_MAX

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = logging.getLogger("fednode.network")

HANDSHAKE_BYTES_MAX = 64 * 1024  # from whoever dials us, until it has proved a name that we admit; about 400 are needed

Admits = Callable[[NodeId], bool]


@asynccontextmanager
async def open_network(
    key: Ed25519PrivateKey, listen: Sequence[str], entrances: Sequence[str] = ()
) -> AsyncIterator["Libp2pNetwork"]:
    """A running network, for the arguments see Libp2pNetwork. A single error comes out as itself, not as a group."""
    network = Libp2pNetwork(key, listen, entrances)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            yield network
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__


class Libp2pNetwork:
    """`node.seams.Network` over libp2p. Start `run` in a nursery, or use `open_network`.

    Args:
        key: the node's; its peer id comes from it.
        listen: multiaddresses for members, such as /ip4/0.0.0.0/tcp/4001. Port 0 takes any.
        entrances: multiaddresses for strangers; without them the port after each of `listen`.
    """

    def __init__(self, key: Ed25519PrivateKey, listen: Sequence[str], entrances: Sequence[str] = ()) -> None:
        self._node_id = node_id_of(public_key_of(key))
        self._listen = tuple(listen)
        self._listen_for_strangers = tuple(entrances) or tuple(entrance_beside(address) for address in listen)
        self._door = Door(trio.current_time)
        self._door.conduct.on_refusal = self._cut_off
        self.versions = Versions()
        key_pair = create_new_key_pair(key.private_bytes_raw())
        noise = GatedNoise(key_pair, self._door)
        self._faults = Faults.from_environment()
        self._inner = Libp2pHost(
            key_pair,
            noise,
            self._door.counters,
            streams_max=PEER_STREAMS_MAX,
            charge=self.conduct.fault,
            faults=self._faults,
        )
        self._peers = PeerRegister()
        self._tls = TlsWays(self._node_id, self._door, self._inner.spawn, self._faults)
        self._inner.on_connections(_Watcher(self._peers, self._came_up, self._tls.drop))
        self._inner.serve(BULK_WAY_PROTOCOL, self._offer_way, self._frames)
        serve_version(self._inner, self._frames, self.versions)
        self._gossip = Libp2pGossip(self._inner.host, self._door, self._inner.guarded)
        self._entrance = Libp2pEntrance(key_pair, self._door, self.versions, self._faults)
        self._known: dict[NodeId, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        self._dialling: dict[NodeId, trio.Lock] = {}
        self._doors: list[trio.SocketListener] = []
        self._entrances: list[trio.SocketListener] = []

    @property
    def node_id(self) -> NodeId:
        return self._node_id

    @property
    def counters(self) -> TrafficCounters:
        return self._door.counters

    @property
    def conduct(self) -> Conduct:
        return self._door.conduct

    def trouble(self, peer: NodeId) -> str:
        return self.conduct.trouble(peer) or self.versions.trouble(peer)

    def addresses(self) -> list[str]:
        return [address for door in self._doors for address in announced(door)]

    def entrance_addresses(self) -> list[str]:
        return [address for entrance in self._entrances for address in announced(entrance)]

    async def run(self, task_status: "TaskStatus[Libp2pNetwork]" = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and serve until cancelled. Raises FednodeError when an address cannot be had or the library breaks."""
        doors = await _bind_all(self._listen)
        try:
            entrances = await _bind_all(self._listen_for_strangers)
        except BaseException:
            await _close_all(doors)
            raise
        self._doors, self._entrances = doors, entrances
        try:
            await self._serve(doors, entrances, task_status)
        except BaseExceptionGroup as group:
            cancelled, failures = group.split(trio.Cancelled)
            log.debug("the network stopped: %r", failures)
            if trio.current_effective_deadline() > -math.inf:
                raise FednodeError(
                    f"The network broke ({_innermost(failures or group)!r})",
                    remedy="restart the node and report its log",
                ) from group
            # We were told to stop, and what the library drops on its way out is nobody's concern.
            if cancelled is not None:
                raise cancelled from None
            await trio.lowlevel.checkpoint()
        finally:
            self._doors, self._entrances = [], []
            self._tls.cut_all()
            with trio.CancelScope(shield=True):
                await _close_all([*doors, *entrances])

    async def _serve(
        self,
        doors: list[trio.SocketListener],
        entrances: list[trio.SocketListener],
        task_status: "TaskStatus[Libp2pNetwork]",
    ) -> None:
        async with trio.open_nursery() as nursery:
            if self._faults is not None:
                nursery.start_soon(self._faults.watch)
            await nursery.start(self._inner.run)
            await nursery.start(self._entrance.host.run)
            await nursery.start(self._gossip.run)
            await nursery.start(trio.serve_listeners, self._welcome, doors)
            await nursery.start(trio.serve_listeners, self._entrance.welcome, entrances)
            task_status.started(self)

    async def _welcome(self, stream: trio.SocketStream) -> None:
        connection = await self._inner.welcome(stream, HANDSHAKE_BYTES_MAX, divert=self._tls.welcome)
        if connection is not None:
            await connection.event_closed.wait()  # the socket is closed when we return

    def set_door(self, admits: Admits) -> None:
        self._door.set(admits)
        for peer in self._peers.connected:
            if not self._door.admits(peer):
                self._cut_off(peer)
        self._gossip.look_again()

    def learn(self, peer: NodeId, addresses: Sequence[str], entrance_addresses: Sequence[str] = ()) -> None:
        self._known[peer] = (tuple(addresses), tuple(entrance_addresses))

    async def open(self, peer: NodeId, protocol: str) -> Stream:
        if peer == self._node_id:
            raise LocalProtocolError("A node has no stream to itself", remedy="call the function instead")
        doors, entrances = self._known.get(peer, ((), ()))
        try:
            with trio.fail_after(DIAL_DEADLINE_S):
                if protocol == ENTRANCE_PROTOCOL:
                    return await self._entrance.open(peer, entrances)
                open_it = self._open_for_blobs if protocol == BLOB_PROTOCOL else self._open_inside
                stream = await open_it(peer, protocol, doors)
                self.versions.agreed(peer)
                return stream
        except trio.TooSlowError:
            self._suspect(peer)
            raise Unreachable(
                f"Node {peer} did not answer within {DIAL_DEADLINE_S:.0f} s",
                remedy="check that it runs, and that a firewall lets its port through",
            ) from None

    async def _open_for_blobs(self, peer: NodeId, protocol: str, addresses: Sequence[str]) -> Stream:
        """Over TLS, where `peer` says how and that leads to it; else as any other stream."""
        if self._tls.is_worth_trying(peer):
            try:
                asked = await self._open_inside(peer, BULK_WAY_PROTOCOL, addresses)
            except NotSpoken:
                log.debug("%s offers no way for blobs beside libp2p", peer)
            else:
                stream = await self._tls.open(peer, asked, [*self._dialled(peer), *addresses])
                if stream is not None:
                    return stream
        over_libp2p = await self._open_inside(peer, protocol, addresses)
        self._tls.took(peer, "libp2p")
        return over_libp2p

    def _dialled(self, peer: NodeId) -> list[str]:
        """Where the connections that we have opened to `peer` go, the newest first."""
        live = reversed(self._inner.connections(_id(peer)))
        return [address for each in live if (address := muxer_of(each).connection.dialled)]

    async def _offer_way(self, stream: Stream) -> None:
        assert isinstance(stream, FrameStream)  # what `_frames` makes
        await self._tls.offer(stream, stream.source)

    async def _open_inside(self, peer: NodeId, protocol: str, addresses: Sequence[str]) -> Stream:
        self._door.check_may_dial(peer)
        connection = await self._connection(peer, addresses)
        try:
            stream = await self._inner.open_stream(connection, protocol)
        except NotSpoken as unknown:
            asked = self._frames(await self._inner.open_stream(connection, VERSION_PROTOCOL))
            raise await ask_version(asked, self.versions) or unknown from None
        except Unreachable:
            if connection in self._inner.connections(_id(peer)):
                raise
            # It had died without our knowing: once more, over a new one.
            stream = await self._inner.open_stream(await self._connection(peer, addresses), protocol)
        return self._frames(stream)

    async def _connection(self, peer: NodeId, addresses: Sequence[str]) -> SwarmConn:
        """The connection to `peer`, new if need be; one dial at a time for each peer."""
        lock = self._dialling.setdefault(peer, trio.Lock())
        try:
            async with lock:
                live = self._inner.connections(_id(peer))
                return live[-1] if live else await self._inner.connect(peer, addresses)
        finally:
            if not lock.locked():
                self._dialling.pop(peer, None)

    def _suspect(self, peer: NodeId) -> None:
        """Cut the connections on which `peer` has been silent since before we began to wait for it."""
        silent_since = trio.current_time() - DIAL_DEADLINE_S
        for connection in self._inner.connections(_id(peer)):
            if muxer_of(connection).connection.heard_at <= silent_since:
                muxer_of(connection).cut_off()

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        if protocol == ENTRANCE_PROTOCOL:
            self._entrance.handle(handler)
        else:
            self._inner.serve(protocol, handler, self._frames)
        if protocol == BLOB_PROTOCOL:
            self._tls.handle(handler)

    def _frames(self, stream: NetStream) -> FrameStream:
        peer = NodeId(stream.muxed_conn.peer_id.to_base58())
        protocol = str(stream.get_protocol())
        came_in = self._door.admits(peer)

        def handed_over(size: int) -> None:
            self._door.handed_over(peer, protocol, size, came_in=came_in)

        return FrameStream(stream, peer, self._inner.spawn, handed_over)

    async def publish(self, topic: str, data: bytes) -> None:
        await self._gossip.publish(topic, data)

    def subscribe(self, topic: str, readers: Admits = anybody) -> AsyncIterator[Gossip]:
        return self._gossip.subscribe(topic, readers)

    def peer_changes(self) -> AsyncIterator[PeerChange]:
        return self._peers.feed()

    def traffic(self, peer: NodeId) -> PeerTraffic:
        live = [muxer_of(connection).connection for connection in self._inner.connections(_id(peer))]
        # Only sockets of our own making get here, and `host_and_port` takes no relay's address: a way is direct.
        sent, received, blobs_by = self._tls.traffic(peer) if live else (0, 0, "")
        return PeerTraffic(
            sent + sum(each.bytes_sent for each in live),
            received + sum(each.bytes_received for each in live),
            "direct" if live else "",
            blobs_by,
        )

    async def disconnect(self, peer: NodeId) -> None:
        self._tls.drop(peer)
        for connection in self._inner.connections(_id(peer)):
            await connection.close()

    def _came_up(self, peer: NodeId) -> None:
        """A connection stands. The door may have been shut while it came up."""
        self._tls.connected_anew(peer)
        if not self._door.admits(peer):
            self._cut_off(peer)

    def _cut_off(self, peer: NodeId) -> None:
        self._tls.drop(peer)
        for connection in self._inner.connections(_id(peer)):
            muxer_of(connection).cut_off()
            self._inner.spawn(connection.close)


class _Watcher(INotifee):
    """Tells of connections that come and go; of streams and listeners nobody wants to know."""

    def __init__(self, peers: PeerRegister, came_up: Callable[[NodeId], None], gone: Callable[[NodeId], None]) -> None:
        self._peers = peers
        self._came_up = came_up
        # Told when a peer's last connection has ended; or one that was dead: what began while it lived is so, too.
        self._gone = gone
        self._counted: set[INetConn] = set()

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        if not conn.is_closed:  # it may have died before the library told us that it lives
            self._counted.add(conn)
            self._peers.up(NodeId(conn.muxed_conn.peer_id.to_base58()))
            self._came_up(NodeId(conn.muxed_conn.peer_id.to_base58()))

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        if conn in self._counted:
            self._counted.remove(conn)
            peer = NodeId(conn.muxed_conn.peer_id.to_base58())
            self._peers.down(peer)
            if peer not in self._peers.connected or _was_silent(conn):
                self._gone(peer)

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None: ...

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None: ...

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None: ...

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None: ...


def _was_silent(conn: INetConn) -> bool:
    return isinstance(conn, SwarmConn) and muxer_of(conn).was_silent


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _id(peer: NodeId) -> ID:
    return ID.from_base58(peer)


async def _bind_all(addresses: Sequence[str]) -> list[trio.SocketListener]:
    listeners: list[trio.SocketListener] = []
    try:
        for address in addresses:
            listeners.append(await bind(address))
    except BaseException:
        await _close_all(listeners)
        raise
    return listeners


async def _close_all(listeners: Sequence[trio.SocketListener]) -> None:
    for listener in listeners:
        await listener.aclose()
