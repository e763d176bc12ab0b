"""Bulk transfer: blobs served to whom they are meant for, and fetched, chunk by chunk, from whoever has them.

Nothing is stored before the chunk list has proved itself against the blob's id and its size has passed the bound; each
chunk proves itself against the list. A source that stalls, lies or refuses is dropped and the others go on. What came
in before a fetch failed stays, and the next one takes it up.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from node.network.bulk_fetch import Fetch, Fetched, check_size
from node.network.bulk_source import DAMAGED, LIST, NOT_HERE, OK, REFUSED, REQUEST_BYTES, SIZE_BYTES, BlobSource
from node.seams import BLOB_PROTOCOL, BlobReader, Disk, Network, Stream, StreamClosed
from protocol.errors import FednodeError, RemoteProtocolError
from protocol.keys import BlobId, NodeId

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = logging.getLogger("fednode.bulk")

Opened = tuple[BlobId, BlobReader]


@dataclass(frozen=True, slots=True)
class Transfer:
    """A chunk that went over the wire."""

    peer: NodeId
    blob: BlobId
    size: int  # bytes
    incoming: bool
    seconds: float = 0.0  # that handing it over took, reading it from the disk included


class Bulk:
    """Serves and fetches blobs. Start `run` in a nursery; what is fetched before that waits.

    Args:
        may_read: whether a peer may have a blob. Asked for every chunk, so a change of mind takes effect at once.
        on_transfer: told of every chunk that came or went. Must be quick and must not raise.
    """

    def __init__(
        self,
        network: Network,
        disk: Disk,
        may_read: Callable[[NodeId, BlobId], bool],
        on_transfer: Callable[[Transfer], None] = lambda transfer: None,
    ) -> None:
        self._network = network
        self._disk = disk
        self._may_read = may_read
        self._on_transfer = on_transfer
        self._sources: dict[NodeId, BlobSource] = {}
        self._fetches: dict[BlobId, Fetch] = {}
        self._nursery: trio.Nursery | None = None
        self._started = trio.Event()

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as self._nursery:
            self._network.handle(BLOB_PROTOCOL, self._serve)
            self._started.set()
            task_status.started()
            await trio.sleep_forever()

    async def fetch(self, blob: BlobId, sources: Sequence[NodeId], bytes_max: int) -> Fetched:
        """Make `blob` whole and durable here, from any of `sources`; the first are preferred.

        Several fetches of one blob are one, from the sources of all. A caller who is cancelled leaves it to the others.

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
            await fetch.join()
            if fetch.outcome is not None:
                check_size(blob, fetch.outcome.size, bytes_max)
                return fetch.outcome
            if ours and fetch.failure is not None:
                raise fetch.failure

    def _begin(self, blob: BlobId, sources: Sequence[NodeId], bytes_max: int) -> None:
        assert self._nursery is not None  # set before _started is
        fetch = Fetch(self._disk, blob, sources, self._source, bytes_max, self._came)
        self._fetches[blob] = fetch
        self._nursery.start_soon(self._run_fetch, fetch)

    async def _run_fetch(self, fetch: Fetch) -> None:
        try:
            await fetch.run()
        finally:
            del self._fetches[fetch.blob]

    def _source(self, peer: NodeId) -> BlobSource:
        assert self._nursery is not None
        if peer not in self._sources:
            self._sources[peer] = BlobSource(self._network, peer, self._nursery.start_soon)
        return self._sources[peer]

    def _came(self, peer: NodeId, blob: BlobId, size: int) -> None:
        self._on_transfer(Transfer(peer, blob, size, incoming=True))

    # --- serving -------------------------------------------------------------------------------------------------

    async def _serve(self, stream: Stream) -> None:
        opened: Opened | None = None
        while True:
            try:
                request = await stream.receive_frame(REQUEST_BYTES)
                if len(request) != REQUEST_BYTES:
                    raise RemoteProtocolError(f"{stream.peer} sent a request of {len(request)} bytes for a blob")
                blob, index = BlobId(request[:32].hex()), int.from_bytes(request[32:], "big")
                status, opened = await self._open(stream.peer, blob, opened)
                if opened is None:
                    await stream.send_frame(status)
                else:
                    await self._answer(stream, index, *opened)
            except StreamClosed:
                return

    async def _open(self, peer: NodeId, blob: BlobId, opened: Opened | None) -> tuple[bytes, Opened | None]:
        """The blob, if `peer` may read it and it is here; else why not. Who may not is not told whether it is here."""
        if not self._may_read(peer, blob):
            log.debug("%s asked for the blob %s, which is not for it", peer, blob)
            return REFUSED, None
        if opened is not None and opened[0] == blob:
            return OK, opened
        if not await self._disk.has_blob(blob):
            return NOT_HERE, None
        try:
            return OK, (blob, await self._disk.open_blob(blob))
        except FednodeError as error:
            log.error("the blob %s cannot be served: %s", blob, error.what)
            return DAMAGED, None

    async def _answer(self, stream: Stream, index: int, blob: BlobId, reader: BlobReader) -> None:
        if index != LIST and index >= len(reader.chunk_hashes):
            raise RemoteProtocolError(f"{stream.peer} asked for chunk {index} of {blob}, which has fewer")
        began = trio.current_time()
        try:
            chunk_list, chunk = await _read(reader, index)
        except FednodeError as error:
            log.error("chunk %d of the blob %s cannot be served: %s", index, blob, error.what)
            await stream.send_frame(DAMAGED)
            return
        await stream.send_frame(OK)
        if chunk_list is not None:
            await stream.send_frame(chunk_list)
        if chunk is not None:
            await stream.send_frame(chunk)
            seconds = trio.current_time() - began
            self._on_transfer(Transfer(stream.peer, blob, len(chunk), incoming=False, seconds=seconds))


async def _read(reader: BlobReader, index: int) -> tuple[bytes | None, bytes | None]:
    """What an answer carries: the chunk list where that was asked for, and a chunk."""
    if index != LIST:
        return None, await reader.chunk(index)
    chunk_list = reader.size.to_bytes(SIZE_BYTES, "little") + b"".join(reader.chunk_hashes)
    return chunk_list, await reader.chunk(0) if len(reader.chunk_hashes) == 1 else None
