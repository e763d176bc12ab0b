"""The Disk seam in memory: same names, same journals, same hashes as the real one, and crashes on demand.

Never a thread, never randomness of its own. A write takes `write_latency_s` of the clock that trio runs on; it is
durable when its method returns. What is under way when `crash` comes is there whole or not at all, by a coin of the
seeded source; chunks of a half blob, which are durable only once it is finished, each likewise.
"""

import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import trio

from protocol.errors import FednodeError, LocalProtocolError
from protocol.keys import BlobId
from protocol.limits import CHUNK_BYTES
from simulations.world.disk_files import SimulatedEarlyWriter, read_file, take_file
from simulations.world.disk_journal import SimulatedJournal
from tracker.blobs.blobs import damaged
from tracker.blobs.chunks import (
    blob_id_of,
    check_blob_id,
    check_chunk,
    check_chunk_list,
    chunk_hashes_of,
    hash_chunk,
)
from tracker.blobs.stored import StoredBlob, TakenBlob
from tracker.durable import check_file_name, check_name
from tracker.journal import RECORD_BYTES_MAX, encode_record

POOL_BYTES_MAX = 512 * 1024 * 1024  # of chunks that are known to be right, over all simulated nodes


class ChunkPool:
    """Chunks known to have their hash, shared by the disks of one simulation.

    A simulation hands one and the same bytes object to many nodes. Hashing it again would tell nothing new, so a chunk
    that *is* the known one (not one that equals it) counts as verified.
    """

    def __init__(self, bytes_max: int = POOL_BYTES_MAX) -> None:
        self._chunks: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0
        self._bytes_max = bytes_max
        self.remembered = 0  # verifications that this spared, for a simulation's report

    def holds(self, chunk_hash: bytes, chunk: bytes) -> bool:
        """Whether `chunk` is verified already."""
        known = self._chunks.get(chunk_hash) is chunk
        self.remembered += known
        return known

    def learn(self, chunk_hash: bytes, chunk: bytes) -> None:
        """Remember a chunk that was verified; the oldest are forgotten beyond the pool's size."""
        if chunk_hash in self._chunks:
            return
        self._chunks[chunk_hash] = chunk
        self._bytes += len(chunk)
        while self._bytes > self._bytes_max:
            self._bytes -= len(self._chunks.popitem(last=False)[1])


class _Blob:
    def __init__(self, size: int, chunk_hashes: Sequence[bytes], chunks: Sequence[bytes]) -> None:
        self.size = size
        self.chunk_hashes = tuple(chunk_hashes)
        self.chunks = list(chunks)
        self.used_at = trio.current_time()


