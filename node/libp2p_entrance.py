"""The entrance: a port of its own where strangers may speak one protocol, within bounds; from it we knock at theirs.

One connection carries one conversation. All its bytes are bounded before the muxer sees them, because the library lets
a peer send more than its window allows.
"""

import logging
from collections.abc import Sequence

import trio
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as new_x25519_key_pair
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.net_stream import NetStream
from libp2p.security.noise.transport import Transport as NoiseTransport

from node.door import Door, EntranceBounds
from node.libp2p_faults import Faults
from node.libp2p_host import Libp2pHost, muxer_of
from node.libp2p_stream import FrameStream
from node.seams import ENTRANCE_PROTOCOL, Stream, StreamHandler
from protocol.keys import NodeId
from protocol.limits import ENTRANCE_BYTES_MAX, ENTRANCE_DEADLINE_S, ENTRANCE_STREAMS_MAX

log = logging.getLogger("fednode.network")

CONNECTIONS_MAX = 2 * ENTRANCE_STREAMS_MAX  # some are still shaking hands, some already leaving
OVERHEAD_BYTES = 256 * 1024  # for handshake, negotiation and framing around the conversation
ANSWER_BYTES_MAX = (
    16 * ENTRANCE_BYTES_MAX
)  # from the entrance that we knock at, where a whole group's log may come back
STREAMS_MAX = 4  # on one connection: the conversation, and what a stock libp2p host opens of its own accord


class Libp2pEntrance:
    def __init__(self, key_pair: KeyPair, door: Door, faults: Faults | None) -> None:
        self._counters = door.counters
        noise = NoiseTransport(key_pair, new_x25519_key_pair().private_key)
        self.host = Libp2pHost(key_pair, noise, door.counters, streams_max=STREAMS_MAX, faults=faults)
        self._bounds = EntranceBounds(door.counters, trio.current_time)
        self._connections = 0

    async def welcome(self, stream: trio.SocketStream) -> None:
        """Take in a stranger's socket for as long as a conversation may last."""
        if self._connections >= CONNECTIONS_MAX:
            self._counters.refused_at_door += 1
            await trio.aclose_forcefully(stream)
            return
        if not self._bounds.attempt():
            await trio.aclose_forcefully(stream)
            return
        self._connections += 1
        connection = None
        try:
            with trio.move_on_after(ENTRANCE_DEADLINE_S):
                connection = await self.host.welcome(stream, ENTRANCE_BYTES_MAX + OVERHEAD_BYTES)
                if connection is not None:
                    await connection.event_closed.wait()
        finally:
            self._connections -= 1
            if connection is not None:
                self._leave(connection)

    def _leave(self, connection: SwarmConn) -> None:
        muxer_of(connection).cut_off()
        self.host.spawn(connection.close)

    def handle(self, handler: StreamHandler) -> None:
        async def within_bounds(stream: Stream) -> None:
            with self._bounds.conversation(), trio.move_on_after(ENTRANCE_DEADLINE_S) as deadline:
                await handler(stream)
            if deadline.cancelled_caught:
                log.info("the conversation with %s at the entrance took too long", stream.peer)
                await stream.reset()

        self.host.serve(ENTRANCE_PROTOCOL, within_bounds, self._stranger)

    def _stranger(self, stream: NetStream) -> FrameStream:
        peer = NodeId(stream.muxed_conn.peer_id.to_base58())
        return FrameStream(stream, peer, self.host.spawn, lambda _: None, bytes_max=ENTRANCE_BYTES_MAX)

    async def open(self, peer: NodeId, addresses: Sequence[str]) -> FrameStream:
        """Knock at `peer`'s entrance, over a connection that ends with the stream. Set a deadline around it."""
        connection = await self.host.connect(peer, addresses, ANSWER_BYTES_MAX)
        try:
            stream = await self.host.open_stream(connection, ENTRANCE_PROTOCOL)
        except BaseException:
            self._leave(connection)
            raise
        return FrameStream(stream, peer, self.host.spawn, lambda _: None, on_end=connection.close)
