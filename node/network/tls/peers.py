"""What there is with each peer beside its libp2p connections: streams over TLS, their bytes, and which way blobs take.

Nothing of it outlives those connections, on which the peer has proved its name: `drop` ends all.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import trio

from node.network.door import Door
from node.network.libp2p.faults import Faults
from node.network.tls.faults import FaultyTls
from node.network.tls.socket import TlsSocket
from node.network.tls.stream import Spawn, TlsStream
from node.seams import BLOB_PROTOCOL
from protocol.keys import NodeId
from protocol.limits import BULK_RETRY_S

Way = Literal["tls", "libp2p", ""]


@dataclass(slots=True)
class PeerWays:
    """What there is with one peer while it is connected."""

    streams: dict[TlsStream, bool] = field(default_factory=dict)  # each, and whether the peer opened it
    bytes_sent: int = 0
    bytes_received: int = 0
    way: Way = ""
    retry_at: float = float("-inf")  # TLS led nowhere, and is not tried before
    broken_at: float = float("-inf")  # a stream of ours over TLS ended, and it was not us

    def led_nowhere(self) -> None:
        """Do not try TLS to the peer for a while: each attempt has its reader wait."""
        self.retry_at = trio.current_time() + BULK_RETRY_S

    def broke_off(self) -> None:
        """Something between may let TLS begin, and end it then. Once that may be a bad line; twice is too often."""
        before, self.broken_at = self.broken_at, trio.current_time()
        if self.broken_at < before + BULK_RETRY_S:
            self.led_nowhere()


class TlsPeers:
    """The peers that there are, or were, streams over TLS with.

    Args:
        spawn: runs an async function as long as the network lives; false if it does not any more.
        faults: links that a test has broken, if that is switched on.
    """

    def __init__(self, door: Door, spawn: Spawn, faults: Faults | None) -> None:
        self._door = door
        self._spawn = spawn
        self._faults = faults
        self._peers: dict[NodeId, PeerWays] = {}

    def stream(self, tls: TlsSocket, peer: NodeId, *, came_in: bool) -> TlsStream:
        """`tls` as a stream to `peer`, which has proved to be there; `came_in`: the peer has opened it."""
        known = self.of(peer)
        tls.count = partial(self._count, known)
        if self._faults is not None:
            FaultyTls(self._faults, tls, peer)
        handed_over = partial(self._door.handed_over, peer, BLOB_PROTOCOL, came_in=True)
        stream = TlsStream(tls, peer, self._spawn, handed_over, partial(_ended, known))
        known.streams[stream] = came_in
        return stream

    def came_in(self, peer: NodeId | None = None) -> int:
        """How many streams are open that `peer`, or any peer, has opened."""
        chosen = self._peers.values() if peer is None else [known] if (known := self._peers.get(peer)) else []
        return sum(sum(each.streams.values()) for each in chosen)

    def is_worth_trying(self, peer: NodeId) -> bool:
        known = self._peers.get(peer)
        return known is None or known.retry_at <= trio.current_time()

    def took(self, peer: NodeId, way: Way) -> bool:
        """A stream for blobs to `peer` goes this way. Gives whether the one before went another."""
        known = self.of(peer)
        is_new, known.way = known.way != way, way
        return is_new

    def traffic(self, peer: NodeId) -> tuple[int, int, Way]:
        """Bytes sent and received over TLS since the peer connected, and the way that the last stream for blobs to it
        took."""
        known = self._peers.get(peer)
        return (known.bytes_sent, known.bytes_received, known.way) if known else (0, 0, "")

    def connected_anew(self, peer: NodeId) -> None:
        """Forget what led nowhere. The old connection may not have been missed yet."""
        known = self._peers.get(peer)
        if known is not None:
            known.retry_at = known.broken_at = float("-inf")

    def drop(self, peer: NodeId) -> None:
        """The peer is gone, or put out: cut all streams with it now. Never blocks."""
        known = self._peers.pop(peer, None)
        for stream in list(known.streams) if known else ():
            stream.cut()

    def drop_all(self) -> None:
        for peer in list(self._peers):
            self.drop(peer)

    def of(self, peer: NodeId) -> PeerWays:
        """Another one after `drop`."""
        return self._peers.setdefault(peer, PeerWays())

    def _count(self, known: PeerWays, sent: int, received: int) -> None:
        known.bytes_sent += sent
        known.bytes_received += received
        self._door.counters.bytes_sent += sent
        self._door.counters.bytes_received += received


def _ended(known: PeerWays, stream: TlsStream, is_broken: bool) -> None:
    came_in = known.streams.pop(stream, None)
    if is_broken and came_in is False:
        known.broke_off()