class SimulatedDisk:
    """One simulated node's disk.

    Args:
        randomness: decides what a crash leaves of what was under way.
        write_latency_s: what every durable write takes.
        pool: shared with the other disks of the simulation.
    """

    def __init__(
        self,
        *,
        randomness: random.Random | None = None,
        write_latency_s: float = 0.0,
        pool: ChunkPool | None = None,
    ) -> None:
        self._randomness = randomness or random.Random(0)
        self._write_latency_s = write_latency_s
        self.pool = pool or ChunkPool()
        self._files: dict[str, bytes] = {}
        self._journals: dict[str, SimulatedJournal] = {}
        self._blobs: dict[BlobId, _Blob] = {}
        self._halves: dict[BlobId, dict[int, bytes]] = {}
        self._half_used_at: dict[BlobId, float] = {}
        self._early: dict[BlobId, dict[int, bytes]] = {}  # what came of blobs before they had a name, unproven
        self._under_way: dict[int, Callable[[], object]] = {}
        self._tickets = 0
        self._crashes = 0
        self.writes = 0  # durable writes so far

    def crash(self) -> None:
        """Lose what is not durable. Methods under way raise FednodeError; the disk can be used again at once."""
        self._crashes += 1
        under_way, self._under_way = self._under_way, {}
        self._early.clear()
        for write in under_way.values():
            if self._randomness.random() < 0.5:
                write()
        for half in self._halves.values():
            for index in [index for index in half if self._randomness.random() < 0.5]:
                del half[index]
        for journal in self._journals.values():
            journal.tear(self._randomness)  # of an append that had begun, any part may be on the disk

    def damage_blob(self, blob: BlobId, index: int = 0) -> None:
        """Flip a bit of a stored chunk, as a failing disk does."""
        chunks = self._blobs[blob].chunks
        chunks[index] = bytes([chunks[index][0] ^ 1]) + chunks[index][1:]

    def damage_journal(self, journal: str, offset: int) -> None:
        """Flip a bit of a journal; a negative offset counts from its end."""
        self._journals[journal].damage(offset)

    def place(self, files: Mapping[str, bytes], journals: Mapping[str, Sequence[bytes]]) -> None:
        """Have files and journals lie here as if they had been written before. For the beginning of a simulation."""
        self._files.update(files)
        self._journals.update((name, SimulatedJournal(records)) for name, records in journals.items())

    async def read(self, name: str) -> bytes | None:
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._files.get(check_file_name(name))

    async def write(self, name: str, data: bytes) -> None:
        check_file_name(name)
        await self._durably(lambda: self._files.__setitem__(name, bytes(data)))

    async def delete(self, name: str) -> None:
        check_file_name(name)
        await self._durably(lambda: self._files.pop(name, None))

    async def append(self, journal: str, record: bytes) -> None:
        check_name(journal)
        if len(record) > RECORD_BYTES_MAX:
            encode_record(0, record)  # which refuses it
        written = self._journals.setdefault(journal, SimulatedJournal())
        written.recover(journal)
        await self._durably(lambda: written.records.append(record))

    async def records(self, journal: str) -> list[bytes]:
        await trio.lowlevel.checkpoint_if_cancelled()
        found = self._journals.get(check_name(journal))
        if found is None:
            return []
        found.recover(journal)
        return list(found.records)

    async def record(self, journal: str, index: int) -> bytes | None:
        await trio.lowlevel.checkpoint_if_cancelled()
        found = self._journals.get(check_name(journal))
        if found is None:
            return None
        found.recover(journal)
        return found.records[index] if index < len(found.records) else None

    async def put_blob(self, source: bytes | Path) -> BlobId:
        data = source if isinstance(source, bytes) else read_file(source)
        hashes = chunk_hashes_of(data)
        blob = blob_id_of(hashes, len(data))
        chunks = [data] if len(hashes) == 1 else [data[i : i + CHUNK_BYTES] for i in range(0, len(data), CHUNK_BYTES)]
        for chunk_hash, chunk in zip(hashes, chunks, strict=True):
            self.pool.learn(chunk_hash, chunk)

        def put() -> None:
            self._blobs.setdefault(blob, _Blob(len(data), hashes, chunks)).used_at = trio.current_time()

        await self._durably(put)
        return blob

    async def take_blob(self, file: Path, *, may_change: bool = False, only_as: BlobId | None = None) -> TakenBlob:
        return await take_file(self, file, only_as)

    async def has_blob(self, blob: BlobId) -> bool:
        await trio.lowlevel.checkpoint_if_cancelled()
        found = self._blobs.get(check_blob_id(blob))
        if found is not None:
            found.used_at = trio.current_time()
        return found is not None

    async def open_blob(self, blob: BlobId) -> "SimulatedBlobReader":
        await trio.lowlevel.checkpoint_if_cancelled()
        found = self._blobs.get(check_blob_id(blob))
        if found is None:
            raise _not_here(blob)
        return SimulatedBlobReader(self.pool, blob, found, self._blobs, self._set_aside)

    async def read_blob(self, blob: BlobId) -> bytes:
        reader = await self.open_blob(blob)
        chunks = [reader.verified(index) for index in range(len(reader.chunk_hashes))]
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def blob_data(self, blob: BlobId) -> bytes | Path:
        return await self.read_blob(blob)

    def scratch(self) -> Path | None:
        return None

    async def receive_blob(self, blob: BlobId, chunk_hashes: Sequence[bytes], size: int) -> "SimulatedBlobWriter":
        await trio.lowlevel.checkpoint_if_cancelled()
        check_chunk_list(blob, chunk_hashes, size)
        for index, data in self._early.pop(blob, {}).items():
            if index < len(chunk_hashes) and hash_chunk(data) == chunk_hashes[index]:
                self.take_chunk(blob, index, data)
        return SimulatedBlobWriter(self, blob, chunk_hashes, size)

    async def receive_early(self, size: int) -> SimulatedEarlyWriter:
        await trio.lowlevel.checkpoint_if_cancelled()
        return SimulatedEarlyWriter(self._early, size)

    async def delete_blob(self, blob: BlobId) -> None:
        check_blob_id(blob)

        def delete() -> None:
            self._blobs.pop(blob, None)
            self._halves.pop(blob, None)
            self._early.pop(blob, None)

        await self._durably(delete)

    async def stored_blobs(self) -> list[StoredBlob]:
        await trio.lowlevel.checkpoint_if_cancelled()
        now = trio.current_time()
        whole = [StoredBlob(blob, found.size, now - found.used_at) for blob, found in self._blobs.items()]
        halves = self._halves.items()
        sizes = [(blob, sum(map(len, half.values()))) for blob, half in halves]
        return whole + [StoredBlob(blob, size, now - self._used(blob), is_half=True) for blob, size in sizes]

    async def discard_blob(self, blob: BlobId, unused_s: float) -> int:
        check_blob_id(blob)
        freed = 0

        def discard() -> None:
            nonlocal freed
            if blob in self._blobs and trio.current_time() - self._blobs[blob].used_at >= unused_s:
                freed += self._blobs.pop(blob).size
            if blob in self._halves and trio.current_time() - self._used(blob) >= unused_s:
                freed += sum(map(len, self._halves.pop(blob).values()))

        await self._durably(discard)
        return freed

    def _used(self, half: BlobId) -> float:
        """When a half blob last grew."""
        return self._half_used_at.get(half, 0.0)

    def missing_chunks(self, blob: BlobId, count: int) -> list[int]:
        """What a writer still wants of a blob of `count` chunks."""
        if blob in self._blobs:
            return []
        half = self._halves.get(blob, {})
        return [index for index in range(count) if index not in half]

    def take_chunk(self, blob: BlobId, index: int, data: bytes) -> None:
        """Keep a verified chunk of a half blob. A crash may lose it."""
        if blob not in self._blobs:
            self._halves.setdefault(blob, {})[index] = data
            self._half_used_at[blob] = trio.current_time()

    def half_chunk(self, blob: BlobId, index: int) -> bytes:
        if index not in self._halves.get(blob, {}):
            raise FednodeError(f"Chunk {index} of the blob {blob} is not in its half", remedy="read the whole blob")
        return self._halves[blob][index]

    async def publish(self, blob: BlobId, size: int, chunk_hashes: Sequence[bytes]) -> None:
        """Make a complete half blob whole, durably."""

        def publish() -> None:
            half = self._halves.pop(blob, None)
            if half is not None and blob not in self._blobs:
                self._blobs[blob] = _Blob(size, chunk_hashes, [half[index] for index in range(len(chunk_hashes))])

        if blob not in self._blobs:
            self._halves.setdefault(blob, {})  # an empty blob has no chunk that would have made it
            await self._durably(publish)

    def _set_aside(self, blob: BlobId) -> None:
        """Make a blob that was found damaged a half one, of its chunks that are right."""
        found = self._blobs.pop(blob, None)
        if found is not None:
            pairs = enumerate(zip(found.chunk_hashes, found.chunks, strict=True))
            self._halves[blob] = {index: data for index, (expected, data) in pairs if hash_chunk(data) == expected}

    def forget_half(self, blob: BlobId) -> None:
        self._halves.pop(blob, None)

    async def _durably(self, write: Callable[[], object]) -> None:
        """Do `write` after the latency, unless a crash comes first. A caller cancelled meanwhile waits for the end."""
        if not self._write_latency_s:
            write()  # nothing can come between
            self.writes += 1
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        await trio.lowlevel.checkpoint_if_cancelled()
        ticket, crashes = self._tickets, self._crashes
        self._tickets += 1
        self._under_way[ticket] = write
        with trio.CancelScope(shield=True):
            await trio.sleep(self._write_latency_s)
        if crashes != self._crashes:
            await trio.lowlevel.checkpoint_if_cancelled()  # a node that was ended with its disk just ends
            raise FednodeError("The disk went away while it was writing", remedy="start the node again")
        del self._under_way[ticket]
        write()
        self.writes += 1


