"""Fetching one blob: who is asked for its chunk list, and of a larger one the swarm that they come from."""

import logging
from collections.abc import Sequence
from typing import Literal, NamedTuple

import trio

from node.network.bulk.arrival import Arrival
from node.network.bulk.board import Board
from node.network.bulk.lists import Lists
from node.network.bulk.progress import Meter
from node.network.bulk.source import BlobSource, Listed
from node.network.bulk.swarm import Means, Swarm, nobody_gave
from node.network.bulk.wire import INLINE_BYTES_MAX
from node.seams import BlobWriter
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.keys import BlobId, NodeId

log = logging.getLogger("fednode.bulk")


class Fetched(NamedTuple):
    """How a blob came here: from whom most of it, and its bytes. `source` is ourselves where it was here already."""

    source: NodeId
    size: int


class Fetch:
    """One blob on its way here. Whoever wants it joins; when nobody waits any more it stops.

    Args:
        sources: whom to ask, the preferred first.
    """

    def __init__(self, means: Means, blob: BlobId, sources: Sequence[NodeId], bytes_max: int) -> None:
        self.blob = blob
        self.outcome: Fetched | None = None
        self.failure: FednodeError | None = None
        self.board: Board | None = None  # of what does not come with its list, once that has come
        self.meter = Meter()
        self._means = means
        self._known = list(sources)
        self._bytes_max = bytes_max
        self._done = trio.Event()
        self._scope = trio.CancelScope()
        self._attempt = trio.CancelScope()
        self._swarm: Swarm | None = None
        self._arrivals: list[Arrival] = []
        self._joined = 0
        self._failures: list[str] = []

    def also_from(self, sources: Sequence[NodeId]) -> None:
        """Somebody else wants it, from `sources`, the preferred first: that one and those who are new are asked
        before the others, for whoever is being asked may be frozen. What has come stays."""
        new = [source for source in sources if source not in self._known]
        if new or sources[:1] != self._known[:1]:
            front = list(dict.fromkeys([*sources[:1], *new]))
            self._known = [*front, *(source for source in self._known if source not in front)]
            if self._swarm is not None:
                self._swarm.also_from(front)
            else:
                self._attempt.cancel()

    def hand_on(self, arrival: Arrival) -> None:
        """Somebody wants the chunks in order as they come, where there are several."""
        self._arrivals.append(arrival)
        if self.board is not None:
            self.board.hand_on(arrival)

    @property
    def source(self) -> NodeId | Literal[""]:
        """Of whom it comes; "" where they are several."""
        return self._swarm.only_source if self._swarm is not None else ""

    def met(self, peer: NodeId) -> None:
        """Somebody asks us for the blob, and so may have some of it."""
        if self._swarm is not None:
            self._swarm.told([peer])

    async def join(self) -> None:
        """Wait for the end. Then `outcome` is set, or `failure`, or neither where everybody had left before."""
        self._joined += 1
        try:
            await self._done.wait()
        finally:
            self._joined -= 1
            if not self._joined:
                self._scope.cancel()

    async def run(self) -> None:
        try:
            with self._scope:
                await self._try_until_done()
        except FednodeError as error:
            self.failure = error
        except Exception as error:
            log.exception("fetching the blob %s failed", self.blob)
            self.failure = FednodeError(
                f"The blob {self.blob} was not fetched ({type(error).__name__}: {error})", remedy="see the node's log"
            )
        except BaseException:  # we are cancelled: one error, or, out of a swarm, a group
            self.failure = FednodeError(
                f"The blob {self.blob} was not fetched: the node stops", remedy="start it again"
            )
            raise
        finally:
            self._done.set()

    async def _try_until_done(self) -> None:
        """Fetch it, and begin again where new sources come before there is a chunk list."""
        while self.outcome is None:
            with self._attempt:
                self.outcome = await self._obtain()
            self._attempt = trio.CancelScope()

    async def _obtain(self) -> Fetched:
        lists = Lists(self._means.source_of, self.blob, self._known, self._not_from)
        while (found := await lists.first()) is not None:
            source, listed = found
            check_size(self.blob, listed.size, self._bytes_max)
            writer = await self._means.disk.receive_blob(self.blob, listed.hashes, listed.size)
            if listed.size > INLINE_BYTES_MAX:
                return await self._from_swarm(source, lists.left, listed, writer)
            if await self._only_chunk(source, listed, writer):
                await writer.finish()
                return Fetched(source.peer, listed.size)
        raise self._nobody()

    async def _only_chunk(self, source: BlobSource, listed: Listed, writer: BlobWriter) -> bool:
        """Write the chunk that came with the list, if that is needed. A lie ends the source."""
        if listed.only_chunk is None or not writer.missing():
            return True
        await self._means.pace.down.take(source.peer, len(listed.only_chunk))  # its length was not known before
        try:
            await writer.write_chunk(0, listed.only_chunk)
        except RemoteProtocolError as error:
            self._not_from(source, error)
            return False
        self._means.came(source.peer, self.blob, len(listed.only_chunk))
        return True

    async def _from_swarm(
        self, first: BlobSource, others: Sequence[NodeId], listed: Listed, writer: BlobWriter
    ) -> Fetched:
        means = self._means
        self.board = board = Board(self.blob, listed.size, listed.hashes, writer, means.random)
        self._swarm = Swarm(means, board, others, self._failures)
        for arrival in self._arrivals:
            board.hand_on(arrival)
        means.changed(self.blob)
        try:
            best = await self._swarm.run(first, listed.news)
        finally:
            self._swarm, self.board = None, None
            means.changed(self.blob)
        return Fetched(best or first.peer, listed.size)

    def _not_from(self, source: BlobSource, error: FednodeError) -> None:
        """A source verifies what it sends: bytes that are not the blob's are its own lie."""
        if isinstance(error, RemoteProtocolError):
            source.lied(error.what)
        log.debug("%s is no source of the blob %s: %s", source.peer, self.blob, error.what)
        self._failures.append(error.what)

    def _nobody(self) -> FednodeError:
        return nobody_gave(self.blob, self._failures)


def check_size(blob: BlobId, size: int, bytes_max: int) -> None:
    if size > bytes_max:
        raise Refused(
            "blob-too-large",
            f"The blob {blob} has {size} bytes where {bytes_max} are allowed",
            remedy="ask its author; it is not what was announced",
        )
