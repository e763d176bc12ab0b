"""Blobs on disk: content-addressed, durable before visible, verified whenever read.

In the store's directory, `whole/ID` is exactly a blob's bytes and `whole/ID.chunks` its chunk hashes (only where there
is more than one chunk; a single one is its own list). `half/ID` is a blob on its way in, with its chunks at their
places; it needs no notes, since on taking it up again each chunk is hashed and those that fit are here. `new/` holds
what is being written from this machine, `early/` what comes of blobs whose names are not known yet. A name in `whole/`
appears by renaming, after its bytes and its chunk list are on the disk, so there is never half a blob under its final
name; the list without the blob means nothing. A blob that is found damaged becomes a half one again: it is not here any
more, and fetching it again takes the bad chunks alone.
"""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from protocol.errors import FednodeError
from protocol.keys import BlobId
from protocol.limits import CHUNK_BYTES
from tracker.blobs.chunks import (
    HASH_BYTES,
    blob_id_of,
    check_blob_id,
    check_chunk_list,
    chunk_count,
    chunk_hashes_of,
    chunk_hashes_of_file,
    chunk_length,
    hash_chunk,
)
from tracker.blobs.early import EarlyFile
from tracker.blobs.given import changes, moved_in
from tracker.blobs.halves import HalfBlob, begin_half, replaced
from tracker.blobs.quota import Quota
from tracker.blobs.removing import Remover
from tracker.blobs.room import Counting, Rooms
from tracker.blobs.stored import BlobUsage, StoredBlob, TakenBlob, blob_files, size_of, unwritten_of
from tracker.durable import (
    TEMPORARY_PREFIX,
    OneAtATime,
    disk_errors,
    make_directory,
    remove_temporaries,
    sync,
    sync_directory,
    write_atomically,
)

_LIST_SUFFIX = ".chunks"
LONE_LIST_S = 3600.0  # nobody waits so long between naming a list and naming its blob
Stamp = tuple[int, int, int, int]
SOUND_BLOBS_MAX = 4096  # remembered as verified; beyond, all are forgotten and read through once more


class BlobFile:
    """A whole blob, open for reading. Its chunk list has been verified, each chunk is verified as it is read."""

    def __init__(
        self, blob: BlobId, path: Path, size: int, chunk_hashes: Sequence[bytes], set_aside: Callable[[BlobId], None]
    ) -> None:
        self.blob = blob
        self.path = path
        self.size = size
        self.chunk_hashes = tuple(chunk_hashes)
        self._set_aside = set_aside

    def chunk(self, index: int) -> bytes:
        """Chunk `index`. Raises FednodeError naming the blob when it is damaged or gone; IndexError beyond the end."""
        expected = self.chunk_hashes[index]
        doing = f"read the blob {self.blob}"
        with disk_errors(doing), _present(self.blob), self.path.open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), CHUNK_BYTES, index * CHUNK_BYTES)
        if len(data) != chunk_length(self.size, index) or hash_chunk(data) != expected:
            self._set_aside(self.blob)
            raise damaged(self.blob, f"in chunk {index}")
        return data

    def read(self) -> bytes:
        """All of it, verified."""
        return b"".join(self.chunk(index) for index in range(len(self.chunk_hashes)))


