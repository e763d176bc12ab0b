"""Half blobs: a blob on its way in from elsewhere, chunk by chunk, in any order, over any number of restarts."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from protocol.errors import FednodeError, LocalProtocolError
from protocol.keys import BlobId
from protocol.limits import CHUNK_BYTES
from tracker.blobs.chunks import check_chunk, chunk_length, hash_chunk
from tracker.durable import disk_errors, write_at

_PLAIN = os.O_NOFOLLOW | os.O_CLOEXEC  # what a link in its place leads to is nobody's half blob
_WRITE_BACK_CHUNKS = 8  # 8 MiB: large enough for a disk to work well, small enough that the last sync has little left


class HalfBlob:
    """Takes a blob's chunks. For any thread.

    Args:
        path: the file that the chunks go into, begun by `begin_half`; None when the blob is here already.
        chunk_hashes: the verified list.
        publish: makes the complete file durable and visible; it is told the file's inode, for another file may have
            taken its name meanwhile.
    """

    def __init__(
        self, blob: BlobId, path: Path | None, chunk_hashes: Sequence[bytes], size: int, publish: Callable[[int], None]
    ) -> None:
        self.blob = blob
        self._path = path
        self._chunk_hashes = chunk_hashes
        self._size = size
        self._publish = publish
        self._missing: set[int] = set()
        self._inode = 0
        if path is not None:
            self._missing = set(range(len(chunk_hashes)))
            self._take_up(path)

    def missing(self) -> list[int]:
        """The chunks that are still wanted, in order."""
        return sorted(self._missing)

    def write_chunk(self, index: int, data: bytes) -> None:
        """Take one chunk. It is durable after `finish`; until then a crash may lose it.

        Raises:
            RemoteProtocolError: `data` is not what the chunk list promises. Nothing was written.
            FednodeError: the disk says no, or the half blob was deleted meanwhile.
        """
        check_chunk(self.blob, self._chunk_hashes, self._size, index, data)
        if index not in self._missing or self._path is None:
            return
        with disk_errors(f"write the blob {self.blob}"):
            descriptor = self._open_half(self._path)
            try:
                put_chunk(descriptor, index, data)
            finally:
                os.close(descriptor)
        self._missing.discard(index)

    def chunk(self, index: int) -> bytes:
        """A chunk that has come, hashed as it is read. Raises FednodeError when it is not here, or not any more."""
        if self._path is None or index in self._missing:
            raise FednodeError(
                f"Chunk {index} of the blob {self.blob} is not in its half", remedy="read the whole blob"
            )
        with disk_errors(f"read the half of the blob {self.blob}"):
            descriptor = self._open_half(self._path)
            try:
                data = os.pread(descriptor, chunk_length(self._size, index), index * CHUNK_BYTES)
            finally:
                os.close(descriptor)
        if hash_chunk(data) != self._chunk_hashes[index]:
            self._missing.add(index)  # to be fetched again
            raise FednodeError(f"Chunk {index} of the half blob {self.blob} is damaged", remedy="check this disk")
        return data

    def finish(self) -> None:
        """Make the whole blob durable, then visible under its name.

        Raises:
            LocalProtocolError: chunks are missing.
            FednodeError: the disk says no, or the half blob was deleted meanwhile.
        """
        if self._missing:
            raise LocalProtocolError(
                f"The blob {self.blob} lacks {len(self._missing)} chunks, first {min(self._missing)}",
                remedy="fetch them before finishing",
            )
        if self._path is not None:
            with disk_errors(f"store the blob {self.blob}"):
                self._publish(self._inode)
            self._path = None

    def abandon(self) -> None:
        """Forget what has come. A half blob that is only let go of can be taken up again later."""
        if self._path is not None:
            with disk_errors(f"delete the half of the blob {self.blob}"):
                self._path.unlink(missing_ok=True)

    def _take_up(self, path: Path) -> None:
        """See which chunks are in the file already, which has its full length."""
        try:
            descriptor = os.open(path, os.O_RDWR | _PLAIN)
        except FileNotFoundError:
            raise replaced(self.blob) from None
        try:
            self._inode = os.fstat(descriptor).st_ino
            for index in range(len(self._chunk_hashes)):
                length = chunk_length(self._size, index)
                if not _is_hole(descriptor, index * CHUNK_BYTES, length):
                    data = os.pread(descriptor, length, index * CHUNK_BYTES)
                    if hash_chunk(data) == self._chunk_hashes[index]:
                        self._missing.discard(index)
        finally:
            os.close(descriptor)

    def _open_half(self, path: Path) -> int:
        try:
            descriptor = os.open(path, os.O_RDWR | _PLAIN)
        except FileNotFoundError:
            raise replaced(self.blob) from None
        if os.fstat(descriptor).st_ino != self._inode:
            os.close(descriptor)
            raise replaced(self.blob)
        return descriptor


def begin_half(path: Path, size: int) -> None:
    """Have the file there, of mode 0600 and with its full length, so that it counts in the usage."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _PLAIN, 0o600)
    try:
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def replaced(blob: BlobId) -> FednodeError:
    """What came into a half blob is not in the file that has its name now."""
    return FednodeError(
        f"The half of the blob {blob} was deleted while it was being received", remedy="receive it again"
    )


def _is_hole(descriptor: int, offset: int, length: int) -> bool:
    """Whether nothing was ever written there: a new half blob of many gigabytes must not be read through."""
    if not hasattr(os, "SEEK_DATA"):
        return False
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA) >= offset + length
    except OSError:  # ENXIO: no data from there to the end
        return True


def put_chunk(descriptor: int, index: int, data: bytes) -> None:
    """Write a chunk at its place; now and then, have the disk begin to write what lies before it."""
    write_at(descriptor, data, index * CHUNK_BYTES)
    if index % _WRITE_BACK_CHUNKS == _WRITE_BACK_CHUNKS - 1:
        start = index + 1 - _WRITE_BACK_CHUNKS
        _start_writing_back(descriptor, start * CHUNK_BYTES, _WRITE_BACK_CHUNKS * CHUNK_BYTES)


def _start_writing_back(descriptor: int, offset: int, length: int) -> None:
    """Begin to write to the disk now, without waiting, what would else all wait for the last sync."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)
