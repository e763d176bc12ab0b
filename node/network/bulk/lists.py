"""Asking for a blob's chunk list: the next source is asked when the last has failed or takes long, and the first list
that proves itself counts.

A source that says nothing is given up after BLOB_STALL_S; whoever is behind it does not wait for that. Who is slow has
not failed: it may give chunks later.
"""

from collections.abc import Callable, Sequence

from node.network.bulk.source import BlobSource, Listed
from node.network.bulk.swarm import SOURCES_AT_ONCE, with_a_second_try
from node.network.dialling import Race
from protocol.errors import FednodeError
from protocol.keys import BlobId, NodeId
from tracker.blobs.chunks import check_chunk_list

# Between two sources: a chunk that is on its way before the list takes 0.8 s at 10 Mbit/s, and a second list of a small
# blob comes with all of it.
LIST_STAGGER_S = 1.0


class Lists:
    """Who may give one blob's chunk list. `failed` is told of who did not, and why."""

    def __init__(
        self,
        source_of: Callable[[NodeId], BlobSource],
        blob: BlobId,
        sources: Sequence[NodeId],
        failed: Callable[[BlobSource, FednodeError], None],
    ) -> None:
        self.left = list(sources)  # who has neither given it nor failed; who was not asked yet is first
        self._source_of = source_of
        self._blob = blob
        self._failed = failed

    async def first(self) -> tuple[BlobSource, Listed] | None:
        """A source of those that are left, and the blob's list as it gave it. None: nobody gave it."""
        race = Race(self._ask, lambda late: None, _is_ours, stagger_s=LIST_STAGGER_S, at_once=SOURCES_AT_ONCE)
        await race.run(tuple(self.left))
        if race.final is not None:
            raise race.final
        if race.found is None:
            return None
        peer, found = race.found
        self.left.remove(peer)
        return found

    async def _ask(self, peer: NodeId) -> tuple[BlobSource, Listed]:
        self.left.remove(peer)
        self.left.append(peer)
        source = self._source_of(peer)
        try:
            listed = await with_a_second_try(lambda: source.chunk_list(self._blob))
            check_chunk_list(self._blob, listed.hashes, listed.size)
        except FednodeError as error:
            self.left.remove(peer)
            self._failed(source, error)
            raise
        return source, listed


def _is_ours(error: Exception) -> bool:
    """Whether it is a defect here, not a source that has failed."""
    return not isinstance(error, FednodeError)
