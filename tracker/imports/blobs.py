"""The models and artifacts that lie beside an imported store: which are looked at, and how they are read.

Anybody may have put anything into that folder. So only those files are opened that the record names once the rows are
in, no link is followed, no pipe or device is waited for, no more is read than a file had when it was opened, and
nothing of it is written down before all of it has the hash that is its name.
"""

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from protocol.errors import Refused, RemoteProtocolError
from protocol.keys import BlobId
from protocol.limits import BLOB_BYTES_MAX, CHUNK_BYTES
from tracker.blobs.blobs import BlobStore
from tracker.blobs.chunks import blob_id_of, chunk_count, chunk_length, hash_chunk, is_blob_id
from tracker.durable import disk_errors
from tracker.imports.rules import ROOM_SHARE

BLOBS_MAX = 100_000  # of one import: a hundred runs of a thousand rounds


class GivenBlob:
    """A file that was given as the blob `blob`, open for reading. Raises RemoteProtocolError when it is no plain file.
    Call `hash_next` until it is false before anything else is asked."""

    def __init__(self, folder: Path, blob: BlobId) -> None:
        self.blob = blob
        self.hashes: list[bytes] = []
        try:
            self._file = os.open(folder / blob, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise RemoteProtocolError(f"The file {blob} cannot be opened ({error.strerror})") from None
        found = os.fstat(self._file)
        self.size = found.st_size
        if not stat.S_ISREG(found.st_mode) or self.size > BLOB_BYTES_MAX:
            os.close(self._file)
            raise RemoteProtocolError(f"{blob} is no plain file, or larger than any blob")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def hash_next(self) -> bool:
        """Read one chunk more. False when all are read."""
        if len(self.hashes) < chunk_count(self.size):
            self.hashes.append(hash_chunk(self.chunk(len(self.hashes))))
        return len(self.hashes) < chunk_count(self.size)

    @property
    def is_sound(self) -> bool:
        return blob_id_of(self.hashes, self.size) == self.blob

    def chunk(self, index: int) -> bytes:
        with disk_errors(f"read {self.blob}"):
            return os.pread(self._file, chunk_length(self.size, index), index * CHUNK_BYTES)


def given_blobs(folder: Path, named: Iterable[str]) -> list[BlobId]:
    """Those of the named blobs that have something lying in the folder under their name. Raises Refused when they are
    too many."""
    given = [BlobId(blob) for blob in sorted(named) if is_blob_id(blob) and os.path.lexists(folder / blob)]
    if len(given) > BLOBS_MAX:
        raise Refused(
            "bad-import",
            f"{folder} has {len(given):,} models and artifacts; {BLOBS_MAX:,} are the most of one import",
            remedy="the rows are in; import fewer blobs at once",
        )
    return given


def check_room(folder: Path, given: Iterable[BlobId], home: Path) -> None:
    """Raise Refused when these would take too much of what is free where `home` is."""
    with disk_errors(f"look for room in {home}"):
        needed = sum(os.lstat(folder / blob).st_size for blob in given)
        free = shutil.disk_usage(home).free
    if needed > ROOM_SHARE * free:
        raise Refused(
            "no-room",
            f"The models and artifacts in {folder} have {needed:,} bytes, and {free:,} are free in {home}",
            remedy="make twice as much room as they need, and import it once more; the rows are in",
        )


def take_given(blobs: BlobStore, folder: Path, named: Iterable[str], home: Path) -> tuple[int, int]:
    """Take them into the blobs of a stopped node. Gives how many came in, and how many were not what their name
    says."""
    wanted = [blob for blob in given_blobs(folder, named) if not blobs.has(blob)]
    check_room(folder, wanted, home)
    stored = [_take(blobs, folder, blob) for blob in wanted]
    return sum(stored), len(stored) - sum(stored)


def _take(blobs: BlobStore, folder: Path, blob: BlobId) -> bool:
    try:
        with GivenBlob(folder, blob) as given:
            while given.hash_next():
                pass
            if not given.is_sound:
                return False
            half = blobs.receive(blob, given.hashes, given.size)
            for index in half.missing():
                half.write_chunk(index, given.chunk(index))
            half.finish()
            return True
    except RemoteProtocolError:  # it is no plain file, or was changed since; its half goes with the next sweep
        return False
