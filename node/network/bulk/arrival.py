"""A blob's chunks in order, handed on while it still comes: for whoever judges it as it arrives."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import trio

from protocol.errors import FednodeError

# Chunks that are kept in memory until their turn, one behind the other: of as many blobs as come at once. To read one
# from the disk instead, where it has only just been written, costs little more than hashing it again.
AHEAD_CHUNKS_MAX = 2


class Coming(Protocol):
    """A blob on its way here: which chunks it lacks, and each of the others, verified."""

    @property
    def missing(self) -> set[int]: ...

    @property
    def chunk_hashes(self) -> Sequence[bytes]: ...

    async def chunk(self, index: int) -> bytes: ...


class Arrival:
    """Hands a blob's verified beginning on, as far as it is here. Give it to one `Bulk.fetch`, within `following`.

    Chunks that were here before, or came long before their turn, are read from the disk. A blob of one chunk, and one
    that is here already, is not handed on, nor is what is left when the blob has become whole.

    Args:
        take: given the next chunks, in order, each once. One call at a time; it is not called again after it is
            cancelled, and then has taken all that it was given, or nothing.
    """

    def __init__(self, take: Callable[[list[bytes]], Awaitable[None]]) -> None:
        self._take = take
        self._coming: Coming | None = None
        self._next = 0
        self._ahead: dict[int, bytes] = {}
        self._changed = trio.Event()

    def begin(self, coming: Coming) -> None:
        """The blob is on its way. Whoever fetches it says so."""
        self._coming = coming
        self._changed.set()

    def came(self, index: int, data: bytes) -> None:
        """A chunk came, and was what it should be."""
        if self._next <= index < self._next + AHEAD_CHUNKS_MAX:
            self._ahead[index] = data
        self._changed.set()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Within, what comes is handed on. Raises nothing of its own."""
        failure: FednodeError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow)
            try:
                yield
            except FednodeError as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _follow(self) -> None:
        with suppress(FednodeError):  # the blob is whole by now, or a chunk of it broken: its reader will see
            while True:
                self._changed = changed = trio.Event()
                chunks = await self._ready()
                if chunks:
                    await self._take(chunks)
                else:
                    await changed.wait()

    async def _ready(self) -> list[bytes]:
        """The next chunks that are here."""
        chunks: list[bytes] = []
        while self._next in self._ahead:
            chunks.append(self._ahead.pop(self._next))
            self._next += 1
        coming = self._coming
        if chunks or coming is None or self._next == len(coming.chunk_hashes) or self._next in coming.missing:
            return chunks
        chunks.append(await coming.chunk(self._next))
        self._next += 1
        return chunks
