"""An update that travels while it is still coded: given as far as it is, and fetched into what is nobody's blob yet.

Decides how both ends wait. Who gives waits for the codec, a bounded time, before a chunk takes anybody's place in the
line. Who fetches asks in order, and what it gets proves nothing: that is left to the chunk list, which comes with the
signed offer (docs/protocol.md §8.29, §14.10).
"""

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from node.network.bulk import wire as bulk_wire
from node.network.bulk.progress import Meter
from node.network.bulk.source import Asked, BlobSource
from node.network.bulk.swarm import Means
from node.seams import CodedFile, EarlyWriter
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.keys import BlobId
from protocol.limits import CHUNK_BYTES
from tracker.blobs.chunks import chunk_count, chunk_length

# For the next chunk to be coded: SCAFFOLD on a busy machine takes a hundredth of it.
CODED_WAIT_S = 5.0
ABREAST = 3  # chunks asked for at once, beside those of blobs (bulk_source.PIPELINE_REQUESTS)


class Early:
    """An update of ours that is being coded, for giving. `end` it."""

    def __init__(self, size: int, file: CodedFile) -> None:
        self.size = size
        self.count = chunk_count(size)
        self._file = file
        self._upto = 0
        self._is_over = False
        self._changed = trio.Event()

    def grew(self, upto: int) -> None:
        """So many bytes are what they will be."""
        self._upto = max(self._upto, upto)
        self._tell()

    def end(self) -> None:
        """Nothing more is given. Who waits is told so."""
        if not self._is_over:
            self._is_over = True
            self._file.close()
            self._tell()

    async def reaches(self, index: int) -> bool:
        """Wait until a chunk can be given. False: it never will be, or not in time."""
        until = index * CHUNK_BYTES + chunk_length(self.size, index)
        while self._upto < until and not self._is_over:
            with trio.move_on_after(CODED_WAIT_S) as patience:
                await self._changed.wait()
            if patience.cancelled_caught:
                return False
        return not self._is_over

    async def chunk(self, index: int) -> bytes:
        """Raises FednodeError when it cannot be read any more."""
        return await self._file.read(index * CHUNK_BYTES, chunk_length(self.size, index))

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class EarlyFetch:
    """What comes of an update by its early name. `run` it once; while it runs it stands in `under_way`."""

    def __init__(
        self,
        means: Means,
        source: BlobSource,
        name: BlobId,
        size: int,
        writer: EarlyWriter,
        under_way: "list[EarlyFetch]",
    ) -> None:
        self.name = name
        self.size = size
        self.source = source
        self.meter = Meter()
        self._means = means
        self._writer = writer
        self._under_way = under_way
        self._next = 0
        self._lining_up = trio.Lock()  # a stream has one place in line for a blob
        self._waits: set[trio.CancelScope] = set()
        self._is_stopped = False

    async def run(self) -> None:
        """Fetch from the beginning, until all is here, or `stop`, or the source gives no more. Raises nothing."""
        self._under_way.append(self)
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(ABREAST):
                    nursery.start_soon(self._fetch)
        finally:
            self._under_way.remove(self)
            self.source.tell(bulk_wire.LEAVE, self.name)

    def stop(self) -> None:
        """Ask for nothing more. What is on its way still comes: it is wanted under the blob's name anyway."""
        self._is_stopped = True
        for wait in self._waits:
            wait.cancel()

    async def _fetch(self) -> None:
        try:
            while not self._is_stopped and self._next < chunk_count(self.size):
                index, self._next = self._next, self._next + 1
                length = chunk_length(self.size, index)
                await self._unless_stopped(partial(self._means.pace.down.take, self.source.peer, length))
                data = None if self._is_stopped else await self._asked(index)
                if data is None:
                    return
                await self._writer.write_chunk(index, data)
                self.meter.add(len(data))
                self._means.came(self.source.peer, self.name, len(data))
                self.source.tell(bulk_wire.GOT, self.name, index)
        except FednodeError as error:
            if isinstance(error, RemoteProtocolError):
                self.source.lied(error.what)
            self.stop()

    async def _asked(self, index: int) -> bytes | None:
        """A chunk, once it is our turn. None: we were stopped while others were before us."""
        answer = await self.source.early_chunk(self.name, index)
        while isinstance(answer, Asked):
            async with self._lining_up:
                if not answer.is_refused:
                    await self._unless_stopped(partial(self.source.turn, answer, chunk_count(self.size)))
                if self._is_stopped:
                    return None
                answer = await self.source.early_chunk(self.name, index)
        return answer

    async def _unless_stopped(self, wait: Callable[[], Awaitable[object]]) -> None:
        with trio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                if not self._is_stopped:
                    await wait()
            finally:
                self._waits.discard(scope)
