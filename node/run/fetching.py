"""Fetching one run's blobs: what each of them is while it comes, and which came for checkpoints of late."""

from collections import deque
from collections.abc import Callable, Iterable

from node.network.bulk.arrival import Arrival
from node.network.bulk.bulk import Bulk
from node.run.spans import Spans
from protocol.keys import BlobId, NodeId


class Fetching:
    """One run's fetches.

    Args:
        moved: told of every blob that came from elsewhere: (source, kind, bytes, round).
    """

    def __init__(self, bulk: Bulk, spans: Spans, moved: Callable[[NodeId, str, int, int], None]) -> None:
        self._bulk = bulk
        self._spans = spans
        self._moved = moved
        self.kinds: dict[BlobId, str] = {}  # what each blob is that is on its way here
        self._came: deque[BlobId] = deque(maxlen=8)  # for checkpoints, four blobs each, until the ledger has them

    async def fetch(
        self,
        blob: BlobId,
        sources: Iterable[NodeId],
        bytes_max: int,
        kind: str,
        round_number: int,
        arrival: Arrival | None = None,
    ) -> None:
        """Have `blob` here, of `bytes_max` bytes at most. Raises FednodeError where none of `sources` gives it."""
        self.kinds[blob] = kind
        try:
            with self._spans.measuring("fetch", round_number) as measured:
                fetched = await self._bulk.fetch(blob, list(dict.fromkeys(sources)), bytes_max, arrival)
                measured.peer, measured.bytes = source, size = fetched
        finally:
            self.kinds.pop(blob, None)
        if kind == "checkpoint":
            self._came.append(blob)
        self._moved(source, kind, size, round_number)

    def is_for_a_checkpoint(self, blob: BlobId) -> bool:
        """Whether `blob` is, or of late was, fetched for a checkpoint; not whether one is said to have it."""
        return blob in self._came or self.kinds.get(blob) == "checkpoint"
