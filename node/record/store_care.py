"""The care of the record, as the local API offers it: what is kept, copies, what others have exported."""

import os
import weakref
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import trio

from node.api.service.store import Json, StoreCopy
from node.record.record import StoreRecord
from node.record.retention import Removed
from node.record.store_files import check_files, told
from protocol.errors import FednodeError, Refused, RemoteProtocolError
from protocol.keys import BlobId
from tracker.copies import remove_copy
from tracker.imports.blobs import GivenBlob, check_room, given_blobs
from tracker.retention import MEANINGS, Rules
from tracker.tables.connect import work_folder

if TYPE_CHECKING:
    from node.node import Node

PIECE_BYTES = 1024 * 1024  # of a copy, read and sent at a time
BACKUPS_MAX = 2  # that are being read: each holds as much of the disk as the record until its reader is through


class StoreCare:
    """See node.api.service.store.StoreService, which says what every method does."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._copying = trio.Lock()  # one copy at a time: each may take as much room as the store
        self._copies = 0
        self._backups: weakref.WeakSet[IO[bytes]] = weakref.WeakSet()  # a reader may go before it has begun

    # --- what is kept ----------------------------------------------------------------------------------------------
    async def retention(self) -> Json:
        rules, defaults = self._node.retention.rules.texts(), Rules().texts()
        return {
            "retention": [
                {"kind": kind, "kept": rules[kind], "default": defaults[kind], "what": MEANINGS[kind]}
                for kind in MEANINGS
            ]
        }

    async def set_retention(self, rules: Mapping[str, str]) -> Json:
        await self._node.retention.set(dict(rules))
        return await self.retention()

    async def prune(self, *, dry_run: bool) -> Json:
        removed: Removed = await self._node.retention.prune(dry_run=dry_run)
        return removed.told(dry_run=dry_run)

    # --- copies ----------------------------------------------------------------------------------------------------
    async def compact(self) -> Json:
        record = self._record()
        async with self._copying:
            done = await record.compact()
        return {"bytes_before": done.bytes_before, "bytes_after": done.bytes_after}

    async def backup(self) -> StoreCopy:
        record = self._record()
        async with self._copying:
            if sum(not file.closed for file in self._backups) >= BACKUPS_MAX:
                raise Refused(
                    "too-many-backups", f"{BACKUPS_MAX} backups are being read already", remedy="wait for one to end"
                )
            self._copies += 1
            path = await record.write_copy(f"backup-{self._copies}.duckdb")
            try:
                file = path.open("rb")
            finally:
                remove_copy(path)  # without a name it is gone when its reader is, however that ends
            self._backups.add(file)
        return StoreCopy(os.fstat(file.fileno()).st_size, self._pieces(file))

    async def _pieces(self, file: IO[bytes]) -> AsyncIterator[bytes]:
        with file:
            while piece := await self._offload(partial(file.read, PIECE_BYTES)):
                yield piece

    # --- looking through -------------------------------------------------------------------------------------------
    async def check(self, *, deep: bool) -> Json:
        record = self._record()
        await record.flush()
        checked = await record.look_through()
        named = await record.models_named()
        home = Path(self._node.home)
        findings = await self._offload(partial(check_files, home, named, deep=deep))
        return told(checked, findings, str(record.path))

    # --- what others have exported ---------------------------------------------------------------------------------
    async def take_in(self, name: str, models: str | None) -> Json:
        record = self._record()
        path = work_folder(record.path) / name
        try:
            await record.flush()
            merged = await record.merge(path, self._node.retention.rules, self._node.now())
            blobs, wrong = await self._take_blobs(Path(models), merged.blobs) if models else (0, 0)
        finally:
            await self._offload(partial(path.unlink, missing_ok=True))
        return {
            "rows": merged.rows,
            "runs": merged.runs,
            "too_old": merged.too_old,
            "blobs": blobs,
            "blobs_damaged": wrong,
        }

    async def _take_blobs(self, folder: Path, named: Iterable[str]) -> tuple[int, int]:
        """How many came in, and how many were not what their names say."""
        given = await self._offload(partial(given_blobs, folder, named))
        wanted = [blob for blob in given if not await self._node.disk.has_blob(blob)]
        await self._offload(partial(check_room, folder, wanted, Path(self._node.home)))
        stored = [await self._take_blob(folder, blob) for blob in wanted]
        return sum(stored), len(stored) - sum(stored)

    async def _take_blob(self, folder: Path, blob: BlobId) -> bool:
        """A chunk at a time, so that a node that is told to stop does."""
        try:
            with await self._offload(partial(GivenBlob, folder, blob)) as given:
                while await self._offload(given.hash_next):
                    pass
                if not given.is_sound:
                    return False
                half = await self._node.disk.receive_blob(blob, given.hashes, given.size)
                for index in half.missing():
                    await half.write_chunk(index, await self._offload(partial(given.chunk, index)))
                await half.finish()
                return True
        except RemoteProtocolError:  # it is no plain file, or was changed since; its half goes with the next sweep
            return False

    # --- helpers ---------------------------------------------------------------------------------------------------
    def _record(self) -> StoreRecord:
        record = self._node.record
        if not isinstance(record, StoreRecord):
            raise FednodeError("This node's record is not in a file of its own", remedy="ask the simulation's store")
        return record

    def _offload(self, work: Any) -> Awaitable[Any]:
        return self._node.trainer.offload(work)