class BlobStore:
    """The blobs under a directory, made when missing. For any thread; for one process.

    A second process that writes the same blobs here does no harm, beyond making a write fail.

    Args:
        quota: over whole and half blobs; None for none. A blob that would go over is refused.
    """

    def __init__(self, directory: Path, *, quota: Quota | None = None) -> None:
        self._whole = directory / "whole"
        self._half = directory / "half"
        self._new = directory / "new"
        self._early = directory / "early"
        self._quota = quota
        self._rooms = Rooms(quota, self._count, self._whole)
        self._remover = Remover(self._new)
        self._naming = OneAtATime(self._whole)  # a blob and its list come together, and go together
        self._claiming = threading.Lock()  # between looking how old a blob is and deleting it nobody counts on it
        self._sound: dict[BlobId, Stamp] = {}  # what was read through, or written, by this process
        with disk_errors(f"open the blobs in {directory}"):
            for folder in (self._whole, self._half, self._new, self._early):
                make_directory(folder)
            for path in blob_files(self._early):  # of before a restart: whoever knew what it was is gone
                path.unlink()
            remove_temporaries(self._new)
            remove_temporaries(self._whole)
            self._remove_lone_lists()

    def put(self, source: bytes | Path, check_cancelled: Callable[[], None] = lambda: None) -> BlobId:
        """Store bytes, or a file's content a chunk at a time, durably. What is here already is not written again.

        Args:
            check_cancelled: called between chunks of a file; what it raises ends the call, and nothing stays behind.

        Raises:
            Refused: the quota is used up.
            FednodeError: the disk says no.
        """
        if isinstance(source, bytes):
            hashes = chunk_hashes_of(source)
            blob = blob_id_of(hashes, len(source))
            with disk_errors(f"store the blob {blob}"):
                if not self._touch(blob):
                    with self._rooms.promise(len(source)) as room, self._new_file() as file:
                        file.write(source)
                        self._publish(file, Path(file.name), blob, hashes, room.taken())
            return blob
        with disk_errors(f"store {source} as a blob"), source.open("rb") as original:
            size = os.fstat(original.fileno()).st_size
            with self._rooms.promise(size) as room, self._new_file() as file:
                hashes, read = chunk_hashes_of_file(original, check_cancelled, copy_to=file)
                if read > size:
                    raise changes(source)
                blob = blob_id_of(hashes, read)
                if not self._touch(blob):
                    self._publish(file, Path(file.name), blob, hashes, room.taken())
        return blob

    def take(
        self,
        file: Path,
        *,
        may_change: bool = False,
        only_as: BlobId | None = None,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> TakenBlob:
        """Store a file that is given away: moved in where it lies on the same file system, and read once. It is gone
        afterwards, whatever comes of it but Refused.

        Args:
            may_change: its maker may have kept it open, so `sound_path` reads it through once more.
            only_as: under any other name it is not stored.

        Raises:
            Refused: the quota is used up.
            FednodeError: the disk says no, it is no plain file, or it changes while it is read.
        """
        with (
            disk_errors(f"store {file} as a blob"),
            self._rooms.promise(file.lstat().st_size) as room,
            moved_in(file, self._new) as (given, path),
        ):
            before = _stamp(path)
            hashes, size = chunk_hashes_of_file(given, check_cancelled)
            if _stamp(path) != before or size > room.size:
                raise changes(file)
            blob = blob_id_of(hashes, size)
            if only_as not in (None, blob):
                return TakenBlob(blob, is_new=False)
            is_new = not self._touch(blob)
            if is_new:
                self._publish(given, path, blob, hashes, room.taken())
                if may_change:
                    self._sound.pop(blob, None)
        return TakenBlob(blob, is_new)

    def has(self, blob: BlobId) -> bool:
        """Whether the blob is here; it then stays at least as long as `discard` is told to wait."""
        check_blob_id(blob)
        with disk_errors(f"look for the blob {blob}"):
            return self._touch(blob)

    def path(self, blob: BlobId) -> Path:
        """Where the blob's bytes lie, if it is here. Only for reading, and not verified."""
        return self._whole / check_blob_id(blob)

    def open(self, blob: BlobId) -> BlobFile:
        """Raises FednodeError when the blob is not here, or its chunk list is damaged."""
        path = self.path(blob)
        with disk_errors(f"read the blob {blob}"), _present(blob):
            size = path.stat().st_size
            if chunk_count(size) == 1:
                raw = hash_chunk(path.read_bytes())
            else:
                raw = self._list_of(blob) if size else b""
        hashes = [raw[start : start + HASH_BYTES] for start in range(0, len(raw), HASH_BYTES)]
        if blob_id_of(hashes, size) != blob:
            self._set_aside(blob)
            raise damaged(blob, "in its bytes or in its chunk list")
        return BlobFile(blob, path, size, hashes, self._set_aside)

    def sound_path(self, blob: BlobId) -> Path:
        """Where the blob's bytes lie, verified: read through, unless this process did so, or wrote them, and the file
        was not changed since. Raises FednodeError when it is not here, or damaged."""
        opened = self.open(blob)
        if len(opened.chunk_hashes) > 1 and self._sound.get(blob) != _stamp(opened.path):
            stamp = _stamp(opened.path)
            for index in range(len(opened.chunk_hashes)):
                opened.chunk(index)
            self._remember(blob, stamp)
        return opened.path

    def receive(self, blob: BlobId, chunk_hashes: Sequence[bytes], size: int) -> HalfBlob:
        """Begin a blob that comes from elsewhere, or take it up again where it stopped.

        Raises:
            RemoteProtocolError: the list is not the one that `blob` names.
            Refused: the quota is used up.
        """
        check_chunk_list(blob, chunk_hashes, size)
        with disk_errors(f"receive the blob {blob}"):
            if self._touch(blob):
                return HalfBlob(blob, None, chunk_hashes, size, publish=lambda inode: None)
            path = self._half / blob
            with self._claiming, contextlib.suppress(FileNotFoundError):
                os.utime(path)  # it is wanted again: not to be discarded
            with self._rooms.beginning(path, size):
                begin_half(path, size)
            publish = partial(self._publish_half, path, blob, chunk_hashes)
            return HalfBlob(blob, path, chunk_hashes, size, publish)

    def receive_early(self, size: int) -> EarlyFile:
        """Begin what comes of a blob whose name is not known yet. It is gone after a restart, unless it has become a
        half. Raises Refused when the quota is used up."""
        return EarlyFile(self._early, self._half, size, self._rooms)

    def delete(self, blob: BlobId) -> None:
        """Remove a blob, whole or half. One that is not here is no error."""
        with disk_errors(f"delete the blob {blob}"), self._naming:
            self._remover.remove(self.path(blob))
            self._list_path(blob).unlink(missing_ok=True)
            self._remover.remove(self._half / blob)

    def verify(self, blob: BlobId) -> None:
        """Read all of it. Raises FednodeError naming the blob when any of it is damaged or missing."""
        opened = self.open(blob)
        for index in range(len(opened.chunk_hashes)):
            opened.chunk(index)

    def blobs(self) -> list[BlobId]:
        """The whole blobs, in order of their ids."""
        return sorted(BlobId(path.name) for path in blob_files(self._whole))

    def usage(self) -> BlobUsage:
        whole, *coming = ([size_of(path) for path in blob_files(at)] for at in (self._whole, self._half, self._early))
        return BlobUsage(len(whole), sum(whole), sum(map(sum, coming)))

    def stored(self, now: float) -> list[StoredBlob]:
        """Every blob, whole or half. `now`, in epoch seconds, is what their ages are counted to."""
        found = []
        with disk_errors("list the blobs"):
            for folder in (self._whole, self._half):
                for path in blob_files(folder):
                    with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                        of = path.stat()
                        is_half = folder is self._half
                        found.append(StoredBlob(BlobId(path.name), of.st_size, now - of.st_mtime, is_half))
        return found

    def discard(self, blob: BlobId, before: float) -> int:
        """Remove a blob, whole or half, unless it was stored or asked for since `before`, in epoch seconds. Gives the
        bytes freed. Who was told since then that it is here finds it."""
        freed = 0
        with disk_errors(f"delete the blob {blob}"), self._naming, self._claiming:
            for path in (self.path(blob), self._half / blob):
                if path.exists() and path.stat().st_mtime < before:
                    freed += size_of(path)
                    path.unlink()
                    path.with_name(path.name + _LIST_SUFFIX).unlink(missing_ok=True)
        return freed

    def _publish(self, file: IO[bytes], path: Path, blob: BlobId, hashes: Sequence[bytes], counting: Counting) -> None:
        """Make a complete, verified file durable, then visible under its name. One chunk: two syncs; more: four.
        `counting` is held while it gets it."""
        file.flush()
        sync(file.fileno())
        with self._naming:
            if os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                raise replaced(blob)
            if len(hashes) > 1:
                write_atomically(self._list_path(blob), b"".join(hashes))
            with counting:
                os.replace(path, self._whole / blob)
        self._remember(blob, _stamp(self._whole / blob))
        sync_directory(self._whole)

    def _publish_half(self, path: Path, blob: BlobId, hashes: Sequence[bytes], inode: int) -> None:
        """`inode`: of the file that the chunks went into. Another one under its name holds other chunks."""
        if not path.exists() and self._touch(blob):
            return  # another transfer of the same blob was first
        with path.open("r+b") as file:
            if os.fstat(file.fileno()).st_ino != inode:
                raise replaced(blob)
            self._publish(file, path, blob, hashes, self._rooms.counting)

    @contextlib.contextmanager
    def _new_file(self) -> Iterator[IO[bytes]]:
        """A temporary file of mode 0600, gone at the end unless it was published."""
        with tempfile.NamedTemporaryFile(prefix=TEMPORARY_PREFIX, dir=self._new, delete=False) as file:
            try:
                yield file
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file.name)

    def _touch(self, blob: BlobId) -> bool:
        """Whether the blob is here; if so it counts as new for `discard`."""
        path = self._whole / blob
        with self._claiming:
            is_sound = self._sound.get(blob) == _stamp(path)
            try:
                os.utime(path)
            except FileNotFoundError:
                return False
            if is_sound:
                self._remember(blob, _stamp(path))
            return True

    def _remember(self, blob: BlobId, stamp: Stamp) -> None:
        if len(self._sound) >= SOUND_BLOBS_MAX:
            self._sound.clear()
        self._sound[blob] = stamp

    def _set_aside(self, blob: BlobId) -> None:
        """Make a damaged blob a half one."""
        with disk_errors(f"set the damaged blob {blob} aside"), self._naming, contextlib.suppress(FileNotFoundError):
            with self._rooms.counting:
                os.replace(self._whole / blob, self._half / blob)
            self._list_path(blob).unlink(missing_ok=True)

    def _count(self) -> tuple[int, int]:
        """For the quota: the bytes of all blobs, where there is one, and how many of them are not on the disk yet."""
        coming = [*blob_files(self._half), *blob_files(self._early)]
        files = [*blob_files(self._whole), *coming] if self._quota and self._quota.bytes_max is not None else []
        return sum(map(size_of, files)), sum(map(unwritten_of, coming))

    def _remove_lone_lists(self) -> None:
        """A crash between a list's name and its blob's leaves the list alone. What is young may be about to get its
        blob from another process."""
        for path in self._whole.glob("*" + _LIST_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                is_old = path.stat().st_mtime < time.time() - LONE_LIST_S
                if is_old and not path.with_name(path.name.removesuffix(_LIST_SUFFIX)).exists():
                    path.unlink()

    def _list_of(self, blob: BlobId) -> bytes:
        """The chunk list on the disk; nothing where it was lost, which proves no blob."""
        try:
            return self._list_path(blob).read_bytes()
        except FileNotFoundError:
            return b""

    def _list_path(self, blob: BlobId) -> Path:
        return self._whole / (blob + _LIST_SUFFIX)


def damaged(blob: BlobId, where: str) -> FednodeError:
    return FednodeError(
        f"The blob {blob} is damaged {where}",
        remedy="check this machine's disk; what other nodes have is fetched again by itself when it is needed",
    )


@contextlib.contextmanager
def _present(blob: BlobId) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise FednodeError(f"The blob {blob} is not here", remedy="fetch it from a node that has it") from None


def _stamp(path: Path) -> Stamp:
    """What changes when somebody writes to a file, also who then sets its times back; zeros where it is gone."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0, 0, 0)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
