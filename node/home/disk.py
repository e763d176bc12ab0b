"""The Disk seam on a real disk: all that blocks runs in a few threads, and nothing returns before it is durable.

In the node's home, small files stand under their own names, journals under `journals/`, blobs under `blobs/`.
"""

import functools
import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import trio

from protocol.errors import Refused
from protocol.keys import BlobId
from tracker.blobs.blobs import BlobFile, BlobStore
from tracker.blobs.early import EarlyFile
from tracker.blobs.halves import HalfBlob
from tracker.blobs.quota import QUOTA_CODE, Quota
from tracker.blobs.stored import StoredBlob, TakenBlob
from tracker.durable import (
    RESERVED_FOLDERS,
    check_file_name,
    check_name,
    disk_errors,
    make_directory,
    remove_temporaries,
    sync_directory,
    write_atomically,
)
from tracker.journal import Journal

BULK_THREADS_MAX = 4  # enough to keep a disk and two cores busy with hashing and writing
RECORD_THREADS_MAX = 2  # of their own: a vote never waits for somebody's hundred megabytes
SCRATCH = "scratch"
JOURNALS_OPEN_MAX = 64  # a file descriptor each; a node in more runs and groups opens the rest anew as needed

T = TypeVar("T")


class FileDisk:
    """The disk of the node whose home is `home`. For one process at a time.

    Args:
        home: the node's folder, made when missing, of mode 0700.
        quota: of room for blobs; None for none.

    Raises:
        FednodeError: the disk says no. Every method may raise it.
    """

    def __init__(self, home: Path, *, quota: Quota | None = None) -> None:
        self.home = home
        with disk_errors(f"open the home {home}"):
            make_directory(home)
            make_directory(home / "journals")
            shutil.rmtree(home / SCRATCH, ignore_errors=True)
            make_directory(home / SCRATCH)
            for directory, folders, _ in os.walk(home):
                folders[:] = [folder for folder in folders if folder not in RESERVED_FOLDERS]
                remove_temporaries(Path(directory))
        self.blobs = BlobStore(home / "blobs", quota=quota)
        # Asked for room, once, before a blob is refused for the quota's sake; gives the bytes that became free.
        self.make_room: Callable[[], Awaitable[int]] | None = None
        self._journals: OrderedDict[str, Journal] = OrderedDict()
        self._journals_lock = threading.Lock()
        self._bulk = trio.CapacityLimiter(BULK_THREADS_MAX)
        self._records = trio.CapacityLimiter(RECORD_THREADS_MAX)

    async def read(self, name: str) -> bytes | None:
        return await self._in_thread(self._records, functools.partial(_read, self._path(name), name))

    async def write(self, name: str, data: bytes) -> None:
        await self._in_thread(self._records, functools.partial(_write, self._path(name), name, data))

    async def delete(self, name: str) -> None:
        await self._in_thread(self._records, functools.partial(_delete, self._path(name), name))

    async def append(self, journal: str, record: bytes) -> None:
        check_name(journal)
        await self._in_thread(self._records, lambda: self._with_journal(journal, lambda file: file.append(record)))

    async def records(self, journal: str) -> list[bytes]:
        check_name(journal)
        return await self._in_thread(self._records, lambda: self._with_journal(journal, Journal.records))

    async def record(self, journal: str, index: int) -> bytes | None:
        check_name(journal)
        return await self._in_thread(
            self._records, lambda: self._with_journal(journal, lambda file: file.record(index))
        )

    async def put_blob(self, source: bytes | Path) -> BlobId:
        return await self._with_room(functools.partial(self.blobs.put, source, trio.from_thread.check_cancelled))

    async def take_blob(self, file: Path, *, may_change: bool = False, only_as: BlobId | None = None) -> TakenBlob:
        take = functools.partial(
            self.blobs.take,
            file,
            may_change=may_change,
            only_as=only_as,
            check_cancelled=trio.from_thread.check_cancelled,
        )
        try:
            return await self._with_room(take)
        except Refused:
            await self._in_thread(self._bulk, functools.partial(_delete, file, file.name))
            raise

    async def has_blob(self, blob: BlobId) -> bool:
        return await self._in_thread(self._bulk, functools.partial(self.blobs.has, blob))

    async def open_blob(self, blob: BlobId) -> "FileBlobReader":
        file = await self._in_thread(self._bulk, functools.partial(self.blobs.open, blob))
        return FileBlobReader(file, self._bulk)

    async def read_blob(self, blob: BlobId) -> bytes:
        return await self._in_thread(self._bulk, lambda: self.blobs.open(blob).read())

    async def blob_data(self, blob: BlobId) -> bytes | Path:
        return await self._in_thread(self._bulk, functools.partial(self.blobs.sound_path, blob))

    def scratch(self) -> Path | None:
        return self.home / SCRATCH

    async def receive_blob(self, blob: BlobId, chunk_hashes: Sequence[bytes], size: int) -> "FileBlobWriter":
        begin = functools.partial(self.blobs.receive, blob, chunk_hashes, size)
        return FileBlobWriter(await self._with_room(begin), self._bulk)

    async def receive_early(self, size: int) -> "FileEarlyWriter":
        early = await self._with_room(functools.partial(self.blobs.receive_early, size))
        return FileEarlyWriter(early, self._bulk)

    async def delete_blob(self, blob: BlobId) -> None:
        await self._in_thread(self._bulk, functools.partial(self.blobs.delete, blob))

    async def stored_blobs(self) -> list[StoredBlob]:
        return await self._in_thread(self._bulk, functools.partial(self.blobs.stored, time.time()))

    async def discard_blob(self, blob: BlobId, unused_s: float) -> int:
        work = functools.partial(self.blobs.discard, blob, time.time() - unused_s)
        return await self._in_thread(self._bulk, work)

    def close(self) -> None:
        """Let go of the open journals. Nothing else may be under way."""
        with self._journals_lock:
            for journal in self._journals.values():
                journal.close()
            self._journals.clear()

    async def _in_thread(self, limiter: trio.CapacityLimiter, work: Callable[[], T]) -> T:
        # Never abandoned on cancellation: what has begun is durable, or not there, when the caller goes on.
        return await trio.to_thread.run_sync(work, limiter=limiter)

    async def _with_room(self, work: Callable[[], T]) -> T:
        """Store a blob; where the quota is used up, garbage goes first."""
        try:
            return await self._in_thread(self._bulk, work)
        except Refused as refused:
            if refused.code != QUOTA_CODE or self.make_room is None or not await self.make_room():
                raise
        return await self._in_thread(self._bulk, work)

    def _path(self, name: str) -> Path:
        return self.home / check_file_name(name)

    def _with_journal(self, name: str, use: Callable[[Journal], T]) -> T:
        """Use an open journal. Under the lock: one that is in use is never closed to make room."""
        with self._journals_lock:
            journal = self._journals.get(name)
            if journal is None:
                path = self.home / "journals" / name
                with disk_errors(f"open the journal {name}"):
                    make_directory(path.parent)
                journal = self._journals[name] = Journal(path)
            self._journals.move_to_end(name)
            if len(self._journals) > JOURNALS_OPEN_MAX:
                self._journals.popitem(last=False)[1].close()
            return use(journal)


