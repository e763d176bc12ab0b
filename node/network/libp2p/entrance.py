"""The entrance: a port of its own where strangers may speak one protocol, within bounds; from it we knock at theirs.

One connection carries one conversation. All its bytes are bounded before the muxer sees them, because the library lets
a peer send more than its window allows.
"""

import logging
from collections.abc import Sequence
from weakref import WeakSet

import trio
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as new_x25519_key_pair
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.net_stream import NetStream
from libp2p.security.noise.transport import Transport as NoiseTransport

from node.network.conduct import Fault
from node.network.door import Door, EntranceBounds, Places
from node.network.libp2p.faults import Faults
from node.network.libp2p.host import Libp2pHost, NotSpoken, muxer_of
from node.network.libp2p.secure import CountedConnection, source_of_stream
from node.network.libp2p.stream import FrameStream
from node.network.libp2p.version import ask_version, serve_version
from node.network.versions import Versions
from node.seams import ENTRANCE_PROTOCOL, VERSION_PROTOCOL, Stream, StreamHandler
from protocol.errors import Refused
from protocol.keys import NodeId
from protocol.limits import (
    ENTRANCE_BYTES_MAX,
    ENTRANCE_DEADLINE_S,
    ENTRANCE_HELD_BYTES_MAX,
    ENTRANCE_SOURCE_STREAMS_MAX,
    ENTRANCE_STREAMS_MAX,
)
from protocol.version import VERSIONS_BYTES_MAX

log = logging.getLogger("fednode.network")

CONNECTIONS_MAX = 2 * ENTRANCE_STREAMS_MAX  # some are still shaking hands, some already leaving
SOURCE_CONNECTIONS_MAX = 2 * ENTRANCE_SOURCE_STREAMS_MAX
OVERHEAD_BYTES = 256 * 1024  # for handshake, negotiation and framing around the conversation
ANSWER_BYTES_MAX = (
    16 * ENTRANCE_BYTES_MAX
)  # from the entrance that we knock at, where a whole group's log may come back
STREAMS_MAX = 4  # on one connection: the conversation, and what a stock libp2p host opens of its own accord


class Libp2pEntrance:
    def __init__(self, key_pair: KeyPair, door: Door, versions: Versions, faults: Faults | None) -> None:
        self._door = door
        self._versions = versions
        noise = NoiseTransport(key_pair, new_x25519_key_pair().private_key)
        self.host = Libp2pHost(
            key_pair, noise, door.counters, streams_max=STREAMS_MAX, charge=_no_matter, faults=faults
        )
        self._bounds = EntranceBounds(door.counters, trio.current_time)
        self._places = Places(CONNECTIONS_MAX, SOURCE_CONNECTIONS_MAX)
        self._here: WeakSet[CountedConnection] = WeakSet()
        serve_version(self.host, self._asker, versions)

    async def welcome(self, stream: trio.SocketStream) -> None:
        """Take in a stranger's socket for as long as a conversation may last."""
        source = source_of_stream(stream)
        with self._places.place(source) as held:
            if not held:
                self._door.counters.refused_at_door += 1
            if not held or not self._bounds.attempt(source):
                await trio.aclose_forcefully(stream)
                return
            await self._stay(stream)

    async def _stay(self, stream: trio.SocketStream) -> None:
        connection = None
        try:
            with trio.move_on_after(ENTRANCE_DEADLINE_S):
                connection = await self.host.welcome(stream, ENTRANCE_BYTES_MAX + OVERHEAD_BYTES, self._watch)
                if connection is not None:
                    await connection.event_closed.wait()
        finally:
            if connection is not None:
                self._leave(connection)

    def _watch(self, connection: CountedConnection) -> None:
        self._here.add(connection)
        connection.on_bytes = self._weigh

    def _weigh(self) -> None:
        """Who has sent the most goes when all together have sent too much: hardly ever one who wants to join."""
        here = [connection for connection in self._here if connection.is_open]
        if sum(connection.bytes_received for connection in here) > ENTRANCE_HELD_BYTES_MAX:
            self._door.counters.refused_at_door += 1
            max(here, key=lambda connection: connection.bytes_received).hang_up()

    def _leave(self, connection: SwarmConn) -> None:
        muxer_of(connection).cut_off()
        self.host.spawn(connection.close)

    def handle(self, handler: StreamHandler) -> None:
        async def within_bounds(stream: Stream) -> None:
            if self._door.conduct.refuses(stream.peer) or not self._bounds.attempt_of(stream.peer):
                raise Refused("too-often", f"{stream.peer} has just been here", remedy="try again in a minute")
            assert isinstance(stream, FrameStream)
            with self._bounds.conversation(stream.source), trio.move_on_after(ENTRANCE_DEADLINE_S) as deadline:
                await handler(stream)
            if deadline.cancelled_caught:
                log.info("the conversation with %s at the entrance took too long", stream.peer)
                await stream.reset()

        self.host.serve(ENTRANCE_PROTOCOL, within_bounds, self._stranger)

    def _stranger(self, stream: NetStream) -> FrameStream:
        peer = NodeId(stream.muxed_conn.peer_id.to_base58())
        return FrameStream(stream, peer, self.host.spawn, lambda _: None, bytes_max=ENTRANCE_BYTES_MAX)

    def _asker(self, stream: NetStream) -> FrameStream:
        peer = NodeId(stream.muxed_conn.peer_id.to_base58())
        return FrameStream(stream, peer, self.host.spawn, lambda _: None, bytes_max=2 * VERSIONS_BYTES_MAX)

    async def open(self, peer: NodeId, addresses: Sequence[str]) -> FrameStream:
        """Knock at `peer`'s entrance, over a connection that ends with the stream. Set a deadline around it."""
        connection = await self.host.connect(peer, addresses, ANSWER_BYTES_MAX)
        try:
            try:
                stream = await self.host.open_stream(connection, ENTRANCE_PROTOCOL)
            except NotSpoken as unknown:
                asked = self._asker(await self.host.open_stream(connection, VERSION_PROTOCOL))
                raise await ask_version(asked, self._versions) or unknown from None
        except BaseException:
            self._leave(connection)
            raise
        return FrameStream(stream, peer, self.host.spawn, lambda _: None, on_end=connection.close)


def _no_matter(peer: NodeId, fault: Fault, what: str) -> None:
    """A stranger's name costs nothing, so what it does is held against nobody. Its connection ends."""
    log.debug("%s at the entrance (%s): %s", peer, fault, what)
