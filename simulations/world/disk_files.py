"""Files that are given to a simulated disk, read into memory at once, as no simulation has large ones; and what comes
there of blobs that have no name yet."""

from pathlib import Path

import trio

from node.seams import Disk
from protocol.errors import FednodeError
from protocol.keys import BlobId
from tracker.blobs.chunks import blob_id_of_data, check_blob_id, check_unproven_chunk
from tracker.blobs.stored import TakenBlob
from tracker.durable import disk_errors


class SimulatedEarlyWriter:
    """See node.seams.EarlyWriter. `become`s put what came into `named`, unproven, by the blob that it is to be."""

    def __init__(self, named: dict[BlobId, dict[int, bytes]], size: int) -> None:
        self._named = named
        self._size = size
        self._chunks: dict[int, bytes] = {}

    async def write_chunk(self, index: int, data: bytes) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        check_unproven_chunk(self._size, index, data)
        self._chunks[index] = data

    async def become(self, blob: BlobId) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._named.setdefault(check_blob_id(blob), self._chunks)

    async def abandon(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()


def read_file(path: Path) -> bytes:
    with disk_errors(f"store {path} as a blob"):
        return path.read_bytes()


async def take_file(disk: Disk, file: Path, only_as: BlobId | None) -> TakenBlob:
    """As Disk.take_blob."""
    data = _taken(file)
    blob = blob_id_of_data(data)
    if only_as not in (None, blob):
        return TakenBlob(blob, is_new=False)
    is_new = not await disk.has_blob(blob)
    return TakenBlob(await disk.put_blob(data), is_new)


def _taken(file: Path) -> bytes:
    try:
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise FednodeError(f"{file} is no plain file of one name", remedy="leave alone what was given away")
        return read_file(file)
    finally:
        file.unlink(missing_ok=True)