class FileBlobReader:
    """A verified blob on disk."""

    def __init__(self, file: BlobFile, limiter: trio.CapacityLimiter) -> None:
        self._file = file
        self._limiter = limiter

    @property
    def size(self) -> int:
        return self._file.size

    @property
    def chunk_hashes(self) -> Sequence[bytes]:
        return self._file.chunk_hashes

    async def chunk(self, index: int) -> bytes:
        return await trio.to_thread.run_sync(self._file.chunk, index, limiter=self._limiter)


class FileBlobWriter:
    """A blob on its way in."""

    def __init__(self, half: HalfBlob, limiter: trio.CapacityLimiter) -> None:
        self._half = half
        self._limiter = limiter

    def missing(self) -> list[int]:
        return self._half.missing()

    async def write_chunk(self, index: int, data: bytes) -> None:
        await trio.to_thread.run_sync(self._half.write_chunk, index, data, limiter=self._limiter)

    async def chunk(self, index: int) -> bytes:
        return await trio.to_thread.run_sync(self._half.chunk, index, limiter=self._limiter)

    async def finish(self) -> None:
        await trio.to_thread.run_sync(self._half.finish, limiter=self._limiter)

    async def abandon(self) -> None:
        await trio.to_thread.run_sync(self._half.abandon, limiter=self._limiter)


class FileEarlyWriter:
    """What comes of a blob without a name yet."""

    def __init__(self, early: EarlyFile, limiter: trio.CapacityLimiter) -> None:
        self._early = early
        self._limiter = limiter

    async def write_chunk(self, index: int, data: bytes) -> None:
        await trio.to_thread.run_sync(self._early.write_chunk, index, data, limiter=self._limiter)

    async def become(self, blob: BlobId) -> None:
        await trio.to_thread.run_sync(self._early.become, blob, limiter=self._limiter)

    async def abandon(self) -> None:
        await trio.to_thread.run_sync(self._early.abandon, limiter=self._limiter)


def _read(path: Path, name: str) -> bytes | None:
    with disk_errors(f"read {name}"):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def _write(path: Path, name: str, data: bytes) -> None:
    with disk_errors(f"write {name}"):
        make_directory(path.parent)
        write_atomically(path, data)


def _delete(path: Path, name: str) -> None:
    with disk_errors(f"delete {name}"):
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_directory(path.parent)
