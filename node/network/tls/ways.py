"""Streams for blobs over TLS, beside the connections that have proved the peers' names, and many times as fast.

Who wants one asks over libp2p and is told which certificate it will see, and a token. It connects to the same port,
looks at the certificate before it says anything, then says the token; so each knows the other (docs/protocol.md §13).
Where that leads nowhere the stream goes over libp2p, with the same results, and for a while TLS is not tried again.
"""

import logging
from collections.abc import Sequence

import trio

from node.network.door import Door
from node.network.libp2p.faults import Faults
from node.network.tls.caller import TlsCaller
from node.network.tls.peers import TlsPeers, Way
from node.network.tls.server import TlsServer
from node.network.tls.stream import Spawn, TlsStream
from node.seams import Stream, StreamHandler
from protocol.bulk_ways import OFFER_BYTES_MAX, offer_frame, read_offer
from protocol.errors import FednodeError
from protocol.keys import NodeId
from protocol.limits import BULK_RETRY_S, BULK_WAY_DEADLINE_S

log = logging.getLogger("fednode.network")


class TlsWays:
    """One node's streams over TLS, from others and to them.

    Args:
        spawn: runs an async function as long as the network lives; false if it does not any more.
        faults: links that a test has broken, if that is switched on.
    """

    def __init__(self, me: NodeId, door: Door, spawn: Spawn, faults: Faults | None = None) -> None:
        self._door = door
        self._faults = faults
        self._peers = TlsPeers(door, spawn, faults)
        self._server = TlsServer(me, door, self._peers)
        self._caller = TlsCaller(me)

    async def welcome(self, stream: trio.SocketStream) -> None:
        """Take in an accepted socket on which TLS is spoken, until it is closed. Raises nothing."""
        await self._server.welcome(stream)

    def cut_all(self) -> None:
        self._peers.drop_all()

    def handle(self, handler: StreamHandler) -> None:
        self._server.handler = handler

    async def offer(self, stream: Stream, source: str) -> None:
        """Answer a peer that asks, on `stream` and from `source`, for a way."""
        with trio.move_on_after(BULK_WAY_DEADLINE_S):
            await stream.send_frame(offer_frame(self._server.offer(stream.peer, source)))

    def is_worth_trying(self, peer: NodeId) -> bool:
        """Whether no attempt has led nowhere lately."""
        return self._peers.is_worth_trying(peer)

    async def open(self, peer: NodeId, asked: Stream, addresses: Sequence[str]) -> TlsStream | None:
        """A stream to `peer`, which is asked on `asked`, at one of `addresses`; None where there is no such way. It
        takes BULK_WAY_DEADLINE_S at most, and half of the time that the caller has."""
        known = self._peers.of(peer)
        # the caller may have been given up already, which nothing has told it yet: then there is less than no time
        time_left = max(0.0, trio.current_effective_deadline() - trio.current_time())
        with trio.move_on_after(min(BULK_WAY_DEADLINE_S, time_left / 2)):
            try:
                offer = read_offer(await asked.receive_frame(OFFER_BYTES_MAX))
            except FednodeError as error:
                log.debug("%s says no way for blobs: %s", peer, error.what)
                offer = None
            finally:
                await asked.close()
            if offer is None:
                return None  # now; it may be another time, and was quickly said
            if self._faults is not None:
                try:
                    await self._faults.before_dial(peer)
                except ConnectionRefusedError:
                    return None
            tls = await self._caller.connect(peer, offer, addresses)
            if tls is not None and self._door.admits(peer) and self._peers.of(peer) is known:
                self.took(peer, "tls")
                return self._peers.stream(tls, peer, came_in=False)
            if tls is not None:  # the peer was put out meanwhile, or its connection ended
                tls.cut()
                return None
        known.led_nowhere()
        log.info("no address leads to %s for blobs over TLS; not tried again for %.0f s", peer, BULK_RETRY_S)
        return None

    def took(self, peer: NodeId, way: Way) -> None:
        """A stream for blobs to `peer` goes this way; said in the log where the one before went another."""
        if self._peers.took(peer, way):
            log.info("blobs from %s come over %s", peer, "TLS" if way == "tls" else "libp2p")

    def traffic(self, peer: NodeId) -> tuple[int, int, Way]:
        """Bytes sent and received over TLS since the peer connected, and which way the last stream for blobs took."""
        return self._peers.traffic(peer)

    def connected_anew(self, peer: NodeId) -> None:
        """What was not worth trying is: the peer may have started again, or come another way."""
        self._peers.connected_anew(peer)

    def drop(self, peer: NodeId) -> None:
        """The peer is gone, or put out: what it was offered is void, and its streams are cut. Never blocks."""
        self._server.forget(peer)
        self._peers.drop(peer)
