"""What comes of a blob whose name is not known yet: a file of nobody's, until it becomes the half of a blob.

Decides that it proves nothing and is found under no blob's name. Who takes up the half that it becomes looks at every
chunk as at any other that lay there before.
"""

import os
import secrets
from pathlib import Path

from protocol.keys import BlobId
from tracker.blobs.chunks import check_blob_id, check_unproven_chunk
from tracker.blobs.halves import put_chunk
from tracker.blobs.room import Rooms
from tracker.durable import disk_errors


class EarlyFile:
    """A new file of `size` bytes in `folder`, which counts as full from the beginning. For any thread."""

    def __init__(self, folder: Path, halves: Path, size: int, rooms: Rooms) -> None:
        self._path = folder / secrets.token_hex(32)
        self._halves = halves
        self._size = size
        self._rooms = rooms
        doing = disk_errors("make room for an update")
        with doing, rooms.beginning(self._path, size), self._path.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            os.ftruncate(file.fileno(), size)

    def write_chunk(self, index: int, data: bytes) -> None:
        """Raises RemoteProtocolError for what has not the length that a chunk there has."""
        check_unproven_chunk(self._size, index, data)
        with disk_errors("write an update"), self._path.open("r+b", buffering=0) as file:
            put_chunk(file.fileno(), index, data)

    def become(self, blob: BlobId) -> None:
        """Be the half of `blob`, unless there is one. Nothing can be written any more."""
        half = self._halves / check_blob_id(blob)
        with disk_errors(f"take up what came of the blob {blob}"), self._rooms.counting:
            try:
                os.link(self._path, half)
            except FileExistsError:
                pass
            except OSError:  # a file system without links; there, who begins the half just now has to begin again
                if not half.exists():
                    os.rename(self._path, half)
            finally:
                self.abandon()

    def abandon(self) -> None:
        """Delete it."""
        with disk_errors("delete what came of an update"):
            self._path.unlink(missing_ok=True)
