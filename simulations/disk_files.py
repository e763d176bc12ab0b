"""Files that are given to a simulated disk: read into memory at once, as no simulation has large ones."""

from pathlib import Path

from node.seams import Disk
from protocol.errors import FednodeError
from protocol.keys import BlobId
from tracker.chunks import blob_id_of_data
from tracker.durable import disk_errors
from tracker.stored import TakenBlob


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
