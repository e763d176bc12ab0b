"""Fetching one blob from several sources at once: who is asked for which chunk, and what happens when one fails."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

import trio

from node.network.bulk_source import PIPELINE_REQUESTS, BlobSource, SourceFailed
from node.seams import BlobWriter, Disk, StreamClosed, Unreachable
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.keys import BlobId, NodeId
from tracker.chunks import check_chunk_list

log = logging.getLogger("fednode.bulk")

SOURCES_AT_ONCE = 4  # of one blob; more divide the same line among more connections
TRIES = 2  # of a source whose stream ended: it may only have restarted, or have let an idle stream go

T = TypeVar("T")


class Fetched(NamedTuple):
    """How a blob came here: from whom most of it, and its bytes. `source` is ourselves where it was here already."""

    source: NodeId
    size: int


class Fetch:
    """One blob on its way here. Whoever wants it joins; when nobody waits any more it stops.

    Args:
        sources: whom to ask, the preferred first; `source_of` gives each, once it is its turn.
        came: told of every chunk that came: from whom, of which blob, how many bytes.
    """

    def __init__(
        self,
        disk: Disk,
        blob: BlobId,
        sources: Sequence[NodeId],
        source_of: Callable[[NodeId], BlobSource],
        bytes_max: int,
        came: Callable[[NodeId, BlobId, int], None],
    ) -> None:
        self.blob = blob
        self.outcome: Fetched | None = None
        self.failure: FednodeError | None = None
        self._disk = disk
        self._known = list(sources)
        self._at_once = len(self._known)  # of these, the first so many; the others when one of them fails
        self._sources = deque(sources)
        self._source_of = source_of
        self._bytes_max = bytes_max
        self._came = came
        self._done = trio.Event()
        self._scope = trio.CancelScope()
        self._attempt = trio.CancelScope()
        self._joined = 0
        self._failures: list[str] = []
        self._disk_failure: FednodeError | None = None
        self._todo: deque[int] = deque()
        self._under_way = 0
        self._changed = trio.lowlevel.ParkingLot()
        self._bytes_of: dict[NodeId, int] = {}

    def also_from(self, sources: Sequence[NodeId]) -> None:
        """Somebody else wants it, from `sources`, the preferred first: that one and those who are new are asked
        before the others, for whoever is being asked may be frozen. What has come stays."""
        new = [source for source in sources if source not in self._known]
        if new or sources[:1] != self._known[:1]:
            front = list(dict.fromkeys([*sources[:1], *new]))
            self._known = [*front, *(source for source in self._known if source not in front)]
            self._at_once = len(front)
            self._attempt.cancel()

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
        except trio.Cancelled:
            self.failure = FednodeError(
                f"The blob {self.blob} was not fetched: the node stops", remedy="start it again"
            )
            raise
        except Exception as error:
            log.exception("fetching the blob %s failed", self.blob)
            self.failure = FednodeError(
                f"The blob {self.blob} was not fetched ({type(error).__name__}: {error})", remedy="see the node's log"
            )
        finally:
            self._done.set()

    async def _try_until_done(self) -> None:
        """Fetch it, and begin again whenever there are new sources."""
        while self.outcome is None:
            with self._attempt:
                self.outcome = await self._obtain()
            self._attempt = trio.CancelScope()
            self._sources = deque(self._known)
            self._todo.clear()
            self._under_way = 0

    async def _obtain(self) -> Fetched:
        size, writer = await self._begin()
        if self._todo:
            with trio.CancelScope() as pulling:
                async with trio.open_nursery() as nursery:
                    for _ in range(min(SOURCES_AT_ONCE, self._at_once, len(self._sources))):
                        nursery.start_soon(self._use_sources, writer, pulling)
        if self._disk_failure is not None:
            raise self._disk_failure
        if self._todo:
            raise self._nobody()
        await writer.finish()
        best = max(self._bytes_of, key=lambda peer: self._bytes_of[peer])
        return Fetched(best, size)

    async def _begin(self) -> tuple[int, BlobWriter]:
        """The first chunk list that is the blob's, and a writer for it."""
        while self._sources:
            source = self._source_of(self._sources[0])
            try:
                size, hashes, only_chunk = await _with_a_second_try(lambda: source.chunk_list(self.blob))  # noqa: B023
                check_chunk_list(self.blob, hashes, size)
            except FednodeError as error:
                self._charge(source, error)
                self._dropped(source, error)
                self._sources.popleft()
            else:
                self._bytes_of[source.peer] = 0
                check_size(self.blob, size, self._bytes_max)
                writer = await self._disk.receive_blob(self.blob, hashes, size)
                self._todo.extend(writer.missing())
                if self._todo and only_chunk is not None:
                    await self._take(source, writer, only_chunk)
                return size, writer
        raise self._nobody()

    async def _take(self, source: BlobSource, writer: BlobWriter, only_chunk: bytes) -> None:
        """Write the chunk that came with the list. A lie ends the source, which the caller has tried first."""
        try:
            await writer.write_chunk(0, only_chunk)
        except RemoteProtocolError as error:
            self._charge(source, error)
            self._dropped(source, error)
            self._sources.popleft()
        else:
            self._todo.clear()
            self._bytes_of[source.peer] = len(only_chunk)
            self._came(source.peer, self.blob, len(only_chunk))

    async def _use_sources(self, writer: BlobWriter, pulling: trio.CancelScope) -> None:
        """Take chunks from one source, and from the next when that one fails."""
        while self._sources and (self._todo or self._under_way):
            source = self._source_of(self._sources.popleft())
            with trio.CancelScope() as using:
                async with trio.open_nursery() as nursery:
                    for _ in range(PIPELINE_REQUESTS):
                        nursery.start_soon(self._pull, source, writer, using, pulling)

    async def _pull(
        self, source: BlobSource, writer: BlobWriter, using: trio.CancelScope, pulling: trio.CancelScope
    ) -> None:
        """Fetch chunk after chunk. A failure of the source ends its use, one of our disk ends everything."""
        while (index := await self._next()) is not None:
            size = 0
            try:
                data = await _with_a_second_try(lambda: source.chunk(self.blob, index))
                await writer.write_chunk(index, data)
                size = len(data)
            except (SourceFailed, StreamClosed, Unreachable, RemoteProtocolError) as error:
                self._charge(source, error)
                if not using.cancel_called:
                    self._dropped(source, error)
                using.cancel()
            except FednodeError as error:
                self._disk_failure = error
                pulling.cancel()
            finally:
                self._finish(index, source, size)

    async def _next(self) -> int | None:
        """A chunk that nobody fetches; None when every one is here. Waits while those under way may yet fail."""
        while not self._todo and self._under_way:
            await self._changed.park()
        if not self._todo:
            return None
        self._under_way += 1
        return self._todo.popleft()

    def _finish(self, index: int, source: BlobSource, size: int) -> None:
        """Note that a chunk came, or with size 0 that it is to be fetched again."""
        self._under_way -= 1
        if size:
            self._bytes_of[source.peer] = self._bytes_of.get(source.peer, 0) + size
            self._came(source.peer, self.blob, size)
        else:
            self._todo.append(index)
        self._changed.unpark_all()

    def _charge(self, source: BlobSource, error: FednodeError) -> None:
        """A source verifies what it sends: bytes that are not the blob's are its own lie."""
        if isinstance(error, RemoteProtocolError):
            source.lied(error.what)

    def _dropped(self, source: BlobSource, error: FednodeError) -> None:
        log.info("%s is no source of the blob %s: %s", source.peer, self.blob, error.what)
        self._failures.append(error.what)

    def _nobody(self) -> FednodeError:
        return FednodeError(
            f"Nobody gave the blob {self.blob} ({'; '.join(self._failures) or 'nobody was named who has it'})",
            remedy="wait until a node that has it is back",
        )


def check_size(blob: BlobId, size: int, bytes_max: int) -> None:
    if size > bytes_max:
        raise Refused(
            "blob-too-large",
            f"The blob {blob} has {size} bytes where {bytes_max} are allowed",
            remedy="ask its author; it is not what was announced",
        )


async def _with_a_second_try(ask: Callable[[], Awaitable[T]]) -> T:
    for _ in range(TRIES - 1):
        try:
            return await ask()
        except StreamClosed:
            continue
    return await ask()
