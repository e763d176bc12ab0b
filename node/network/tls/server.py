"""Blobs over TLS at a node's door: what it offers to who asks over libp2p, and who it lets in.

Before its token nobody is known here, and whoever connects has little: one of a few places, for a short time, and no
memory beyond a handshake's. Who holds a token for the place that it dials from has places that no stranger can take.
"""

import logging
import secrets

import trio

from node.network.door import Door, PerMinute, Places, source_of
from node.network.serving import answer
from node.network.tls.certificate import serving_context
from node.network.tls.peers import TlsPeers
from node.network.tls.socket import Ended, TlsSocket
from node.seams import BLOB_PROTOCOL, StreamHandler
from protocol.bulk_ways import TAKEN, BulkOffer, BulkTokens, proof_of
from protocol.keys import NodeId
from protocol.limits import (
    BULK_EXPECTED_MAX,
    BULK_STREAMS_MAX,
    BULK_TOKEN_BYTES,
    BULK_UNEXPECTED_MAX,
    BULK_WAY_DEADLINE_S,
    PEER_BULK_STREAMS_MAX,
    SOURCE_BULK_EXPECTED_MAX,
    SOURCE_BULK_UNEXPECTED_MAX,
    SOURCE_FAILURES_PAUSE_S,
    SOURCE_FAILURES_PER_MINUTE,
)

log = logging.getLogger("fednode.network")


class TlsServer:
    """The side that is connected to: `me`. It offers nothing before `handler` is set."""

    def __init__(self, me: NodeId, door: Door, peers: TlsPeers) -> None:
        self._me = me
        self.handler: StreamHandler | None = None
        self._door = door
        self._peers = peers
        self._context, self._fingerprint = serving_context()
        self._tokens = BulkTokens()
        self._expected = Places(BULK_EXPECTED_MAX, SOURCE_BULK_EXPECTED_MAX)
        self._unexpected = Places(BULK_UNEXPECTED_MAX, SOURCE_BULK_UNEXPECTED_MAX)
        self._failures = PerMinute(SOURCE_FAILURES_PER_MINUTE)

    def offer(self, peer: NodeId, source: str) -> BulkOffer | None:
        """A way in for `peer`, which asks from `source`; None where it is to use what it asked on."""
        if self.handler is None or not self._door.admits(peer):
            return None
        now = trio.current_time()
        open_soon = self._peers.came_in(peer) + self._tokens.outstanding(peer, now)
        if open_soon >= PEER_BULK_STREAMS_MAX or self._peers.came_in() >= BULK_STREAMS_MAX:
            return None
        token = secrets.token_bytes(BULK_TOKEN_BYTES)
        if not self._tokens.issue(peer, source, proof_of(token, peer, self._me), now):
            return None
        return BulkOffer(certificate=self._fingerprint, token=token)

    def forget(self, peer: NodeId) -> None:
        """What `peer` was offered is void."""
        self._tokens.forget(peer)

    async def welcome(self, stream: trio.SocketStream) -> None:
        """Take in an accepted socket on which TLS is spoken, until it is closed. Raises nothing."""
        try:
            source = source_of(str(stream.socket.getpeername()[0]))
            tls = TlsSocket(stream, self._context, is_server=True)
        except (OSError, Ended):
            return  # it was over before it began
        try:
            peer = await self._let_in(tls, source)
            if peer is not None:
                await self._serve(tls, peer)
        except Ended as error:
            log.debug("a connection for blobs from %s ended: %r", source, error.__cause__)
        finally:
            tls.cut()

    async def _let_in(self, tls: TlsSocket, source: str) -> NodeId | None:
        """Who it is that has connected, as its token says; None for who has none, or does not say it in time."""
        places = self._expected if self._tokens.expects(source, trio.current_time()) else self._unexpected
        peer = None
        with places.place(source) as held:
            if held:
                if not self._failures.may(source, trio.current_time()):
                    await trio.sleep(SOURCE_FAILURES_PAUSE_S)
                with trio.move_on_after(BULK_WAY_DEADLINE_S):
                    peer = await self._token_holder(tls)
        if peer is not None and self._door.admits(peer):
            return peer
        self._door.counters.refused_at_door += 1
        if held:
            self._failures.note(source, trio.current_time())
        return None

    async def _token_holder(self, tls: TlsSocket) -> NodeId | None:
        try:
            await tls.shake_hands()
            token = bytearray(BULK_TOKEN_BYTES)
            await tls.receive_into(memoryview(token), lambda size: None)
        except Ended as error:
            log.debug("who connected for blobs did not come in: %r", error.__cause__)
            return None
        return self._tokens.redeem(bytes(token), trio.current_time())

    async def _serve(self, tls: TlsSocket, peer: NodeId) -> None:
        stream = self._peers.stream(tls, peer, came_in=True)
        try:
            await tls.send(TAKEN)
            if self.handler is not None:
                await answer(BLOB_PROTOCOL, self.handler, stream, self._door.conduct.fault)
            await stream.wait_until_gone()
        finally:
            stream.cut()
