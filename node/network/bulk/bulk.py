"""Bulk transfer: blobs served to whom they are meant for, and fetched, chunk by chunk, from whoever has them.

Nothing is stored before the chunk list has proved itself against the blob's id and its size has passed the bound; each
chunk proves itself against the list. A source that stalls, lies or refuses is dropped and the others go on. What came
in before a fetch failed stays, and the next one takes it up. Blobs that are not small come from all who are after them
too, each of whom serves what it has (docs/protocol.md §14).
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

import trio

from node.network.bulk.arrival import Arrival
from node.network.bulk.board import Board
from node.network.bulk.early import Early, EarlyFetch
from node.network.bulk.fetch import Fetch, Fetched, check_size
from node.network.bulk.pace import Pace
from node.network.bulk.progress import Outgoing, Transfer, TransferProgress, progress_of
from node.network.bulk.serve import Serving
from node.network.bulk.source import BlobSource
from node.network.bulk.swarm import Means
from node.seams import BLOB_PROTOCOL, Disk, EarlyWriter, Network
from protocol.errors import FednodeError
from protocol.keys import BlobId, NodeId

if TYPE_CHECKING:
    from trio_typing import TaskStatus

__all__ = ["Bulk", "Fetched", "Transfer", "TransferProgress"]


class Bulk:
    """Serves and fetches blobs. Start `run` in a nursery; what is fetched before that waits.

    Args:
        may_read: whether a peer may have a blob. Asked for every chunk, so a change of mind takes effect at once.
        on_transfer: told of every chunk that came or went. Must be quick and must not raise.
        pace: the limits of what goes and comes; none where left out.
        random: breaks ties between chunks and between peers; left out, it follows from the node's name.
    """

    def __init__(
        self,
        network: Network,
        disk: Disk,
        may_read: Callable[[NodeId, BlobId], bool],
        on_transfer: Callable[[Transfer], None] = lambda transfer: None,
        *,
        pace: Pace | None = None,
        random: Random | None = None,
    ) -> None:
        self._network = network
        self._disk = disk
        self._on_transfer = on_transfer
        self._sources: dict[NodeId, BlobSource] = {}
        self._fetches: dict[BlobId, Fetch] = {}
        self._early: list[EarlyFetch] = []
        self._outgoing = Outgoing()
        self._nursery: trio.Nursery | None = None
        self._started = trio.Event()
        pace, random = pace or Pace(), random or Random(network.node_id)
        self._serving = Serving(
            disk,
            may_read,
            self._half,
            self._fetches.__contains__,
            self._met,
            self._went,
            self._outgoing.over,
            pace,
            random,
        )
        self._means = Means(
            network.node_id, disk, may_read, self._source, self._came, self._serving.changed, pace, random
        )

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                self._network.handle(BLOB_PROTOCOL, self._serving.serve)
                self._started.set()
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def fetch(
        self, blob: BlobId, sources: Sequence[NodeId], bytes_max: int, arrival: Arrival | None = None
    ) -> Fetched:
        """Make `blob` whole and durable here, from any of `sources`; the first are preferred. What it takes of others
        who are after it too, they are told of by those.

        Several fetches of one blob are one, from the sources of all. A caller who is cancelled leaves it to the others.
        `arrival` is handed the blob's chunks as they come.

        Raises:
            Refused: it is larger than `bytes_max`.
            FednodeError: no source gave it; what came in so far is kept for the next time.
        """
        await self._started.wait()
        others = [source for source in dict.fromkeys(sources) if source != self._network.node_id]
        while True:
            if blob not in self._fetches and await self._disk.has_blob(blob):
                reader = await self._disk.open_blob(blob)
                check_size(blob, reader.size, bytes_max)
                return Fetched(self._network.node_id, reader.size)
            ours = blob not in self._fetches  # somebody may have begun while the disk was asked
            if ours:
                self._begin(blob, others, bytes_max)
            fetch = self._fetches[blob]
            fetch.also_from(others)
            if arrival is not None:
                fetch.hand_on(arrival)
                arrival = None  # should this fetch come to nothing, the next one need not begin anew
            await fetch.join()
            if fetch.outcome is not None:
                check_size(blob, fetch.outcome.size, bytes_max)
                return fetch.outcome
            if ours and fetch.failure is not None:
                raise fetch.failure

    def give_early(self, name: BlobId, early: Early) -> None:
        """Give an update as far as it is coded, by its early name, to whom `may_read` lets; until `end_early`."""
        self._serving.early[name] = early

    def end_early(self, name: BlobId) -> None:
        if (early := self._serving.early.pop(name, None)) is not None:
            early.end()
            self._serving.forget(name)

    async def early_fetch(self, name: BlobId, peer: NodeId, size: int, writer: EarlyWriter) -> EarlyFetch:
        """What is to fetch, once it is run, what `peer` gives of an update of `size` bytes by its early name."""
        await self._started.wait()
        return EarlyFetch(self._means, self._source(peer), name, size, writer, self._early)

    def transfers(self) -> list[TransferProgress]:
        """What has been coming or going for more than a moment."""
        coming = [
            progress_of(early.name, "in", early.source.peer, early.meter.done_bytes, early.size, early.meter)
            for early in self._early
        ]
        for blob, fetch in self._fetches.items():
            board = fetch.board
            if board is not None:
                coming.append(progress_of(blob, "in", fetch.source, board.done_bytes, board.size, fetch.meter))
        return [*(each for each in coming if each is not None), *self._outgoing.progress()]

    def _begin(self, blob: BlobId, sources: Sequence[NodeId], bytes_max: int) -> None:
        if self._nursery is None:  # it was there before _started was set
            raise FednodeError(f"The blob {blob} was not fetched: the node stops", remedy="start it again")
        fetch = Fetch(self._means, blob, sources, bytes_max)
        self._fetches[blob] = fetch
        self._nursery.start_soon(self._run_fetch, fetch)

    async def _run_fetch(self, fetch: Fetch) -> None:
        try:
            await fetch.run()
        finally:
            del self._fetches[fetch.blob]
            self._serving.changed(fetch.blob)

    def _source(self, peer: NodeId) -> BlobSource:
        assert self._nursery is not None
        if peer not in self._sources:
            self._sources[peer] = BlobSource(self._network, peer, self._nursery.start_soon)
        return self._sources[peer]

    def _half(self, blob: BlobId) -> Board | None:
        fetch = self._fetches.get(blob)
        return fetch.board if fetch is not None else None

    def _met(self, peer: NodeId, blob: BlobId) -> None:
        if blob in self._fetches:
            self._fetches[blob].met(peer)

    def _came(self, peer: NodeId, blob: BlobId, size: int) -> None:
        if blob in self._fetches:
            self._fetches[blob].meter.add(size)
        self._on_transfer(Transfer(peer, blob, size, incoming=True))

    def _went(self, transfer: Transfer, total: int) -> None:
        self._outgoing.sent(transfer.peer, transfer.blob, transfer.size, total)
        self._on_transfer(transfer)
