"""Where a network leaves what its readers fetch in their own time: gossip heard, and peers that came and went.

Both feeds are bounded: a reader that falls behind loses the oldest gossip, and of one peer's comings and goings it gets
the last two.
"""

from collections import deque
from collections.abc import Callable, Iterable

import trio

from node.seams import Gossip, PeerChange
from protocol.keys import NodeId

GOSSIP_WAITING_MAX = 1024  # operations come in bursts of hundreds; what is lost here, anti-entropy makes good


def anybody(peer: NodeId) -> bool:
    """Every peer that the door admits."""
    return True


class _Feed:
    """The waiting and the closing that both feeds share."""

    def __init__(self, on_close: Callable[[], None]) -> None:
        self._on_close = on_close
        self._closed = False
        self._reader = trio.lowlevel.ParkingLot()

    def _wake(self) -> None:
        self._reader.unpark_all()

    async def _wait(self) -> None:
        """Until something may be there. Raises StopAsyncIteration when the feed is closed."""
        if self._closed:
            raise StopAsyncIteration
        await self._reader.park()
        if self._closed:
            raise StopAsyncIteration

    def close(self) -> None:
        """End the subscription; its reader's loop ends."""
        if not self._closed:
            self._closed = True
            self._on_close()
            self._wake()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


class GossipFeed(_Feed):
    """The messages of one topic, for one subscriber."""

    def __init__(self, on_close: Callable[[], None]) -> None:
        super().__init__(on_close)
        self._waiting: deque[Gossip] = deque(maxlen=GOSSIP_WAITING_MAX)
        self.dropped = 0

    def put(self, gossip: Gossip) -> None:
        if self._closed:
            return
        if len(self._waiting) == GOSSIP_WAITING_MAX:
            self.dropped += 1
        self._waiting.append(gossip)
        self._wake()

    def __aiter__(self) -> "GossipFeed":
        return self

    async def __anext__(self) -> Gossip:
        while not self._waiting:
            await self._wait()
        return self._waiting.popleft()


class PeerChangeFeed(_Feed):
    """Who is connected, for one subscriber: first those connected now, then every change."""

    def __init__(self, connected: Iterable[NodeId], on_close: Callable[[], None]) -> None:
        super().__init__(on_close)
        self._waiting: dict[NodeId, tuple[bool, ...]] = dict.fromkeys(connected, (True,))

    def put(self, change: PeerChange) -> None:
        if self._closed:
            return
        # The last two tell a reader both that a peer was away and how it is now, which is all that it can act on.
        self._waiting[change.peer] = (*self._waiting.pop(change.peer, ()), change.connected)[-2:]
        self._wake()

    def __aiter__(self) -> "PeerChangeFeed":
        return self

    async def __anext__(self) -> PeerChange:
        while not self._waiting:
            await self._wait()
        peer = next(iter(self._waiting))
        first, *rest = self._waiting.pop(peer)
        if rest:
            self._waiting = {peer: tuple(rest), **self._waiting}
        return PeerChange(peer, first)


class PeerRegister:
    """Counts each peer's connections and tells the feeds when its first comes up and its last goes down."""

    def __init__(self) -> None:
        self._connections: dict[NodeId, int] = {}
        self._feeds: list[PeerChangeFeed] = []

    def feed(self) -> PeerChangeFeed:
        feed = PeerChangeFeed(self._connections, lambda: self._feeds.remove(feed))
        self._feeds.append(feed)
        return feed

    @property
    def connected(self) -> list[NodeId]:
        return list(self._connections)

    def up(self, peer: NodeId) -> None:
        self._connections[peer] = self._connections.get(peer, 0) + 1
        if self._connections[peer] == 1:
            self._tell(PeerChange(peer, True))

    def down(self, peer: NodeId) -> None:
        """Count one connection less. Only for one that was counted `up`."""
        self._connections[peer] -= 1
        if not self._connections[peer]:
            del self._connections[peer]
            self._tell(PeerChange(peer, False))

    def _tell(self, change: PeerChange) -> None:
        for feed in tuple(self._feeds):
            feed.put(change)


class GossipRegister:
    """The feeds of each topic."""

    def __init__(self) -> None:
        self._feeds: dict[str, list[GossipFeed]] = {}
        self._readers: dict[str, Callable[[NodeId], bool]] = {}

    @property
    def topics(self) -> list[str]:
        return list(self._feeds)

    def is_for(self, topic: str, peer: NodeId) -> bool:
        """Whether `peer` may know of `topic`, read it and be heard on it; of one that we never read, anybody."""
        readers = self._readers.get(topic)
        return readers is None or readers(peer)

    def feed(
        self,
        topic: str,
        on_first: Callable[[], None],
        on_last: Callable[[], None],
        readers: Callable[[NodeId], bool] = anybody,
    ) -> GossipFeed:
        """A new feed of `topic`, for `readers`. Calls `on_first` if it is the first of it, `on_last` when the last one
        closes."""
        self._readers[topic] = readers

        def closed() -> None:
            self._feeds[topic].remove(feed)
            if not self._feeds[topic]:
                del self._feeds[topic]  # for whom it was is remembered: that we read it no more is said to them alone
                on_last()

        feed = GossipFeed(closed)
        if topic not in self._feeds:
            self._feeds[topic] = []
            on_first()
        self._feeds[topic].append(feed)
        return feed

    def heard(self, topic: str, gossip: Gossip) -> None:
        for feed in tuple(self._feeds.get(topic, ())):
            feed.put(gossip)