class SimulatedBlobReader:
    """A blob in memory, each chunk verified as it is read."""

    def __init__(
        self,
        pool: ChunkPool,
        blob: BlobId,
        found: _Blob,
        blobs: Mapping[BlobId, _Blob],
        set_aside: Callable[[BlobId], None],
    ) -> None:
        self._pool = pool
        self._blob = blob
        self._found = found
        self._blobs = blobs
        self._set_aside = set_aside

    @property
    def size(self) -> int:
        return self._found.size

    @property
    def chunk_hashes(self) -> Sequence[bytes]:
        return self._found.chunk_hashes

    async def chunk(self, index: int) -> bytes:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._blob not in self._blobs:  # a file of that name is opened for every chunk
            raise _not_here(self._blob)
        return self.verified(index)

    def verified(self, index: int) -> bytes:
        expected, data = self._found.chunk_hashes[index], self._found.chunks[index]
        if not self._pool.holds(expected, data) and hash_chunk(data) != expected:
            self._set_aside(self._blob)
            raise damaged(self._blob, f"in chunk {index}")
        return data


class SimulatedBlobWriter:
    """A blob on its way into a simulated disk."""

    def __init__(self, disk: SimulatedDisk, blob: BlobId, chunk_hashes: Sequence[bytes], size: int) -> None:
        self._disk = disk
        self._blob = blob
        self._chunk_hashes = tuple(chunk_hashes)
        self._size = size

    def missing(self) -> list[int]:
        return self._disk.missing_chunks(self._blob, len(self._chunk_hashes))

    async def write_chunk(self, index: int, data: bytes) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        known = 0 <= index < len(self._chunk_hashes) and self._disk.pool.holds(self._chunk_hashes[index], data)
        if not known:
            check_chunk(self._blob, self._chunk_hashes, self._size, index, data)
            self._disk.pool.learn(self._chunk_hashes[index], data)
        self._disk.take_chunk(self._blob, index, data)

    async def chunk(self, index: int) -> bytes:
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._disk.half_chunk(self._blob, index)

    async def finish(self) -> None:
        missing = self.missing()
        if missing:
            raise LocalProtocolError(
                f"The blob {self._blob} lacks {len(missing)} chunks, first {missing[0]}",
                remedy="fetch them before finishing",
            )
        await self._disk.publish(self._blob, self._size, self._chunk_hashes)

    async def abandon(self) -> None:
        await trio.lowlevel.checkpoint()
        self._disk.forget_half(self._blob)


def _not_here(blob: BlobId) -> FednodeError:
    return FednodeError(f"The blob {blob} is not here", remedy="fetch it from a node that has it")
