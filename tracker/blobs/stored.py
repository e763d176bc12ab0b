"""What lies under a blob's name on a disk."""

from dataclasses import dataclass
from pathlib import Path

from protocol.keys import BlobId
from tracker.blobs.chunks import is_blob_id


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """`unused_s`: for how long nobody has stored it or asked whether it is here. `is_half`: it is on its way in."""

    blob: BlobId
    bytes: int
    unused_s: float
    is_half: bool = False


@dataclass(frozen=True, slots=True)
class TakenBlob:
    """What a file that was given away has become. `is_new`: it is stored now, and was not before."""

    blob: BlobId
    is_new: bool


@dataclass(frozen=True, slots=True)
class BlobUsage:
    blobs: int
    bytes: int  # of whole blobs, without their lists
    half_bytes: int  # of all that is on its way in


def blob_files(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if is_blob_id(path.name)]


def unwritten_of(path: Path) -> int:
    """How many bytes of a file are holes, where the file system has such; 0 where it is gone meanwhile."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    return max(0, found.st_size - found.st_blocks * 512)


def size_of(path: Path) -> int:
    """0 where it is gone meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
