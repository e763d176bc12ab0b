"""A simulated disk that can be slow, full, or gone with its node's process, and that tells what becomes durable.

Decides what a fault of the disk looks like to a node: a full one refuses every write with a sentence, a slow one takes
longer, and one whose process was killed takes nothing any more, whatever the dying node still tries to tidy up.
"""

from collections.abc import Callable
from random import Random

import trio

from protocol.errors import FednodeError
from protocol.keys import BlobId
from simulations.world.disk import ChunkPool, SimulatedDisk


class FaultyDisk(SimulatedDisk):
    """One node's disk over all of its lives. `on_append(journal, record)` is told once a record is durable."""

    def __init__(
        self, randomness: Random, pool: ChunkPool, on_append: Callable[[str, bytes], None] | None = None
    ) -> None:
        super().__init__(randomness=randomness, pool=pool)
        self.slow_s = 0.0  # that every durable write takes longer
        self.is_full = False
        self.is_gone = False  # between the end of one life and the beginning of the next
        self._on_append = on_append

    def holds(self, blob: str) -> bool:
        """Whether a whole blob lies here now."""
        return blob in self._blobs

    def blob_count(self) -> int:
        return len(self._blobs) + len(self._halves)

    def durable_records(self, journal: str) -> list[bytes]:
        """A journal's intact records as they lie on the disk now."""
        found = self._journals.get(journal)
        return list(found.records) if found is not None else []

    def damage_newest_blob(self) -> BlobId | None:
        """Flip a bit in the blob that was stored last; None when there is none that has a chunk."""
        for blob, stored in reversed(self._blobs.items()):
            if stored.chunks:
                self.damage_blob(blob)
                return blob
        return None

    async def append(self, journal: str, record: bytes) -> None:
        await super().append(journal, record)
        if self._on_append is not None:
            self._on_append(journal, record)

    async def _durably(self, write: Callable[[], object]) -> None:
        if self.is_gone:
            raise FednodeError("The process that wrote was killed", remedy="start the node again")
        if self.is_full:
            raise FednodeError("The disk is full", remedy="make room and start the node again")
        if self.slow_s:
            await trio.sleep(self.slow_s)
        await super()._durably(write)
